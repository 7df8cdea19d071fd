// /// script
// dependencies = [
//   "ai@7.0.173",
//   "@ai-sdk/otel@1.0.173",
//   "zod@3.25.76",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "ai_sdk"
// scenarios = ["tools", "content_off", "pending", "denied", "approved"]
// ///
// generateText, with the SDK's own OpenTelemetry integration.
import { OpenTelemetry } from '@ai-sdk/otel';
import { registerTelemetry } from 'ai';
import * as scripted from './scripted.mjs';
import { converse } from './scripted_ai_sdk_v7.mjs';

const provider = scripted.tracing();
registerTelemetry(new OpenTelemetry({ runtimeContext: true }));
await converse();
await provider.shutdown();
