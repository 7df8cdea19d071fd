# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "crewai"
# scenarios = ["tools", "denied"]
# [tool.dialect.environment]
# CREWAI_DISABLE_TELEMETRY = "true"
# CREWAI_TRACING_ENABLED = "false"
# CREWAI_DISABLE_VERSION_CHECK = "true"
# ///
"""CrewAI with the spans of its own execution tracing; `denied` has a hook that refuses the refund."""

import scripted
import scripted_crewai
from crewai.hooks import ToolCallHookContext, register_before_tool_call_hook


def refuse(context: ToolCallHookContext) -> bool | None:
    """Refunds are not for agents."""
    return False if context.tool_name == "send_refund" else None


if scripted.SCENARIO == "denied":
    register_before_tool_call_hook(refuse)
with scripted_crewai.traced():
    scripted_crewai.ask(scripted.USER)
