// /// script
// dependencies = [
//   "ai@7.0.173",
//   "@ai-sdk/otel@1.0.173",
//   "@arizeai/openinference-vercel@3.2.1",
//   "zod@3.25.76",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "openinference"
// scenarios = ["tools", "content_off", "pending", "denied", "approved"]
// ///
// generateText, its spans turned into OpenInference's on their way out; every attribute the converter would like is on.
import { OpenTelemetry } from '@ai-sdk/otel';
import { OpenInferenceBatchSpanProcessor } from '@arizeai/openinference-vercel';
import { registerTelemetry } from 'ai';
import * as scripted from './scripted.mjs';
import { converse } from './scripted_ai_sdk_v7.mjs';

const provider = scripted.tracing((exporter) => new OpenInferenceBatchSpanProcessor({ exporter }));
registerTelemetry(new OpenTelemetry({ usage: true, providerMetadata: true, runtimeContext: true, toolChoice: true, schema: true }));
await converse();
await provider.shutdown();
