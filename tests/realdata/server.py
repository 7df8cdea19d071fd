"""One `tracegrade serve` for all real data: a process of its own on free ports, queried as its users would."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from opentelemetry.sdk.trace import ReadableSpan

from store.client import Store, connect

from . import wire
from .convert import as_hex

PATIENCE_S = 90.0
POLICY = Path(__file__).parent / "approval.yaml"


def _until(what: str, done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < deadline, f"still waiting for {what} after {PATIENCE_S:g} s"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Server:
    """A running server and its addresses."""

    folder: Path
    config: Path
    otlp_http: int
    otlp_grpc: int
    client: Client
    store: Store

    def rows(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows through the read-only ClickHouse port."""
        return self.client.query(sql, parameters=parameters).result_rows

    def receive(self, traces: Sequence[Sequence[ReadableSpan]]) -> list[str]:
        """Send traces, every other one over each transport, and wait until all are stored; returns their ids."""
        wire.send([span for spans in traces[::2] for span in spans], wire.over_http(self.otlp_http))
        wire.send([span for spans in traces[1::2] for span in spans], wire.over_grpc(self.otlp_grpc))
        ids = [as_hex(spans[0])[0] for spans in traces]
        self.wait_stored(ids, sum(map(len, traces)))
        return ids

    def wait_stored(self, trace_ids: Sequence[str], spans: int) -> None:
        """Until as many spans of these traces are in the store."""
        count = "SELECT count() FROM otel_traces WHERE TraceId IN {ids:Array(String)}"
        _until(f"{spans} spans", lambda: self.rows(count, ids=trace_ids)[0][0] >= spans)

    def wait_graded(self, trace_ids: Sequence[str]) -> None:
        """Until the worker has graded all of these traces."""
        count = "SELECT uniqExact(TraceId) FROM graded_traces WHERE TraceId IN {ids:Array(String)}"
        _until(f"{len(trace_ids)} grades", lambda: self.rows(count, ids=trace_ids)[0][0] == len(set(trace_ids)))


def command(*arguments: str | Path) -> list[str]:
    """The console script, by module so that no PATH matters."""
    return [sys.executable, "-m", "tracegrade", *map(str, arguments)]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """`tracegrade serve` with an embedded store below `folder`, stopped at the end."""
    config = folder / "tracegrade.json"
    config.write_text(
        json.dumps(
            {
                "data_dir": str(folder / "data"),
                "collector": {"buffer_dir": str(folder / "buffer"), "grpc_port": 0, "http_port": 0},
                "clickhouse": {"port": 0},
                "gate": {"port": 0},
                "grading": {"grace_seconds": 0.5, "idle_seconds": 2, "approval_policy": str(POLICY)},
            }
        ),
        encoding="utf-8",
    )
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command("serve", "--config", config), stdout=log, stderr=log, cwd=folder)
    try:
        announced = folder / "data" / "serve.json"

        def addresses() -> dict[str, Any]:
            assert process.poll() is None, (folder / "serve.log").read_text(encoding="utf-8", errors="replace")
            text = announced.read_text(encoding="utf-8") if announced.exists() else ""
            return json.loads(text) if text.endswith("}") else {}

        at = _until("the server", addresses)
        ports = {name: int(address.rsplit(":", 1)[1]) for name, address in at.items() if name != "pid"}
        client = clickhouse_connect.get_client(host="127.0.0.1", port=ports["clickhouse"], database="tracegrade")
        store = connect(f"clickhouse://127.0.0.1:{ports['clickhouse']}/tracegrade", create=False)
        try:
            yield Server(folder, config, ports["otlp_http"], ports["otlp_grpc"], client, store)
        finally:
            client.close()
            store.close()
    finally:
        process.terminate()
        process.wait(30)
