"""The dialect mapping, `dialects.yaml`, and the SQL made from it.

Promises: the expressions `column_sql` returns compute a span's dialect, kind and scalars inside ClickHouse from the columns
of `otel_traces`, exactly as the file says. A span that no rule recognises has no dialect, kind `other` and no scalars.
Messages, unwrapping and joining are left to `graders`, which read the rest of the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from store.types import SpanKind

Fact = Literal[
    "arguments",
    "result",
    "error",
    "executed",
    "call_id",
    "model",
    "tokens",
    "system",
    "user",
    "answer",
    "catalogue",
    "documents",
    "document_ids",
    "document_scores",
    "agent",
    "conversation",
    "pending",
    "denied",
    "edited",
    "approved",
    "decider",
]
FACTS: tuple[Fact, ...] = get_args(Fact)
"""What telemetry may or may not show of a conversation: the columns of the capability table."""

_SCALARS = Literal[
    "tool_name",
    "tool_call_id",
    "agent",
    "model",
    "conversation_id",
    "input_tokens",
    "output_tokens",
    "ttft_ms",
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recognition(_Part):
    """How to recognise a dialect; any match is enough."""

    dialect: str
    attributes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    values: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class KindRule(_Part):
    """Values of one attribute that name a span's kind."""

    attribute: str
    values: dict[str, SpanKind]


class NameRule(_Part):
    """A span name, as an RE2 pattern, that names a kind."""

    pattern: str
    kind: SpanKind
    dialects: tuple[str, ...] = ()
    """When not empty, only spans of these dialects."""


class NamePattern(_Part):
    """An RE2 pattern whose group is taken from the span name, for spans of these dialects and kinds, or of all."""

    pattern: str
    dialects: tuple[str, ...] = ()
    kinds: tuple[SpanKind, ...] = ()


class FieldRule(_Part):
    """Where a scalar is found, best source first."""

    keys: tuple[str, ...]
    discard: tuple[str, ...] = ()
    kinds: tuple[SpanKind, ...] = ()
    """When not empty, only spans of these kinds have the field."""
    last: dict[SpanKind, tuple[str, ...]] = Field(default_factory=dict)
    """Keys that count for spans of one kind, after all others."""
    from_name: tuple[NamePattern, ...] = ()
    """Tried on the span name, in order, when no attribute has a value."""
    to_ms: dict[str, float] = Field(default_factory=dict)
    plain: tuple[str, ...] = ()
    """Keys whose values are freed of terminal colours."""


class Apart(_Part):
    """Dialects whose counts leave something out."""

    input: tuple[str, ...] = ()
    """Of cached tokens: input tokens are only those beside them."""
    output: tuple[str, ...] = ()
    """Of reasoning: output tokens are only those beside it."""


class UsageKeys(_Part):
    """Where a model call tells of its tokens beside how many came in and went out."""

    response_id: tuple[str, ...]
    provider: tuple[str, ...]
    cache_read: tuple[str, ...]
    cache_write: tuple[str, ...]
    cache_write_1h: tuple[str, ...]
    """Of those written, how many for an hour."""
    reasoning: tuple[str, ...]
    apart: Apart


class FinishReasons(_Part):
    """Where a model says why it stopped, and what its words mean."""

    keys: tuple[str, ...]
    values: dict[str, tuple[str, ...]]


class MessageEvent(_Part):
    """A log record that holds one message."""

    role: Literal["system", "user", "assistant"]
    text: tuple[str, ...]
    """Attributes that may hold its text."""


class ToolEvent(_Part):
    """A log record that tells of a tool call, by attribute."""

    name: tuple[str, ...]
    call_id: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    success: str = ""


class Events(_Part):
    """Log records and span events beside those of the OpenTelemetry conventions, by name without the sender's prefix."""

    prefixes: tuple[str, ...]
    messages: dict[str, MessageEvent]
    tools: dict[str, ToolEvent]
    decisions: tuple[str, ...]


class Mark(_Part):
    """What tells whether the tool of a span ran."""

    attribute: str = ""
    """Empty: any span."""
    value: str = ""
    """Empty: any value."""
    scope: str = ""
    """The instrumentation scope starts so."""
    status: str = ""
    """Empty: any status."""
    ran: bool | None
    """None: its failure does not show that it did."""


class Signature(_Part):
    """A text that explains why a call did not run. It never grants anything."""

    outcome: Literal["deny", "cancelled", "require_approval"]
    mechanism: str = "unknown"
    starts: tuple[str, ...] = ()
    """Patterns that stand at the beginning of the text."""
    holds: tuple[str, ...] = ()
    """Literal parts."""


class Shown(_Part):
    """What telemetry shows, shows only with content capture turned on, and hides."""

    title: str
    shows: tuple[Fact, ...] = ()
    opt_in: tuple[Fact, ...] = ()
    hides: tuple[Fact, ...] = ()

    def capabilities(self) -> dict[str, str]:
        """Fact to `yes`, `opt_in` or `no`."""
        return {
            **dict.fromkeys(self.shows, "yes"),
            **dict.fromkeys(self.opt_in, "opt_in"),
            **dict.fromkeys(self.hides, "no"),
        }

    @model_validator(mode="after")
    def _once(self) -> Shown:
        named = [*self.shows, *self.opt_in, *self.hides]
        twice = sorted({fact for fact in named if named.count(fact) > 1})
        if twice:
            raise ValueError(f"{self.title}: {', '.join(twice)} in more than one of shows, opt_in and hides")
        return self


class Variant(Shown):
    """A sender of a dialect that shows more or less than the dialect can; names only where it differs."""

    scopes: tuple[str, ...]


class Dialect(Shown):
    """A dialect, and what its telemetry can show."""

    content: str
    """Whether content is captured unless the user says so, in words."""
    variants: tuple[Variant, ...] = ()
    spans_tools: bool = False
    """Whether every tool that runs has a span."""

    @model_validator(mode="after")
    def _all(self) -> Dialect:
        missing = [fact for fact in FACTS if fact not in self.capabilities()]
        if missing:
            raise ValueError(f"{self.title}: {', '.join(missing)} in none of shows, opt_in and hides")
        return self

    def variant(self, scope: str) -> Variant | None:
        """The sender with this instrumentation scope."""
        return next((v for v in self.variants if scope.startswith(v.scopes)), None)


class DialectMapping(_Part):
    """The whole file."""

    version: str
    recognise: tuple[Recognition, ...]
    kinds: tuple[KindRule, ...]
    names: tuple[NameRule, ...]
    fields: dict[_SCALARS, FieldRule]
    usage: UsageKeys
    content: dict[str, tuple[str, ...]]
    placeholders: dict[str, str]
    """Attribute to the value that stands for content that is not captured."""
    events: Events
    executed: tuple[Mark, ...]
    signatures: tuple[Signature, ...]
    pseudo_tools: str
    """Names, as a pattern, of tools that are none: they stand for a message of the framework."""
    finish_reasons: FinishReasons
    dialects: dict[str, Dialect]

    @model_validator(mode="after")
    def _known(self) -> DialectMapping:
        used = {rule.dialect for rule in self.recognise} | {name for rule in self.names for name in rule.dialects}
        if used != set(self.dialects):
            wrong = ", ".join(sorted(used ^ set(self.dialects)))
            raise ValueError(f"dialects that are recognised and dialects that are described differ in: {wrong}")
        return self


@cache
def mapping() -> DialectMapping:
    """The mapping this version of tracegrade ships."""
    return DialectMapping.model_validate(yaml.safe_load(files("store").joinpath("dialects.yaml").read_text("utf-8")))


@cache
def capabilities(dialect: str, scope: str) -> Mapping[str, str]:
    """What spans of a dialect from one instrumentation scope can show: fact to `yes`, `opt_in` or `no`."""
    found = mapping().dialects.get(dialect)
    if found is None:
        return {}
    variant = found.variant(scope)
    return {**found.capabilities(), **(variant.capabilities() if variant else {})}


def quote(text: str) -> str:
    """A ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _array(texts: Iterable[str]) -> str:
    return "[" + ", ".join(quote(t) for t in texts) + "]"


def _value(key: str) -> str:
    key, _, member = key.partition("#")
    value = f"SpanAttributes[{quote(key)}]"
    # A text comes without its quotation marks, anything else as it is written.
    return f"trim(BOTH '\"' FROM JSONExtractRaw({value}, {quote(member)}))" if member else value


_FEW = 3


def _dialect(rules: tuple[Recognition, ...]) -> str:
    branches = []
    for rule in rules:
        tests = [f"mapContains(SpanAttributes, {quote(key)})" for key in rule.attributes]
        for prefix in rule.prefixes:
            pattern = prefix.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
            tests.append(f"mapContainsKeyLike(SpanAttributes, {quote(pattern)})")
        if len(rule.scopes) > _FEW:  # one pattern over the few different scopes of a block
            pattern = f"^(?:{'|'.join(map(re.escape, rule.scopes))})"
            tests.append(f"match(toLowCardinality(ScopeName), {quote(pattern)})")
        else:
            tests += [f"startsWith(ScopeName, {quote(scope)})" for scope in rule.scopes]
        tests += [f"startsWith(SpanName, {quote(name)})" for name in rule.names]
        tests += [f"has({_array(values)}, {_value(key)})" for key, values in rule.values.items()]
        branches += [" OR ".join(tests), quote(rule.dialect)]
    return f"multiIf({', '.join(branches)}, '')"


def _kind(rules: tuple[KindRule, ...], names: tuple[NameRule, ...]) -> str:
    branches = ["Dialect = ''", quote(SpanKind.OTHER)]
    for rule in rules:
        known = f"transform({_value(rule.attribute)}, {_array(rule.values)}, {_array(rule.values.values())}, '')"
        branches += [f"notEmpty({known})", known]
    for name in names:
        test = f"match(SpanName, {quote(name.pattern)})"
        if name.dialects:
            test = f"has({_array(name.dialects)}, Dialect) AND {test}"
        branches += [test, quote(name.kind)]
    return f"multiIf({', '.join(branches)}, {quote(SpanKind.OTHER)})"


def _text(rule: FieldRule) -> str:
    branches = ["Dialect = ''" + (f" OR NOT has({_array(rule.kinds)}, Kind)" if rule.kinds else ""), "''"]

    def source(key: str, condition: str = "") -> None:
        value = _value(key)
        if key in rule.plain:
            value = f"replaceRegexpAll({value}, {quote(ANSI)}, '')"
        test = f"NOT has({_array(('', *rule.discard))}, {value})" if rule.discard else f"notEmpty({value})"
        branches.extend((condition + test, value))

    for key in rule.keys:
        source(key)
    for kind, keys in rule.last.items():
        for key in keys:
            source(key, f"Kind = {quote(kind)} AND ")
    for name in rule.from_name:
        tests = [f"has({_array(name.dialects)}, Dialect)"] if name.dialects else []
        tests += [f"has({_array(name.kinds)}, Kind)"] if name.kinds else []
        tests.append(f"match(SpanName, {quote(name.pattern)})")
        branches.extend((" AND ".join(tests), f"extract(SpanName, {quote(name.pattern)})"))
    return f"multiIf({', '.join(branches)}, '')"


ANSI = r"\x1b\[[0-9;]*[A-Za-z]"
"""Terminal colours, as an RE2 and Python pattern."""


def _count(rule: FieldRule) -> str:
    return f"accurateCastOrNull(toFloat64OrNull({_text(rule)}), 'UInt64')"


def _milliseconds(rule: FieldRule) -> str:
    scaled = []
    for factor in sorted(set(rule.to_ms.values()), reverse=True):
        same = rule.model_copy(update={"keys": tuple(key for key in rule.keys if rule.to_ms[key] == factor)})
        scaled.append(f"toFloat64OrNull({_text(same)}) * {factor:g}")
    return f"coalesce({', '.join(scaled)})"


def column_sql() -> dict[str, str]:
    """Column of `agent_spans` → expression over the columns of `otel_traces`, over `Dialect` and over `Kind`."""
    m = mapping()
    f = m.fields
    return {
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


def source_sql(table: str) -> str:
    """The rows of a table like `otel_traces` with their `Dialect` and `Kind`.

    One inside the other, because the engine computes an alias that is used twice in one SELECT twice.
    """
    m = mapping()
    recognised = f"SELECT *, {_dialect(m.recognise)} AS Dialect FROM {table}"
    return f"(SELECT *, {_kind(m.kinds, m.names)} AS Kind FROM ({recognised}))"
