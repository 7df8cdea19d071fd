# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "autogen-core==0.7.5",
#   "autogen-agentchat==0.7.5",
#   "autogen-ext[openai]==0.7.5",
#   "openinference-instrumentation-autogen-agentchat==0.1.22",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools"]
# ///
"""AutoGen's AgentChat under OpenInference. The spans of AutoGen's own core arrive beside those of OpenInference."""

import asyncio

import scripted
import scripted_autogen
from openinference.instrumentation.autogen_agentchat import AutogenAgentChatInstrumentor

with scripted.tracing(root=False) as provider:
    AutogenAgentChatInstrumentor().instrument(tracer_provider=provider)
    asyncio.run(scripted_autogen.converse())
