# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "openai-agents==0.24.0",
#   "logfire==5.2.0",
# ]
# [tool.dialect]
# name = "pydantic_ai"
# scenarios = ["tools", "pending", "denied", "approved"]
# [tool.dialect.environment]
# OTEL_RESOURCE_ATTRIBUTES = "host.name=support,host.id=support,os.version=0"
# ///
"""OpenAI Agents through Logfire's SDK, sending to another backend than Logfire's."""

import asyncio

import logfire
import scripted_openai_agents

logfire.configure(send_to_logfire=False, console=False, metrics=False)
logfire.instrument_openai_agents()
asyncio.run(scripted_openai_agents.run())
logfire.shutdown()
scripted_openai_agents.resume()
