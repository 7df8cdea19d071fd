"""`tracegrade schema` as a user types it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from store.client import Dsn, Store, connect
from tracegrade.cli import cli

TABLE = """
CREATE TABLE cli_otel.otel_traces (
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, SpanName String, ServiceName String,
    ResourceAttributes Map(String, String), SpanAttributes Map(String, String), Duration Int64
) ENGINE = MergeTree ORDER BY Timestamp"""

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("TRACEGRADE_STORE", "TRACEGRADE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(cli, ["schema", *arguments])


@pytest.fixture
def store(engine_path: Path) -> Iterator[Store]:
    """The store the commands name, beside a table of the exporter."""
    with connect(Dsn(embedded=True, path=str(engine_path), database="tracegrade")) as opened:
        opened.command("CREATE DATABASE cli_otel")
        opened.command(TABLE)
        span = {"Timestamp": 1_790_000_000_000_000_000, "TraceId": "01" * 16, "SpanId": "02" * 8}
        opened.insert("cli_otel.otel_traces", [span])
        yield opened
        opened.command("DROP DATABASE cli_otel SYNC")
        opened.command("DROP DATABASE tracegrade SYNC")


def test_attach_backfill_and_detach(run: Run, store: Store, engine_path: Path) -> None:
    at = ("--store", f"chdb://{engine_path}", "--table", "cli_otel.otel_traces")
    said = run("attach", *at, "--dry-run")
    assert said.exit_code == 0, said.output
    assert "agent_spans_from_cli_otel_otel_traces_mv" in said.output
    assert store.query("SHOW TABLES") == []
    said = run("attach", *at)
    assert said.output == "attached: cli_otel.otel_traces\n"
    said = run("attach", *at, "--backfill", "2020-01-01")
    assert said.output == "attached already: cli_otel.otel_traces\n" + (
        "copied from cli_otel.otel_traces: 1 rows that were not there\n"
    )
    said = run("attach", *at, "--backfill", "9999d")
    assert said.output.endswith("copied from cli_otel.otel_traces: 0 rows that were not there\n")
    assert run("detach", *at).output == "detached: cli_otel.otel_traces\n"
    again = run("detach", *at)
    assert (again.exit_code, "attached are: none" in again.output) == (2, True)


def test_what_is_not_there_is_said(run: Run, store: Store, engine_path: Path) -> None:
    said = run("attach", "--store", f"chdb://{engine_path}", "--table", "cli_otel.nothing")
    assert said.exit_code == 4
    assert "there is no table cli_otel.nothing" in said.output
    assert "cli_otel.otel_traces" in said.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("print", "--kafka"), "needs --brokers"),
        (("print", "--kafka", "--brokers", "b:9092"), "--topic NAME"),
        (("print", "--topic", "t"), "give --kafka as well"),
        (("print", "--engine", "replicated"), "give --cluster NAME as well"),
        (("apply", "--cluster", "c"), "give --engine replicated as well"),
        (("print", "--engine", "memory"), "'mergetree', 'replicated'"),
        (("attach", "--backfill", "yesterday"), "write 2026-11-01, 2026-11-01T12:00:00Z or 30d"),
        (("attach", "--backfill", "-1d"), "write 2026-11-01"),
        (("attach", "--store", "postgres://x"), "clickhouse://user:password@host:8123/database"),
        (("detach",), "--table"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Run, arguments: tuple[str, ...], says: str) -> None:
    said = run(*arguments)
    assert said.exit_code == 2
    assert says in " ".join(said.output.split())


def test_what_is_printed(run: Run) -> None:
    assert "CREATE TABLE IF NOT EXISTS agent_spans\n" in run("print").output
    clustered = run("print", "--engine", "replicated", "--cluster", "agents").output
    assert "CREATE TABLE IF NOT EXISTS agent_spans_local ON CLUSTER 'agents'\n" in clustered
    queued = run("print", "--kafka", "--brokers", "b:9092", "--logs-topic", "otlp_logs").output
    assert "kafka_topic_list = 'otlp_logs'" in queued
    assert "ExportTraceServiceRequest'" not in queued
