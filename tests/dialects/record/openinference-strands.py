# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "strands-agents[openai]==1.62.0",
#   "openinference-instrumentation-strands-agents==0.1.12",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "pending", "denied"]
# ///
"""Strands Agents under OpenInference, which rewrites the spans that Strands makes by itself."""

import scripted_strands
from openinference.instrumentation.strands_agents import StrandsAgentsToOpenInferenceProcessor

scripted_strands.converse(StrandsAgentsToOpenInferenceProcessor())
