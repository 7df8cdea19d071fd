"""The conversation on CrewAI, for every recording of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import scripted
from crewai import LLM, Agent, Crew, Task
from crewai.telemetry.tracing import telemetry_session
from crewai.tools import tool
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource

MODEL = LLM(model=f"openai/{scripted.MODEL}", base_url=f"{scripted.PROVIDER}/v1", api_key="unused")


def ask(request: str) -> str:
    """One run of the support agent."""
    agent = Agent(
        role="support",
        goal="Help the customer",
        backstory=scripted.SYSTEM,
        llm=MODEL,
        tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
    )
    crew = Crew(agents=[agent], tasks=[Task(description=request, expected_output="An answer", agent=agent)])
    return crew.kickoff().raw


@contextmanager
def traced() -> Iterator[None]:
    """CrewAI's own execution tracing, with an exporter of ours."""
    resource = Resource({"service.name": os.environ["OTEL_SERVICE_NAME"]})
    conversation = {"gen_ai.conversation.id": scripted.CONVERSATION}
    with telemetry_session("run-1", "support", [OTLPSpanExporter()], resource=resource, attributes=conversation):
        yield
