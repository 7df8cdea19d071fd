"""Do the values of the answer stand in what it may rest on?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.evidence import values
from graders.checks.evidence.claims import MAX_ANSWER
from graders.checks.evidence.report import MAX_VALUES, Report, State, Value, report
from graders.checks.evidence.state import no_answer
from store.types import Severity, Trace


class Numbers(Grader, name="evidence/numbers", version="2"):
    """Amounts, percentages, dates and ids in the answer stand in what tools, documents, the user or the system said.

    Compared by value: thousands separators, currency signs, decimal places, native digits and ways to write a date do not
    matter; a rounded value counts, and so does one beside a word such as "about" that is as near as its zeros say. What can
    be read two ways (`1.234`) may be either. Counts up to ten, list numbers, times of day and code are not looked at. A
    number that is a sum of a listed column, a count of list items, another one in another unit, or, beside a word such as
    "total" or "remaining", the sum or difference of two of few numbers, counts as derived. The score is the share of values
    that were found.

    `fail` only when the capture is complete and the value can neither be found nor derived: `id_unsupported` (high) when it
    is an id, a mail address or a version, else `unsupported`. `unknown` when it might be derived from others, or is said to
    be a total or the like, contents are missing, nothing was retrieved that it could come from, or the agent itself gave it
    to a tool. Skipped when the answer has no such value, or only repeats what it was told without any tool result or
    document.
    """

    tolerated: int = Field(default=0, ge=0)
    """How many unsupported values an answer may hold."""

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        if len(trace.answer) > MAX_ANSWER:
            return unknown("the answer is longer than is read", label="budget_exceeded", **place)
        seen = report(trace)
        if not len(seen.stated):
            return skip("the answer has no amounts, dates or ids")
        if len(seen.stated) > MAX_VALUES:
            reason = f"the answer has {len(seen.stated)} values, more than are looked up"
            return unknown(reason, label="budget_exceeded", **place)
        total = len(_once(seen, seen.judged))
        missing = _once(seen, (v for v in seen.judged if v.state is State.MISSING))
        if len(missing) > self.tolerated:
            shown = ", ".join(list(missing)[:5])
            where = [seen.here(v.start, v.end) for v in list(missing.values())[:10]]
            gap = seen.given.gap or ("" if seen.given.retrieved else "nothing was retrieved to compare it with")
            if gap:
                return unknown(f"cannot find {shown}, but {gap}", evidence=where, **place)
            ids = any(v.kind == "id" for v in missing.values())
            return failed(
                f"in no tool result, document or message: {shown}",
                label="id_unsupported" if ids else "unsupported",
                severity=Severity.HIGH if ids else Severity.MEDIUM,
                score=1.0 - len(missing) / total,
                evidence=where,
                **place,
            )
        for state, reason in _UNSURE.items():
            if found := _once(seen, (v for v in seen.judged if v.state is state)):
                where = [seen.here(v.start, v.end) for v in list(found.values())[:10]]
                return unknown(f"{reason}: {', '.join(list(found)[:5])}", label=state.value, evidence=where, **place)
        if not seen.given.retrieved:
            return skip("no tool results or documents to compare with")
        share = 1.0 - len(missing) / total
        reason = f"{total - len(missing)} of {total} values are supported"
        return passed(reason, label="supported", score=share, **place)


_UNSURE = {State.CHOSEN: "the agent's own, and a tool took it", State.DERIVED: "may be derived"}


def _once(seen: Report, found: Iterable[Value]) -> dict[str, Value]:
    """Each value once, by how a reader sees it."""
    once: dict[str, Value] = {}
    answer = seen.answer
    for value in found:
        name = answer.said(value.start, value.end)
        if value.number:
            sign = values.shown(answer.folded.text, value.number)
            name = sign if len(sign) != len(name) else name
        once.setdefault(name, value)
    return once
