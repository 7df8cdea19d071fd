# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==3.52.0",
#   "opentelemetry-instrumentation-genai-openai==1.3b0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools"]
# [tool.dialect.environment.tools]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# ///
"""A tool loop over OpenAI's Responses API, streamed, under OpenTelemetry's instrumentation."""

import scripted
from openai import OpenAI
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

with scripted.tracing():
    OpenAIInstrumentor().instrument()
    scripted.responses_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"), stream=True)
