"""SIGKILL at random moments: what was acknowledged is in the real store exactly once.

A process runs the collector into an embedded store and is killed again and again while two clients, one a transport, send
numbered spans and log records in the exporters' own encoding. Numbers are never sent twice, so a number that is stored twice
was doubled by us. A number whose request failed may be stored or not; one whose request succeeded must be.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

KILLS = 6
BATCH = 20

SERVER = """
import asyncio, json, sys
from pathlib import Path
from collector.service import Collector
from collector.settings import CollectorSettings
from store.client import connect

async def main(directory):
    with connect(f"chdb://{directory}/store") as store:
        store.apply_schema()
        collector = Collector(
            CollectorSettings(
                buffer_dir=directory / "buffer", grpc_port=0, http_port=0, segment_age_seconds=0.4
            ),
            store,
        )
        await collector.start()
        print(json.dumps([collector.http_port, collector.grpc_port]), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await collector.stop(20)
        counts = {signal: vars_of(counts) for signal, counts in collector.stats().signals.items()}
        spans = store.query("SELECT SpanName AS name, count() AS n FROM otel_traces GROUP BY name")
        logs = store.query("SELECT Body AS name, count() AS n FROM otel_logs GROUP BY name")
        rows = {"traces": {row["name"]: row["n"] for row in spans}, "logs": {row["name"]: row["n"] for row in logs}}
        print(json.dumps([counts, rows]), flush=True)

def vars_of(counts):
    return {name: getattr(counts, name) for name in counts.__slots__}

asyncio.run(main(Path(sys.argv[1])))
"""


@contextmanager
def server(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            http_port, grpc_port = json.loads(process.stdout.readline())
            yield process, http_port, grpc_port
        finally:
            process.kill()


class Encoded:
    """Batches of numbered spans and log records as the Python exporters encode them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._tracing, self._logging = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
        self._tracing.add_span_processor(SimpleSpanProcessor(self._spans))
        self._logging.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    def next(self, signal: str) -> tuple[list[str], bytes]:
        with self._lock:
            names = [f"{signal} {next(self._numbers)}" for _ in range(BATCH)]
            if signal == "traces":
                tracer = self._tracing.get_tracer("kill")
                for name in names:
                    tracer.start_span(name, attributes={"gen_ai.tool.name": "refund"}).end()
                body = encode_spans(self._spans.get_finished_spans()).SerializeToString()
                self._spans.clear()
            else:
                logger = self._logging.get_logger("kill")
                for name in names:
                    logger.emit(LogRecord(timestamp=time.time_ns(), body=name))
                body = encode_logs(self._logs.get_finished_logs()).SerializeToString()
                self._logs.clear()
            return names, body


class Client:
    """Sends until told to stop, on one transport, each number once."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._stop = threading.Event()
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()

    def send_http(self, port: int) -> None:
        with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:

            def send(signal: str, body: bytes) -> bool:
                try:
                    headers = {"content-type": "application/x-protobuf"}
                    return client.post(f"/v1/{signal}", content=body, headers=headers).status_code == 200
                except httpx.HTTPError:
                    return False

            self._send_all(send)

    def send_grpc(self, port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            services = {"traces": "trace.v1.TraceService", "logs": "logs.v1.LogsService"}
            methods = {
                signal: channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
                for signal, service in services.items()
            }

            def send(signal: str, body: bytes) -> bool:
                try:
                    methods[signal](body, timeout=5)
                except grpc.RpcError:
                    return False
                return True

            self._send_all(send)

    def _send_all(self, send: Any) -> None:
        for signal in itertools.cycle(["traces", "logs"]):
            if self._stop.is_set():
                return
            names, body = self._encoded.next(signal)
            self.sent.update(names)
            if not send(signal, body):
                return  # the server is gone; the rest of this life is over
            self.acknowledged.update(names)

    def stop(self) -> None:
        self._stop.set()


def wait_for_a_load(buffer: Path) -> None:
    """Until a segment that was not sealed yet is: it, or one before it, is being loaded."""
    seen = set(buffer.glob("*.pb"))
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and set(buffer.glob("*.pb")) <= seen:
        time.sleep(0.001)


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_or_doubled_by_sigkill(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.randrange(2**32))
    chance = random.Random(seed)
    print(f"KILL_SEED={seed}")
    encoded = Encoded()
    clients: list[Client] = []
    for _ in range(KILLS):
        delay, aim, more = chance.uniform(0.0, 1.2), chance.random() < 0.7, chance.uniform(0.0, 0.3)
        with server(tmp_path) as (process, http_port, grpc_port):
            by_http, by_grpc = Client(encoded), Client(encoded)
            clients += by_http, by_grpc
            threads = [
                threading.Thread(target=by_http.send_http, args=(http_port,)),
                threading.Thread(target=by_grpc.send_grpc, args=(grpc_port,)),
            ]
            for thread in threads:
                thread.start()
            time.sleep(delay)
            if aim:
                wait_for_a_load(tmp_path / "buffer")
                time.sleep(more)
            process.kill()
            for client in (by_http, by_grpc):
                client.stop()
            for thread in threads:
                thread.join()
    with server(tmp_path) as (process, _, _):
        assert process.stdin
        assert process.stdout
        process.stdin.write("stop\n")
        process.stdin.flush()
        counts, rows = json.loads(process.stdout.readline())
    acknowledged = set().union(*(client.acknowledged for client in clients))
    sent = set().union(*(client.sent for client in clients))
    stored = Counter(rows["traces"]) + Counter(rows["logs"])
    print(f"{len(sent)} sent, {len(acknowledged)} acknowledged, {len(stored)} stored; last life: {counts}")
    assert [name for name in acknowledged if name not in stored] == []
    assert {name: n for name, n in stored.items() if n != 1} == {}
    assert set(stored) <= sent
    assert len(acknowledged) > 100
    for signal in ("traces", "logs"):
        assert counts[signal]["buffered"] == counts[signal]["quarantined"] == 0
