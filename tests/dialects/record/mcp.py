# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "mcp==2.3.0",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "mcp"
# scenarios = ["tools"]
# ///
"""The MCP SDK's own spans: a client and a server in two processes over stdio, within an agent's span of our own."""

import asyncio
import os
import sys

import scripted
from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SERVE = "serve"


async def converse() -> None:
    """The agent's two calls; no model is asked."""
    server = StdioServerParameters(
        command=sys.executable,
        args=[__file__, scripted.SCENARIO, SERVE],
        env={**os.environ, "OTEL_SERVICE_NAME": "order-server"},
    )
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "support",
        "gen_ai.conversation.id": scripted.CONVERSATION,
    }
    with trace.get_tracer("support").start_as_current_span("invoke_agent support", attributes=agent):
        async with Client(server) as client:
            await client.list_tools()
            await client.call_tool("lookup_order", {"order_id": "A-100"})
            await client.call_tool("send_refund", {"order_id": "A-100", "amount": 42.5})


def serve() -> None:
    """The tools."""
    server = MCPServer("orders")
    server.add_tool(scripted.lookup_order)
    server.add_tool(scripted.send_refund)
    server.run("stdio")


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
if SERVE in sys.argv:
    serve()
else:
    asyncio.run(converse())
provider.shutdown()
