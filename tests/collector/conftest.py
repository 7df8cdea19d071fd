"""A collector on a thread of its own, a sink that remembers, and requests to send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.service import Collector
from collector.settings import CollectorSettings

# Time limits of single examples say more about the machine than about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def split_records(data: bytes) -> list[bytes]:
    """The length-delimited messages of a segment, read the plain way."""
    records = []
    position = 0
    while position < len(data):
        length = shift = 0
        while True:
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert position + length <= len(data)
        records.append(data[position : position + length])
        position += length
    return records


class MemorySink:
    """Stores each id once; `refuse` may raise what a store would."""

    def __init__(self) -> None:
        self.loaded: dict[str, tuple[str, list[bytes]]] = {}
        self.calls: list[str] = []
        self.refuse: Callable[[str, list[bytes]], None] = lambda segment_id, records: None

    def load(self, signal: str, segment_id: str, path: Path, /) -> None:
        records = split_records(path.read_bytes())
        self.calls.append(segment_id)
        if segment_id in self.loaded:
            return
        self.refuse(segment_id, records)
        self.loaded[segment_id] = (signal, records)

    def records(self, signal: str = "traces") -> list[bytes]:
        return [record for kind, records in self.loaded.values() if kind == signal for record in records]

    def span_names(self) -> list[str]:
        return [
            span.name
            for record in self.records("traces")
            for resource in ExportTraceServiceRequest.FromString(record).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Running:
    """A started collector and the loop it lives on."""

    def __init__(self, collector: Collector, sink: MemorySink, loop: asyncio.AbstractEventLoop) -> None:
        self.collector = collector
        self.sink = sink
        self.http = f"http://127.0.0.1:{collector.http_port}"
        self.grpc = f"127.0.0.1:{collector.grpc_port}"
        self._loop = loop
        self._client = httpx.Client(trust_env=False, verify=False)

    def close(self) -> None:
        self._client.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self, deadline: float = 10.0) -> None:
        self.run(self.collector.stop(deadline))

    def post(self, path: str, body: bytes, kind: str = "application/x-protobuf", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"content-type": kind, **named})

    def request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        return self._client.request(method, self.http + path, content=body, headers=headers)

    def assert_books_balance(self) -> None:
        for counts in self.collector.stats().signals.values():
            where = counts.stored + counts.rejected + counts.buffered + counts.quarantined
            assert counts.received + counts.recovered == where


@contextmanager
def _running(directory: Path, sink: MemorySink, settings: dict[str, Any]) -> Iterator[Running]:
    defaults = {"buffer_dir": directory, "grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.05}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        collector = Collector(CollectorSettings(**(defaults | settings)), sink)
        asyncio.run_coroutine_threadsafe(collector.start(), loop).result(30)
        running = Running(collector, sink, loop)
        try:
            yield running
        finally:
            running.close()
            running.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a collector: `start(sink=…, **settings)`. Everything started is stopped at the end."""
    with ExitStack() as stack:
        yield lambda sink=None, directory=tmp_path / "buffer", **settings: stack.enter_context(
            _running(directory, sink or MemorySink(), settings)
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One collector for all tests of a module that leave no trace in it."""
    with _running(tmp_path_factory.mktemp("shared"), MemorySink(), {"segment_age_seconds": 0.001}) as running:
        yield running


@pytest.fixture(scope="session")
def shared_with() -> Callable[[Path, dict[str, Any]], AbstractContextManager[Running]]:
    """For modules that share a collector with settings of their own."""
    return lambda directory, settings: _running(directory, MemorySink(), settings)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture(scope="session")
def make_sink() -> type[MemorySink]:
    """For tests that need more than one."""
    return MemorySink


@pytest.fixture
def trace_request() -> Callable[..., bytes]:
    """A request of spans with the given names."""

    def build(*names: str, padding: int = 0) -> bytes:
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        for number, name in enumerate(names):
            span = scope.spans.add(name=name, trace_id=b"t" * 16, span_id=number.to_bytes(8))
            if padding:
                span.attributes.add(key="padding").value.string_value = "x" * padding
        return request.SerializeToString()

    return build


@pytest.fixture
def log_request() -> Callable[..., bytes]:
    """A request of log records with the given bodies."""

    def build(*bodies: str) -> bytes:
        request = ExportLogsServiceRequest()
        scope = request.resource_logs.add().scope_logs.add()
        for body in bodies:
            scope.log_records.add().body.string_value = body
        return request.SerializeToString()

    return build
