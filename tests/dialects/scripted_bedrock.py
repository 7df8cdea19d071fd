"""The conversation on Amazon Bedrock's Converse API, for every recording of it; what the service says is stubbed."""

from __future__ import annotations

from typing import Any

import boto3
import scripted
from botocore.stub import Stubber

TOOLS = [
    {
        "toolSpec": {
            "name": tool["function"]["name"],
            "description": tool["function"]["description"],
            "inputSchema": {"json": tool["function"]["parameters"]},
        }
    }
    for tool in scripted.TOOLS
]
ANSWER = "Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable."


def turn(content: dict[str, Any], tokens: tuple[int, int]) -> dict[str, Any]:
    """What the service says."""
    return {
        "output": {"message": {"role": "assistant", "content": [content]}},
        "stopReason": "tool_use" if "toolUse" in content else "end_turn",
        "usage": {"inputTokens": tokens[0], "outputTokens": tokens[1], "totalTokens": sum(tokens)},
        "metrics": {"latencyMs": 1},
    }


TURNS = [
    turn({"toolUse": {"toolUseId": "call_1", "name": "lookup_order", "input": {"order_id": "A-100"}}}, (100, 20)),
    turn(
        {"toolUse": {"toolUseId": "call_2", "name": "send_refund", "input": {"order_id": "A-100", "amount": 42.5}}},
        (150, 25),
    ),
    turn({"text": ANSWER}, (200, 30)),
]


def answer(call: dict[str, Any]) -> dict[str, Any]:
    """What a tool says to a call."""
    told = {"toolUseId": call["toolUseId"]}
    try:
        content, status = {"json": getattr(scripted, call["name"])(**call["input"])}, "success"
    except scripted.LedgerUnavailable as error:
        content, status = {"text": str(error)}, "error"
    return {"toolResult": {**told, "content": [content], "status": status}}


def converse() -> None:
    """The scripted conversation."""
    client = boto3.client("bedrock-runtime", "us-east-1", aws_access_key_id="unused", aws_secret_access_key="unused")
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"text": scripted.USER}]}]
    with Stubber(client) as stub:
        for said in TURNS:
            stub.add_response("converse", said)
        while True:
            said = client.converse(
                modelId=scripted.MODEL,
                system=[{"text": scripted.SYSTEM}],
                messages=messages,
                toolConfig={"tools": TOOLS},
            )
            message = said["output"]["message"]
            calls = [part["toolUse"] for part in message["content"] if "toolUse" in part]
            if not calls:
                return
            messages += [message, {"role": "user", "content": [answer(call) for call in calls]}]
