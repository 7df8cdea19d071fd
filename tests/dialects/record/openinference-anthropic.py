# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "openinference-instrumentation-anthropic==3.1.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# ///
"""Anthropic's client under OpenInference; the script calls the tools itself."""

import scripted
import scripted_anthropic
from openinference.instrumentation.anthropic import AnthropicInstrumentor

with scripted.tracing() as provider:
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    scripted_anthropic.converse()
