"""The tables, as numbered SQL files that are applied in order and recorded.

Promises: `apply` brings a database to the newest version, may be called by several processes and any number of times, and
never edits what a released file already did. `render` gives the same statements as text, for people who apply them by hand.

A file holds statements separated by `;` at a line's end, with `${name}` and `${name:argument}` placeholders (`_MACROS`).
The view that fills `agent_spans` is made from the dialect mapping; when that changes, the view is changed with it and new
rows carry the new mapping version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from store.dialects import column_sql, mapping, quote, source_sql

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
# JSON, which has no NaN or Infinity: those become strings.
_TEXTS = """
(s -> multiIf(
    s.value = 'string_value', toJSONString(s.string_value),
    s.value = 'int_value', toString(s.int_value),
    s.value = 'bool_value', if(s.bool_value, 'true', 'false'),
    s.value = 'double_value', if(isFinite(s.double_value), toString(s.double_value),
        multiIf(isNaN(s.double_value), '"NaN"', s.double_value > 0, '"Infinity"', '"-Infinity"')),
    s.value = 'bytes_value', toJSONString(base64Encode(s.bytes_value)),
    'null')) AS json,
(v -> multiIf(
    v.value = 'string_value', v.string_value,
    v.value = 'int_value', toString(v.int_value),
    v.value = 'bool_value', if(v.bool_value, 'true', 'false'),
    v.value = 'double_value', if(isFinite(v.double_value), toString(v.double_value),
        multiIf(isNaN(v.double_value), 'NaN', v.double_value > 0, 'Infinity', '-Infinity')),
    v.value = 'array_value', concat('[', arrayStringConcat(arrayMap(x -> json(x), v.array_value.values), ','), ']'),
    v.value = 'kvlist_value', concat('{', arrayStringConcat(
        arrayMap(x -> concat(toJSONString(x.key), ':', json(x.value)), arraySort(x -> x.key, v.kvlist_value.values)),
        ','), '}'),
    v.value = 'bytes_value', base64Encode(v.bytes_value),
    '')) AS text"""

# Every table in the chain remembers the insert ids it has seen lately, so that a retried insert adds nothing. A part of one
# segment is one file: in a wide part each column, and each half of a map, is a file of its own. Merged parts grow wide.
_TABLE_SETTINGS = "non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 134217728"

_ARM = (
    "if(ResourceAttributes['deployment.environment.name'] = 'shadow' OR position(TraceState, 'tracegrade=shadow') > 0, "
    "'shadow', 'production')"
)


OTLP_PROTO = Path(__file__).parent / "schema" / "otlp.proto"
"""The wire schema ClickHouse decodes requests with."""


class Database(Protocol):
    """What applying a schema needs of a database."""

    def command(self, sql: str) -> object: ...
    def query(self, sql: str, parameters: dict[str, object] | None = None) -> list[dict[str, object]]: ...


def _macros(retention_days: int) -> dict[str, Callable[[str], str]]:
    return {
        "KeyValues": lambda _: f"Array(Tuple(key LowCardinality(String), value {_ANY_VALUE}))",
        "AnyValue": lambda _: _ANY_VALUE,
        "texts": lambda _: _TEXTS,
        "map": lambda values: (
            f"CAST(arrayMap(a -> (a.key, text(a.value)), {values}), 'Map(LowCardinality(String), String)')"
        ),
        "time": lambda nanos: f"fromUnixTimestamp64Nano(toInt64(least({nanos}, 9223372036854775807)))",
        "agent_columns": lambda _: ",\n    ".join(f"{sql} AS {name}" for name, sql in column_sql().items()),
        "recognised": source_sql,
        "attribute": lambda key: (
            f"if(SpanAttributes[{quote(key)}] != '', SpanAttributes[{quote(key)}], ResourceAttributes[{quote(key)}])"
        ),
        "arm": lambda _: _ARM,
        "MergeTree": lambda _: "MergeTree",
        "AggregatingMergeTree": lambda _: "AggregatingMergeTree",
        "ReplacingMergeTree": lambda version: f"ReplacingMergeTree({version})",
        "table_settings": lambda _: _TABLE_SETTINGS,
        "retention_days": lambda _: str(retention_days),
    }


def migrations(retention_days: int = 90) -> Iterator[tuple[str, list[str]]]:
    """(version, statements) of every file, in order."""
    macros = _macros(retention_days)

    def expand(match: re.Match[str]) -> str:
        return macros[match[1]](match[2] or "")

    for file in sorted((f for f in files("store").joinpath("schema").iterdir() if f.name.endswith(".sql")), key=str):
        text = "\n".join(line for line in file.read_text("utf-8").splitlines() if not line.lstrip().startswith("--"))
        expanded = re.sub(r"\$\{(\w+)(?::([^}]*))?\}", expand, text)
        statements = [s.strip().removesuffix(";") for s in re.split(r";\n", expanded + "\n")]
        yield file.name.removesuffix(".sql"), [s for s in statements if s]


def render(retention_days: int = 90) -> str:
    """Every statement, as one script."""
    return "".join(
        f"-- {version}\n" + "".join(f"{statement};\n\n" for statement in statements)
        for version, statements in migrations(retention_days)
    )


def apply(database: Database, retention_days: int = 90) -> list[str]:
    """Bring `database` up to date; returns the versions that were missing."""
    database.command(
        "CREATE TABLE IF NOT EXISTS schema_migrations (Version String, AppliedAt DateTime64(3) DEFAULT now64(3)) "
        "ENGINE = ReplacingMergeTree(AppliedAt) ORDER BY Version"
    )
    known = {str(row["Version"]) for row in database.query("SELECT DISTINCT Version FROM schema_migrations")}
    done = []
    mapped = f"mapping {mapping().version}"
    for version, statements in migrations(retention_days):
        for statement in statements:
            if version not in known:
                database.command(statement)
            elif mapped not in known and statement.startswith("CREATE MATERIALIZED VIEW IF NOT EXISTS agent_spans_mv"):
                database.command(f"ALTER TABLE agent_spans_mv MODIFY QUERY {statement.split(' AS', 1)[1]}")
        if version not in known:
            database.command(f"INSERT INTO schema_migrations (Version) VALUES ({quote(version)})")
            done.append(version)
    if mapped not in known:
        database.command(f"INSERT INTO schema_migrations (Version) VALUES ({quote(mapped)})")
        done.append(mapped)
    return done
