"""Grades as OTLP log events: what arrives at a real receiver, and what an endpoint that is dead, slow or back again does."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from graders import GraderSets, load_graders, outward
from graders.outward import EVENT, Emitter
from graders.testing import conversation
from graders.worker import Worker
from store import rows
from store.client import Store
from store.types import Evidence, Grade, LogEvent, Outcome, Severity

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def no_body(_: Any) -> None: ...


@dataclass
class Receiver:
    """OTLP/HTTP as far as it concerns us: takes logs, or answers what it is told to."""

    status: int = 200
    answered: int = 0
    seconds: float = 0.0
    location: str = ""
    body: Callable[[Any], None] = no_body
    connections: set[Any] = field(default_factory=set)
    requests: list[tuple[dict[str, str], ExportLogsServiceRequest]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def start(self, port: int = 0) -> int:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.connections.add(self.client_address)
                body = self.rfile.read(int(self.headers["content-length"]))
                time.sleep(receiver.seconds)
                if receiver.status == 200:
                    receiver.requests.append(
                        (dict(self.headers), ExportLogsServiceRequest.FromString(gzip.decompress(body)))
                    )
                receiver.answered += 1
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("location", receiver.location)
                if receiver.body is not no_body:
                    self.end_headers()
                    with suppress(OSError):
                        receiver.body(self.wfile.write)
                    self.close_connection = True
                    return
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return int(self.server.server_address[1])

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def records(self) -> list[Any]:
        return [
            record
            for _, request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def emitter(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emitter]]:
    monkeypatch.setattr(outward, "GATHER_SECONDS", 0.01)
    made: list[Emitter] = []

    def make(port: int | None = None, **options: Any) -> Emitter:
        url = f"http://127.0.0.1:{port or receiver.start()}/v1/logs"
        made.append(Emitter(url, **{"timeout_seconds": 5.0, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close(0.2)


def stored(*grades: Grade) -> bytes:
    return rows.columns(map(rows.grade_row, grades))


def a_grade(**fields: Any) -> Grade:
    known = {
        "trace_id": TRACE,
        "span_id": SPAN,
        "grader": "tools/known",
        "grader_version": "2",
        "config_digest": "sha256:c",
    }
    return Grade(**{**known, "outcome": Outcome.FAIL, **fields})


def until(done: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def plain(record: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in record.attributes}


SECRET = "the customer's own words"
FULL = a_grade(
    score=0.5,
    label="unsupported",
    reason=SECRET,
    subject=SECRET,
    severity=Severity.HIGH,
    evidence=(Evidence(SPAN, "answer", SECRET, 1, 2),),
    generation=3,
    case_digest="sha256:case",
)


def test_an_event_stands_in_the_span_it_judges_and_quotes_nothing(
    emitter: Callable[..., Emitter], receiver: Receiver
) -> None:
    subject = emitter(headers={"authorization": "Bearer t"})
    subject.emit(stored(FULL))
    until(lambda: subject.emitted == 1)
    ((headers, request),) = receiver.requests
    assert headers["authorization"] == "Bearer t"
    assert SECRET.encode() not in request.SerializeToString()
    (resource,) = request.resource_logs
    assert {"service.name": "tracegrade"}.items() <= plain(resource.resource).items()
    (record,) = receiver.records
    assert record.event_name == "gen_ai.evaluation.result"
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN)
    assert abs(record.time_unix_nano - time.time_ns()) < 60e9
    assert plain(record) == {
        "gen_ai.evaluation.name": "tools/known",
        "gen_ai.evaluation.score.label": "fail",
        "gen_ai.evaluation.score.value": 0.5,
        "tracegrade.grade.label": "unsupported",
        "tracegrade.grade.severity": "high",
        "tracegrade.grade.generation": 3,
        "tracegrade.grader.version": "2",
        "tracegrade.grader.config_digest": "sha256:c",
        "tracegrade.trace.completeness": "complete",
        "tracegrade.case.digest": "sha256:case",
    }


def test_content_is_told_when_it_is_asked_for(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter(content=True)
    subject.emit(stored(FULL))
    until(lambda: subject.emitted == 1)
    told = plain(receiver.records[0])
    assert told["gen_ai.evaluation.explanation"] == told["tracegrade.grade.subject"] == SECRET
    assert SECRET in told["tracegrade.grade.evidence"]


@pytest.mark.parametrize(
    ("reason", "type_"),
    [
        ("ValueError: no (grade, line 3)", "ValueError"),
        ("the trace cannot be assembled: KeyError: 'a'", "KeyError"),
        ("it took longer than 5 s", "_OTHER"),
        ("", "_OTHER"),
        ("x" * 5000 + ": ValueError: ", "_OTHER"),
    ],
)
def test_what_broke_is_the_type_of_the_error(
    emitter: Callable[..., Emitter], receiver: Receiver, reason: str, type_: str
) -> None:
    subject = emitter()
    subject.emit(stored(a_grade(outcome=Outcome.ERROR, reason=reason), a_grade()))
    until(lambda: subject.emitted == 2)
    assert [plain(record).get("error.type") for record in receiver.records] == [type_, None]


def test_only_the_graders_and_outcomes_one_asks_for(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter(graders=["tools/*", "evidence/numbers"], outcomes=["fail"])
    subject.emit(
        stored(
            a_grade(),
            a_grade(outcome=Outcome.PASS),
            a_grade(outcome=Outcome.SKIP),
            a_grade(grader="evidence/numbers"),
            a_grade(grader="evidence/numbers_too"),
            a_grade(grader="action/class"),
        )
    )
    until(lambda: subject.emitted == 2)
    assert [plain(r)["gen_ai.evaluation.name"] for r in receiver.records] == ["tools/known", "evidence/numbers"]


def test_skips_are_not_told_unless_asked_for(emitter: Callable[..., Emitter]) -> None:
    subject = emitter()
    subject.emit(stored(a_grade(outcome=Outcome.SKIP)))
    assert subject.waiting == 0


def test_many_go_together(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter()
    for number in range(40):
        subject.emit(stored(*(a_grade(subject=f"{number}-{i}") for i in range(50))))
    until(lambda: subject.emitted == 2000)
    assert len(receiver.records) == 2000
    assert 4 <= len(receiver.requests) <= 12


@pytest.mark.parametrize("ids", [("", ""), ("not hex", SPAN), (TRACE, "zz"), ("f" * 40, SPAN), (TRACE, "")])
def test_ids_that_are_none_stop_nothing(
    emitter: Callable[..., Emitter], receiver: Receiver, ids: tuple[str, str]
) -> None:
    subject = emitter()
    subject.emit(stored(a_grade(trace_id=ids[0], span_id=ids[1])))
    subject.emit(stored(a_grade()))
    until(lambda: subject.waiting == 0)
    assert (subject.emitted, subject.failed) == (2, 0)
    assert receiver.records[-1].trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "garbage", [b"", b"\n", b"{}", b"[]", b"[1,2]", b"[[],[]]", b"[[1],[2],[3]]", b"\xff", b"null"]
)
def test_what_is_no_grades_stops_nothing(emitter: Callable[..., Emitter], garbage: bytes) -> None:
    subject = emitter()
    subject.emit(garbage)
    subject.emit(stored(a_grade()))
    until(lambda: subject.emitted == 1)


def test_what_an_endpoint_refuses_is_counted(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    receiver.status = 400
    subject = emitter()
    subject.emit(stored(a_grade(), a_grade(subject="b")))
    until(lambda: subject.failed == 2)
    assert receiver.answered == 1, "what is refused for good is not sent again"
    assert (subject.emitted, subject.dropped, subject.waiting) == (0, 0, 0)


def test_redirects_are_not_followed_and_no_success(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    elsewhere = Receiver()
    receiver.location = f"http://127.0.0.1:{elsewhere.start()}/v1/logs"
    receiver.status = 307
    subject = emitter(headers={"x-api-key": "t"})
    subject.emit(stored(a_grade()))
    until(lambda: subject.waiting == 0)
    elsewhere.stop()
    assert (subject.emitted, subject.failed, elsewhere.answered) == (0, 1, 0)


def test_an_endless_answer_is_not_read(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    written: list[int] = []

    def endless(write: Any) -> None:
        for _ in range(1000):
            written.append(write(b"x" * 100_000))

    receiver.body = endless
    subject = emitter()
    subject.emit(stored(a_grade()))
    until(lambda: subject.emitted == 1)
    assert len(written) < 500


def test_an_answer_that_drips_holds_nothing_up(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    def drip(write: Any) -> None:
        for _ in range(60):
            write(b"x")
            time.sleep(0.1)

    receiver.body = drip
    subject = emitter(timeout_seconds=1.0)
    subject.emit(stored(a_grade()))
    until(lambda: subject.emitted == 1, 3)


def test_a_connection_is_used_again(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter()
    for number in range(3):
        subject.emit(stored(a_grade()))
        until(lambda done=number + 1: subject.emitted == done)
    assert len(receiver.connections) == 1


def test_a_dead_endpoint_costs_no_time_and_bounded_memory(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    port = receiver.start()
    receiver.stop()
    subject = emitter(port, timeout_seconds=60, most_waiting=1000)
    block = stored(*(a_grade(subject=str(i)) for i in range(100)))
    started = time.monotonic()
    for _ in range(100):
        subject.emit(block)
    assert time.monotonic() - started < 5
    assert subject.waiting <= 1000 + outward.BATCH
    assert subject.dropped >= 10_000 - 1000 - outward.BATCH
    started = time.monotonic()
    subject.close(0.2)
    assert time.monotonic() - started < 5
    assert subject.waiting == 0
    assert subject.emitted + subject.failed + subject.dropped == 10_000


def test_a_slow_endpoint_keeps_nobody_waiting(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    receiver.seconds = 0.5
    subject = emitter()
    started = time.monotonic()
    for _ in range(20):
        subject.emit(stored(a_grade()))
    assert time.monotonic() - started < 0.4
    until(lambda: subject.emitted == 20)


def test_an_endpoint_that_comes_back_gets_what_waited(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter(timeout_seconds=30)
    port = receiver.server.server_address[1] if receiver.server else 0
    subject.emit(stored(a_grade(subject="before")))
    until(lambda: subject.emitted == 1)
    receiver.stop()
    subject.emit(stored(a_grade(label="meanwhile")))
    until(lambda: subject.waiting == 1)
    time.sleep(0.1)
    receiver.start(port)
    subject.emit(stored(a_grade(label="after")))
    until(lambda: subject.emitted == 3, 20)
    assert [plain(r).get("tracegrade.grade.label") for r in receiver.records] == [None, "meanwhile", "after"]
    assert (subject.failed, subject.dropped) == (0, 0)


def test_an_endpoint_that_was_away_for_long_gets_what_comes_then(
    emitter: Callable[..., Emitter], receiver: Receiver
) -> None:
    port = receiver.start()
    receiver.stop()
    subject = emitter(port, timeout_seconds=0.2)
    subject.emit(stored(a_grade(label="lost")))
    until(lambda: subject.failed == 1)
    receiver.start(port)
    subject.emit(stored(a_grade(label="after")))
    until(lambda: subject.emitted == 1)
    assert [plain(r)["tracegrade.grade.label"] for r in receiver.records] == ["after"]


def test_closing_sends_what_waits_and_takes_nothing_more(emitter: Callable[..., Emitter], receiver: Receiver) -> None:
    subject = emitter()
    subject.emit(stored(*(a_grade(subject=str(i)) for i in range(700))))
    subject.close()
    assert subject.emitted == 700
    subject.emit(stored(a_grade()))
    assert (subject.dropped, subject.waiting) == (1, 0)


def test_a_verdict_that_comes_back_reopens_no_trace(store: Store, send: Callable[..., None]) -> None:
    spans = [replace(span, trace_id=TRACE) for span in conversation([{"user": "q"}, {"assistant": "a"}]).spans]
    send("s1", spans)
    worker = Worker(store, GraderSets(load_graders({"efficiency/latency": {}})), grace_ms=0, idle_ms=600_000)
    assert worker.run_once() == 1
    event = LogEvent(spans[0].start_ns, EVENT, TRACE, spans[0].span_id)
    send("s2", logs=[event])
    assert worker.run_once() == 0
    assert [row["EventName"] for row in store.query("SELECT EventName FROM otel_logs")] == [EVENT], "it is kept"
    send("s3", logs=[replace(event, name="gen_ai.tool.call.decision")])
    assert worker.run_once() == 1
