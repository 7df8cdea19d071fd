# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langchain==1.4.7",
#   "langchain-openai==1.7.3",
#   "langgraph==1.2.22",
#   "openlit==1.45.0",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools", "content_off", "retrieval"]
# ///
"""LangChain under OpenLIT."""

import json
from pathlib import Path

import openlit
import scripted
import scripted_langchain
from opentelemetry import trace

# A price list of its own: without one OpenLIT fetches its maintainers', and that request would be in the trace.
prices = Path("pricing.json")
prices.write_text(json.dumps({"chat": {scripted.MODEL: {"promptPrice": 0.001, "completionPrice": 0.002}}}))
openlit.init(
    pricing_json=str(prices),
    otlp_endpoint=scripted.SINK_HTTP,
    application_name="support-agent",
    environment="test",
    capture_message_content=scripted.SCENARIO != "content_off",
    disable_metrics=True,
)
scripted_langchain.run()
trace.get_tracer_provider().shutdown()
