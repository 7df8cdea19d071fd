# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "boto3==1.44.5",
#   "openinference-instrumentation-bedrock==0.1.61",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# ///
"""Amazon Bedrock's client under OpenInference."""

import scripted
import scripted_bedrock
from openinference.instrumentation.bedrock import BedrockInstrumentor

with scripted.tracing() as provider:
    BedrockInstrumentor().instrument(tracer_provider=provider)
    scripted_bedrock.converse()
