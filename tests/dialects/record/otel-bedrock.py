# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "boto3==1.44.5",
#   "opentelemetry-instrumentation-genai-bedrock==1.3b0",
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
"""Amazon Bedrock's client under OpenTelemetry's own instrumentation."""

import scripted
import scripted_bedrock
from opentelemetry.instrumentation.genai.bedrock import BedrockInstrumentor

with scripted.tracing() as provider:
    BedrockInstrumentor().instrument(tracer_provider=provider)
    scripted_bedrock.converse()
