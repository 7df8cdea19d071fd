"""Clients of others at our front door: the OpenTelemetry Collector's exporters, and rotel. Every span and record is stored."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from agent import SPANS_A_RUN, run
from neighbours import GET, free_port, listens, running, until

from store.client import Store, connect

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

RUNS = 30


def stored(store: Store) -> tuple[int, int]:
    row = store.query(
        "SELECT (SELECT uniqExact(SpanId) FROM otel_traces) AS spans, (SELECT count() FROM otel_logs) AS logs"
    )[0]
    return row["spans"], row["logs"]


@pytest.mark.parametrize(
    ("exporter", "compression"),
    # gRPC's Python has no zstd: over otlp the Collector is told so, see below.
    [("otlp", "gzip"), ("otlp", "none"), ("otlphttp", "gzip"), ("otlphttp", "zstd"), ("otlphttp", "none")],
)
def test_the_collectors_exporters(
    serve: Callable[..., Any], otelcol: Callable[..., Any], exporter: str, compression: str
) -> None:
    with serve() as server:
        endpoint = (
            {"endpoint": server.grpc, "tls": {"insecure": True}} if exporter == "otlp" else {"endpoint": server.http}
        )
        with otelcol(exporter, {**endpoint, "compression": compression}) as collector:
            run(collector.http, runs=RUNS)
            with server.store() as store:
                until(lambda: stored(store) == (RUNS * SPANS_A_RUN, RUNS), f"all of it stored, not {stored(store)}")
                until(lambda: graded(store) == RUNS, "all of it graded")


def graded(store: Store) -> int:
    return int(store.query("SELECT uniqExact(TraceId) AS n FROM grades_v")[0]["n"])


@pytest.mark.parametrize("exporter", ["otlp", "otlphttp"])
def test_the_collector_sends_again_what_we_could_not_take(
    serve: Callable[..., Any], otelcol: Callable[..., Any], exporter: str, tmp_path: Path
) -> None:
    """A full buffer answers with 503 and UNAVAILABLE; once there is room, what the Collector kept arrives, and once."""
    full = {"disk_budget_bytes": 1}
    retry = {"retry_on_failure": {"initial_interval": "300ms", "max_interval": "1s"}}
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    grpc, http = f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}"
    endpoint = {"endpoint": grpc, "tls": {"insecure": True}} if exporter == "otlp" else {"endpoint": http}
    with otelcol(exporter, {**endpoint, **retry}) as collector:
        with serve(collector={**full, **ports}) as server:
            run(collector.http, runs=RUNS)
            said = until(
                lambda: [line for line in collector.log.read_text().splitlines() if "Will retry" in line], "a refusal"
            )
            assert any("503" in line or "Unavailable" in line for line in said), said[0]
            with server.store() as store:
                assert stored(store) == (0, 0)
        with serve(collector=ports) as server, server.store() as store:
            until(lambda: stored(store) == (RUNS * SPANS_A_RUN, RUNS), f"all of it stored, not {stored(store)}")
            assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": RUNS * SPANS_A_RUN}]


def test_the_collector_waits_for_a_server_that_is_away(serve: Callable[..., Any], otelcol: Callable[..., Any]) -> None:
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    settings = {"endpoint": f"http://127.0.0.1:{ports['http_port']}", "retry_on_failure": {"initial_interval": "300ms"}}
    with otelcol("otlphttp", settings) as collector:
        with serve(collector=ports) as server:
            run(collector.http, runs=5)
            with server.store() as store:
                until(lambda: stored(store)[0] == 5 * SPANS_A_RUN, "the first stored")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(20)
        run(collector.http, runs=5)
        with serve(collector=ports) as server, server.store() as store:
            until(lambda: stored(store) == (10 * SPANS_A_RUN, 10), "all of it stored")


@contextmanager
def rotel(folder: Path, *exporter: str) -> Iterator[str]:
    try:
        agent = Path(str(distribution("rotel").locate_file("rotel/rotel-agent")))
    except PackageNotFoundError:
        pytest.skip(f"rotel is not installed: {GET}")
    http, grpc = free_port(), free_port()
    listen = ("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}")
    with running([agent, "start", *listen, "--exporter", *exporter], folder / "rotel.log"):
        until(lambda: listens(http), "rotel")
        yield f"http://127.0.0.1:{http}"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_rotel(serve: Callable[..., Any], protocol: str, tmp_path: Path) -> None:
    with serve() as server:
        endpoint = f"http://{server.grpc}" if protocol == "grpc" else server.http
        to_us = ("otlp", "--otlp-exporter-endpoint", endpoint, "--otlp-exporter-protocol", protocol)
        with rotel(tmp_path, *to_us) as url:
            run(url, runs=RUNS)
            with server.store() as store:
                until(lambda: stored(store) == (RUNS * SPANS_A_RUN, RUNS), f"all of it stored, not {stored(store)}")


@pytest.mark.parametrize("compression", ["lz4", "none"])
def test_rotel_writes_to_our_listener(clickhouse: int, compression: str, tmp_path: Path) -> None:
    """Its ClickHouse exporter, which packs inserts in ClickHouse's own framing."""
    with connect(f"clickhouse://127.0.0.1:{clickhouse}/otel") as store:
        store.apply_schema()
        there = ("clickhouse", "--clickhouse-exporter-endpoint", f"http://127.0.0.1:{clickhouse}")
        with rotel(
            tmp_path, *there, "--clickhouse-exporter-database", "otel", "--clickhouse-exporter-compression", compression
        ) as url:
            run(url, runs=RUNS)
            until(lambda: stored(store)[0] == RUNS * SPANS_A_RUN, "the spans")
