// The conversation on AI SDK 7 with the SDK's own mock model. A pause is a call that ends with an approval request; the answer is a
// second call.
import { generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { MockLanguageModelV4, mockValues, simulateReadableStream } from 'ai/test';
import * as scripted from './scripted.mjs';

const next = mockValues(...scripted.TURNS);
const said = ({ call, text }) =>
  call ? { type: 'tool-call', toolCallId: call.id, toolName: call.name, input: call.arguments } : { type: 'text', text };
const ending = ({ call, tokens }) => ({
  finishReason: { unified: call ? 'tool-calls' : 'stop', raw: undefined },
  usage: {
    inputTokens: { total: tokens[0], noCache: tokens[0], cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: tokens[1], text: tokens[1], reasoning: undefined },
  },
});
const model = new MockLanguageModelV4({
  provider: 'openai.chat',
  modelId: scripted.MODEL,
  doGenerate: async () => {
    const turn = next();
    return { content: [said(turn)], ...ending(turn), warnings: [] };
  },
  doStream: async () => {
    const turn = next();
    const text = turn.text && [
      { type: 'text-start', id: '0' },
      ...turn.text.split(/(?= )/).map((delta) => ({ type: 'text-delta', id: '0', delta })),
      { type: 'text-end', id: '0' },
    ];
    const chunks = [{ type: 'stream-start', warnings: [] }, ...(text ?? [said(turn)]), { type: 'finish', ...ending(turn) }];
    return { stream: simulateReadableStream({ chunks, initialDelayInMs: null, chunkDelayInMs: null }) };
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
const call = (messages) => ({
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

/** As the scenario has it, each answer at once. */
export async function converse() {
  const ask = (messages) => generateText(call(messages));
  const question = [{ role: 'user', content: scripted.USER }];
  const paused = await ask(question);
  if (['denied', 'approved'].includes(scripted.SCENARIO)) {
    const answers = paused.content
      .filter((part) => part.type === 'tool-approval-request')
      .map(({ approvalId }) => ({ type: 'tool-approval-response', approvalId, approved: scripted.SCENARIO === 'approved' }));
    await ask([...question, ...paused.responseMessages, { role: 'tool', content: answers }]);
  }
}

/** As the scenario has it up to its first pause, each answer streamed. */
export async function converseStreaming() {
  await streamText({ ...call([{ role: 'user', content: scripted.USER }]), onError: () => {} }).consumeStream();
}
