"""Tells another collector about grades: one `gen_ai.evaluation.result` log event each, over OTLP/HTTP.

Promises: `emit` never waits and never raises, whatever the endpoint does; what waits is bounded, and every event is counted
once as emitted, failed or dropped. An event stands in the trace and span it judges. It says outcome, score and what graded;
why (reason, evidence, subject) only if `content` is on, for that may quote telemetry.

    gen_ai.evaluation.name            the grader               gen_ai.evaluation.score.value   the score, if it has one
    gen_ai.evaluation.score.label     the outcome              gen_ai.evaluation.explanation   the reason (content)
    error.type                        what broke, if the outcome is `error`
    tracegrade.grade.{label,severity,generation,subject,evidence}, tracegrade.grader.{version,config_digest},
    tracegrade.trace.completeness, tracegrade.case.digest

An event is sent once: a trace that is graded again has new events, of a higher generation. Whatever fails for longer than
`timeout_seconds` is given up. That events do not come back to be graded is settled elsewhere: `tracegrade.serve` refuses its
own ports, and such events reopen no trace (store/schema).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from fnmatch import translate
from importlib.metadata import version
from typing import Any

import orjson
import requests
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from store.rows import COLUMNS

EVENT = "gen_ai.evaluation.result"
BATCH = 512
GATHER_SECONDS = 1.0
"""How long a few events wait for more to go with them."""

_MOST_READ = 4096

_ERROR_TYPE = re.compile(r"(?:^|: )([A-Z][A-Za-z0-9_]{0,99})(?:: |$)")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_FIELDS = COLUMNS["grades"]
_GRADER, _OUTCOME = _FIELDS.index("Grader"), _FIELDS.index("Outcome")

log = logging.getLogger(__name__)

_Row = dict[str, Any]


class Emitter:
    """Sends grades from a thread of its own until it is closed."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
        graders: Sequence[str] = ("*",),
        outcomes: Sequence[str] = ("pass", "fail", "unknown", "error"),
        content: bool = False,
        most_waiting: int = 50_000,
    ) -> None:
        self.emitted = 0
        """Events the endpoint took."""
        self.failed = 0
        """Events it did not take, or not in time."""
        self.dropped = 0
        """Events for which there was no room, or no time at the end."""
        self._wanted = re.compile("|".join(map(translate, graders)) or r"(?!)")
        self._outcomes = frozenset(outcomes)
        self._content = content
        self._most_waiting = most_waiting
        session = requests.Session()
        session.stream = True
        session.hooks["response"].append(_answered)
        self._exporter = OTLPLogExporter(
            endpoint=endpoint,
            headers=dict(headers or {}),
            timeout=timeout_seconds,
            compression=Compression.Gzip,
            session=session,
        )
        self._resource = Resource.create({"service.name": "tracegrade", "service.version": version("tracegrade")})
        self._scope = InstrumentationScope("tracegrade.grades", version("tracegrade"))
        self._waiting: deque[tuple[int, _Row]] = deque()
        self._sending = 0
        self._news = threading.Condition()
        self._closing = False
        self._out_of_time = False
        self._thread = threading.Thread(target=self._run, name="emit grades", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that are neither emitted, failed nor dropped yet."""
        return len(self._waiting) + self._sending

    def emit(self, grades: bytes) -> None:
        """Take the grades that were stored: columns as `store.rows` writes them."""
        now = time.time_ns()
        try:
            columns = orjson.loads(grades or b"[]")
            names = set(columns[_GRADER]) if columns else ()
            wanted = {name for name in names if self._wanted.match(name)}
            rows = [
                dict(zip(_FIELDS, row, strict=True))
                for row in zip(*columns, strict=True)
                if row[_OUTCOME] in self._outcomes and row[_GRADER] in wanted
            ]
        except Exception:
            log.exception("grades cannot be emitted")
            return
        with self._news:
            room = 0 if self._closing else max(0, self._most_waiting - len(self._waiting))
            self._waiting.extend((now, row) for row in rows[:room])
            self.dropped += len(rows) - min(room, len(rows))
            self._news.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits, as far as that takes no longer; the rest is dropped."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(seconds)
        self._out_of_time = True
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends the wait between two attempts
        self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._next():
            try:
                taken = self._exporter.export([self._record(*one) for one in batch]) is LogRecordExportResult.SUCCESS
            except Exception:
                log.exception("grades cannot be emitted")
                taken = False
            with self._news:
                self._sending = 0
                if taken:
                    self.emitted += len(batch)
                else:
                    self.failed += len(batch)

    def _next(self) -> list[tuple[int, _Row]]:
        """The next events that go together; none means that it is over."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closing)
            self._news.wait_for(lambda: len(self._waiting) >= BATCH or self._closing, GATHER_SECONDS)
            if self._out_of_time:
                self.dropped += len(self._waiting)
                self._waiting.clear()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._sending = len(batch)
            return batch

    def _record(self, time_ns: int, row: _Row) -> ReadableLogRecord:
        attributes: dict[str, Any] = {
            "gen_ai.evaluation.name": row["Grader"],
            "gen_ai.evaluation.score.label": row["Outcome"],
            "tracegrade.grade.label": row["Label"],
            "tracegrade.grade.severity": row["Severity"],
            "tracegrade.grade.generation": row["Generation"],
            "tracegrade.grader.version": row["GraderVersion"],
            "tracegrade.grader.config_digest": row["ConfigDigest"],
            "tracegrade.trace.completeness": row["Completeness"],
            "tracegrade.case.digest": row["CaseDigest"],
        }
        if row["Score"] is not None:
            attributes["gen_ai.evaluation.score.value"] = float(row["Score"])
        if row["Outcome"] == "error":
            found = _ERROR_TYPE.search(row["Reason"][:300])
            attributes["error.type"] = found[1] if found else "_OTHER"
        if self._content:
            attributes["gen_ai.evaluation.explanation"] = row["Reason"]
            attributes["tracegrade.grade.subject"] = row["Subject"]
            attributes["tracegrade.grade.evidence"] = "" if row["Evidence"] == "[]" else row["Evidence"]
        return ReadableLogRecord(
            LogRecord(
                timestamp=time_ns,
                observed_timestamp=time_ns,
                context=_context(row["TraceId"], row["SpanId"]),
                event_name=EVENT,
                attributes={key: value for key, value in attributes.items() if value != ""},
            ),
            self._resource,
            self._scope,
        )


def _answered(answer: requests.Response, **_: Any) -> None:
    """Nothing in an answer's body matters, and it may be endless: a short one is read, to use its connection again."""
    try:
        answer.raw.read1(_MOST_READ, decode_content=False)
        ended = answer.raw.length_remaining == 0
    except Exception:
        ended = False
    if not ended:
        answer.raw.close()
    answer.raw.release_conn()
    if 300 <= answer.status_code < 400:  # the exporter takes it for a success
        raise requests.RequestException(f"answered {answer.status_code}: redirects are not followed")


def _context(trace_id: str, span_id: str) -> Any:
    """The context of a span somewhere else; ids that are none are left out."""
    ids = 0, 0
    if _TRACE_ID.fullmatch(trace_id):
        ids = int(trace_id, 16), int(span_id, 16) if _SPAN_ID.fullmatch(span_id) else 0
    span = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span))
