# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langchain==1.4.7",
#   "langchain-openai==1.7.3",
#   "langgraph==1.2.22",
#   "opentelemetry-instrumentation-langchain==0.47.5",
#   "opentelemetry-exporter-otlp-proto-http==1.37.0",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off", "retrieval"]
# [tool.dialect.environment]
# OTEL_EXPORTER_OTLP_COMPRESSION = "gzip"
# [tool.dialect.environment.content_off]
# TRACELOOP_TRACE_CONTENT = "false"
# ///
"""LangChain under Traceloop's instrumentation (OpenLLMetry) of autumn 2025."""

import scripted
import scripted_langchain
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

with scripted.tracing(root=False):
    LangchainInstrumentor().instrument()
    scripted_langchain.run(caught_by="tool")
