// /// script
// dependencies = [
//   "openai@5.23.2",
//   "@opentelemetry/instrumentation-openai@0.21.0",
//   "@opentelemetry/instrumentation@0.223.0",
//   "@opentelemetry/api-logs@0.223.1",
//   "@opentelemetry/exporter-logs-otlp-proto@0.223.1",
//   "@opentelemetry/sdk-logs@0.223.1",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "otel_genai_legacy"
// scenarios = ["tools", "content_off"]
// ///
// A tool loop over OpenAI's client for JavaScript, under OpenTelemetry's instrumentation; content, in log records, is off by default.
import { createRequire } from 'node:module';
import { logs } from '@opentelemetry/api-logs';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { registerInstrumentations } from '@opentelemetry/instrumentation';
import { OpenAIInstrumentation } from '@opentelemetry/instrumentation-openai';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const loggers = new LoggerProvider({
  resource: resourceFromAttributes({ 'service.name': 'support-agent' }),
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })],
});
logs.setGlobalLoggerProvider(loggers);
registerInstrumentations({
  instrumentations: [new OpenAIInstrumentation({ captureMessageContent: scripted.SCENARIO !== 'content_off' })],
});
// It watches what is required, not what is imported.
const { OpenAI } = createRequire(import.meta.url)('openai');
await scripted.chatLoop(new OpenAI({ baseURL: `${scripted.PROVIDER}/v1` }));
await Promise.all([provider.shutdown(), loggers.shutdown()]);
