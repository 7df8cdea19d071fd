# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "opentelemetry-instrumentation-anthropic==0.62.4",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "traceloop"
# scenarios = ["tools", "content_off"]
# ///
"""Anthropic's client under Traceloop's instrumentation; the script calls the tools itself."""

import json
import os

import scripted

if scripted.SCENARIO == "content_off":
    os.environ["TRACELOOP_TRACE_CONTENT"] = "false"

from anthropic import Anthropic
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

TOOLS = [
    {
        "name": tool["function"]["name"],
        "description": tool["function"]["description"],
        "input_schema": tool["function"]["parameters"],
    }
    for tool in scripted.TOOLS
]


def answer(call: object) -> dict[str, object]:
    """What a tool says to a call."""
    told = {"type": "tool_result", "tool_use_id": call.id}
    try:
        return told | {"content": json.dumps(getattr(scripted, call.name)(**call.input))}
    except scripted.LedgerUnavailable as error:
        return told | {"content": str(error), "is_error": True}


with scripted.tracing() as provider:
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    client = Anthropic(base_url=scripted.PROVIDER, api_key="unused")
    messages = [{"role": "user", "content": scripted.USER}]
    while True:
        said = client.messages.create(
            model=scripted.MODEL, max_tokens=1000, system=scripted.SYSTEM, messages=messages, tools=TOOLS
        )
        calls = [block for block in said.content if block.type == "tool_use"]
        if not calls:
            break
        messages += [{"role": "assistant", "content": said.content}, {"role": "user", "content": [answer(call) for call in calls]}]
