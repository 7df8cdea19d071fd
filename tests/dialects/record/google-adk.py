# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "google-adk==2.13.0",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "google_adk"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# [tool.dialect.environment]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# [tool.dialect.environment.content_off]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "NO_CONTENT"
# ///
"""Google's ADK with its own telemetry in the shape it has by default (schema 2), content as span attributes."""

import asyncio

import scripted
import scripted_adk

with scripted.tracing(root=False):
    asyncio.run(scripted_adk.converse())
