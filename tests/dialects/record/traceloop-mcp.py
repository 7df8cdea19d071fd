# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "mcp==1.30.0",
#   "opentelemetry-instrumentation-mcp==0.62.4",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools"]
# ///
"""An MCP client and server of the SDK's first generation under Traceloop's instrumentation, in two processes over stdio."""

import asyncio
import os
import sys

import scripted
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.fastmcp import FastMCP
from opentelemetry import trace
from opentelemetry.instrumentation.mcp import McpInstrumentor

SERVE = "serve"


async def converse() -> None:
    """The agent's two calls; no model is asked."""
    server = StdioServerParameters(
        command=sys.executable,
        args=[__file__, scripted.SCENARIO, SERVE],
        env={**os.environ, "OTEL_SERVICE_NAME": "order-server"},
    )
    agent = {"traceloop.span.kind": "agent", "traceloop.entity.name": "support"}
    with trace.get_tracer("support").start_as_current_span("support.agent", attributes=agent):
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            await session.list_tools()
            await session.call_tool("lookup_order", {"order_id": "A-100"})
            await session.call_tool("send_refund", {"order_id": "A-100", "amount": 42.5})


def serve() -> None:
    """The tools."""
    server = FastMCP("orders")
    server.add_tool(scripted.lookup_order)
    server.add_tool(scripted.send_refund)
    server.run("stdio")


with scripted.tracing(root=False) as provider:
    McpInstrumentor().instrument(tracer_provider=provider)
    if SERVE in sys.argv:
        serve()
    else:
        asyncio.run(converse())
