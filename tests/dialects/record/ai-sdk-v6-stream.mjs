// /// script
// dependencies = [
//   "ai@6.0.326",
//   "zod@3.25.76",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "ai_sdk"
// scenarios = ["tools"]
// ///
// streamText, with the telemetry it has built in.
import * as scripted from './scripted.mjs';
import { converseStreaming } from './scripted_ai_sdk_v6.mjs';

const provider = scripted.tracing();
await converseStreaming();
await provider.shutdown();
