"""Agent traffic as exporters send it: requests of 64 traces with 8 spans each, about 0.8 kB a span, OTel GenAI attributes.

The same bytes for every system. Requests differ only in their trace and span ids, which are patched into one serialised
template, so that making load costs next to nothing beside carrying it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACES = 64
SPANS_A_TRACE = 8
SPANS = TRACES * SPANS_A_TRACE
_TRACE_MARK = b"\xfe\xed\xfa\xce\xca\xfe\xbe\xef"
_SPAN_MARK = b"\xfe\xed\xfa\xce\xca\xfd"

_WORDS = re.findall(
    r"\w+",
    "order refund policy customer shipment delivery invoice return window approval amount address account status agent "
    "warehouse courier tracking label damaged replacement credit card balance subscription renewal cancel confirm",
)


def _text(random_: random.Random, words: int) -> str:
    return " ".join(random_.choice(_WORDS) for _ in range(words))


def _set(span: Span, attributes: dict[str, str | int | float | bool]) -> None:
    for key, value in attributes.items():
        to = span.attributes.add(key=key).value
        match value:
            case bool():
                to.bool_value = value
            case int():
                to.int_value = value
            case float():
                to.double_value = value
            case str():
                to.string_value = value


def _trace(random_: random.Random, spans: list[Span], first: int, trace_id: bytes, start: int) -> None:
    """One support conversation: the agent, three model calls, two tools, a retrieval and an HTTP call under a tool."""
    question, order = _text(random_, 18), f"A-{random_.randrange(10**6)}"
    conversation = f"conv-{random_.randrange(10**9)}"
    ids = [_SPAN_MARK + (first + at).to_bytes(2) for at in range(len(spans))]
    common: dict[str, str | int | float | bool] = {
        "gen_ai.conversation.id": conversation,
        "gen_ai.agent.name": "support",
    }
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.response.model": "gpt-4.1-2025-04-14",
    }
    history: list[dict[str, object]] = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
    plan: list[tuple[str, int, dict[str, str | int | float | bool]]] = [
        ("invoke_agent support", 0, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": "support-1"})
    ]

    def model(output: list[dict[str, object]]) -> None:
        said = {"role": "assistant", "parts": output, "finish_reason": "stop"}
        attributes = {
            **chat,
            "gen_ai.input.messages": json.dumps(history),
            "gen_ai.output.messages": json.dumps([said]),
            "gen_ai.usage.input_tokens": random_.randrange(200, 4000),
            "gen_ai.usage.output_tokens": random_.randrange(20, 400),
            "gen_ai.response.time_to_first_chunk": random_.uniform(0.1, 2),
        }
        plan.append(("chat gpt-4.1", 0, attributes))
        history.append(said)

    def tool(name: str, arguments: dict[str, object], result: str) -> None:
        call = f"call_{random_.randrange(16**12):012x}"
        model([{"type": "tool_call", "id": call, "name": name, "arguments": arguments}])
        attributes: dict[str, str | int | float | bool] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": json.dumps(arguments),
            "gen_ai.tool.call.result": result,
        }
        plan.append((f"execute_tool {name}", 0, attributes))
        history.append({"role": "tool", "parts": [{"type": "tool_call_response", "id": call, "response": result}]})

    tool("get_order", {"order_id": order}, json.dumps({"order": order, "status": _text(random_, 8)}))
    fetch = {
        "http.request.method": "GET",
        "url.full": f"http://orders.internal/v1/orders/{order}",
        "http.response.status_code": 200,
        "server.address": "orders.internal",
        "network.protocol.version": "1.1",
    }
    plan.append(("GET /v1/orders/{id}", 2, fetch))
    tool("search_policy", {"query": _text(random_, 6)}, _text(random_, 30))
    documents = json.dumps(
        [{"id": f"policy-{n}", "content": _text(random_, 22), "score": 0.9 - n / 10} for n in range(3)]
    )
    retrieval: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "policies",
        "gen_ai.retrieval.query.text": question,
        "gen_ai.retrieval.documents": documents,
    }
    plan.append(("retrieval policies", 5, retrieval))
    model([{"type": "text", "content": f"Order {order}: {_text(random_, 20)}"}])

    for at, (span, (name, parent, attributes)) in enumerate(zip(spans, plan, strict=True)):
        span.trace_id, span.span_id = trace_id, ids[at]
        if at:
            span.parent_span_id = ids[parent]
        span.name = name
        span.kind = Span.SPAN_KIND_CLIENT if name.startswith(("chat", "GET")) else Span.SPAN_KIND_INTERNAL
        span.start_time_unix_nano = start + at * 40_000_000
        span.end_time_unix_nano = span.start_time_unix_nano + (400_000_000 if at == 0 else 35_000_000)
        _set(span, {**common, **attributes})


def template(seed: int = 7) -> bytes:
    """A serialised request whose ids start with marks that `numbered` replaces."""
    random_ = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in {
        "service.name": "support-agent",
        "service.version": "1.4.2",
        "deployment.environment.name": "production",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": "1.40.0",
        "host.name": "agents-7f9c",
    }.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "opentelemetry.instrumentation.genai", "2.1.0"
    now = time.time_ns()
    for number in range(TRACES):
        spans = [scope.spans.add() for _ in range(SPANS_A_TRACE)]
        _trace(
            random_, spans, number * SPANS_A_TRACE, _TRACE_MARK + random_.randbytes(8), now - random_.randrange(10**9)
        )
    return request.SerializeToString()


def numbered(template: bytes, number: int) -> bytes:
    """The request `number`: no id of it occurs in any other."""
    fresh = hashlib.blake2b(number.to_bytes(8), digest_size=14).digest()
    return template.replace(_TRACE_MARK, fresh[:8]).replace(_SPAN_MARK, fresh[8:])
