// /// script
// dependencies = ["@google/gemini-cli@0.61.0"]
// [tool.dialect]
// name = "gemini_cli"
// scenarios = ["tools", "content_off", "denied"]
// ///
// The command line tool, headless, with the two tools behind MCP; its spans and its logs. Content is on by default.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { PROVIDER, SCENARIO, SERVER, SYSTEM, USER, rename, run } from './scripted_mcp.mjs';

await rename((tool) => ({ name: `mcp_support_${tool}` }));
// The user's own settings: a project's are not read before it is trusted.
const home = `${process.cwd()}/home`;
rmSync(home, { recursive: true, force: true });
mkdirSync(`${home}/.gemini`, { recursive: true });
// The instructions of its own are long and name its directories.
writeFileSync(`${home}/system.md`, SYSTEM);
writeFileSync(
  `${home}/.gemini/settings.json`,
  JSON.stringify({
    mcpServers: { support: { ...SERVER, trust: true } },
    tools: { core: ['mcp_support_lookup_order', 'mcp_support_send_refund'] },
    privacy: { usageStatisticsEnabled: false },
    security: { auth: { selectedType: 'gemini-api-key' } },
    telemetry: {
      enabled: true,
      traces: true,
      target: 'local',
      otlpEndpoint: process.env.DIALECT_SINK_HTTP,
      otlpProtocol: 'http',
      logPrompts: SCENARIO !== 'content_off',
    },
  }),
);
// Nobody can be asked: a call that needs a person is refused.
const asks = '[[rule]]\nmcpName = "support"\ntoolName = "send_refund"\ndecision = "ask_user"\npriority = 999\n';
writeFileSync(`${home}/policy.toml`, SCENARIO === 'denied' ? asks : '');
// The model is told of the directory, so it is an empty one.
const gemini = `${process.cwd()}/node_modules/.bin/gemini`;
mkdirSync('desk', { recursive: true });
process.chdir('desk');
const session = ['--session-id', '00000000-0000-4000-8000-000000000001', '--policy', `${home}/policy.toml`];
// It tells the kernel's version, which would name the machine.
writeFileSync(`${home}/os.cjs`, "require('os').release = () => '0'; require('module').syncBuiltinESMExports();\n");
await run(gemini, ['--skip-trust', '--model', 'gemini-2.5-flash', ...session, '--prompt', USER], {
  HOME: home,
  GEMINI_API_KEY: 'unused',
  GEMINI_SYSTEM_MD: `${home}/system.md`,
  GOOGLE_GEMINI_BASE_URL: PROVIDER,
  NODE_OPTIONS: `--require ${home}/os.cjs`,
  OTEL_NODE_RESOURCE_DETECTORS: 'env',
});
