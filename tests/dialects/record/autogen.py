# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "autogen-core==0.7.5",
#   "autogen-agentchat==0.7.5",
#   "autogen-ext[openai]==0.7.5",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "autogen"
# scenarios = ["tools"]
# ///
"""AutoGen's AgentChat with the telemetry of its core, which has no content."""

import asyncio

import scripted
import scripted_autogen

with scripted.tracing(root=False):
    asyncio.run(scripted_autogen.converse())
