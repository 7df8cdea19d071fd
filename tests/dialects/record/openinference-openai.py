# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==3.52.0",
#   "openinference-instrumentation-openai==0.1.66",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "content_off"]
# [tool.dialect.environment]
# OTEL_EXPORTER_OTLP_COMPRESSION = "gzip"
# [tool.dialect.environment.content_off]
# OPENINFERENCE_HIDE_INPUTS = "true"
# OPENINFERENCE_HIDE_OUTPUTS = "true"
# ///
"""A tool loop over OpenAI's client under OpenInference's instrumentation, exported with gzip."""

import scripted
from openai import OpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing():
    OpenAIInstrumentor().instrument()
    scripted.chat_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"))
