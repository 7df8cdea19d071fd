# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==3.52.0",
#   "opentelemetry-instrumentation-openai==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools"]
# ///
"""A tool loop over OpenAI's Responses API under Traceloop's instrumentation (OpenLLMetry)."""

import scripted
from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing():
    OpenAIInstrumentor().instrument()
    scripted.responses_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"))
