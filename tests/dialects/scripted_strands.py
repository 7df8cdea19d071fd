"""The conversation on Strands Agents, for every recording of it; the refund is guarded by an interrupt in a hook."""

from __future__ import annotations

import scripted
from opentelemetry.sdk.trace import SpanProcessor
from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry
from strands.models.openai import OpenAIModel
from strands.telemetry import StrandsTelemetry

ANSWERS = {"approved": "yes", "denied": "no", "edited": "40.0"}


class Approval(HookProvider):
    """Asks before a refund."""

    def register_hooks(self, registry: HookRegistry, **kwargs: object) -> None:
        """Ask when it is about to run."""
        registry.add_callback(BeforeToolCallEvent, self.ask)

    def ask(self, event: BeforeToolCallEvent) -> None:
        """Interrupt; then cancel what was refused, change what was changed."""
        if event.tool_use["name"] != "send_refund":
            return
        said = event.interrupt("approval", reason=event.tool_use["input"])
        if said == "no":
            event.cancel_tool = True
        elif said != "yes":
            event.tool_use["input"] = {**event.tool_use["input"], "amount": float(said)}


def converse(*processors: SpanProcessor) -> None:
    """The scripted conversation; where the refund waits for an answer, the resumed run too."""
    telemetry = StrandsTelemetry()
    for processor in processors:
        telemetry.tracer_provider.add_span_processor(processor)
    telemetry.setup_otlp_exporter()
    agent = Agent(
        name="support",
        model=OpenAIModel(model_id=scripted.MODEL, client_args={"base_url": f"{scripted.PROVIDER}/v1"}),
        system_prompt=scripted.SYSTEM,
        tools=[tool(scripted.lookup_order), tool(scripted.send_refund)],
        hooks=[] if scripted.SCENARIO in ("tools", "content_off") else [Approval()],
        trace_attributes={"session.id": scripted.CONVERSATION},
        callback_handler=None,
    )
    result = agent(scripted.USER)
    if answer := ANSWERS.get(scripted.SCENARIO):
        agent([{"interruptResponse": {"interruptId": found.id, "response": answer}} for found in result.interrupts])
    telemetry.tracer_provider.shutdown()
