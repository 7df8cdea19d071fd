# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "google-adk==2.13.0",
#   "openinference-instrumentation-google-adk==1.0.5",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "pending", "denied", "approved"]
# [tool.dialect.environment]
# ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN = "1"
# ///
"""Google's ADK under OpenInference, on top of ADK's older telemetry (schema 1), which that was made for."""

import asyncio

import scripted
import scripted_adk
from openinference.instrumentation.google_adk import GoogleADKInstrumentor

with scripted.tracing(root=False) as provider:
    GoogleADKInstrumentor().instrument(tracer_provider=provider)
    asyncio.run(scripted_adk.converse())
