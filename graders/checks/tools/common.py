"""What the graders of tool calls share."""

from __future__ import annotations

from graders.base import Score, skip, unknown
from graders.messages import hides_calls
from store.types import ToolCall, Trace

HIDDEN = "neither tool spans nor the messages of a model call are captured"


def none(trace: Trace, reason: str) -> Score:
    """There is nothing to judge, unless the telemetry cannot show calls."""
    return unknown(HIDDEN) if hides_calls(trace) else skip(reason)


def shown(call: ToolCall) -> str:
    """A call in a line."""
    return f"{call.name}({call.arguments_text[:120]})"
