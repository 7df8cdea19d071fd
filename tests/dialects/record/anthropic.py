# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic==2.11.0",
#   "opentelemetry-sdk==1.45.2",
#   "opentelemetry-exporter-otlp-proto-http==1.45.2",
# ]
# [tool.dialect]
# name = "anthropic"
# scenarios = ["tools"]
# ///
"""Anthropic's client with the spans it makes by itself; the script calls the tools."""

import json

import scripted
from anthropic import Anthropic

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


with scripted.tracing():
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
