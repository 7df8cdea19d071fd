"""Recorded OTLP requests as the traces a grader would see, without a store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from graders.assembler import assemble
from graders.testing import scalars
from store.types import LogEvent, Related, Span, SpanEvent, Trace

_STATUS = ("Unset", "Ok", "Error")


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _value(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value)
    return orjson.dumps(value).decode()


def _attributes(pairs: Iterable[Any]) -> dict[str, str]:
    return {pair.key: _text(_value(pair.value)) for pair in pairs}


def spans(body: bytes) -> list[Span]:
    """The spans of an `ExportTraceServiceRequest`."""
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = _attributes(span.attributes)
                events = (SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events)
                found.append(
                    Span(
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        start_ns=span.start_time_unix_nano,
                        end_ns=span.end_time_unix_nano,
                        status=_STATUS[span.status.code],
                        status_message=span.status.message,
                        service=about.get("service.name", ""),
                        scope=scope.scope.name,
                        attributes=attributes,
                        resource=about,
                        events=tuple(events),
                        **scalars(span.name, attributes, scope.scope.name),
                    )
                )
    return found


def logs(body: bytes) -> list[LogEvent]:
    """The records of an `ExportLogsServiceRequest` that name a trace."""
    return [
        LogEvent(
            record.time_unix_nano or record.observed_time_unix_nano,
            record.event_name,
            record.trace_id.hex(),
            record.span_id.hex(),
            _text(_value(record.body)),
            _attributes(record.attributes),
            scope.scope.name,
        )
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        if record.trace_id
    ]


def traces(found: Iterable[Span], told: Sequence[LogEvent] = ()) -> list[Trace]:
    """The traces of the spans, in the order they began."""
    by_id: dict[str, list[Span]] = defaultdict(list)
    for span in found:
        by_id[span.trace_id].append(span)
    made = [assemble(own, [log for log in told if log.trace_id == trace_id]) for trace_id, own in by_id.items()]
    return sorted(made, key=lambda trace: trace.spans[0].start_ns)


def as_conversation(items: Mapping[str, Trace] | Sequence[Trace]) -> list[Trace]:
    """Traces as parts of one conversation: each with what the others hold."""
    given = list(items.values()) if isinstance(items, Mapping) else list(items)
    joined = []
    for trace in given:
        others = [other for other in given if other is not trace]
        approvals = [replace(a, trace_id=other.trace_id) for other in others for a in other.approvals]
        calls = [call for other in others for call in other.tool_calls]
        related = Related(
            tuple(sorted(approvals, key=lambda a: a.time_ns)), tuple(sorted(calls, key=lambda c: c.start_ns))
        )
        joined.append(replace(trace, conversation_id=trace.conversation_id or "one", related=related))
    return joined
