"""The way traces take into the store before they are graded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from store.client import Signal, Store
from store.types import LogEvent, Span

Send = Callable[..., None]


@pytest.fixture
def send(store: Store, tmp_path: Path) -> Send:
    """`send(segment, spans, logs)`: through the store's front door, as the collector does it."""

    def load(signal: Signal, segment: str, body: bytes) -> None:
        path = tmp_path / segment
        path.write_bytes(_VarintBytes(len(body)) + body)
        store.load(signal, segment, path)

    def send(
        segment: str,
        spans: Iterable[Span] = (),
        logs: Iterable[LogEvent] = (),
        resource: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        request = ExportTraceServiceRequest()
        for item in spans:
            group: Any = request.resource_spans.add()
            if item.service:
                group.resource.attributes.add(key="service.name").value.string_value = item.service
            for key, value in resource.items():
                group.resource.attributes.add(key=key).value.string_value = value
            span = group.scope_spans.add().spans.add(
                trace_id=bytes.fromhex(item.trace_id),
                span_id=bytes.fromhex(item.span_id),
                parent_span_id=bytes.fromhex(item.parent_span_id),
                name=item.name,
                start_time_unix_nano=item.start_ns,
                end_time_unix_nano=item.end_ns,
                dropped_attributes_count=item.dropped_attributes,
            )
            for key, value in item.attributes.items():
                span.attributes.add(key=key).value.string_value = value
        if request.resource_spans:
            load("traces", segment, request.SerializeToString())
        records = ExportLogsServiceRequest()
        for event in logs:
            group = records.resource_logs.add()
            for key, value in resource.items():
                group.resource.attributes.add(key=key).value.string_value = value
            record = group.scope_logs.add().log_records.add(
                time_unix_nano=event.time_ns,
                trace_id=bytes.fromhex(event.trace_id),
                span_id=bytes.fromhex(event.span_id),
                event_name=event.name,
            )
            record.body.string_value = event.body
            for key, value in event.attributes.items():
                record.attributes.add(key=key).value.string_value = value
        if records.resource_logs:
            load("logs", f"{segment}-logs", records.SerializeToString())

    return send
