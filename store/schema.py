"""The tables, as numbered SQL files: the statements, as text. `store.migrate` runs them.

Promises: `render` gives all there is, for people who apply it by hand; `plan` what a database lacks, and never what a released
file already did. Pure.

A file holds statements separated by `;` at a line's end, with `${name}` and `${name:argument}` placeholders (`_macros`). Tables
that keep rows are made once, by the file's version. What keeps none (views, and the tables the decoder reads from) is made anew
when its text has changed: the view that fills `agent_spans`, for one, comes from the dialect mapping.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from store.dialects import column_sql, quote, source_sql

_SCALARS = "string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String"
_SCALAR_KINDS = (
    "'none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7"
)
_SCALAR = f"Tuple(value Enum8({_SCALAR_KINDS}), {_SCALARS})"
_ANY_VALUE = (
    f"Tuple(value Enum8({_SCALAR_KINDS}, 'array_value' = 5, 'kvlist_value' = 6), {_SCALARS}, "
    f"array_value Tuple(values Array({_SCALAR})), kvlist_value Tuple(values Array(Tuple(key String, value {_SCALAR}))))"
)

# How the OpenTelemetry Collector's ClickHouse exporter writes an attribute value as text. Inside arrays and maps a value is
# JSON, which has no NaN or Infinity: those become strings. `concat` because it copies long texts in one piece, `multiIf` one by
# one; `string_value` is empty when another value is set.
_TEXTS = """
(s -> multiIf(
    s.value = 'string_value', toJSONString(s.string_value),
    s.value = 'int_value', toString(s.int_value),
    s.value = 'bool_value', if(s.bool_value, 'true', 'false'),
    s.value = 'double_value',
        transform(toString(s.double_value), ['nan', 'inf', '-inf'], ['"NaN"', '"Infinity"', '"-Infinity"']),
    s.value = 'bytes_value', toJSONString(base64Encode(s.bytes_value)),
    'null')) AS json,
(v -> concat(v.string_value, multiIf(
    v.value = 'string_value', '',
    v.value = 'int_value', toString(v.int_value),
    v.value = 'bool_value', if(v.bool_value, 'true', 'false'),
    v.value = 'double_value', transform(toString(v.double_value), ['nan', 'inf', '-inf'], ['NaN', 'Infinity', '-Infinity']),
    v.value = 'array_value', concat('[', arrayStringConcat(arrayMap(x -> json(x), v.array_value.values), ','), ']'),
    v.value = 'kvlist_value', concat('{', arrayStringConcat(
        arrayMap(x -> concat(toJSONString(x.key), ':', json(x.value)), arraySort(x -> x.key, v.kvlist_value.values)),
        ','), '}'),
    v.value = 'bytes_value', base64Encode(v.bytes_value),
    ''))) AS text"""

# Every table in the chain remembers the insert ids it has seen lately, so that a retried insert adds nothing. A part of one
# segment is one file: in a wide part each column, and each half of a map, is a file of its own. Merged parts grow wide.
_WIDE = "min_bytes_for_wide_part = 134217728"
_REMEMBER = "non_replicated_deduplication_window = 10000"
# A replicated table also forgets by time; a week outlasts the longest outage a segment waits for.
_REMEMBER_REPLICATED = "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"

# What the sender's token says counts, and only then what the telemetry says of itself: see `collector.stamp`, which lets nobody
# else write `tracegrade.arm`.
_ARM = (
    "multiIf(s.ResourceAttributes['tracegrade.arm'] IN ('production', 'shadow'), s.ResourceAttributes['tracegrade.arm'], "
    "s.ResourceAttributes['deployment.environment.name'] = 'shadow' OR position(TraceState, 'tracegrade=shadow') > 0, "
    "'shadow', 'production')"
)


OTLP_PROTO = Path(__file__).parent / "schema" / "otlp.proto"
"""The wire schema ClickHouse decodes requests with."""


_SHARDED_BY = {"otel_logs": "if(TraceId != '', cityHash64(TraceId), cityHash64(Timestamp, Body))"}
"""Where a row lives on a cluster, if not with its trace."""
_BY_TRACE = "cityHash64(TraceId)"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tables are."""

    retention_days: int = 90
    cluster: str = ""
    """Name of the ClickHouse cluster the tables are spread over; empty for one server."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Tables of ours that go by another name here, because somebody else's has theirs."""
    sources: dict[str, str] = field(default_factory=dict)
    """What is read in place of `otel_traces` or `otel_logs`."""

    def name(self, table: str) -> str:
        return self.renamed.get(table, table)

    def part(self, table: str) -> str:
        """The rows of this server."""
        return self.sources.get(table) or self.name(table) + ("_local" if self.cluster else "")

    @property
    def everywhere(self) -> str:
        return f" ON CLUSTER {quote(self.cluster)}" if self.cluster else ""

    def divided(self, engine: str) -> str:
        """The engine of a table whose rows are spread over the shards."""
        return f"Replicated{engine}" if self.cluster else engine

    def whole(self, engine: str) -> str:
        """The engine of a table that every server has whole: one replication group over all shards."""
        if not self.cluster:
            return engine
        name, _, arguments = engine.partition("(")
        own = f", {arguments.removesuffix(')')}" if arguments else ""
        return f"Replicated{name}('/clickhouse/tables/{{uuid}}', '{{shard}}-{{replica}}'{own})"


def _macros(layout: Layout) -> dict[str, Callable[[str], str]]:
    return {
        "KeyValues": lambda _: f"Array(Tuple(key LowCardinality(String), value {_ANY_VALUE}))",
        "AnyValue": lambda _: _ANY_VALUE,
        "texts": lambda _: _TEXTS,
        "map": lambda values: (
            f"CAST(arrayMap(a -> (a.key, text(a.value)), {values}), 'Map(LowCardinality(String), String)')"
        ),
        "time": lambda nanos: f"fromUnixTimestamp64Nano(toInt64(least({nanos}, 9223372036854775807)))",
        "agent_columns": lambda _: ",\n    ".join(f"{sql} AS {name}" for name, sql in column_sql().items()),
        "recognised": lambda table: source_sql(layout.part(table)),
        "attribute": lambda key: (
            f"if(SpanAttributes[{quote(key)}] != '', SpanAttributes[{quote(key)}], s.ResourceAttributes[{quote(key)}])"
        ),
        "arm": lambda _: _ARM,
        # Names. On a cluster a table's rows are spread over `…_local` tables, and its own name reads and fills all of them.
        "spread": lambda table: layout.name(table) + ("_local" if layout.cluster else "") + layout.everywhere,
        "here": lambda table: layout.name(table) + layout.everywhere,
        "part": layout.part,
        "all": layout.name,
        # Engines.
        "divided": layout.divided,
        "everywhere": layout.whole,
        "table_settings": lambda _: f"{_REMEMBER_REPLICATED if layout.cluster else _REMEMBER}, {_WIDE}",
        "retention_days": lambda _: str(layout.retention_days),
    }


def migrations(layout: Layout | None = None) -> Iterator[tuple[str, list[str]]]:
    """(version, statements) of every file, in order."""
    layout = layout or Layout()
    macros = _macros(layout)

    def expand(match: re.Match[str]) -> str:
        return macros[match[1]](match[2] or "")

    for file in sorted((f for f in files("store").joinpath("schema").iterdir() if f.name.endswith(".sql")), key=str):
        text = "\n".join(line for line in file.read_text("utf-8").splitlines() if not line.lstrip().startswith("--"))
        statements = []
        for statement in (s.strip().removesuffix(";") for s in re.split(r";\n", text + "\n")):
            if not statement:
                continue
            statements.append(re.sub(r"\$\{(\w+)(?::([^}]*))?\}", expand, statement))
            if layout.cluster and (spread := re.search(r"\$\{spread:(\w+)\}", statement)):
                statements.append(_distributed(layout, spread[1]))
        yield file.name.removesuffix(".sql"), statements


def _distributed(layout: Layout, table: str) -> str:
    name = layout.name(table)
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{layout.everywhere} AS {name}_local\n"
        f"ENGINE = Distributed({quote(layout.cluster)}, currentDatabase(), {name}_local, {_SHARDED_BY.get(table, _BY_TRACE)})"
    )


def ledger(layout: Layout) -> str:
    """The statement that makes the table of what was done."""
    return (
        f"CREATE TABLE IF NOT EXISTS schema_migrations{layout.everywhere} "
        "(Version String, AppliedAt DateTime64(3) DEFAULT now64(3)) "
        f"ENGINE = {layout.whole('ReplacingMergeTree(AppliedAt)')} ORDER BY Version"
    )


def render(layout: Layout | None = None) -> str:
    """Every statement, as one script."""
    return "".join(
        f"-- {version}\n" + "".join(f"{statement};\n\n" for statement in statements)
        for version, statements in migrations(layout)
    )


_MADE_ANEW = re.compile(r"CREATE (MATERIALIZED VIEW|VIEW|TABLE) IF NOT EXISTS (\w+)")


def mark(statement: str) -> str:
    """What is recorded once a statement that keeps no rows was run; empty for one that does keep rows."""
    made = _MADE_ANEW.match(statement)
    if made is None or (made[1] == "TABLE" and not statement.endswith("ENGINE = Null")):
        return ""
    return f"{made[2]} {hashlib.sha256(statement.encode()).hexdigest()[:12]}"


def _anew(statement: str) -> list[str]:
    """What brings an existing thing that keeps no rows to its new text."""
    made = _MADE_ANEW.match(statement)
    assert made is not None
    head, _, query = statement.partition(" AS\n")
    target = head[made.start(2) :].partition(" TO ")[0]
    match made[1]:
        case "MATERIALIZED VIEW":
            # Made first where it is missing: the table it reads from may just have been made anew.
            return [statement, f"ALTER TABLE {target} MODIFY QUERY\n{query}"]
        case "VIEW":
            return [statement.replace("CREATE VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW", 1)]
        case _:
            # Altered, not dropped: what the tables behind a view remember of earlier inserts hangs on the view.
            column = head.partition("(\n")[2].rpartition("\n)")[0].strip()
            return [statement, f"ALTER TABLE {target.partition(chr(10))[0]} MODIFY COLUMN {column}"]


def plan(layout: Layout, known: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(what is recorded afterwards, statements) for all that a database which has done `known` lacks, in order."""
    for version, statements in migrations(layout):
        for statement in statements:
            if not (made := mark(statement)):
                if version not in known:
                    yield "", [statement]
            elif made not in known:
                yield made, _anew(statement) if version in known else [statement]
        if version not in known:
            yield version, []
