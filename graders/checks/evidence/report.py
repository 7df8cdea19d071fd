"""What can be read off about each claim and each value of an answer: made once a trace, shared by the graders of the family.

Nothing here passes or fails anybody. A value that stands nowhere is `MISSING`, one that other words explain is `DERIVED` or
`CHOSEN`; a claim has the window that says most of it, and what in that window speaks against it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from graders.checks.evidence import values
from graders.checks.evidence.alignment import Aligner, Match
from graders.checks.evidence.claims import MAX_ANSWER, Answer, Claim
from graders.checks.evidence.sources import Given, Source
from graders.checks.evidence.text import STEMS, language, runs_in, sentences, spelled, stems, stop_stems
from graders.checks.evidence.values import Number, Values
from graders.checks.evidence.words import words
from store.types import Evidence, Trace

MAX_VALUES = 500
"""Values of one answer that are looked up; each may take a walk through all the evidence."""
_SHOWN = 300
"""Characters of a quotation in a grade."""
_LONG = 5
"""Characters from which a value is not made by chance when blanks are left out."""
_OPPOSED = 0.7
"""Coverage from which a negation on one side only is worth a look: below, the two sentences say different things anyway."""
_SAME_LANGUAGE = 0.35
"""Coverage that two languages do not reach by names and numbers alone."""
_STATEMENT = 4
"""Words of weight that make a statement which can be denied."""
_AROUND = 60
"""Characters around a passage in which a negation may stand: lines are broken anywhere."""
_COMPARABLE = 0.6
"""Coverage from which a window is about the same thing, so that another value in it contradicts."""


class State(StrEnum):
    """Where a value of an answer comes from."""

    FOUND = "found"
    DERIVED = "derived"
    """It may be computed from what was found, or is said to be."""
    CHOSEN = "chosen"
    """The agent gave it to a tool that took it."""
    MISSING = "missing"


class Value(NamedTuple):
    """A number, date or id of an answer."""

    kind: str
    """`number`, `date` or `id`."""
    start: int
    end: int
    """In the folded answer."""
    state: State
    number: Number | None = None
    date: values.Date | None = None


class Against(NamedTuple):
    """What speaks against a claim."""

    rule: str
    """`contradicted_value` or `polarity_mismatch`."""
    start: int
    end: int
    """What in the folded answer."""
    match: Match
    found_start: int
    found_end: int
    """What in the folded source."""


class Window(NamedTuple):
    """The sentences of a match, folded."""

    start: int
    end: int
    text: str


_NOWHERE = Window(0, 0, "")


def window_of(match: Match) -> Window:
    """The sentences of a match."""
    start, end = match.place
    return Window(start, end, match.source.folded.text[start:end])


@dataclass(frozen=True, slots=True)
class Checked:
    """One claim, looked up."""

    claim: Claim
    match: Match | None
    values: tuple[Value, ...]
    against: tuple[Against, ...]
    elsewhere: bool
    """A value of the claim stands in the evidence, but not where the claim is said."""


class Report:
    """An answer against everything it may rest on. Each part is made when it is first asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def answer(self) -> Answer:
        """What was said."""
        return Answer(self.trace.answer)

    @cached_property
    def given(self) -> Given:
        """What it may rest on."""
        return Given(self.trace)

    @cached_property
    def evidence(self) -> tuple[Source, ...]:
        """The texts that can bear out a claim."""
        return tuple(source for source in self.given.sources if source.is_evidence)

    @cached_property
    def stated(self) -> Values:
        """The numbers, dates and ids of the answer."""
        return values.claimed(self.answer.plain)

    @cached_property
    def aligner(self) -> Aligner:
        """All evidence, to look claims up in."""
        return Aligner(self.answer.claims, self.evidence)

    @cached_property
    def matches(self) -> tuple[Match | None, ...]:
        """The best window of each claim."""
        return tuple(self.aligner.best(claim) for claim in self.answer.claims)

    @cached_property
    def exceeded(self) -> str:
        """Why not everything was read; empty when it was."""
        if len(self.trace.answer) > MAX_ANSWER:
            return "the answer is longer than is read"
        if len(self.stated) > MAX_VALUES:
            return f"the answer has {len(self.stated)} values, more than are looked up"
        if self.answer.more:
            return f"the answer makes more than {len(self.answer.claims)} claims, more than are looked up"
        if self.given.too_much:
            return "there is more evidence than is read"
        return ""

    @cached_property
    def flat(self) -> str:
        """Everything that was said, and what the agent told its tools, as words with one blank between."""
        return f" {' '.join(runs_in(self.given.haystack + ' ' + self.given.asked))} "

    # --- values -----------------------------------------------------------------------------------------------------

    @cached_property
    def judged(self) -> tuple[Value, ...]:
        """Every value of the answer and where it comes from, in the order of the answer."""
        given, text = self.given, self.answer.folded.text
        haystack = given.haystack if self.stated else ""
        found: list[Value] = []
        for number in self.stated.numbers:
            state = State.FOUND if values.written(haystack, number) else self._computed(number)
            if state is State.MISSING and self._given_to_a_tool(number):
                state = State.CHOSEN
            found.append(Value("number", number.start, number.end, state, number=number))
        for start, end, date in self.stated.dates:
            forms = list(values.date_forms(text[start:end], date))
            if (
                any(values.stands(haystack, form) for form in forms)
                or any(values.same_date(date, other) for other in given.dates)
                or any(values.same_date(date, other) for other in self._unspaced_dates)
            ):
                state = State.FOUND
            else:
                chosen = any(values.same_date(date, other) for other in self._chosen_dates)
                state = State.CHOSEN if chosen else State.MISSING
            found.append(Value("date", start, end, state, date=date))
        for start, end in self.stated.ids:
            word = text[start:end]
            state = State.FOUND if word in haystack else State.CHOSEN if word in given.asked else State.MISSING
            found.append(Value("id", start, end, state))
        computed = {v.number.value for v in found if v.number and v.state is State.DERIVED}
        if computed:  # said again further on
            found = [
                v._replace(state=State.DERIVED)
                if v.number and v.state is State.MISSING and v.number.value in computed
                else v
                for v in found
            ]
        return tuple(sorted(found, key=lambda v: v.start))

    def _computed(self, number: Number) -> State:
        given, text = self.given, self.answer.folded.text
        if values.supported(given.numbers, number):
            return State.FOUND
        if any(round(value, 2) in given.listed for value, _ in number.readings):
            return State.FOUND
        if self._approximate(number) or values.converted(text, number, given.numbers):
            return State.FOUND
        if values.spelled_out(given.haystack, number.value):
            return State.FOUND
        if self._ends_an_id(number) or self._squeezed(text[number.start : number.end]):
            return State.FOUND
        if text[max(0, number.start - 3) : number.start].rstrip(" $€£¥").endswith("=") or _SUM.match(text, number.end):
            return State.DERIVED
        said = values.said_with(text, number.start, number.end, words().computed, 80, 20)
        if said and values.sum_of_few(given.numbers, given.rounded, number.value):
            return State.FOUND
        if said or values.possible(given.numbers, given.rounded, number.value):
            return State.DERIVED
        return State.MISSING

    def _ends_an_id(self, number: Number) -> bool:
        """Whether the answer gives the end of a longer number: a card ending in 1234."""
        text = self.answer.folded.text
        digits = text[number.start : number.end]
        before = text[max(0, number.start - 24) : number.start]
        return (
            len(digits) >= 3
            and digits.isdecimal()
            and any(cue in before for cue in words().ending)
            and re.search(rf"[0-9a-z*]{digits}(?![0-9])", self.given.haystack) is not None
        )

    def _squeezed(self, written: str) -> bool:
        """Whether a longer value stands in the evidence with blanks inside, as broken text has them."""
        short = "".join(written.split()).strip(".,")
        return len(short) >= _LONG and values.stands(self._unspaced, short)

    @cached_property
    def _unspaced_dates(self) -> set[values.Date]:
        return {reading for _, _, readings in values.dates_in(self._unspaced) for reading in readings}

    @cached_property
    def _unspaced(self) -> str:
        return _TORN.sub("", self.given.haystack)

    def _approximate(self, number: Number) -> bool:
        """Whether the number is hedged and one of the evidence is as near as a rounded number may be."""
        before = self.answer.folded.text[max(0, number.start - 16) : number.start]
        hedges = words().approximate
        if not any(word in hedges for word in re.findall(r"[^\W\d_]+|[~≈]", before)[-2:]):
            return False
        printed = self.answer.folded.text[number.start : number.end]
        zeros = len(printed) - len(printed.rstrip("0")) if printed.isdecimal() or "," in printed else 0
        slack = 10.0 ** min(zeros, 6) if not number.places else 10.0**-number.places
        return any(abs(other - number.value) <= slack for other in self.given.numbers)

    def _given_to_a_tool(self, number: Number) -> bool:
        return values.supported(self._chosen_numbers, number._replace(percent=False))

    @cached_property
    def _chosen_numbers(self) -> list[float]:
        return sorted(values.numbers_in(self.given.arguments))

    @cached_property
    def _chosen_dates(self) -> set[values.Date]:
        return {reading for _, _, readings in values.dates_in(self.given.arguments) for reading in readings}

    # --- claims -----------------------------------------------------------------------------------------------------

    @cached_property
    def checked(self) -> tuple[Checked, ...]:
        """Every claim, looked up."""
        found = []
        judged = self.judged
        for claim, match in zip(self.answer.claims, self.matches, strict=True):
            inside = tuple([value for value in judged if claim.start <= value.start < claim.end]) if judged else ()
            if match is None:
                found.append(Checked(claim, None, inside, (), False))
                continue
            elsewhere = any(value.state is not State.FOUND for value in inside)
            loose = [value for value in inside if not self._beside_words(value, match)]
            window = window_of(match) if loose or self._may_be_opposed(claim, match) else _NOWHERE
            if loose and not elsewhere:
                numbers = sorted(values.numbers_in(window.text))
                dates = {reading for _, _, readings in values.dates_in(window.text) for reading in readings}
                elsewhere = not all(self._within(value, window.text, numbers, dates) for value in loose)
            against = tuple(self._against(claim, match, window, inside))
            found.append(Checked(claim, match, inside, against, elsewhere))
        return tuple(found)

    def _beside_words(self, value: Value, match: Match) -> bool:
        """Whether a value stands in a window as it is written; if not, it may do so in another way."""
        written = stems(self.answer.folded.text, value.start, value.end)
        return value.state is State.FOUND and match.stems.issuperset(written)

    def _within(self, value: Value, window: str, numbers: Sequence[float], dates: set[values.Date]) -> bool:
        if value.number:
            return values.supported(numbers, value.number)
        if value.date:
            return any(values.same_date(value.date, other) for other in dates)
        return self.answer.folded.text[value.start : value.end] in window

    def _against(self, claim: Claim, match: Match, window: Window, inside: Sequence[Value]) -> list[Against]:
        found = []
        missing = [value for value in inside if value.state is State.MISSING and value.kind != "id"]
        if missing and self._about_the_same(claim, match, missing):
            there = values.claimed(window.text)
            for value in missing:
                other = (self._other_number if value.number else self._other_date)(value, window, there)
                if other is not None:
                    start, end = other
                    place = (window.start + start, window.start + end)
                    found.append(Against("contradicted_value", value.start, value.end, match, *place))
        if not found and self._may_be_opposed(claim, match) and (opposed := self._opposed(claim, match, window)):
            found.append(Against("polarity_mismatch", claim.start, claim.end, match, *opposed))
        return found

    def _about_the_same(self, claim: Claim, match: Match, missing: Sequence[Value]) -> bool:
        """Whether the window says the rest of the claim: without the values in doubt, which cannot be in it."""
        rest = self.beside(claim, missing)
        shared = len(rest & match.stems)
        return shared >= 2 and shared >= _COMPARABLE * len(rest)

    def beside(self, claim: Claim, some: Sequence[Value]) -> frozenset[str]:
        """The words of weight of a claim without those of some of its values."""
        text = self.answer.folded.text
        return claim.content - {STEMS[word] for value in some for word, _ in spelled(text, value.start, value.end)}

    def _other_number(self, value: Value, window: Window, there: Values) -> tuple[int, int] | None:
        """The number the window has for the same thing, if it is one and the answer does not state it, too."""
        if value.number is None:
            return None
        unit = values.unit_of(self.answer.plain, value.number)
        if unit is None:
            return None
        same = [n for n in there.numbers if (u := values.unit_of(window.text, n)) and u[0] == unit[0]]
        told = {reading for number in self.stated.numbers for reading, _ in number.readings}
        if not same or any(n.value in told for n in same) or len({n.value for n in same}) > 1:
            return None
        start, end = same[0].start, same[0].end
        return (start, end) if self._same_context(value, window, start, end) else None

    def _other_date(self, value: Value, window: Window, there: Values) -> tuple[int, int] | None:
        if value.date is None or not there.dates or len({date for _, _, date in there.dates}) > 1:
            return None
        start, end, date = there.dates[0]
        if any(values.same_date(date, other) for _, _, other in self.stated.dates):
            return None
        return (start, end) if self._same_context(value, window, start, end) else None

    def _same_context(self, value: Value, window: Window, start: int, end: int) -> bool:
        """Whether the words of weight right beside both values agree: a page has many dates, and one says when it was made."""
        mine = _beside(self.answer.plain, value.start, value.end)
        return not mine.isdisjoint(_beside(window.text, start, end))

    def _may_be_opposed(self, claim: Claim, match: Match) -> bool:
        """Whether the claim and its window agree enough, and either holds a word that can set them against each other."""
        if match.coverage < _OPPOSED or len(claim.content) < _STATEMENT:
            return False
        return not self._opposing.isdisjoint(claim.stems) or not self._opposing.isdisjoint(match.stems)

    @cached_property
    def _opposing(self) -> frozenset[str]:
        statuses = {word for pair in words().opposites for word in pair}
        return frozenset({STEMS[word] for word in self._negations | statuses} | {"t"})  # the end of n't

    def _opposed(self, claim: Claim, match: Match, window: Window) -> tuple[int, int] | None:
        """The passage that says the claim and denies it, or the other way round."""
        text, line = self.answer.folded.text[claim.start : claim.end], match.source.folded.text
        best = 0
        at = (window.start, window.end)
        for start, end in sentences(line, window.start, window.end):
            shared = len(claim.content.intersection(stems(line, start, end)))
            if shared > best:
                best, at = shared, (start, end)
        if best < _OPPOSED * len(claim.content):
            return None
        shared_at = [place for word, place in spelled(line, *at) if STEMS[word] in claim.content]
        inner = line[shared_at[0] : shared_at[-1]]
        if self._negated(text):
            denied = not self._negated(line[max(0, at[0] - _AROUND) : at[1] + _AROUND])
        else:
            denied = self._negated(inner)
        if denied:
            return at
        here, there = set(words_of(text)), set(words_of(line[at[0] : at[1]]))
        only_here, only_there = here - there, there - here
        if any(
            (a in only_here and b in only_there) or (b in only_here and a in only_there) for a, b in words().opposites
        ):
            return at
        return None

    def _negated(self, folded: str) -> bool:
        """Whether a folded text denies something."""
        return "n't" in folded or not self._negations.isdisjoint(words_of(folded))

    @cached_property
    def _negations(self) -> frozenset[str]:
        known = words().languages
        return known.get(language(words_of(self.answer.plain[:5000])), known["en"]).negation

    def in_another_language(self) -> bool:
        """Whether the answer is in another language than the evidence: then words prove nothing either way."""
        if any(match is not None and match.coverage >= _SAME_LANGUAGE for match in self.matches):
            return False
        mine = language(words_of(self.answer.plain[:5000]))
        if not mine:
            return not shares_script(self.answer.plain, self.given.haystack)
        theirs = {language(words_of(source.folded.text[:1000])) for source in self.evidence[:20]}
        return bool(theirs - {""}) and mine not in theirs

    # --- pointing ---------------------------------------------------------------------------------------------------

    def here(self, start: int, end: int) -> Evidence:
        """A part of the folded answer, as evidence."""
        first, last = self.answer.place(start, end)
        return Evidence(self.trace.answer_span_id, "answer", self.trace.answer[first:last][:_SHOWN], first, last)

    @staticmethod
    def there(source: Source, start: int, end: int) -> Evidence:
        """A part of a folded source, as evidence."""
        folded = source.folded
        first, last = folded.raw(start), folded.raw(end - 1) + 1
        return Evidence(source.span_id, source.where, source.text[first:last][:_SHOWN], first, last)


_SUM = re.compile(r"[^\n.+]{0,8}\([^\n()+*\u00d7]{0,60}[0-9]\s?[+*\u00d7x]\s|\s?[-+*\u00d7]\s?[$€£]?[0-9]")
"""What follows a number that is made up before the reader's eyes: `$30 ($10 + $20)`, `3 * 40`."""
_TORN = re.compile(r"(?<=[0-9./-])\s+(?=[0-9./-])")
_WORDS = re.compile(r"[^\W\d_]+")
_LETTER = re.compile(r"[^\W\d_]")


def words_of(folded: str) -> list[str]:
    """The words of a folded text, as they are written."""
    return _WORDS.findall(folded)


def _beside(folded: str, start: int, end: int) -> set[str]:
    """The last two stems of weight before a value, and the first behind it."""
    stop = stop_stems()
    before = [stem for stem in stems(folded, max(0, start - 40), start) if stem not in stop and stem.isalpha()]
    behind = [stem for stem in stems(folded, end, end + 30) if stem not in stop and stem.isalpha()]
    return {*before[-2:], *behind[:1]}


def shares_script(one: str, other: str) -> bool:
    """Whether two folded texts are written in the same letters, as far as their beginnings show."""
    mine: list[str] = _LETTER.findall(one, 0, 2000)
    theirs: list[str] = _LETTER.findall(other, 0, 20_000)
    if not mine or not theirs:
        return True
    latin = [2 * sum(letter < "\u0250" for letter in letters) > len(letters) for letters in (mine, theirs)]
    return latin[0] is latin[1]


_last = threading.local()


def report(trace: Trace) -> Report:
    """The report of a trace; the last one is kept for the graders that follow in the same thread."""
    known: Report | None = getattr(_last, "report", None)
    if known is None or known.trace is not trace:
        known = _last.report = Report(trace)
    return known
