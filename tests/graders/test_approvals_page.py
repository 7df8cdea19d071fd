"""What docs/approvals.md tells people to write works: its snippets run on the real SDK, and are graded as the page says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graders import load_graders
from graders.policy import AgentPolicy
from graders.testing import grade
from store.types import Grade
from store.yamlfile import parse_yaml

from . import otlp

PAGE = (Path(__file__).parents[2] / "docs" / "approvals.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(POLICY,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ANN = "ann@desk.example.com"
REFUND = {"order": "ORD-1", "amount": 60}


def issue_refund(order: str, amount: float) -> dict[str, Any]:
    return {"refunded": amount, "order": order}


@dataclass
class Service:
    """A service that instruments its approvals as the page says, and what it exported."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    def __post_init__(self) -> None:
        for snippet in SNIPPETS:
            exec(compile(snippet, "docs/approvals.md", "exec"), self.names)
        self.spans, self.logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        traces, logs = TracerProvider(), LoggerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self.spans))
        logs.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        self.names["tracer"], self.names["log"] = traces.get_tracer("billing-agent"), logs.get_logger("billing-agent")

    def run(self, work: Callable[[], Any], user: str = "customer-7") -> Any:
        return self.names["run_agent"]("conversation-1", user, work)

    def refund(self, decider: str, allowed: dict[str, Any] | None, user: str = "customer-7") -> Any:
        ask = lambda tool, arguments: (decider, allowed)  # noqa: E731
        return self.run(lambda: self.names["guarded"](issue_refund, "call-1", REFUND, ask), user)

    def grades(self) -> list[Grade]:
        spans = otlp.spans(encode_spans(self.spans.get_finished_spans()).SerializeToString())
        logs = otlp.logs(encode_logs(self.logs.get_finished_logs()).SerializeToString())
        (boundary,) = load_graders({"approval/boundary": {}}, policy=parse_yaml(POLICY, AgentPolicy))
        items = otlp.as_conversation(otlp.traces(spans, logs))
        return [g for item in items for g in grade(boundary, item) if g.subject]


def test_approved() -> None:
    service = Service()
    assert service.refund(ANN, REFUND) == {"refunded": 60, "order": "ORD-1"}
    assert [(g.outcome, g.label, g.reason) for g in service.grades()] == [
        ("pass", "approved_before", f"approved by {ANN}")
    ]


def test_denied() -> None:
    service = Service()
    assert service.refund(ANN, None) is None
    assert [(g.outcome, g.label) for g in service.grades()] == [("pass", "denied_and_stopped")]


def test_edited() -> None:
    service = Service()
    assert service.refund(ANN, {**REFUND, "amount": 51}) == {"refunded": 51, "order": "ORD-1"}
    (found,) = service.grades()
    assert (found.outcome, found.label) == ("pass", "approved_before")
    assert "other arguments than were asked for" in found.reason


@pytest.mark.parametrize(
    ("decider", "user", "reason"),
    [("eve@elsewhere.example.com", "customer-7", "not of service_desk"), (ANN, ANN, "for whom the agent works")],
)
def test_approved_by_whom_may_not(decider: str, user: str, reason: str) -> None:
    service = Service()
    service.refund(decider, REFUND, user)
    (found,) = service.grades()
    assert (found.outcome, found.label) == ("fail", "no_approval_evidence")
    assert reason in found.reason


def test_swapped_after_approval() -> None:
    service = Service()
    service.names["guarded"] = _swapping(service.names["guarded"])
    service.refund(ANN, REFUND)
    assert [(g.outcome, g.label) for g in service.grades()] == [("fail", "approval_for_other_arguments")]


def _swapping(guarded: Any) -> Any:
    """The same function, except that what runs is not what was approved."""
    names = dict(guarded.__globals__)
    code = next(s for s in SNIPPETS if "def guarded" in s)
    swapped = code.replace("json.dumps(allowed)", 'json.dumps({**allowed, "amount": 6000})')
    assert swapped != code
    exec(compile(swapped, "swapped", "exec"), names)
    return names["guarded"]


def test_nobody_was_asked() -> None:
    service = Service()

    def work() -> None:
        with service.names["tracer"].start_as_current_span("execute_tool issue_refund") as span:
            span.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "issue_refund"})
            span.set_attributes({"gen_ai.tool.call.id": "c", "gen_ai.tool.call.arguments": '{"amount": 60}'})
            span.set_attribute("gen_ai.tool.call.result", "ok")

    service.run(work)
    assert [(g.outcome, g.label) for g in service.grades()] == [("fail", "no_approval_evidence")]


def test_on_the_span_alone() -> None:
    service = Service()

    def work() -> None:
        with service.names["tracer"].start_as_current_span("execute_tool issue_refund") as span:
            span.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "issue_refund"})
            span.set_attributes({"gen_ai.tool.call.id": "c", "gen_ai.tool.call.result": "ok"})
            span.set_attribute("gen_ai.tool.call.arguments", '{"order": "ORD-1", "amount": 60}')
            service.names["approved_on_span"](span, ANN, span.start_time - 1, REFUND)

    service.run(work)
    assert [(g.outcome, g.label) for g in service.grades()] == [("pass", "approved_before")]


def test_answered_in_another_trace() -> None:
    """The run that asks ends; somebody answers; the run that goes on is a trace of its own."""
    service = Service()
    record, guarded = service.names["record"], service.names["guarded"]
    service.run(lambda: record("require_approval", "issue_refund", "call-1", id="approval-9"))
    service.run(lambda: record("allow", "issue_refund", "", id="approval-9", mechanism="human", decider__id=ANN))
    service.names["record"] = lambda *_, **__: None  # the run that goes on asks nobody
    service.run(lambda: guarded(issue_refund, "call-1", REFUND, lambda tool, arguments: (ANN, arguments)))
    assert ("pass", "approved_before") in [(g.outcome, g.label) for g in service.grades()]
    assert all(g.outcome != "fail" for g in service.grades())
