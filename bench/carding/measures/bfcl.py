"""bfcl_v1: function calls against the leaderboard's official verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.carding.card import Measured, Unit, card, counted, outcome, verdicts
from bench.carding.runs import Run


@card("bfcl_v1", "tools/expected", "runs", bars={"agreement": ">= .99"})
def expected(runs: Sequence[Run]) -> Measured:
    """A run is bad when the official checker calls its answer invalid. The case names the accepted calls and values."""
    return verdicts(
        Unit(r.cluster, outcome(r, "tools/expected"), not r.record["runs"][r.name]["valid"], r.record["category"])
        for r in runs
    )


@card("bfcl_v1", "tools/arguments", "calls", informative=True)
def arguments(runs: Sequence[Run]) -> Measured:
    """No label says whether arguments fit the schema. Counted beside the official verdict: calls of runs it calls invalid fail
    more often, if the grader sees anything; many invalid runs are wrong in other ways."""
    grades = [(r, g) for r in runs for g in r.of("tools/arguments") if g.subject]
    found = counted(runs, (str(g.outcome) for _, g in grades))
    tally = Counter(
        f"{g.outcome}{' ' + g.label if g.label else ''}, official verdict"
        f" {'valid' if r.record['runs'][r.name]['valid'] else 'invalid'}"
        for r, g in grades
    )
    found.counts = dict(sorted(tally.items()))
    return found
