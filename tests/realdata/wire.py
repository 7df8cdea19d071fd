"""Spans through the real exporters, and what the store then ought to hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

BATCH = 256
COLUMNS = (
    *("TraceId", "SpanId", "ParentSpanId", "SpanName", "SpanKind", "ServiceName", "ScopeName", "ScopeVersion"),
    *("ResourceAttributes", "SpanAttributes", "Duration", "StatusCode", "StatusMessage"),
    *("Events.Name", "Events.Attributes", "Links.TraceId", "Links.SpanId", "Links.Attributes"),
)
SELECT = (
    f"SELECT toUnixTimestamp64Nano(Timestamp), arrayMap(t -> toUnixTimestamp64Nano(t), Events.Timestamp), "
    f"{', '.join(COLUMNS)} FROM otel_traces"
)

NAMES = ("Timestamp", "Events.Timestamp", *COLUMNS)


def identity(row: Sequence[Any]) -> tuple[Any, ...]:
    """Trace, span and time: what rows are sorted by to compare them."""
    return row[2], row[3], row[0]


def over_http(address: str) -> SpanExporter:
    """The OTLP/HTTP exporter as services configure it, compressing."""
    return HttpExporter(endpoint=f"http://{address}/v1/traces", compression=Compression.Gzip)


def over_grpc(address: str) -> SpanExporter:
    """The OTLP/gRPC exporter as services configure it."""
    return GrpcExporter(endpoint=f"http://{address}", insecure=True)


def send(spans: Sequence[ReadableSpan], exporter: SpanExporter) -> None:
    """Export everything in batches of the size the SDK would choose; a refusal fails the test."""
    try:
        for start in range(0, len(spans), BATCH):
            assert exporter.export(spans[start : start + BATCH]) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()


def as_text(value: Any) -> str:
    """An attribute value the way the OpenTelemetry Collector's ClickHouse exporter writes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _texts(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: as_text(value) for key, value in (attributes or {}).items()}


def as_row(span: ReadableSpan) -> tuple[Any, ...]:
    """What `SELECT` gives for this span."""
    own = span.get_span_context()
    return (
        span.start_time,
        [event.timestamp for event in span.events],
        f"{own.trace_id:032x}",
        f"{own.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent else "",
        span.name,
        span.kind.name.capitalize(),
        span.resource.attributes["service.name"],
        span.instrumentation_scope.name,
        span.instrumentation_scope.version or "",
        _texts(span.resource.attributes),
        _texts(span.attributes),
        span.end_time - span.start_time,
        span.status.status_code.name.capitalize(),
        span.status.description or "",
        [event.name for event in span.events],
        [_texts(event.attributes) for event in span.events],
        [f"{link.context.trace_id:032x}" for link in span.links],
        [f"{link.context.span_id:016x}" for link in span.links],
        [_texts(link.attributes) for link in span.links],
    )
