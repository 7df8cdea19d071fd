"""When a trace is open, closed, late; how complete it then is said to be. On a real engine, as things arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from graders import Grader, GraderSets, Score, Trace, passed
from graders.testing import START_NS, agent, conversation, tool
from graders.worker import Worker
from store.client import Store
from store.types import Completeness, LogEvent, Span

Send = Callable[..., None]
HOUR = 3_600_000_000_000
TRACE = f"{1:032x}"
EVER = 10**9


class Counts(Grader, name="test/counts", version="1"):
    """Says how many spans it saw, and how long the trace took."""

    def grade(self, trace: Trace) -> Score:
        root = trace.root
        assert root is not None
        return passed(f"{len(trace.spans)} spans, root {root.name}, calls {len(trace.tool_calls)}")


def root(span_id: str = "a" * 16, **fields: Any) -> Span:
    return replace(agent(span_id=span_id), trace_id=TRACE, **fields)


def child(span_id: str = "b" * 16, parent: str = "a" * 16, **fields: Any) -> Span:
    made = tool("search", {"q": "x"}, "found", call_id=span_id, span_id=span_id, parent=parent, start=10, end=20)
    return replace(made, trace_id=TRACE, **fields)


def grade(store: Store, *, grace_ms: int = 0, idle_ms: int = EVER) -> int:
    return Worker(store, GraderSets([Counts()]), grace_ms=grace_ms, idle_ms=idle_ms).run_once()


def found(store: Store) -> tuple[int, str, str]:
    """(generation, completeness, reason) of the grade that counts."""
    (row,) = store.query("SELECT Generation, Completeness, Reason FROM grades_v WHERE Grader = 'test/counts'")
    (mark,) = store.query("SELECT Generation, Completeness FROM graded_traces FINAL")
    assert mark == {"Generation": row["Generation"], "Completeness": row["Completeness"]}
    return row["Generation"], row["Completeness"], row["Reason"]


ARRIVALS: list[tuple[str, Sequence[Span], bool, str, str]] = [
    # name, spans, whether the grace period closes it (or only the idle limit), completeness, what is graded
    ("root and child", [root(), child()], True, "complete", "2 spans, root invoke_agent agent, calls 1"),
    ("root alone", [root()], True, "complete", "1 spans, root invoke_agent agent, calls 0"),
    ("no root", [child()], False, "root_missing", "1 spans, root execute_tool search, calls 1"),
    ("a parent that was sampled out", [root(), child(parent="e" * 16)], True, "orphaned", "2 spans, root invoke"),
    ("a remote parent that never comes", [root(parent_span_id="e" * 16)], False, "root_missing", "1 spans"),
    ("two roots", [root(), root("c" * 16, start_ns=START_NS + HOUR)], True, "complete", "2 spans, root invoke"),
    ("attributes dropped by the sender", [root(), child(dropped_attributes=3)], True, "truncated", "2 spans"),
    ("a child before its parent", [root(), child(start_ns=START_NS - HOUR)], True, "complete", "2 spans, root invoke"),
    ("a child hours off", [root(), child(start_ns=START_NS + 9 * HOUR, end_ns=START_NS + 10 * HOUR)], True,
     "complete", "2 spans, root invoke_agent agent, calls 1"),
    ("an end before the start", [root(end_ns=START_NS - HOUR), child(end_ns=1)], True, "complete", "2 spans"),
    ("times in the far future", [root(start_ns=2**62, end_ns=2**62 + 5), child(start_ns=2**62, end_ns=2**63)], True,
     "complete", "2 spans"),
    ("times of zero", [root(start_ns=0, end_ns=0), child(start_ns=0, end_ns=0)], True, "complete", "2 spans"),
    ("its own parent", [root(), child(parent="b" * 16)], True, "complete", "2 spans"),
    ("a cycle without root", [child(parent="c" * 16), child("c" * 16, parent="b" * 16)], False, "root_missing", "2 spans"),
    ("a span at its start and at its end", [root(end_ns=START_NS), root(), child()], True, "complete", "2 spans"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spans", "at_once", "completeness", "reason"), [c[1:] for c in ARRIVALS], ids=[c[0] for c in ARRIVALS]
)
def test_how_a_trace_closes(
    store: Store, send: Send, spans: Sequence[Span], at_once: bool, completeness: str, reason: str
) -> None:
    send("s1", spans)
    assert grade(store, grace_ms=EVER) == 0, "while things may still come, it is open"
    assert grade(store) == at_once
    if not at_once:
        assert grade(store, idle_ms=0) == 1
    generation, complete, said = found(store)
    assert (generation, complete) == (1, completeness)
    assert said.startswith(reason)
    assert grade(store, idle_ms=0) == 0, "once"


def test_a_span_sent_at_its_start_and_at_its_end_is_taken_as_it_ended(store: Store, send: Send) -> None:
    for number, ends in enumerate(([START_NS, START_NS + 500], [START_NS + 500, START_NS])):
        for part, end in enumerate(ends):
            send(f"s{number}{part}", [replace(root(end_ns=end), trace_id=f"{number + 1:032x}")])
    spans = store.spans([f"{n:032x}" for n in (1, 2)])
    assert [span.end_ns - span.start_ns for trace in spans.values() for span in trace] == [500, 500]


LATE: list[tuple[str, dict[str, Any], str]] = [
    ("the rest of it", {"spans": [child()]}, "complete"),
    ("a second root", {"spans": [root("c" * 16)]}, "complete"),
    ("an orphan", {"spans": [child(parent="e" * 16)]}, "orphaned"),
    ("a span from years ago", {"spans": [child(start_ns=HOUR, end_ns=2 * HOUR)]}, "complete"),
    ("a span from the future", {"spans": [child(start_ns=2**62, end_ns=2**62)]}, "complete"),
    ("a log event", {"logs": [LogEvent(START_NS, "gen_ai.choice", TRACE, "a" * 16)]}, "complete"),
]


@pytest.mark.parametrize(("late", "completeness"), [c[1:] for c in LATE], ids=[c[0] for c in LATE])
def test_what_comes_late_makes_a_new_generation(
    store: Store, send: Send, late: dict[str, Any], completeness: str
) -> None:
    send("s1", [root()])
    assert grade(store) == 1
    time.sleep(0.01)
    send("s2", **late)
    assert grade(store, grace_ms=EVER) == 0, "it is open again"
    assert found(store)[0] == 1, "and what was found counts meanwhile"
    assert grade(store) == 1
    assert found(store)[:2] == (2, completeness)
    assert grade(store) == 0


def test_what_began_to_arrive_first_and_was_there_last_is_late_too(store: Store, send: Send) -> None:
    """An insert that takes long has an arrival before that of one that overtook it."""
    send("s1", [root()])
    row = store.query("SELECT * FROM traces")[0]
    assert grade(store) == 1
    slow = {
        "TraceId": TRACE,
        "SpanRows": 1,
        "AgentSpanRows": 1,
        "LastIngested": row["LastIngested"] - timedelta(seconds=9),
    }
    store.insert("traces", [{**row, **slow}])
    assert grade(store) == 1
    assert found(store)[0] == 2
    assert grade(store) == 0


def test_the_root_may_come_last(store: Store, send: Send) -> None:
    send("s1", [child()])
    assert grade(store, idle_ms=0) == 1
    assert found(store)[:2] == (1, "root_missing")
    time.sleep(0.01)
    send("s2", [root()])
    assert grade(store) == 1
    assert found(store) == (2, "complete", "2 spans, root invoke_agent agent, calls 1")


def test_the_same_again_is_graded_again_to_the_same(store: Store, send: Send) -> None:
    """A client that lost the answer repeats its request: nobody can know that it brings nothing new."""
    for segment in ("s1", "s2"):
        send(segment, [root(), child()])
        assert grade(store) == 1
        time.sleep(0.01)
    assert found(store) == (2, "complete", "2 spans, root invoke_agent agent, calls 1")


def test_a_log_event_without_spans_waits_for_them(store: Store, send: Send) -> None:
    send("s1", logs=[LogEvent(START_NS, "gen_ai.choice", TRACE, "a" * 16)])
    assert grade(store, idle_ms=0) == 0
    send("s2", [root()])
    assert grade(store) == 1


def test_a_worker_whose_clock_is_wrong_misses_nothing(
    store: Store, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old enough to be left unread is told by the store's clock."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 24 * HOUR)
    subject = Worker(store, GraderSets([Counts()]), grace_ms=0, idle_ms=60_000)
    assert subject.run_once() == 0
    send("s1", [root()])
    assert subject.run_once() == 1


def test_every_completeness_is_met_here() -> None:
    assert {case[3] for case in ARRIVALS} == {str(kind) for kind in Completeness}
    assert conversation([]).completeness is Completeness.COMPLETE
