# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "openinference-instrumentation-crewai==1.1.21",
#   "openinference-instrumentation-openai==0.1.66",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# [tool.dialect.environment]
# CREWAI_DISABLE_TELEMETRY = "true"
# CREWAI_TRACING_ENABLED = "false"
# CREWAI_DISABLE_VERSION_CHECK = "true"
# ///
"""CrewAI under OpenInference, whose instrumentation of CrewAI leaves the model's calls to that of the client."""

import scripted
import scripted_crewai
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

with scripted.tracing(root=False) as provider:
    CrewAIInstrumentor().instrument(tracer_provider=provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    scripted_crewai.ask(scripted.USER)
