# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langchain==1.4.7",
#   "langchain-openai==1.7.3",
#   "langgraph==1.2.22",
#   "langsmith[otel]==0.14.17",
# ]
# [tool.dialect]
# name = "langsmith"
# scenarios = ["tools", "content_off", "retrieval", "pending", "denied", "approved", "edited"]
# [tool.dialect.environment]
# LANGSMITH_TRACING = "true"
# LANGSMITH_OTEL_ENABLED = "true"
# LANGSMITH_OTEL_ONLY = "true"
# LANGSMITH_API_KEY = "unused"
# [tool.dialect.environment.content_off]
# LANGSMITH_HIDE_INPUTS = "true"
# LANGSMITH_HIDE_OUTPUTS = "true"
# ///
"""LangChain under LangSmith's own tracing, exported as OpenTelemetry."""

import scripted_langchain
from langchain_core.tracers.langchain import wait_for_all_tracers

scripted_langchain.run()
wait_for_all_tracers()
