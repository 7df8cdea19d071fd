"""The last move of a run: what structure shows first, then what the agent said.

Promises one `Move` for a trace, with the evidence for it, or the reason why none can be told. Structure comes before text:
why the model stopped, who was handed the matter, which question or approval is still open; `words` reads the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel

from graders.checks.action import words
from graders.checks.action.words import Action, Confidence
from graders.messages import finish_reasons
from store.types import ContentState, Evidence, Message, Span, SpanKind, ToolCall, Trace

Basis = Literal["structural", "pattern"]


@dataclass(frozen=True, slots=True)
class Move:
    """What the agent did in the end."""

    action: Action
    why: str
    span_id: str
    basis: Basis
    confidence: Confidence = "high"
    evidence: tuple[Evidence, ...] = ()
    rules: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    """`partial_refusal` and the like, see `words.Reading`; `claimed`: a handover in words that no call made."""

    def told(self) -> str:
        """The move in one line: why, and how it is known."""
        known = [f"{self.basis}, {self.confidence} confidence", *self.rules, *self.marks]
        return f"{self.why} ({', '.join(known)})"


class _Signals(BaseModel, extra="forbid", frozen=True):
    tools: tuple[str, ...] = ()
    human: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()


class _Structure(BaseModel, extra="forbid", frozen=True):
    escalate: _Signals
    clarify: _Signals
    refuse: _Signals


@cache
def _structure() -> Mapping[str, re.Pattern[str]]:
    text = files("graders").joinpath("actions", "structure.yaml").read_text("utf-8")
    table = _Structure.model_validate(yaml.safe_load(text))
    lists = {
        "handover": (*table.escalate.tools, *table.escalate.human),
        "human": table.escalate.human,
        "ask": table.clarify.tools,
        "finish": table.refuse.finish,
    }
    return {name: re.compile("|".join(f"(?:{p})" for p in p_), re.IGNORECASE) for name, p_ in lists.items()}


@cache
def _is(what: str, name: str) -> bool:
    return _structure()[what].search(name) is not None


def last_move(trace: Trace) -> Move | str:
    """The last move, or why it cannot be told."""
    models = [s for s in trace.spans if s.kind is SpanKind.LLM]
    last_model = models[-1] if models else None
    if last_model is not None:
        for reason in finish_reasons(last_model):
            if _structure()["finish"].search(reason.raw):
                return Move("refuse", f"the model stopped with {reason.raw}", last_model.span_id, "structural")
        if _died(trace, last_model):
            return f"the run died in a model call: {last_model.status_message[:200] or 'error'}"
    return _called(trace) or _stopped(trace) or _said(trace)


def _died(trace: Trace, last: Span) -> bool:
    """The last model call failed and nothing was said after it."""
    if last.status != "Error" or last.span_id == trace.answer_span_id:
        return False
    if not trace.answer:
        return True
    root = trace.root
    said = next((m.time_ns for m in reversed(trace.messages) if m.role == "assistant" and m.text), 0)
    return root is not None and root.status == "Error" and said <= last.start_ns


def _called(trace: Trace) -> Move | None:
    """A handover or a question to the user that was the last call."""
    handoff = next((s for s in reversed(trace.spans) if s.kind is SpanKind.HANDOFF), None)
    if handoff is not None and not trace.answer:
        return Move("escalate", f"handed off: {handoff.name[:200]}", handoff.span_id, "structural")
    last = next((c for c in reversed(trace.tool_calls) if c.executed is not False), None)
    if last is None or _user_after(trace, last):
        return None
    if _is("handover", last.name) and not last.error and (_is("human", last.name) or not _taken_over(trace, last)):
        return Move("escalate", f"called {last.name[:200]}", last.anchor, "structural")
    if _is("ask", last.name) and not trace.answer and not _went_on(trace, last):
        return Move("clarify", f"called {last.name[:200]}", last.anchor, "structural")
    return None


def _user_after(trace: Trace, call: ToolCall) -> bool:
    """Whether the user spoke after a call: then it was not the last move."""
    at = call.message_index
    return at is not None and any(m.role == "user" for m in trace.messages[at + 1 :])


def _went_on(trace: Trace, call: ToolCall) -> bool:
    """Whether a model was called after a call: then somebody replied."""
    return any(s.kind is SpanKind.LLM and s.start_ns >= call.end_ns > call.start_ns for s in trace.spans)


def _taken_over(trace: Trace, call: ToolCall) -> bool:
    """Whether another agent of this trace answered after the handover: then its answer is the last move."""
    if not call.agent or not trace.answer:
        return False
    answered = next((s.agent for s in trace.spans if s.span_id == trace.answer_span_id), "")
    later = [s.agent for s in trace.spans if s.kind is SpanKind.LLM and s.start_ns >= call.end_ns]
    return any(name and name != call.agent for name in (answered, *later))


def _stopped(trace: Trace) -> Move | None:
    """A run that said nothing in the end because a guardrail or a decision stopped it, or because it waits for one."""
    if trace.answer:
        return None
    silent = trace.answer_state is ContentState.PRESENT  # else it may have answered, and nobody recorded it
    decided = {a.call_id for a in trace.approvals if a.outcome != "require_approval"}
    for approval in reversed(trace.approvals):
        span_id = approval.span_id or (trace.root.span_id if trace.root else "")
        if approval.outcome == "require_approval" and approval.call_id not in decided:
            return Move(
                "clarify", f"waits for approval of {approval.tool_name[:200] or 'a call'}", span_id, "structural"
            )
        if approval.outcome == "deny" and silent:
            return Move("refuse", f"stopped by a denial ({approval.mechanism})", span_id, "structural")
        break
    guard = next((s for s in reversed(trace.spans) if s.kind is SpanKind.GUARDRAIL), None)
    if guard is not None and silent and _tripped(guard):
        return Move("refuse", f"stopped by a guardrail: {guard.name[:200]}", guard.span_id, "structural")
    return None


def _tripped(guard: Span) -> bool:
    values = guard.attributes
    return values.get("gen_ai.guardrail.triggered") == "true" or values.get("crewai.guardrail.success") == "false"


def _said(trace: Trace) -> Move | str:
    """What the text says: the answer, or if that is a courtesy, what was said before it."""
    if not trace.answer:
        ended = trace.answer_state is ContentState.PRESENT
        return "the run ended without an answer" if ended else f"the answer is {trace.answer_state}"
    reading = words.read(trace.answer)
    where, text, span_id = "answer", trace.answer, trace.answer_span_id
    if reading is not None and reading.courtesy and (before := _before(trace)):
        index, message = before
        earlier = words.read(message.text)
        if earlier is not None:
            reading, where, text, span_id = earlier, f"messages[{index}]", message.text, message.span_id
    if reading is None:
        return "there are no rules for the language of the answer"
    evidence = tuple(
        Evidence(span_id, where, text[hit.start : hit.end][:300], hit.start, hit.end) for hit in reading.hits
    )
    rules = tuple(f"{reading.language}.{hit.kind}.{hit.rule}" for hit in reading.hits)
    marks = reading.marks
    if reading.action == "escalate" and not _handed_over(trace):
        marks = (*marks, "claimed")
    why = f"says: {evidence[0].text[:100]}" if evidence else "gives an answer"
    return Move(reading.action, why, span_id, "pattern", reading.confidence, evidence, rules, marks)


def _handed_over(trace: Trace) -> bool:
    """Whether anything in the trace handed the matter over."""
    if any(span.kind is SpanKind.HANDOFF for span in trace.spans):
        return True
    return any(
        call.executed is not False and not call.error and _is("handover", call.name) for call in trace.tool_calls
    )


def _before(trace: Trace) -> tuple[int, Message] | None:
    """What the agent said before its courtesies."""
    spoken = [(i, m) for i, m in enumerate(trace.messages) if m.role == "assistant" and m.text]
    for index, message in reversed(spoken[-6:-1]):
        reading = words.read(message.text)
        if reading is None or not reading.courtesy:
            return index, message
    return None
