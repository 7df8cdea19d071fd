# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "google-genai==2.34.0",
#   "opentelemetry-instrumentation-google-genai==1.3b0",
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
"""Google's GenAI client under OpenTelemetry's own instrumentation; the client calls the functions itself."""

import scripted
from google import genai
from google.genai import types
from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

with scripted.tracing() as provider:
    GoogleGenAiSdkInstrumentor().instrument(tracer_provider=provider)
    client = genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=scripted.PROVIDER))
    chat = client.chats.create(
        model=scripted.MODEL,
        config=types.GenerateContentConfig(
            system_instruction=scripted.SYSTEM, tools=[scripted.lookup_order, scripted.send_refund]
        ),
    )
    chat.send_message(scripted.USER)
