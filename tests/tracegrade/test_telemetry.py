"""What the program says of itself: metrics, health, readiness, logs, its own traces. As users start it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from collector.outcomes import ANSWERS, Outcome
from collector.service import Collector
from collector.settings import CollectorSettings
from gate.service import GateService
from graders import GraderSets
from graders.outward import Emitter
from graders.worker import Worker
from store import StoreError
from tracegrade.logs import JsonFormatter, TextFormatter
from tracegrade.metrics import OwnMetrics
from tracegrade.tracing import is_here, refuse_own, start_tracing

SECRET = "payload-that-must-not-be-logged"
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def get(address: str, path: str, method: str = "GET") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def post(address: str, path: str, body: bytes, kind: str) -> int:
    request = urllib.request.Request(f"http://{address}{path}", data=body, headers={"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def spans(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, name in enumerate(names):
        span = scope.spans.add(name=name, trace_id=os.urandom(16), span_id=number.to_bytes(8))
        span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        span.attributes.add(key="gen_ai.prompt").value.string_value = SECRET
    return request.SerializeToString()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody else's collector."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}/v1/traces", bodies
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(start: Callable[..., Any], elsewhere: tuple[str, list[bytes]]) -> Any:
    return start(log_format="json", traces_endpoint=elsewhere[0])


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_metrics_tell_where_every_span_is(server: Any) -> None:
    addresses = server.addresses
    assert post(addresses.otlp_http, "/v1/traces", spans("a", "b", "c"), PROTOBUF) == 200
    broken = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": SECRET}, {"traceId": SECRET}]}]}]}
    assert post(addresses.otlp_http, "/v1/traces", json.dumps(broken).encode(), JSON) == 200
    assert post(addresses.otlp_http, "/v1/traces", b"\xff" + SECRET.encode(), PROTOBUF) == 400
    assert post(addresses.otlp_http, "/v1/traces", b"{" + SECRET.encode(), JSON) == 400
    assert post(addresses.otlp_http, f"/{SECRET}", b"", JSON) == 404
    traces = (("signal", "traces"),)

    def stored() -> Any:
        found = samples(get(addresses.admin, "/metrics")[2])
        where = [
            found[f"tracegrade_collector_{name}"][traces]
            for name in ("stored_items_total", "rejected_items_total", "buffered_items", "quarantined_items_total")
        ]
        came = [found[f"tracegrade_collector_{name}_items_total"][traces] for name in ("received", "recovered")]
        assert sum(came) == sum(where), "the sum rule holds on every answer"
        return found if where[0] == 4 else None

    found = eventually(stored)
    assert found["tracegrade_collector_received_items_total"][traces] == 5
    assert found["tracegrade_collector_rejected_items_total"][traces] == 1
    requests = found["tracegrade_collector_requests_total"]

    def answered(outcome: Outcome, signal: str = "traces") -> float:
        return requests[("outcome", outcome), ("signal", signal), ("transport", "http")]

    assert answered(Outcome.ACCEPTED) == answered(Outcome.PARTIAL) == 1
    assert (answered(Outcome.MALFORMED), answered(Outcome.UNIMPLEMENTED, "none")) == (2, 1)
    for histogram in ("commit", "load"):
        name = f"tracegrade_collector_{histogram}_duration_seconds"
        counts = [count for _, count in found[f"{name}_bucket"].items()]
        assert counts == sorted(counts)
        assert found[f"{name}_count"][()] == counts[-1] >= 1
        assert found[f"{name}_sum"][()] > 0
    assert found["tracegrade_collector_buffer_budget_bytes"][()] == 4 * 2**30
    assert found["tracegrade_collector_request_memory_bytes"][()] == 0
    assert {labels[0][1] for labels in found["tracegrade_gate_decisions_total"]} == {"promote", "hold", "rollback"}
    assert found["process_resident_memory_bytes"][()] > 0
    eventually(lambda: samples(get(addresses.admin, "/metrics")[2])["tracegrade_grader_graded_traces_total"][()] >= 3)


def test_names_and_labels_follow_the_conventions(server: Any) -> None:
    text = get(server.addresses.admin, "/metrics")[2]
    known = {str(outcome) for outcome in Outcome} | {"traces", "logs", "metrics", "none", "http", "grpc"}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("tracegrade_"):
            continue
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            labels = {key: value for key, value in sample.labels.items() if key in ("outcome", "signal", "transport")}
            assert set(labels.values()) <= known
            assert SECRET not in str(sample.labels)
        assert len(family.samples) < 100


def test_health_readiness_and_what_is_not_there(server: Any) -> None:
    admin = server.addresses.admin
    assert get(admin, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert get(admin, "/readyz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert get(admin, "/readyz", "HEAD")[2] == ""
    assert get(admin, "/")[0] == 404
    assert get(admin, "/metrics", "POST")[0] == 405


def test_logs_are_json_and_hold_no_payload(server: Any) -> None:
    noise = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200
    for address in (server.addresses.otlp_grpc, server.addresses.otlp_http):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)
    log = (server.data_dir / "log").read_text()
    assert SECRET not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert "Invalid HTTP request" not in log
    assert "hpack" not in log
    assert ".cc:" not in log


def test_a_store_that_is_away_is_no_reason_not_to_receive(start: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = nobody.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
        admin, http = free.getsockname()[1], other.getsockname()[1]
    server = start(
        tmp_path / "data",
        wait=False,
        store=f"clickhouse://127.0.0.1:{away}/x",
        admin={"port": admin},
        collector={"grpc_port": 0, "http_port": http, "segment_age_seconds": 0.1},
    )

    def ready() -> bool:
        try:
            return get(f"127.0.0.1:{admin}", "/readyz")[0] == 200
        except OSError:
            assert server.process.poll() is None, (server.data_dir / "log").read_text()
            return False

    eventually(ready, 60)
    assert post(f"127.0.0.1:{http}", "/v1/traces", spans("waits"), PROTOBUF) == 200
    eventually(
        lambda: samples(get(f"127.0.0.1:{admin}", "/metrics")[2])["tracegrade_collector_load_retries_total"][()] > 1
    )
    found = samples(get(f"127.0.0.1:{admin}", "/metrics")[2])
    assert found["tracegrade_collector_waiting_segments"][()] == 1
    assert found["tracegrade_collector_oldest_segment_age_seconds"][()] > 0
    log = (server.data_dir / "log").read_text()
    assert "receiving, but not storing yet" in log
    assert "urllib3" not in log
    assert "clickhouse_connect" not in log
    assert SECRET not in log


def test_a_taken_port_is_one_plain_sentence(start: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(tmp_path / "data", wait=False, gate={"port": 0, "grpc_port": port})
        assert server.process.wait(60) != 0
    log = (server.data_dir / "log").read_text()
    wanted = f"cannot listen on `gate.host` 127.0.0.1, `gate.grpc_port` {port}: Address already in use"
    assert log == f"error: {wanted}; free it or choose another\n"


# --- its own traces -----------------------------------------------------------------------------------------------


def test_own_traces_go_elsewhere_and_carry_no_payload(server: Any, elsewhere: tuple[str, list[bytes]]) -> None:
    """The last of the module: it stops the server."""
    own = samples(get(server.addresses.admin, "/metrics")[2])
    assert own["tracegrade_collector_received_items_total"][("signal", "traces"),] == 5, "none came back to itself"
    assert server.kill(15) == 0
    bodies = elsewhere[1]
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    names = {s.name for r in requests for b in r.resource_spans for c in b.scope_spans for s in c.spans}
    assert {"collector.load", "grader.batch"} <= names
    assert SECRET.encode() not in b"".join(bodies)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]"])
def test_own_traces_into_an_own_port_are_refused(host: str) -> None:
    with pytest.raises(StoreError, match="is this collector's own port: it would trace itself without end"):
        start_tracing(f"http://{host}:4318/v1/traces", (4317, 4318))


def test_own_traces_into_the_own_port_end_the_start(start: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    collector = {"grpc_port": 0, "http_port": port}
    endpoint = f"http://localhost:{port}/v1/traces"
    server = start(tmp_path / "data", wait=False, traces_endpoint=endpoint, collector=collector)
    assert server.process.wait(60) != 0
    assert "is this collector's own port" in (server.data_dir / "log").read_text()


def test_a_port_for_own_traces_that_is_none_is_named() -> None:
    with pytest.raises(StoreError, match=r"`traces_endpoint` http://otel\.example:99999/v1/traces"):
        start_tracing("http://otel.example:99999/v1/traces", ())


@pytest.mark.parametrize(("host", "here"), [("127.0.0.1", True), ("192.0.2.1", False), ("x" * 300, False)])
def test_what_is_here(host: str, here: bool) -> None:
    assert is_here(host) is here


@pytest.mark.parametrize("endpoint", ["http://[::1/v1/logs", "http://localhost:99999/v1/logs"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(StoreError, match=r"`key` .* a port up to 65535"):
        refuse_own(endpoint, "key", (), "why")


# --- log lines ----------------------------------------------------------------------------------------------------


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("collector.loader", logging.WARNING, __file__, 1, message, arguments, told)


@given(st.text())
def test_a_record_is_one_line_of_json(text: str) -> None:
    line = JsonFormatter().format(record("failed: %s", text, error=ValueError(text)))
    assert len(line.splitlines()) == 1
    facts = json.loads(line)
    assert facts["message"] == f"failed: {text}"
    assert (facts["level"], facts["logger"]) == ("warning", "collector.loader")
    assert "ValueError" in facts["exception"]


@given(st.text())
def test_text_lines_cannot_drive_a_terminal_or_forge_a_line(text: str) -> None:
    said = TextFormatter().format(record("failed: %s", text))
    first, *others = said.split("\n")
    assert all(line.startswith("  ") for line in others)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in said)
    assert "WARNING collector.loader: failed: " in first


# --- the documentation --------------------------------------------------------------------------------------------


def test_the_documentation_names_every_metric_and_every_outcome(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "observe.md").read_text()
    own = OwnMetrics(Collector(CollectorSettings(buffer_dir=tmp_path), None))  # type: ignore[arg-type]
    own.worker = Worker(None, GraderSets(()))  # type: ignore[arg-type]
    own.gate = GateService(None, ())  # type: ignore[arg-type]
    own.emitter = Emitter("http://localhost:1/v1/logs")
    own.emitter.close(0.1)
    told = {f"{m.name}{'_total' if m.type == 'counter' else ''}": f"| {m.documentation} |" for m in own.collect()}
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `tracegrade_")}
    redacting = {"tracegrade_collector_redacted_values_total", "tracegrade_collector_redaction_dropped_requests_total"}
    assert set(rows) == set(told) | redacting
    assert [name for name, text in told.items() if not rows[name].endswith(text)] == []
    for outcome, answer in ANSWERS.items():
        [row] = [line for line in page.splitlines() if f"`{outcome}`" in line and line.count("|") == 5]
        assert f"| {answer.http} | {answer.grpc.name} |" in row
