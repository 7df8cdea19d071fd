"""The conversation on AutoGen's AgentChat, for every recording of it."""

from __future__ import annotations

import scripted
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient

ABILITIES = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": "unknown",
    "structured_output": False,
}


async def converse() -> None:
    """The scripted conversation."""
    model = OpenAIChatCompletionClient(model=scripted.MODEL, base_url=f"{scripted.PROVIDER}/v1", model_info=ABILITIES)
    agent = AssistantAgent(
        "support",
        model_client=model,
        tools=[scripted.lookup_order, scripted.send_refund],
        system_message=scripted.SYSTEM,
        max_tool_iterations=3,
    )
    await agent.run(task=scripted.USER)
