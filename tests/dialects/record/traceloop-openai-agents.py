# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "opentelemetry-instrumentation-openai-agents==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# [tool.dialect.environment.content_off]
# TRACELOOP_TRACE_CONTENT = "false"
# ///
"""OpenAI Agents under Traceloop's instrumentation (OpenLLMetry)."""

import asyncio

import scripted
import scripted_openai_agents
from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

with scripted.tracing(root=False):
    OpenAIAgentsInstrumentor().instrument()
    asyncio.run(scripted_openai_agents.run())
scripted_openai_agents.resume()
