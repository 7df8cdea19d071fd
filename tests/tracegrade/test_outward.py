"""Two real servers: what one grades, the other is told as OTLP log events, restarts included."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from store.client import Store

SECRET = "word of mouth"
WANTED = ("efficiency/*", "evidence/numbers")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def receiving(port: int) -> dict[str, Any]:
    return {"grpc_port": 0, "http_port": port, "segment_age_seconds": 0.1}


def post(server: Any) -> str:
    """Send a trace of one model call; returns its id."""
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(name="chat m", trace_id=os.urandom(16), span_id=os.urandom(8))
    )
    span.start_time_unix_nano = time.time_ns()
    span.end_time_unix_nano = span.start_time_unix_nano + 10**6
    for key, value in {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-2024-05-13",
        "gen_ai.output.messages": f'[{{"role":"assistant","parts":[{{"type":"text","content":"{SECRET} 42.5"}}]}}]',
    }.items():
        span.attributes.add(key=key).value.string_value = value
    for key, count in {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}.items():
        span.attributes.add(key=key).value.int_value = count
    url = f"http://{server.addresses.otlp_http}/v1/traces"
    headers = {"content-type": "application/x-protobuf"}
    with urllib.request.urlopen(urllib.request.Request(url, request.SerializeToString(), headers)) as answer:
        assert answer.status == 200
    return span.trace_id.hex()


def told(store: Store, trace_id: str) -> dict[str, dict[str, Any]]:
    """Events about a trace by grader."""
    query = "SELECT * FROM otel_logs WHERE TraceId = {t:String} AND EventName = 'gen_ai.evaluation.result'"
    return {row["LogAttributes"]["gen_ai.evaluation.name"]: row for row in store.query(query, {"t": trace_id})}


def eventually(check: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def counted(server: Any) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.addresses.admin}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        s.labels["result"]: s.value for f in families for s in f.samples if s.name == "tracegrade_grader_events_total"
    }


def test_grades_arrive_elsewhere_also_after_a_restart(start: Callable[..., Any], tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/v1/logs"
    other = start(tmp_path / "other", wait=False, collector=receiving(port))
    emit = {"endpoint": endpoint, "graders": list(WANTED), "timeout_seconds": 60}
    subject = start(tmp_path / "subject", wait=False, grading={"grace_seconds": 0.2, "emit": emit})
    for server in (other, subject):
        server.wait_until_ready()
    first = post(subject)
    with other.store() as store:
        found = eventually(lambda: len(rows := told(store, first)) >= 10 and rows)
    cost = found["efficiency/cost"]
    assert cost["LogAttributes"]["gen_ai.evaluation.score.value"] == "0.0065"
    assert cost["LogAttributes"]["gen_ai.evaluation.score.label"] == "pass"
    with subject.store() as store:
        (grade,) = store.query(
            "SELECT SpanId FROM grades_v WHERE Grader = 'efficiency/cost' AND TraceId = {t:String}", {"t": first}
        )
    assert cost["SpanId"] == grade["SpanId"]
    assert not any(name.startswith("tools/") for name in found)
    assert SECRET not in str(found)
    other.kill(15)
    second = post(subject)
    time.sleep(1.5)
    other = start(tmp_path / "other", collector=receiving(port))
    with other.store() as store:
        eventually(lambda: len(told(store, second)) >= 10)
    sums = counted(subject)
    assert sums["emitted"] >= 20
    assert sums["failed"] == sums["dropped"] == 0
    other.kill(15)
    post(subject)
    time.sleep(1.0)
    started = time.monotonic()
    assert subject.kill(15) == 0
    assert time.monotonic() - started < 20, "a dead endpoint holds up no stop"


def test_events_into_the_own_port_end_the_start(start: Callable[..., Any], tmp_path: Path) -> None:
    port = free_port()
    grading = {"emit": {"endpoint": f"http://localhost:{port}/v1/logs"}}
    server = start(tmp_path / "data", wait=False, grading=grading, collector=receiving(port))
    assert server.process.wait(60) != 0
    log = (server.data_dir / "log").read_text()
    assert "`grading.emit.endpoint`" in log
    assert "own port: each grade would have its trace graded again" in log


def test_headers_are_not_shown(tracegrade: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "tracegrade.yaml"
    file.write_text("grading: {emit: {headers: {authorization: Bearer 1234}}}")
    shown = tracegrade("config", "--config", file)
    assert shown.returncode == 0, shown.stderr
    assert "authorization" in shown.stdout
    assert "1234" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    "headers",
    [
        "Bearer 1234",
        "{authorization: 1234}",
        '{authorization: "Bearer 1234\\n"}',
        '{authorization: " Bearer 1234"}',
        '{authorization: "B\\0 1234"}',
        '{authorization: "€ 1234"}',
        '{"authorization: 1234": "Bearer"}',
    ],
)
def test_headers_are_not_shown_in_messages_either(tracegrade: Callable[..., Any], tmp_path: Path, headers: str) -> None:
    file = tmp_path / "tracegrade.yaml"
    file.write_text(f"grading: {{emit: {{headers: {headers}}}}}")
    refused = tracegrade("config", "--config", file)
    assert refused.returncode != 0
    assert "grading.emit.headers" in refused.stderr
    assert "1234" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    "emit", ["{endpoint: otel:4318}", "{endpoint: https://x}", "{outcomes: [passed]}", "{timeout_seconds: 0}"]
)
def test_what_cannot_be_used_is_refused(tracegrade: Callable[..., Any], tmp_path: Path, emit: str) -> None:
    file = tmp_path / "tracegrade.yaml"
    file.write_text(f"grading: {{emit: {emit}}}")
    refused = tracegrade("config", "--config", file)
    assert refused.returncode != 0
    assert "grading.emit." in refused.stderr
