"""`tracegrade regrade` as a user starts it: through the server that has the store open, and without one."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tracegrade import cli

Cli = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]
TRACES = 12


def send(address: str, traces: int = TRACES) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"http://{address}/v1/traces")))
    for _ in range(traces):
        with provider.get_tracer("t").start_as_current_span(
            "invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}
        ):
            pass
    provider.shutdown()


def summary(tracegrade: Cli, server: Any, *more: str) -> dict[str, Any]:
    done = tracegrade("regrade", "--config", server.config_file, "--since", "1d", "--json", *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def generations(tracegrade: Cli, server: Any) -> list[tuple[str, int, int]]:
    """(grader, generation, traces) of the grades that count."""
    query = """SELECT Grader, Generation, toUInt32(uniqExact(TraceId)) AS Traces FROM grades_v
    WHERE Grader IN ('tools/loop', 'tools/known') GROUP BY ALL ORDER BY ALL"""
    found = tracegrade("sql", "--config", server.config_file, "--json", query)
    return [tuple(json.loads(line).values()) for line in found.stdout.splitlines()]


def test_after_a_grader_changed_the_server_or_the_command_itself_regrades(start: Start, tracegrade: Cli) -> None:
    server = start(grading={"grace_seconds": 0})
    send(server.addresses.otlp_http)
    deadline = time.monotonic() + 30
    while generations(tracegrade, server) != [("tools/known", 1, TRACES), ("tools/loop", 1, TRACES)]:
        assert time.monotonic() < deadline
    assert summary(tracegrade, server)["graded"] == 0

    server.kill(signal.SIGTERM)
    config = yaml.safe_load(server.config_file.read_text())
    server.config_file.write_text(
        yaml.safe_dump({**config, "grading": {"grace_seconds": 0, "graders": {"tools/loop": {"repeats": 7}}}})
    )
    part = summary(tracegrade, server, "--shard", "1/2")
    assert 0 < part["graded"] < TRACES
    rest = summary(tracegrade, server)
    assert part["graded"] + rest["graded"] == TRACES
    assert rest["finished"] is True
    assert rest["failed"] == 0
    assert generations(tracegrade, server) == [("tools/known", 2, TRACES), ("tools/loop", 2, TRACES)]

    server = start(
        server.data_dir, grading={"grace_seconds": 0, "graders": {"tools/loop": {"repeats": 8}, "tools/known": {}}}
    )
    done = tracegrade("regrade", "--config", server.config_file, "--since", "1d", "--grader", "tools/loop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"graded {TRACES} traces in ")
    assert summary(tracegrade, server, "--grader", "tools/loop")["total"] == 0
    assert generations(tracegrade, server) == [("tools/known", 3, TRACES), ("tools/loop", 3, TRACES)]

    unknown = tracegrade("regrade", "--config", server.config_file, "--since", "1d", "--grader", "no/such")
    assert unknown.returncode == 2
    assert "no such grader; known: " in unknown.stderr
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{server.addresses.gate}/v1/regrades/none")


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--since", "soon"),
        ("--since", "1d", "--shard", "3/2"),
        ("--since", "1d", "--shard", "0/2"),
        ("--since", "1d", "--until", "2d"),
    ],
)
def test_usage_is_said(tracegrade: Cli, wrong: tuple[str, ...]) -> None:
    assert tracegrade("regrade", *wrong).returncode == 2


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "running_gate", lambda _: "http://gate")
    monkeypatch.setattr("tracegrade.remote.regrade", interrupted)
    done = CliRunner().invoke(cli.cli, ["regrade", "--since", "1d"])
    assert done.exit_code != 0
    assert "the same command goes on from there" in done.stderr
