// The conversation on AI SDK 7 with the SDK's own mock model. A pause is a call that ends with an approval request; the answer is a
// second call.
import { generateText, isStepCount, jsonSchema, tool } from 'ai';
import { MockLanguageModelV4, mockValues } from 'ai/test';
import * as scripted from './scripted.mjs';

const next = mockValues(...scripted.TURNS);
const model = new MockLanguageModelV4({
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
    tool({ description: scripted.DESCRIPTIONS[name], inputSchema: jsonSchema(scripted.PARAMETERS[name]), execute }),
  ]),
);
const content = scripted.SCENARIO !== 'content_off';
const ask = (messages) =>
  generateText({
    model,
    tools,
    toolApproval: approvals ? { send_refund: 'user-approval' } : undefined,
    stopWhen: isStepCount(5),
    instructions: scripted.SYSTEM,
    messages,
    runtimeContext: { sessionId: scripted.CONVERSATION },
    telemetry: {
      functionId: 'support-agent',
      includeRuntimeContext: { sessionId: true },
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
    await ask([...question, ...paused.responseMessages, { role: 'tool', content: answers }]);
  }
}
