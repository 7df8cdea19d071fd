# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "opentelemetry-instrumentation-anthropic==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment.content_off]
# TRACELOOP_TRACE_CONTENT = "false"
# ///
"""Anthropic's client under Traceloop's instrumentation; the script calls the tools itself."""

import scripted
import scripted_anthropic
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

with scripted.tracing() as provider:
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    scripted_anthropic.converse()
