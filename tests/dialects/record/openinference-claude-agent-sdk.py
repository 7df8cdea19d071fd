# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "claude-agent-sdk==0.2.186",
#   "openinference-instrumentation-claude-agent-sdk==0.1.22",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "denied"]
# [tool.dialect.environment]
# CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1"
# ///
"""Claude's Agent SDK, with the CLI it brings, under OpenInference; the tools are an MCP server in the script's own process."""

import asyncio
import json
import tempfile
from typing import Any

import scripted
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
    create_sdk_mcp_server,
    tool,
)
from openinference.instrumentation.claude_agent_sdk import ClaudeAgentSDKInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

PREFIX = "mcp__orders__"


@tool("lookup_order", "Look up an order.", {"order_id": str})
async def lookup_order(args: dict[str, Any]) -> dict[str, Any]:
    """Look up an order."""
    return {"content": [{"type": "text", "text": json.dumps(scripted.lookup_order(**args))}]}


@tool("send_refund", "Send a refund.", {"order_id": str, "amount": float})
async def send_refund(args: dict[str, Any]) -> dict[str, Any]:
    """Send a refund."""
    return {"content": [{"type": "text", "text": json.dumps(scripted.send_refund(**args))}]}


async def decide(
    name: str, args: dict[str, Any], context: ToolPermissionContext
) -> PermissionResultAllow | PermissionResultDeny:
    """Allow everything but, in `denied`, the refund."""
    if scripted.SCENARIO == "denied" and name.endswith("send_refund"):
        return PermissionResultDeny(message="the refund was refused")
    return PermissionResultAllow()


async def converse() -> None:
    """The scripted conversation."""
    options = ClaudeAgentOptions(
        model=scripted.MODEL,
        system_prompt=scripted.SYSTEM,
        mcp_servers={"orders": create_sdk_mcp_server("orders", tools=[lookup_order, send_refund])},
        tools=[],
        session_id="00000000-0000-4000-8000-000000000001",
        setting_sources=[],
        can_use_tool=decide,
        env={
            "ANTHROPIC_BASE_URL": scripted.PROVIDER,
            "ANTHROPIC_API_KEY": "unused",
            "CLAUDE_CONFIG_DIR": tempfile.mkdtemp(),  # a session's id can be used once
        },
    )
    async with ClaudeSDKClient(options) as client:
        await client.query(scripted.USER)
        async for _ in client.receive_response():
            pass


answers = {
    "tools": "Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable.",
    "denied": "Order A-100 was delivered. The refund of 42.50 was not approved.",
}
scripted.play(
    [
        {
            "calls": [{"id": "call_1", "name": f"{PREFIX}lookup_order", "arguments": {"order_id": "A-100"}}],
            "tokens": [100, 20],
        },
        {
            "calls": [
                {"id": "call_2", "name": f"{PREFIX}send_refund", "arguments": {"order_id": "A-100", "amount": 42.5}}
            ],
            "tokens": [150, 25],
        },
        {"text": answers[scripted.SCENARIO], "tokens": [200, 30]},
    ]
)
# Not installed globally: the tools' server is in this process, and the MCP SDK's spans are another recording's matter.
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
ClaudeAgentSDKInstrumentor().instrument(tracer_provider=provider)
asyncio.run(converse())
provider.shutdown()
