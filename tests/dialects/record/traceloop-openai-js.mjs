// /// script
// dependencies = [
//   "openai@6.49.0",
//   "@traceloop/instrumentation-openai@0.27.0",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "traceloop"
// scenarios = ["tools", "content_off"]
// ///
// A tool loop over OpenAI's client for JavaScript, under Traceloop; content is on by default.
import { OpenAIInstrumentation } from '@traceloop/instrumentation-openai';
import OpenAI from 'openai';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const instrumentation = new OpenAIInstrumentation({ traceContent: scripted.SCENARIO !== 'content_off' });
instrumentation.setTracerProvider(provider);
instrumentation.manuallyInstrument(OpenAI);
await scripted.chatLoop(new OpenAI({ baseURL: `${scripted.PROVIDER}/v1` }));
await provider.shutdown();
