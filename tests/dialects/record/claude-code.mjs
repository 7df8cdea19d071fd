// /// script
// dependencies = ["@anthropic-ai/claude-code@2.1.329"]
// [tool.dialect]
// name = "claude_code"
// scenarios = ["tools", "content_off", "denied", "approved"]
// ///
// The command line tool, headless, with the two tools behind MCP; the beta spans and the logs. Content is off by default.
import { PROVIDER, SCENARIO, SERVER, SYSTEM, USER, rename, run } from './scripted_mcp.mjs';

await rename((tool) => ({ name: `mcp__support__${tool}` }));
const asks = ['denied', 'approved'].includes(SCENARIO);
const content = SCENARIO === 'content_off' ? '0' : '1';
const allowed = asks ? ['mcp__support__lookup_order'] : ['mcp__support__lookup_order', 'mcp__support__send_refund'];
await run(
  'node_modules/.bin/claude',
  [
    ...['--bare', '--no-session-persistence', '--strict-mcp-config', '--tools', '', '--print', USER],
    ...['--system-prompt', SYSTEM, '--model', 'scripted-1', '--session-id', '00000000-0000-4000-8000-000000000001'],
    ...['--mcp-config', JSON.stringify({ mcpServers: { support: SERVER } }), '--allowedTools', allowed.join(',')],
    ...(asks ? ['--permission-prompt-tool', 'mcp__support__decide'] : []),
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
    OTEL_LOG_USER_PROMPTS: content,
    OTEL_LOG_TOOL_DETAILS: content,
    OTEL_LOG_TOOL_CONTENT: content,
  },
);
