"""Schemas of databases made before, on a cluster, and in front of Kafka."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from store import Permanent
from store.client import Dsn, Store, connect
from store.kafka import statements as kafka_statements
from store.kafka import topics
from store.migrate import done_to
from store.schema import Layout, mark, migrations, render

GOLDEN = sorted((Path(__file__).parent / "golden").glob("schema-*.sql"))
CLUSTER = Layout(cluster="agents")


def files_of(script: str) -> dict[str, list[str]]:
    """version → statements of a rendered schema."""
    parts = re.split(r"^-- (\w+)\n", script, flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return {version: [s for s in text.split(";\n\n") if s.strip()] for version, text in found}


def send(store: Store, folder: Path, segment: str, traces: int = 1) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for n in range(traces):
        for m in range(3):
            span = spans.add(
                name="invoke_agent a", trace_id=segment.encode().rjust(12) + n.to_bytes(4), span_id=bytes([m]) * 8
            )
            span.parent_span_id = bytes([0]) * 8 if m else b""
            span.start_time_unix_nano = 1_790_000_000_000_000_000
            span.attributes.add(key="gen_ai.operation.name").value.string_value = "invoke_agent"
    body = request.SerializeToString()
    path = folder / segment
    path.write_bytes(_VarintBytes(len(body)) + body)
    store.load("traces", segment, path)


@pytest.fixture
def databases(engine_path: Path) -> Iterator[list[Store]]:
    """An old database and a new one."""
    opened = [connect(Dsn(embedded=True, path=str(engine_path), database=f"schema_{name}")) for name in ("old", "new")]
    yield opened
    for store in opened:
        store.command(f"DROP DATABASE IF EXISTS {store.database} SYNC")
        store.close()


# --- what was made before ---


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_a_database_made_before_comes_up_to_date_where_it_is(
    databases: list[Store], golden: Path, tmp_path: Path
) -> None:
    old, new = databases
    old.command("CREATE TABLE schema_migrations (Version String, AppliedAt DateTime64(3) DEFAULT now64(3)) "
                "ENGINE = ReplacingMergeTree(AppliedAt) ORDER BY Version")  # fmt: skip
    for version, statements in files_of(golden.read_text("utf-8")).items():
        for statement in statements:
            old.command(statement)
        old.insert("schema_migrations", [{"Version": version}])
    send(old, tmp_path, "before")
    assert old.apply_schema()
    assert old.apply_schema() == []
    send(old, tmp_path, "after")
    send(old, tmp_path, "after")
    assert old.query("SELECT count() AS n FROM agent_spans") == [{"n": 6}]
    assert len(old.closed_traces(grace_ms=0, idle_ms=0)) == 2
    new.apply_schema()
    text = "SELECT name, replaceAll(create_table_query, currentDatabase(), '') AS text FROM system.tables "
    text += "WHERE database = currentDatabase() ORDER BY name"
    assert old.query(text) == new.query(text)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_a_file_is_never_edited_after_release(golden: Path) -> None:
    """Tables that keep rows stay as they were made; what changes them is a file of its own."""
    now = dict(migrations())
    for version, statements in files_of(golden.read_text("utf-8")).items():
        keep = [statement for statement in statements if not mark(statement)]
        assert keep == [statement for statement in now[version] if not mark(statement)]


def test_what_keeps_no_rows_is_made_anew(databases: list[Store], tmp_path: Path) -> None:
    store = databases[0]
    store.apply_schema()
    assert not [
        version for version in done_to(store) if version.startswith(("otel_traces ", "agent_spans ", "traces "))
    ]
    store.command("ALTER TABLE schema_migrations DELETE WHERE Version LIKE '% %' SETTINGS mutations_sync = 2")
    store.command("CREATE OR REPLACE VIEW traces_v AS SELECT 1 AS TraceId")
    store.command("ALTER TABLE agent_spans_mv MODIFY QUERY SELECT TraceId, SpanId FROM otel_traces")
    store.command("DROP TABLE otlp_requests_mv")
    store.command("DROP TABLE otlp_requests")
    store.command("CREATE TABLE otlp_requests (resource_spans Array(Tuple(nothing String))) ENGINE = Null")
    anew = {version.split()[0] for version in store.apply_schema()}
    assert {"otlp_requests", "otlp_requests_mv", "agent_spans_mv", "traces_v", "grades_v"} <= anew
    send(store, tmp_path, "one")
    assert store.query("SELECT SpanCount, AgentSpanCount FROM traces_v") == [{"SpanCount": 3, "AgentSpanCount": 3}]


def test_what_is_the_same_is_left_alone_and_remembers_what_it_was_given(databases: list[Store], tmp_path: Path) -> None:
    store = databases[0]
    store.apply_schema()
    send(store, tmp_path, "one")
    store.command("ALTER TABLE schema_migrations DELETE WHERE Version LIKE '% %' SETTINGS mutations_sync = 2")
    assert store.apply_schema()
    send(store, tmp_path, "one")
    assert store.query("SELECT count() AS n FROM agent_spans") == [{"n": 3}]


# --- clusters ---


def test_the_engine_parses_every_statement_for_a_cluster(databases: list[Store]) -> None:
    for text in cluster_statements():
        ast = databases[0].raw(f"EXPLAIN AST {text}", "TSVRaw").decode()
        assert ast.startswith(("CreateQuery", "Create", "AlterQuery")), text


def cluster_statements() -> list[str]:
    return [text for _, statements in migrations(CLUSTER) for text in statements]


def test_every_table_of_a_cluster_is_replicated_and_reached_as_a_whole() -> None:
    made = {}
    for text in cluster_statements():
        if text.startswith("ALTER TABLE"):
            assert " ON CLUSTER 'agents' " in text
            continue
        head = re.match(r"CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS (\w+) ON CLUSTER 'agents'", text)
        assert head is not None, text
        made[head[2]] = (head[1], text)
    rendered = render(CLUSTER)
    assert "non_replicated_deduplication_window" not in rendered
    heads = ((re.match(r"CREATE [A-Z ]+ IF NOT EXISTS (\w+)", t), t) for _, ts in migrations() for t in ts)
    alone = {head[1]: text for head, text in heads if head is not None}
    for name, text in alone.items():
        kind, spread = made[name]
        if kind == "MATERIALIZED VIEW" or name == "decisions_v" or text.endswith("ENGINE = Null"):
            assert f"{name}_local" not in made
        elif name in ("suites", "cases", "decisions", "decision_evidence"):
            assert re.search(
                r"ENGINE = Replicated\w*MergeTree\('/clickhouse/tables/\{uuid\}', '\{shard\}-\{replica\}'", spread
            )
        else:
            assert re.search(
                rf"Distributed\('agents', currentDatabase\(\), {name}_local, .*cityHash64\(TraceId\)", spread
            )
            if text.startswith("CREATE TABLE"):
                local = made[f"{name}_local"][1]
                assert re.search(r"ENGINE = Replicated(Replacing|Aggregating)?MergeTree", local)
                if "non_replicated_deduplication_window" in text:
                    assert "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds" in local
    for kind, text in made.values():
        if kind == "MATERIALIZED VIEW" and not re.search(r"TO (otel_traces|otel_logs) AS", text):
            assert re.search(r" TO \w+_local AS", text), "what is derived of a trace stays on the trace's shard"


_ONE_SHARD = """
<clickhouse><tcp_port>9000</tcp_port><remote_servers><agents><shard><replica><host>127.0.0.1</host><port>9000</port>
</replica></shard></agents></remote_servers></clickhouse>"""
_USE = """
import json, re, sys
from pathlib import Path
from store import engine
from store.client import Dsn, connect
from store.schema import Layout, migrations
engine.OPTIONS["config-file"] = "cluster.xml"
sys.path.insert(0, sys.argv[1])
from test_schema import send
from graders import GraderSets, load_graders
from graders.worker import Worker
here = Path.cwd()
with connect(Dsn(embedded=True, path=str(here / "db"), database="spread")) as store:
    for _, statements in migrations(Layout(cluster="agents")):
        for text in statements:
            # One engine has neither Keeper nor anyone to send DDL to.
            text = re.sub(r"Replicated(\\w*MergeTree)\\('/clickhouse[^']*', '[^']*'(?:, (\\w+))?\\)", r"\\1(\\2)", text)
            text = re.sub(r", replicated_deduplication_window_seconds = \\d+", "", text).replace(" ON CLUSTER 'agents'", "")
            store.command(text.replace("Replicated", "").replace(" replicated_dedup", " non_replicated_dedup"))
    for segment in ("one", "two", "one"):
        send(store, here, segment, 20)
    worker = Worker(store, GraderSets(load_graders({"tools/loop": {}})), grace_ms=0, idle_ms=0)
    while worker.run_once():
        pass
    count = lambda table: store.query(f"SELECT count() AS n FROM {table}")[0]["n"]
    tables = ["otel_traces", "otel_traces_local", "agent_spans", "traces_v", "graded_traces", "otel_traces_trace_id_ts"]
    print(json.dumps({table: count(table) for table in tables} | {"ungraded": len(store.closed_traces(grace_ms=0, idle_ms=0))}))
"""


def test_one_shard_without_replicas_stores_and_grades(tmp_path: Path) -> None:
    """The cluster's tables for real, but for replication and the way between servers."""
    (tmp_path / "cluster.xml").write_text(_ONE_SHARD)
    # What the working directory holds is nobody's wish: the engine would keep its data there.
    (tmp_path / "config.xml").write_text("<clickhouse><path>elsewhere</path></clickhouse>")
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", _USE, str(Path(__file__).parent)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env={"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout.splitlines()[-1]) == {
        "otel_traces": 120, "otel_traces_local": 120, "agent_spans": 120, "traces_v": 40, "graded_traces": 40,
        "otel_traces_trace_id_ts": 40, "ungraded": 0,
    }  # fmt: skip
    assert not (tmp_path / "elsewhere").exists()


def test_a_database_on_one_server_is_not_spread(databases: list[Store]) -> None:
    store = databases[0]
    store.apply_schema()
    with pytest.raises(Permanent, match="is on one server and cannot be spread over 'agents'"):
        store.apply_schema(cluster="agents")


# --- Kafka ---


def test_the_statements_for_kafka_are_made_for_what_is_named() -> None:
    assert [topic.message for topic in topics("spans", "logs")] == [
        "ExportTraceServiceRequest",
        "ExportLogsServiceRequest",
    ]
    assert [topic.front for topic in topics(logs="logs")] == ["otlp_log_requests"]


def test_the_engine_parses_every_statement_for_kafka(databases: list[Store]) -> None:
    for layout in (Layout(), CLUSTER):
        for text in kafka_statements("one:9092,two:9092", "it's", topics("spans", "logs"), layout):
            assert databases[0].raw(f"EXPLAIN AST {text}", "TSVRaw").startswith(b"Create"), text


def test_the_views_behind_kafka_part_requests_from_what_cannot_be_read(databases: list[Store], tmp_path: Path) -> None:
    """All but the consumer, which takes a broker: `make integration`."""
    store = databases[0]
    store.apply_schema()
    made = list(kafka_statements("broker:9092", "g", topics("spans"), Layout()))
    queue = next(text for text in made if "ENGINE = Kafka" in text)
    columns = queue.partition("\n")[2].partition("\nENGINE = Kafka")[0].strip()[:-1]
    store.command(
        f"CREATE TABLE kafka_requests {columns}, _topic String, _partition Int64, _offset Int64, _error String, "
        "_raw_message String) ENGINE = Null"
    )
    for text in made:
        if text != queue:
            store.command(text)
    span = "(unhex('01'), unhex('02'), '', '', 'chat', 1, 1790000000000000000, 0, [], 0, [], [], ('', 0))"
    request = f"[(tuple([]), [(('scope', ''), [{span}])])]"
    names = "(resource_spans, _topic, _partition, _offset, _error, _raw_message)"
    store.command(f"INSERT INTO kafka_requests {names} VALUES ({request}, 't', 0, 1, '', '')")
    store.command(f"INSERT INTO kafka_requests {names} VALUES ([], 't', 0, 2, 'CANNOT_PARSE', 'x')")
    assert store.query("SELECT SpanName FROM otel_traces") == [{"SpanName": "chat"}]
    kept = store.query("SELECT Topic, Partition, Offset, Error, Message FROM kafka_undecodable")
    assert kept == [{"Topic": "t", "Partition": 0, "Offset": 2, "Error": "CANNOT_PARSE", "Message": "x"}]
