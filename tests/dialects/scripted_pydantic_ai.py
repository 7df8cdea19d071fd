"""The conversation on Pydantic AI, for every recording of it; whoever imports it instruments it.

In the scenarios that pause, the refund tool is declared to need approval, or asks for it while it runs. A person's answer
arrives in a second run of the same conversation, with the first one's messages.
"""

from __future__ import annotations

from typing import Any

import scripted
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    Tool,
    ToolApproved,
    ToolDenied,
    ToolFailed,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

DECISIONS: dict[str, Any] = {
    "approved": True,
    "denied": ToolDenied(),
    "edited": ToolApproved(override_args={"order_id": "A-100", "amount": 40.0}),
}


def send_refund_or_ask(context: RunContext, order_id: str, amount: float) -> dict[str, Any]:
    """Send a refund."""
    if not context.tool_call_approved:
        raise ApprovalRequired(metadata={"limit": 20})
    return scripted.send_refund(order_id, amount)


def send_refund(order_id: str, amount: float) -> dict[str, Any]:
    """Send a refund."""
    try:
        return scripted.send_refund(order_id, amount)
    except scripted.LedgerUnavailable as error:
        raise ToolFailed(str(error)) from error


def run(declared: bool = True, reason: str = "") -> None:
    """Ask, and where the scenario pauses for a person, answer as it says; `reason` goes with a refusal."""
    pauses = scripted.SCENARIO in ("pending", *DECISIONS)
    if pauses and not declared:
        refund = Tool(send_refund_or_ask, name="send_refund")
    else:
        refund = Tool(send_refund, requires_approval=pauses)
    agent = Agent(
        OpenAIChatModel(scripted.MODEL, provider=OpenAIProvider(base_url=f"{scripted.PROVIDER}/v1", api_key="unused")),
        name="support_agent",
        instructions=scripted.SYSTEM,
        tools=[Tool(scripted.lookup_order), refund],
        output_type=[str, DeferredToolRequests] if pauses else str,
    )
    asked = agent.run_sync(scripted.USER, conversation_id=scripted.CONVERSATION)
    if (decision := DECISIONS.get(scripted.SCENARIO)) is not None:
        if reason and scripted.SCENARIO == "denied":
            decision = ToolDenied(reason)
        [call] = asked.output.approvals
        agent.run_sync(
            message_history=asked.all_messages(),
            deferred_tool_results=DeferredToolResults(approvals={call.tool_call_id: decision}),
            conversation_id=scripted.CONVERSATION,
        )
