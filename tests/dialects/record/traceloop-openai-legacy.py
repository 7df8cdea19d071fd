# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==1.109.1",
#   "opentelemetry-instrumentation-openai==0.47.5",
#   "opentelemetry-exporter-otlp-proto-http==1.37.0",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment.content_off]
# TRACELOOP_TRACE_CONTENT = "false"
# ///
"""A tool loop over OpenAI's client under Traceloop's instrumentation (OpenLLMetry) of autumn 2025."""

import scripted
from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing():
    OpenAIInstrumentor().instrument()
    scripted.chat_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"))
