// An agent on the Vercel AI SDK with a scripted model: looks an order up, fails to refund it, says so.
// `node agent.mjs <OTLP/HTTP address> <opentelemetry|vercel>`: who sends, OpenTelemetry's SDK or Vercel's wrapper of it.
import { OpenTelemetry } from '@ai-sdk/otel';
import { trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { OTLPHttpProtoTraceExporter, registerOTel } from '@vercel/otel';
import { generateText, isStepCount, jsonSchema, registerTelemetry, tool } from 'ai';
import { MockLanguageModelV4, mockValues } from 'ai/test';

const [url, sender] = [`${process.argv[2]}/v1/traces`, process.argv[3]];
const senders = {
  opentelemetry: () =>
    new NodeTracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'js-agent' }),
      spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }))],
    }).register(),
  vercel: () => registerOTel({ serviceName: 'js-agent', traceExporter: new OTLPHttpProtoTraceExporter({ url }) }),
};
senders[sender]();
registerTelemetry(new OpenTelemetry());

const call = (toolCallId, toolName, input) => ({ type: 'tool-call', toolCallId, toolName, input: JSON.stringify(input) });
const answer = 'Order A-100 was delivered. The refund could not be sent: the ledger is unavailable.';
const turn = (content, input, output) => ({
  content: [content],
  finishReason: { unified: content.type === 'text' ? 'stop' : 'tool-calls', raw: undefined },
  usage: {
    inputTokens: { total: input, noCache: input, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: output, text: output, reasoning: undefined },
  },
  warnings: [],
});
const next = mockValues(
  turn(call('call_1', 'lookup_order', { order_id: 'A-100' }), 100, 20),
  turn(call('call_2', 'send_refund', { order_id: 'A-100', amount: 42.5 }), 150, 25),
  turn({ type: 'text', text: answer }, 200, 30),
);
const order = { type: 'object', properties: { order_id: { type: 'string' } } };
await generateText({
  model: new MockLanguageModelV4({ provider: 'scripted', modelId: 'scripted-1', doGenerate: async () => next() }),
  instructions: 'You are a support agent.',
  prompt: 'Where is order A-100? Refund it.',
  stopWhen: isStepCount(5),
  tools: {
    lookup_order: tool({ inputSchema: jsonSchema(order), execute: async () => ({ status: 'delivered', total: 42.5 }) }),
    send_refund: tool({
      inputSchema: jsonSchema(order),
      execute: async () => {
        throw new Error('ledger unavailable');
      },
    }),
  },
});
await trace.getTracerProvider().getDelegate().shutdown();
