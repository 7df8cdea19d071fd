// The conversation on AI SDK 6 with the SDK's own mock model. A pause is a call that ends with an approval request; the answer is a
// second call.
import { generateText, jsonSchema, stepCountIs, tool } from 'ai';
import { MockLanguageModelV3, mockValues } from 'ai/test';
import * as scripted from './scripted.mjs';

const next = mockValues(...scripted.TURNS);
const model = new MockLanguageModelV3({
  provider: 'openai.chat',
  modelId: scripted.MODEL,
  doGenerate: async () => {
    const { call, text, tokens } = next();
    return {
      finishReason: { unified: call ? 'tool-calls' : 'stop', raw: undefined },
      usage: {
        inputTokens: { total: tokens[0], noCache: tokens[0], cacheRead: undefined, cacheWrite: undefined },
        outputTokens: { total: tokens[1], text: tokens[1], reasoning: undefined },
      },
      content: [
        call ? { type: 'tool-call', toolCallId: call.id, toolName: call.name, input: call.arguments } : { type: 'text', text },
      ],
      warnings: [],
    };
  },
});
const approvals = ['pending', 'denied', 'approved'].includes(scripted.SCENARIO);
const tools = Object.fromEntries(
  Object.entries(scripted.FUNCTIONS).map(([name, execute]) => [
    name,
    tool({
      description: scripted.DESCRIPTIONS[name],
      inputSchema: jsonSchema(scripted.PARAMETERS[name]),
      needsApproval: approvals && name === 'send_refund',
      execute,
    }),
  ]),
);
const content = scripted.SCENARIO !== 'content_off';
const ask = (messages) =>
  generateText({
    model,
    tools,
    stopWhen: stepCountIs(5),
    system: scripted.SYSTEM,
    messages,
    experimental_telemetry: {
      isEnabled: true,
      functionId: 'support-agent',
      metadata: { sessionId: scripted.CONVERSATION },
      recordInputs: content,
      recordOutputs: content,
    },
  });

/** As the scenario has it. */
export async function converse() {
  const question = [{ role: 'user', content: scripted.USER }];
  const paused = await ask(question);
  if (['denied', 'approved'].includes(scripted.SCENARIO)) {
    const answers = paused.content
      .filter((part) => part.type === 'tool-approval-request')
      .map(({ approvalId }) => ({ type: 'tool-approval-response', approvalId, approved: scripted.SCENARIO === 'approved' }));
    await ask([...question, ...paused.response.messages, { role: 'tool', content: answers }]);
  }
}
