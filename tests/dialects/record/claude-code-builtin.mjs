// /// script
// dependencies = ["@anthropic-ai/claude-code@2.1.329"]
// [tool.dialect]
// name = "claude_code"
// scenarios = ["tools", "denied"]
// ///
// The command line tool, headless, with tools of its own: it reads an order from a file and runs a command that refunds.
import { mkdirSync, writeFileSync } from 'node:fs';
import { PROVIDER, SCENARIO, SYSTEM, USER, run } from './scripted_mcp.mjs';

const claude = `${process.cwd()}/node_modules/.bin/claude`;
mkdirSync('desk', { recursive: true });
process.chdir('desk');
writeFileSync('order-A-100.json', '{"status": "delivered", "total": 42.5}');
writeFileSync('refund', 'echo ledger unavailable >&2; exit 1\n');
const answer = {
  tools: 'Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable.',
  denied: 'Order A-100 was delivered. The refund of 42.50 was not approved.',
}[SCENARIO];
const turns = [
  { calls: [{ id: 'call_1', name: 'Read', arguments: { file_path: `${process.cwd()}/order-A-100.json` } }], tokens: [100, 20] },
  { calls: [{ id: 'call_2', name: 'Bash', arguments: { command: 'sh refund A-100 42.5' } }], tokens: [150, 25] },
  { text: answer, tokens: [200, 30] },
];
await fetch(`${PROVIDER}/turns`, { method: 'PUT', body: JSON.stringify(turns) });
const allowed = SCENARIO === 'tools' ? 'Read,Bash(sh refund:*)' : 'Read';
await run(
  claude,
  [
    ...['--bare', '--no-session-persistence', '--strict-mcp-config', '--tools', 'Read,Bash', '--print', USER],
    ...['--system-prompt', SYSTEM, '--model', 'scripted-1', '--session-id', '00000000-0000-4000-8000-000000000001'],
    ...['--allowedTools', allowed],
  ],
  {
    ANTHROPIC_BASE_URL: PROVIDER,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    CLAUDE_CODE_ENABLE_TELEMETRY: '1',
    CLAUDE_CODE_ENHANCED_TELEMETRY_BETA: '1',
    // The kernel's version would name the machine.
    OTEL_RESOURCE_ATTRIBUTES: 'os.version=0',
    OTEL_TRACES_EXPORTER: 'otlp',
    OTEL_LOGS_EXPORTER: 'otlp',
    OTEL_LOGS_EXPORT_INTERVAL: '60000',
    OTEL_TRACES_EXPORT_INTERVAL: '60000',
    OTEL_LOG_USER_PROMPTS: '1',
    OTEL_LOG_TOOL_DETAILS: '1',
    OTEL_LOG_TOOL_CONTENT: '1',
  },
);
