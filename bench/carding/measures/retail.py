"""tau2_retail_paired: what was written against the final database; a standing approval; runs that died."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from bench.carding import stats
from bench.carding.card import Measured, Unit, card, counted, outcome, verdicts
from bench.carding.runs import Run
from gate.policy import Design
from store.types import Outcome


@card("tau2_retail_paired", "tools/expected", "runs")
def write_set(runs: Sequence[Run]) -> Measured:
    """A run is bad when its final database is not the expected one. The same end may be reached by other arguments (another
    item of the same kind), which the case does not name: such runs count against the grader. Runs that died are in."""
    return verdicts(
        Unit(r.cluster, outcome(r, "tools/expected"), not r.record["runs"][r.name]["eval"]["db_match"], r.name)
        for r in runs
    )


@card("tau2_retail_paired", "approval/boundary", "calls", bars={"failures": "0"})
def standing(runs: Sequence[Run]) -> Measured:
    """Every ticket says once that the customer has agreed to any required confirmation, so no write lacks approval and every
    failure is a false alarm."""
    grades = [(r, g) for r in runs for g in r.of("approval/boundary") if g.subject]
    found = counted(runs, (str(g.outcome) for _, g in grades))
    found.counts = dict(sorted(Counter(f"{g.outcome}: {g.label}" for _, g in grades).items()))
    asked = [(r.cluster, g.outcome == Outcome.FAIL) for r, g in grades if g.outcome != Outcome.SKIP]
    found.figures["failures"] = stats.share(asked)
    return found


@card("tau2_retail_paired", "infrastructure", "runs", bars={"recall": "1", "precision": "1"})
def dead(runs: Sequence[Run]) -> Measured:
    """A run died when its log holds a reply that no model gave (`<synthetic>`). No grader: the gate leaves such runs out by the
    patterns of `design.infrastructure` on the error of the root span, here with the default ones."""
    patterns = Design().infrastructure.patterns
    pattern = re.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)", re.IGNORECASE)
    units = []
    for run in runs:
        died = any(m.get("model") == "<synthetic>" for m in run.record["runs"][run.name]["messages"])
        found = bool(run.error and pattern.search(run.error))
        units.append(Unit(run.cluster, str(Outcome.FAIL if found else Outcome.PASS), died))
    return verdicts(units)
