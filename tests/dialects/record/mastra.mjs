// /// script
// dependencies = [
//   "@mastra/core@1.71.0",
//   "@mastra/observability@1.17.9",
//   "@mastra/otel-exporter@1.4.0",
//   "@ai-sdk/openai@3.0.141",
//   "zod@3.25.76",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.218.0",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "mastra"
// scenarios = ["tools", "content_off", "pending", "denied", "approved"]
// ///
// Mastra's agent, under its own OpenTelemetry exporter; content is on by default.
import { createOpenAI } from '@ai-sdk/openai';
import { Agent } from '@mastra/core/agent';
import { Mastra } from '@mastra/core/mastra';
import { InMemoryStore } from '@mastra/core/storage';
import { createTool } from '@mastra/core/tools';
import { Observability } from '@mastra/observability';
import { OtelExporter } from '@mastra/otel-exporter';
import { z } from 'zod';
import * as scripted from './scripted.mjs';

const approvals = ['pending', 'denied', 'approved'].includes(scripted.SCENARIO);
const hidden = scripted.SCENARIO === 'content_off';
const schemas = {
  lookup_order: z.object({ order_id: z.string() }),
  send_refund: z.object({ order_id: z.string(), amount: z.number() }),
};
const tools = Object.fromEntries(
  Object.entries(scripted.FUNCTIONS).map(([id, execute]) => [
    id,
    createTool({
      id,
      description: scripted.DESCRIPTIONS[id],
      inputSchema: schemas[id],
      requireApproval: approvals && id === 'send_refund',
      execute: async (input) => execute(input),
    }),
  ]),
);
const model = createOpenAI({ baseURL: `${scripted.PROVIDER}/v1` }).chat(scripted.MODEL);
const exporter = new OtelExporter({
  provider: { custom: { endpoint: process.env.OTEL_EXPORTER_OTLP_ENDPOINT, protocol: 'http/protobuf' } },
});
const mastra = new Mastra({
  agents: { support: new Agent({ id: 'support-agent', name: 'support-agent', instructions: scripted.SYSTEM, model, tools }) },
  logger: false,
  storage: new InMemoryStore(),
  observability: new Observability({ configs: { otel: { serviceName: 'support-agent', exporters: [exporter] } } }),
});
const agent = mastra.getAgent('support');
const tracingOptions = { metadata: { sessionId: scripted.CONVERSATION }, hideInput: hidden, hideOutput: hidden };
const { runId, suspendPayload } = await agent.generate(scripted.USER, { maxSteps: 5, tracingOptions });
const decide = {
  denied: (call) => agent.declineToolCallGenerate(call),
  approved: (call) => agent.approveToolCallGenerate(call),
}[scripted.SCENARIO];
await decide?.({ runId, toolCallId: suspendPayload.toolCallId, tracingOptions });
await mastra.observability.shutdown();
process.exit();
