# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pydantic-ai-slim[openai]==2.68.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "pydantic_ai"
# scenarios = ["tools", "content_off", "pending", "denied", "approved", "edited"]
# ///
"""Pydantic AI's own instrumentation, as it is set by default."""

import scripted
import scripted_pydantic_ai
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings

with scripted.tracing(root=False):
    Agent.instrument_all(InstrumentationSettings(include_content=scripted.SCENARIO != "content_off"))
    scripted_pydantic_ai.run()
