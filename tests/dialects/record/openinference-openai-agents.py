# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "openinference-instrumentation-openai-agents==2.6.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# [tool.dialect.environment.content_off]
# OPENINFERENCE_HIDE_INPUTS = "true"
# OPENINFERENCE_HIDE_OUTPUTS = "true"
# ///
"""OpenAI Agents under OpenInference's instrumentation."""

import asyncio

import scripted
import scripted_openai_agents
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

with scripted.tracing(root=False):
    OpenAIAgentsInstrumentor().instrument()
    asyncio.run(scripted_openai_agents.run())
scripted_openai_agents.resume()
