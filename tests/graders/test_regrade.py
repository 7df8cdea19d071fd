"""Grading again what is stored: all or some graders, in parts, and on from where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from graders import Grader, GraderSets, Score, Trace, passed
from graders.regrade import Regrade, Selection
from graders.testing import conversation
from graders.worker import Worker
from store.client import Store
from store.types import Span
from store.yamlfile import ConfigError

Send = Callable[..., None]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
STEPS = [
    {"user": "Pay 12.50 to Ann"},
    {"assistant": "", "calls": [{"id": "c1", "name": "pay", "arguments": {"to": "Ann"}}]},
    {"tool": "pay", "id": "c1", "arguments": {"to": "Ann"}, "result": "paid"},
]


class First(Grader, name="test/first", version="1"):
    """Says what it is told to."""

    says: str = "old"

    def grade(self, trace: Trace) -> Score:
        return passed(self.says)


class Second(First, name="test/second", version="1"):
    """The same again."""


def spans_of(number: int, service: str = "") -> list[Span]:
    return [replace(s, trace_id=f"{number:032x}", service=service) for s in conversation(STEPS).spans]


def sets(first: str = "old", second: str = "old") -> GraderSets:
    return GraderSets([First(says=first), Second(says=second)])


def graded(store: Store, graders: GraderSets) -> int:
    return Worker(store, graders, grace_ms=0, idle_ms=600_000).run_once()


def regrade(store: Store, configured: GraderSets, **selection: Any) -> Regrade:
    chosen = Selection(**{"since": LONG_AGO, **selection})
    return Regrade(store, configured, Worker(store, configured), chosen, grace_ms=0, idle_ms=600_000)


def run(store: Store, configured: GraderSets, **selection: Any) -> int:
    made = regrade(store, configured, **selection)
    made.run()
    assert made.progress.finished
    assert made.progress.graded == made.progress.total
    return made.progress.graded


def grades(store: Store) -> set[tuple[str, str, str, int]]:
    rows = store.query("SELECT TraceId, Grader, Reason, Generation FROM grades_v")
    assert len(rows) == len({(row["TraceId"], row["Grader"]) for row in rows}), "each counts once"
    return {(row["TraceId"][-1], row["Grader"][5:], row["Reason"], row["Generation"]) for row in rows}


def test_only_what_other_graders_graded_is_graded_again(store: Store, send: Send) -> None:
    send("s1", [*spans_of(1), *spans_of(2)])
    graded(store, sets())
    assert run(store, sets()) == 0
    assert run(store, sets(first="new")) == 2
    assert grades(store) == {(n, *rest, 2) for n in "12" for rest in (("first", "new"), ("second", "old"))}
    assert run(store, sets(first="new")) == 0


def test_traces_never_graded_are_graded(store: Store, send: Send) -> None:
    send("s1", spans_of(1))
    assert run(store, sets()) == 1
    assert run(store, sets()) == 0
    assert graded(store, sets()) == 0, "the worker sees that"


def test_one_grader_alone_leaves_the_grades_of_others_as_they_are(store: Store, send: Send) -> None:
    send("s1", spans_of(1))
    graded(store, sets())
    (before,) = store.query("SELECT * EXCEPT Generation FROM grades_v WHERE Grader = 'test/second'")
    calls = store.query("SELECT * EXCEPT Generation FROM tool_calls_v")
    assert len(calls) == 1
    time.sleep(0.01)
    now = sets(first="new", second="new")
    assert run(store, now, graders=("test/first",)) == 1
    assert grades(store) == {("1", "first", "new", 2), ("1", "second", "old", 2)}
    assert store.query("SELECT * EXCEPT Generation FROM grades_v WHERE Grader = 'test/second'") == [before]
    assert store.query("SELECT * EXCEPT Generation FROM tool_calls_v") == calls
    assert run(store, now, graders=("test/first",)) == 0
    assert run(store, now) == 1, "the set as a whole is still another one"
    assert grades(store) == {("1", "first", "new", 3), ("1", "second", "new", 3)}
    assert run(store, now, graders=("test/second",)) == 0


def test_one_grader_alone_on_what_was_never_graded_or_has_grown_means_all(store: Store, send: Send) -> None:
    first, *rest = spans_of(1)
    send("s1", [first, *rest[:-1]])
    graded(store, sets())
    time.sleep(0.01)
    send("s2", [*rest[-1:], *spans_of(2)])
    assert run(store, sets(first="new", second="new"), graders=("test/first",)) == 2
    assert {row[1:3] for row in grades(store)} == {("first", "new"), ("second", "new")}


def test_shards_share_the_work(store: Store, send: Send) -> None:
    send("s1", [span for number in range(40) for span in spans_of(number + 1)])
    done = [run(store, sets(), shard=shard, shards=3) for shard in (1, 2, 3)]
    assert sum(done) == 40
    assert min(done) > 3
    assert run(store, sets()) == 0


def test_it_goes_on_where_it_was(store: Store, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graders.regrade._STEP", 2)
    monkeypatch.setattr("graders.regrade.PAGE", 4)
    send("s1", [span for number in range(11) for span in spans_of(number + 1)])
    cut = regrade(store, sets())
    cut.run(stopped=lambda: cut.progress.graded >= 6)
    assert (cut.progress.total, cut.progress.graded, cut.progress.finished) == (11, 6, False)
    reports: list[int] = []
    rest = regrade(store, sets())
    rest.run(report=lambda: reports.append(rest.progress.graded))
    assert (rest.progress.total, rest.progress.graded, rest.progress.finished) == (5, 5, True)
    assert reports == sorted(reports)


def test_the_same_graders_grade_again_what_they_graded_before_a_time(store: Store, send: Send) -> None:
    send("s1", spans_of(1))
    graded(store, sets())
    hour = timedelta(hours=1)
    for graders in ((), ("test/first",)):
        assert run(store, sets(), graders=graders, graded_before=datetime.now(UTC) - hour) == 0
        assert run(store, sets(), graders=graders, graded_before=datetime.now(UTC) + hour) == 1


def test_by_service_and_time_of_arrival(store: Store, send: Send) -> None:
    send("s1", [*spans_of(1, "shop"), *spans_of(2, "bank")])
    now, hour = datetime.now(UTC), timedelta(hours=1)
    assert run(store, sets(), since=now + hour) == 0
    assert run(store, sets(), until=now - hour) == 0
    assert run(store, sets(), service="nobody") == 0
    assert run(store, sets(), service="shop", since=now - hour, until=now + hour) == 1
    assert {row[0] for row in grades(store)} == {"1"}


def test_open_traces_are_left_alone(store: Store, send: Send) -> None:
    send("s1", spans_of(1)[1:])
    assert run(store, sets()) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"shard": 3, "shards": 2},
        {"shard": 0},
        {"since": "soon"},
        {"sinse": LONG_AGO},
        {"until": LONG_AGO},
        {"since": "2026-11-02", "until": "2026-11-01T00:00:00Z"},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selection(**{"since": LONG_AGO, **wrong})


def test_an_unknown_grader_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"test/none: no such grader; known: test/first, test/second"):
        regrade(store, sets(), graders=("test/none",))
