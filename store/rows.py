"""Rows as bytes: what the engine gives of a trace, read into values, and values written as the engine takes them.

    spans(native), events(native), approvals(native), calls(native)   ClickHouse's Native format, in
    columns([grade_row(…), …])                                   JSONCompactColumns, out; COLUMNS says which

Promises: pure, needs no connection, so a process without one can read and write rows for one that has it. The queries whose
answers are read here stand in store/sql; the order of their columns is the order they are taken apart in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from clickhouse_connect.driver.ctypes import RespBuffCls
from clickhouse_connect.driver.query import QueryContext, QueryResult
from clickhouse_connect.driver.transform import NativeTransform

from store.types import Approval, ContentState, Grade, LogEvent, Span, SpanEvent, SpanKind, ToolCall

COLUMNS = {
    "grades": (
        "TraceId", "SpanId", "Grader", "Subject", "GraderVersion", "ConfigDigest", "Outcome", "Score", "Label", "Reason",
        "Severity", "Evidence", "Completeness", "Generation", "CaseDigest",
    ),
    "tool_calls": (
        "TraceId", "CallKey", "Position", "CallId", "ToolName", "SpanId", "RequestSpanId", "Start", "DurationNs", "Arguments",
        "ArgumentsState", "Result", "ResultState", "Executed", "Error", "ApprovalState", "Agent", "Generation",
    ),
    "approvals": (
        "TraceId", "Position", "ConversationId", "CallId", "ToolName", "Outcome", "Mechanism", "Decider", "Roles", "Scope",
        "ArgumentsHash", "ApprovalId", "Time", "Expires", "Evidence", "SpanId", "Generation",
    ),
    "conversations": ("ConversationId", "TraceId", "Tenant", "Arm", "RunId", "Service"),
    "graded_traces": ("TraceId", "Generation", "LastIngested", "Completeness", "GraderSet", "SpanRows"),
}  # fmt: skip
"""Of what is written here, the columns in their order."""

_MAX_TIME = 2**63 - 1
_KINDS = {str(kind): kind for kind in SpanKind}


class _Source:
    """An answer that is there as a whole, as the driver's decoder reads one."""

    last_message: bytes | None = None
    exception_tag: str | None = None

    def __init__(self, data: bytes) -> None:
        self.gen = iter((data,))

    def close(self) -> None: ...


def rows(native: bytes) -> Sequence[Sequence[Any]]:
    """The rows of an answer in the Native format."""
    if not native:
        return ()
    result = NativeTransform.parse_response(RespBuffCls(_Source(native)), QueryContext())  # type: ignore[no-untyped-call]
    assert isinstance(result, QueryResult)
    return result.result_rows


# --- in ------------------------------------------------------------------------------------------------------------------


def spans(native: bytes) -> dict[str, list[Span]]:
    """The answer to spans.sql: spans by trace, in time order."""
    found: dict[str, list[Span]] = defaultdict(list)
    for row in rows(native):
        found[row[0]].append(_span(row))
    return dict(found)


def events(native: bytes) -> dict[str, list[LogEvent]]:
    """The answer to logs.sql: log events by trace, in time order."""
    found: dict[str, list[LogEvent]] = defaultdict(list)
    for trace_id, time_ns, span_id, name, body, attributes, scope in rows(native):
        found[trace_id].append(
            LogEvent(
                time_ns=time_ns,
                name=name,
                trace_id=trace_id,
                span_id=span_id,
                body=body,
                attributes=attributes,
                scope=scope,
            )
        )
    return dict(found)


def approvals(native: bytes) -> dict[str, list[Approval]]:
    """The answer to related_approvals.sql: decisions by the trace that holds them."""
    found: dict[str, list[Approval]] = defaultdict(list)
    for row in rows(native):
        (
            trace_id, outcome, time_ns, mechanism, call_id, tool, decider, scope, arguments_hash, expires, evidence, span_id,
            roles, approval_id,
        ) = row  # fmt: skip
        found[trace_id].append(
            Approval(
                outcome,
                time_ns,
                mechanism=mechanism,
                call_id=call_id,
                tool_name=tool,
                decider=decider,
                scope=scope,
                arguments_hash=arguments_hash,
                expires_ns=expires,
                evidence=evidence,
                span_id=span_id,
                roles=tuple(roles),
                approval_id=approval_id,
                trace_id=trace_id,
            )
        )
    return dict(found)


def calls(native: bytes) -> dict[str, list[ToolCall]]:
    """The answer to related_calls.sql: tool calls by the trace that holds them."""
    found: dict[str, list[ToolCall]] = defaultdict(list)
    for row in rows(native):
        (
            trace_id, key, name, position, start, duration, call_id, arguments, arguments_state, result, result_state, ran,
            error, span_id, request_span_id, agent,
        ) = row  # fmt: skip
        found[trace_id].append(
            ToolCall(
                key=key,
                name=name,
                index=position,
                start_ns=start,
                end_ns=start + duration,
                call_id=call_id,
                arguments=_object(arguments),
                arguments_text=arguments,
                arguments_state=ContentState(arguments_state),
                result=result,
                result_state=ContentState(result_state),
                executed={"yes": True, "no": False}.get(ran),
                error=error,
                span_id=span_id,
                request_span_id=request_span_id,
                agent=agent,
            )
        )
    return dict(found)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text) if text.startswith("{") else None
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _span(row: Sequence[Any]) -> Span:
    (
        trace_id, span_id, parent, name, kind, dialect, start, duration, status, message, service, version, scope,
        attributes, resource, event_times, event_names, event_attributes, tool, call_id, agent, model, conversation,
        input_tokens, output_tokens, ttft, arm, run, case, dropped,
    ) = row  # fmt: skip
    return Span(
        trace_id,
        span_id,
        parent,
        name,
        _KINDS[kind],
        start,
        start + duration,
        status,
        message,
        service,
        version,
        scope,
        attributes,
        resource,
        tuple(map(SpanEvent, event_names, event_times, event_attributes)) if event_names else (),
        dialect,
        tool,
        call_id,
        agent,
        model,
        conversation,
        input_tokens,
        output_tokens,
        ttft,
        arm,
        run,
        case,
        dropped,
    )


# --- out -----------------------------------------------------------------------------------------------------------------


def columns(table: Iterable[Sequence[Any]]) -> bytes:
    """Rows as columns in JSON. Raises TypeError for text no store can keep (half of a surrogate pair)."""
    turned = list(zip(*table, strict=True))
    return orjson.dumps(turned) if turned else b""


def grade_row(g: Grade) -> tuple[Any, ...]:
    evidence = orjson.dumps(
        [
            {"span_id": e.span_id, "where": e.where, "text": e.text}
            if e.start is None and e.end is None
            else {"span_id": e.span_id, "where": e.where, "text": e.text, "start": e.start, "end": e.end}
            for e in g.evidence
        ]
    ).decode() if g.evidence else "[]"  # fmt: skip
    return (
        g.trace_id, g.span_id, g.grader, g.subject, g.grader_version, g.config_digest, g.outcome, g.score, g.label, g.reason,
        g.severity, evidence, g.completeness, g.generation, g.case_digest,
    )  # fmt: skip


def call_row(trace_id: str, generation: int, c: ToolCall, approval_state: str) -> tuple[Any, ...]:
    return (
        trace_id, c.key, c.index, c.call_id, c.name, c.span_id, c.request_span_id, _time(c.start_ns),
        max(0, min(c.end_ns - c.start_ns, 2**64 - 1)), c.arguments_text, c.arguments_state, c.result, c.result_state,
        "unknown" if c.executed is None else "yes" if c.executed else "no", c.error, approval_state, c.agent, generation,
    )  # fmt: skip


def approval_rows(
    trace_id: str, conversation_id: str, generation: int, approvals: Iterable[Approval]
) -> Iterator[tuple[Any, ...]]:
    for position, a in enumerate(approvals):
        yield (
            trace_id, position, conversation_id, a.call_id, a.tool_name, a.outcome, a.mechanism, a.decider, a.roles, a.scope,
            a.arguments_hash, a.approval_id, _time(a.time_ns), None if a.expires_ns is None else _time(a.expires_ns),
            a.evidence, a.span_id, generation,
        )  # fmt: skip


def mark_row(
    trace_id: str, generation: int, last_ingested_ms: int, completeness: str, grader_set: str, span_rows: int
) -> tuple[Any, ...]:
    arrived = f"{last_ingested_ms // 1000:010d}.{last_ingested_ms % 1000:03d}"
    return trace_id, generation, arrived, completeness, grader_set, span_rows


def _time(ns: int) -> str:
    """Seconds since the epoch in decimal, with ten digits before the point: with fewer it would be read as a date."""
    seconds, rest = divmod(max(0, min(ns, _MAX_TIME)), 1_000_000_000)
    return f"{seconds:010d}.{rest:09d}"
