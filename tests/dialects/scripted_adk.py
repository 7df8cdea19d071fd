"""The conversation on Google's ADK, for every recording of it; whoever imports it has its telemetry set up."""

from __future__ import annotations

import scripted
from google.adk.agents import LlmAgent
from google.adk.models import Gemini
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import FunctionTool
from google.genai import types

CONFIRMATION = "adk_request_confirmation"


async def converse() -> None:
    """The scripted conversation; where the refund waits for a confirmation, the resumed run too."""
    asks = scripted.SCENARIO in ("pending", "denied", "approved")
    agent = LlmAgent(
        name="support",
        model=Gemini(model=scripted.MODEL, base_url=scripted.PROVIDER),
        instruction=scripted.SYSTEM,
        tools=[FunctionTool(scripted.lookup_order), FunctionTool(scripted.send_refund, require_confirmation=asks)],
        on_tool_error_callback=lambda tool, args, tool_context, error: {"error": str(error)},
    )
    sessions = InMemorySessionService()
    await sessions.create_session(app_name="support", user_id="user-1", session_id=scripted.CONVERSATION)
    runner = Runner(app_name="support", agent=agent, session_service=sessions)

    async def run(part: types.Part) -> list[types.FunctionCall]:
        calls = []
        message = types.Content(role="user", parts=[part])
        async for event in runner.run_async(user_id="user-1", session_id=scripted.CONVERSATION, new_message=message):
            calls += event.get_function_calls()
        return calls

    calls = await run(types.Part(text=scripted.USER))
    if scripted.SCENARIO in ("denied", "approved"):
        [question] = [call for call in calls if call.name == CONFIRMATION]
        answer = {"confirmed": scripted.SCENARIO == "approved"}
        await run(
            types.Part(function_response=types.FunctionResponse(id=question.id, name=CONFIRMATION, response=answer))
        )
