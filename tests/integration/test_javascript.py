"""Real JavaScript clients, against a real collector and store: OpenTelemetry's exporters, and an agent on the Vercel AI SDK.

Needs node and the packages of `tests/js`, which `make integration` installs and says where (TRACEGRADE_JS).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.segments import SegmentLog
from collector.service import Collector
from collector.settings import CollectorSettings
from graders import assemble
from store.client import Store
from store.errors import Retryable
from store.types import SpanKind

pytestmark = pytest.mark.integration

SCRIPTS = Path(__file__).parents[1] / "js"
SPANS, LOGS = 1000, 20
TRANSPORTS = ("http/json", "http/protobuf", "grpc")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The senders beside their packages: node looks for packages where the script is."""
    packages = os.environ.get("TRACEGRADE_JS")
    if packages is None or shutil.which("node") is None:
        pytest.skip(
            "there are no JavaScript clients here; with node and npm `make integration` installs them and runs these"
        )
    directory = tmp_path_factory.mktemp("js")
    (directory / "node_modules").symlink_to(Path(packages) / "node_modules")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, directory)
    return directory


class Receiver:
    """A collector that loads into the store, on a loop of its own."""

    def __init__(self, collector: Collector, loop: asyncio.AbstractEventLoop) -> None:
        self.collector = collector
        self.http = f"http://127.0.0.1:{collector.http_port}"
        self.grpc = f"http://127.0.0.1:{collector.grpc_port}"
        self._loop = loop

    def stop(self) -> None:
        """What was acknowledged is in the store afterwards."""
        asyncio.run_coroutine_threadsafe(self.collector.stop(60), self._loop).result(90)


@pytest.fixture
def receiver(store: Store, tmp_path: Path) -> Iterator[Receiver]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        settings = CollectorSettings(buffer_dir=tmp_path, grpc_port=0, http_port=0, segment_age_seconds=0.1)
        collector = Collector(settings, store)
        asyncio.run_coroutine_threadsafe(collector.start(), loop).result(30)
        receiver = Receiver(collector, loop)
        yield receiver
        receiver.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def node(script: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "NODE_"))}
    command = ["node", str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def send(
    scripts: Path, receiver: Receiver, transport: str, compression: str = "none", spans: int = 1, logs: int = 1
) -> list[str]:
    """What the exporters said went wrong."""
    url = receiver.grpc if transport == "grpc" else receiver.http
    order = {"transport": transport, "url": url, "compression": compression, "spans": spans, "logs": logs}
    errors: list[str] = json.loads(node(scripts / "send.mjs", json.dumps(order)))
    return errors


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_span_and_log_record_arrives_as_it_was(
    scripts: Path, receiver: Receiver, store: Store, transport: str, compression: str
) -> None:
    assert send(scripts, receiver, transport, compression, SPANS, LOGS) == []
    receiver.stop()
    outer = store.query("SELECT * FROM otel_traces WHERE ParentSpanId = '' ORDER BY length(SpanName), SpanName")
    assert [span["SpanName"] for span in outer] == [f"tool {number}" for number in range(SPANS)]
    [ids] = store.query("SELECT uniqExact(TraceId) AS traces, uniqExact(SpanId) AS spans FROM otel_traces")
    assert ids == {"traces": SPANS, "spans": 2 * SPANS}
    span = outer[7]
    assert span["SpanAttributes"] == {
        "a.text": "naïve 🚀 \0 end",
        "a.whole": "7",
        "a.large": str(2**53 - 1),
        "a.fraction": "0.5",
        "a.flag": "true",
        "a.list": '["a","b"]',
        "a.numbers": "[1,2]",
    }
    assert span["ResourceAttributes"] == {"service.name": "js-agent", "service.version": "1.0"}
    assert (span["ScopeName"], span["ScopeVersion"]) == ("js-agent", "2.0")
    assert (span["SpanKind"], span["StatusCode"]) == ("Client", "Unset")
    assert (span["Events.Name"], span["Events.Attributes"]) == (["approved"], [{"by": "user"}])
    [inner] = store.query("SELECT * FROM otel_traces WHERE ParentSpanId = {id:String}", {"id": span["SpanId"]})
    assert (inner["StatusCode"], inner["StatusMessage"], inner["TraceId"]) == ("Error", "no", span["TraceId"])
    assert inner["Links.SpanId"] == [span["SpanId"]]
    assert abs(time.time() - span["Timestamp"].timestamp()) < 60

    logs = store.query("SELECT * FROM otel_logs")
    assert sorted(json.loads(log["Body"])["arguments"]["order"] for log in logs) == list(range(LOGS))
    first = min(logs, key=lambda log: str(log["Body"]))
    assert json.loads(first["Body"]) == {"tool": "refund", "arguments": {"order": 0, "lines": [1, 2], "none": None}}
    assert json.loads(first["LogAttributes"]["nested"]) == {"deep": {"er": [True, "x"]}}
    assert (first["EventName"], first["SeverityNumber"], first["ServiceName"]) == ("decision", 9, "js-agent")


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The buffer is full for the first two requests; when each was turned away."""
    reserve = SegmentLog.reserve
    refused: list[float] = []

    def full_at_first(log: SegmentLog, size: int) -> None:
        if len(refused) < 2:
            refused.append(time.monotonic())
            raise Retryable("full")
        reserve(log, size)

    monkeypatch.setattr(SegmentLog, "reserve", full_at_first)
    return refused


@pytest.mark.parametrize("transport", ["http/json", "http/protobuf"])
def test_over_http_they_come_back_when_told_to(
    scripts: Path, receiver: Receiver, store: Store, refusals: list[float], transport: str
) -> None:
    assert send(scripts, receiver, transport, logs=0) == []
    assert len(refusals) == 2
    # `Retry-After: 1`, where the exporter by itself would wait up to 1.2 and then up to 1.8 seconds.
    assert 1 <= refusals[1] - refusals[0] < 1.2
    receiver.stop()
    assert store.query("SELECT count() AS spans FROM otel_traces") == [{"spans": 2}]


def test_over_grpc_they_do_not_come_back(
    scripts: Path, receiver: Receiver, store: Store, refusals: list[float]
) -> None:
    """Told in docs/instrument.md: this exporter takes no error for one to retry, whatever the answer carries."""
    [error] = send(scripts, receiver, "grpc", logs=0)
    assert "UNAVAILABLE" in error
    assert len(refusals) == 1
    receiver.stop()
    assert store.query("SELECT count() AS spans FROM otel_traces") == [{"spans": 0}]


def test_with_vercels_own_exporter_they_do_not_come_back(
    scripts: Path, receiver: Receiver, store: Store, refusals: list[float]
) -> None:
    """Told in docs/instrument.md as well."""
    node(scripts / "agent.mjs", receiver.http, "vercel")
    assert len(refusals) == 1
    receiver.stop()
    assert store.query("SELECT count() AS spans FROM otel_traces") == [{"spans": 0}]


@pytest.mark.parametrize("sender", ["opentelemetry", "vercel"])
def test_an_agent_on_the_vercel_ai_sdk(scripts: Path, receiver: Receiver, store: Store, sender: str) -> None:
    node(scripts / "agent.mjs", receiver.http, sender)
    receiver.stop()
    [trace_id] = {row["TraceId"] for row in store.query("SELECT TraceId FROM otel_traces")}
    trace = assemble(store.spans([trace_id])[trace_id])
    assert [message.text for message in trace.messages if message.role == "user"] == [
        "Where is order A-100? Refund it."
    ]
    assert trace.answer == "Order A-100 was delivered. The refund could not be sent: the ledger is unavailable."
    assert {definition.name for definition in trace.tool_definitions} == {"lookup_order", "send_refund"}
    lookup, refund = trace.tool_calls
    assert (lookup.name, lookup.call_id, lookup.arguments) == ("lookup_order", "call_1", {"order_id": "A-100"})
    assert json.loads(lookup.result) == {"status": "delivered", "total": 42.5}
    assert (lookup.executed, lookup.error) == (True, "")
    assert (refund.name, refund.arguments) == ("send_refund", {"order_id": "A-100", "amount": 42.5})
    assert refund.executed
    assert "ledger unavailable" in refund.error
    models: list[Any] = [span for span in trace.spans if span.kind is SpanKind.LLM]
    assert [(span.model, span.input_tokens, span.output_tokens) for span in models] == [
        ("scripted-1", 100, 20),
        ("scripted-1", 150, 25),
        ("scripted-1", 200, 30),
    ]
