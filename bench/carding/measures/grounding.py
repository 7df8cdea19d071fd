"""begin, wice, expertqa: does the evidence bear the answer out?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from bench.carding import stats
from bench.carding.card import Measured, Unit, card, only, outcome, verdicts
from bench.carding.convert import Record, cited_passage
from bench.carding.measures.truth import truth
from bench.carding.runs import Run
from graders import grader_types
from store.types import Evidence, Outcome

SUPPORT, CITED = truth().support, truth().cited
ANSWER = "answer"
"""What evidence names when it points into the answer."""


def _threshold() -> float | None:
    """From which score the grader that ships calls an answer likely; None if it draws no such line."""
    kind = grader_types().get(SUPPORT)
    field = kind.model_fields.get(truth().support_threshold) if kind else None
    return float(field.default) if field else None


def _support(rows: Iterable[tuple[Run, bool, str]]) -> Measured:
    """Score against label; rows are a run, whether it is supported, and its slice."""
    units = [(run, only(run, SUPPORT), good, part) for run, good, part in rows]
    outcomes = Counter(str(grade.outcome) if grade else str(Outcome.SKIP) for _, grade, _, _ in units)
    measured = Measured(outcomes, len({run.cluster for run, _, _, _ in units}))
    scored = [(run.cluster, good, grade.score) for run, grade, good, _ in units if grade and grade.score is not None]
    certified = [(run.cluster, bool(grade and grade.outcome == Outcome.PASS), good) for run, grade, good, _ in units]
    threshold = _threshold()
    likely = [(c, threshold is not None and score >= threshold, good) for c, good, score in scored]
    measured.figures = {
        "base rate": stats.share((run.cluster, good) for run, _, good, _ in units),
        "AUC": stats.auc(scored),
        "AUC, unscored last": stats.auc(
            (run.cluster, good, grade.score if grade and grade.score is not None else -1.0)
            for run, grade, good, _ in units
        ),
        "balanced accuracy": stats.bootstrap(likely, stats.balanced),
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
    if threshold is not None:
        measured.notes.append(f"balanced accuracy is that of `score >= {threshold:g}`, the threshold it ships with")
    return measured


@card("begin", SUPPORT, "answers", bars={"AUC": ">= .94"})
def attributable(runs: Sequence[Run]) -> Measured:
    """An answer is supported when people called it fully attributable to the passage. Generic answers ("I like that too") are
    left out: there is nothing to support. Certified is what the grader passes."""
    return _support(
        (run, run.record["begin_label"] == "Fully attributable", run.record["model_name"])
        for run in runs
        if run.record["begin_label"] != "Generic"
    )


@card("wice", SUPPORT, "claims", bars={"AUC": ">= .91"})
def supported(runs: Sequence[Run]) -> Measured:
    """A claim is supported or not as people labelled it against the cited page; those supported in part are left out here."""
    return _support(
        (r, r.record["label"] == "supported", "") for r in runs if r.record["label"] != "partially_supported"
    )


@card("wice", SUPPORT, "claims", informative=True)
def wholly_supported(runs: Sequence[Run]) -> Measured:
    """A claim is supported when people labelled it so; supported in part counts as not supported."""
    return _support((r, r.record["label"] == "supported", "") for r in runs)


# --- claim by claim --------------------------------------------------------------------------------------------------


class _Claim(NamedTuple):
    """What a reader judged, and where in the answer it stands, in characters without spaces."""

    support: str
    """As experts labelled it."""
    cited: bool
    passage: bool
    """Whether one of its citations has a passage, not just an address."""
    start: int
    end: int


def _bare(text: str) -> str:
    return "".join(text.split())


def _claims(record: Record) -> tuple[list[_Claim], int]:
    """The claims of an answer in order, and how many cannot be found in it."""
    answer, found, lost, after = _bare(record["answer_string"]), [], 0, 0
    for claim in record["claims"]:
        text = _bare(claim["claim_string"])
        start = answer.find(text, after) if text else -1
        start = answer.find(text) if start < 0 and text else start
        if start < 0:
            lost += 1
            continue
        after = start + len(text)
        evidence = claim["evidence"] or ()
        passage = any(cited_passage(e) for e in evidence)
        found.append(_Claim(claim["support"] or "N/A", bool(evidence), passage, start, after))
    return found, lost


def _places(run: Run, evidence: Iterable[Evidence]) -> Iterator[tuple[int, int]]:
    """Where evidence that points into the answer stands, in characters without spaces."""
    answer = run.record["answer_string"]
    for item in evidence:
        if item.where == ANSWER and item.text:
            start = item.start if item.start is not None else -1
            if start < 0 or not answer.startswith(item.text[:40], start):
                start = answer.find(item.text)
            if start >= 0:
                length = item.end - item.start if item.end is not None and item.start is not None else len(item.text)
                first = len(_bare(answer[:start]))
                yield first, first + len(_bare(answer[start : start + length]))


def _covered(claim: _Claim, places: Iterable[tuple[int, int]]) -> bool:
    """Whether most of a claim stands in these places."""
    inside = sum(max(0, min(end, claim.end) - max(start, claim.start)) for start, end in places)
    return 2 * inside > claim.end - claim.start


@card("expertqa", CITED, "claims")
def uncited(runs: Sequence[Run]) -> Measured:
    """A claim is bad when it carries no citation: experts found no evidence on it and called its support missing. Flagged when
    most of it stands where the grader says that claims have none. Answers that cite nothing at all are skipped by the grader,
    unless its options ask for citations."""
    units, lost = [], 0
    for run in runs:
        grade = only(run, CITED)
        claims, missed = _claims(run.record)
        lost += missed
        places = list(_places(run, grade.evidence)) if grade else []
        for claim in claims:
            said = outcome(run, CITED)
            if said in (Outcome.PASS, Outcome.FAIL):
                said = str(Outcome.FAIL if _covered(claim, places) else Outcome.PASS)
            units.append(Unit(run.cluster, said, not claim.cited, run.record["system"]))
    return _with_lost(verdicts(units), lost)


@card("expertqa", SUPPORT, "claims that cite a passage", bars={"precision of certified": ">= .90"})
def certified(runs: Sequence[Run]) -> Measured:
    """Claims that cite at least one passage, not just an address. A claim is supported when experts called its support
    complete; they opened the link, and saw more than the passage. Claims they could not judge are left out. Certified is a
    claim most of which the grader points at together with the place that certifies it; all others are unverified, which is the
    honest answer where only words are compared."""
    rows: list[tuple[Run, bool, bool, str]] = []
    outcomes: Counter[str] = Counter()
    lost = 0
    for run in runs:
        grade = only(run, SUPPORT)
        claims, missed = _claims(run.record)
        lost += missed
        evidence = grade.evidence if grade else ()
        pairs = pairwise(evidence)
        sure = list(_places(run, (item for item, after in pairs if item.where == ANSWER and after.where != ANSWER)))
        for claim in claims:
            if claim.passage and claim.support in ("Complete", "Partial", "Incomplete", "Missing"):
                said = _covered(claim, sure)
                stopped = outcome(run, SUPPORT) if grade is None or not grade.evidence else Outcome.UNKNOWN
                outcomes[str(Outcome.PASS if said else stopped)] += 1
                rows.append((run, said, claim.support == "Complete", run.record["system"]))
    measured = Measured(outcomes, len({run.cluster for run, _, _, _ in rows}), _certified(rows))
    for name in sorted({system for _, _, _, system in rows}):
        measured.slices[name] = _certified([row for row in rows if row[3] == name])
    return _with_lost(measured, lost)


def _certified(rows: Sequence[tuple[Run, bool, bool, str]]) -> dict[str, stats.Figure]:
    return {
        "base rate": stats.share((run.cluster, good) for run, _, good, _ in rows),
        "precision of certified": stats.share((run.cluster, good) for run, said, good, _ in rows if said),
        "certified": stats.share((run.cluster, said) for run, said, _, _ in rows),
        "unverified": stats.share((run.cluster, not said) for run, said, _, _ in rows),
    }


def _with_lost(measured: Measured, lost: int) -> Measured:
    if lost:
        measured.notes.append(f"{lost} claims do not stand in the answer as experts wrote them down, and are left out")
    return measured
