"""Does the agent go about it sensibly: no loops, no needless calls, and errors dealt with?"""

from __future__ import annotations

from collections import defaultdict

from pydantic import Field

from graders.base import Grader, Score, failed, passed, unknown
from graders.checks.tools.common import none, shown
from graders.content import canonical
from store.types import ContentState, Evidence, Severity, ToolCall, Trace


class Loop(Grader, name="tools/loop", version="1"):
    """The agent does not repeat itself: no call is made `repeats` times with the same arguments to the same effect.

    One grade a trace. A repeat whose result differs from the one before starts the count anew: polling is no loop. Skipped
    with fewer than `repeats` calls; `unknown` when arguments are not captured.
    """

    repeats: int = Field(default=3, ge=2)
    """How many same calls make a loop."""

    def grade(self, trace: Trace) -> Score:
        calls = trace.tool_calls
        if len(calls) < self.repeats:
            return none(trace, f"fewer than {self.repeats} calls")
        runs: dict[tuple[str, str], list[ToolCall]] = defaultdict(list)
        judged = 0
        worst: list[ToolCall] = []
        for call in calls:
            if call.arguments_state is not ContentState.PRESENT:
                continue
            judged += 1
            run = runs[call.name, canonical(call.arguments) or call.arguments_text]
            if run and (run[-1].result, run[-1].error) != (call.result, call.error):
                run.clear()
            run.append(call)
            if len(run) > len(worst):
                worst = list(run)
        if len(worst) >= self.repeats:
            return failed(
                f"{shown(worst[0])} {len(worst)} times, always with the same result",
                severity=Severity.LOW,
                score=float(len(worst)),
                label=worst[0].name,
                span_id=worst[-1].anchor,
                evidence=[Evidence(c.anchor, c.key, c.result[:100]) for c in worst[:10]],
            )
        if judged < len(calls):
            return unknown(f"arguments of {len(calls) - judged} of {len(calls)} calls are not captured")
        return passed("no loop", score=float(len(worst)))
