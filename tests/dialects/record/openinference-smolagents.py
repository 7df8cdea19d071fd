# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "smolagents[openai]==1.26.0",
#   "openinference-instrumentation-smolagents==0.1.43",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment.content_off]
# OPENINFERENCE_HIDE_INPUTS = "true"
# OPENINFERENCE_HIDE_OUTPUTS = "true"
# ///
"""Smolagents under OpenInference's instrumentation; its agent ends by calling a tool of its own, final_answer."""

import scripted
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

ANSWER = "Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable."


@tool
def lookup_order(order_id: str) -> dict:
    """Look up an order.

    Args:
        order_id: The order.
    """
    return scripted.lookup_order(order_id)


@tool
def send_refund(order_id: str, amount: float) -> dict:
    """Send a refund.

    Args:
        order_id: The order.
        amount: How much.
    """
    return scripted.send_refund(order_id, amount)


scripted.play(
    [
        {"calls": [{"id": "call_1", "name": "lookup_order", "arguments": {"order_id": "A-100"}}], "tokens": [100, 20]},
        {
            "calls": [{"id": "call_2", "name": "send_refund", "arguments": {"order_id": "A-100", "amount": 42.5}}],
            "tokens": [150, 25],
        },
        {"calls": [{"id": "call_3", "name": "final_answer", "arguments": {"answer": ANSWER}}], "tokens": [200, 30]},
    ],
    in_order=True,
)
with scripted.tracing(root=False):
    SmolagentsInstrumentor().instrument()
    agent = ToolCallingAgent(
        tools=[lookup_order, send_refund],
        model=OpenAIServerModel(scripted.MODEL, api_base=f"{scripted.PROVIDER}/v1", api_key="unused"),
        name="support_agent",
        description="Answers customers.",
        verbosity_level=0,
    )
    agent.prompt_templates["system_prompt"] = scripted.SYSTEM
    agent.run(scripted.USER)
