"""How much of what was retrieved did the agent use?"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field

from graders.base import Grader, Score, passed, skip, unknown
from graders.checks.evidence.claims import MAX_ANSWER
from graders.checks.evidence.report import Report, report
from graders.checks.evidence.sources import Kind, Source
from graders.checks.evidence.state import no_answer
from graders.checks.evidence.text import fold
from store.types import Evidence, Trace

_TELLING = re.compile(r"[^\W_]*\d[\w-]{2,}|(?<![\w.+-])[\w.+-]++@[\w.-]+|[^\W\d_]{7,}")
"""Words by which a call shows that it knows a result: ids, numbers, addresses, long words."""
_MAX_WORDS = 2000
_MAX_LATER = 500
"""Calls after a result that are asked whether they used it."""


class Utilisation(Grader, name="evidence/utilisation", version="1"):
    """The share of tool results and documents that the answer or a later call made use of; never a failure.

    A result is used when the answer cites it, when it is the place that says most of a claim, when a value of the answer
    stands only in it, or when a later call was given an id, number, address or long word that stands in it and that the user
    did not say. The evidence points at what was not used. Skipped when nothing was retrieved or the agent gave no answer.
    """

    coverage: float = Field(default=0.35, ge=0, le=1)
    """Share of a claim's words from which the place that says most of it counts as used: chance gives less."""

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        if len(trace.answer) > MAX_ANSWER:
            return unknown("the answer is longer than is read", label="budget_exceeded", **place)
        seen = report(trace)
        retrieved = [s for s in seen.given.sources if s.kind in (Kind.TOOL, Kind.DOCUMENT)]
        if not retrieved:
            return skip("nothing was retrieved")
        if seen.exceeded:
            return unknown(seen.exceeded, label="budget_exceeded", **place)
        used = self._in_answer(seen, retrieved)
        left = [source for source in retrieved if id(source) not in used]
        if left:
            used |= self._in_calls(seen, left)
        left = [source for source in retrieved if id(source) not in used]
        share = 1.0 - len(left) / len(retrieved)
        return passed(
            f"{len(retrieved) - len(left)} of {len(retrieved)} results were used",
            label="used" if not left else "evidence_unused",
            score=share,
            evidence=[Evidence(source.span_id, source.where, source.text[:100]) for source in left[:10]],
            **place,
        )

    def _in_answer(self, seen: Report, retrieved: list[Source]) -> set[int]:
        used = {id(m.source) for m in seen.matches if m is not None and m.coverage >= self.coverage}
        documents = seen.given.documents
        for claim in seen.answer.claims:
            for mark in claim.cites:
                used |= {id(documents[m]) for m in re.findall(r"[\w.-]+", mark) if m in documents}
        text = seen.answer.folded.text
        for value in seen.judged:
            word = text[value.start : value.end]
            holders = [source for source in retrieved if word in source.folded.text]
            if len(holders) == 1:
                used.add(id(holders[0]))
        return used

    @staticmethod
    def _in_calls(seen: Report, left: list[Source]) -> set[int]:
        asked = [(call, _words(call.arguments_text)) for call in seen.trace.tool_calls]
        used, known = set(), dict[str, bool]()
        for source in left:
            call, text = source.call, source.folded.text
            said = frozenset[str]().union(
                *(
                    given
                    for later, given in asked
                    if given and (call is None or (later.index > call.index and later.start_ns >= call.end_ns))
                )
            )
            for word in said:
                if word in text:
                    if word not in known:
                        known[word] = word in seen.given.told
                    if not known[word]:
                        used.add(id(source))
                        break
        return used


def _words(arguments: str) -> frozenset[str]:
    return frozenset(_TELLING.findall(fold(arguments).text)[:_MAX_WORDS]) if len(arguments) > 2 else _NO_WORDS


_NO_WORDS = frozenset[str]()
