"""The conversation on the OpenAI Agents SDK, for every recording of it; whoever imports it instruments it.

A person's answer arrives as it does in a served application: the state is stored as JSON and resumed by another process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import scripted
from agents import (
    Agent,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunState,
    function_tool,
    set_trace_processors,
)
from openai import AsyncOpenAI

WAITING = Path("waiting.json")
PAUSES = scripted.SCENARIO in ("pending", "denied", "approved")

# The SDK's own exporter would send every trace to OpenAI.
set_trace_processors([])


def tell_the_model(context: Any, error: Exception) -> str:
    """Turn an exception of a tool into its result."""
    return f"Error: {error}"


AGENT = Agent(
    name="support_agent",
    instructions=scripted.SYSTEM,
    model=OpenAIResponsesModel(scripted.MODEL, AsyncOpenAI(base_url=f"{scripted.PROVIDER}/v1", api_key="unused")),
    tools=[
        function_tool(scripted.lookup_order, failure_error_function=tell_the_model),
        function_tool(scripted.send_refund, failure_error_function=tell_the_model, needs_approval=PAUSES),
    ],
)


async def run(resume: bool = "resume" in sys.argv) -> None:
    """Play one part of the scenario: up to the pause, or from there."""
    config = RunConfig(group_id=scripted.CONVERSATION)
    if not resume:
        result = await Runner.run(AGENT, scripted.USER, run_config=config)
        if result.interruptions:
            WAITING.write_text(json.dumps(result.to_state().to_json()))
        return
    state = await RunState.from_json(AGENT, json.loads(WAITING.read_text()))
    [call] = state.get_interruptions()
    if scripted.SCENARIO == "approved":
        state.approve(call)
    else:
        state.reject(call)
    await Runner.run(AGENT, state, run_config=config)


def resume() -> None:
    """Have another process go on, once this one has exported what it has."""
    if scripted.SCENARIO in ("denied", "approved") and "resume" not in sys.argv:
        subprocess.run([sys.executable, *sys.argv, "resume"], check=True)
