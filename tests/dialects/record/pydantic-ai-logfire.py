# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pydantic-ai-slim[openai]==2.68.0",
#   "logfire==5.2.0",
# ]
# [tool.dialect]
# name = "pydantic_ai"
# scenarios = ["tools", "pending", "denied"]
# [tool.dialect.environment]
# OTEL_RESOURCE_ATTRIBUTES = "host.name=support,host.id=support,os.version=0"
# ///
"""Pydantic AI through Logfire's SDK, sending to another backend than Logfire's; approval is asked for by the running tool."""

import logfire
import scripted_pydantic_ai

logfire.configure(send_to_logfire=False, console=False, metrics=False)
logfire.instrument_pydantic_ai()
scripted_pydantic_ai.run(declared=False, reason="not without a receipt")
logfire.shutdown()
