# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "strands-agents[openai]==1.62.0",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "strands"
# scenarios = ["tools", "content_off", "pending", "denied", "approved", "edited"]
# [tool.dialect.environment]
# OTEL_SEMCONV_STABILITY_OPT_IN = "gen_ai_latest_experimental,gen_ai_tool_definitions"
# [tool.dialect.environment.content_off]
# OTEL_SEMCONV_STABILITY_OPT_IN = "gen_ai_latest_experimental,gen_ai_tool_definitions,gen_ai_unredacted_attributes="
# ///
"""Strands Agents with every opt-in of their tracer: newest names, tool definitions; `content_off` redacts what is sensitive."""

import scripted_strands

scripted_strands.converse()
