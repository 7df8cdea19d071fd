"""Redaction from the exporter to the grade: nothing raw in the database, and graders judge as they would have."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from collector.redaction.rules import Group, Ruleset
from collector.redaction.text import Texts, Work, keyed
from graders import Trace, run_graders
from graders.testing import span, trace
from store.types import Case, Expectations, ExpectedCall
from tracegrade.config import Grading
from tracegrade.serve import configured_graders

EMAIL, CARD, IBAN, PASSWORD = "jane.doe@example.com", "4111111111111111", "DE89370400440532013000", "hunter2-not-said"
RAW = (EMAIL, "jane.doe", CARD, "4111 1111", IBAN, PASSWORD)
CALLS: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "find_customer",
        "call_1",
        {"email": EMAIL, "password": PASSWORD},
        {"email": EMAIL, "card": CARD, "order": "A-100"},
    ),
    ("send_refund", "call_2", {"order": "A-100", "to": IBAN, "amount": 42.5}, {"status": "sent", "iban": IBAN}),
)
ANSWER = f"I refunded 42.50 for order A-100 to {IBAN} and wrote to {EMAIL}; the card 4111111111111111 is unchanged."


def conversation(answer: str = ANSWER) -> list[tuple[str, dict[str, Any]]]:
    question = [{"role": "user", "parts": [{"type": "text", "content": f"I am {EMAIL}, refund order A-100 to {IBAN}"}]}]
    said = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
    messages = {"gen_ai.input.messages": json.dumps(question), "gen_ai.output.messages": json.dumps(said)}
    spans = [("invoke_agent support", {"gen_ai.operation.name": "invoke_agent", **messages})]
    for name, call, arguments, result in CALLS:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call,
            "gen_ai.tool.call.arguments": json.dumps(arguments),
            "gen_ai.tool.call.result": json.dumps(result),
        }
        spans.append((f"execute_tool {name}", attributes))
    return spans


def assembled(answer: str, redact: Callable[[str, str], str], case: Case) -> Trace:
    spans = [
        span(
            name,
            {key: redact(key, value) for key, value in attributes.items()},
            span_id=f"{at + 1:016x}",
            parent=f"{1:016x}" if at else "",
            start=at,
            end=100 if at == 0 else None,
        )
        for at, (name, attributes) in enumerate(conversation(answer))
    ]
    return trace(*spans, case=case)


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        ANSWER.replace(EMAIL, "john.roe@example.com"),
        ANSWER.replace("42.50", "43.50"),
        ANSWER.replace(IBAN, "GB29NWBK60161331926819"),
    ],
    ids=["right", "another address", "another amount", "another account"],
)
def test_graders_judge_redacted_traces_alike(answer: str) -> None:
    texts = Texts(Ruleset(list(Group), countries=("US", "DE")), keyed(b"k" * 32))
    refund = ExpectedCall("send_refund", {"order": "A-100", "amount": 42.5})
    expect = Expectations(
        tools=(ExpectedCall("find_customer"), refund), tools_given=True, answer_contains=("A-100", "42.50", "refunded")
    )
    case = Case("c", "b", expect=expect)

    def outcomes(redact: Callable[[str, str], str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for grade in run_graders(configured_graders(Grading()).of(trace := assembled(answer, redact, case)), trace):
            found.setdefault(grade.grader, []).append(grade.outcome)
        return found

    raw = outcomes(lambda key, value: value)
    assert raw == outcomes(lambda key, value: texts.redact(value, (key,), Work()))
    assert raw["tools/expected"] == ["pass"]
    assert raw["evidence/contains"] == ["pass" if "42.50" in answer else "fail"]


def export(exporter: SpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    (name, attributes), *calls = conversation()
    with tracer.start_as_current_span(name, attributes=attributes):
        for called, of_call in calls:
            with tracer.start_as_current_span(called, attributes=of_call) as inner:
                inner.add_event(f"told {EMAIL}", {"message": json.dumps({"password": PASSWORD})})
    provider.shutdown()


def post_json(address: str) -> None:
    """What no Python exporter sends."""
    (name, attributes), *_ = conversation()
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    times = {"startTimeUnixNano": str(time.time_ns() - 10**9), "endTimeUnixNano": str(time.time_ns())}
    sent = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": name, "attributes": pairs, **times}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [sent]}]}]}).encode()
    request = Request(f"http://{address}/v1/traces", body, {"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def ask(address: str, query: str) -> str:
    with urlopen(Request(f"http://{address}/?database=tracegrade", query.encode()), timeout=30) as answer:
        return str(answer.read().decode())


def test_nothing_raw_reaches_the_disk(start: Callable[..., Any]) -> None:
    redaction = {"groups": ["secrets", "contact", "financial"]}
    collector = {"grpc_port": 0, "http_port": 0, "segment_age_seconds": 0.1, "redaction": redaction}
    server = start(collector=collector)
    addresses = server.addresses
    export(HttpExporter(endpoint=f"http://{addresses.otlp_http}/v1/traces"))
    export(GrpcExporter(endpoint=f"http://{addresses.otlp_grpc}", insecure=True))
    post_json(addresses.otlp_http)
    deadline = time.monotonic() + 60
    while ask(addresses.clickhouse, "SELECT uniqExact(TraceId) FROM grades").strip() != "3":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tables = ask(
        addresses.clickhouse,
        "SELECT name FROM system.tables WHERE database = 'tracegrade' AND engine LIKE '%MergeTree'",
    )
    kept = {table: ask(addresses.clickhouse, f"SELECT * FROM {table} FORMAT JSONEachRow") for table in tables.split()}
    assert kept["otel_traces"].count("<EMAIL:") >= 6
    assert "<IBAN:" in kept["tool_calls"]
    assert [(table, raw) for table, text in kept.items() for raw in RAW if raw in text] == []
    server.kill(signal.SIGTERM)
    for path in Path(server.data_dir).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [raw for raw in RAW if raw.encode() in content] == [], path
    assert (server.data_dir / "redaction.key").stat().st_mode & 0o777 == 0o600


def test_a_suite_is_redacted_as_traces_are(tmp_path: Path, tracegrade: Callable[..., Any]) -> None:
    """What a suite expects must be written as what arrives: the command uses the server's key."""
    config = tmp_path / "tracegrade.yaml"
    config.write_text(f"data_dir: {tmp_path}\ncollector: {{redaction: {{groups: [contact]}}}}\n")
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"cases:\n- {{id: c, expect: {{tools: [{{tool: mail, arguments: {{to: {EMAIL}}}}}]}}}}\n")
    first, second = (tracegrade("redact", suite, "--config", config, check=True).stdout for _ in range(2))
    assert first == second
    key = (tmp_path / "redaction.key").read_bytes().strip()
    placeholder = Texts(Ruleset([Group.CONTACT]), keyed(key)).redact(EMAIL, ("to",), Work())
    assert first == suite.read_text().replace(EMAIL, placeholder)
    suite.write_bytes(b"\xff\xfe\x00")
    refused = tracegrade("redact", suite, "--config", config)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
