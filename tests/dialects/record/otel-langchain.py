# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langchain==1.4.7",
#   "langchain-openai==1.7.3",
#   "langgraph==1.2.22",
#   "opentelemetry-instrumentation-genai-langchain==1.3b0",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "otel_genai"
# scenarios = ["tools", "content_off", "retrieval", "pending", "denied", "approved", "edited"]
# [tool.dialect.environment]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "SPAN_ONLY"
# [tool.dialect.environment.content_off]
# OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT = "NO_CONTENT"
# ///
"""LangChain under OpenTelemetry's instrumentation; content off is its default."""

import scripted
import scripted_langchain
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

with scripted.tracing(root=False):
    LangChainInstrumentor().instrument()
    scripted_langchain.run()
