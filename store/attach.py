"""Reads tables that somebody else fills: those of the OpenTelemetry Collector's ClickHouse exporter.

Promises: the table itself is never changed. A materialized view reads what is inserted there and fills `agent_spans` (or
`agent_events`), and everything behind those works as if the spans had come over OTLP. Columns a deployment lacks get their
defaults, other spellings of the same thing are understood; what cannot be read is refused before anything is made. `backfill`
copies what was there before, each span once, however often it is repeated.

What a database reads is recorded beside its versions: `store.migrate` makes the views and keeps them current.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from store.dialects import quote
from store.errors import Permanent
from store.schema import Layout, migrations

Signal = Literal["traces", "logs"]

TABLES: dict[Signal, str] = {"traces": "otel_traces", "logs": "otel_logs"}
_TARGETS: dict[Signal, str] = {"traces": "agent_spans", "logs": "agent_events"}
_MAP = "Map(LowCardinality(String), String)"
_TEXT = "String"

# What the views read: column → (type, value where a deployment lacks the column; None where nothing can stand for it).
_COLUMNS: dict[Signal, dict[str, tuple[str, str | None]]] = {
    "traces": {
        "Timestamp": ("DateTime64(9)", None),
        "TraceId": (_TEXT, None),
        "SpanId": (_TEXT, None),
        "ParentSpanId": (_TEXT, None),
        "TraceState": (_TEXT, "''"),
        "SpanName": ("LowCardinality(String)", None),
        "ServiceName": ("LowCardinality(String)", None),
        "ResourceAttributes": (_MAP, None),
        "ScopeName": (_TEXT, "''"),
        "SpanAttributes": (_MAP, None),
        "Duration": ("UInt64", None),
        "StatusCode": ("LowCardinality(String)", "'Unset'"),
        "StatusMessage": (_TEXT, "''"),
        "Events.Timestamp": ("Array(DateTime64(9))", "[]"),
        "Events.Name": ("Array(LowCardinality(String))", "[]"),
        "Events.Attributes": (f"Array({_MAP})", "[]"),
        "DroppedAttributes": ("UInt32", "0"),
    },
    "logs": {
        "Timestamp": ("DateTime64(9)", None),
        "TraceId": (_TEXT, None),
        "SpanId": (_TEXT, None),
        "Body": (_TEXT, "''"),
        "ResourceAttributes": (_MAP, "map()"),
        "ScopeName": (_TEXT, "''"),
        "LogAttributes": (_MAP, None),
        "EventName": (_TEXT, "''"),
    },
}
# Spellings of older exporters.
_READ: dict[str, Callable[[str], str]] = {
    "Duration": lambda column: f"greatest({column}, 0)",
    "StatusCode": lambda column: (
        f"transform(toString({column}), ['STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR'], "
        f"['Unset', 'Ok', 'Error'], toString({column}))"
    ),
}
_SLICE_ROWS = 500_000
"""Most spans copied by one statement of a backfill: what bounds its memory."""


class Database(Protocol):
    """What this needs of a database."""

    def command(self, sql: str) -> object: ...
    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A table that is read where it is."""

    signal: Signal
    database: str
    table: str

    @classmethod
    def parse(cls, signal: Signal, text: str, database: str) -> Source:
        """`table`, in `database`, or `database.table`. Raises ValueError."""
        names = text.split(".") if "." in text else [database, text]
        if len(names) != 2 or not all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in names):
            raise ValueError(f"table {text!r} is not understood; write otel_traces or database.otel_traces")
        return cls(signal, *names)

    @property
    def version(self) -> str:
        return f"attached {self.signal} {self.database}.{self.table}"

    @property
    def name(self) -> str:
        return f"`{self.database}`.`{self.table}`"

    @property
    def view(self) -> str:
        """The materialized view that reads it."""
        return re.sub(r"\W", "_", f"{_TARGETS[self.signal]}_from_{self.database}_{self.table}_mv", flags=re.ASCII)


def find(database: Database, traces: str, logs: str | None, here: str) -> list[Source]:
    """The tables that are meant; those of log records only if they were named or stand beside the spans."""
    found = [Source.parse("traces", traces, here)]
    if logs is not None:
        found.append(Source.parse("logs", logs, here))
    else:
        beside = Source("logs", found[0].database, TABLES["logs"])
        if engine_of(database, beside) and not is_own(database, beside):
            found.append(beside)
    return found


def is_own(database: Database, source: Source) -> bool:
    """Whether the table is one of tracegrade's, which has a column the exporter's lacks."""
    columns = database.query(
        "SELECT count() AS own FROM system.columns "
        "WHERE database = {database:String} AND table = {table:String} AND name = 'IngestedAt'",
        {"database": source.database, "table": source.table},
    )
    return bool(columns[0]["own"])


def engine_of(database: Database, source: Source) -> str:
    """The table's engine; empty if there is no such table."""
    tables = database.query(
        "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": source.database, "table": source.table},
    )
    return str(tables[0]["engine"]) if tables else ""


def read(database: Database, source: Source) -> str:
    """The subquery that reads the table as the views expect. Raises `Permanent` that says what is in the way."""
    if not (engine := engine_of(database, source)):
        others = database.query(
            "SELECT DISTINCT concat(database, '.', table) AS found FROM system.columns "
            "WHERE name = {column:String} AND table NOT LIKE 'tracegrade_%' ORDER BY found LIMIT 5",
            {"column": "SpanAttributes" if source.signal == "traces" else "LogAttributes"},
        )
        like = f"; like it are {', '.join(str(row['found']) for row in others)}" if others else ""
        raise Permanent(f"there is no table {source.database}.{source.table}{like}; name it as database.table")
    if is_own(database, source):
        raise Permanent(f"{source.database}.{source.table} is tracegrade's own: what comes in there is graded already")
    if not engine.endswith("MergeTree") and engine != "Null":
        raise Permanent(
            f"{source.database}.{source.table} is a table of engine {engine}, whose inserts no view sees; name the MergeTree "
            "table behind it"
        )
    columns = database.query(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": source.database, "table": source.table},
    )
    types = {str(row["name"]): str(row["type"]) for row in columns}
    if json := [name for name in _COLUMNS[source.signal] if types.get(name, "").startswith(("JSON", "Array(JSON"))]:
        raise Permanent(
            f"{source.database}.{source.table} is in the exporter's JSON form ({', '.join(json)}), which is not read; set "
            "`json: false` in the Collector's clickhouse exporter, or send OTLP to tracegrade as well"
        )
    if missing := [n for n, (_, default) in _COLUMNS[source.signal].items() if default is None and n not in types]:
        raise Permanent(
            f"{source.database}.{source.table} lacks {', '.join(missing)}; it is not a table of the OpenTelemetry Collector's "
            "ClickHouse exporter"
        )
    selected = []
    for name, (type_, default) in _COLUMNS[source.signal].items():
        column = f"`{name}`"
        value = _READ.get(name, str)(column) if name in types else default
        exact = name in types and types[name] == type_ and name not in _READ
        selected.append(column if exact else f"CAST({value}, {quote(type_)}) AS {column}")
    return f"(SELECT {', '.join(selected)} FROM {source.name})"


def statement(database: Database, layout: Layout, source: Source) -> str:
    """The statement that makes the view which reads a table."""
    layout = replace(layout, sources={TABLES[source.signal]: read(database, source)})
    own = f"CREATE MATERIALIZED VIEW IF NOT EXISTS {_TARGETS[source.signal]}_mv "
    made = next(s for _, statements in migrations(layout) for s in statements if s.startswith(own))
    return made.replace(own, f"CREATE MATERIALIZED VIEW IF NOT EXISTS {source.view} ", 1)


def backfill(
    database: Database, source: Source, since: datetime, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Copy what the table held before it was attached, from `since` on; returns how many rows were new.

    A row whose trace and span are there already is left out, so repeating it adds nothing. One that arrives while its part
    of the table is copied may be counted twice, as a span a client sends twice is.
    """
    query = statement(database, Layout(), source).partition(" AS\n")[2]
    target = _TARGETS[source.signal]
    names = ", ".join(f"`{row['name']}`" for row in database.query(f"DESCRIBE TABLE ({query})"))
    key = "(TraceId, SpanId)" if source.signal == "traces" else "(TraceId, SpanId, Timestamp, EventName)"
    copied = 0
    for within in _slices(database, source, since):
        before = _count(database, target, within)
        rows = query.replace(f"FROM {source.name})", f"FROM {source.name} WHERE {within})")
        database.command(
            # What is there decides, not what a table remembers of earlier inserts.
            f"INSERT INTO {target} ({names}) SETTINGS insert_deduplicate = 0 "
            f"SELECT * FROM ({rows}) WHERE {key} NOT IN (SELECT {key} FROM {target} WHERE {within})"
        )
        copied += _count(database, target, within) - before
        progress(copied)
    return copied


def _count(database: Database, table: str, within: str) -> int:
    return int(database.query(f"SELECT count() AS rows FROM {table} WHERE {within}")[0]["rows"])


def _within(start: int, end: int) -> str:
    return f"Timestamp >= fromUnixTimestamp64Nano({start}) AND Timestamp < fromUnixTimestamp64Nano({end})"


def _slices(database: Database, source: Source, since: datetime) -> Iterator[str]:
    """Conditions on the time that hold at most `_SLICE_ROWS` rows each, unless one second holds more."""
    bounds = database.query(
        "SELECT count() AS rows, toUnixTimestamp64Nano(min(time)) AS first, toUnixTimestamp64Nano(max(time)) AS last "
        f"FROM (SELECT CAST(Timestamp, 'DateTime64(9)') AS time FROM {source.name} "
        f"WHERE Timestamp >= fromUnixTimestamp64Nano({int(since.timestamp()) * 1_000_000_000}))"
    )[0]
    pending = [(int(bounds["first"]), int(bounds["last"]) + 1)] if bounds["rows"] else []
    while pending:
        start, end = pending.pop()
        if end - start > 1_000_000_000 and _count(database, source.name, _within(start, end)) > _SLICE_ROWS:
            middle = (start + end) // 2
            pending += [(middle, end), (start, middle)]
        else:
            yield _within(start, end)
