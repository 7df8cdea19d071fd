# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langchain==1.4.7",
#   "langchain-openai==1.7.3",
#   "langgraph==1.2.22",
#   "openinference-instrumentation-langchain==0.1.80",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "openinference"
# scenarios = ["tools", "content_off", "retrieval", "pending", "denied", "approved", "edited"]
# [tool.dialect.environment.content_off]
# OPENINFERENCE_HIDE_INPUTS = "true"
# OPENINFERENCE_HIDE_OUTPUTS = "true"
# ///
"""LangChain under OpenInference's instrumentation."""

import scripted
import scripted_langchain
from openinference.instrumentation.langchain import LangChainInstrumentor

with scripted.tracing(root=False):
    LangChainInstrumentor().instrument()
    scripted_langchain.run()
