# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai==3.52.0",
#   "openinference-instrumentation-openai==0.1.66",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# ///
"""A tool loop over OpenAI's Responses API, streamed, under OpenInference's instrumentation."""

import scripted
from openai import OpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing():
    OpenAIInstrumentor().instrument()
    scripted.responses_loop(OpenAI(base_url=f"{scripted.PROVIDER}/v1"), stream=True)
