"""One `tracegrade serve` for all real data: a process of its own on free ports, queried as its users would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from opentelemetry.sdk.trace import ReadableSpan

from bench.carding.convert import as_hex
from gate.service import EvaluationRequest
from store.client import Store, connect
from tracegrade.remote import ask_gate
from tracegrade.running import Addresses, find

from . import wire

PATIENCE_S = 120.0
Json = dict[str, Any]
POLICY = Path(__file__).parent / "approval.yaml"


def _until(what: str, done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < deadline, f"still waiting for {what} after {PATIENCE_S:g} s"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Decided:
    """What `tracegrade decide` said."""

    document: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return int(self.document["exitCode"])

    @property
    def status(self) -> dict[str, str]:
        """Status of each blocker."""
        return {criterion["id"]: criterion["status"] for criterion in self.document["criteria"]}

    def __str__(self) -> str:
        """What to print beside what the labels say."""
        lines = [f"exit {self.exit_code}: {self.document['summary']}"]
        for c in self.document["criteria"]:
            lines.append(
                f"  {c['id']}: {c['status']}, n={c['n']} broke={c['regressions']} fixed={c['fixes']}; {c['reason']}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Server:
    """A running server and its addresses."""

    folder: Path
    config: Path
    at: Addresses
    client: Client
    store: Store

    def rows(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows through the read-only ClickHouse port."""
        return self.client.query(sql, parameters=parameters).result_rows

    def receive(self, traces: Sequence[Sequence[ReadableSpan]]) -> list[str]:
        """Send traces, every other one over each transport, and wait until all are stored; returns their ids."""
        wire.send([span for spans in traces[::2] for span in spans], wire.over_http(self.at.otlp_http))
        wire.send([span for spans in traces[1::2] for span in spans], wire.over_grpc(self.at.otlp_grpc))
        ids = [as_hex(spans[0])[0] for spans in traces]
        self.wait_stored(ids, sum(map(len, traces)))
        return ids

    def wait_stored(self, trace_ids: Sequence[str], spans: int) -> None:
        """Until as many spans of these traces are in the last table of the chain that an insert fills."""
        count = "SELECT sum(SpanCount) FROM traces_v WHERE TraceId IN {ids:Array(String)}"
        _until(f"{spans} spans", lambda: self.rows(count, ids=trace_ids)[0][0] >= spans)

    def wait_graded(self, trace_ids: Sequence[str]) -> None:
        """Until the worker has graded all that is stored of these traces, of which a first part may have been graded."""
        count = (
            "SELECT count() FROM (SELECT TraceId, LastIngested FROM traces_v WHERE TraceId IN {ids:Array(String)}) AS t "
            "INNER JOIN (SELECT TraceId, LastIngested FROM graded_traces FINAL WHERE TraceId IN {ids:Array(String)}) AS g "
            "ON t.TraceId = g.TraceId AND t.LastIngested = g.LastIngested"
        )
        wanted = len(set(trace_ids))
        _until(f"{wanted} graded traces", lambda: self.rows(count, ids=trace_ids)[0][0] == wanted)

    def add_suite(self, suite: Json) -> None:
        """Keep a suite, so that the runs of its cases are graded against them."""
        put = Request(f"http://{self.at.gate}/v1/suites", data=json.dumps(suite).encode(), method="PUT")
        with urlopen(put) as response:
            assert response.status == 201

    def decide(self, suite: Json, policy: Json, baseline: str, candidate: str) -> Decided:
        """`tracegrade decide --json`, as a release manager would call it."""
        files = {"suite": suite, "policy": policy}
        for name, content in files.items():
            (self.folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        options = [text for name in files for text in (f"--{name}", self.folder / f"{name}.json")]
        arms = ["--baseline", f"version={baseline}", "--candidate", f"version={candidate}"]
        done = subprocess.run(
            command("decide", "--config", self.config, "--json", *options, *arms),
            capture_output=True,
            env=environment(),
            timeout=PATIENCE_S,
        )
        assert done.stdout, done.stderr.decode(errors="replace")
        found = Decided(json.loads(done.stdout))
        assert done.returncode == found.exit_code
        return found

    def ask(self, suite: Json, policy: Json, baseline: str, candidate: str) -> Decided:
        """The same question over REST, without the second a command takes to start."""
        request = EvaluationRequest.model_validate(
            {
                "suite": suite["name"],
                "policy": policy,
                "baseline": {"kind": "version", "value": baseline},
                "candidate": {"kind": "version", "value": candidate},
            }
        )
        return Decided(ask_gate(f"http://{self.at.gate}", json.dumps(suite).encode(), request))


def command(*arguments: str | Path) -> list[str]:
    """The console script, by module so that no PATH matters."""
    return [sys.executable, "-m", "tracegrade", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This environment without settings of a tracegrade that is not the one under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACEGRADE_")}


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """`tracegrade serve` with an embedded store below `folder`; at the end it stops in order, nothing having broken."""
    config, log = folder / "tracegrade.json", folder / "serve.log"
    settings: Json = {
        "data_dir": str(folder / "data"),
        # What arrives is compared with what was sent, secrets that stand in it included.
        "collector": {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.2, "redaction": {"groups": []}},
        "clickhouse": {"port": 0},
        "gate": {"port": 0, "grpc_port": 0},
        "admin": {"port": 0},
        "grading": {"grace_seconds": 0.5, "idle_seconds": 2, "agent_policies": [str(POLICY)]},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("serve", "--config", config), stdout=output, stderr=output, cwd=folder, env=environment()
        )
    try:

        def addresses() -> Addresses | None:
            assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
            return find(folder / "data")

        at: Addresses = _until("the server", addresses)
        host, port = at.clickhouse.split(":")
        client = clickhouse_connect.get_client(
            host=host, port=int(port), database="tracegrade", autogenerate_session_id=False
        )
        with connect(f"clickhouse://{at.clickhouse}/tracegrade", create=False) as store:
            yield Server(folder, config, at, client, store)
        client.close()
        process.terminate()
        assert process.wait(30) == 0, log.read_text(encoding="utf-8", errors="replace")
        assert "Traceback" not in log.read_text(encoding="utf-8", errors="replace")
    finally:
        process.kill()
