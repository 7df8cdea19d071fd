"""What did the agent do in the end: answer, abstain, clarify, refuse or escalate?

Structure decides before text: the reason a model gave for stopping, then the tools that were called, then patterns in the
answer. The patterns are data, `graders/actions.yaml`; they are English and tell the form of an answer, not its merit.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import ClassVar, Literal

import yaml
from pydantic import BaseModel

from graders.base import Grader, Score, failed, passed, skip, unknown
from graders.messages import finish_reasons
from store.types import ContentState, Evidence, Severity, SpanKind, Trace

Action = Literal["answer", "abstain", "clarify", "refuse", "escalate"]

_SENTENCE = re.compile(r"[.!?]\s+|\n+")
_HEAD, _TAIL = 1200, 800
"""Characters that hold the first and the last sentences."""


class _Signals(BaseModel, extra="forbid", frozen=True):
    tools: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    """In the same part, these say that the text pattern means something else."""
    hints: tuple[str, ...] = ()
    """One of them is in every text that a text pattern matches: a cheap first look."""


class _Table(BaseModel, extra="forbid", frozen=True):
    version: str
    escalate: _Signals
    clarify: _Signals
    refuse: _Signals
    abstain: _Signals


@cache
def _table() -> _Table:
    return _Table.model_validate(yaml.safe_load(files("graders").joinpath("actions.yaml").read_text("utf-8")))


@cache
def _patterns() -> dict[str, dict[str, re.Pattern[str]]]:
    """Action, then kind of signal, to one pattern."""
    return {
        action: {
            kind: re.compile("|".join(f"(?:{p})" for p in patterns), 0 if kind in ("text", "unless") else re.IGNORECASE)
            for kind in ("tools", "finish", "text", "unless")
            if (patterns := getattr(signals, kind))
        }
        for action in ("escalate", "clarify", "refuse", "abstain")
        for signals in (getattr(_table(), action),)
    }


class Class(Grader, name="action/class", version="1"):
    """The agent's last move is the one the case expects.

    The label is the class found: `answer`, `abstain`, `clarify`, `refuse` or `escalate`. It is set on every trace where it
    can be told; `pass` or `fail` needs a case with an expected action, else the outcome is `skip`. `unknown` when the answer
    is not captured, or the trace ended without one.

    Signals in order: the last model call stopped for refusal or a filter → refuse; the last call that was not followed by
    another tool is a handoff or escalation → escalate; an ask-the-user tool → clarify; text. Text that both refuses and
    abstains is a refusal; one that refuses what stood in a tool result is none. A text that fits nothing is an answer.
    """

    uses_case: ClassVar[bool] = True

    def grade(self, trace: Trace) -> Score:
        found = classify(trace)
        expected = trace.case.expected_action if trace.case else ""
        if found is None:
            ended = trace.answer_state is ContentState.PRESENT
            return unknown("the run ended without an answer" if ended else f"the answer is {trace.answer_state}")
        action, why, span_id = found
        if not expected:
            return skip(why, label=action, span_id=span_id)
        if action == expected:
            return passed(why, label=action, span_id=span_id)
        evidence = [Evidence(span_id, "answer", trace.answer[:300])]
        reason = f"expected {expected}, found {action}: {why}"
        return failed(reason, severity=Severity.HIGH, label=action, span_id=span_id, evidence=evidence)


def classify(trace: Trace) -> tuple[Action, str, str] | None:
    """The class, why, and the span it was read from; None when there is nothing to read it from."""
    table = _patterns()
    models = [s for s in trace.spans if s.kind is SpanKind.LLM]
    if models:
        for reason in finish_reasons(models[-1]):
            if table["refuse"]["finish"].search(reason.raw):
                return "refuse", f"the model stopped with {reason.raw}", models[-1].span_id
    handoff = next((s for s in reversed(trace.spans) if s.kind is SpanKind.HANDOFF), None)
    if handoff is not None and not trace.answer:
        return "escalate", f"handed off: {handoff.name}", handoff.span_id
    last = next((c for c in reversed(trace.tool_calls) if c.executed is not False), None)
    if last is not None:
        if table["escalate"]["tools"].search(last.name) and not last.error:
            return "escalate", f"called {last.name}", last.anchor
        if table["clarify"]["tools"].search(last.name):
            return "clarify", f"called {last.name}", last.anchor
    if not trace.answer:
        return None
    head, tail = _plain(trace.answer[:_HEAD]), _plain(trace.answer[-_TAIL:])
    third = next(islice(_SENTENCE.finditer(head), 2, None), None)
    head = head[: third.end()] if third else head
    ends = [match.end() for match in _SENTENCE.finditer(tail)]
    tail = tail[ends[-2] :] if len(ends) > 1 else tail
    looks: tuple[tuple[Action, str], ...] = (("refuse", head), ("abstain", head), ("abstain", tail), ("clarify", tail))
    for action, part in looks:
        hints: tuple[str, ...] = getattr(_table(), action).hints
        if any(hint in part for hint in hints) and (match := table[action]["text"].search(part)):
            if "unless" in table[action] and table[action]["unless"].search(part):
                continue
            return action, f"says: {match[0][:100]}", trace.answer_span_id
    return "answer", "gives an answer", trace.answer_span_id


def _plain(text: str) -> str:
    return text.replace("’", "'").lower().strip()
