"""Where in the evidence each claim is said best, and how much of it is said there.

A window is a stretch of one source, as long as three long sentences. Coverage is the share of the claim's words that the
window holds, the rarer a word is in the evidence the heavier; the other words of a sentence count a little, because a phrase
that is taken over takes them along. Overlap can certify that a claim repeats its evidence. That it is low proves nothing.

The evidence is read once for all claims of an answer; then the time hangs on how often the words of the claims occur.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import compress, pairwise
from math import log
from typing import NamedTuple

from graders.checks.evidence.claims import Claim
from graders.checks.evidence.sources import Source
from graders.checks.evidence.text import BREAK

_WIDTH = 100
"""Words between the first and the last of a window: about three long sentences."""
_EDGE = 20
"""Words on either side of a window that are read with it, a sentence: it does not end at the last word that was looked up."""
_SENTENCE = 20
"""Words of a usual sentence: rarity is counted in sentences."""
_REACH = 200
"""Characters within which a window is widened to whole sentences."""
_PLACES = 30
"""Places at which the words of one claim are looked up, the rarest words first: they tell where it is said."""
_LIGHT = 0.3
"""Weight of a stop word beside 1. Without any, a short answer hangs on one or two words; with full weight, grammar counts as
evidence. Between .15 and .5 it makes no difference that could be measured."""
_SAMPLE = 2000
"""Words among which stop words are counted."""
_PAIRS = 0.1
"""Share of neighbouring pairs of words in the score: of two texts with the same words, the one in the same order is meant.
Up to .2 it makes no difference to the order of answers that could be measured; more makes it worse."""


class Match(NamedTuple):
    """The best window for a claim."""

    source: Source
    first: int
    last: int
    """Its words among those of the source, the last exclusive."""
    coverage: float
    """Weighted share of the claim's words in the window."""
    pairs: float
    """Share of its pairs of neighbouring words."""
    run: float
    """Share of it that stands there in one piece."""
    mass: float
    """The weight of all its words: how much it says."""
    stems: frozenset[str]
    """The stems of the window."""

    @property
    def score(self) -> float:
        """One number from 0 to 1."""
        return (1 - _PAIRS) * self.coverage + _PAIRS * self.pairs

    @property
    def place(self) -> tuple[int, int]:
        """Where the sentences of the window begin and end in the folded text of the source."""
        first, last = self.source.reading.start_of(self.first), self.source.reading.start_of(self.last - 1)
        return _widened(self.source.folded.text, first, last)


class Aligner:
    """Evidence in which claims are looked up; best told all of them at once."""

    def __init__(self, claims: Sequence[Claim], sources: Sequence[Source]) -> None:
        self._sources = [source for source in sources if source.stems]
        self._bases: list[int] = []
        at = 0
        for source in self._sources:
            self._bases.append(at)
            at += len(source.stems) + _WIDTH + 1  # so that no window lies in two sources
        self._sentences = 1 + sum(len(source.stems) for source in self._sources) // _SENTENCE
        self._places: dict[str, list[int]] = {}
        self._weights: dict[str, float] = {}
        """Of words of weight."""
        self._light: dict[str, float] = {}
        """Of stop words."""
        self._look_up({stem for claim in claims for stem in claim.weighty})

    def _look_up(self, wanted: Collection[str]) -> None:
        places: dict[str, list[int]] = {stem: [] for stem in wanted}
        for source, base in zip(self._sources, self._bases, strict=True):
            found = source.stems
            for at in compress(range(len(found)), map(places.__contains__, found)):
                places[found[at]].append(base + at)
        self._places |= places
        total, weights = self._sentences, self._weights
        for stem, found_at in places.items():
            weights[stem] = log((total + 1) / (min(len(found_at), total) + 0.5)) + 1

    def best(self, claim: Claim, only: Source | None = None) -> Match | None:
        """The window that says most of the claim; `only` in one source. None when nothing shares a word with it."""
        known = self._places
        if unknown := {stem for stem in claim.weighty if stem not in known}:
            self._look_up(unknown)
        found = [(len(places), stem, places) for stem in claim.weighty if (places := known[stem])]
        if only is not None:
            found = [(len(inside), stem, inside) for _, stem, places in found if (inside := self._inside(only, places))]
        if not found:
            return None
        found.sort()
        occurrences: list[tuple[int, str]] = []
        for count, stem, places in found:
            if occurrences and len(occurrences) + count > _PLACES:
                break
            occurrences += [(place, stem) for place in places[:_PLACES]]
        occurrences.sort()
        return self._match(claim, *_densest(occurrences, self._weights))

    def mass(self, claim: Claim) -> float:
        """The weight of all the words of a claim: how much it says."""
        if not self._sources:
            return float(len(claim.stems))
        return sum(self._of(claim))

    def _inside(self, source: Source, places: Sequence[int]) -> list[int]:
        if source not in self._sources:
            return []
        low = self._bases[self._sources.index(source)]
        return [place for place in places if low <= place < low + len(source.stems)]

    def _of(self, claim: Claim) -> list[float]:
        """The weights of all words of a claim that was looked up."""
        heavy, light, content = self._weights, self._light, claim.content
        for stem in claim.stems:
            if stem not in content and stem not in light:
                count = self._sample[stem] / self._sampled * _SENTENCE * self._sentences
                light[stem] = (log((self._sentences + 1) / (min(count, self._sentences) + 0.5)) + 1) * _LIGHT
        return [heavy[stem] if stem in content else light[stem] for stem in claim.stems]

    @cached_property
    def _sample(self) -> Counter[str]:
        """How often each word stands at the beginning of the evidence."""
        return Counter(self._sources[0].stems[:_SAMPLE])

    @cached_property
    def _sampled(self) -> int:
        return self._sample.total()

    def _match(self, claim: Claim, first: int, last: int) -> Match:
        number = bisect_right(self._bases, first) - 1
        source, base = self._sources[number], self._bases[number]
        start, end = max(0, first - base - _EDGE), min(len(source.stems), last - base + 1 + _EDGE)
        window = source.stems[start:end]
        held = frozenset(window)
        names, weights = claim.stems, self._of(claim)
        total = sum(weights)
        covered = sum([w for w, stem in zip(weights, names, strict=True) if stem in held]) / total
        if len(names) == 1:
            return Match(source, start, end, covered, covered, covered, total, held)
        line = f" {' '.join(window)} "
        there = [one in held and two in held and f" {one} {two} " in line for one, two in pairwise(names)]
        if True not in there:
            return Match(source, start, end, covered, 0.0, 0.0, total, held)
        heavier = list(map(max, weights, weights[1:]))
        pairs = sum([w for w, is_there in zip(heavier, there, strict=True) if is_there]) / sum(heavier)
        longest = run = 0
        for is_there in there:
            run = run + 1 if is_there else 0
            longest = max(longest, run)
        return Match(source, start, end, covered, pairs, (longest + 1) / len(names), total, held)


def _densest(occurrences: Sequence[tuple[int, str]], weights: Mapping[str, float]) -> tuple[int, int]:
    """First and last place of the window that holds the heaviest words, each counted once; the tightest such."""
    counts = {stem: 0 for _, stem in occurrences}
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
