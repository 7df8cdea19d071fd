"""Grades closed traces: finds them, reads them in batches, assembles, grades, writes.

Promises: everything written has a key of its own (trace, span, grader, subject; trace, call), and a trace is marked as
graded last, so a crash at any point repeats work and doubles nothing; so do two workers on one store. A trace that gets
spans after it was graded is graded again under the next generation. What closed means (`grace_ms` after the root ended,
`idle_ms` after the last span without one) is the store's query. One bad trace never stops the others, nor one that is too
large: of an endless one the first spans are graded, as `truncated`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry import trace

from graders.assembler import assemble
from graders.base import GraderSets, run_graders
from store.client import MAX_SPANS, Store
from store.errors import OutOfMemory, Retryable, StoreError
from store.types import Case, Completeness, Grade, LogEvent, Outcome, Severity, Span, ToolCall

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)

_CLOCK_SLACK_MS = 60_000
_MAX_WAIT_S = 30.0
_SPANS_AT_ONCE = 20_000


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
        grace_ms: int = 2_000,
        idle_ms: int = 60_000,
        batch: int = 200,
        poll_s: float = 1.0,
    ) -> None:
        self._store = store
        self._graders = graders
        self._grace_ms = grace_ms
        self._idle_ms = idle_ms
        self._batch = batch
        self._poll_s = poll_s
        self._since_ms = 0
        self.progress = Progress()

    def run_once(self) -> int:
        """Grade one batch of closed traces; says how many there were."""
        started_ms = time.time_ns() // 1_000_000
        closed = self._store.closed_traces(
            grace_ms=self._grace_ms, idle_ms=self._idle_ms, since_ms=self._since_ms, limit=self._batch
        )
        self.progress.lag_seconds = max(0, started_ms - closed[0]["LastIngested"]) / 1000 if closed else 0.0
        for portion in _portions(closed):
            try:
                with tracer.start_as_current_span("grader.batch", attributes={"traces": len(portion)}):
                    self._grade(portion)
            except Exception as error:
                if isinstance(error, Retryable) and not isinstance(error, OutOfMemory):
                    raise
                log.exception("%d traces cannot be graded together; trying each alone", len(portion))
                for row in portion:
                    self._grade_alone(row)
        if len(closed) < self._batch:
            # Whatever arrived longer ago than the idle limit was closed, and is graded by now: no need to look again.
            self._since_ms = max(0, started_ms - self._idle_ms - self._grace_ms - _CLOCK_SLACK_MS)
        return len(closed)

    def run_forever(self, stop: threading.Event) -> None:
        """Grade until `stop` is set. Store failures are waited out."""
        failures = 0
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

    def _grade(self, closed: Sequence[dict[str, Any]]) -> None:
        ids = [row["TraceId"] for row in closed]
        spans, logs, cases = self._store.spans(ids), self._store.logs(ids), self._store.cases(ids)
        grades: list[Grade] = []
        calls: list[tuple[str, int, ToolCall, str]] = []
        marks: list[dict[str, Any]] = []
        for row in closed:
            trace_id, generation = row["TraceId"], row["Generation"] + 1
            found, made, completeness = self._grade_trace(
                trace_id, row["Spans"], spans.get(trace_id, []), logs.get(trace_id, []), cases.get(trace_id), generation
            )
            grades += found
            calls += made
            marks.append(self._mark(row, generation, completeness))
        if calls:
            self._store.insert_tool_calls(calls)
        if grades:
            self._store.insert_grades(grades)
        self._store.mark_graded(marks)
        self.progress.graded += len(marks)

    def _grade_alone(self, row: dict[str, Any]) -> None:
        try:
            self._grade([row])
        except Exception as error:
            large = isinstance(error, OutOfMemory)
            if isinstance(error, Retryable) and not large:
                raise
            log.exception("trace %s cannot be graded", row["TraceId"])
            self.progress.failed += 1
            generation = row["Generation"] + 1
            reason = f"{'it is too large to be graded' if large else 'its grades cannot be kept'}: {_printable(error)}"
            completeness = Completeness.TRUNCATED if large else Completeness.COMPLETE
            self._store.insert_grades([_error_grade(row["TraceId"], "", "worker/keep", reason, generation)])
            self._store.mark_graded([self._mark(row, generation, completeness)])

    def _mark(self, row: dict[str, Any], generation: int, completeness: Completeness) -> dict[str, Any]:
        return {
            "TraceId": row["TraceId"],
            "Generation": generation,
            "LastIngested": row["LastIngested"],
            "Completeness": str(completeness),
            "GraderSet": self._graders.digest,
        }

    def _grade_trace(
        self,
        trace_id: str,
        rows: int,
        spans: Sequence[Span],
        logs: Sequence[LogEvent],
        case: Case | None,
        generation: int,
    ) -> tuple[list[Grade], Iterable[tuple[str, int, ToolCall, str]], Completeness]:
        try:
            trace = assemble(spans, logs, case, generation)
        except Exception as error:
            log.exception("trace %s cannot be assembled", trace_id)
            self.progress.failed += 1
            reason = f"the trace cannot be assembled: {_printable(error)}"
            span_id = spans[0].span_id if spans else ""
            grade = _error_grade(trace_id, span_id, "worker/assemble", reason, generation)
            return [grade], (), Completeness.COMPLETE
        if rows > MAX_SPANS:
            trace = replace(trace, completeness=Completeness.TRUNCATED)
        grades = run_graders(self._graders.of(trace), trace)
        states = {g.subject: g.label for g in grades if g.grader == "approval/boundary" and g.subject}
        made = [(trace_id, generation, call, states.get(call.key, "")) for call in trace.tool_calls]
        return grades, made, trace.completeness


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


def _printable(error: Exception) -> str:
    """What an error says, in characters that can be stored."""
    return f"{type(error).__name__}: {error}"[:2000].encode(errors="backslashreplace").decode()


def _error_grade(trace_id: str, span_id: str, grader: str, reason: str, generation: int) -> Grade:
    return Grade(
        trace_id=trace_id,
        span_id=span_id,
        grader=grader,
        grader_version="1",
        config_digest="",
        outcome=Outcome.ERROR,
        reason=reason,
        severity=Severity.INFO,
        generation=generation,
    )
