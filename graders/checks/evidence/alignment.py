"""Where in the evidence each claim is said best, and how much of it is said there.

A window is a stretch of one source, as long as three sentences. Coverage is the share of the claim's words that the window
holds, the rarer a word is in the evidence the heavier; the other words of a sentence count a little, because a phrase that
is taken over takes them along. Overlap can certify that a claim repeats its evidence. That it is low proves nothing.

Words are looked up in the text as it is; only the window that is chosen is cut into words. So the time hangs on how often
the words of the answer occur, not on how long the evidence is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import NamedTuple

from graders.checks.evidence.claims import Claim
from graders.checks.evidence.sources import Source
from graders.checks.evidence.text import BREAK, is_unspaced, stems

_WIDTH = 600
"""Characters between the first and the last word of a window: about three long sentences."""
_SENTENCE = 120
"""Characters of a usual sentence: rarity is counted in sentences."""
_REACH = 200
"""Characters within which a window is widened to whole sentences."""
_PLACES = 40
"""Places at which the words of one claim are looked up, the rarest words first: they tell where it is said."""
_LIGHT = 0.3
"""Weight of a stop word beside 1. Without any, a short answer hangs on one or two words; with full weight, grammar counts as
evidence. Between .15 and .5 it makes no difference that could be measured."""
_SAMPLE = 8000
"""Characters in which stop words are counted."""
_PAIRS = 0.1
"""Share of neighbouring pairs of words in the score: of two texts with the same words, the one in the same order is meant.
Up to .2 it makes no difference to the order of answers that could be measured; more makes it worse."""


class Match(NamedTuple):
    """The best window for a claim."""

    source: Source
    start: int
    end: int
    """In the folded text of the source."""
    coverage: float
    """Weighted share of the claim's words in the window."""
    pairs: float
    """Share of its pairs of neighbouring words."""
    run: float
    """Share of it that stands there in one piece."""

    @property
    def score(self) -> float:
        """One number from 0 to 1."""
        return (1 - _PAIRS) * self.coverage + _PAIRS * self.pairs

    @property
    def stems(self) -> set[str]:
        """The stems of the window."""
        return set(stems(self.source.folded.text, self.start, self.end))

    @property
    def text(self) -> str:
        """The window, folded."""
        return self.source.folded.text[self.start : self.end]


class Aligner:
    """Evidence in which claims are looked up."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = [source for source in sources if source.text]
        gap = "\n" * (_WIDTH + 1)  # so that no window lies in two sources
        self._text = gap.join(source.folded.text for source in self._sources)
        self._starts: list[int] = []
        at = 0
        for source in self._sources:
            self._starts.append(at)
            at += len(source.folded.text) + len(gap)
        self._sentences = 1 + sum(len(source.folded.text) for source in self._sources) // _SENTENCE
        self._counts: dict[str, int] = {}
        self._known: dict[str, list[tuple[int, str]]] = {}
        self._weights: dict[str, float] = {}

    def best(self, claim: Claim, only: Source | None = None) -> Match | None:
        """The window that says most of the claim; `only` in one source. None when nothing shares a word with it."""
        low, high = 0, len(self._text)
        if only is not None:
            low = self._starts[self._sources.index(only)]
            high = low + len(only.folded.text)
        occurrences: list[tuple[int, str]] = []
        for count, stem in sorted([(self._count(stem), stem) for stem in claim.weighty]):
            if count:
                if occurrences and len(occurrences) + count > _PLACES:
                    break
                occurrences += self._places(stem, low, high) if only else self._all(stem)
        if not occurrences:
            return None
        occurrences.sort()
        first, last = self._densest(occurrences)
        return self._match(claim, first, last)

    def _count(self, stem: str) -> int:
        """How often words of this stem occur, and others that hold it."""
        count = self._counts.get(stem)
        if count is None:
            count = self._counts[stem] = self._text.count(_needle(stem))
        return count

    def _all(self, stem: str) -> list[tuple[int, str]]:
        found = self._known.get(stem)
        if found is None:
            found = self._known[stem] = self._places(stem, 0, len(self._text))
        return found

    def _places(self, stem: str, low: int, high: int) -> list[tuple[int, str]]:
        """Where words of this stem may begin."""
        text, needle = self._text, _needle(stem)
        found: list[tuple[int, str]] = []
        length = len(needle)
        whole = len(stem) <= 3 or not stem.isalpha()
        unspaced = is_unspaced(stem)
        at = text.find(needle, low, high)
        tried = 0
        while at >= 0 and tried < 2 * _PLACES:
            tried += 1
            if unspaced or (
                not (at and text[at - 1].isalnum()) and not (whole and text[at + length : at + length + 1].isalnum())
            ):
                found.append((at, stem))
            at = text.find(needle, at + length, high)
        return found

    def _weight(self, stem: str, light: bool) -> float:
        weight = self._weights.get(stem)
        if weight is None:
            if light:
                share = self._text.count(f" {stem} ", 0, _SAMPLE) / max(1, min(len(self._text), _SAMPLE))
                count = share * _SENTENCE * self._sentences
            else:
                count = self._count(stem)
            weight = log((self._sentences + 1) / (min(count, self._sentences) + 0.5)) + 1
            weight = self._weights[stem] = weight * _LIGHT if light else weight
        return weight

    def _densest(self, occurrences: Sequence[tuple[int, str]]) -> tuple[int, int]:
        """First and last place of the window that holds the heaviest words, each counted once; the tightest such."""
        weights = {stem: self._weight(stem, False) for _, stem in occurrences}
        counts = dict.fromkeys(weights, 0)
        total = best = 0.0
        chosen = (occurrences[0][0], occurrences[0][0])
        left = 0
        for place, stem in occurrences:
            if not counts[stem]:
                total += weights[stem]
            counts[stem] += 1
            start, oldest = occurrences[left]
            while counts[oldest] > 1 or place - start > _WIDTH:
                counts[oldest] -= 1
                if not counts[oldest]:
                    total -= weights[oldest]
                left += 1
                start, oldest = occurrences[left]
            if total > best + 1e-9 or (total > best - 1e-9 and place - start < chosen[1] - chosen[0]):
                best, chosen = total, (start, place)
        return chosen

    def _match(self, claim: Claim, first: int, last: int) -> Match:
        number = bisect_right(self._starts, first) - 1
        source, base = self._sources[number], self._starts[number]
        start, end = _widened(source.folded.text, first - base, last - base)
        window = stems(source.folded.text, start, end)
        held = set(window)
        known, content, names = self._weights, claim.content, claim.stems
        weights = [known.get(stem) or self._weight(stem, stem not in content) for stem in names]
        total = sum(weights)
        covered = sum([w for w, stem in zip(weights, names, strict=True) if stem in held]) / total
        if len(names) == 1:
            return Match(source, start, end, covered, covered, covered)
        wanted = set(pairwise(names))
        followed = wanted.intersection(pairwise(window))
        if not followed:
            return Match(source, start, end, covered, 0.0, 0.0)
        there = [pair in followed for pair in pairwise(names)]
        heavier = list(map(max, weights, weights[1:]))
        pairs = sum([w for w, is_there in zip(heavier, there, strict=True) if is_there]) / sum(heavier)
        longest = run = 0
        for is_there in there:
            run = run + 1 if is_there else 0
            longest = max(longest, run)
        return Match(source, start, end, covered, pairs, (longest + 1) / len(claim.stems))


def _needle(stem: str) -> str:
    """What all words of a stem begin with."""
    return stem[:-1] if len(stem) > 4 and stem[-1] == "i" else stem


def _widened(text: str, first: int, last: int) -> tuple[int, int]:
    """The whole sentences around a part of a text."""
    start = max(0, first - _REACH)
    for match in BREAK.finditer(text, start, first):
        start = match.end()
    following = BREAK.search(text, last, min(len(text), last + _REACH))
    if following:
        end = following.end() if text[following.start()] in ".!?" else following.start()
        return start, max(end, last + 1)
    return start, min(len(text), last + _REACH)
