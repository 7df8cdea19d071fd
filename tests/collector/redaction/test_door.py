"""Through every transport: nothing raw in the buffer, in what the store is given, or in the log."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.redaction import Finding, redactor
from store import Retryable

EMAIL, CARD, PASSWORD = "jane.doe@example.com", "4111 1111 1111 1111", "hunter2-not-said"
RAW = (EMAIL.encode(), b"jane.doe", CARD.encode(), b"1111 1111", PASSWORD.encode())
MESSAGE = json.dumps({"note": f"first\n{EMAIL}", "card": CARD, "password": PASSWORD})
SETTINGS = {"redaction": {"groups": ["secrets", "contact", "financial"]}}


def spans() -> bytes:
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name=f"mail {EMAIL}")
    )
    span.attributes.add(key="gen_ai.input.messages").value.string_value = MESSAGE
    deep = span.attributes.add(key="deep").value.kvlist_value.values.add(key="a").value.kvlist_value
    deep.values.add(key="b").value.array_value.values.add().string_value = MESSAGE
    return request.SerializeToString()


def records() -> bytes:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = MESSAGE
    return request.SerializeToString()


def as_json() -> bytes:
    value = {"kvlistValue": {"values": [{"key": "password", "value": {"stringValue": PASSWORD}}]}}
    attributes = [{"key": "a", "value": {"stringValue": MESSAGE}}, {"key": "b", "value": value}]
    span = {"traceId": "74" * 16, "spanId": "73" * 8, "name": f"mail {EMAIL}", "attributes": attributes}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def over_grpc(service: str, body: Callable[[], bytes]) -> Callable[[Any], None]:
    def send(running: Any) -> None:
        with grpc.insecure_channel(running.grpc) as channel:
            channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")(body(), timeout=30)

    return send


SENDERS: dict[str, Callable[[Any], Any]] = {
    "HTTP protobuf": lambda running: running.post("/v1/traces", spans()),
    "HTTP gzip": lambda running: running.post("/v1/traces", gzip.compress(spans()), content_encoding="gzip"),
    "HTTP JSON": lambda running: running.post("/v1/traces", as_json(), "application/json"),
    "HTTP logs": lambda running: running.post("/v1/logs", records()),
    "gRPC": over_grpc("trace.v1.TraceService", spans),
    "gRPC logs": over_grpc("logs.v1.LogsService", records),
}


def files(directory: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_nothing_raw_is_kept(
    start: Any, make_sink: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, send: Callable[[Any], Any]
) -> None:
    sink = make_sink()

    def not_yet(segment_id: str, records: list[bytes]) -> None:
        raise Retryable("the store is away")

    sink.refuse = not_yet
    with caplog.at_level(logging.DEBUG):
        running = start(sink, tmp_path / "data" / "buffer", **SETTINGS)
        send(running)
        buffered = b"".join(files(tmp_path))
        sink.refuse = lambda segment_id, records: None
        assert running.collector.wait_until_loaded(20)
    stored = b"".join([*sink.records("traces"), *sink.records("logs")])
    for kept in (buffered, stored):
        assert b"<EMAIL:" in kept
        assert [raw for raw in RAW if raw in kept] == []
    assert [raw for raw in RAW if raw.decode() in caplog.text] == []
    digest, counts = running.collector.redaction()
    assert (counts.requests, counts.changed, counts.dropped) == (1, 1, 0)
    assert len(digest) == 16


def test_large_requests_are_redacted_on_a_thread(start: Any, sink: Any) -> None:
    running = start(sink, **SETTINGS)
    request = ExportTraceServiceRequest.FromString(spans())
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="padding").value.string_value = "x y " * 2**19
    assert running.post("/v1/traces", request.SerializeToString()).status_code == 200
    assert running.collector.wait_until_loaded(20)
    (stored,) = sink.records()
    assert [raw for raw in RAW if raw in stored] == []
    assert stored.count(b"x y ") == 2**19


def test_senders_who_leave_free_no_memory_that_a_thread_still_holds(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, done = threading.Event(), threading.Event()

    class Waiting:
        def detect(self, text: str, /) -> list[Finding]:
            working.set()
            assert done.wait(30)
            return []

    monkeypatch.setattr(redactor, "_detector", lambda name: Waiting())
    running = start(redaction={"detectors": ["waiting"], "detector_seconds": 30})
    with grpc.insecure_channel(running.grpc) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        call = export.future(spans(), timeout=30)
        assert working.wait(30)
        call.cancel()
        time.sleep(0.2)
        held = running.collector.memory.held
        done.set()
    assert held == len(spans())
    deadline = time.monotonic() + 10
    while running.collector.memory.held and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.collector.memory.held == 0
    running.assert_books_balance()


def test_by_default_secrets_go_and_the_rest_stays(start: Any, sink: Any) -> None:
    running = start(sink)
    assert running.post("/v1/traces", spans()).status_code == 200
    assert running.collector.wait_until_loaded(20)
    (stored,) = sink.records()
    assert PASSWORD.encode() not in stored
    assert EMAIL.encode() in stored


def test_it_can_be_switched_off(start: Any, sink: Any, tmp_path: Path) -> None:
    running = start(sink, tmp_path / "off" / "buffer", redaction={"groups": []})
    assert running.post("/v1/traces", spans()).status_code == 200
    assert running.collector.wait_until_loaded(20)
    assert PASSWORD.encode() in sink.records()[0]
    assert running.collector.redaction() is None
    assert not (tmp_path / "off" / "redaction.key").exists()
