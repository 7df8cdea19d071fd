// /// script
// dependencies = ["@openai/codex@0.169.0"]
// [tool.dialect]
// name = "codex"
// scenarios = ["tools", "denied", "approved"]
// ///
// The command line tool, headless, with the two tools behind MCP; decisions through its app server, as an editor's extension has them.
// Logs are what its users turn on; without the spans, some hundreds a run and nearly all about its own insides, they carry no trace
// id. There is no switch for content but the prompt's.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ELSEWHERE, PROVIDER, SCENARIO, SERVER, USER, rename, run } from './scripted_mcp.mjs';

await rename((tool) => ({ name: tool, namespace: 'mcp__support' }));
const home = `${process.cwd()}/codex-home`;
const sink = process.env.DIALECT_SINK_HTTP;
const exporter = (signal) => `{ otlp-http = { endpoint = "${sink}/v1/${signal}", protocol = "binary" } }`;
mkdirSync(home, { recursive: true });
writeFileSync(
  `${home}/config.toml`,
  `
model = "scripted-1"
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "${PROVIDER}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"

[mcp_servers.support]
command = "${SERVER.command}"
args = ${JSON.stringify(SERVER.args)}
default_tools_approval_mode = "approve"

[mcp_servers.support.tools.send_refund]
approval_mode = "${SCENARIO === 'tools' ? 'approve' : 'prompt'}"

[otel]
log_user_prompt = true
exporter = ${exporter('logs')}
trace_exporter = ${exporter('traces')}
`,
);
const codex = 'node_modules/.bin/codex';

/** Starts a thread, says the user's sentence, and answers when asked; ends with the turn. */
async function decide() {
  const env = { ...process.env, CODEX_HOME: home };
  const child = spawn('unshare', [...ELSEWHERE, codex, 'app-server'], { env, stdio: ['pipe', 'pipe', 'ignore'] });
  const say = (message) => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  const answers = {
    1: () => {
      say({ method: 'initialized' });
      say({ id: 2, method: 'thread/start', params: { approvalPolicy: 'on-request', sandbox: 'read-only', ephemeral: true } });
    },
    2: ({ thread }) => {
      say({ id: 3, method: 'turn/start', params: { threadId: thread.id, input: [{ type: 'text', text: USER }] } });
    },
    3: () => {},
  };
  say({ id: 1, method: 'initialize', params: { clientInfo: { name: 'support', title: null, version: '1' } } });
  for await (const line of createInterface({ input: child.stdout })) {
    const { id, method, result } = JSON.parse(line);
    if (result) answers[id](result);
    else if (id !== undefined) say({ id, result: { action: SCENARIO === 'approved' ? 'accept' : 'decline', content: null } });
    else if (method === 'turn/completed') child.stdin.end();
  }
}

if (SCENARIO === 'tools') {
  await run(codex, ['exec', '--skip-git-repo-check', '--ephemeral', '--sandbox', 'read-only', USER], { CODEX_HOME: home });
} else {
  await decide();
}
