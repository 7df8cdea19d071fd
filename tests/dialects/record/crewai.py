# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "crewai"
# scenarios = ["tools", "denied"]
# environment = {CREWAI_DISABLE_TELEMETRY = "true", CREWAI_TRACING_ENABLED = "false", CREWAI_DISABLE_VERSION_CHECK = "true"}
# ///
"""CrewAI with the spans of its own execution tracing, sent to an exporter of ours; `denied` has a hook that refuses the refund."""

import os

import scripted
from crewai import LLM, Agent, Crew, Task
from crewai.hooks import ToolCallHookContext, register_before_tool_call_hook
from crewai.telemetry.tracing import telemetry_session
from crewai.tools import tool
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource


def refuse(context: ToolCallHookContext) -> bool | None:
    """Refunds are not for agents."""
    return False if context.tool_name == "send_refund" else None


if scripted.SCENARIO == "denied":
    register_before_tool_call_hook(refuse)
agent = Agent(
    role="support",
    goal="Help the customer",
    backstory=scripted.SYSTEM,
    llm=LLM(model=f"openai/{scripted.MODEL}", base_url=f"{scripted.PROVIDER}/v1", api_key="unused"),
    tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
)
crew = Crew(agents=[agent], tasks=[Task(description=scripted.USER, expected_output="An answer", agent=agent)])
with telemetry_session(
    "run-1",
    "support",
    [OTLPSpanExporter()],
    resource=Resource({"service.name": os.environ["OTEL_SERVICE_NAME"]}),
    attributes={"gen_ai.conversation.id": scripted.CONVERSATION},
):
    crew.kickoff()
