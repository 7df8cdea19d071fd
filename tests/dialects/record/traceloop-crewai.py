# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "opentelemetry-instrumentation-crewai==0.62.4",
#   "opentelemetry-instrumentation-openai==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools"]
# [tool.dialect.environment]
# CREWAI_DISABLE_TELEMETRY = "true"
# CREWAI_TRACING_ENABLED = "false"
# CREWAI_DISABLE_VERSION_CHECK = "true"
# ///
"""CrewAI under Traceloop's instrumentation, the model's client under that of OpenAI."""

import scripted
import scripted_crewai
from opentelemetry.instrumentation.crewai import CrewAIInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing(root=False) as provider:
    CrewAIInstrumentor().instrument(tracer_provider=provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    scripted_crewai.ask(scripted.USER)
