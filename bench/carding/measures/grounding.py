"""begin, wice, expertqa: does the evidence bear the answer out?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bench.carding import stats
from bench.carding.card import Measured, card, only
from bench.carding.measures.truth import truth
from bench.carding.runs import Run
from store.types import Outcome

SUPPORT = truth().support


def _support(rows: Iterable[tuple[Run, bool, str]]) -> Measured:
    """Score against label; rows are a run, whether it is supported, and its slice."""
    units = [(run, only(run, SUPPORT), good, part) for run, good, part in rows]
    outcomes = Counter(str(grade.outcome) if grade else str(Outcome.SKIP) for _, grade, _, _ in units)
    measured = Measured(outcomes, len({run.cluster for run, _, _, _ in units}))
    scored = [(run.cluster, good, grade.score) for run, grade, good, _ in units if grade and grade.score is not None]
    certified = [(run.cluster, bool(grade and grade.outcome == Outcome.PASS), good) for run, grade, good, _ in units]
    measured.figures = {
        "base rate": stats.share((run.cluster, good) for run, _, good, _ in units),
        "AUC": stats.auc(scored),
        "balanced accuracy": stats.bootstrap(certified, stats.balanced),
        "certified": stats.share((cluster, said) for cluster, said, _ in certified),
        "precision of certified": stats.share((cluster, good) for cluster, said, good in certified if said),
        "without a score": stats.share((run.cluster, not grade or grade.score is None) for run, grade, _, _ in units),
    }
    for name in sorted({part for _, _, _, part in units if part}):
        measured.slices[name] = {
            "AUC": stats.auc(
                (run.cluster, good, grade.score)
                for run, grade, good, part in units
                if part == name and grade and grade.score is not None
            )
        }
    return measured


@card("begin", SUPPORT, "answer", bars={"AUC": ">= .94"})
def attributable(runs: Sequence[Run]) -> Measured:
    """An answer is supported when people called it fully attributable to the passage. Generic answers ("I like that too") are
    left out: there is nothing to support. Certified is what the grader passes, at the threshold it ships with."""
    return _support(
        (run, run.record["begin_label"] == "Fully attributable", run.record["model_name"])
        for run in runs
        if run.record["begin_label"] != "Generic"
    )


@card("wice", SUPPORT, "claim", bars={"AUC": ">= .91"})
def supported(runs: Sequence[Run]) -> Measured:
    """A claim is supported or not as people labelled it against the cited page; those supported in part are left out here."""
    return _support(
        (r, r.record["label"] == "supported", "") for r in runs if r.record["label"] != "partially_supported"
    )


@card("wice", SUPPORT, "claim", informative=True)
def wholly_supported(runs: Sequence[Run]) -> Measured:
    """A claim is supported when people labelled it so; supported in part counts as not supported."""
    return _support((r, r.record["label"] == "supported", "") for r in runs)
