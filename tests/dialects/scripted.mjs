// What every recording script in JavaScript plays: the scenario's truth, and where to send it. `record.py` puts this module beside
// the script it runs and sets the environment. The tools behave as `scenarios.yaml` says: in `tools` and `content_off` the refund
// fails, elsewhere it succeeds.
import { SpanKind, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { resourceFromAttributes } from '@opentelemetry/resources';

export const SCENARIO = process.argv[2];
export const PROVIDER = process.env.DIALECT_PROVIDER;
export const MODEL = 'scripted-1';
export const CONVERSATION = 'conv-1';
export const SYSTEM = 'You are a support agent.';
export const USER = 'Where is order A-100? Refund it.';
export const QUESTION = 'How long do refunds take?';
export const DOCUMENTS = [
  { id: 'doc-1', text: 'Refunds take 5 days.', score: 0.9 },
  { id: 'doc-2', text: 'Shipping takes 3 days.', score: 0.4 },
];

export const PARAMETERS = {
  lookup_order: { type: 'object', properties: { order_id: { type: 'string' } }, required: ['order_id'] },
  send_refund: {
    type: 'object',
    properties: { order_id: { type: 'string' }, amount: { type: 'number' } },
    required: ['order_id', 'amount'],
  },
};
export const DESCRIPTIONS = { lookup_order: 'Look up an order.', send_refund: 'Send a refund.' };
export const FUNCTIONS = {
  lookup_order: async () => ({ status: 'delivered', total: 42.5 }),
  send_refund: async ({ amount }) => {
    if (['tools', 'content_off'].includes(SCENARIO)) throw new Error('ledger unavailable');
    return { refunded: amount };
  },
};

const ENDINGS = {
  pending: 'Order A-100 was delivered. The refund of 42.50 waits for approval.',
  denied: 'Order A-100 was delivered. The refund of 42.50 was not approved.',
  approved: 'Order A-100 was delivered. The refund of 42.50 was sent.',
};
/** The model's turns, for frameworks that bring a scripted model of their own. */
export const TURNS = [
  { call: { id: 'call_1', name: 'lookup_order', arguments: '{"order_id":"A-100"}' }, tokens: [100, 20] },
  { call: { id: 'call_2', name: 'send_refund', arguments: '{"order_id":"A-100","amount":42.5}' }, tokens: [150, 25] },
  {
    text: ENDINGS[SCENARIO] ?? 'Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable.',
    tokens: [200, 30],
  },
];

/** OpenTelemetry's own SDK and OTLP/HTTP exporter, batched, installed globally; the caller flushes it with `shutdown`. */
export function tracing(processor = (exporter) => new BatchSpanProcessor(exporter)) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'support-agent' }),
    spanProcessors: [processor(new OTLPTraceExporter())],
  });
  provider.register();
  return provider;
}

/** One span of the application's own around it all, as a web framework makes for a request. */
export function request(work) {
  return trace.getTracer('support').startActiveSpan('POST /support', { kind: SpanKind.SERVER }, (span) => work().finally(() => span.end()));
}

/** The conversation as a plain loop over an OpenAI client: nobody but the client is instrumented. */
export const chatLoop = (client) =>
  request(async () => {
    const tools = Object.entries(PARAMETERS).map(([name, parameters]) => ({
      type: 'function',
      function: { name, description: DESCRIPTIONS[name], parameters },
    }));
    const messages = [
      { role: 'system', content: SYSTEM },
      { role: 'user', content: USER },
    ];
    for (;;) {
      const completion = await client.chat.completions.create({ model: MODEL, messages, tools });
      const { message } = completion.choices[0];
      messages.push(message);
      if (!message.tool_calls) return;
      for (const call of message.tool_calls) {
        const content = await FUNCTIONS[call.function.name](JSON.parse(call.function.arguments)).then(
          (result) => JSON.stringify(result),
          (error) => `Error: ${error.message}`,
        );
        messages.push({ role: 'tool', tool_call_id: call.id, content });
      }
    }
  });
