"""Was what the answer cites retrieved, does it say what it is cited for, and are claims cited at all?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.evidence.claims import LOOSE_MARK, MARK, MAX_ANSWER
from graders.checks.evidence.report import Checked, Report, report
from graders.checks.evidence.sources import Source
from graders.checks.evidence.state import no_answer
from graders.checks.evidence.values import CODE, URL
from store.types import Evidence, Severity, Trace

_MAX_CITED = 500
_STATEMENT = 4
"""Words of weight that say enough for its source to be told by them."""
_POINTED_AT = 50
"""Claims a grade points at."""
_MARK_WORDS = frozenset({"doc", "docs", "source", "ref", "chunk", "passage", "cite", "http", "https"})


class Citations(Grader, name="evidence/citations", version="2"):
    """Everything the answer cites was retrieved, and says what it is cited for.

    A citation is a mark such as `[3]`, `[^3]`, `【3†source】`, `[doc-12]` or `[policy-7]`, or a web address, outside code. A
    number is met by a document of that id, by position when documents are numbered from 1, or by the same mark in the
    evidence; an id or an address by appearing in a document, a tool result or what the user wrote. The score is the share
    that was retrieved. `fail` (`citation_unknown`) when one was not.

    `unknown` (`citation_misattributed`) when a claim cites one document, that document holds little of it and none of its
    values, and another source holds most of it: a likely mix-up, but a paraphrase may look so. `unknown` also when nothing
    was retrieved to compare with, or contents are not captured in full. Skipped when the answer cites nothing.
    """

    little: float = Field(default=0.35, ge=0, le=1)
    """Share of a claim's words in the cited document below which it hardly speaks of it: chance and the topic's own words give
    as much."""
    most: float = Field(default=0.7, ge=0, le=1)
    """Share in another source from which that one is probably meant."""

    _KIND: ClassVar[re.Pattern[str]] = re.compile(r"([A-Za-z]\w*?)[-_:#]")

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        if len(trace.answer) > MAX_ANSWER:
            return unknown("the answer is longer than is read", label="budget_exceeded", **place)
        if not any(sign in trace.answer for sign in ("[", "【", "://")):
            return skip("the answer cites nothing")
        text = _without_code(trace.answer)
        cited: dict[str, tuple[int, int]] = {}
        for mark, start, end in self._cited(text):
            cited.setdefault(mark, (start, end))
        if not cited:
            return skip("the answer cites nothing")
        if len(cited) > _MAX_CITED:
            reason = f"the answer cites {len(cited)} sources, more than are looked up"
            return unknown(reason, label="budget_exceeded", **place)
        seen = report(trace)
        given = seen.given
        if not given.retrieved:
            return unknown("nothing was retrieved to compare citations with", **place)
        haystack = given.haystack
        numbered = bool(trace.documents) or "[1]" in haystack or "【1" in haystack
        cited = {mark: at for mark, at in cited.items() if self._is_mark(mark, haystack, numbered)}
        if not cited:
            return skip("the answer cites nothing")
        ids = {d.id.casefold() for d in trace.documents if d.id}
        count = len(trace.answer_documents)  # numbers count what the answer was given
        wrong = [mark for mark in cited if not self._known(mark, haystack, ids, count)]
        if not wrong:
            if mixed := next(self._misattributed(seen), None):
                return mixed
            reason = f"all {len(cited)} cited sources were retrieved"
            return passed(reason, score=1.0, **place)
        shown = ", ".join(wrong[:5])
        where = [Evidence(trace.answer_span_id, "answer", mark, *cited[mark]) for mark in wrong[:10]]
        if given.gap:
            return unknown(f"cannot find {shown}, but {given.gap}", evidence=where, **place)
        return failed(
            f"cited but never retrieved: {shown}",
            severity=Severity.HIGH,
            label="citation_unknown",
            score=1.0 - len(wrong) / len(cited),
            evidence=where,
            **place,
        )

    def _cited(self, text: str) -> Iterator[tuple[str, int, int]]:
        if MARK.fullmatch(text.strip()):  # an answer that is a list of one
            return
        for match in MARK.finditer(text):
            numbers, bracket, named = match.groups()
            for mark in re.split("[,;]", numbers) if numbers else (bracket or named,):
                yield mark.strip(" ^"), *match.span()
        for match in URL.finditer(text):
            address = match[0].rstrip(".,;:!?*_")
            yield address, match.start(), match.start() + len(address)

    def _is_mark(self, cited: str, haystack: str, numbered: bool) -> bool:
        """Whether this trace writes citations so: `[3]` may be a list of one, and `[step-2]` a placeholder."""
        if cited.isdecimal():
            return numbered
        kind = self._KIND.match(cited)
        return kind is None or kind[1].casefold() in _MARK_WORDS or kind[0].casefold() in haystack

    @staticmethod
    def _known(cited: str, haystack: str, ids: set[str], count: int) -> bool:
        folded = cited.casefold()
        if cited.isdecimal():
            marks = (f"[{cited}]", f"【{cited}")
            return folded in ids or 1 <= int(cited) <= count or any(m in haystack for m in marks)
        if folded.startswith(("http://", "https://")):
            bare = folded.split("://", 1)[1].rstrip("/").removeprefix("www.")
            return bare in haystack
        name = re.sub(r"^(?:docs?|source|ref|chunk|passage|cite)[-_ :#]?", "", folded)
        return folded in ids or name in ids or folded in haystack or (name.isdecimal() and 1 <= int(name) <= count)

    def _misattributed(self, seen: Report) -> Iterator[Score]:
        documents = seen.given.documents
        if len(documents) < 2 or seen.exceeded:
            return
        for checked in seen.checked:
            claim, best = checked.claim, checked.match
            if len(claim.cites) != 1 or len(claim.content) < _STATEMENT or best is None or best.coverage < self.most:
                continue
            mark = re.sub(r"[\[\]【】^\s]|†.*", "", claim.cites[0])
            cited = documents.get(mark)
            if cited is None or cited is best.source or self._holds(cited, checked, seen):
                continue
            yield unknown(
                f"[{mark}] hardly speaks of what it is cited for; {best.source.where} does",
                label="citation_misattributed",
                span_id=seen.trace.answer_span_id,
                evidence=(seen.here(claim.start, claim.end), seen.there(best.source, *best.place)),
            )

    def _holds(self, source: Source, checked: Checked, seen: Report) -> bool:
        match = seen.aligner.best(checked.claim, only=source)
        if match is not None and match.coverage >= self.little:
            return True
        text, folded = source.folded.text, seen.answer.folded.text
        return any(folded[value.start : value.end] in text for value in checked.values)


class Cited(Grader, name="evidence/cited", version="1"):
    """Each claim of the answer carries a citation.

    Claims are sentences, list items and table rows that state something; a mark in or right behind one is its citation. The
    score is the share of claims that have one, and the evidence points at those that have none. `fail`
    (`citation_missing`) only when `required` is set; without it, an answer that cites some of its claims passes as
    `partly_cited`, and one that cites nothing is skipped. Whether a citation is right is for `evidence/citations`.
    """

    required: bool = False
    """Whether every claim must be cited."""
    share: float = Field(default=1.0, gt=0, le=1)
    """The share of claims that must be, if any must."""

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        if not self.required and "[" not in trace.answer and "【" not in trace.answer:
            return skip("the answer cites nothing")
        seen = report(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        if len(trace.answer) > MAX_ANSWER or seen.answer.more:
            return unknown(seen.exceeded, label="budget_exceeded", **place)
        claims = seen.answer.claims
        if not claims:
            return skip("the answer claims nothing")
        bare = [claim for claim in claims if not claim.cites]
        if not self.required and (len(bare) == len(claims) or not self._marks(seen)):
            return skip("the answer cites nothing")
        score = 1.0 - len(bare) / len(claims)
        where = [seen.here(claim.start, claim.end) for claim in bare[:_POINTED_AT]]
        reason = f"{len(claims) - len(bare)} of {len(claims)} claims are cited"
        if self.required and score < self.share:
            return failed(reason, label="citation_missing", score=score, evidence=where, **place)
        return passed(reason, label="partly_cited" if bare else "cited", score=score, evidence=where, **place)

    @staticmethod
    def _marks(seen: Report) -> bool:
        """Whether marks are citations here: `[3]` may be a list of one."""
        if seen.trace.documents or any(not LOOSE_MARK.fullmatch(m) for c in seen.answer.claims for m in c.cites):
            return True
        return (
            any(mark in seen.given.haystack for mark in ("[1]", "【1"))
            or len({mark for claim in seen.answer.claims for mark in claim.cites}) > 1
        )


def _without_code(text: str) -> str:
    return CODE.sub(lambda match: " " * len(match[0]), text) if "`" in text else text
