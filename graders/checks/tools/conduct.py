"""Does the agent go about it sensibly: no loops, no needless calls, and errors dealt with?"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field

from graders import effects, wording
from graders.base import Grader, Score, failed, passed, unknown
from graders.checks.tools.common import none, shown
from graders.content import canonical
from graders.policy import AgentPolicy, Effect
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
            run = runs[call.name, _arguments(call)]
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


class ErrorHandling(Grader, name="tools/error_handling", version="1"):
    """What the agent did about each call that failed.

    One grade a failed call; what happened is its label:
    - `repeated_unchanged` (fail): the next call of that tool was made with the same arguments, and failed again. An error that
      passes by itself (a timeout, a rate limit) may be met so `patience` times in a row.
    - `ignored` (fail): no later call deals with it, and the answer goes on without a word of any trouble. A failed write is
      dealt with only by a call that may write, any other failure by whatever call the agent chose next.
    - `retried`, `other_way`, `nothing_found`, `disclosed`, `no_answer` (pass): the same tool was called again, or another one;
      a question was answered by an error that says there is nothing of the kind; the agent then said that something went
      wrong, or asked back; or the run ended without an answer that could hide it.

    Skipped when no call failed. `unknown` when the answer is needed and not captured, or when the trace cannot show calls.
    """

    policy: AgentPolicy = AgentPolicy()

    patience: int = Field(default=2, ge=0, lt=10)
    """How many times in a row a call that failed for a passing reason may be made again unchanged."""

    def grade(self, trace: Trace) -> Iterator[Score]:
        broken = [c for c in trace.tool_calls if c.error and c.executed is not False]
        if not broken:
            yield none(trace, "no call failed")
            return
        later = _Later(self.policy, trace.tool_calls)
        told = _Told(trace)
        for call in broken:
            place: dict[str, Any] = {"subject": call.key, "span_id": call.anchor}
            evidence = [Evidence(call.anchor, call.key, f"{shown(call)}: {call.error[:200]}")]
            again = later.same_tool(call)
            if again and _same_failure(call, again[0]) and self._in_vain(call, again):
                evidence += [Evidence(c.anchor, c.key, c.error[:200]) for c in again[:1]]
                reason = f"{shown(call)} failed, and was made again unchanged: {call.error[:100]}"
                yield failed(reason, label="repeated_unchanged", evidence=evidence, **place)
            elif again:
                yield passed("called again", label="retried", **place)
            elif later.other(call):
                yield passed("another call was made instead", label="other_way", **place)
            elif wording.nothing_found(call.error) and not _writes(self.policy, call):
                yield passed("it says that there is nothing of the kind", label="nothing_found", **place)
            elif told.trouble(call.end_ns):
                yield passed("the agent said that something went wrong", label="disclosed", **place)
            elif trace.answer_state is not ContentState.PRESENT:
                yield unknown(f"the answer is {trace.answer_state}", **place)
            elif not trace.answer:
                yield passed("the run ended without an answer", label="no_answer", **place)
            else:
                evidence.append(Evidence(trace.answer_span_id, "answer", trace.answer[:200]))
                reason = (
                    f"{shown(call)} failed, and neither a later call nor the answer deals with it: {call.error[:100]}"
                )
                severity = Severity.HIGH if _writes(self.policy, call) else Severity.MEDIUM
                yield failed(reason, label="ignored", severity=severity, evidence=evidence, **place)

    def _in_vain(self, call: ToolCall, again: Sequence[ToolCall]) -> bool:
        """Whether nobody could have hoped that the same call would fare better."""
        if not wording.transient(call.error):
            return True
        return len(again) > self.patience and all(_same_failure(call, c) for c in again[: self.patience + 1])


class _Told:
    """When the agent last said to its user that something went wrong, or asked back."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._last: int | None = None

    def trouble(self, since_ns: int) -> bool:
        """Whether it said so after a time."""
        if self._last is None:
            self._last = self._find()
        return self._last >= since_ns

    def _find(self) -> int:
        if _troubled(self._trace.answer):
            return _ALWAYS
        messages = self._trace.messages[-_MESSAGES:]
        heard = [m for m, reply in pairwise(messages) if reply.role == "user" and m.role == "assistant"]
        return next((m.time_ns for m in reversed(heard) if _troubled(m.text)), 0)


_ALWAYS = 1 << 62
_MESSAGES = 200
"""So many messages from the end are looked at; what the user did not reply to, he may not have seen."""


def _troubled(text: str) -> bool:
    return bool(text) and (wording.disclosed(text) or wording.asks(text))


class _Later:
    """The calls that began when a call had ended: those made beside it answer nothing."""

    def __init__(self, policy: AgentPolicy, calls: Sequence[ToolCall]) -> None:
        self._policy = policy
        self._by_name: dict[str, list[ToolCall]] = defaultdict(list)
        for call in calls:
            self._by_name[call.name].append(call)
        for named in self._by_name.values():
            named.sort(key=_start)
        self._last = max((c.start_ns for c in calls), default=0)
        writers = (c.start_ns for c in calls if effect_of(policy, c) is not Effect.READ)
        self._last_writer = max(writers, default=0)

    def same_tool(self, call: ToolCall) -> Sequence[ToolCall]:
        """The next few calls of the same tool."""
        named = self._by_name[call.name]
        first = bisect_left(named, call.end_ns, key=_start)
        return [c for c in named[first : first + _NEXT] if c.index > call.index]

    def other(self, call: ToolCall) -> bool:
        """Whether some call came later that may have dealt with the failure of this one."""
        last = self._last_writer if _writes(self._policy, call) else self._last
        return last >= call.end_ns and last > call.start_ns


_NEXT = 10
"""More than patience can ask for."""


def _start(call: ToolCall) -> int:
    return call.start_ns


def _same_failure(call: ToolCall, other: ToolCall) -> bool:
    present = ContentState.PRESENT
    captured = call.arguments_state is present and other.arguments_state is present
    return bool(other.error) and captured and _arguments(call) == _arguments(other)


def _writes(policy: AgentPolicy, call: ToolCall) -> bool:
    return effect_of(policy, call) in (Effect.WRITE, Effect.IRREVERSIBLE)


class Needless(Grader, name="tools/needless", version="1"):
    """No call asks for what is already known.

    One grade a trace; the score is the number of needless calls. A call is needless when the same agent's same call, with the
    same arguments, succeeded before with the same result, and no call that may have changed it stands between. What may change
    something is what the policy says writes, and where it says nothing, every tool whose name does not tell that it reads. A
    call whose result is a new one is not needless, nor are those before it: that is polling. A call is needless as well when
    a larger result of the same agent had held its whole result and every value it was asked with. Calls the provider runs, and
    writes, are left out: doing a thing twice is not asking twice. Skipped with fewer than two calls; `unknown` when arguments
    or results are not captured.
    """

    policy: AgentPolicy = AgentPolicy()

    def grade(self, trace: Trace) -> Score:
        calls = trace.tool_calls
        if len(calls) < 2:
            return none(trace, "fewer than two calls")
        known: dict[tuple[str, str, str], list[ToolCall]] = {}
        needless: dict[tuple[str, str, str], list[ToolCall]] = defaultdict(list)
        contained: list[ToolCall] = []
        read: deque[ToolCall] = deque(maxlen=_READ)
        unseen = 0
        for call in calls:
            if call.executed is False:
                continue
            if effect_of(self.policy, call) is not Effect.READ:
                known.clear()
                read.clear()
                continue
            if call.provider_executed or call.error:
                continue
            if call.arguments_state is not ContentState.PRESENT or call.result_state is not ContentState.PRESENT:
                unseen += 1
                continue
            key = (call.agent, call.name, _arguments(call))
            before = known.get(key)
            if before is None:
                known[key] = [call]
                if any(_holds(earlier, call) for earlier in read):
                    contained.append(call)
                read.append(call)
            elif before[-1].result != call.result:
                known[key] = [call]
                needless.pop(key, None)
            elif (
                call.start_ns >= before[0].end_ns
            ):  # else both were under way at once: that is one question asked twice
                before.append(call)
                needless[key].append(call)
        found = sorted((*contained, *(c for run in needless.values() for c in run)), key=lambda c: c.index)
        if found:
            return failed(
                f"{len(found)} call(s) asked for what was known: {', '.join(shown(c) for c in found[:3])}",
                severity=Severity.LOW,
                score=float(len(found)),
                label=found[0].name,
                span_id=found[0].anchor,
                evidence=[Evidence(c.anchor, c.key, shown(c)) for c in found[:10]],
            )
        if unseen:
            return unknown(f"arguments or results of {unseen} of {len(calls)} calls are not captured")
        return passed("every call asked for something new", score=0.0)


_READ = 20
"""So many results before a call are looked at for its own."""
_WHOLE = 100
"""A shorter result may stand in another by chance."""
_LARGE = 20_000
"""A larger result is not searched."""


def _holds(earlier: ToolCall, call: ToolCall) -> bool:
    """Whether a result held the whole result of a later call, and the values it was asked with."""
    own = len(call.result)
    if (
        not _WHOLE <= own < len(earlier.result) <= _LARGE
        or earlier.agent != call.agent
        or call.start_ns < earlier.end_ns
    ):
        return False
    if call.result.strip() not in earlier.result or not call.arguments:
        return False
    return all(isinstance(v, str | int) and str(v) in earlier.result for v in call.arguments.values())


def effect_of(policy: AgentPolicy, call: ToolCall) -> Effect:
    """What a call does by the policy, or else as its name tells; `unknown` when neither does."""
    effect = policy.effect(call)[0]
    return effects.by_name(call.name).effect if effect is Effect.UNKNOWN else effect


def _arguments(call: ToolCall) -> str:
    return canonical(call.arguments) or call.arguments_text
