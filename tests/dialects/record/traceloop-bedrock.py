# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "boto3==1.44.5",
#   "opentelemetry-instrumentation-bedrock==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools"]
# ///
"""Amazon Bedrock's client under Traceloop's instrumentation."""

import scripted
import scripted_bedrock
from opentelemetry.instrumentation.bedrock import BedrockInstrumentor

with scripted.tracing() as provider:
    BedrockInstrumentor().instrument(tracer_provider=provider)
    scripted_bedrock.converse()
