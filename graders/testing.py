"""What a grader author needs to test a grader: builders for spans and traces, and checks of the grader contract.

    def test_my_grader() -> None:
        check_grader(MyGrader(limit=3))
        assert grade(MyGrader(limit=3), trace(tool("search", {"q": "x"}, "found")))[0].outcome == "fail"

Spans are made from OpenTelemetry attributes and read as the store reads them, so what passes here is what a grader sees.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import orjson

from graders.assembler import assemble
from graders.base import Grader, run_graders
from store.dialects import ANSI, DialectMapping, Recognition, mapping
from store.types import Case, Grade, LogEvent, Outcome, Span, SpanEvent, SpanKind, Trace

TRACE_ID = "0" * 31 + "1"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000


def span(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    span_id: str = "",
    parent: str = "",
    start: int = 0,
    end: int | None = None,
    status: str = "Unset",
    events: Iterable[tuple[str, Mapping[str, Any]]] = (),
    **fields: Any,
) -> Span:
    """One span. `start` and `end` are steps of a millisecond; attribute values that are not text become JSON.

    Kind and scalars come from the dialect mapping; `fields` overrides any field of `Span`.
    """
    texts = {key: _text(value) for key, value in (attributes or {}).items()}
    start_ns = START_NS + start * STEP_NS
    end_ns = START_NS + (start + 1 if end is None else end) * STEP_NS
    scope = str(fields.get("scope", ""))
    known: dict[str, Any] = {
        "trace_id": TRACE_ID,
        "span_id": span_id or f"{abs(hash((name, start))) % 16**16:016x}",
        "parent_span_id": parent,
        "name": name,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "status": status,
        "attributes": texts,
        "events": tuple(SpanEvent(n, start_ns, {k: _text(v) for k, v in a.items()}) for n, a in events),
        **scalars(name, texts, scope),
    }
    return Span(**{**known, **fields})


def trace(*spans: Span, logs: Sequence[LogEvent] = (), case: Case | None = None) -> Trace:
    """An assembled trace. Spans without a parent, but the first, become children of the first; missing ids are made."""
    rooted = []
    for index, item in enumerate(spans):
        if index and not item.parent_span_id:
            item = replace(item, parent_span_id=spans[0].span_id)
        rooted.append(item)
    return assemble(rooted, logs, case)


def agent(name: str = "agent", attributes: Mapping[str, Any] | None = None, **options: Any) -> Span:
    """An agent span."""
    return span(
        f"invoke_agent {name}",
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **(attributes or {})},
        **{"span_id": "a" * 16, "end": 1000, **options},
    )


def model(
    inputs: Sequence[Mapping[str, Any]] = (),
    output: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Span:
    """A model call with the messages it read and the one it wrote."""
    content: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    if inputs:
        content["gen_ai.input.messages"] = list(inputs)
    if output:
        content["gen_ai.output.messages"] = [output]
    return span("chat m", {**content, **(attributes or {})}, **options)


def tool(
    name: str,
    arguments: Any = None,
    result: Any = None,
    call_id: str = "",
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Span:
    """A tool span."""
    content: dict[str, Any] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    if call_id:
        content["gen_ai.tool.call.id"] = call_id
    if arguments is not None:
        content["gen_ai.tool.call.arguments"] = arguments
    if result is not None:
        content["gen_ai.tool.call.result"] = result
    return span(f"execute_tool {name}", {**content, **(attributes or {})}, **options)


def message(role: str, text: str = "", *calls: tuple[str, str, Mapping[str, Any]], answers: str = "") -> dict[str, Any]:
    """A message: text, calls as (id, name, arguments), or with `answers` the result of that call."""
    if answers:
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": answers, "response": text}]}
    parts: list[dict[str, Any]] = [{"type": "text", "content": text}] if text else []
    parts += [{"type": "tool_call", "id": i, "name": n, "arguments": a} for i, n, a in calls]
    return {"role": role, "parts": parts}


def conversation(
    steps: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), case: Case | None = None
) -> Trace:
    """A trace of one agent, told step by step; each model call is sent all that was said before it.

    Steps, each a mapping with one of these keys:
    - `system`, `user`: what was said.
    - `assistant`: what the model said; `calls`: a list of {id, name, arguments}; `status`, `attributes` of its span.
    - `tool`: the name of a tool that ran; `id`, `arguments`, `result`, `status`, `attributes`; `span: false` leaves only the
      message with the result, `message: false` only the span.
    - `decision`: `allow`, `deny` or `require_approval`, as a log event; `id`, `tool`, and `attributes` under
      `tracegrade.approval.`.
    - `retrieved`: documents as {id, content, score}.
    """
    spans = [agent(end=10 * len(steps) + 20)]
    logs: list[LogEvent] = []
    said: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        at, span_id = 10 * number + 10, f"{number + 1:016x}"
        place: dict[str, Any] = {"span_id": span_id, "start": at, "end": at + 5, "attributes": step.get("attributes")}
        if "decision" in step:
            attributes = {"gen_ai.tool.call.decision.outcome": step["decision"]}
            attributes |= {"gen_ai.tool.call.id": step.get("id", ""), "gen_ai.tool.name": step.get("tool", "")}
            extra = step.get("attributes") or {}
            attributes |= {f"tracegrade.approval.{key}": _text(value) for key, value in extra.items()}
            time_ns = START_NS + at * STEP_NS
            logs.append(LogEvent(time_ns, "gen_ai.tool.call.decision", TRACE_ID, "", attributes=attributes))
        elif "assistant" in step:
            calls = [(c.get("id", ""), c["name"], c.get("arguments", {})) for c in step.get("calls", ())]
            answer = message("assistant", step["assistant"], *calls)
            offered = {"gen_ai.tool.definitions": list(tools)} if tools else {}
            place["attributes"] = {**offered, **(step.get("attributes") or {})}
            spans.append(model(said, answer, status=step.get("status", "Unset"), **place))
            said.append(answer)
        elif "tool" in step:
            call_id, result = step.get("id", ""), step.get("result")
            if step.get("span", True):
                status = step.get("status", "Unset")
                spans.append(tool(step["tool"], step.get("arguments"), result, call_id, status=status, **place))
            if step.get("message", True) and result is not None:
                said.append(message("tool", _text(result), answers=call_id or " "))
        elif "retrieved" in step:
            documents = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": list(step["retrieved"])}
            place["attributes"] = {**documents, **(step.get("attributes") or {})}
            spans.append(span("retrieval docs", **place))
        else:
            role = next((r for r in ("system", "user") if r in step), None)
            if role is None:
                keys = "system, user, assistant, tool, decision, retrieved"
                raise ValueError(f"step {number} has none of the keys {keys}: {dict(step)}")
            said.append(message(role, step[role]))
    return trace(*spans, logs=logs, case=case)


def grade(grader: Grader, item: Trace) -> list[Grade]:
    """The grades of one grader on one trace; a bug in the grader is raised instead of graded."""
    grades = run_graders([grader], item)
    broken = next((g for g in grades if g.outcome is Outcome.ERROR), None)
    if broken:
        raise AssertionError(f"{broken.grader}: {broken.reason}")
    return grades


def check_grader(grader: Grader, *traces: Trace) -> None:
    """Assert the contract on an empty trace, on typical ones and on `traces`: no error, no change, the same twice."""
    for item in (*_typical(), *traces):
        before = copy.deepcopy(item)
        first = grade(grader, item)
        assert first == grade(grader, item), f"{grader.grader_name} gave different grades for the same trace"
        assert item == before, f"{grader.grader_name} changed the trace"
        assert first, f"{grader.grader_name} gave no grade"
        known = {s.span_id for s in item.spans} | {""}
        unknown = {g.span_id for g in first} - known
        assert not unknown, f"{grader.grader_name} graded spans that are not in the trace: {sorted(unknown)}"
    rebuilt = type(grader).model_validate(grader.model_dump())
    assert rebuilt.config_digest == grader.config_digest, f"{grader.grader_name}: its configuration does not round-trip"


def scalars(name: str, attributes: Mapping[str, str], scope: str = "") -> dict[str, Any]:
    """Kind, dialect and scalars of a span, as the dialect mapping says (the store computes the same in SQL)."""
    rules = mapping()
    dialect = _dialect(rules.recognise, name, attributes, scope)
    if not dialect:
        return {"kind": SpanKind.OTHER, "dialect": ""}
    kind = _kind(rules, name, attributes, dialect)
    found: dict[str, Any] = {"kind": kind, "dialect": dialect}
    for field, rule in rules.fields.items():
        if rule.kinds and kind not in rule.kinds:
            continue
        keys = (*rule.keys, *rule.last.get(kind, ()))
        key = next((k for k in keys if attributes.get(k, "") not in ("", *rule.discard)), None)
        if key is not None:
            value: Any = _pattern(ANSI).sub("", attributes[key]) if key in rule.plain else attributes[key]
            if field in ("input_tokens", "output_tokens"):
                value = int(float(value))
            elif field == "ttft_ms":
                value = float(value) * rule.to_ms[key]
            found[field] = value
            continue
        for named in rule.from_name:
            fits = (not named.dialects or dialect in named.dialects) and (not named.kinds or kind in named.kinds)
            if fits and (match := _pattern(named.pattern).search(name)):
                found[field] = match[1]
                break
    return found


def _dialect(rules: Sequence[Recognition], name: str, attributes: Mapping[str, str], scope: str) -> str:
    for rule in rules:
        if (
            any(a in attributes for a in rule.attributes)
            or any(key.startswith(rule.prefixes) for key in attributes if rule.prefixes)
            or scope.startswith(rule.scopes or ("\0",))
            or name.startswith(rule.names or ("\0",))
            or any(attributes.get(key, "") in values for key, values in rule.values.items())
        ):
            return rule.dialect
    return ""


def _kind(rules: DialectMapping, name: str, attributes: Mapping[str, str], dialect: str) -> SpanKind:
    for rule in rules.kinds:
        if (value := attributes.get(rule.attribute, "")) in rule.values:
            return rule.values[value]
    for named in rules.names:
        if (not named.dialects or dialect in named.dialects) and _pattern(named.pattern).search(name):
            return named.kind
    return SpanKind.OTHER


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@cache
def _typical() -> tuple[Trace, ...]:
    user, asked = message("user", "Refund order 7, 12.50 please"), message("assistant", "", ("c1", "refund", {"id": 7}))
    return (
        Trace(trace_id=TRACE_ID, spans=()),
        trace(span("GET /", {"http.method": "GET"}, span_id="b" * 16)),
        trace(
            agent(),
            model([user], asked, span_id="b" * 16, start=1),
            tool("refund", {"id": 7}, {"amount": 12.5}, "c1", span_id="c" * 16, start=2),
            model(
                [user, asked, message("tool", '{"amount": 12.5}', answers="c1")],
                message("assistant", "Refunded 12.50 for order 7 [1]."),
                span_id="d" * 16,
                start=3,
            ),
        ),
        trace(agent(), model(span_id="b" * 16, start=1), tool("refund", span_id="c" * 16, start=2)),
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return orjson.dumps(value).decode()
