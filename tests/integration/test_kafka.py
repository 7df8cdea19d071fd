"""OpenTelemetry Collector → Kafka → ClickHouse → graded, with a real broker.

The embedded engine of today starts no Kafka consumers, so an older one, which can read a topic when it is asked, does
the consumer's part with the table `schema print --kafka` prints. What it read goes through the views it prints, in today's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent import SPANS_A_RUN, run
from neighbours import free_port, listens, neighbour, running, until

from graders import GraderSets, load_graders
from graders.worker import Worker
from store.client import Dsn, connect
from store.kafka import statements, topics
from store.schema import Layout

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

RUNS = 25
_VIRTUAL = "_topic, _partition, _offset, _error, _raw_message"
_VIRTUAL_COLUMNS = "_topic LowCardinality(String), _partition Int64, _offset Int64, _error String, _raw_message String"
# Runs in the older engine: makes the tables, then asks each for what its topic holds until that is all there.
_CONSUME = """
import json, os, sys, time, chdb
task = json.load(sys.stdin)
connection = chdb.connect(task["path"])
for statement in task["make"]:
    connection.query(statement)
for table, column, messages in task["read"]:
    seen, deadline = 0, time.monotonic() + task["seconds"]
    while seen < messages and time.monotonic() < deadline:
        rows = f"SELECT {column}, {task['virtual']} FROM {table} SETTINGS stream_like_engine_allow_direct_select = 1"
        connection.query(f"INSERT INTO read_{table} {rows}")
        seen = int(str(connection.query(f"SELECT count() FROM read_{table}")).strip())
    connection.query(f"SELECT * FROM read_{table} INTO OUTFILE '{task['path']}/{table}.native' FORMAT Native")
os._exit(0)  # its Kafka client takes a stopping engine ill
"""


@dataclass(frozen=True)
class Broker:
    address: str
    jars: Path
    folder: Path

    def tool(self, name: str, *arguments: str, given: bytes = b"") -> str:
        command = ["java", "-Xmx128m", "-cp", f"{self.jars}/*", name, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def messages(self, topic: str) -> int:
        said = self.tool("org.apache.kafka.tools.GetOffsetShell", "--bootstrap-server", self.address, "--topic", topic)
        return sum(int(line.rpartition(":")[2]) for line in said.splitlines() if line.startswith(f"{topic}:"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    jars = neighbour("TRACEGRADE_KAFKA", "Kafka (it takes Java and Maven)")
    port, controller = free_port(), free_port()
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(tmp_path / "kafka"),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
    }
    file = tmp_path / "kafka.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    made = Broker(f"127.0.0.1:{port}", jars, tmp_path)
    made.tool("kafka.tools.StorageTool", "format", "--standalone", "-t", "dHJhY2VncmFkZS10ZXN0cw", "-c", str(file))
    with running(["java", "-Xmx400m", "-cp", f"{jars}/*", "kafka.Kafka", file], tmp_path / "kafka.log"):
        until(lambda: listens(port), "Kafka")
        yield made


def beside(queue: str, engine: str) -> str:
    """The table that is printed, filled by hand: its columns and those a Kafka table has of itself."""
    head, _, rest = queue.partition("\n(\n")
    columns = rest.partition("\n)\nENGINE = Kafka")[0]
    return f"{head} ({columns}, {_VIRTUAL_COLUMNS}) ENGINE = {engine}"


def test_from_the_collector_over_kafka_to_grades(
    broker: Broker, otelcol: Callable[..., Any], engine_path: Path, tmp_path: Path
) -> None:
    engine = neighbour("TRACEGRADE_KAFKA_ENGINE", "an engine that reads from Kafka")
    sent = {"traces": {"topic": "spans", "encoding": "otlp_proto"}, "logs": {"topic": "logs", "encoding": "otlp_proto"}}
    with otelcol("kafka", {"brokers": [broker.address], **sent}) as collector:
        run(collector.http, runs=RUNS)
        found = until(lambda: (n := broker.messages("logs")) and broker.messages("spans") and n, "messages", 90)
        assert found
    # One message that is no request at all.
    garbage = ["--bootstrap-server", broker.address, "--topic", "spans"]
    broker.tool("org.apache.kafka.tools.ConsoleProducer", *garbage, given=b"\xff\xff this is no protobuf\n")
    made = list(statements(broker.address, "tracegrade", topics("spans", "logs"), Layout()))
    queues = [text for text in made if "ENGINE = Kafka" in text]
    read = {"kafka_requests": ("resource_spans", "spans"), "kafka_log_requests": ("resource_logs", "logs")}
    task = {
        "path": str(tmp_path / "engine"),
        "make": [*queues, *(beside(text, "Memory").replace("EXISTS kafka", "EXISTS read_kafka") for text in queues)],
        "read": [[table, column, broker.messages(topic)] for table, (column, topic) in read.items()],
        "virtual": _VIRTUAL,
        "seconds": 60,
    }
    (tmp_path / "engine").mkdir()
    command = [str(engine / "bin" / "python"), "-c", _CONSUME]
    said = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr

    with connect(Dsn(embedded=True, path=str(engine_path), database="over_kafka")) as store:
        store.apply_schema()
        for text in queues:
            store.command(beside(text, "Null"))
        for text in made:
            if text not in queues:
                store.command(text)
        for table, (column, _) in read.items():
            file = tmp_path / "engine" / f"{table}.native"
            store.command(f"INSERT INTO {table} ({column}, {_VIRTUAL}) SELECT * FROM file('{file}', 'Native')")
        counts = "SELECT (SELECT uniqExact(SpanId) FROM otel_traces) AS spans, (SELECT count() FROM otel_logs) AS logs"
        assert store.query(counts) == [{"spans": RUNS * SPANS_A_RUN, "logs": RUNS}]
        kept = store.query("SELECT Topic, Message, Error != '' AS told FROM kafka_undecodable")
        assert [(row["Topic"], row["told"]) for row in kept] == [("spans", 1)]
        assert "this is no protobuf" in str(kept[0]["Message"])
        worker = Worker(store, GraderSets(load_graders({"tools/loop": {}})), grace_ms=0, idle_ms=0)
        while worker.run_once():
            pass
        assert store.query("SELECT uniqExact(TraceId) AS traces FROM grades_v") == [{"traces": RUNS}]
        store.command("DROP DATABASE over_kafka SYNC")
