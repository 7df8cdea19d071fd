"""The whole program, as processes a user starts: traces in over real exporters, grades and decisions out."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from gate.pb import gate_pb2, gate_pb2_grpc
from store.client import Store, connect

Cli = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]

CASES = 40

SUITE = "name: demo\nbuckets: [b]\ncases:\n" + "".join(
    f"- {{id: case-{i}, bucket: b, expect: {{tools: [{{tool: lookup}}]}}}}\n" for i in range(CASES)
)
POLICY = """\
name: release
version: "1"
tiers: {medium: {margin: 0.10, min_cases: 36, min_clusters: 10}}
blockers:
- {id: tools, grader: tools/expected, mode: non_inferiority}
"""


def run_agent(exporter: SpanExporter, version: str, cases: range, broken: frozenset[int] = frozenset()) -> None:
    """One trace a case; in broken ones the agent calls no tool."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": "agent", "service.version": version, "tracegrade.run.id": version})
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for case in cases:
        labels = {"tracegrade.case.id": f"case-{case}", "tracegrade.suite": "demo"}
        with tracer.start_as_current_span(
            "invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent", **labels}
        ):
            if case in broken:
                continue
            attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "lookup",
                "gen_ai.tool.call.id": f"call-{case}",
                "gen_ai.tool.call.arguments": "{}",
                "gen_ai.tool.call.result": "found",
            }
            with tracer.start_as_current_span("execute_tool lookup", attributes=attributes):
                pass
    provider.shutdown()


def wait_for(store: Store, query: str, value: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while (found := next(iter(store.query(query)[0].values()))) != value:
        assert time.monotonic() < deadline, f"{query}: {found}, expected {value}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(start: Start) -> Any:
    server = start()
    http = f"http://{server.addresses.otlp_http}/v1/traces"
    run_agent(HttpExporter(http), "1.0", range(CASES))
    run_agent(GrpcExporter(server.addresses.otlp_grpc, insecure=True), "1.1", range(CASES))
    run_agent(HttpExporter(http), "1.2", range(CASES), frozenset(range(12)))
    with server.store() as store:
        wait_for(store, "SELECT count() FROM traces_v", 3 * CASES)
    (server.data_dir / "suite.yaml").write_text(SUITE)
    (server.data_dir / "policy.yaml").write_text(POLICY)
    return server


def decide(tracegrade: Cli, server: Any, candidate: str, *more: str) -> subprocess.CompletedProcess[str]:
    return tracegrade(
        *("decide", "--config", server.config_file),
        *("--suite", server.data_dir / "suite.yaml", "--policy", server.data_dir / "policy.yaml"),
        *("--baseline", "version=1.0", "--candidate", candidate, *more),
    )


def test_the_exit_code_is_the_verdict(server: Any, tracegrade: Cli) -> None:
    good = decide(tracegrade, server, "version=1.1@agent")
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.startswith("PROMOTE")
    bad = decide(tracegrade, server, "run=1.2")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert bad.stdout.startswith("HOLD regression")
    assert "case-11" in bad.stdout
    unknown = decide(tracegrade, server, "version=9.9")
    assert unknown.returncode in (3, 4), unknown.stdout + unknown.stderr


def test_the_panel_counts_the_runs_of_an_arm(server: Any, tracegrade: Cli) -> None:
    given = ("panel", "--config", server.config_file, "--suite", server.data_dir / "suite.yaml")
    found = json.loads(tracegrade(*given, "--arm", "version=1.0", "--json").stdout)
    assert found["suite"] == "demo"
    assert found["foreign"] == CASES  # its cases expect no action
    assert found["over_refusal"]["share"] is None
    shown = tracegrade(*given, "--arm", "version=1.0")
    assert shown.returncode == 0, shown.stderr
    assert "over-refusal" in shown.stdout
    assert f"by version 1.0; {CASES} runs of cases that expect none: name an arm" in shown.stderr.replace("\n", " ")


def test_the_decision_is_kept_with_its_digests(server: Any, tracegrade: Cli) -> None:
    document = json.loads(decide(tracegrade, server, "version=1.2", "--json").stdout)
    with urllib.request.urlopen(f"http://{server.addresses.gate}/v1/decisions/{document['id']}") as answer:
        assert json.load(answer) == {**document, "supersededEvidence": {"count": 0, "traces": []}}
    shown = tracegrade("decision", "--config", server.config_file, document["id"])
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "evidence: none of it was graded again since"
    assert tracegrade("decision", "--config", server.config_file, "../suites").returncode == 2
    rows = tracegrade(
        "sql", "--config", server.config_file, "--json", "SELECT * FROM decisions ORDER BY DecidedAt"
    ).stdout
    newest = json.loads(rows.splitlines()[-1])
    assert newest["DecisionId"] == document["id"]
    assert all(newest[key] for key in ("SuiteDigest", "PolicyDigest", "EvidenceDigest", "Digest"))


def test_sql_prints_tables_json_and_csv(server: Any, tracegrade: Cli) -> None:
    query = "SELECT ServiceVersion, count() AS n FROM traces_v GROUP BY ALL ORDER BY ALL"
    table = tracegrade("sql", "--config", server.config_file, query)
    assert "ServiceVersion" in table.stdout
    assert "3 rows" in table.stderr
    lines = tracegrade("sql", "--config", server.config_file, "--json", query).stdout.splitlines()
    assert [json.loads(line)["ServiceVersion"] for line in lines] == ["1.0", "1.1", "1.2"]
    csv = tracegrade("sql", "--config", server.config_file, "--csv", query).stdout
    assert csv.splitlines()[0] == '"ServiceVersion","n"'
    times = "SELECT toDateTime('2026-01-02 03:04:05', 'UTC') AS at, [toDate('2026-01-02')] AS days, NULL AS nothing"
    shown = tracegrade("sql", "--config", server.config_file, times).stdout.splitlines()[-1]
    assert shown.split("│")[0].strip().startswith("2026-01-02 03:04:05")
    assert [cell.strip() for cell in shown.split("│")[1:]] == ['["2026-01-02"]', "null"]


def test_what_telemetry_says_cannot_drive_the_terminal(server: Any, tracegrade: Cli) -> None:
    shown = tracegrade("sql", "--config", server.config_file, r"SELECT '\x1b[31m[bold]red[/bold]' AS text").stdout
    assert "\x1b" not in shown
    assert "[bold]red[/bold]" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sql", "SELECT nonsense"], 2, "nonsense"),
        (["sql", "DROP TABLE decisions"], 2, "read"),
        (["sql", "--json", "--csv", "SELECT 1"], 2, "choose one"),
        (["sql", "--store", "nowhere", "SELECT 1"], 2, "chdb:///path"),
    ],
)
def test_failures_say_what_is_wrong(server: Any, tracegrade: Cli, arguments: list[str], code: int, says: str) -> None:
    done = tracegrade(arguments[0], "--config", server.config_file, *arguments[1:])
    assert (done.returncode, says in done.stderr.lower() or says in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("suite", "policy", "says"),
    [
        ("name: demo\ncases: [{bucket: b}]\n", POLICY, "id"),
        ("name: demo\ncases: [{id: a, bucket: b}, {id: a, bucket: b}]\n", POLICY, "a"),
        (SUITE, POLICY.replace("tools/expected", "tools/expcted"), "tools/expected"),
        (SUITE, POLICY + "extra: 1\n", "extra"),
        ("[", POLICY, "YAML"),
    ],
)
def test_bad_suites_and_policies_are_refused_before_anything_runs(
    server: Any, tracegrade: Cli, tmp_path: Any, suite: str, policy: str, says: str
) -> None:
    (tmp_path / "suite.yaml").write_text(suite)
    (tmp_path / "policy.yaml").write_text(policy)
    done = tracegrade(
        *("decide", "--config", server.config_file, "--suite", tmp_path / "suite.yaml"),
        *("--policy", tmp_path / "policy.yaml", "--baseline", "version=1.0", "--candidate", "version=1.1"),
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert ".yaml:" in done.stderr, "the place is named"


def test_a_changed_suite_is_graded_again_before_the_decision(server: Any, tracegrade: Cli) -> None:
    suite = server.data_dir / "suite.yaml"
    suite.write_text(SUITE.replace("tool: lookup", "tool: other"))
    try:
        done = decide(tracegrade, server, "version=1.1", "--json")
        document = json.loads(done.stdout)
        [tools] = document["criteria"]
        assert (tools["baseline"], tools["candidate"]) == (0.0, 0.0), "nobody calls the other tool"
    finally:
        suite.write_text(SUITE)


def test_a_decision_without_a_server_grades_first(start: Start, tracegrade: Cli) -> None:
    server = start(grading={"grace_seconds": 3600.0, "idle_seconds": 3600.0})
    for version in ("1.0", "1.1"):
        run_agent(HttpExporter(f"http://{server.addresses.otlp_http}/v1/traces"), version, range(CASES))
    assert server.kill(signal.SIGTERM) == 0
    (server.data_dir / "suite.yaml").write_text(SUITE)
    (server.data_dir / "policy.yaml").write_text(POLICY)
    done = decide(tracegrade, server, "version=1.1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_decision_waits_for_what_was_just_acknowledged(start: Start, tracegrade: Cli) -> None:
    server = start(collector={"grpc_port": 0, "http_port": 0, "segment_age_seconds": 2.0})
    (server.data_dir / "suite.yaml").write_text(SUITE)
    (server.data_dir / "policy.yaml").write_text(POLICY)
    for version in ("1.0", "1.1"):
        run_agent(HttpExporter(f"http://{server.addresses.otlp_http}/v1/traces"), version, range(CASES))
    done = decide(tracegrade, server, "version=1.1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reader_that_leaves_is_no_verdict(server: Any) -> None:
    command = [
        *(sys.executable, "-m", "tracegrade", "decide", "--json", "--config", str(server.config_file)),
        *("--suite", str(server.data_dir / "suite.yaml"), "--policy", str(server.data_dir / "policy.yaml")),
        *("--baseline", "version=1.0", "--candidate", "version=1.1"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141


def test_a_pipe_gets_whole_values(server: Any, tracegrade: Cli) -> None:
    done = tracegrade(
        "sql", "--config", server.config_file, "SELECT repeat('x', 500) AS long, repeat('y', 500) AS longer"
    )
    assert "x" * 500 in done.stdout
    assert "y" * 500 in done.stdout


def test_reading_makes_no_database(tracegrade: Cli, tmp_path: Any) -> None:
    config = tmp_path / "tracegrade.yaml"
    config.write_text(f"data_dir: {tmp_path / 'elsewhere'}\n")
    done = tracegrade("sql", "--config", config, "SELECT 1")
    assert (done.returncode, "there is no database" in done.stderr) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_server_on_the_same_data_is_refused(server: Any, tracegrade: Cli) -> None:
    done = tracegrade("serve", "--config", server.config_file)
    assert done.returncode == 4
    assert f"served already: gate at http://{server.addresses.gate}" in done.stderr


def test_a_stopped_server_has_stored_all_it_acknowledged(start: Start) -> None:
    server = start()
    run_agent(HttpExporter(f"http://{server.addresses.otlp_http}/v1/traces"), "1.0", range(5))
    assert server.kill(signal.SIGTERM) == 0
    again = start(server.data_dir)
    with again.store() as store:
        assert store.query("SELECT count() AS n FROM otel_traces") == [{"n": 10}]
        wait_for(store, "SELECT count() FROM graded_traces", 5)


def test_a_killed_server_stores_on_the_next_start_what_it_acknowledged(start: Start) -> None:
    server = start(collector={"grpc_port": 0, "http_port": 0, "segment_age_seconds": 3600.0})
    run_agent(HttpExporter(f"http://{server.addresses.otlp_http}/v1/traces"), "1.0", range(5))
    server.kill()
    again = start(server.data_dir)
    with again.store() as store:
        wait_for(store, "SELECT count() FROM otel_traces", 10)


@pytest.fixture
def clickhouse(tmp_path: Any) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a ClickHouse over HTTP on a fixed port; the same database every time."""
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "tracegrade",
            "clickhouse",
            "--path",
            str(tmp_path / "db"),
            "--port",
            str(PORT),
        ]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
                return running[-1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    yield begin
    for process in running:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


PORT = free_port()


def test_a_dead_store_delays_and_loses_nothing(start: Start, clickhouse: Any, tmp_path: Any) -> None:
    http_port = free_port()
    dsn = f"clickhouse://127.0.0.1:{PORT}/agents"
    exporter = f"http://127.0.0.1:{http_port}/v1/traces"
    options = {
        "store": dsn,
        "collector": {"grpc_port": 0, "http_port": http_port, "segment_age_seconds": 0.1},
    }
    launched = start(tmp_path / "data", wait=False, **options)
    deadline = time.monotonic() + 60
    while True:  # the store is not there yet; whoever sends is answered all the same
        with suppress(OSError), socket.create_connection(("127.0.0.1", http_port), 1):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run_agent(HttpExporter(exporter), "1.0", range(5))
    engine = clickhouse()
    launched.wait_until_ready()
    with connect(dsn, create=False) as store:
        wait_for(store, "SELECT count() FROM otel_traces", 10)
    engine.kill()
    engine.wait()
    run_agent(HttpExporter(exporter), "1.1", range(5))
    clickhouse()
    with connect(dsn, create=False) as store:
        wait_for(store, "SELECT count() FROM otel_traces", 20)
        wait_for(store, "SELECT count() FROM graded_traces FINAL", 10)
        assert store.query("SELECT uniqExact(TraceId, SpanId) AS n FROM otel_traces") == [{"n": 20}]


def test_the_gate_answers_over_grpc_as_it_does_over_rest(server: Any, tracegrade: Cli) -> None:
    document = json.loads(decide(tracegrade, server, "version=1.1", "--json").stdout)
    with grpc.insecure_channel(server.addresses.gate_grpc) as channel:
        gate = gate_pb2_grpc.GateServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = gate.GetDecision(gate_pb2.GetDecisionRequest(id=document["id"]), timeout=10)
    assert answer.decision.digest == document["digest"]


def test_a_stop_does_not_wait_for_an_evaluation_that_waits(start: Start, tracegrade: Cli) -> None:
    """Runs that are never graded here (the grace period is an hour) keep an evaluation waiting for a minute."""
    server = start(grading={"grace_seconds": 3600})
    for version in ("1.0", "1.1"):
        run_agent(HttpExporter(f"http://{server.addresses.otlp_http}/v1/traces"), version, range(3))
    (server.data_dir / "suite.yaml").write_text(SUITE)
    (server.data_dir / "policy.yaml").write_text(POLICY)
    asked = threading.Thread(target=decide, args=(tracegrade, server, "version=1.1"), daemon=True)
    asked.start()
    with server.store() as store:
        wait_for(store, "SELECT count() FROM suites", 1)
    time.sleep(1.0)
    assert asked.is_alive()
    before = time.monotonic()
    assert server.kill(signal.SIGTERM) == 0
    assert time.monotonic() - before < 15
    asked.join(30)
