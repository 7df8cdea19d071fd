# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "openinference-instrumentation-openai-agents==2.6.0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["approved"]
# ///
"""OpenAI Agents under OpenInference's instrumentation, paused and resumed by one process."""

import asyncio

import scripted
import scripted_openai_agents
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor


async def ask_and_resume() -> None:
    await scripted_openai_agents.run(resume=False)
    await scripted_openai_agents.run(resume=True)


with scripted.tracing(root=False):
    OpenAIAgentsInstrumentor().instrument()
    asyncio.run(ask_and_resume())
