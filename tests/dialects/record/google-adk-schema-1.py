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
# ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN = "1"
# [tool.dialect.environment.content_off]
# ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS = "false"
# ///
"""Google's ADK with the telemetry it had until 2.x (schema 1), where content is on the spans unless switched off."""

import asyncio

import scripted
import scripted_adk

with scripted.tracing(root=False):
    asyncio.run(scripted_adk.converse())
