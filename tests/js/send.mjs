// Sends spans and log records as an application would: the official SDK, batched, with the official exporters.
// `node send.mjs '{"transport": "http/json", "url": …, "compression": "none", "spans": 1000, "logs": 100}'` prints what went wrong.
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { setGlobalErrorHandler } from '@opentelemetry/core';
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter as GrpcTraces } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as JsonTraces } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraces } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

const EXPORTERS = {
  'http/json': [JsonTraces, JsonLogs],
  'http/protobuf': [ProtoTraces, ProtoLogs],
  grpc: [GrpcTraces, GrpcLogs],
};
const { transport, url, compression, spans, logs } = JSON.parse(process.argv[2]);
const [Traces, Logs] = EXPORTERS[transport];
const at = (signal) => ({ url: transport === 'grpc' ? url : `${url}/v1/${signal}`, compression });

const errors = [];
setGlobalErrorHandler((error) => errors.push(String(error.message ?? error)));

const resource = resourceFromAttributes({ 'service.name': 'js-agent', 'service.version': '1.0' });
const tracers = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new Traces(at('traces')))] });
tracers.register();
const tracer = tracers.getTracer('js-agent', '2.0');
for (let number = 0; number < spans; number++) {
  tracer.startActiveSpan(`tool ${number}`, { kind: SpanKind.CLIENT, root: true }, (outer) => {
    outer.setAttributes({
      'a.text': 'naïve 🚀 \u0000 end',
      'a.whole': number,
      'a.large': Number.MAX_SAFE_INTEGER,
      'a.fraction': 0.5,
      'a.flag': true,
      'a.list': ['a', 'b'],
      'a.numbers': [1, 2],
    });
    outer.addEvent('approved', { by: 'user' });
    const inner = tracer.startSpan('inner', { links: [{ context: outer.spanContext() }] });
    inner.setStatus({ code: SpanStatusCode.ERROR, message: 'no' });
    inner.end();
    outer.end();
  });
}
const loggers = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new Logs(at('logs')) })] });
for (let number = 0; number < logs; number++) {
  loggers.getLogger('js-agent', '2.0').emit({
    eventName: 'decision',
    severityNumber: SeverityNumber.INFO,
    body: { tool: 'refund', arguments: { order: number, lines: [1, 2], none: null } },
    attributes: { nested: { deep: { er: [true, 'x'] } }, bytes: new Uint8Array([0, 255]) },
  });
}
await tracers.forceFlush().catch((error) => errors.push(String(error.message ?? error)));
await loggers.forceFlush().catch((error) => errors.push(String(error.message ?? error)));
await Promise.allSettled([tracers.shutdown(), loggers.shutdown()]);
process.stdout.write(JSON.stringify(errors));
process.exit();
