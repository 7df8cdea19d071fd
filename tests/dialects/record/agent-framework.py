# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "agent-framework-core==1.23.0",
#   "agent-framework-openai==1.17.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "agent_framework"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# ///
"""Microsoft's Agent Framework with its own telemetry, sensitive data on but for `content_off`."""

import asyncio

import scripted
from agent_framework import Agent, Message, tool
from agent_framework.observability import configure_otel_providers
from agent_framework.openai import OpenAIChatCompletionClient
from opentelemetry import trace
from opentelemetry._logs import get_logger_provider

ASKS = scripted.SCENARIO in ("pending", "denied", "approved")


async def converse() -> None:
    """The scripted conversation; where the refund waits for approval, the resumed run too."""
    agent = Agent(
        client=OpenAIChatCompletionClient(model=scripted.MODEL, base_url=f"{scripted.PROVIDER}/v1", api_key="unused"),
        name="support",
        instructions=scripted.SYSTEM,
        tools=[
            tool(scripted.lookup_order),
            tool(scripted.send_refund, approval_mode="always_require" if ASKS else "never_require"),
        ],
    )
    session = agent.create_session(session_id=scripted.CONVERSATION)
    result = await agent.run(scripted.USER, session=session)
    if scripted.SCENARIO in ("denied", "approved"):
        answers = [
            found.to_function_approval_response(scripted.SCENARIO == "approved") for found in result.user_input_requests
        ]
        await agent.run(Message("user", answers), session=session)


configure_otel_providers(enable_sensitive_data=scripted.SCENARIO != "content_off")
asyncio.run(converse())
trace.get_tracer_provider().shutdown()
get_logger_provider().shutdown()
