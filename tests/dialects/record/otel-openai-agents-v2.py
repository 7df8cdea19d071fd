# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "opentelemetry-instrumentation-openai-agents-v2==0.1.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# [tool.dialect.environment.content_off]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "NO_CONTENT"
# ///
"""OpenAI Agents under OpenTelemetry's earlier instrumentation, which also spans model calls."""

import asyncio

import scripted
import scripted_openai_agents
from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

with scripted.tracing(root=False):
    OpenAIAgentsInstrumentor().instrument()
    asyncio.run(scripted_openai_agents.run())
scripted_openai_agents.resume()
