"""The dialect mapping, `dialects.yaml`, and the SQL made from it.

Promises: the expressions `column_sql` returns compute a span's kind, dialect and scalars inside ClickHouse from the columns
of `otel_traces`, exactly as the file says. Messages, unwrapping and joining are the assembler's (`graders.assembler`), which
reads the `content` and `capabilities` sections of the same file.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from store.types import SpanKind


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DialectRule(_Part):
    """How to recognise a dialect; any match is enough."""

    name: str
    attributes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


class KindRule(_Part):
    """Values of one attribute that name a span's kind."""

    attribute: str
    values: dict[str, SpanKind]


class NameRule(_Part):
    """A span name, as an RE2 pattern, that names a kind."""

    pattern: str
    kind: SpanKind


class FieldRule(_Part):
    """Where a scalar is found, best source first."""

    keys: tuple[str, ...]
    discard: tuple[str, ...] = ()
    kinds: tuple[SpanKind, ...] = ()
    """When not empty, only spans of these kinds have the field."""
    from_name: str = ""
    """RE2 pattern whose first group is taken from the span name when no attribute has a value."""
    to_ms: dict[str, float] = Field(default_factory=dict)


class Mapping(_Part):
    """The whole file."""

    version: str
    dialects: tuple[DialectRule, ...]
    kinds: tuple[KindRule, ...]
    names: tuple[NameRule, ...]
    fields: dict[
        Literal[
            "tool_name",
            "tool_call_id",
            "agent",
            "model",
            "conversation_id",
            "input_tokens",
            "output_tokens",
            "ttft_ms",
        ],
        FieldRule,
    ]
    content: dict[str, tuple[str, ...]]
    capabilities: dict[str, dict[str, Literal["yes", "no", "opt_in"]]]


@cache
def mapping() -> Mapping:
    """The mapping this version of tracegrade ships."""
    return Mapping.model_validate(yaml.safe_load(files("store").joinpath("dialects.yaml").read_text("utf-8")))


def quote(text: str) -> str:
    """A ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _array(texts: tuple[str, ...]) -> str:
    return "[" + ", ".join(quote(t) for t in texts) + "]"


def _dialect(rules: tuple[DialectRule, ...]) -> str:
    branches = []
    for rule in rules:
        tests = [f"mapContains(SpanAttributes, {quote(key)})" for key in rule.attributes]
        tests += [f"arrayExists(k -> startsWith(k, {quote(p)}), mapKeys(SpanAttributes))" for p in rule.prefixes]
        tests += [f"startsWith(ScopeName, {quote(scope)})" for scope in rule.scopes]
        branches += [" OR ".join(tests), quote(rule.name)]
    return f"multiIf({', '.join(branches)}, '')"


def _kind(rules: tuple[KindRule, ...], names: tuple[NameRule, ...]) -> str:
    branches: list[str] = []
    for rule in rules:
        value = f"SpanAttributes[{quote(rule.attribute)}]"
        branches += [
            f"has({_array(tuple(rule.values))}, {value})",
            f"transform({value}, {_array(tuple(rule.values))}, {_array(tuple(rule.values.values()))}, '')",
        ]
    for name in names:
        branches += [f"match(SpanName, {quote(name.pattern)})", quote(name.kind)]
    return f"multiIf({', '.join(branches)}, {quote(SpanKind.OTHER)})"


def _text(rule: FieldRule) -> str:
    branches: list[str] = []
    for key in rule.keys:
        value = f"SpanAttributes[{quote(key)}]"
        branches += [f"NOT has({_array(('', *rule.discard))}, {value})", value]
    last = f"extract(SpanName, {quote(rule.from_name)})" if rule.from_name else "''"
    found = f"multiIf({', '.join(branches)}, {last})"
    return f"if(has({_array(rule.kinds)}, Kind), {found}, '')" if rule.kinds else found


def _count(rule: FieldRule) -> str:
    found = _text(rule)
    return f"accurateCastOrNull(toFloat64OrNull({found}), 'UInt64')"


def _milliseconds(rule: FieldRule) -> str:
    scaled = [f"toFloat64OrNull(SpanAttributes[{quote(key)}]) * {rule.to_ms[key]:g}" for key in rule.keys]
    return f"coalesce({', '.join(scaled)})"


def column_sql() -> dict[str, str]:
    """Column of `agent_spans` → expression over the columns of `otel_traces` (and over `Kind`, which comes first)."""
    m = mapping()
    f = m.fields
    return {
        "Kind": _kind(m.kinds, m.names),
        "Dialect": _dialect(m.dialects),
        "MappingVersion": quote(m.version),
        "ToolName": _text(f["tool_name"]),
        "ToolCallId": _text(f["tool_call_id"]),
        "Agent": _text(f["agent"]),
        "Model": _text(f["model"]),
        "ConversationId": _text(f["conversation_id"]),
        "InputTokens": _count(f["input_tokens"]),
        "OutputTokens": _count(f["output_tokens"]),
        "TtftMs": _milliseconds(f["ttft_ms"]),
    }
