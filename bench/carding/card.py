"""What a card is, and how measures are told from each other.

A measure is a function over the graded runs of one set; its docstring says what counts as true. It is registered under the
set and the grader it is about; one set and grader may have several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, NamedTuple

from bench.carding import stats
from bench.carding.runs import Run
from bench.carding.stats import Figure
from store.types import Outcome

Measure = Callable[[Sequence[Run]], "Measured"]


class Unit(NamedTuple):
    """One thing that was judged: what the grader said of it and what is true."""

    cluster: str
    outcome: str
    """`pass`, `fail`, `unknown`, `skip` or `error`."""
    bad: bool = False
    """What the label says."""
    slice: str = ""


@dataclass
class Measured:
    """What a measure found."""

    answers: Mapping[str, int]
    """Units by outcome."""
    clusters: int
    figures: dict[str, Figure] = field(default_factory=dict)
    slices: dict[str, dict[str, Figure]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Units."""
        return sum(self.answers.values())


@dataclass(frozen=True)
class Registered:
    """A measure and what it is about."""

    set: str
    grader: str
    unit: str
    """What is counted, in the plural."""
    measure: Measure
    bars: Mapping[str, str]
    """Figures that have a bar, e.g. {"agreement": ">= .99"}."""
    informative: bool

    @property
    def truth(self) -> str:
        """What the measure compares with."""
        return cleandoc(self.measure.__doc__ or "")

    @property
    def key(self) -> str:
        """Name of the measure."""
        return self.measure.__name__


REGISTERED: list[Registered] = []


def card(
    set_name: str, grader: str, unit: str, *, bars: Mapping[str, str] | None = None, informative: bool = False
) -> Callable[[Measure], Measure]:
    """Register a measure."""

    def register(measure: Measure) -> Measure:
        REGISTERED.append(Registered(set_name, grader, unit, measure, bars or {}, informative))
        return measure

    return register


def verdicts(units: Iterable[Unit], *, by_slice: bool = True) -> Measured:
    """Fail against pass, for units that are bad or not. `unknown` and `skip` find nothing and agree with nothing."""
    rows = list(units)
    found = Measured(Counter(u.outcome for u in rows), len({u.cluster for u in rows}), _verdicts(rows))
    slices = sorted({u.slice for u in rows if u.slice})
    if by_slice and len(slices) > 1:
        found.slices = {name: _verdicts([u for u in rows if u.slice == name], brief=True) for name in slices}
    return found


def _verdicts(rows: Sequence[Unit], *, brief: bool = False) -> dict[str, Figure]:
    decided = [u for u in rows if u.outcome in (Outcome.PASS, Outcome.FAIL)]
    figures = {
        "base rate": stats.share((u.cluster, u.bad) for u in rows),
        "agreement": stats.share((u.cluster, u.outcome == (Outcome.FAIL if u.bad else Outcome.PASS)) for u in rows),
        "precision": stats.share((u.cluster, u.bad) for u in rows if u.outcome == Outcome.FAIL),
        "recall": stats.share((u.cluster, u.outcome == Outcome.FAIL) for u in rows if u.bad),
        "false alarms": stats.share((u.cluster, u.outcome == Outcome.FAIL) for u in rows if not u.bad),
    }
    if not brief:
        pairs = [(u.cluster, u.outcome == Outcome.FAIL, u.bad) for u in decided]
        figures["kappa"] = stats.bootstrap(pairs, stats.kappa)
    return figures


def counted(runs: Sequence[Run], outcomes: Iterable[str]) -> Measured:
    """Outcomes without a truth to compare with."""
    return Measured(Counter(outcomes), len({run.cluster for run in runs}))


def only(run: Run, grader: str) -> Any:
    """The one grade a grader gives a trace; None when it gave none."""
    grades = run.of(grader)
    return grades[0] if grades else None


def outcome(run: Run, grader: str) -> str:
    """Of the one grade of a trace."""
    grade = only(run, grader)
    return str(grade.outcome) if grade is not None else str(Outcome.SKIP)


def by_subject(run: Run, grader: str) -> dict[str, Any]:
    """Grades of single calls by the call's key."""
    return {grade.subject: grade for grade in run.of(grader) if grade.subject}


def measures(set_name: str, graders: Iterable[str] = ()) -> Iterator[Registered]:
    """The measures of a set, of all graders or of some."""
    wanted = set(graders)
    for registered in REGISTERED:
        if registered.set == set_name and (not wanted or registered.grader in wanted):
            yield registered
