"""What every recording script plays: the scenario's truth as Python, and where to send it.

`record.py` puts this module beside the script it runs and sets the environment. The tools behave as `scenarios.yaml` says: in
`tools` and `content_off` the refund fails, elsewhere it succeeds. Standard library only, but where a function says otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from urllib.request import Request, urlopen

SCENARIO = sys.argv[1]
PROVIDER = os.environ["DIALECT_PROVIDER"]
SINK_HTTP = os.environ["DIALECT_SINK_HTTP"]
SINK_GRPC = os.environ["DIALECT_SINK_GRPC"]

MODEL = "scripted-1"
CONVERSATION = "conv-1"
SYSTEM = "You are a support agent."
USER = "Where is order A-100? Refund it."
QUESTION = "How long do refunds take?"
DOCUMENTS = [
    {"id": "doc-1", "text": "Refunds take 5 days.", "score": 0.9},
    {"id": "doc-2", "text": "Shipping takes 3 days.", "score": 0.4},
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "lookup_order",
            "description": "Look up an order.",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "send_refund",
            "description": "Send a refund.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}},
                "required": ["order_id", "amount"],
            },
        },
    },
]


class LedgerUnavailable(Exception):
    """What `send_refund` fails with."""


def lookup_order(order_id: str) -> dict[str, Any]:
    """Look up an order."""
    return {"status": "delivered", "total": 42.5}


def send_refund(order_id: str, amount: float) -> dict[str, Any]:
    """Send a refund."""
    if SCENARIO in ("tools", "content_off"):
        raise LedgerUnavailable("ledger unavailable")
    return {"refunded": amount}


def play(turns: list[dict[str, Any]], in_order: bool = False) -> None:
    """Have the provider say these turns instead of the scenario's own; `in_order` where failed calls leave no turn behind."""
    url = f"{PROVIDER}/turns{'/in-order' if in_order else ''}"
    urlopen(Request(url, json.dumps(turns).encode(), method="PUT")).read()


@contextmanager
def tracing(exporter: Any = None, root: bool = True) -> Iterator[Any]:
    """OpenTelemetry's own SDK, batching to OTLP/HTTP, installed globally and flushed when the block is left.

    With `root` the block is one span of the application's own, as a web framework would make it: what only instruments a client
    has nothing to hold its spans together.
    """
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    trace.set_tracer_provider(tracer_provider)
    span = trace.get_tracer("support-agent").start_as_current_span("POST /support") if root else nullcontext()
    with span:
        yield tracer_provider
    tracer_provider.shutdown()


@contextmanager
def logging() -> Iterator[Any]:
    """The same for log records."""
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    logger_provider = LoggerProvider()
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(logger_provider)
    yield logger_provider
    logger_provider.shutdown()


def chat_loop(client: Any, **options: Any) -> None:
    """The conversation as a plain loop over an `openai.OpenAI` client: nobody but the client is instrumented."""
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    while True:
        completion = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, **options)
        message = completion.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return
        for call in message.tool_calls:
            try:
                content = json.dumps(globals()[call.function.name](**json.loads(call.function.arguments)))
            except LedgerUnavailable as error:
                content = f"Error: {error}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})


def responses_loop(client: Any, stream: bool = False) -> None:
    """The same over the Responses API, each request with the whole history."""
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    history: list[Any] = [{"role": "user", "content": USER}]
    while True:
        response = client.responses.create(
            model=MODEL, instructions=SYSTEM, input=history, tools=tools, store=False, stream=stream
        )
        if stream:
            response = list(response)[-1].response
        history += [item.model_dump(exclude_none=True) for item in response.output]
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return
        for call in calls:
            try:
                output = json.dumps(globals()[call.name](**json.loads(call.arguments)))
            except LedgerUnavailable as error:
                output = f"Error: {error}"
            history.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
