"""The way telemetry takes: OTLP over HTTP into `tracegrade serve`, its embedded store, its worker, and SQL to read grades back.

The server is a process of its own in a folder that is deleted in the end. Content arrives as it was sent: redaction, which
would change what grades see, is off.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from bench.carding.convert import as_hex
from bench.carding.runs import POLICIES, Call, Planned, Run, graded
from bench.carding.sets import Loaded
from store.types import Completeness, Evidence, Grade, Outcome, Severity
from tracegrade.running import Addresses, find

PATIENCE_S = 300.0
_BATCH_SPANS = 2_000
_BATCH_IDS = 500
_EXECUTED = {"yes": True, "no": False, "unknown": None}
_GRADES = (
    "SELECT TraceId, SpanId, Grader, GraderVersion, ConfigDigest, toString(Outcome) AS Outcome, Subject, Score, Label, Reason, "
    "Severity, Evidence, Completeness, Generation, CaseDigest FROM grades_v WHERE TraceId IN {ids:Array(String)}"
)
_CALLS = (
    "SELECT TraceId, CallKey, ToolName, Arguments, if(SpanId = '', RequestSpanId, SpanId) AS Anchor, "
    "toString(Executed) AS Executed, Error FROM tool_calls FINAL WHERE TraceId IN {ids:Array(String)} "
    "ORDER BY TraceId, Position"
)
_STORED = "SELECT sum(SpanCount) FROM traces_v WHERE TraceId IN {ids:Array(String)}"
_GRADED = (
    "SELECT count() FROM (SELECT TraceId, LastIngested FROM traces_v WHERE TraceId IN {ids:Array(String)}) AS t "
    "INNER JOIN (SELECT TraceId, LastIngested FROM graded_traces FINAL WHERE TraceId IN {ids:Array(String)}) AS g "
    "ON t.TraceId = g.TraceId AND t.LastIngested = g.LastIngested"
)


class Broken(RuntimeError):
    """The server did not do what it should; says what was waited for."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="tracegrade-cards-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config, log = folder / "tracegrade.json", folder / "serve.log"
        settings = {
            "data_dir": str(folder / "data"),
            "collector": {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.2, "redaction": {"groups": []}},
            "clickhouse": {"port": 0},
            "gate": {"port": 0, "grpc_port": 0},
            "admin": {"port": 0},
            "grading": {"grace_seconds": 0.5, "idle_seconds": 2, "agent_policies": [str(file) for file in POLICIES]},
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRACEGRADE_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tracegrade", "serve", "--config", str(config)],
                stdout=output, stderr=output, cwd=folder, env=environment,
            )  # fmt: skip

        def addresses() -> Addresses | None:
            if process.poll() is not None:
                raise Broken(f"tracegrade serve ended: {log.read_text('utf-8', errors='replace')[-2000:]}")
            return find(folder / "data")

        try:
            at: Addresses = _until("the server", addresses)
            host, port = at.clickhouse.split(":")
            client = clickhouse_connect.get_client(
                host=host, port=int(port), database="tracegrade", autogenerate_session_id=False
            )
            try:
                yield Server(at, client)
            finally:
                client.close()
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Server:
    """A running server."""

    def __init__(self, at: Addresses, client: Client) -> None:
        self._at = at
        self._client = client

    def grade(self, loaded: Loaded, plan: Sequence[Planned]) -> Iterator[Run]:
        """Send a set's runs, wait until all are graded, and read what was found."""
        if loaded.suite:
            self._post(f"http://{self._at.gate}/v1/suites", json.dumps(loaded.suite).encode(), {}, "PUT")
        batch: list[Any] = []
        for item in plan:
            batch += item.spans
            if len(batch) >= _BATCH_SPANS:
                self._send(batch)
                batch = []
        if batch:
            self._send(batch)
        ids = [as_hex(item.spans[0])[0] for item in plan]
        for start in range(0, len(plan), _BATCH_IDS):
            part, names = plan[start : start + _BATCH_IDS], ids[start : start + _BATCH_IDS]
            yield from self._read(part, names)

    def _send(self, spans: Sequence[Any]) -> None:
        body = gzip.compress(encode_spans(spans).SerializeToString(), compresslevel=1)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        self._post(f"http://{self._at.otlp_http}/v1/traces", body, headers, "POST")

    @staticmethod
    def _post(url: str, body: bytes, headers: Mapping[str, str], method: str) -> None:
        with urlopen(Request(url, data=body, headers=dict(headers), method=method), timeout=PATIENCE_S) as response:
            if response.status not in (200, 201):
                raise Broken(f"{url} answered {response.status}")

    def _rows(self, sql: str, ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        return list(self._client.query(sql, parameters={"ids": list(ids)}).named_results())

    def _count(self, sql: str, ids: Sequence[str]) -> int:
        return int(self._client.query(sql, parameters={"ids": list(ids)}).result_rows[0][0])

    def _read(self, part: Sequence[Planned], ids: Sequence[str]) -> Iterator[Run]:
        spans = sum(len(item.spans) for item in part)
        _until(f"{spans} spans in the store", lambda: self._count(_STORED, ids) >= spans)
        _until(f"{len(ids)} graded traces", lambda: self._count(_GRADED, ids) >= len(ids))
        grades: dict[str, list[Grade]] = defaultdict(list)
        for row in self._rows(_GRADES, ids):
            grades[row["TraceId"]].append(_grade(row))
        calls: dict[str, list[Call]] = defaultdict(list)
        for row in self._rows(_CALLS, ids):
            executed = _EXECUTED[row["Executed"]]
            calls[row["TraceId"]].append(
                Call(row["CallKey"], row["ToolName"], row["Arguments"], row["Anchor"], executed, row["Error"])
            )
        for item, trace_id in zip(part, ids, strict=True):
            yield graded(item, trace_id, grades[trace_id], calls[trace_id])


def _grade(row: Mapping[str, Any]) -> Grade:
    return Grade(
        trace_id=row["TraceId"],
        span_id=row["SpanId"],
        grader=row["Grader"],
        grader_version=row["GraderVersion"],
        config_digest=row["ConfigDigest"],
        outcome=Outcome(row["Outcome"]),
        subject=row["Subject"],
        score=row["Score"],
        label=row["Label"],
        reason=row["Reason"],
        severity=Severity(row["Severity"]),
        evidence=tuple(Evidence(**item) for item in json.loads(row["Evidence"] or "[]")),
        completeness=Completeness(row["Completeness"]),
        generation=row["Generation"],
        case_digest=row["CaseDigest"],
    )


def _until(what: str, done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := done()):
        if time.monotonic() > deadline:
            raise Broken(f"still waiting for {what} after {PATIENCE_S:g} s")
        time.sleep(0.1)
    return found
