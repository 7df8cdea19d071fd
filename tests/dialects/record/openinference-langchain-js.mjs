// /// script
// dependencies = [
//   "langchain@1.5.14",
//   "@langchain/core@1.2.13",
//   "@langchain/langgraph@1.4.13",
//   "@langchain/openai@1.6.0",
//   "@arizeai/openinference-instrumentation-langchain@4.1.1",
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
// LangChain's agent for JavaScript, under OpenInference; content is on by default. Refunds are approved by its middleware.
import { LangChainInstrumentation } from '@arizeai/openinference-instrumentation-langchain';
import * as CallbackManagerModule from '@langchain/core/callbacks/manager';
import { Command, MemorySaver } from '@langchain/langgraph';
import { ChatOpenAI } from '@langchain/openai';
import { createAgent, humanInTheLoopMiddleware, tool, toolRetryMiddleware } from 'langchain';
import * as scripted from './scripted.mjs';

const provider = scripted.tracing();
const hidden = scripted.SCENARIO === 'content_off';
const instrumentation = new LangChainInstrumentation({ traceConfig: { hideInputs: hidden, hideOutputs: hidden } });
instrumentation.manuallyInstrument(CallbackManagerModule);

const tools = Object.entries(scripted.FUNCTIONS).map(([name, call]) =>
  tool(call, { name, description: scripted.DESCRIPTIONS[name], schema: scripted.PARAMETERS[name] }),
);
const approvals = ['pending', 'denied', 'approved'].includes(scripted.SCENARIO);
const agent = createAgent({
  model: new ChatOpenAI({ model: scripted.MODEL, configuration: { baseURL: `${scripted.PROVIDER}/v1` } }),
  tools,
  systemPrompt: scripted.SYSTEM,
  name: 'support-agent',
  checkpointer: new MemorySaver(),
  middleware: [
    // A tool that throws ends the run unless something tells the model.
    toolRetryMiddleware({ maxRetries: 0, onFailure: (error) => `Error: ${error.message}` }),
    ...(approvals ? [humanInTheLoopMiddleware({ interruptOn: { send_refund: { allowedDecisions: ['approve', 'reject'] } } })] : []),
  ],
});
const config = { configurable: { thread_id: scripted.CONVERSATION } };
await agent.invoke({ messages: [{ role: 'user', content: scripted.USER }] }, config);
const decisions = { denied: { type: 'reject', message: 'no' }, approved: { type: 'approve' } };
if (decisions[scripted.SCENARIO]) {
  await agent.invoke(new Command({ resume: { decisions: [decisions[scripted.SCENARIO]] } }), config);
}
await provider.shutdown();
