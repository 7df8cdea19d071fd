"""Tables that the OpenTelemetry Collector's ClickHouse exporter fills, in each of the forms deployments have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from graders import GraderSets, load_graders
from graders.worker import Worker
from store import Permanent
from store.attach import Source, backfill, find
from store.client import Dsn, Store, connect
from store.migrate import attach, detach, done_to, would_attach
from store.schema import Layout

MAP = "Map(LowCardinality(String), String)"
INDEXES = """
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1"""
SCOPE = "ScopeName String CODEC(ZSTD(1)), ScopeVersion String CODEC(ZSTD(1)),"


def table(*, scope: str = SCOPE, duration: str = "UInt64", extra: str = "", order: str, attributes: str = MAP) -> str:
    return f"""
CREATE TABLE otel_traces (
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)), TraceId String CODEC(ZSTD(1)), SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)), TraceState String CODEC(ZSTD(1)), SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)), ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes {attributes} CODEC(ZSTD(1)), {scope} SpanAttributes {attributes} CODEC(ZSTD(1)),
    Duration {duration} CODEC(ZSTD(1)), StatusCode LowCardinality(String) CODEC(ZSTD(1)), StatusMessage String CODEC(ZSTD(1)),
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes {attributes}) CODEC(ZSTD(1)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes {attributes}) CODEC(ZSTD(1))
    {extra}
) ENGINE = MergeTree PARTITION BY toDate(Timestamp) {order}
TTL toDate(Timestamp) + toIntervalDay(3000) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1"""


LOOKUP = """
CREATE TABLE otel_traces_trace_id_ts (TraceId String, Start DateTime, End DateTime)
ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)"""
LOOKUP_VIEW = """
CREATE MATERIALIZED VIEW otel_traces_trace_id_ts_mv TO otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM otel_traces WHERE TraceId != '' GROUP BY TraceId"""
LOGS = f"""
CREATE TABLE otel_logs (
    Timestamp DateTime64(9), TimestampTime DateTime DEFAULT toDateTime(Timestamp), TraceId String, SpanId String,
    TraceFlags UInt8, SeverityText LowCardinality(String), SeverityNumber UInt8, ServiceName LowCardinality(String),
    Body String,
    ResourceSchemaUrl LowCardinality(String), ResourceAttributes {MAP}, ScopeSchemaUrl LowCardinality(String), ScopeName String,
    ScopeVersion LowCardinality(String), ScopeAttributes {MAP}, LogAttributes {MAP}
) ENGINE = MergeTree PARTITION BY toDate(TimestampTime) ORDER BY (ServiceName, TimestampTime, Timestamp)"""

FORMS = {
    "classic": table(extra=f",{INDEXES}", order="ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))"),
    "new": table(
        extra=f""",
    ResourceAttributeItems Array(String)
        ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(ResourceAttributes, 'Array(Tuple(String, String))')),
    SpanAttributeItems Array(String)
        ALIAS arrayMap(kv -> concat(kv.1, '=', kv.2), CAST(SpanAttributes, 'Array(Tuple(String, String))')),
    `__otel_materialized_k8s.pod.name` LowCardinality(String) MATERIALIZED ResourceAttributes['k8s.pod.name'],
    INDEX idx_lower_span_name lower(SpanName) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8, {INDEXES}""",
        order="PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp)) "
        "ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)",
    ),
    "old": table(
        scope="", duration="Int64", order="ORDER BY (ServiceName, SpanName, toUnixTimestamp(Timestamp), TraceId)"
    ),
    "bare": """
CREATE TABLE otel_traces (
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, SpanName String, ServiceName String,
    ResourceAttributes Map(String, String), SpanAttributes Map(String, String), Duration Int64, StatusCode String
) ENGINE = MergeTree ORDER BY Timestamp""",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A table of the exporter and a store that may or may not be the database it is in."""

    exporter: Store
    store: Store
    traces: str

    def sources(self) -> list[Source]:
        return find(self.store, self.traces, None, self.store.database)

    def insert(self, trace: str, at: datetime, *, old: bool = False) -> None:
        """An agent that calls one tool, as the exporter writes it; two spans."""
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "call_1"}
        status = ("STATUS_CODE_UNSET", "STATUS_CODE_ERROR") if old else ("Unset", "Error")
        spans = [
            ("aa", "", "invoke_agent support", {"gen_ai.operation.name": "invoke_agent"}, status[0]),
            ("bb", "aa", "execute_tool lookup", tool, status[1]),
        ]
        self.exporter.insert(
            "otel_traces",
            [
                {
                    "Timestamp": at + timedelta(milliseconds=n),
                    "TraceId": trace,
                    "SpanId": f"{trace[:14]}{span}",
                    "ParentSpanId": f"{trace[:14]}{parent}" if parent else "",
                    "SpanName": name,
                    "ServiceName": "support-agent",
                    "ResourceAttributes": {"service.name": "support-agent", "service.version": "1.2.0"},
                    "SpanAttributes": attributes,
                    "Duration": 1_000_000,
                    "StatusCode": code,
                }
                for n, (span, parent, name, attributes, code) in enumerate(spans)
            ],
        )

    def grade(self) -> int:
        worker = Worker(
            self.store, GraderSets(load_graders({"efficiency/errors": {}, "tools/loop": {}})), grace_ms=0, idle_ms=0
        )
        while worker.run_once():
            pass
        return int(self.store.query("SELECT uniqExact(TraceId) AS traces FROM grades_v")[0]["traces"])


@pytest.fixture
def place(engine_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes a table of the exporter, in the store's own database or beside it."""
    opened: list[Store] = []

    def make(*statements: str, same: bool = False) -> Place:
        def database(name: str) -> Store:
            store = connect(Dsn(embedded=True, path=str(engine_path), database=name))
            opened.append(store)
            return store

        exporter = database("attach_otel")
        for statement in statements:
            exporter.command(statement)
        if same:
            return Place(exporter, exporter, "otel_traces")
        return Place(exporter, database("attach_own"), "attach_otel.otel_traces")

    yield make
    for store in opened:
        store.command(f"DROP DATABASE IF EXISTS {store.database} SYNC")
        store.close()


def scalars(store: Store) -> list[tuple[Any, ...]]:
    rows = store.query(
        "SELECT Kind, ToolName, Service, ServiceVersion, StatusCode, Duration, DroppedAttributes "
        "FROM agent_spans ORDER BY SpanId"
    )
    return [tuple(row.values()) for row in rows]


READ = [
    ("agent", "", "support-agent", "1.2.0", "Unset", 1_000_000, 0),
    ("tool", "lookup", "support-agent", "1.2.0", "Error", 1_000_000, 0),
]
TRACE = "0123456789abcdef0123456789abcdef"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize("same", [False, True], ids=["own database", "same database"])
@pytest.mark.parametrize("form", FORMS)
def test_what_the_exporter_stores_is_graded(place: Callable[..., Place], form: str, same: bool) -> None:
    here = place(FORMS[form], LOOKUP, LOOKUP_VIEW, same=same)
    shape = here.exporter.query("DESCRIBE otel_traces")
    made = here.exporter.query("SHOW CREATE TABLE otel_traces")
    attach(here.store, Layout(), here.sources())
    here.insert(TRACE, NOW, old=form == "old")
    assert scalars(here.store) == READ
    assert here.grade() == 1
    assert here.exporter.query("DESCRIBE otel_traces") == shape
    assert here.exporter.query("SHOW CREATE TABLE otel_traces") == made
    assert here.exporter.query("SELECT count() AS n FROM otel_traces_trace_id_ts") == [{"n": 1}]


@pytest.mark.parametrize("same", [False, True], ids=["own database", "same database"])
def test_what_was_there_before_is_copied_once(place: Callable[..., Place], same: bool) -> None:
    here = place(FORMS["classic"], same=same)
    ages = [400, 40, 4, 0]
    for n, days in enumerate(ages):
        here.insert(f"{n}{TRACE[1:]}", NOW - timedelta(days=days))
    sources = here.sources()
    attach(here.store, Layout(), sources)
    here.insert(f"8{TRACE[1:]}", NOW)
    since = NOW - timedelta(days=50)
    assert backfill(here.store, sources[0], since) == 6
    assert backfill(here.store, sources[0], since) == 0
    assert here.store.query("SELECT count() AS n, uniqExact(TraceId) AS traces FROM agent_spans") == [
        {"n": 8, "traces": 4}
    ]
    assert here.store.query("SELECT sum(SpanCount) AS n FROM traces_v") == [{"n": 8}]
    assert here.grade() == 4
    # What is there decides, not what ClickHouse remembers of earlier inserts.
    here.store.command("TRUNCATE TABLE agent_spans")
    assert backfill(here.store, sources[0], since) == 8


def test_a_backfill_goes_in_slices(place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    here = place(FORMS["classic"])
    for n in range(9):
        here.insert(f"{n}{TRACE[1:]}", NOW - timedelta(days=100 * n))
    attach(here.store, Layout(), here.sources())
    monkeypatch.setattr("store.attach._SLICE_ROWS", 4)
    seen: list[int] = []
    assert backfill(here.store, here.sources()[0], datetime(2000, 1, 1, tzinfo=UTC), seen.append) == 18
    assert len(seen) >= 5
    assert seen == sorted(seen)


def test_nothing_to_copy(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"])
    attach(here.store, Layout(), here.sources())
    assert backfill(here.store, here.sources()[0], NOW) == 0


def test_log_records_beside_the_spans_are_read(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"], LOGS)
    sources = here.sources()
    assert [source.signal for source in sources] == ["traces", "logs"]

    def log(span: str, event: str) -> None:
        record = {
            "Timestamp": NOW,
            "TraceId": TRACE,
            "SpanId": span,
            "Body": "yes",
            "LogAttributes": {"event.name": event},
        }
        here.exporter.insert("otel_logs", [record])

    log("01", "before")
    attach(here.store, Layout(), sources)
    log("02", "after")
    assert [(e.span_id, e.name, e.body) for e in here.store.logs([TRACE])[TRACE]] == [("02", "after", "yes")]
    assert backfill(here.store, sources[1], NOW - timedelta(days=1)) == 1
    assert backfill(here.store, sources[1], NOW - timedelta(days=1)) == 0
    assert sorted(e.name for e in here.store.logs([TRACE])[TRACE]) == ["after", "before"]


def test_attaching_again_changes_nothing_and_opening_the_store_keeps_it(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"], same=True)
    assert attach(here.store, Layout(), here.sources())
    assert attach(here.store, Layout(), here.sources()) == []
    assert here.store.apply_schema() == []
    here.insert(TRACE, NOW)
    assert len(scalars(here.store)) == 2


def test_a_changed_table_is_read_anew(place: Callable[..., Place]) -> None:
    """An exporter that was upgraded has columns the old one lacked."""
    here = place(FORMS["old"])
    attach(here.store, Layout(), here.sources())
    here.exporter.command("ALTER TABLE otel_traces ADD COLUMN ScopeName String")
    assert [version.split()[0] for version in here.store.apply_schema()] == [here.sources()[0].view]
    here.exporter.insert("otel_traces", [{"Timestamp": NOW, "TraceId": TRACE, "SpanId": "01", "ScopeName": "a.scope"}])
    assert here.store.query("SELECT ScopeName FROM agent_spans") == [{"ScopeName": "a.scope"}]


def test_spans_sent_to_tracegrade_itself_stand_beside(place: Callable[..., Place], tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    here = place(FORMS["classic"], same=True)
    attach(here.store, Layout(), here.sources())
    here.insert(TRACE, NOW)
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="sent", trace_id=b"t" * 16, span_id=b"s" * 8)
    span.start_time_unix_nano = int(NOW.timestamp()) * 10**9
    body = request.SerializeToString()
    segment = tmp_path / "segment"
    segment.write_bytes(bytes([len(body)]) + body)
    here.store.load("traces", "one", segment)
    assert here.store.query("SELECT count() AS n FROM otel_traces") == [{"n": 2}]
    assert here.store.query("SELECT SpanName FROM tracegrade_otel_traces") == [{"SpanName": "sent"}]
    assert here.store.query("SELECT count() AS n FROM agent_spans") == [{"n": 3}]


def test_detached_it_is_read_no_longer_and_may_come_back(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"])
    attach(here.store, Layout(), here.sources())
    detach(here.store, here.traces)
    here.store.apply_schema()
    here.insert(TRACE, NOW)
    assert scalars(here.store) == []
    with pytest.raises(ValueError, match="is not attached; attached are: none"):
        detach(here.store, here.traces)
    attach(here.store, Layout(), here.sources())
    here.insert(TRACE, NOW)
    assert scalars(here.store) == READ


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        pytest.param(table(attributes="JSON", order="ORDER BY Timestamp"), "is in the exporter's JSON form", id="json"),
        pytest.param("CREATE TABLE otel_traces (Timestamp DateTime64(9), TraceId String) ENGINE = MergeTree ORDER BY TraceId",
                     "lacks SpanId, ParentSpanId, SpanName, .* not a table of the OpenTelemetry", id="other"),
        pytest.param(FORMS["bare"].replace("MergeTree ORDER BY Timestamp", "Memory"), "engine Memory", id="engine"),
        pytest.param("CREATE VIEW otel_traces AS SELECT 1 AS TraceId", "engine View", id="view"),
        pytest.param("CREATE TABLE other (n UInt8) ENGINE = Memory", "no table attach_otel.otel_traces", id="absent"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_and_nothing_is_made(
    place: Callable[..., Place], statement: str, reason: str
) -> None:
    here = place(statement)
    with pytest.raises(Permanent, match=re.compile(reason)):
        attach(here.store, Layout(), here.sources())
    assert here.store.query("SHOW TABLES") == []


def test_a_table_that_is_elsewhere_is_named(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"])
    with pytest.raises(Permanent, match=r"no table attach_own\.otel_traces; like it are .*attach_otel\.otel_traces"):
        attach(here.store, Layout(), find(here.store, "otel_traces", None, "attach_own"))


def test_a_database_somebody_else_fills_is_not_taken_over(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"], same=True)
    with pytest.raises(Permanent, match="something else fills; run `tracegrade schema attach`"):
        here.store.apply_schema()
    assert [row["name"] for row in here.store.query("SHOW TABLES")] == ["otel_traces"]


def test_its_own_table_is_not_attached(place: Callable[..., Place]) -> None:
    here = place()
    here.store.apply_schema()
    with pytest.raises(Permanent, match="is tracegrade's own"):
        attach(here.store, Layout(), find(here.store, "otel_traces", None, here.store.database))


@pytest.mark.parametrize("name", ["", "a.b.c", "a b", "x;DROP TABLE y", "`x`", "été"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"write otel_traces or database\.otel_traces"):
        Source.parse("traces", name, "here")


def test_no_table_is_put_in_place_of_another(place: Callable[..., Place]) -> None:
    """Names that differ only in what a view's name cannot hold."""
    here = place(FORMS["classic"], FORMS["classic"].replace("otel_traces", "`otel-traces`", 1))
    attach(here.store, Layout(), here.sources())
    beside = find(here.store, "attach_otel.otel-traces", None, here.store.database)
    with pytest.raises(Permanent, match="rename one"):
        attach(here.store, Layout(), beside)
    here.insert(TRACE, NOW)
    assert scalars(here.store) == READ


def test_a_dry_run_changes_nothing(place: Callable[..., Place]) -> None:
    here = place(FORMS["classic"])
    said = would_attach(here.store, Layout(), here.sources())
    assert any(text.startswith("CREATE MATERIALIZED VIEW IF NOT EXISTS agent_spans_from_attach_otel") for text in said)
    assert here.store.query("SHOW TABLES") == []
    assert done_to(here.store) == set()
    for text in said:
        here.store.command(text)
    here.insert(TRACE, NOW)
    assert scalars(here.store) == READ
