"""The OpenTelemetry Collector's ClickHouse exporter fills its own tables; tracegrade grades and decides on what is in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent import SPANS_A_RUN, run
from neighbours import until

from store.client import Store, connect

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CASES = 40
SUITE = "name: support\nbuckets: [b]\ncases:\n" + "".join(
    f"- {{id: case-{n}, bucket: b, expect: {{tools: [{{tool: lookup}}]}}}}\n" for n in range(CASES)
)
POLICY = """\
name: release
version: "1"
tiers: {medium: {margin: 0.10, min_cases: 36, min_clusters: 10}}
blockers:
- {id: tools, grader: tools/expected, mode: non_inferiority}
"""


def tracegrade(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracegrade", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACEGRADE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def rows(store: Store, sql: str) -> int:
    return int(store.query(f"SELECT {sql} AS n")[0]["n"])


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", "none"])
def test_the_exporter_writes_to_our_listener(clickhouse: int, otelcol: Callable[..., Any], compress: str) -> None:
    settings = {"endpoint": f"http://127.0.0.1:{clickhouse}", "database": "otel", "compress": compress}
    with otelcol("clickhouse", settings) as collector, connect(f"clickhouse://127.0.0.1:{clickhouse}/otel") as store:
        run(collector.http, runs=CASES)
        until(lambda: rows(store, "(SELECT count() FROM otel_traces)") == CASES * SPANS_A_RUN, "the spans")
        until(lambda: rows(store, "(SELECT count() FROM otel_logs)") == CASES, "the records")
        spans = store.query(
            "SELECT DISTINCT Events.Name AS e, SpanAttributes['gen_ai.request.model'] AS m FROM otel_traces"
        )
        assert {"e": ["note"], "m": "scripted-1"} in spans


@pytest.mark.parametrize("place", ["otel", "tracegrade"], ids=["same database", "own database"])
def test_what_the_exporter_stores_is_graded_and_decided_on(
    clickhouse: int, otelcol: Callable[..., Any], serve: Callable[..., Any], place: str, tmp_path: Path
) -> None:
    server = f"clickhouse://127.0.0.1:{clickhouse}"
    settings = {"endpoint": f"http://127.0.0.1:{clickhouse}", "database": "otel"}
    with otelcol("clickhouse", settings) as collector, connect(f"{server}/{place}") as store:
        run(collector.http, "1.0.0", CASES)
        until(lambda: rows(store, "(SELECT count() FROM otel.otel_logs)") == CASES, "what came before")
        until(lambda: rows(store, "(SELECT count() FROM otel.otel_traces)") == CASES * SPANS_A_RUN, "what came before")
        said = tracegrade(
            "schema", "attach", "--store", f"{server}/{place}", "--table", "otel.otel_traces", "--backfill", "1d"
        )
        assert said.returncode == 0, said.stderr
        assert f"copied from otel.otel_traces: {CASES * SPANS_A_RUN} rows" in said.stdout
        assert f"copied from otel.otel_logs: {CASES} rows" in said.stdout
        with serve(store=f"{server}/{place}") as served:
            run(collector.http, "1.1.0", CASES)
            run(collector.http, "1.2.0", CASES, frozenset(range(0, CASES, 2)))
            graded = "(SELECT uniqExact(TraceId) FROM grades_v)"
            until(lambda: rows(store, graded) == 3 * CASES, "all three releases graded")
            # And what is sent to tracegrade itself stands beside.
            run(served.http, "2.0.0", 5)
            until(lambda: rows(store, graded) == 3 * CASES + 5, "what came over OTLP graded")
            assert rows(store, "(SELECT count() FROM otel.otel_traces)") == 3 * CASES * SPANS_A_RUN
            for name, text in {"suite.yaml": SUITE, "policy.yaml": POLICY}.items():
                (tmp_path / name).write_text(text)
            files = ["--suite", tmp_path / "suite.yaml", "--policy", tmp_path / "policy.yaml", "--server", served.gate]
            for candidate, code, word in [("1.1.0", 0, "promote"), ("1.2.0", 1, "rollback")]:
                arms = ["--baseline", "version=1.0.0", "--candidate", f"version={candidate}"]
                said = tracegrade("decide", *files, *arms, "--json")
                assert said.returncode == code, said.stdout + said.stderr
                assert json.loads(said.stdout)["decision"] in (word, "hold")
