"""Large telemetry: stored whole, or refused clearly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.service import Collector
from collector.settings import CollectorSettings
from graders import GraderSets, grader_types, load_graders
from graders.worker import Worker
from store.client import Store

LIMIT = 4 * 2**20
PROMPT = "Wo ist die Bestellung? " * 45_600
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def collector(store: Store, tmp_path: Path) -> Iterator[Collector]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    settings = CollectorSettings(buffer_dir=tmp_path, grpc_port=0, http_port=0, max_request_bytes=LIMIT)
    running = Collector(settings, store)
    asyncio.run_coroutine_threadsafe(running.start(), loop).result(30)
    yield running
    asyncio.run_coroutine_threadsafe(running.stop(10), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def request(*spans: Span) -> bytes:
    made = ExportTraceServiceRequest()
    made.resource_spans.add().scope_spans.add().spans.extend(spans)
    return made.SerializeToString()


def span(number: int, parent: int = 0, **attributes: str) -> Span:
    now = time.time_ns()
    made = Span(
        trace_id=b"\x07" * 16,
        span_id=number.to_bytes(8),
        parent_span_id=parent.to_bytes(8) if parent else b"",
        name="chat scripted-1",
        start_time_unix_nano=now - 10**10 + number,
        end_time_unix_nano=now - 10**9,
    )
    for key, value in {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", **attributes}.items():
        made.attributes.add(key=key).value.string_value = value
    return made


def post(collector: Collector, body: bytes) -> httpx.Response:
    url = f"http://127.0.0.1:{collector.http_port}/v1/traces"
    kind = {"content-type": "application/x-protobuf"}
    return httpx.post(url, content=body, headers=kind, timeout=60, trust_env=False)


def test_a_megabyte_prompt_is_stored_whole(collector: Collector, store: Store) -> None:
    assert len(PROMPT) > 2**20
    assert post(collector, request(span(1, **{"gen_ai.prompt": PROMPT}))).status_code == 200
    assert collector.wait_until_loaded(30)
    (row,) = store.query("SELECT SpanAttributes['gen_ai.prompt'] AS text FROM otel_traces")
    assert row["text"] == PROMPT


def test_ten_thousand_attributes_are_stored_whole(collector: Collector, store: Store) -> None:
    wanted = {f"llm.input_messages.{at}.message.content": f"turn {at}" for at in range(10_000)}
    assert post(collector, request(span(1, **wanted))).status_code == 200
    assert collector.wait_until_loaded(30)
    (row,) = store.query("SELECT SpanAttributes AS all FROM otel_traces")
    assert wanted.items() <= row["all"].items()


@pytest.mark.parametrize("at_once", [True, False], ids=["one request", "many requests"])
def test_a_trace_of_five_thousand_spans_is_stored_and_graded(collector: Collector, store: Store, at_once: bool) -> None:
    spans = [span(1), *(span(number, parent=1) for number in range(2, 5_001))]
    size = 5_000 if at_once else 100
    for first in range(0, 5_000, size):
        assert post(collector, request(*spans[first : first + size])).status_code == 200
    assert collector.wait_until_loaded(30)
    worker = Worker(store, GraderSets(load_graders({name: {} for name in grader_types()})), grace_ms=0, idle_ms=0)
    assert worker.run_once() == 1
    (row,) = store.query("SELECT uniqExact(SpanId) AS spans FROM agent_spans")
    assert row["spans"] == 5_000
    assert store.query("SELECT count() AS n FROM grades WHERE Outcome = 'error'") == [{"n": 0}]
    assert store.query("SELECT count() > 0 AS graded FROM grades") == [{"graded": 1}]


def test_a_request_beyond_the_limit_is_refused_with_the_key_that_allows_it(collector: Collector) -> None:
    body = request(span(1, **{"gen_ai.prompt": "x" * LIMIT}))
    answer = post(collector, body)
    assert answer.status_code == 413
    assert b"max_request_bytes" in answer.content
    with (
        grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary(EXPORT)(body, timeout=30)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(LIMIT) in refused.value.details()
    assert collector.stats().signals["traces"].received == 0
