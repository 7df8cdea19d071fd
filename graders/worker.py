"""Grades closed traces: finds them, reads them in batches, has them graded, writes.

Promises: everything written has a key of its own (trace, span, grader, subject; trace, call), and a trace is marked as
graded last, so a crash at any point repeats work and doubles nothing; so do two workers on one store. A trace that gets
spans after it was graded is graded again under the next generation; so is one that another trace of its conversation brings
news for. What closed means (`grace_ms` after the root ended, `idle_ms` after the last span without one) is the store's
query. One bad trace never stops the others, nor one that is too large: of an endless one the first spans are graded, as
`truncated`. While one batch is graded, the one before it is written and the next one read.

What grading a batch is, is `graders.batch`'s; whether a process of its own does it, is said by the `judge`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from opentelemetry import trace

from graders.base import GraderSets
from graders.batch import KEEP, Batch, Graded, Item, error_grade, grade_batch, loose, printable
from store import rows
from store.client import MAX_SPANS, Store
from store.errors import OutOfMemory, Retryable, StoreError
from store.types import Completeness

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

_CLOCK_SLACK_MS = 60_000
_OVERTAKEN_MS = 10_000
"""How much later than it arrived something may be seen: an insert takes time. What takes longer is seen a little later."""
_EVERYTHING_MS = 10_000
_MAX_WAIT_S = 30.0
_SPANS_AT_ONCE = 5_000
_MAX_REOPENED = 20
"""Gradings after which news from the conversation no longer reopens a trace."""
_MAX_CROWDS = 10_000
_T = TypeVar("_T")


class Judge(Protocol):
    """Grades one batch at a time, perhaps elsewhere and meanwhile."""

    replaced: int
    """Processes it lost, or had to end."""

    def submit(self, batch: Batch) -> None: ...

    def result(self) -> Graded: ...

    def discard(self) -> None: ...

    def close(self) -> None: ...


class InProcess:
    """Grades right here, without limits: for graders one trusts."""

    def __init__(self, graders: GraderSets) -> None:
        self._graders = graders
        self._batch: Batch | None = None
        self.replaced = 0

    def submit(self, batch: Batch) -> None:
        self._batch = batch

    def result(self) -> Graded:
        assert self._batch is not None
        return grade_batch(self._batch, self._graders)

    def discard(self) -> None:
        self._batch = None

    def close(self) -> None: ...


@dataclass(slots=True)
class Progress:
    """What a worker did since it was made. Written by it, read by whoever wants to know."""

    graded: int = 0
    """Traces, each time they were graded."""
    failed: int = 0
    """Those that could not be assembled, or whose grades could not be kept; each has an error grade that says why."""
    paused: int = 0
    """Batches given up because the store failed; they are tried again."""
    lag_seconds: float = 0.0
    """Since the last span of the oldest trace of the latest batch arrived, the wait until it was closed included."""


class Worker:
    """Keeps the grades of a store up to date."""

    def __init__(
        self,
        store: Store,
        graders: GraderSets,
        *,
        judge: Judge | None = None,
        grace_ms: int = 2_000,
        idle_ms: int = 60_000,
        batch: int = 20_000,
        poll_s: float = 1.0,
        after: Callable[[bytes], None] | None = None,
    ) -> None:
        """`after` is given the grades, as columns of `store.rows`, once they are stored."""
        self._store = store
        self._graders = graders
        self._judge = judge or InProcess(graders)
        self._grace_ms = grace_ms
        self._idle_ms = idle_ms
        self._batch = batch
        self._poll_s = poll_s
        self._after = after
        self._crowds: set[str] = set()
        self._stopped: Callable[[], bool] = lambda: False
        self._since_ms = self._lately_ms = self._everything_at_ms = 0
        self.progress = Progress()

    @property
    def replaced(self) -> int:
        """Grading processes that died or had to be ended."""
        return self._judge.replaced

    def close(self) -> None:
        """End what grades elsewhere."""
        self._judge.close()

    def run_once(self) -> int:
        """Grade one batch of closed traces; says how many there were."""
        started_ms = self._store.now_ms()
        everything = started_ms >= self._everything_at_ms
        closed = self._store.closed_traces(
            grace_ms=self._grace_ms,
            idle_ms=self._idle_ms,
            since_ms=self._since_ms if everything else self._lately_ms,
            limit=self._batch,
        )
        self.progress.lag_seconds = max(0, started_ms - closed[0]["LastIngested"]) / 1000 if closed else 0.0
        self.grade(closed)
        if len(closed) < self._batch and not self._stopped():
            # Whatever arrived longer ago than the idle limit was closed, and is graded by now: no need to look again. What
            # waits for that limit is looked for now and then, what the grace period closes each time.
            self._lately_ms = started_ms - self._grace_ms - _OVERTAKEN_MS
            if everything:
                self._since_ms = max(0, started_ms - self._idle_ms - self._grace_ms - _CLOCK_SLACK_MS)
                self._everything_at_ms = started_ms + min(self._idle_ms // 6, _EVERYTHING_MS)
        return len(closed)

    def run_forever(self, stop: threading.Event) -> None:
        """Grade until `stop` is set. Store failures are waited out."""
        failures, self._stopped = 0, stop.is_set
        while not stop.is_set():
            try:
                graded = self.run_once()
                failures = 0
            except StoreError as error:
                failures += 1
                self.progress.paused += 1
                log.warning("grading paused: %s", error)
                graded = 0
            if graded < self._batch:
                stop.wait(min(self._poll_s * 2 ** min(failures, 10), _MAX_WAIT_S))

    def grade(self, closed: Sequence[dict[str, Any]], only: frozenset[str] = frozenset()) -> None:
        """Grade these traces, rows as `Store.closed_traces` has them. With `only`, those graders alone; the grades of the
        others are carried over to the new generation. Raises `StoreError` if the store cannot be reached."""
        failed: list[list[dict[str, Any]]] = []
        try:
            self._in_turn(closed, only, failed)
        except BaseException:
            self._judge.discard()
            raise
        for row in (row for portion in failed for row in portion):
            self._grade_alone(row, only)

    def _in_turn(
        self, closed: Sequence[dict[str, Any]], only: frozenset[str], failed: list[list[dict[str, Any]]]
    ) -> None:
        """Portion by portion; those that cannot be graded together end up in `failed`."""

        def attempt(portion: list[dict[str, Any]], call: Callable[[], _T]) -> _T | None:
            try:
                return call()
            except Exception as error:
                if isinstance(error, Retryable) and not isinstance(error, OutOfMemory):
                    raise
                log.warning(
                    "%d traces cannot be graded together, trying each alone: %s", len(portion), printable(error)
                )
                failed.append(portion)
                return None

        def land(portion: list[dict[str, Any]], batch: Batch, following: Batch | None = None) -> None:
            with tracer.start_as_current_span("grader.batch", attributes={"traces": len(portion)}):
                graded = attempt(portion, self._judge.result)
                if following is not None:
                    self._judge.submit(following)
                if graded is not None:
                    attempt(portion, lambda: self._write(portion, batch, graded))

        flying: tuple[list[dict[str, Any]], Batch] | None = None
        for portion in _portions(closed):
            if self._stopped():
                break
            if flying and not _conversations(flying[0]).isdisjoint(_conversations(portion)):
                land(*flying)  # its decisions may bear on this portion
                flying = None
            batch = attempt(portion, lambda portion=portion: self._read(portion, only))  # type: ignore[misc]
            if batch is None:
                continue
            if flying:
                land(*flying, following=batch)
            else:
                self._judge.submit(batch)
            flying = portion, batch
        if flying:
            land(*flying)

    def _read(self, portion: Sequence[dict[str, Any]], only: frozenset[str]) -> Batch:
        store, ids = self._store, [row["TraceId"] for row in portion]
        conversations = sorted(_conversations(portion) - self._crowds)
        siblings = store.siblings(conversations)
        if crowds := {conversation for conversation, traces in siblings.items() if not traces}:
            # Looking them up costs what they are large, and is in vain.
            self._crowds = crowds | (self._crowds if len(self._crowds) < _MAX_CROWDS else set())
        known = sorted({sibling.trace_id for traces in siblings.values() for sibling in traces})
        return Batch(
            items=[
                Item(row["TraceId"], row["Generation"] + 1, row["ConversationId"], row["Spans"] > MAX_SPANS)
                for row in portion
            ],
            spans=store.read("spans", ids),
            logs=store.read("logs", ids),
            cases=store.cases([row["TraceId"] for row in portion if row["CaseId"]]),
            siblings=siblings,
            approvals=store.read("related_approvals", known),
            calls=store.read("related_calls", known),
            loose=store.read("logs", list(map(loose, conversations))),
            only=only,
        )

    def _write(self, portion: Sequence[dict[str, Any]], batch: Batch, graded: Graded) -> None:
        only = batch.only
        for trace_id, reason in graded.failed:
            log.error("trace %s: %s", trace_id, reason)
        if only:
            self._store.carry_over([row["TraceId"] for row in portion], only)
        for table, columns in graded.tables.items():
            self._store.insert_columns(table, columns)
        self._store.reopen(graded.reopen, _MAX_REOPENED)
        marks = [self._mark(row, only, found) for row, found in zip(portion, graded.completeness, strict=True)]
        self._store.insert_columns("graded_traces", rows.columns(marks))
        self._reopen_changed_cases(portion, batch)
        if self._after is not None:
            self._after(graded.tables.get("grades", b""))
        self.progress.graded += len(portion)
        self.progress.failed += len(graded.failed)

    def _reopen_changed_cases(self, portion: Sequence[dict[str, Any]], batch: Batch) -> None:
        """A suite kept meanwhile took back the marks it found; those that were not there yet are taken back here."""
        ran = [row["TraceId"] for row in portion if row["CaseId"]]
        used = {trace_id: case.digest for trace_id, case in batch.cases.items()}
        now = {trace_id: case.digest for trace_id, case in self._store.cases(ran).items()}
        self._store.reopen([trace_id for trace_id in ran if used.get(trace_id) != now.get(trace_id)])

    def _grade_alone(self, row: dict[str, Any], only: frozenset[str]) -> None:
        try:
            batch = self._read([row], only)
            self._judge.submit(batch)
            self._write([row], batch, self._judge.result())
        except Exception as error:
            self._judge.discard()
            large = isinstance(error, OutOfMemory)
            if isinstance(error, Retryable) and not large:
                raise
            log.exception("trace %s cannot be graded", row["TraceId"])
            self.progress.failed += 1
            reason = f"{'it is too large to be graded' if large else 'its grades cannot be kept'}: {printable(error)}"
            completeness = Completeness.TRUNCATED if large else Completeness.COMPLETE
            if only:
                self._store.carry_over([row["TraceId"]], only)
            grade = error_grade(row["TraceId"], "", KEEP, reason, row["Generation"] + 1)
            self._store.insert_grades([grade])
            self._store.insert_columns("graded_traces", rows.columns([self._mark(row, only, completeness)]))
            if self._after is not None:
                self._after(rows.columns([rows.grade_row(grade)]))

    def _mark(self, row: dict[str, Any], only: frozenset[str], completeness: Completeness) -> tuple[Any, ...]:
        grader_set = row["GraderSet"] if only else self._graders.digest
        generation, arrived = row["Generation"] + 1, row["LastIngested"]
        return rows.mark_row(row["TraceId"], generation, arrived, completeness, grader_set, row["Spans"])


def _conversations(portion: Sequence[dict[str, Any]]) -> set[str]:
    return {row["ConversationId"] for row in portion if row["ConversationId"]}


def _portions(closed: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """In order, as many traces at a time as have few enough spans together."""
    portion: list[dict[str, Any]] = []
    spans = 0
    for row in closed:
        size = min(row["Spans"], MAX_SPANS)
        if portion and spans + size > _SPANS_AT_ONCE:
            yield portion
            portion, spans = [], 0
        portion.append(row)
        spans += size
    if portion:
        yield portion
