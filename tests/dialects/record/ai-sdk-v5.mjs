// /// script
// dependencies = [
//   "ai@5.0.277",
//   "zod@3.25.76",
//   "@opentelemetry/api@1.9.1",
//   "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
//   "@opentelemetry/resources@2.12.1",
//   "@opentelemetry/sdk-trace-node@2.12.0",
// ]
// [tool.dialect]
// name = "ai_sdk"
// scenarios = ["tools", "content_off"]
// ///
// generateText with the SDK's own mock model.
import { generateText, jsonSchema, stepCountIs, tool } from 'ai';
import { MockLanguageModelV2, mockValues } from 'ai/test';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const next = mockValues(...scripted.TURNS);
const model = new MockLanguageModelV2({
  provider: 'openai.chat',
  modelId: scripted.MODEL,
  doGenerate: async () => {
    const { call, text, tokens } = next();
    return {
      finishReason: call ? 'tool-calls' : 'stop',
      usage: { inputTokens: tokens[0], outputTokens: tokens[1], totalTokens: tokens[0] + tokens[1] },
      content: [
        call ? { type: 'tool-call', toolCallId: call.id, toolName: call.name, input: call.arguments } : { type: 'text', text },
      ],
      warnings: [],
    };
  },
});
const tools = Object.fromEntries(
  Object.entries(scripted.FUNCTIONS).map(([name, execute]) => [
    name,
    tool({ description: scripted.DESCRIPTIONS[name], inputSchema: jsonSchema(scripted.PARAMETERS[name]), execute }),
  ]),
);
const content = scripted.SCENARIO !== 'content_off';
await generateText({
  model,
  tools,
  stopWhen: stepCountIs(5),
  system: scripted.SYSTEM,
  prompt: scripted.USER,
  experimental_telemetry: {
    isEnabled: true,
    functionId: 'support-agent',
    metadata: { sessionId: scripted.CONVERSATION },
    recordInputs: content,
    recordOutputs: content,
  },
});
await provider.shutdown();
