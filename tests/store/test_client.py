"""The store's own promises: what is graded when, what replaces what, which failures are final."""

from __future__ import annotations

import logging
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from store import client as client_module
from store import rows
from store.client import Dsn, Store, connect
from store.errors import OutOfMemory, Permanent, Retryable
from store.types import Case, Evidence, Expectations, ExpectedCall, Grade, Outcome, ToolCall

NOW = 1_790_000_000_000_000_000
TRACE = "01" * 16


def send(store: Store, tmp_path: Path, segment: str, *, root: bool = True, case: str = "", agent: bool = True) -> None:
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=b"\x01" * 16,
            span_id=segment.encode()[-8:].rjust(8),
            parent_span_id=b"" if root else b"\x09" * 8,
            start_time_unix_nano=NOW,
        )
    )
    attributes = {"gen_ai.operation.name": "invoke_agent"} if agent else {}
    if case:
        attributes |= {"tracegrade.case.id": case, "tracegrade.suite": "suite"}
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value
    body = request.SerializeToString()
    path = tmp_path / "segment"
    path.write_bytes(_VarintBytes(len(body)) + body)
    store.load("traces", segment, path)


def mark(store: Store) -> None:
    for row in store.closed_traces(grace_ms=0, idle_ms=10**9):
        store.mark_graded(
            [
                {
                    "TraceId": row["TraceId"],
                    "Generation": row["Generation"] + 1,
                    "LastIngested": row["LastIngested"],
                    "Completeness": "complete",
                    "GraderSet": "x",
                }
            ]
        )


def closed(store: Store, **limits: int) -> list[tuple[str, int]]:
    return [
        (row["TraceId"], row["Generation"])
        for row in store.closed_traces(**{"grace_ms": 0, "idle_ms": 10**9, **limits})  # type: ignore[arg-type]
    ]


def test_a_trace_is_ready_once_its_root_came_and_all_was_quiet(store: Store, tmp_path: Path) -> None:
    send(store, tmp_path, "child", root=False)
    assert closed(store) == []
    assert closed(store, idle_ms=0) == [(TRACE, 0)], "without a root, silence decides"
    send(store, tmp_path, "root")
    assert closed(store, grace_ms=60_000) == []
    assert closed(store) == [(TRACE, 0)]


def test_late_spans_reopen_a_graded_trace(store: Store, tmp_path: Path) -> None:
    send(store, tmp_path, "root")
    mark(store)
    assert closed(store) == []
    send(store, tmp_path, "late", root=False)
    assert closed(store) == [(TRACE, 1)]


def test_a_trace_without_agents_is_not_graded(store: Store, tmp_path: Path) -> None:
    send(store, tmp_path, "root", agent=False)
    assert closed(store) == []


def test_a_changed_suite_regrades_the_traces_that_ran_it(store: Store, tmp_path: Path) -> None:
    send(store, tmp_path, "root", case="one")
    case = Case(id="one", bucket="b", digest="d1", expect=Expectations(tools=(ExpectedCall("t", {"n": 1}),)))
    store.save_suite("suite", "s1", "{}", [case])
    mark(store)
    assert store.cases([TRACE]) == {TRACE: case}
    store.save_suite("suite", "s1", "{}", [case])
    assert closed(store) == [], "the same version again changes nothing"
    changed = Case(id="one", bucket="b", digest="d2")
    store.save_suite("suite", "s2", "{}", [changed])
    far_future = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert closed(store, since_ms=far_future) == [(TRACE, 1)]
    assert store.cases([TRACE]) == {TRACE: changed}


def test_grades_of_the_newest_generation_count(store: Store, tmp_path: Path) -> None:
    send(store, tmp_path, "root")
    grade = Grade(TRACE, "s", "a/b", "1", "c", Outcome.FAIL, evidence=(Evidence("s", "attribute", "quoted"),))
    store.insert_grades([grade])
    store.insert_grades([grade])
    assert store.query("SELECT * FROM grades_v") == [], "grades count once the whole trace is graded"
    mark(store)
    assert [row["Outcome"] for row in store.query("SELECT Outcome FROM grades_v")] == ["fail"]
    send(store, tmp_path, "late", root=False)
    mark(store)
    assert store.query("SELECT * FROM grades_v") == [], "the first generation is history"


@pytest.mark.parametrize("start", [-1, 0, 2**63 - 1, 2**63, 2**70])
def test_tool_calls_at_any_time(store: Store, start: int) -> None:
    for end in (0, 2**70):
        call = ToolCall(key="k", name="n", index=0, start_ns=start, end_ns=end, executed=None)
        store.insert_columns("tool_calls", rows.columns([rows.call_row(TRACE, 1, call, "")]))
    assert [row["Executed"] for row in store.query("SELECT Executed FROM tool_calls FINAL")] == ["unknown"]


def test_values_are_never_read_as_sql(store: Store) -> None:
    hostile = "'); DROP TABLE suites; --"
    store.save_suite(hostile, hostile, hostile, [Case(id=hostile, bucket=hostile, digest="d")])
    assert [row["Suite"] for row in store.query("SELECT Suite FROM suites")] == [hostile]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "chdb:///path"),
        ("/var/db", "chdb:///path"),
        ("chdb://", "names no directory"),
        ("clickhouse://", "names no host"),
        ("postgres://me:s3cret@host/db", "not understood"),
        ("clickhouse://me:s3cret@/db", "names no host"),
        ("clickhouse://me:s3cret@host/db?secure=1", "no use for"),
        ("clickhouse://me:s3cret#more@host/db", "write %3F and %23"),
        ("clickhouse://me:s3cret/more@host/db", "in a user or password write"),
        ("clickhouse://me:s3cret@host:99999/db", "up to 65535"),
        ("chdb:///var/db?config-file=other.xml", "no use for"),
        ("chdb:///var/db%3Fconfig-file=other.xml", "which the engine cannot open"),
    ],
)
def test_a_bad_store_address_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        Dsn.parse(text)
    assert "s3cret" not in str(raised.value)


def test_store_addresses_are_taken_apart() -> None:
    assert Dsn.parse("clickhouses://me:p%40ss@db.example/agents") == Dsn(
        embedded=False, host="db.example", port=8443, user="me", password="p@ss", secure=True, database="agents"
    )
    assert Dsn.parse("chdb:///var/lib/t").path == "/var/lib/t"


def test_a_server_that_is_not_there_may_come_back() -> None:
    with pytest.raises(Retryable):
        connect("clickhouse://127.0.0.1:9/db")


def test_a_closed_store_says_so(engine_path: Path) -> None:
    store = connect(Dsn(embedded=True, path=str(engine_path), database="shut"))
    store.close()
    with pytest.raises(Permanent, match="closed"):
        store.query("SELECT 1")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Code: 241. DB::Exception: Query memory limit exceeded: would use 1.00 GiB.", OutOfMemory),
        (
            "Code: 241. DB::Exception: Received from shard-2:9000. DB::Exception: Query memory limit exceeded.",
            Retryable,
        ),
        ("Code: 210. DB::Exception: Connection refused.", Retryable),
        ("Code: 26. DB::Exception: Cannot parse.", Permanent),
        ("Code: 36. DB::Exception: Unknown setting value.", Retryable),
    ],
)
def test_a_failure_says_what_may_be_tried(said: str, kind: type[Exception]) -> None:
    def fail() -> None:
        error = DatabaseError(said)
        error.code = int(said.split(".")[0].removeprefix("Code: "))
        raise error

    with pytest.raises(Exception, match="DB::Exception") as raised:
        client_module._guard(fail)
    assert type(raised.value) is kind


def test_a_server_that_is_away_is_named_in_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with caplog.at_level(logging.WARNING), pytest.raises(Retryable) as raised:
        connect(f"clickhouse://user:hidden@127.0.0.1:{port}/x")
    assert str(raised.value) == f"the store at http://127.0.0.1:{port} does not answer: Connection refused"
    assert "clickhouse_connect" not in caplog.text
