"""A model provider that says what it was told to: the four wire formats frameworks speak, streamed or not, over HTTP.

`python provider.py --turns TURNS.json` (or `--scenario tools`) prints its address as JSON and serves until interrupted. A
turn is `{"text": …, "calls": [{"id", "name", "arguments"}], "tokens": [in, out]}`. Which turn is said follows from how many
the request already contains, so a repeated or resumed request gets the same answer. A request that offers none of the tools
the turn calls (a title, a summary on the side) gets a short text. `PUT /turns[/in-order]` replaces the turns: for frameworks
that need other tools. Standard library only.

OpenAI: /v1/chat/completions, /v1/responses · Anthropic: /v1/messages · Gemini: /v1beta/models/<model>:[stream]generateContent
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any

Json = dict[str, Any]
CREATED = 1_750_000_000
ASIDE: Json = {"text": "Order A-100", "tokens": [10, 2]}

_LOOKUP: Json = {
    "calls": [{"id": "call_1", "name": "lookup_order", "arguments": {"order_id": "A-100"}}],
    "tokens": [100, 20],
}
_REFUND: Json = {
    "calls": [{"id": "call_2", "name": "send_refund", "arguments": {"order_id": "A-100", "amount": 42.5}}],
    "tokens": [150, 25],
}


def _ending(text: str) -> list[Json]:
    return [_LOOKUP, _REFUND, {"text": text, "tokens": [200, 30]}]


SCENARIOS: dict[str, list[Json]] = {
    "tools": _ending("Order A-100 was delivered. The refund of 42.50 could not be sent: the ledger is unavailable."),
    "pending": _ending("Order A-100 was delivered. The refund of 42.50 waits for approval."),
    "denied": _ending("Order A-100 was delivered. The refund of 42.50 was not approved."),
    "approved": _ending("Order A-100 was delivered. The refund of 42.50 was sent."),
    "edited": _ending("Order A-100 was delivered. A refund of 40.00 was sent."),
    "retrieval": [{"text": "Refunds take 5 days.", "tokens": [100, 20]}],
}
SCENARIOS["content_off"] = SCENARIOS["tools"]


def _halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def _pick(turns: list[Json], said: int, offered: set[str]) -> Json:
    turn = turns[min(said, len(turns) - 1)]
    return ASIDE if any(call["name"] not in offered for call in turn.get("calls", [])) else turn


# --- OpenAI chat completions ---


def chat(turns: list[Json], request: Json) -> tuple[Json, Iterator[tuple[str, Json]]]:
    """One completion, and the same as server-sent events."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    turn = _pick(turns, said, {tool["function"]["name"] for tool in request.get("tools", []) if "function" in tool})
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for call in turn.get("calls", [])
    ]
    finish = "tool_calls" if calls else "stop"
    ins, outs = turn["tokens"]
    usage = {"prompt_tokens": ins, "completion_tokens": outs, "total_tokens": ins + outs}
    head = {"id": f"chatcmpl-{said}", "created": CREATED, "model": request["model"]}
    message: Json = {"role": "assistant", "content": turn.get("text"), "refusal": None}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": message | ({"tool_calls": calls} if calls else {}),
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": usage,
    }

    def events() -> Iterator[tuple[str, Json]]:
        def chunk(delta: Json, finish_reason: str | None = None) -> tuple[str, Json]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            return "", {**head, "object": "chat.completion.chunk", "choices": [choice]}

        yield chunk({"role": "assistant", "content": None if calls else ""})
        for part in _halves(turn.get("text") or ""):
            yield chunk({"content": part})
        for index, call in enumerate(calls):
            yield chunk({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
            for part in _halves(call["function"]["arguments"]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        yield chunk({}, finish)
        if (request.get("stream_options") or {}).get("include_usage"):
            yield "", {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    return whole, events()


# --- OpenAI responses ---


def responses(turns: list[Json], request: Json) -> tuple[Json, Iterator[tuple[str, Json]]]:
    """One response, and the same as server-sent events."""
    items = request["input"] if isinstance(request["input"], list) else []
    ours = [item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning") for item in items]
    earlier = int((request.get("previous_response_id") or "resp_-1").removeprefix("resp_")) + 1
    said = earlier + sum(own for own, _ in groupby(ours))
    tools = [inner for tool in request.get("tools", []) for inner in (tool, *tool.get("tools", []))]
    turn = _pick(turns, said, {tool["name"] for tool in tools if "name" in tool})
    output: list[Json] = [
        {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "name": call["name"],
            **({"namespace": call["namespace"]} if "namespace" in call else {}),
            "arguments": json.dumps(call["arguments"]),
            "status": "completed",
        }
        for call in turn.get("calls", [])
    ]
    if text := turn.get("text"):
        content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
        output.insert(
            0, {"type": "message", "id": f"msg_{said}", "role": "assistant", "status": "completed", "content": content}
        )
    ins, outs = turn["tokens"]
    whole = {
        "id": f"resp_{said}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": request["model"],
        "output": output,
        "usage": {
            "input_tokens": ins,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": outs,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ins + outs,
        },
        "instructions": request.get("instructions"),
        "tools": request.get("tools", []),
        "tool_choice": request.get("tool_choice", "auto"),
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "error": None,
        "incomplete_details": None,
        "metadata": {},
    }

    def events() -> Iterator[tuple[str, Json]]:
        def steps() -> Iterator[tuple[str, Json]]:
            begun = whole | {"status": "in_progress", "output": [], "usage": None}
            yield "response.created", {"response": begun}
            yield "response.in_progress", {"response": begun}
            for index, item in enumerate(output):
                at = {"output_index": index, "item_id": item["id"]}
                if item["type"] == "message":
                    part = item["content"][0]
                    yield (
                        "response.output_item.added",
                        {"output_index": index, "item": item | {"status": "in_progress", "content": []}},
                    )
                    yield "response.content_part.added", {**at, "content_index": 0, "part": part | {"text": ""}}
                    for piece in _halves(part["text"]):
                        yield "response.output_text.delta", {**at, "content_index": 0, "delta": piece, "logprobs": []}
                    yield "response.output_text.done", {**at, "content_index": 0, "text": part["text"], "logprobs": []}
                    yield "response.content_part.done", {**at, "content_index": 0, "part": part}
                else:
                    yield (
                        "response.output_item.added",
                        {"output_index": index, "item": item | {"status": "in_progress", "arguments": ""}},
                    )
                    for piece in _halves(item["arguments"]):
                        yield "response.function_call_arguments.delta", {**at, "delta": piece}
                    yield (
                        "response.function_call_arguments.done",
                        {**at, "name": item["name"], "arguments": item["arguments"]},
                    )
                yield "response.output_item.done", {"output_index": index, "item": item}
            yield "response.completed", {"response": whole}

        for number, (name, data) in enumerate(steps()):
            yield name, {"type": name, "sequence_number": number, **data}

    return whole, events()


# --- Anthropic messages ---


def messages(turns: list[Json], request: Json) -> tuple[Json, Iterator[tuple[str, Json]]]:
    """One message, and the same as server-sent events."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    turn = _pick(turns, said, {tool["name"] for tool in request.get("tools", [])})
    content: list[Json] = [{"type": "text", "text": turn["text"]}] if turn.get("text") else []
    content += [
        {"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["arguments"]}
        for call in turn.get("calls", [])
    ]
    ins, outs = turn["tokens"]
    whole = {
        "id": f"msg_{said}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": "tool_use" if turn.get("calls") else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": ins,
            "output_tokens": outs,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }

    def events() -> Iterator[tuple[str, Json]]:
        def steps() -> Iterator[tuple[str, Json]]:
            begun = whole | {"content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
            yield "message_start", {"message": begun}
            for index, block in enumerate(content):
                empty = block | ({"text": ""} if block["type"] == "text" else {"input": {}})
                yield "content_block_start", {"index": index, "content_block": empty}
                if block["type"] == "text":
                    for piece in _halves(block["text"]):
                        yield "content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": piece}}
                else:
                    for piece in _halves(json.dumps(block["input"])):
                        yield (
                            "content_block_delta",
                            {"index": index, "delta": {"type": "input_json_delta", "partial_json": piece}},
                        )
                yield "content_block_stop", {"index": index}
            delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
            yield "message_delta", {"delta": delta, "usage": whole["usage"]}
            yield "message_stop", {}

        for name, data in steps():
            yield name, {"type": name, **data}

    return whole, events()


# --- Gemini generateContent ---


def generate(turns: list[Json], request: Json) -> tuple[Json, Iterator[tuple[str, Json]]]:
    """One candidate, and the same as server-sent events."""
    said = sum(content.get("role") == "model" for content in request["contents"])
    declared = [
        d
        for tool in request.get("tools", [])
        for d in tool.get("functionDeclarations", tool.get("function_declarations", []))
    ]
    turn = _pick(turns, said, {declaration["name"] for declaration in declared})
    parts: list[Json] = [{"text": turn["text"]}] if turn.get("text") else []
    parts += [
        {"functionCall": {"id": call["id"], "name": call["name"], "args": call["arguments"]}}
        for call in turn.get("calls", [])
    ]
    ins, outs = turn["tokens"]
    usage = {"promptTokenCount": ins, "candidatesTokenCount": outs, "totalTokenCount": ins + outs}

    def answer(some: list[Json], finish: Json) -> Json:
        candidate = {"content": {"role": "model", "parts": some}, "index": 0, **finish}
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": request["model"],
            "responseId": f"resp-{said}",
        }

    whole = answer(parts, {"finishReason": "STOP"})

    def events() -> Iterator[tuple[str, Json]]:
        pieces = [{"text": piece} for piece in _halves(turn.get("text") or "")] or parts
        for number, piece in enumerate(pieces, 1):
            yield "", answer([piece], {"finishReason": "STOP"} if number == len(pieces) else {})

    return whole, events()


Speak = Callable[[list[Json], Json], tuple[Json, Iterator[tuple[str, Json]]]]
ENDINGS: dict[str, Speak] = {"/chat/completions": chat, "/responses": responses, "/messages": messages}


class Handler(BaseHTTPRequestHandler):
    """One request, one turn."""

    protocol_version = "HTTP/1.1"
    turns: list[Json]
    in_order = False

    def do_POST(self) -> None:
        """Say the turn that is due."""
        path = self.path.partition("?")[0]
        request = self._body()
        if path.endswith((":countTokens", "/count_tokens")):
            return self._send({"totalTokens": 100, "input_tokens": 100})
        model, _, method = path.rpartition("/")[2].partition(":")
        if method:
            request |= {"model": model, "stream": method.startswith("stream")}
            speak = generate
        else:
            found = [speak for ending, speak in ENDINGS.items() if path.endswith(ending)]
            if not found:
                return self._send({"error": {"message": f"no such path: {path}", "type": "not_found"}}, 404)
            [speak] = found
        due = [self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]] if self.in_order else self.turns
        whole, events = speak(due, request)
        if not request.get("stream"):
            return self._send(whole)
        lines = [(f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n" for name, data in events]
        if speak is chat:
            lines.append("data: [DONE]\n\n")
        return self._send("".join(lines).encode(), kind="text/event-stream")

    def do_PUT(self) -> None:
        """Replace the turns; on `/turns/in-order` they are said one after the other, whatever the requests contain."""
        self.turns[:] = self._body()
        type(self).in_order = self.path.endswith("/in-order")
        self._send({})

    def do_GET(self) -> None:
        """The one model there is."""
        self._send(
            {
                "object": "list",
                "data": [{"id": "scripted-1", "object": "model", "created": CREATED, "owned_by": "provider"}],
            }
        )

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")

    def _send(self, body: Json | bytes, status: int = 200, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stdout is for the address."""


@contextmanager
def serve(turns: list[Json]) -> Iterator[str]:
    """The provider's address, until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ScriptedHandler", (Handler,), {"turns": list(turns)}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--turns", type=Path, help="JSON file with the turns")
    which.add_argument("--scenario", choices=SCENARIOS, default="tools")
    chosen = parser.parse_args()
    with serve(json.loads(chosen.turns.read_text()) if chosen.turns else SCENARIOS[chosen.scenario]) as address:
        print(json.dumps({"http": address}), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
