# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "agent-framework-core==1.23.0",
#   "agent-framework-openai==1.17.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "agent_framework"
# scenarios = ["tools", "content_off"]
# ///
"""Microsoft's Agent Framework held to the conventions of OpenTelemetry 1.36, sensitive data on but for `content_off`."""

import asyncio

import scripted
from agent_framework import Agent, tool
from agent_framework.observability import configure_otel_providers
from agent_framework.openai import OpenAIChatCompletionClient
from opentelemetry import trace
from opentelemetry._logs import get_logger_provider

configure_otel_providers(enable_sensitive_data=scripted.SCENARIO != "content_off", otel_semconv_stability_opt_in="none")
agent = Agent(
    client=OpenAIChatCompletionClient(model=scripted.MODEL, base_url=f"{scripted.PROVIDER}/v1", api_key="unused"),
    name="support",
    instructions=scripted.SYSTEM,
    tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
)
asyncio.run(agent.run(scripted.USER))
trace.get_tracer_provider().shutdown()
get_logger_provider().shutdown()
