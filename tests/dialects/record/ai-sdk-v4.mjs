// /// script
// dependencies = [
//   "ai@4.3.19",
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
// generateText with the SDK's own mock model. A tool that throws ends a run in this version, so the refund returns its error.
import { generateText, jsonSchema, tool } from 'ai';
import { MockLanguageModelV1, mockValues } from 'ai/test';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const next = mockValues(...scripted.TURNS);
const model = new MockLanguageModelV1({
  provider: 'openai.chat',
  modelId: scripted.MODEL,
  doGenerate: async () => {
    const { call, text, tokens } = next();
    return {
      rawCall: { rawPrompt: null, rawSettings: {} },
      finishReason: call ? 'tool-calls' : 'stop',
      usage: { promptTokens: tokens[0], completionTokens: tokens[1] },
      text,
      toolCalls: call && [{ toolCallType: 'function', toolCallId: call.id, toolName: call.name, args: call.arguments }],
    };
  },
});
const tools = Object.fromEntries(
  Object.entries(scripted.FUNCTIONS).map(([name, execute]) => [
    name,
    tool({
      description: scripted.DESCRIPTIONS[name],
      parameters: jsonSchema(scripted.PARAMETERS[name]),
      execute: (args) => execute(args).catch((error) => ({ error: error.message })),
    }),
  ]),
);
const content = scripted.SCENARIO !== 'content_off';
await generateText({
  model,
  tools,
  maxSteps: 5,
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
