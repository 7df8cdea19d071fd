# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "strands-agents[openai]==1.62.0",
#   "opentelemetry-exporter-otlp-proto-http==1.44.0",
# ]
# [tool.dialect]
# name = "strands"
# scenarios = ["tools", "content_off", "pending", "denied", "approved"]
# ///
"""Strands Agents with every opt-in of their tracer: newest names, tool definitions; `content_off` redacts what is sensitive."""

import os

import scripted

opt_in = "gen_ai_latest_experimental,gen_ai_tool_definitions"
if scripted.SCENARIO == "content_off":
    opt_in += ",gen_ai_unredacted_attributes="
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = opt_in

from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry
from strands.models.openai import OpenAIModel
from strands.telemetry import StrandsTelemetry


class Approval(HookProvider):
    """Asks before a refund."""

    def register_hooks(self, registry: HookRegistry, **kwargs: object) -> None:
        """Ask when it is about to run."""
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        """Interrupt, and cancel what was refused."""
        if (
            event.tool_use["name"] == "send_refund"
            and event.interrupt("approval", reason=event.tool_use["input"]) != "y"
        ):
            event.cancel_tool = True


telemetry = StrandsTelemetry().setup_otlp_exporter()
asks = scripted.SCENARIO in ("pending", "denied", "approved")
agent = Agent(
    name="support",
    model=OpenAIModel(model_id=scripted.MODEL, client_args={"base_url": f"{scripted.PROVIDER}/v1"}),
    system_prompt=scripted.SYSTEM,
    tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
    hooks=[Approval()] if asks else [],
    trace_attributes={"session.id": scripted.CONVERSATION},
    callback_handler=None,
)
result = agent(scripted.USER)
if scripted.SCENARIO in ("denied", "approved"):
    answer = "y" if scripted.SCENARIO == "approved" else "n"
    agent([{"interruptResponse": {"interruptId": found.id, "response": answer}} for found in result.interrupts])
telemetry.tracer_provider.shutdown()
