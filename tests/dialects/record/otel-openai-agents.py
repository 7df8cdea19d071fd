# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "opentelemetry-instrumentation-genai-openai-agents==1.3b0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
#   "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# [tool.dialect.environment]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# [tool.dialect.environment.content_off]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "NO_CONTENT"
# ///
"""OpenAI Agents under OpenTelemetry's instrumentation, over gRPC; content off is its default."""

import asyncio

import scripted
import scripted_openai_agents
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

with scripted.tracing(OTLPSpanExporter(scripted.SINK_GRPC, insecure=True), root=False):
    OpenAIAgentsInstrumentor().instrument()
    asyncio.run(scripted_openai_agents.run())
scripted_openai_agents.resume()
