"""The statements by which ClickHouse reads OTLP from Kafka into the same front door the collector loads segments into.

Promises: what the OpenTelemetry Collector's Kafka exporter writes with `encoding: otlp_proto` (one request a message) takes the
way of every other request from the front door on, and a message ClickHouse cannot read is kept, with the reason, beside the
place in the topic it came from. Pure; running the statements is the caller's business, and needs a server: the embedded
engine starts no consumers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from store.dialects import quote
from store.schema import OTLP_PROTO, Layout, migrations


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that holds one signal."""

    signal: str
    name: str
    front: str
    message: str

    @property
    def queue(self) -> str:
        return self.front.replace("otlp_", "kafka_", 1)


def topics(traces: str = "", logs: str = "") -> list[Topic]:
    """The topics that were named."""
    found = [
        Topic("traces", traces, "otlp_requests", "ExportTraceServiceRequest"),
        Topic("logs", logs, "otlp_log_requests", "ExportLogsServiceRequest"),
    ]
    return [topic for topic in found if topic.name]


def statements(brokers: str, group: str, topics: list[Topic], layout: Layout) -> Iterator[str]:
    """The tables and views, in order."""
    made = {statement.split(maxsplit=6)[5]: statement for _, many in migrations(layout) for statement in many}
    yield (
        f"CREATE TABLE IF NOT EXISTS kafka_undecodable{layout.everywhere}\n(\n"
        "    ReceivedAt DateTime64(3) DEFAULT now64(3),\n    Topic LowCardinality(String),\n    Partition Int64,\n"
        "    Offset Int64,\n    Error String CODEC(ZSTD(1)),\n    Message String CODEC(ZSTD(1))\n)\n"
        f"ENGINE = {layout.divided('MergeTree')}\nORDER BY (Topic, Partition, Offset)\n"
        f"TTL toDateTime(ReceivedAt) + INTERVAL {layout.retention_days} DAY"
    )
    for topic in topics:
        columns = made[topic.front].partition("\n")[2].rpartition("\nENGINE")[0]
        settings = {
            "kafka_broker_list": brokers,
            "kafka_topic_list": topic.name,
            # A group of its own: in one group, a table that is slow would hold up the other.
            "kafka_group_name": f"{group}-{topic.signal}",
            "kafka_format": "ProtobufSingle",
            "kafka_handle_error_mode": "stream",
            # The schema travels with the statement: nothing has to be put on the server.
            "format_schema_source": "string",
            "format_schema": OTLP_PROTO.read_text("utf-8"),
            "format_schema_message_name": topic.message,
        }
        listed = ",\n    ".join(f"{name} = {quote(value)}" for name, value in settings.items())
        yield (
            f"CREATE TABLE IF NOT EXISTS {topic.queue}{layout.everywhere}\n{columns}\nENGINE = Kafka\nSETTINGS\n    {listed},\n"
            "    input_format_protobuf_oneof_presence = 1"
        )
        yield (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {topic.queue}_undecodable_mv{layout.everywhere} TO kafka_undecodable AS\n"
            "SELECT _topic AS Topic, _partition AS Partition, _offset AS Offset, _error AS Error, _raw_message AS Message\n"
            f"FROM {topic.queue}\nWHERE _error != ''"
        )
        field = columns.split()[1]
        yield (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {topic.queue}_mv{layout.everywhere} TO {topic.front} AS\n"
            f"SELECT {field} FROM {topic.queue}\nWHERE _error = ''"
        )


def render(brokers: str, group: str, topics: list[Topic], layout: Layout) -> str:
    """All of it as one script."""
    return "".join(f"{statement};\n\n" for statement in statements(brokers, group, topics, layout))
