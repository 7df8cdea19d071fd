"""From stored spans to stored grades: idempotent, crash-safe, and undisturbed by one bad trace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from graders import Grader, GraderSets, Score, Trace, load_graders, passed
from graders import worker as worker_module
from graders.batch import Graded
from graders.testing import conversation
from graders.worker import InProcess, Worker
from store import client as client_module
from store.client import Store
from store.errors import Retryable
from store.types import Case, Span

Send = Callable[..., None]

STEPS: list[dict[str, Any]] = [
    {"user": "Pay 12.50 to Ann"},
    {"assistant": "", "calls": [{"id": "c1", "name": "pay", "arguments": {"to": "Ann", "amount": 12.5}}]},
    {"tool": "pay", "id": "c1", "arguments": {"to": "Ann", "amount": 12.5}, "result": "paid"},
    {"assistant": "I paid 12.50."},
]
GRADERS = {
    "approval/boundary": {"policy": {"tools": [{"match": "pay", "effect": "write"}]}},
    "tools/known": {},
    "evidence/numbers": {},
}


class Fragile(Grader, name="test/fragile", version="1"):
    """Breaks on one trace."""

    def grade(self, trace: Trace) -> Score:
        if trace.trace_id.endswith("2"):
            raise RuntimeError("on purpose")
        return passed()


def spans_of(number: int) -> list[Span]:
    return [replace(s, trace_id=f"{number:032x}") for s in conversation(STEPS).spans]


def worker(store: Store, *more: Grader) -> Worker:
    return Worker(store, GraderSets((*load_graders(GRADERS), *more)), grace_ms=0, idle_ms=600_000, poll_s=0.01)


def grades(store: Store, table: str = "grades FINAL") -> list[tuple[Any, ...]]:
    rows = store.query(f"SELECT TraceId, Grader, Subject, Outcome, Label, Generation FROM {table} ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def test_grades_what_is_closed_once(store: Store, send: Send) -> None:
    send("s1", [*spans_of(1), *spans_of(3)])
    subject = worker(store)
    assert subject.run_once() == 2
    assert subject.run_once() == 0
    one = f"{1:032x}"
    assert [row[1:] for row in grades(store) if row[0] == one] == [
        ("approval/boundary", "c1", "unknown", "not_observable", 1),
        ("evidence/numbers", "", "pass", "supported", 1),
        ("tools/known", "c1", "unknown", "", 1),
    ]
    calls = store.query("SELECT * FROM tool_calls FINAL WHERE TraceId = {t:String}", {"t": one})
    assert len(calls) == 1
    assert calls[0]["CallKey"] == "c1"
    assert calls[0]["Executed"] == "yes"
    assert calls[0]["ApprovalState"] == "not_observable"
    assert calls[0]["Arguments"] == '{"amount":12.5,"to":"Ann"}'
    (mark,) = store.query("SELECT * FROM graded_traces FINAL WHERE TraceId = {t:String}", {"t": one})
    assert (mark["Generation"], mark["Completeness"]) == (1, "complete")
    assert mark["GraderSet"].startswith("sha256:")


def test_late_spans_are_graded_as_the_next_generation(store: Store, send: Send) -> None:
    first, *rest = spans_of(1)
    send("s1", [first, *rest[:-1]])
    subject = worker(store)
    assert subject.run_once() == 1
    time.sleep(0.01)
    send("s2", rest[-1:])
    assert subject.run_once() == 1
    now = {row[1]: (row[3], row[5]) for row in grades(store, "grades_v")}
    assert now["evidence/numbers"] == ("pass", 2)


class Dying:
    """A store whose process dies before or after the n-th write."""

    def __init__(self, store: Store, dies_at: int, after: bool) -> None:
        self._store, self._left, self._after = store, dies_at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in ("insert_columns", "mark_graded"):
            return method

        def write(*rows: Any) -> None:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Retryable("gone")
            method(*rows)
            if self._left == 0:
                raise Retryable("gone")

        return write


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_crash_anywhere_doubles_and_loses_nothing(store: Store, send: Send, dies_at: int, after: bool) -> None:
    send("s1", spans_of(1))
    with pytest.raises(Retryable):
        worker(cast(Store, Dying(store, dies_at, after))).run_once()
    worker(store).run_once()
    assert [row[1:3] for row in grades(store)] == [
        ("approval/boundary", "c1"),
        ("evidence/numbers", ""),
        ("tools/known", "c1"),
    ]
    assert len(store.query("SELECT CallKey FROM tool_calls FINAL")) == 1
    assert worker(store).run_once() == 0


def test_one_bad_trace_stops_no_other(store: Store, send: Send) -> None:
    send("s1", [*spans_of(1), *spans_of(2)])
    assert worker(store, Fragile()).run_once() == 2
    found = {row[0][-1]: row[3] for row in grades(store) if row[1] == "test/fragile"}
    assert found == {"1": "pass", "2": "error"}


class Unkeepable(Grader, name="test/unkeepable", version="1"):
    """Says of one trace what no store can keep."""

    def grade(self, trace: Trace) -> Score:
        return passed("\ud800" if trace.trace_id.endswith("2") else "")


def test_what_cannot_be_kept_stops_no_other(store: Store, send: Send) -> None:
    send("s1", [*spans_of(1), *spans_of(2), *spans_of(3)])
    subject = worker(store, Unkeepable())
    assert subject.run_once() == 3
    assert subject.run_once() == 0, "nor is it tried again and again"
    found = {
        (row[0][-1], row[1], row[3]) for row in grades(store, "grades_v") if row[1].startswith(("test/", "worker/"))
    }
    assert found == {(n, "test/unkeepable", outcome) for n, outcome in (("1", "pass"), ("2", "error"), ("3", "pass"))}
    assert {row[1] for row in grades(store, "grades_v") if row[0][-1] == "2"} == {*GRADERS, "test/unkeepable"}


def test_runs_until_told_to_stop_and_waits_out_failures(store: Store, send: Send) -> None:
    send("s1", spans_of(1))
    stop = threading.Event()
    thread = threading.Thread(target=worker(cast(Store, Dying(store, 1, False))).run_forever, args=(stop,))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not grades(store) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert len(grades(store)) == 3


def test_of_an_endless_trace_the_first_spans_are_graded_as_truncated(
    store: Store, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (client_module, worker_module):
        monkeypatch.setattr(module, "MAX_SPANS", 3)
    endless = spans_of(1)
    more = [
        replace(endless[-1], span_id=f"{number:016x}", start_ns=endless[-1].start_ns + number)
        for number in range(1, 40)
    ]
    send("s1", [*endless, *more])
    send("s2", spans_of(3)[:2])
    assert worker(store).run_once() == 2
    found = store.spans([f"{1:032x}", f"{3:032x}"])
    assert [span.span_id for span in found[f"{1:032x}"]] == [span.span_id for span in endless[:3]]
    assert len(found[f"{3:032x}"]) == 2
    marks = store.query("SELECT TraceId, Completeness FROM graded_traces FINAL ORDER BY TraceId")
    assert [row["Completeness"] for row in marks] == ["truncated", "complete"]
    assert {row["Completeness"] for row in store.query("SELECT Completeness FROM grades WHERE TraceId LIKE '%1'")} == {
        "truncated"
    }


def test_a_trace_too_large_to_be_read_stops_no_other(store: Store, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_READ_BYTES", 100_000)
    large = [replace(span, attributes={**span.attributes, "padding": "x" * 200_000}) for span in spans_of(1)]
    send("s1", [*large, *spans_of(3)])
    subject = worker(store)
    assert subject.run_once() == 2
    assert subject.run_once() == 0
    assert [row[1:4] for row in grades(store) if row[0] == f"{1:032x}"] == [("worker/keep", "", "error")]
    assert {row[1] for row in grades(store) if row[0] == f"{3:032x}"} == set(GRADERS)
    (reason,) = store.query("SELECT Reason FROM grades WHERE Grader = 'worker/keep'")
    assert reason["Reason"].startswith("it is too large to be graded: OutOfMemory: ")


def test_traces_are_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_SPANS_AT_ONCE", 10)
    rows = [{"Spans": spans} for spans in (4, 6, 1, 10**9, 3, 3, 3, 3)]
    assert [[row["Spans"] for row in portion] for portion in worker_module._portions(rows)] == [
        [4, 6],
        [1],
        [10**9],
        [3, 3, 3],
        [3],
    ]
    assert list(worker_module._portions([])) == []


@pytest.mark.parametrize("trace_id", ["", "00" * 16, "00" * 8], ids=["none", "zeros", "short zeros"])
def test_spans_without_a_trace_make_no_trace(store: Store, send: Send, trace_id: str) -> None:
    """They are kept, and would otherwise all be one trace that never ends."""
    send("s1", [*(replace(span, trace_id=trace_id) for span in spans_of(1)), *spans_of(3)])
    assert store.query("SELECT count() AS n FROM otel_traces WHERE TraceId = {t:String}", {"t": trace_id}) == [
        {"n": len(spans_of(1))}
    ]
    assert store.query("SELECT TraceId FROM traces_v") == [{"TraceId": f"{3:032x}"}]
    assert worker(store).run_once() == 1


def test_a_suite_that_is_kept_while_its_traces_are_graded_is_graded_against(store: Store, send: Send) -> None:
    """Between the reading of a trace and its mark there is nothing yet that keeping the suite could take back."""
    case = Case(id="one", bucket="b", digest="sha256:new")

    class Meanwhile(InProcess):
        def result(self) -> Graded:
            store.save_suite("suite", "s1", "{}", [case])
            return super().result()

    labels = {"tracegrade.case.id": "one", "tracegrade.suite": "suite"}
    send("s1", [replace(span, attributes={**span.attributes, **labels}) for span in spans_of(1)])
    graders = GraderSets(load_graders({"evidence/contains": {}}))
    subject = Worker(store, graders, judge=Meanwhile(graders), grace_ms=0, idle_ms=600_000)
    assert [subject.run_once(), subject.run_once(), subject.run_once()] == [1, 1, 0]
    (grade,) = store.query("SELECT CaseDigest, Generation FROM grades_v")
    assert grade == {"CaseDigest": "sha256:new", "Generation": 2}
