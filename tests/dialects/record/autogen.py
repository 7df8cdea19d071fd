# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "autogen-core==0.7.5",
#   "autogen-agentchat==0.7.5",
#   "autogen-ext[openai]==0.7.5",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "autogen"
# scenarios = ["tools"]
# ///
"""AutoGen's AgentChat with the telemetry of its core, which has no content."""

import asyncio

import scripted
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
agent = AssistantAgent(
    "support",
    model_client=OpenAIChatCompletionClient(
        model=scripted.MODEL,
        base_url=f"{scripted.PROVIDER}/v1",
        model_info={"vision": False, "function_calling": True, "json_output": False, "family": "unknown", "structured_output": False},
    ),
    tools=[scripted.lookup_order, scripted.send_refund],
    system_message=scripted.SYSTEM,
    max_tool_iterations=3,
)
asyncio.run(agent.run(task=scripted.USER))
provider.shutdown()
