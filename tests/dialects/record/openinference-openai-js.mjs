// /// script
// dependencies = [
//   "openai@6.49.0",
//   "@arizeai/openinference-instrumentation-openai@4.2.7",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "openinference"
// scenarios = ["tools", "content_off"]
// ///
// A tool loop over OpenAI's client for JavaScript, under OpenInference; content is on by default.
import { OpenAIInstrumentation } from '@arizeai/openinference-instrumentation-openai';
import OpenAI from 'openai';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const hidden = scripted.SCENARIO === 'content_off';
const instrumentation = new OpenAIInstrumentation({
  tracerProvider: provider,
  traceConfig: { hideInputs: hidden, hideOutputs: hidden },
});
instrumentation.manuallyInstrument(OpenAI);
await scripted.chatLoop(new OpenAI({ baseURL: `${scripted.PROVIDER}/v1` }));
await provider.shutdown();
