# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "strands-agents[openai]==1.62.0",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "strands"
# scenarios = ["tools", "pending", "denied", "approved", "edited"]
# ///
"""Strands Agents as they trace by default: the conversation in span events."""

import scripted_strands

scripted_strands.converse()
