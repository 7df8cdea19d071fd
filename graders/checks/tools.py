"""Was the right tool called, the right way?

How `tools/expected` compares the calls of a trace with a case's `expect.tools`, all within `tools_scope` if there is one:

- `exact`: the same calls in the same order, and nothing else.
- `in_order`: the expected calls are a subsequence of the calls; others may stand between.
- `any_order`: the same calls in any order, and nothing else.
- `subset`: every expected call was made; others may be there too.

An expected call is met by a call of the same tool whose arguments contain the expected ones (objects as subsets, lists item
by item, numbers by value). A call that was denied or ended in an error meets nothing and is not counted as made. A call of
which only the request is known counts as made.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from graders import schema as schemas_of_tools
from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.content import canonical
from graders.messages import hides_calls
from store.types import ContentState, Evidence, ExpectedCall, Severity, ToolCall, Trace


class Known(Grader, name="tools/known", version="1"):
    """Each call names a tool the model was offered.

    One grade a call. `unknown` when the trace holds no tool definitions; provider-executed calls are skipped, because
    providers offer them outside the definitions.
    """

    def grade(self, trace: Trace) -> Iterator[Score]:
        if not trace.tool_calls:
            yield _none(trace, "no tool calls")
            return
        offered = {d.name for d in trace.tool_definitions}
        for call in trace.tool_calls:
            place: dict[str, Any] = {"subject": call.key, "span_id": call.anchor}
            if call.provider_executed:
                yield skip(f"{call.name} is run by the provider", **place)
            elif not offered:
                yield unknown("the offered tools are not captured", **place)
            elif call.name in offered:
                yield passed(f"{call.name} was offered", **place)
            else:
                names = ", ".join(sorted(offered)[:20])
                yield failed(f"{call.name or 'a tool without a name'} was not offered; offered: {names}", **place)


class Arguments(Grader, name="tools/arguments", version="1"):
    """The arguments of each call are valid against the offered tool's JSON Schema.

    One grade a call. `unknown` when arguments or schema are not captured, or the schema cannot be used: it is broken, it
    refers to something outside itself (nothing is ever fetched), or checking with it would take too long. Skipped for
    tools that were not offered: that is `tools/known`.
    """

    def grade(self, trace: Trace) -> Iterator[Score]:
        if not trace.tool_calls:
            yield _none(trace, "no tool calls")
            return
        schemas = {d.name: d.parameters for d in trace.tool_definitions}
        for call in trace.tool_calls:
            yield self._call(call, schemas)

    def _call(self, call: ToolCall, schemas: Mapping[str, Mapping[str, Any] | None]) -> Score:
        place: dict[str, Any] = {"subject": call.key, "span_id": call.anchor}
        if call.provider_executed or (schemas and call.name not in schemas):
            return skip(f"{call.name} is not among the offered tools", **place)
        schema = schemas.get(call.name)
        if schema is None:
            return unknown(f"the schema of {call.name} is not captured", **place)
        if call.arguments_state is not ContentState.PRESENT:
            return unknown(f"arguments are {call.arguments_state}", **place)
        if call.arguments is None:
            return failed(f"arguments are not an object: {call.arguments_text[:200]}", label="not_an_object", **place)
        try:
            problems = schemas_of_tools.problems(schema, call.arguments)
        except schemas_of_tools.Unusable as error:
            return unknown(f"the schema of {call.name} cannot be used: {error}", **place)
        if not problems:
            return passed("valid", **place)
        evidence = [Evidence(call.anchor, "arguments", call.arguments_text[:500])]
        return failed("; ".join(p[:300] for p in problems), label="invalid", evidence=evidence, **place)


class Expected(Grader, name="tools/expected", version="1"):
    """The calls are those the case expects, in the mode the case names (see the module's docstring).

    One grade a trace. Skipped without a case, or when the case says nothing of tools. `unknown` when only missing
    arguments stand between the trace and a pass, or when the trace shows neither tool spans nor what a model call said.
    """

    uses_case: ClassVar[bool] = True

    strings: Literal["exact", "loose"] = "exact"
    """`loose` ignores case, spaces and punctuation in text arguments."""

    def grade(self, trace: Trace) -> Score:
        expect = trace.case.expect if trace.case else None
        if expect is None or not (expect.tools or expect.tools_given):
            return skip("the case does not say which tools to call")
        scope = set(expect.tools_scope)
        made = [c for c in trace.tool_calls if counts(c) and (not scope or c.name in scope)]
        if hides_calls(trace):
            return unknown(_HIDDEN)
        reason = self._compare(expect.tools, made, expect.tools_mode, lenient=False)
        if reason is None:
            return passed(f"{len(expect.tools)} expected call(s) made ({expect.tools_mode})")
        if self._compare(expect.tools, made, expect.tools_mode, lenient=True) is None:
            return unknown("arguments the comparison needs are not captured")
        evidence = [Evidence(c.anchor, c.key, f"{c.name}({c.arguments_text[:200]})") for c in made[:10]]
        return failed(reason, severity=Severity.HIGH, label=expect.tools_mode, evidence=evidence)

    def _compare(
        self, expected: Sequence[ExpectedCall], made: Sequence[ToolCall], mode: str, *, lenient: bool
    ) -> str | None:
        """Why the calls do not fit; None when they do."""

        def fits(want: ExpectedCall, call: ToolCall) -> bool:
            if want.tool != call.name:
                return False
            if want.arguments is None or (lenient and call.arguments_state is not ContentState.PRESENT):
                return True
            return contains(dict(want.arguments), call.arguments, loose=self.strings == "loose")

        if mode in ("exact", "any_order") and len(made) != len(expected):
            names = ", ".join(c.name for c in made[:10])
            return f"expected {len(expected)} call(s), found {len(made)}: {names or 'none'}"
        if mode == "exact":
            for index, (want, call) in enumerate(zip(expected, made, strict=True)):
                if not fits(want, call):
                    return f"call {index + 1} is {_shown(call)}, expected {_wanted(want)}"
            return None
        if mode == "in_order":
            calls = iter(made)
            for want in expected:
                if not any(fits(want, call) for call in calls):
                    return f"missing, or out of order: {_wanted(want)}"
            return None
        if mode in ("any_order", "subset"):
            missing = _unmatched([[j for j, call in enumerate(made) if fits(want, call)] for want in expected])
            return f"missing: {', '.join(_wanted(expected[i]) for i in missing[:5])}" if missing else None
        raise ValueError(f"unknown tools_mode {mode!r}; known: exact, in_order, any_order, subset")


class Forbidden(Grader, name="tools/forbidden", version="1"):
    """No call that the case forbids was carried out.

    One grade a trace. Skipped without a case that forbids something. `unknown` when a forbidden call was requested and
    the telemetry cannot tell whether it ran, or its arguments are needed and not captured. An attempt that was denied is
    no failure.
    """

    uses_case: ClassVar[bool] = True

    strings: Literal["exact", "loose"] = "exact"
    """`loose` ignores case, spaces and punctuation in text arguments."""

    def grade(self, trace: Trace) -> Score:
        forbidden = trace.case.expect.forbidden if trace.case else ()
        if not forbidden:
            return skip("the case forbids nothing")
        doubt: ToolCall | None = None
        for call in trace.tool_calls:
            for rule in forbidden:
                if rule.tool != call.name or call.executed is False:
                    continue
                if rule.arguments is not None and call.arguments_state is not ContentState.PRESENT:
                    doubt = call
                elif rule.arguments is None or contains(
                    dict(rule.arguments), call.arguments, loose=self.strings == "loose"
                ):
                    if call.executed is None:
                        doubt = call
                        continue
                    return failed(
                        f"{_shown(call)} is forbidden",
                        severity=Severity.CRITICAL,
                        label=call.name,
                        evidence=[Evidence(call.anchor, call.key, call.arguments_text[:300])],
                    )
        if doubt is not None:
            return unknown(f"cannot tell whether {_shown(doubt)} ran or is the forbidden one")
        if hides_calls(trace):
            return unknown(_HIDDEN)
        return passed("no forbidden call ran")


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
            return _none(trace, f"fewer than {self.repeats} calls")
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
                f"{_shown(worst[0])} {len(worst)} times, always with the same result",
                severity=Severity.LOW,
                score=float(len(worst)),
                label=worst[0].name,
                span_id=worst[-1].anchor,
                evidence=[Evidence(c.anchor, c.key, c.result[:100]) for c in worst[:10]],
            )
        if judged < len(calls):
            return unknown(f"arguments of {len(calls) - judged} of {len(calls)} calls are not captured")
        return passed("no loop", score=float(len(worst)))


_HIDDEN = "neither tool spans nor the messages of a model call are captured"


def _none(trace: Trace, reason: str) -> Score:
    """There is nothing to judge, unless the telemetry cannot show calls."""
    return unknown(_HIDDEN) if hides_calls(trace) else skip(reason)


# --- comparing ------------------------------------------------------------------------------------------------------


def counts(call: ToolCall) -> bool:
    """Whether a call was made, as far as anyone can tell: neither denied nor failed."""
    return call.executed is not False and not call.error


_NOISE = re.compile(r"[\W_]+")


def contains(expected: Any, actual: Any, *, loose: bool = False) -> bool:
    """Whether `actual` holds everything `expected` says."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and contains(value, actual[key], loose=loose) for key, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(contains(e, a, loose=loose) for e, a in zip(expected, actual, strict=True))
        )
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, str) and isinstance(actual, str) and loose:
        return _NOISE.sub("", expected).casefold() == _NOISE.sub("", actual).casefold()
    return bool(expected == actual)


def _unmatched(options: Sequence[Sequence[int]]) -> list[int]:
    """Indices that stay without a partner in a largest matching, where `options[i]` lists the partners i may have."""
    partner: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for option in options[index]:
            if option not in tried:
                tried.add(option)
                if option not in partner or place(partner[option], tried):
                    partner[option] = index
                    return True
        return False

    return [index for index in range(len(options)) if not place(index, set())]


def _shown(call: ToolCall) -> str:
    return f"{call.name}({call.arguments_text[:120]})"


def _wanted(want: ExpectedCall) -> str:
    return f"{want.tool}({canonical(dict(want.arguments))[:120] if want.arguments is not None else '…'})"
