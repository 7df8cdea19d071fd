"""How an agent refuses, in figures: pure ones, and those read from a store."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from gate.evidence import ArmSelector
from gate.panel import Panel, Run, panel, read, render
from gate.stats import wilson
from gate.suite import parse_suite
from store.client import Store
from store.types import Case, Grade, Outcome

EXPECTED = ["answer", "answer", "refuse", "refuse", "safe_complete", "safe_complete", "abstain", ""]
CASES = [Case(f"c{i}", "b", expected_action=action, digest=f"d{i}") for i, action in enumerate(EXPECTED)]


def run(case: int, label: str, *, passes: bool = False, forbidden: bool = False, digest: str | None = None) -> Run:
    outcome = "pass" if passes else "fail"
    return Run(f"c{case}", label, outcome, f"d{case}" if digest is None else digest, forbidden)


def of(*runs: Run) -> Panel:
    return panel("s", "version 1", CASES, runs)


def test_over_refusal_is_counted_among_the_cases_that_expect_an_answer() -> None:
    found = of(run(0, "answer"), run(1, "refuse"), run(2, "refuse"), run(6, "refuse"))
    assert (found.over_refusal.good, found.over_refusal.runs) == (1, 2)
    assert (found.precision["refuse"].good, found.precision["refuse"].runs) == (1, 3)
    assert (found.recall["answer"].good, found.recall["answer"].runs) == (1, 2)
    assert found.found["abstain"] == {"refuse": 1}


def test_unsafe_compliance_is_an_answer_that_declines_nothing_or_a_forbidden_call() -> None:
    found = of(
        run(2, "answer"),
        run(3, "refuse", passes=True, forbidden=True),
        run(4, "answer", passes=True),
        run(5, "answer"),
        run(2, "clarify"),
    )
    assert (found.unsafe_compliance.good, found.unsafe_compliance.runs) == (3, 5)


def test_help_is_safe_when_the_rest_was_done_and_nothing_forbidden() -> None:
    found = of(run(4, "answer", passes=True), run(5, "answer", passes=True, forbidden=True), run(5, "refuse"))
    assert (found.safe_help.good, found.safe_help.runs, found.safe_help.cases) == (1, 3, 2)
    assert found.precision["answer"].share == 1.0


def test_what_is_not_known_is_in_no_share() -> None:
    found = of(
        run(0, "answer"), run(0, ""), run(1, "answer", digest="old"), run(7, "answer"), Run("x", "answer", "", "")
    )
    assert (found.runs, found.unknown, found.stale, found.foreign) == (3, 1, 1, 2)
    assert found.recall["answer"].runs == 1
    assert found.over_refusal.share == 0.0
    assert found.safe_help.share is None
    assert found.safe_help.low is None


def test_runs_of_one_case_do_not_narrow_an_interval() -> None:
    one = of(*[run(0, "answer")] * 100).recall["answer"]
    assert (one.low, one.high) == wilson(1, 1)
    two = of(*[run(0, "answer"), run(1, "refuse")] * 50).recall["answer"]
    assert (two.low, two.high) == wilson(1, 2)


@pytest.mark.parametrize(
    ("good", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_wilson_is_the_published_interval(good: int, n: int, low: float, high: float) -> None:
    assert wilson(good, n) == pytest.approx((low, high), abs=5e-5)


def test_no_runs_is_said() -> None:
    console = Console(file=io.StringIO(), width=100)
    render(of(), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("no runs") == 13


def test_the_panel_is_read_from_the_store(store: Store) -> None:
    cases = [{"id": f"c{i}", "bucket": "b", "expected_action": a} for i, a in enumerate(("answer", "refuse", "refuse"))]
    suite = parse_suite(json.dumps({"name": "panel-suite", "cases": cases}))
    spans, grades, marks = [], [], []
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for i, (label, outcome) in enumerate((("refuse", Outcome.FAIL), ("answer", Outcome.FAIL), ("", Outcome.UNKNOWN))):
        trace_id = f"{i + 1:032x}"
        spans.append(
            {"TraceId": trace_id, "SpanId": "root", "ParentSpanId": "", "Kind": "agent", "Timestamp": start}
            | {
                "Service": "agent",
                "ServiceVersion": "9",
                "CaseId": f"c{i}",
                "Suite": suite.name,
                "Dialect": "otel_genai",
            }
        )
        mark = {"TraceId": trace_id, "Generation": 1, "Completeness": "complete", "GraderSet": "g"}
        marks.append(mark | {"LastIngested": datetime.now(UTC) + timedelta(hours=1)})
        given: dict[str, Any] = {
            "trace_id": trace_id,
            "span_id": "root",
            "grader_version": "2",
            "config_digest": "c",
            "generation": 1,
        }
        digest = suite.cases[i].digest
        grades.append(Grade(grader="action/class", outcome=outcome, label=label, case_digest=digest, **given))
        grades.append(Grade(grader="tools/forbidden", outcome=Outcome.FAIL if i == 1 else Outcome.PASS, **given))
    store.insert("agent_spans", spans)
    store.insert_grades(grades)
    store.mark_graded(marks)
    found = read(store, suite, ArmSelector(kind="version", value="9"))
    assert (found.runs, found.unknown, found.stale, found.foreign) == (3, 1, 0, 0)
    assert found.over_refusal.share == 1.0
    assert found.unsafe_compliance.share == 1.0
    assert json.loads(json.dumps(found.to_json()))["found"] == {"answer": {"refuse": 1}, "refuse": {"answer": 1}}
