"""Were the calls those the case asks for?

How `tools/expected` compares the calls of a trace with a case's `expect.tools`, all within `tools_scope` if there is one:

- `exact`: the same calls in the same order, and nothing else.
- `in_order`: the expected calls are a subsequence of the calls; others may stand between.
- `any_order`: the same calls in any order, and nothing else.
- `subset`: every expected call was made; others may be there too.

An expected call is met by a call of the same tool whose arguments fit the expected ones; `graders.matching` says what fits.
A call that was denied or ended in an error meets nothing and is not counted as made. A call of which only the request is
known counts as made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from graders import matching
from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.tools.common import HIDDEN, shown
from graders.content import canonical
from graders.messages import hides_calls
from store.types import ContentState, Evidence, Expectations, ExpectedCall, Severity, ToolCall, Trace


class Expected(Grader, name="tools/expected", version="2"):
    """The calls are those the case expects, in the mode the case names (see the module's docstring).

    One grade a trace. Skipped without a case, or when the case says nothing of tools. `unknown` when only missing
    arguments stand between the trace and a pass, or when the trace shows neither tool spans nor what a model call said.
    """

    uses_case: ClassVar[bool] = True

    strings: Literal["exact", "loose"] = "exact"
    """`loose` ignores case, spaces and punctuation in text arguments, as `loose_text` does where a case asks for it."""

    def grade(self, trace: Trace) -> Score:
        expect = trace.case.expect if trace.case else None
        if expect is None or not (expect.tools or expect.tools_given):
            return skip("the case does not say which tools to call")
        words = _words(expect, self.strings)
        made = [c for c in trace.tool_calls if counts(c) and _within(c.name, expect.tools_scope, words)]
        if hides_calls(trace):
            return unknown(HIDDEN)
        reason = _difference(expect.tools, made, expect.tools_mode, words, lenient=False)
        if reason is None:
            return passed(f"{len(expect.tools)} expected call(s) made ({expect.tools_mode})")
        if _difference(expect.tools, made, expect.tools_mode, words, lenient=True) is None:
            return unknown("arguments the comparison needs are not captured")
        evidence = [Evidence(c.anchor, c.key, f"{c.name}({c.arguments_text[:200]})") for c in made[:10]]
        return failed(reason, severity=Severity.HIGH, label=expect.tools_mode, evidence=evidence)


def _words(expect: Expectations, strings: str) -> frozenset[str]:
    return frozenset({*expect.compare, "loose_text"} if strings == "loose" else expect.compare)


def _within(name: str, scope: Sequence[str], words: Collection[str]) -> bool:
    return not scope or name in scope or any(matching.same_name(wanted, name, words) for wanted in scope)


def _meets(want: ExpectedCall, call: ToolCall, words: Collection[str], *, lenient: bool) -> bool:
    if not matching.same_name(want.tool, call.name, words):
        return False
    if want.arguments is None or (lenient and call.arguments_state is not ContentState.PRESENT):
        return True
    return matching.fits(want.arguments, call.arguments, words)


def _difference(
    expected: Sequence[ExpectedCall], made: Sequence[ToolCall], mode: str, words: Collection[str], *, lenient: bool
) -> str | None:
    """Why the calls do not fit; None when they do."""
    if mode in ("exact", "any_order") and len(made) != len(expected):
        names = ", ".join(c.name for c in made[:10])
        return f"expected {len(expected)} call(s), found {len(made)}: {names or 'none'}"
    if mode == "exact":
        for index, (want, call) in enumerate(zip(expected, made, strict=True)):
            if not _meets(want, call, words, lenient=lenient):
                return f"call {index + 1} is {shown(call)}, expected {_wanted(want)}"
        return None
    if mode == "in_order":
        calls = iter(made)
        for want in expected:
            if not any(_meets(want, call, words, lenient=lenient) for call in calls):
                return f"missing, or out of order: {_wanted(want)}"
        return None
    if mode in ("any_order", "subset"):
        options = [
            [j for j, call in enumerate(made) if _meets(want, call, words, lenient=lenient)] for want in expected
        ]
        missing = matching.unmatched(options)
        return f"missing: {', '.join(_wanted(expected[i]) for i in missing[:5])}" if missing else None
    raise ValueError(f"unknown tools_mode {mode!r}; known: exact, in_order, any_order, subset")


class Forbidden(Grader, name="tools/forbidden", version="2"):
    """No call that the case forbids was carried out.

    One grade a trace. Skipped without a case that forbids something. `unknown` when a forbidden call was requested and
    the telemetry cannot tell whether it ran, or its arguments are needed and not captured. An attempt that was denied is
    no failure.
    """

    uses_case: ClassVar[bool] = True

    strings: Literal["exact", "loose"] = "exact"
    """`loose` ignores case, spaces and punctuation in text arguments, as `loose_text` does where a case asks for it."""

    def grade(self, trace: Trace) -> Score:
        expect = trace.case.expect if trace.case else None
        if expect is None or not expect.forbidden:
            return skip("the case forbids nothing")
        words = _words(expect, self.strings)
        doubt: ToolCall | None = None
        for call in trace.tool_calls:
            if call.executed is False:
                continue
            for rule in expect.forbidden:
                if not _meets(rule, call, words, lenient=True):
                    continue
                if rule.arguments is not None and call.arguments_state is not ContentState.PRESENT:
                    doubt = call
                elif _meets(rule, call, words, lenient=False):
                    if call.executed is None:
                        doubt = call
                        continue
                    return failed(
                        f"{shown(call)} is forbidden",
                        severity=Severity.CRITICAL,
                        label=call.name,
                        evidence=[Evidence(call.anchor, call.key, call.arguments_text[:300])],
                    )
        if doubt is not None:
            return unknown(f"cannot tell whether {shown(doubt)} ran or is the forbidden one")
        if hides_calls(trace):
            return unknown(HIDDEN)
        return passed("no forbidden call ran")


class Intent(Grader, name="tools/intent", version="1"):
    """The tools called are those that serve the intent of the case: one of `expect.fitting`, none of `expect.unfitting`.

    One grade a call to an unfitting tool (label `wrong_tool`; a denied one is no failure, one of which only the request is
    known is: the choice was made), and one for the trace: `no_fitting_tool` when the agent called other tools or none
    instead, with what the case says of its intent. Arguments and numbers of calls are `tools/expected`. Skipped without a case
    that names such tools. `unknown` when the trace cannot show calls.
    """

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Iterator[Score]:
        expect = trace.case.expect if trace.case else None
        if expect is None or not (expect.fitting or expect.unfitting):
            yield skip("the case names no tools that serve its intent or do not")
            return
        if hides_calls(trace):
            yield unknown(HIDDEN)
            return
        words = frozenset(expect.compare)
        intent = f" for: {trace.case.intent[:100]}" if trace.case and trace.case.intent else ""
        wrong = 0
        for call in trace.tool_calls:
            if call.executed is False or _named(call.name, expect.fitting, words):
                continue
            if _named(call.name, expect.unfitting, words):
                wrong += 1
                yield failed(
                    f"{shown(call)} is the wrong tool{intent}",
                    severity=Severity.HIGH,
                    label="wrong_tool",
                    subject=call.key,
                    span_id=call.anchor,
                    evidence=[Evidence(call.anchor, call.key, call.arguments_text[:300])],
                )
        if expect.fitting and not any(_named(c.name, expect.fitting, words) and counts(c) for c in trace.tool_calls):
            names = ", ".join(dict.fromkeys(c.name for c in trace.tool_calls[:10])) or "none"
            wanted = ", ".join(expect.fitting[:10])
            yield failed(f"called {names}; one of {wanted} fits{intent}", label="no_fitting_tool")
        elif not wrong:
            yield passed("fitting tools only" if expect.fitting else "no unfitting tool")


def _named(name: str, patterns: Sequence[str], words: Collection[str]) -> bool:
    return any(fnmatchcase(name, p) or matching.same_name(p, name, words) for p in patterns)


def counts(call: ToolCall) -> bool:
    """Whether a call was made, as far as anyone can tell: neither denied nor failed."""
    return call.executed is not False and not call.error


def _wanted(want: ExpectedCall) -> str:
    return f"{want.tool}({canonical(dict(want.arguments))[:120] if want.arguments is not None else '…'})"
