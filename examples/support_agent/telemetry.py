"""Plain OpenTelemetry: real OTLP exporters for traces and logs, and the labels an evaluation run needs.

All that tracegrade asks for beyond ordinary instrumentation is the run id on the resource, and the case id as baggage,
which `LabelSpans` copies onto every span.
"""

from collections.abc import Sequence
from typing import Any

from opentelemetry import _logs, baggage, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

LABEL_PREFIX = "tracegrade."


class LabelSpans(SpanProcessor):
    """Copies `tracegrade.*` baggage onto each span as it starts."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        labels = baggage.get_all(parent_context)
        span.set_attributes({key: str(value) for key, value in labels.items() if key.startswith(LABEL_PREFIX)})


class Checked:
    """An exporter that remembers what it could not send; the SDK only logs that."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter
        self.lost = 0

    def export(self, batch: Sequence[Any]) -> Any:
        result = self.exporter.export(batch)
        if result not in (SpanExportResult.SUCCESS, LogRecordExportResult.SUCCESS):
            self.lost += len(batch)
        return result

    def shutdown(self) -> None:
        self.exporter.shutdown()


class Telemetry:
    """Installs global providers that export to `endpoint`; `close` flushes and says how many records were lost."""

    def __init__(self, endpoint: str, resource: dict[str, str]) -> None:
        if endpoint.startswith("grpc://"):
            target = endpoint.removeprefix("grpc://")
            self.spans = Checked(GrpcSpanExporter(endpoint=target, insecure=True))
            self.logs = Checked(GrpcLogExporter(endpoint=target, insecure=True))
        else:
            self.spans = Checked(HttpSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))
            self.logs = Checked(HttpLogExporter(endpoint=f"{endpoint.rstrip('/')}/v1/logs"))
        described = Resource.create(resource)
        self.tracer_provider = TracerProvider(resource=described)
        self.tracer_provider.add_span_processor(LabelSpans())
        self.tracer_provider.add_span_processor(BatchSpanProcessor(self.spans, max_queue_size=16_384))  # type: ignore[arg-type]
        self.logger_provider = LoggerProvider(resource=described)
        self.logger_provider.add_log_record_processor(BatchLogRecordProcessor(self.logs))  # type: ignore[arg-type]
        trace.set_tracer_provider(self.tracer_provider)
        _logs.set_logger_provider(self.logger_provider)

    def close(self) -> int:
        self.tracer_provider.shutdown()
        self.logger_provider.shutdown()
        return self.spans.lost + self.logs.lost
