# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "opentelemetry-instrumentation-genai-anthropic==1.3b0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment]
# OTEL_SEMCONV_STABILITY_OPT_IN = "gen_ai_latest_experimental"
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# [tool.dialect.environment.content_off]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "NO_CONTENT"
# ///
"""Anthropic's client under OpenTelemetry's own instrumentation; the script calls the tools itself."""

import scripted
import scripted_anthropic
from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

with scripted.tracing() as provider:
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    scripted_anthropic.converse()
