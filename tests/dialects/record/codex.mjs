// /// script
// dependencies = ["@openai/codex@0.169.0"]
// [tool.dialect]
// name = "codex"
// scenarios = ["tools"]
// ///
// The command line tool, headless, with the two tools behind MCP. Logs are what its users turn on; without the spans, some
// hundreds a run and nearly all about its own insides, they carry no trace id. There is no switch for content but the prompt's.
import { mkdirSync, writeFileSync } from 'node:fs';
import { PROVIDER, SERVER, USER, rename, run } from './scripted_mcp.mjs';

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

[otel]
log_user_prompt = true
exporter = ${exporter('logs')}
trace_exporter = ${exporter('traces')}
`,
);
await run('node_modules/.bin/codex', ['exec', '--skip-git-repo-check', '--ephemeral', '--sandbox', 'read-only', USER], {
  CODEX_HOME: home,
});
