"""An agent under the real OpenTelemetry SDK: spans and log events, over OTLP/HTTP."""

from __future__ import annotations

import logging

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_span_in_context

SPANS_A_RUN = 3


def run(url: str, version: str = "1.0.0", runs: int = 20, broken: frozenset[int] = frozenset()) -> None:
    """`runs` traces of three spans and one log event each, case by case; in broken ones no tool is called."""
    resource = Resource({"service.name": "support-agent", "service.version": version, "tracegrade.run.id": version})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(endpoint=f"{url}/v1/logs")))
    tracer, logger = traces.get_tracer("support"), logs.get_logger("support")
    for n in range(runs):
        named = {"tracegrade.case.id": f"case-{n}", "tracegrade.suite": "support", "gen_ai.conversation.id": f"c{n}"}
        with tracer.start_as_current_span("invoke_agent support") as root:
            root.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support", **named})
            with tracer.start_as_current_span("chat scripted-1") as chat:
                chat.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "scripted-1"})
                chat.add_event("note", {"n": n})
                event = LogRecord(
                    context=set_span_in_context(chat), event_name="gen_ai.choice", body=f"answer {n}",
                    severity_number=SeverityNumber.INFO, attributes={"event.name": "gen_ai.choice"},
                )  # fmt: skip
                logger.emit(event)
            tool = "nothing" if n in broken else "lookup"
            with tracer.start_as_current_span(f"execute_tool {tool}") as span:
                called = {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": tool,
                    "gen_ai.tool.call.id": f"call_{n}",
                }
                span.set_attributes(
                    {**called, "gen_ai.tool.call.arguments": '{"q": 1}', "gen_ai.tool.call.result": "ok"}
                )
    assert traces.force_flush()
    traces.shutdown()
    logs.shutdown()
    logging.getLogger("opentelemetry").setLevel(logging.WARNING)
