"""The conversation on Pydantic AI, for every recording of it; whoever imports it instruments it.

The refund tool is declared to need approval in the scenarios that pause. A person's answer arrives in a second run of the same
conversation, with the first one's messages.
"""

from __future__ import annotations

from typing import Any

import scripted
from pydantic_ai import (
    Agent,
    DeferredToolRequests,
    DeferredToolResults,
    Tool,
    ToolApproved,
    ToolDenied,
    ToolFailed,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

DECISIONS: dict[str, Any] = {
    "approved": True,
    "denied": ToolDenied("not without a receipt"),
    "edited": ToolApproved(override_args={"order_id": "A-100", "amount": 40.0}),
}


def send_refund(order_id: str, amount: float) -> dict[str, Any]:
    """Send a refund."""
    try:
        return scripted.send_refund(order_id, amount)
    except scripted.LedgerUnavailable as error:
        raise ToolFailed(str(error)) from error


def run() -> None:
    """Ask, and where the scenario pauses for a person, answer as it says."""
    pauses = scripted.SCENARIO in ("pending", *DECISIONS)
    agent = Agent(
        OpenAIChatModel(scripted.MODEL, provider=OpenAIProvider(base_url=f"{scripted.PROVIDER}/v1", api_key="unused")),
        name="support_agent",
        instructions=scripted.SYSTEM,
        tools=[Tool(scripted.lookup_order), Tool(send_refund, requires_approval=pauses)],
        output_type=[str, DeferredToolRequests] if pauses else str,
    )
    asked = agent.run_sync(scripted.USER, conversation_id=scripted.CONVERSATION)
    if (decision := DECISIONS.get(scripted.SCENARIO)) is not None:
        [call] = asked.output.approvals
        agent.run_sync(
            message_history=asked.all_messages(),
            deferred_tool_results=DeferredToolResults(approvals={call.tool_call_id: decision}),
            conversation_id=scripted.CONVERSATION,
        )
