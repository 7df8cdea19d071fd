"""The conversation on Strands Agents, for every recording of it; the refund is guarded by an interrupt in a hook."""

from __future__ import annotations

import scripted
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


def converse() -> None:
    """The scripted conversation; where the refund waits for an answer, the resumed run too."""
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
