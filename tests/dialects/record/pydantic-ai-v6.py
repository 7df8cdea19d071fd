# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pydantic-ai-slim[openai]==2.68.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "pydantic_ai"
# scenarios = ["tools"]
# ///
"""Pydantic AI's own instrumentation in its newest shape."""

import scripted
import scripted_pydantic_ai
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings

with scripted.tracing(root=False):
    Agent.instrument_all(InstrumentationSettings(version=6))
    scripted_pydantic_ai.run()
