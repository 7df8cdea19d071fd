"""The collector as its users meet it: the real exporters, start and stop, a store that is away."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import Compression as GrpcCompression
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic import ValidationError

from collector import segments
from collector.commit import GroupCommit
from collector.ledger import Ledger
from collector.otlp import Accepted
from collector.segments import BufferUnusable, SegmentLog
from collector.service import Collector
from collector.settings import CollectorSettings
from store import Retryable
from store.listen import PortUnavailable

SPANS: dict[str, Callable[[Any], Any]] = {
    "gRPC": lambda running: GrpcSpans(endpoint=running.grpc, insecure=True),
    "gRPC gzip": lambda running: GrpcSpans(endpoint=running.grpc, insecure=True, compression=GrpcCompression.Gzip),
    "HTTP": lambda running: HttpSpans(endpoint=running.http + "/v1/traces"),
    "HTTP gzip": lambda running: HttpSpans(endpoint=running.http + "/v1/traces", compression=Compression.Gzip),
    "HTTP deflate": lambda running: HttpSpans(endpoint=running.http + "/v1/traces", compression=Compression.Deflate),
}
LOGS: dict[str, Callable[[Any], Any]] = {
    "gRPC": lambda running: GrpcLogs(endpoint=running.grpc, insecure=True),
    "HTTP gzip": lambda running: HttpLogs(endpoint=running.http + "/v1/logs", compression=Compression.Gzip),
}


@pytest.mark.parametrize("exporter", SPANS.values(), ids=SPANS.keys())
def test_spans_of_the_real_exporters_arrive(start: Any, sink: Any, exporter: Callable[[Any], Any]) -> None:
    running = start(sink)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter(running)))
    tracer = provider.get_tracer("agent", "1.0")
    for number in range(1000):
        with tracer.start_as_current_span(f"tool {number}") as span:
            span.set_attribute("gen_ai.tool.name", "refund")
            span.set_attribute("documents", ["a", "b"])
            span.add_event("approved", {"by": "user"})
    assert provider.force_flush()
    provider.shutdown()
    running.stop()
    assert sorted(sink.span_names()) == sorted(f"tool {number}" for number in range(1000))
    [first, *_] = sink.records()
    span = ExportTraceServiceRequest.FromString(first).resource_spans[0].scope_spans[0].spans[0]
    assert {pair.key for pair in span.attributes} == {"gen_ai.tool.name", "documents"}
    assert span.events[0].name == "approved"
    counts = running.collector.stats().signals["traces"]
    assert (counts.received, counts.stored) == (1000, 1000)


@pytest.mark.parametrize("exporter", LOGS.values(), ids=LOGS.keys())
def test_logs_of_the_real_exporters_arrive(start: Any, sink: Any, exporter: Callable[[Any], Any]) -> None:
    running = start(sink)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter(running)))
    for number in range(100):
        body = {"tool": "refund", "arguments": {"order": number, "lines": [1, 2]}}
        provider.get_logger("agent").emit(LogRecord(timestamp=time.time_ns(), body=body, event_name="decision"))
    assert provider.force_flush()
    provider.shutdown()
    running.stop()
    records = [
        record
        for request in sink.records("logs")
        for resource in ExportLogsServiceRequest.FromString(request).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    assert sorted(record.body.string_value for record in records) == sorted(
        f'{{"arguments":{{"lines":[1,2],"order":{number}}},"tool":"refund"}}' for number in range(100)
    )


def test_the_real_exporters_retry_until_there_is_room_again(
    start: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise behind every 503: the sender comes back and nothing is lost."""
    running = start(sink)
    reserve = SegmentLog.reserve
    refusals = iter(range(2))

    def full_at_first(log: SegmentLog, size: int) -> None:
        if next(refusals, None) is not None:
            raise Retryable("full")
        reserve(log, size)

    monkeypatch.setattr(SegmentLog, "reserve", full_at_first)
    for name in ("gRPC", "HTTP"):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(SPANS[name](running)))
        provider.get_tracer("agent").start_span(name).end()
        assert provider.force_flush()
        provider.shutdown()
        refusals = iter(range(1))
    running.stop()
    assert sorted(sink.span_names()) == ["HTTP", "gRPC"]
    counts = running.collector.stats().signals["traces"]
    assert counts.rejected == 3
    assert counts.stored == 2
    running.assert_books_balance()


def test_a_store_that_is_away_delays_acknowledged_data_and_nothing_else(
    start: Any, make_sink: Any, trace_request: Any, tmp_path: Path
) -> None:
    away = make_sink()

    def refuse(segment_id: str, records: list[bytes]) -> None:
        raise Retryable("away")

    away.refuse = refuse
    running = start(away)
    for number in range(5):
        assert running.post("/v1/traces", trace_request(str(number))).status_code == 200
    deadline = time.monotonic() + 5
    while not running.collector.stats().load_retries and time.monotonic() < deadline:
        time.sleep(0.01)
    running.assert_books_balance()
    stats = running.collector.stats()
    assert stats.last_load_error == "Retryable: away"
    assert stats.signals["traces"].buffered == 5
    assert stats.buffer_bytes > 0
    running.stop(deadline=0.3)
    assert running.collector.stats().signals["traces"].buffered == 5

    back = make_sink()
    again = start(back)
    again.stop()
    assert sorted(back.span_names()) == ["0", "1", "2", "3", "4"]
    counts = again.collector.stats().signals["traces"]
    assert (counts.recovered, counts.stored, counts.buffered) == (5, 5, 0)


def test_the_books_balance_at_every_moment(start: Any, sink: Any, trace_request: Any, log_request: Any) -> None:
    running = start(sink, segment_age_seconds=0.005, disk_budget_bytes=20_000)
    done = threading.Event()

    def send(number: int) -> None:
        while not done.is_set():
            running.post("/v1/traces", trace_request(*"abc", padding=1000))
            running.post("/v1/logs", log_request(*"de"))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        running.assert_books_balance()
    done.set()
    for sender in senders:
        sender.join()
    running.stop()
    running.assert_books_balance()
    stats = running.collector.stats()
    assert stats.signals["traces"].stored == len(sink.span_names()) > 0
    assert stats.signals["logs"].stored > 0


# --- starting and stopping ----------------------------------------------------------------------------------------


def collector(directory: Path, **settings: Any) -> Collector:
    class Nowhere:
        def load(self, signal: Any, segment_id: str, path: Path, /) -> None:
            raise Retryable("nowhere")

    defaults = {"buffer_dir": directory, "grpc_port": 0, "http_port": 0}
    return Collector(CollectorSettings(**(defaults | settings)), Nowhere())


def test_stop_without_start_and_stop_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = collector(tmp_path)
        await one.stop()
        await one.start()
        await one.stop(1)
        await one.stop(1)

    asyncio.run(scenario())


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_taken_port_is_named_and_nothing_stays_behind(tmp_path: Path, taken_port: int, transport: str) -> None:
    async def scenario() -> None:
        with pytest.raises(
            PortUnavailable, match=rf"cannot listen on `{transport}_host` 127.0.0.1, `{transport}_port` {taken_port}"
        ):
            await collector(tmp_path, **{f"{transport}_port": taken_port}).start()
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("collector-")] == []
        one = collector(tmp_path)
        await one.start()
        await one.stop(1)

    asyncio.run(scenario())


def test_a_second_collector_on_the_directory_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = collector(tmp_path)
        await one.start()
        with pytest.raises(BufferUnusable, match="is in use by process"):
            await collector(tmp_path).start()
        await one.stop(1)

    asyncio.run(scenario())


def test_requests_in_flight_are_answered_before_it_stops(
    start: Any, sink: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(sink, fsync_interval_seconds=0.3)
    answers: list[int] = []
    sender = threading.Thread(
        target=lambda: answers.append(running.post("/v1/traces", trace_request("last")).status_code)
    )
    sender.start()
    while not running.collector.stats().signals["traces"].received:
        time.sleep(0.005)
    running.stop()
    sender.join()
    assert answers == [200]
    assert sink.span_names() == ["last"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"grpc_prot": 1}, "grpc_prot"),
        ({"http_port": 70_000}, "http_port"),
        ({"disk_budget_bytes": 0}, "disk_budget_bytes"),
        ({"segment_age_seconds": "soon"}, "segment_age_seconds"),
        ({"fsync_interval_seconds": -1}, "fsync_interval_seconds"),
        ({"max_request_bytes": 2**31}, "max_request_bytes"),
    ],
)
def test_settings_are_strict(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        CollectorSettings(**settings)


def test_every_setting_is_documented_and_frozen() -> None:
    settings = CollectorSettings()
    assert all(field.description for field in CollectorSettings.model_fields.values())
    with pytest.raises(ValidationError, match="frozen"):
        settings.grpc_port = 1  # type: ignore[misc]
    assert (settings.grpc_host, settings.grpc_port) == ("127.0.0.1", 4317)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 4318)


# --- group commit -------------------------------------------------------------------------------------------------


def test_many_requests_share_an_fsync_and_a_cancelled_sender_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = SegmentLog.write

    def count(log: SegmentLog, signal: Any, records: Any) -> None:
        written.append(len(records))
        write(log, signal, records)

    monkeypatch.setattr(SegmentLog, "write", count)
    log = SegmentLog(
        tmp_path, disk_budget_bytes=10**9, segment_bytes=10**9, segment_age_seconds=100, segment_records=10**6
    )
    ledger = Ledger()

    async def scenario() -> None:
        commit = GroupCommit(log, ledger, interval_seconds=0.05)
        payload = b"\x0a\x02\x12\x00"
        senders = [asyncio.create_task(commit.append("traces", Accepted(payload, 1))) for _ in range(100)]
        await asyncio.sleep(0)
        senders[7].cancel()
        await asyncio.gather(*(sender for sender in senders if sender is not senders[7]))
        await commit.stop()
        await commit.stop()
        with pytest.raises(Retryable, match="shutting down"):
            await commit.append("traces", Accepted(payload, 1))

    asyncio.run(scenario())
    assert sum(written) == 100
    assert len(written) < 10
    [segment] = log.sealed()
    assert segment.count == 100
    counts = ledger.snapshot(0).signals["traces"]
    assert (counts.received, counts.buffered, counts.rejected) == (101, 100, 1)
    log.close()


def test_sealing_that_fails_is_tried_again(
    start: Any, sink: Any, trace_request: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rename = os.rename
    failures = iter(range(2))

    def refuse(old: Any, new: Any) -> None:
        if next(failures, None) is not None:
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(segments.os, "rename", refuse)
    running = start(sink)
    with caplog.at_level(logging.WARNING):
        assert running.post("/v1/traces", trace_request("s")).status_code == 200
        deadline = time.monotonic() + 5
        while not sink.loaded and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sink.span_names() == ["s"]
    assert "cannot seal a segment, will retry" in caplog.text
