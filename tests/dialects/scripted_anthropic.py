"""The conversation on Anthropic's client, for every recording of it; the tools are called here."""

from __future__ import annotations

import json
from typing import Any

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


def answer(call: Any) -> dict[str, Any]:
    """What a tool says to a call."""
    told = {"type": "tool_result", "tool_use_id": call.id}
    try:
        return told | {"content": json.dumps(getattr(scripted, call.name)(**call.input))}
    except scripted.LedgerUnavailable as error:
        return told | {"content": str(error), "is_error": True}


def converse() -> None:
    """The scripted conversation."""
    client = Anthropic(base_url=scripted.PROVIDER, api_key="unused")
    messages: list[dict[str, Any]] = [{"role": "user", "content": scripted.USER}]
    while True:
        said = client.messages.create(
            model=scripted.MODEL, max_tokens=1000, system=scripted.SYSTEM, messages=messages, tools=TOOLS
        )
        calls = [block for block in said.content if block.type == "tool_use"]
        if not calls:
            return
        messages.append({"role": "assistant", "content": said.content})
        messages.append({"role": "user", "content": [answer(call) for call in calls]})
