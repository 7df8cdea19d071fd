# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==2.54.0",
#   "opentelemetry-instrumentation-openai-v2==2.4b0",
#   "opentelemetry-util-genai==0.4b0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai_legacy"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment.tools]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "true"
# ///
"""A tool loop over OpenAI's client under the older instrumentation: one log record a message."""

import scripted
from openai import OpenAI
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

with scripted.tracing(), scripted.logging():
    OpenAIInstrumentor().instrument()
    scripted.chat_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"))
