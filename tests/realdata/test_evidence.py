"""Graders of answers against evidence, on other people's labels; floors a little below what they reach."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.carding import stats
from bench.carding.convert import Record
from bench.carding.measures.grounding import certified, uncited
from bench.carding.runs import Planned, Run, direct, planned, row
from bench.carding.sets import SETS
from graders import Grader, GraderSets, load_graders, run_graders
from graders.assembler import assemble
from graders.checks.evidence.report import Report
from store.types import Outcome, Trace

CONVICTING = ("contradiction", "quotes", "numbers", "citations", "stale")


def _graders(*names: str) -> tuple[Grader, ...]:
    return load_graders({f"evidence/{name}": {} for name in names})


@pytest.fixture(scope="module")
def plan(data: Path) -> Callable[[str], list[Planned]]:
    """The runs of a set before they are graded."""

    def of(name: str) -> list[Planned]:
        loaded = SETS[name].load(data, "dev")
        assert loaded is not None, f"{name} is missing beside the other sets"
        return list(planned(loaded))

    return of


@pytest.fixture(scope="module")
def graded(data: Path) -> Callable[..., list[Run]]:
    """The runs of a set with the grades of some graders."""

    def of(name: str, *graders: str) -> list[Run]:
        loaded = SETS[name].load(data, "dev")
        assert loaded is not None, f"{name} is missing beside the other sets"
        return list(direct(loaded, planned(loaded), GraderSets(_graders(*graders))))

    return of


def _trace(item: Planned) -> Trace:
    return assemble(sorted(map(row, item.spans), key=lambda span: (span.start_ns, span.span_id)))


class _Scored(NamedTuple):
    document: str
    good: bool
    score: float
    certified: bool


def _scored(runs: Sequence[Run], good: Callable[[Record], bool | None]) -> list[_Scored]:
    found = []
    for run in runs:
        (grade,) = run.of("evidence/support")
        label = good(run.record)
        if label is not None and grade.score is not None:
            found.append(_Scored(run.cluster, label, grade.score, grade.outcome is Outcome.PASS))
    return found


def _auc(rows: Sequence[_Scored]) -> float:
    value = stats.auc((r.document, r.good, r.score) for r in rows).value
    assert value is not None
    return value


def _folds(rows: Sequence[_Scored]) -> Iterator[list[_Scored]]:
    """Halves by document: no threshold or weight may live on one of them."""
    for half in (0, 1):
        yield [r for r in rows if hashlib.sha256(r.document.encode()).digest()[0] % 2 == half]


def test_replies_that_people_called_attributable(graded: Callable[..., list[Run]]) -> None:
    def good(record: Record) -> bool | None:
        return None if record["begin_label"] == "Generic" else record["begin_label"] == "Fully attributable"

    rows = _scored(graded("begin", "support"), good)
    assert len(rows) > 2300
    assert _auc(rows) >= 0.943
    assert min(map(_auc, _folds(rows))) >= 0.935
    sure = [r.good for r in rows if r.certified]
    assert len(sure) > 250
    assert sum(sure) / len(sure) >= 0.93
    likely = [(r.good, r.score >= 0.55) for r in rows]
    assert sum(good is said for good, said in likely) / len(likely) >= 0.84


def test_claims_that_people_called_supported_by_a_page(graded: Callable[..., list[Run]]) -> None:
    runs = graded("wice", "support")
    rows = _scored(runs, lambda r: None if r["label"] == "partially_supported" else r["label"] == "supported")
    assert _auc(rows) >= 0.92
    assert min(map(_auc, _folds(rows))) >= 0.86  # each half has some twenty unsupported claims
    assert _auc(_scored(runs, lambda r: r["label"] == "supported")) >= 0.79


def test_claims_of_experts(graded: Callable[..., list[Run]]) -> None:
    """Certified are few: answers are written in the model's own words. Of those that experts did not call complete, most stand
    in the passage word for word."""
    runs = graded("expertqa", "support", "cited")
    sure = certified(runs).figures
    assert sure["certified"].value >= 0.015
    assert sure["precision of certified"].value >= 0.85
    assert sure["unverified"].value >= 0.9
    bare = uncited(runs).figures
    assert bare["precision"].value >= 0.95
    assert bare["recall"].value >= 0.8


def test_nothing_is_convicted_that_people_called_supported(graded: Callable[..., list[Run]]) -> None:
    """Two claims of the page give a day that the page says in other words."""
    wrong: Counter[str] = Counter()
    judged = 0
    for name, good in (("begin", "Fully attributable"), ("wice", "supported")):
        for run in graded(name, *CONVICTING):
            if (run.record.get("begin_label") or run.record.get("label")) == good:
                judged += 1
                wrong.update(grader for grader, grades in run.grades.items() if grades[0].outcome is Outcome.FAIL)
    assert judged > 900
    assert wrong["evidence/contradiction"] == 0
    assert wrong.total() <= 5, wrong


def test_hard_findings_on_real_answers_are_few(plan: Callable[[str], list[Planned]]) -> None:
    """Every one of them was read: those left are values that stand nowhere, some of them in texts the agent was to make up."""
    graders = _graders(*CONVICTING)
    found: Counter[str] = Counter()
    answers = 0
    for name in ("tau_bench_airline", "trail", "tau2_retail_paired", "agentdojo"):
        for item in plan(name):
            trace = _trace(item)
            answers += bool(trace.answer)
            found.update(g.grader for g in run_graders(graders, trace) if g.outcome is Outcome.FAIL)
    assert answers > 1900
    assert found["evidence/contradiction"] <= 2
    assert found["evidence/numbers"] <= 25
    assert found["evidence/quotes"] <= 4
    assert found["evidence/citations"] <= 2


_DIGITS = re.compile(r"(?<![\w.,/-])[1-9][0-9]{1,5}(?![\w.,/%-])")


def test_a_number_changed_at_random_is_noticed(plan: Callable[[str], list[Planned]]) -> None:
    """In answers that people called attributable: convicted, or said to be possibly derived; hardly ever certified."""
    support, numbers = _graders("support", "numbers")
    random.seed(11)
    changed: Counter[str] = Counter()
    for item in plan("begin"):
        if item.record["begin_label"] != "Fully attributable":
            continue
        trace = _trace(item)
        match = _DIGITS.search(trace.answer)
        if match is None:
            continue
        digits = match[0]
        other = str(random.randint(10 ** (len(digits) - 1), 10 ** len(digits) - 1))
        if other == digits or int(other) <= 10 or other in item.record["knowledge"]:
            continue
        answer = trace.answer[: match.start()] + other + trace.answer[match.end() :]
        first, second = run_graders([support, numbers], replace(trace, answer=answer))
        changed["all"] += 1
        changed["certified"] += first.label == "certified"
        changed[second.outcome] += 1
    assert changed["all"] > 60
    assert changed["certified"] == 0
    assert changed[Outcome.FAIL] >= 0.8 * changed["all"], changed
    assert changed[Outcome.PASS] <= 0.02 * changed["all"], changed


def test_what_is_pointed_at_is_there(plan: Callable[[str], list[Planned]]) -> None:
    """Offsets name the text they quote, in the answer and in what tools returned."""
    support, contradiction = _graders("support", "contradiction")
    seen = 0
    for item in plan("tau2_retail_paired")[:60] + plan("begin")[:300]:
        trace = _trace(item)
        texts = {"answer": {trace.answer}, "result": {call.result for call in trace.tool_calls}}
        for grade in run_graders([support, contradiction], trace):
            for piece in grade.evidence:
                if piece.where in texts and piece.start is not None and piece.end is not None:
                    where, cut = texts[piece.where], slice(piece.start, piece.end)
                    assert any(text[cut][: len(piece.text)] == piece.text for text in where), (item.record["id"], piece)
                    seen += 1
    assert seen > 500
    assert Report(trace).answer.raw == trace.answer
