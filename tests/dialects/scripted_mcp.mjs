// The two tools as an MCP server over stdio, for coding agents, which bring tools and a loop of their own; and what every script that
// runs such an agent needs. `node scripted_mcp.mjs <scenario>` is the server. A third tool, `decide`, answers permission prompts as
// the scenario says. The standard library only.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const SCENARIO = process.argv[2];
export const PROVIDER = process.env.DIALECT_PROVIDER;
export const SYSTEM = 'You are a support agent.';
export const USER = 'Where is order A-100? Refund it.';
export const SERVER = { command: 'node', args: [fileURLToPath(import.meta.url), SCENARIO] };

/** Has the provider play its scenario under the names the agent gives the tools: `name("lookup_order")` is `{name, namespace?}`. */
export async function rename(name) {
  const call = (id, tool, args) => ({ calls: [{ id, ...name(tool), arguments: args }] });
  const ending = {
    denied: 'Order A-100 was delivered. The refund of 42.50 was not approved.',
    approved: 'Order A-100 was delivered. The refund of 42.50 was sent.',
  };
  const failed = 'Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable.';
  const turns = [
    { ...call('call_1', 'lookup_order', { order_id: 'A-100' }), tokens: [100, 20] },
    { ...call('call_2', 'send_refund', { order_id: 'A-100', amount: 42.5 }), tokens: [150, 25] },
    { text: ending[SCENARIO] ?? failed, tokens: [200, 30] },
  ];
  await fetch(`${PROVIDER}/turns`, { method: 'PUT', body: JSON.stringify(turns) });
}

/** How to run a command on a machine of another name, after `unshare`. */
export const ELSEWHERE = ['--uts', 'sh', '-c', 'hostname agent && exec "$0" "$@"'];

/** Runs the agent to its end, on a machine of another name; what it prints is shown only where it fails. */
export function run(command, args, environment = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn('unshare', [...ELSEWHERE, command, ...args], { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    child.stderr.on('data', (data) => (said += data));
    child.on('error', reject);
    child.on('close', (code) => {
      if (process.env.DIALECT_LOUD || code) process.stderr.write(said);
      code ? reject(new Error(`${command} ended with ${code}`)) : resolve(said);
    });
  });
}

const text = (value) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });
const string = { type: 'string' };
const TOOLS = {
  lookup_order: {
    description: 'Look up an order.',
    inputSchema: { type: 'object', properties: { order_id: string }, required: ['order_id'] },
    call: () => text({ status: 'delivered', total: 42.5 }),
  },
  send_refund: {
    description: 'Send a refund.',
    inputSchema: { type: 'object', properties: { order_id: string, amount: { type: 'number' } }, required: ['order_id', 'amount'] },
    call: ({ amount }) =>
      ['tools', 'content_off'].includes(SCENARIO)
        ? { content: [{ type: 'text', text: 'ledger unavailable' }], isError: true }
        : text({ refunded: amount }),
  },
  decide: {
    description: 'Decide whether a tool may be used.',
    inputSchema: { type: 'object', properties: { tool_name: string, input: { type: 'object' } } },
    call: ({ input }) =>
      text(SCENARIO === 'denied' ? { behavior: 'deny', message: 'No refund.' } : { behavior: 'allow', updatedInput: input }),
  },
};

const METHODS = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: 'support', version: '1' },
  }),
  'tools/list': () => ({ tools: Object.entries(TOOLS).map(([name, { call, ...told }]) => ({ name, ...told })) }),
  'tools/call': ({ name, arguments: given }) => TOOLS[name].call(given),
  ping: () => ({}),
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    if (id === undefined) continue;
    const known = METHODS[method];
    const answer = known ? { result: known(params) } : { error: { code: -32601, message: `no method ${method}` } };
    process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, ...answer })}\n`);
  }
}
