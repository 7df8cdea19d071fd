"""Does what the answer puts in quotation marks stand in its evidence?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from pydantic import Field

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.checks.evidence.claims import MAX_ANSWER, Claim
from graders.checks.evidence.report import Report, report
from graders.checks.evidence.sources import Source
from graders.checks.evidence.state import no_answer
from graders.checks.evidence.text import spelled, stems
from graders.checks.evidence.words import words
from store.types import Evidence, Severity, Trace

_QUOTED = re.compile(r'"([^"\n]{8,2000})"')
_WORD = re.compile(r"[^\W_]+")
_GAP = re.compile(r"\s*(?:\[[^\]]{0,40}\]|\.\.\.|\u2026)\s*")
_FEWEST = 3
"""Words below which what stands between quotation marks is a name or a title."""
_MAX_QUOTES = 100
_MAX_WORDS = 200


class _Quote(NamedTuple):
    start: int
    end: int
    attributed: bool
    """Whether the answer says that a source has these words."""


class _Near(NamedTuple):
    source: Source
    start: int
    end: int
    share: float
    hard: bool
    """Whether a number or a negation differs."""
    trifling: bool
    """Whether only words without weight differ: `&` for `and`, an article."""


class Quotes(Grader, name="evidence/quotes", version="1"):
    """What the answer quotes stands in its evidence word by word.

    A quotation is four words or more, or 20 characters, in double quotation marks. Case, spacing, kinds of quotation marks,
    punctuation at its ends and words such as `and` do not matter; `...` and `[...]` stand for what was left out. The score is
    the share that was found. `fail`: `quote_altered` when all but a few words stand in one place (high if a number or a
    negation is among those that differ, else low); `quote_fabricated` (high) when nothing like it does although the answer
    names a source as saying it. A quotation that nobody is said to have said may be a title or an example: `unknown`.
    `unknown` also when contents are missing. Skipped when the answer quotes nothing or nothing was retrieved.
    """

    words: int = Field(default=4, ge=1)
    """Words that make a quotation,"""
    characters: int = Field(default=20, ge=1)
    """or characters."""
    alike: float = Field(default=0.8, gt=0, le=1)
    """Share of a quotation's words, in their order, from which it is taken for the same one, altered."""

    def grade(self, trace: Trace) -> Score:
        if not trace.answer:
            return no_answer(trace)
        place: dict[str, Any] = {"span_id": trace.answer_span_id}
        if len(trace.answer) > MAX_ANSWER:
            return unknown("the answer is longer than is read", label="budget_exceeded", **place)
        if not any(sign in trace.answer for sign in _SIGNS):
            return skip("the answer quotes nothing")
        seen = report(trace)
        quotes = list(self._quotes(seen))
        if not quotes:
            return skip("the answer quotes nothing")
        if not seen.given.retrieved:
            return skip("no tool results or documents to compare with")
        if len(quotes) > _MAX_QUOTES:
            reason = f"the answer has {len(quotes)} quotations, more than are looked up"
            return unknown(reason, label="budget_exceeded", **place)
        lost = [quote for quote in quotes if not self._found(seen, quote)]
        near = [(quote, self._near(seen, quote)) for quote in lost]
        near = [(quote, like) for quote, like in near if like is None or not like.trifling]
        lost = [quote for quote, _ in near]
        if not lost:
            return passed(f"all {len(quotes)} quotations stand in the evidence", label="quoted", score=1.0, **place)
        score = 1.0 - len(lost) / len(quotes)
        altered = sorted((pair for pair in near if pair[1]), key=lambda pair: not (pair[1] and pair[1].hard))
        invented = [quote for quote, like in near if like is None and quote.attributed]
        where = list(self._pointers(seen, [*altered, *((quote, None) for quote in invented)]))
        if not altered and not invented:
            where = list(self._pointers(seen, near))
            return unknown(
                "in no evidence, and nobody is said to have said it", label="quote_unverified", evidence=where, **place
            )
        hard = bool(invented) or any(like is not None and like.hard for _, like in altered)
        label = "quote_altered" if altered else "quote_fabricated"
        first = altered[0][0] if altered else invented[0]
        shown = seen.answer.said(first.start, first.end)[:120]
        reason = f"quoted otherwise than it stands: {shown!r}" if altered else f"quoted, and stands nowhere: {shown!r}"
        if seen.given.gap:
            return unknown(f"{reason}, but {seen.given.gap}", label=label, evidence=where, **place)
        severity = Severity.HIGH if hard else Severity.LOW
        return failed(reason, label=label, severity=severity, score=score, evidence=where, **place)

    def _quotes(self, seen: Report) -> Iterator[_Quote]:
        text = seen.answer.plain
        for match in _QUOTED.finditer(text):
            start, end = match.span(1)
            if text[start] == " " and text[end - 1] == " ":  # between two quotations
                continue
            if end - start < self.characters and len(_WORD.findall(match[1])) < self.words:
                continue
            if len(match[1].split()) < _FEWEST:
                continue
            before = text[max(0, match.start() - 60) : match.start()]
            yield _Quote(start, end, any(cue in before for cue in words().quoted_as))

    def _found(self, seen: Report, quote: _Quote) -> bool:
        pieces = _GAP.split(seen.answer.plain[quote.start : quote.end])
        return all(_stands(seen, piece.strip(), words) for piece in pieces if (words := _WORD.findall(piece)))

    def _near(self, seen: Report, quote: _Quote) -> _Near | None:
        """The place that holds nearly the same words."""
        text = seen.answer.plain
        mine = [word for word, _ in spelled(text, quote.start, quote.end)][:_MAX_WORDS]
        found = stems(text, quote.start, quote.end)[:_MAX_WORDS]
        weighty = tuple(dict.fromkeys(found))
        claim = Claim(quote.start, quote.end, tuple(found), weighty, frozenset(weighty), ())
        match = seen.aligner.best(claim)
        if match is None or match.coverage < self.alike / 2:
            return None
        return self._like(match.source, mine, *match.place)

    def _like(self, source: Source, mine: Sequence[str], start: int, stop: int) -> _Near | None:
        line = source.folded.text
        placed = list(spelled(line, start, stop))
        theirs = [word for word, _ in placed]
        blocks = [b for b in SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks() if b.size]
        share = sum(block.size for block in blocks) / len(mine)
        if share < self.alike:
            return None
        first, last = blocks[0].b, blocks[-1].b + blocks[-1].size
        if last - first > 2 * len(mine):
            return None
        kept = {index for block in blocks for index in range(block.a, block.a + block.size)}
        held = {index for block in blocks for index in range(block.b, block.b + block.size)}
        differing = [word for index, word in enumerate(mine) if index not in kept]
        differing += [theirs[index] for index in range(first, last) if index not in held]
        hard = any(word[0].isdecimal() or word in words().negation for word in differing)
        trifling = not hard and words().stop.issuperset(differing)
        return _Near(source, placed[first][1], placed[last - 1][1] + len(theirs[last - 1]), share, hard, trifling)

    def _pointers(self, seen: Report, pairs: Sequence[tuple[_Quote, _Near | None]]) -> Iterator[Evidence]:
        for quote, like in pairs[:10]:
            yield seen.here(quote.start, quote.end)
            if like is not None:
                yield seen.there(like.source, like.start, like.end)


def _stands(seen: Report, piece: str, found: Sequence[str]) -> bool:
    """Whether words stand somewhere in this order; what is cheap to see is looked at first."""
    haystack, asked = seen.given.haystack, seen.given.asked
    at = haystack.find(piece)
    if at >= 0 and not (haystack[at - 1 : at] + haystack[at + len(piece) : at + len(piece) + 1]).strip(_ENDS):
        return True
    if any(word not in haystack and word not in asked for word in sorted(found, key=len)[-_TELLING:]):
        return False
    return f" {' '.join(found)} " in seen.flat


_ENDS = " \n.,;:!?'\"()"
"""Signs that end a word."""
_TELLING = 3
"""The longest words of a quotation: where one is missing, all of it is."""
_SIGNS = ('"', "\u201c", "\u201d", "\u201e", "\u00ab", "\u00bb", "\u300c")
