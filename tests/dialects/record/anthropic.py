# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "anthropic"
# scenarios = ["tools"]
# ///
"""Anthropic's client with the spans it makes by itself; the script calls the tools."""

import scripted
import scripted_anthropic

with scripted.tracing():
    scripted_anthropic.converse()
