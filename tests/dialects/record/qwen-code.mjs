// /// script
// dependencies = ["@qwen-code/qwen-code@0.24.4", "node@22.23.3"]
// [tool.dialect]
// name = "qwen_code"
// scenarios = ["tools", "content_off", "denied"]
// ///
// The command line tool, headless, with the two tools behind MCP; its spans and its logs. Content is on by default.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { PROVIDER, SCENARIO, SERVER, SYSTEM, USER, rename, run } from './scripted_mcp.mjs';

await rename((tool) => ({ name: `mcp__support__${tool}` }));
const home = `${process.cwd()}/home`;
rmSync(home, { recursive: true, force: true });
mkdirSync(`${home}/.qwen`, { recursive: true });
writeFileSync(
  `${home}/.qwen/settings.json`,
  JSON.stringify({
    mcpServers: { support: { ...SERVER, trust: SCENARIO !== 'denied' } },
    tools: { eager: [], toolSearch: { enabled: false }, visible: ['mcp__support__lookup_order', 'mcp__support__send_refund'] },
    permissions: { allow: ['mcp__support__lookup_order'] },
    memory: { enableManagedAutoMemory: false, enableManagedAutoDream: false },
    privacy: { usageStatisticsEnabled: false },
    security: { auth: { selectedType: 'openai' } },
    telemetry: {
      enabled: true,
      target: 'local',
      otlpEndpoint: process.env.DIALECT_SINK_HTTP,
      otlpProtocol: 'http',
      logPrompts: SCENARIO !== 'content_off',
      includeSensitiveSpanAttributes: SCENARIO !== 'content_off',
    },
  }),
);
const modules = `${process.cwd()}/node_modules`;
mkdirSync('desk', { recursive: true });
process.chdir('desk');
// Nobody can be asked: in `denied` the refund needs a person and is refused.
const options = ['--model', 'scripted-1', '--system-prompt', SYSTEM, '--session-id', '00000000-0000-4000-8000-000000000001'];
await run(`${modules}/.bin/node`, [`${modules}/@qwen-code/qwen-code/cli.js`, ...options, '--exclude-tools', 'skill', '--prompt', USER], {
  HOME: home,
  OPENAI_API_KEY: 'unused',
  OPENAI_BASE_URL: `${PROVIDER}/v1`,
  OTEL_NODE_RESOURCE_DETECTORS: 'env',
});
