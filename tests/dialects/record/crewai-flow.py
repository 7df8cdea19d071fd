# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "crewai==1.15.30",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "crewai"
# scenarios = ["approved"]
# [tool.dialect.environment]
# CREWAI_DISABLE_TELEMETRY = "true"
# CREWAI_TRACING_ENABLED = "false"
# CREWAI_DISABLE_VERSION_CHECK = "true"
# ///
"""A CrewAI flow in which a person is asked between two steps, with the spans of CrewAI's own execution tracing."""

import io
import sys

import scripted
import scripted_crewai
from crewai.flow import Flow, human_feedback, listen, start


class Refund(Flow):
    """Looks up, asks, refunds."""

    @start()
    @human_feedback(message="Send this refund?", emit=["approved", "rejected"], llm=scripted_crewai.MODEL)
    def propose(self) -> str:
        """What would be refunded."""
        return scripted_crewai.ask(scripted.USER)

    @listen("approved")
    def refund(self) -> str:
        """The refund."""
        return scripted_crewai.ask("Refund 42.50 for order A-100.")


scripted.play(
    [
        {"calls": [{"id": "call_1", "name": "lookup_order", "arguments": {"order_id": "A-100"}}], "tokens": [100, 20]},
        {"text": "Order A-100 was delivered. Refund 42.50?", "tokens": [110, 15]},
        {"text": '{"outcome": "approved"}', "tokens": [60, 5]},
        {
            "calls": [{"id": "call_2", "name": "send_refund", "arguments": {"order_id": "A-100", "amount": 42.5}}],
            "tokens": [150, 25],
        },
        {"text": "Order A-100 was delivered. The refund of 42.50 was sent.", "tokens": [200, 30]},
    ],
    in_order=True,
)
sys.stdin = io.StringIO("Yes, send it.\n")
with scripted_crewai.traced():
    Refund().kickoff()
