"""One conversation, one set of calls, whatever shape the telemetry has; and no input breaks it."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graders import assemble
from graders.testing import STEP_NS, TRACE_ID, agent, conversation, message, model, span, tool, trace
from store.types import Completeness, ContentState, LogEvent, Span, SpanEvent, SpanKind, Trace

ASKED = message("assistant", "Let me look.", ("c1", "search", {"q": "x"}))
USER = message("user", "Find x")
FOUND = message("tool", "found", answers="c1")


def roles(item: Trace) -> list[str]:
    return [m.role for m in item.messages]


# --- messages -------------------------------------------------------------------------------------------------------


def test_each_turn_once_although_every_call_sends_its_history() -> None:
    item = trace(
        agent(),
        model([USER], ASKED, {"gen_ai.system_instructions": [{"type": "text", "content": "Be kind"}]}, start=1),
        tool("search", {"q": "x"}, "found", "c1", start=3),
        model([USER, ASKED, FOUND], message("assistant", "Here."), start=5),
        model(
            [USER, ASKED, FOUND, message("assistant", "Here."), message("user", "Find x")],
            message("assistant", "Here."),
            start=7,
        ),
    )
    assert [(m.role, m.text) for m in item.messages] == [
        ("system", "Be kind"),
        ("user", "Find x"),
        ("assistant", "Let me look."),
        ("tool", "found"),
        ("assistant", "Here."),
        ("user", "Find x"),
        ("assistant", "Here."),
    ]
    assert item.answer == "Here."
    (call,) = item.tool_calls
    assert (call.key, call.name, call.arguments, call.result, call.executed) == (
        "c1",
        "search",
        {"q": "x"},
        "found",
        True,
    )
    assert call.message_index == 2
    assert item.messages[2].tool_call_ids == ("c1",)
    assert item.messages[3].tool_call_id == "c1"
    assert call.span_id == item.spans[2].span_id
    assert call.request_span_id == item.spans[1].span_id


def test_history_in_another_layout_is_still_the_same_history() -> None:
    spaced = '[ {"parts": [{"content": "Find x", "type": "text"}], "role": "user"} ]'
    first = model([USER], message("assistant", "a"), start=1)
    second = model((), message("assistant", "b"), {"gen_ai.input.messages": spaced}, start=3)
    assert roles(trace(agent(), first, second)) == ["user", "assistant", "assistant"]


def test_agent_spans_add_only_what_model_calls_did_not_say() -> None:
    whole = [USER, message("assistant", "Hello"), message("user", "Bye")]
    outer = agent(attributes={"gen_ai.input.messages": whole, "gen_ai.output.messages": [message("assistant", "Bye!")]})
    inner = model([USER], message("assistant", "Hello"), start=1)
    item = trace(outer, inner)
    assert sorted(m.text for m in item.messages) == ["Bye", "Bye!", "Find x", "Hello"]
    assert item.answer == "Bye!"


def test_openinference() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "Be kind",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "Find x",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"q": "x"}',
        "llm.tools.0.tool.json_schema": '{"type":"function","function":{"name":"search","parameters":{"type":"object"}}}',
    }
    lang = '{"type":"tool","data":{"content":"found","tool_call_id":"c1","status":"success"}}'
    item = trace(
        span("agent", {"openinference.span.kind": "AGENT", "output.value": "Here."}, span_id="a" * 16, end=99),
        span("llm", attributes, start=1),
        span(
            "search",
            {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": "x", "output.value": lang},
            start=3,
        ),
        span(
            "retrieve",
            {
                "openinference.span.kind": "RETRIEVER",
                "retrieval.documents.0.document.content": "text",
                "retrieval.documents.0.document.metadata": '{"id": "d1", "source": "page"}',
                "retrieval.documents.1.document.id": "d2",
                "retrieval.documents.1.document.score": "0.5",
            },
            start=5,
        ),
    )
    assert [(m.role, m.text) for m in item.messages] == [("system", "Be kind"), ("user", "Find x"), ("assistant", "")]
    (call,) = item.tool_calls
    assert (call.key, call.arguments, call.result, call.executed) == ("c1", {"q": "x"}, "found", True)
    assert [d.name for d in item.tool_definitions] == ["search"]
    assert item.tool_definitions[0].parameters == {"type": "object"}
    assert [(d.id, d.text, d.score, d.source) for d in item.documents] == [
        ("d1", "text", None, "page"),
        ("d2", "", 0.5, ""),
    ]
    assert item.answer == "Here."
    assert item.capabilities["documents"] == "yes"


def test_legacy_span_events_and_log_events() -> None:
    events = [
        ("gen_ai.user.message", {"content": "Find x"}),
        ("gen_ai.choice", {"message": [{"text": "Here."}], "finish_reason": "end_turn"}),
    ]
    old = span("chat", {"gen_ai.operation.name": "chat", "gen_ai.system": "s"}, start=1, events=events)
    assert [(m.role, m.text) for m in trace(agent(), old).messages] == [("user", "Find x"), ("assistant", "Here.")]
    bare = span("chat", {"gen_ai.operation.name": "chat"}, start=1, span_id="b" * 16)
    logs = [
        LogEvent(2, "gen_ai.choice", TRACE_ID, "b" * 16, '{"message": {"role": "assistant", "content": "Here."}}'),
        LogEvent(1, "gen_ai.user.message", TRACE_ID, "b" * 16, '{"content": "Find x"}'),
    ]
    assert [(m.role, m.text) for m in trace(agent(), bare, logs=logs).messages] == [
        ("user", "Find x"),
        ("assistant", "Here."),
    ]


def test_indexed_legacy_messages() -> None:
    item = trace(
        agent(),
        span(
            "chat",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "Find x",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.tool_calls.0.id": "c1",
                "gen_ai.completion.0.tool_calls.0.name": "search",
                "gen_ai.completion.0.tool_calls.0.arguments": '{"q": "x"}',
                "llm.request.functions.0.name": "search",
                "llm.request.functions.0.parameters": '{"type": "object"}',
            },
            start=1,
        ),
    )
    assert roles(item) == ["user", "assistant"]
    assert [(c.key, c.arguments) for c in item.tool_calls] == [("c1", {"q": "x"})]
    assert item.tool_definitions[0].parameters == {"type": "object"}


def test_the_answer_of_a_run_that_died_is_empty_and_known_to_be() -> None:
    item = trace(agent(), model([USER], ASKED, start=1), tool("search", {"q": "x"}, "found", "c1", start=3))
    assert (item.answer, item.answer_state) == ("", ContentState.PRESENT)


def test_final_answer_tool_is_the_answer_and_no_call() -> None:
    item = trace(agent(), tool("final_answer", {"answer": "42"}, "42", start=1))
    assert (item.answer, item.tool_calls) == ("42", ())


# --- calls ----------------------------------------------------------------------------------------------------------


def test_repeated_and_empty_ids_pair_by_order() -> None:
    for call_id in ("", "same"):
        first = message("assistant", "", (call_id, "get", {"n": 1}))
        second = message("assistant", "", (call_id, "get", {"n": 2}))
        steps: list[dict[str, Any]] = [
            {"user": "go"},
            {"assistant": "", "calls": [{"id": call_id, "name": "get", "arguments": {"n": 1}}]},
            {"tool": "get", "id": call_id, "arguments": {"n": 1}, "result": "one"},
            {"assistant": "", "calls": [{"id": call_id, "name": "get", "arguments": {"n": 2}}]},
            {"tool": "get", "id": call_id, "arguments": {"n": 2}, "result": "two"},
            {"assistant": "done"},
        ]
        item = conversation(steps)
        assert first != second
        assert [(c.arguments, c.result, c.executed) for c in item.tool_calls] == [
            ({"n": 1}, "one", True),
            ({"n": 2}, "two", True),
        ]
        assert len({c.key for c in item.tool_calls}) == 2
        assert [m.tool_call_id for m in item.messages if m.role == "tool"] == [c.key for c in item.tool_calls]


def test_client_and_server_spans_of_one_call_are_one_call() -> None:
    item = trace(
        agent(),
        tool("get", {"n": 1}, "one", "c1", span_id="1" * 16, start=1, end=9),
        span("MCP send tools/call get", {"mcp.method.name": "tools/call"}, parent="1" * 16, span_id="2" * 16, start=2),
        span(
            "tools/call get",
            {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get"},
            parent="2" * 16,
            start=3,
        ),
    )
    assert [(c.key, c.name, c.result) for c in item.tool_calls] == [("c1", "get", "one")]


def test_a_server_whose_clock_is_behind_does_not_move_the_call_before_its_approval() -> None:
    item = trace(
        agent(),
        tool("send", {"n": 1}, "sent", "c1", span_id="1" * 16, start=30, end=50),
        span("MCP send", {"mcp.method.name": "tools/call"}, parent="1" * 16, span_id="2" * 16, start=31),
        tool("send", {"n": 1}, "sent", span_id="3" * 16, parent="2" * 16, start=10, end=12),
    )
    (call,) = item.tool_calls
    assert (call.start_ns, call.end_ns) == (
        item.spans[0].start_ns + 30 * STEP_NS,
        item.spans[0].start_ns + 50 * STEP_NS,
    )


def test_a_tool_inside_a_tool_that_is_an_agent_is_another_call() -> None:
    item = trace(
        agent(),
        tool("helper", {"task": "t"}, "done", "c1", span_id="1" * 16, start=1, end=9),
        agent("helper", span_id="2" * 16, parent="1" * 16, start=2, end=8),
        tool("get", {"n": 1}, "one", "c2", parent="2" * 16, start=3),
    )
    assert [c.name for c in item.tool_calls] == ["helper", "get"]


def test_waiting_and_running_span_of_one_call() -> None:
    """ADK: two spans with one id, the first of which only waited for confirmation."""
    waiting = {"error": "This tool call requires confirmation, please approve or reject."}
    item = trace(agent(), tool("pay", {"n": 1}, waiting, "c1", start=1), tool("pay", {"n": 1}, "paid", "c1", start=9))
    (call,) = item.tool_calls
    assert (call.executed, call.result) == (True, "paid")
    assert (call.start_ns - item.spans[0].start_ns) // STEP_NS == 9


EXECUTED = {
    "an empty result": ([{"tool": "t", "id": "c", "result": ""}], True),
    "an empty result in the messages": (
        [
            {"assistant": "", "calls": [{"id": "c", "name": "t"}]},
            {"tool": "t", "id": "c", "result": "", "span": False},
            {"assistant": "done"},
        ],
        True,
    ),
    "a result": ([{"tool": "t", "id": "c", "result": "r"}], True),
    "a span without result": ([{"tool": "t", "id": "c"}], None),
    "a span without result, but an answer in the messages": (
        [
            {"assistant": "", "calls": [{"id": "c", "name": "t"}]},
            {"tool": "t", "id": "c", "result": "r", "span": False},
            {"assistant": "done"},
        ],
        True,
    ),
    "only a request": ([{"assistant": "", "calls": [{"id": "c", "name": "t"}]}], None),
    "waits for approval in Pydantic AI": (
        [{"tool": "t", "id": "c", "attributes": {"pydantic_ai.tool.deferral.name": "ApprovalRequired"}}],
        False,
    ),
    "arguments failed validation in Pydantic AI": (
        [
            {
                "tool": "t",
                "id": "c",
                "result": "bad",
                "status": "Error",
                "attributes": {"pydantic_ai.tool.failure_stage": "validation"},
            }
        ],
        False,
    ),
    "rejected in ADK": (
        [{"tool": "t", "id": "c", "result": {"error": "This tool call is rejected."}, "status": "Error"}],
        False,
    ),
    "rejected in the OpenAI Agents SDK": (
        [{"tool": "t", "id": "c", "result": "Tool execution was not approved.", "status": "Error"}],
        False,
    ),
    "waits in ADK": (
        [
            {
                "tool": "t",
                "id": "c",
                "result": {"error": "This tool call requires confirmation, please approve or reject."},
            }
        ],
        False,
    ),
    "denied by an event": (
        [{"assistant": "", "calls": [{"id": "c", "name": "t"}]}, {"decision": "deny", "id": "c", "tool": "t"}],
        False,
    ),
    "denied by an event, and yet it ran": (
        [{"decision": "deny", "id": "c", "tool": "t"}, {"tool": "t", "id": "c", "result": "r"}],
        True,
    ),
    "others left spans, this one only a text": (
        [
            {"assistant": "", "calls": [{"id": "x", "name": "o", "arguments": {}}, {"id": "c", "name": "t"}]},
            {"tool": "o", "id": "x", "result": "r"},
            {"tool": "t", "id": "c", "result": "I did not feel like it", "span": False},
            {"assistant": "done"},
        ],
        None,
    ),
    "a long page that quotes a rejection is a result": (
        [{"tool": "t", "id": "c", "result": "The tool call was denied.\n" + "x" * 2000}],
        True,
    ),
    "failed with a message": (
        [{"tool": "t", "id": "c", "status": "Error", "attributes": {"gen_ai.tool.call.result": "Error: boom"}}],
        True,
    ),
    "failed, and nothing more is known": ([{"tool": "t", "id": "c", "status": "Error"}], None),
}


@pytest.mark.parametrize("name", EXECUTED)
def test_executed(name: str) -> None:
    steps, executed = EXECUTED[name]
    call = next(c for c in conversation(steps).tool_calls if c.name == "t")
    assert call.executed is executed


ARGUMENTS: dict[str, tuple[str, object, ContentState]] = {
    "object": ('{"n": 1}', {"n": 1}, ContentState.PRESENT),
    "encoded twice": ('"{\\"n\\": 1}"', {"n": 1}, ContentState.PRESENT),
    "bare text": ("/x", None, ContentState.PRESENT),
    "cut off": ('{"n": "aaa', None, ContentState.TRUNCATED),
    "masked": ("__REDACTED__", None, ContentState.REDACTED),
    "smolagents": (
        '{"args": [], "sanitize_inputs_outputs": false, "kwargs": {"n": 1}}',
        {"n": 1},
        ContentState.PRESENT,
    ),
    "Traceloop": (
        '{"input_str": "{\'n\': 1}", "inputs": {"n": 1}, "kwargs": {"tool_call_id": "c9"}}',
        {"n": 1},
        ContentState.PRESENT,
    ),
    "LangChain": ('{"name": "t", "args": {"n": 1}, "id": "c9", "type": "tool_call"}', {"n": 1}, ContentState.PRESENT),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    raw, value, state = ARGUMENTS[name]
    (call,) = trace(agent(), tool("t", raw, "r", start=1)).tool_calls
    assert (call.arguments, call.arguments_state) == (value, state)
    if '"c9"' in raw:
        assert call.call_id == "c9"


RESULTS = {
    "text": ("found", "found", ""),
    "object": ('{"a": 1}', '{"a": 1}', ""),
    "list": ('["a", "b"]', '["a", "b"]', ""),
    "ToolMessage": ('{"content": "found", "tool_call_id": "c9", "status": "success"}', "found", ""),
    "failed ToolMessage": ('{"content": "no", "tool_call_id": "c9", "status": "error"}', "no", "no"),
    "serialised": (
        '{"output": {"lc": 1, "kwargs": {"content": "found", "tool_call_id": "c9"}}, "kwargs": {}}',
        "found",
        "",
    ),
    "ADK": ('{"result": "found"}', "found", ""),
    "MCP": ('{"content": [{"type": "text", "text": "found"}], "isError": false}', "found", ""),
    "failed MCP": ('{"content": [{"type": "text", "text": "no"}], "isError": true}', "no", "no"),
    "repr": ("content='found' tool_call_id='c9'", "found", ""),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results(name: str) -> None:
    raw, text, error = RESULTS[name]
    (call,) = trace(agent(), tool("t", {"n": 1}, raw, start=1)).tool_calls
    assert (call.result, call.error) == (text, error)
    if "c9" in raw:
        assert call.call_id == "c9"


# --- approvals ------------------------------------------------------------------------------------------------------


def test_decision_with_everything() -> None:
    attributes = {
        "status": "modified",
        "mechanism": "human",
        "decider.type": "human",
        "decider.id": "ann",
        "scope": "session",
        "decided_at": "1700000000000000005",
        "expires_at": "2026-01-01T00:00:00",
        "args.approved_hash": "AB",
    }
    item = conversation([{"decision": "allow", "id": "c", "tool": "t", "attributes": attributes}])
    (approval,) = item.approvals
    assert approval.outcome == "modified"
    assert (approval.mechanism, approval.decider, approval.scope) == ("human", "ann", "session")
    assert (approval.time_ns, approval.expires_ns) == (1700000000000000005, 1767225600000000000)
    assert (approval.arguments_hash, approval.evidence) == ("ab", "explicit_event")


def test_decision_as_span_event_and_as_span_attribute() -> None:
    decision = {"gen_ai.tool.call.decision.outcome": "allow", "gen_ai.tool.call.id": "c", "gen_ai.tool.name": "t"}
    by_event = trace(agent(events=[("gen_ai.tool.call.decision", decision)]))
    by_attribute = trace(agent(), tool("t", {}, "r", "c", {"tracegrade.approval.status": "approved"}, start=1))
    assert [(a.outcome, a.call_id, a.evidence) for a in by_event.approvals] == [("allow", "c", "explicit_event")]
    assert [(a.outcome, a.call_id, a.evidence) for a in by_attribute.approvals] == [
        ("allow", "c", "explicit_attribute")
    ]


def test_claude_code_decision() -> None:
    attributes = {"decision": "reject", "source": "user_reject", "tool_name": "Bash", "tool_use_id": "c"}
    item = trace(agent(), logs=[LogEvent(5, "claude_code.tool_decision", TRACE_ID, "", attributes=attributes)])
    assert [(a.outcome, a.mechanism, a.call_id) for a in item.approvals] == [("deny", "human", "c")]
    assert [(c.name, c.executed) for c in item.tool_calls] == [("Bash", False)]


def test_agent_framework_approval_parts() -> None:
    request = {"type": "function_approval_request", "function_call": {"call_id": "c", "name": "pay"}, "id": "af"}
    response = {**request, "type": "function_approval_response", "approved": True}
    waits = trace(agent(attributes={"gen_ai.output.messages": [{"role": "assistant", "parts": [request]}]}))
    resumed = trace(agent(attributes={"gen_ai.input.messages": [{"role": "user", "parts": [response]}]}))
    assert [(a.outcome, a.call_id) for a in waits.approvals] == [("require_approval", "c")]
    assert [(a.outcome, a.mechanism, a.evidence) for a in resumed.approvals] == [
        ("allow", "human", "framework_structure")
    ]


def test_agent_framework_request_beside_a_call_the_model_span_has_shown() -> None:
    request = {"type": "function_approval_request", "function_call": {"call_id": "c1", "name": "search"}}
    both = {**ASKED, "parts": [*ASKED["parts"], request]}
    item = trace(agent(attributes={"gen_ai.output.messages": [both]}), model([USER], ASKED, start=1))
    assert [(a.outcome, a.call_id) for a in item.approvals] == [("require_approval", "c1")]
    assert len(item.tool_calls) == 1


@pytest.mark.parametrize("as_event", [True, False])
def test_strands_interrupt_is_a_question_and_no_answer(as_event: bool) -> None:
    text = "[{'id': 'v1:before_tool_call:c1:225d3982', 'name': 'approval', 'response': None}]"
    use = '[{"toolUse": {"toolUseId": "c1", "name": "rm", "input": {"path": "/x"}}}]'
    called = [("gen_ai.choice", {"finish_reason": "tool_use", "message": use})]
    chat = span("chat", {"gen_ai.operation.name": "chat"}, start=1, events=called)
    if as_event:
        outer = agent(events=[("gen_ai.choice", {"message": text, "finish_reason": "interrupt"})])
    else:
        waits = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": "interrupt"}
        outer = agent(attributes={"gen_ai.output.messages": [waits]})
    item = trace(outer, chat)
    assert [(c.name, c.arguments, c.executed) for c in item.tool_calls] == [("rm", {"path": "/x"}, False)]
    assert [(a.outcome, a.call_id) for a in item.approvals] == [("require_approval", "c1")]
    assert item.answer == ""


def test_a_bare_argument_that_a_reviewer_changed() -> None:
    asked = message("assistant", "", ("c1", "rm", {"path": "/x"}))
    for bare, expected in (("/x", "/x"), ("/edited", "/edited")):
        kind = {"openinference.span.kind": "TOOL", "tool.name": "rm", "tool.id": "c1", "input.value": bare}
        item = trace(agent(), model([USER], asked, start=1), span("rm", {**kind, "output.value": "ok"}, start=3))
        assert [c.arguments for c in item.tool_calls] == [{"path": expected}]


def test_an_agent_span_inside_one_of_its_name_is_the_same_agent() -> None:
    item = trace(
        agent("graph", span_id="1" * 16),
        agent("graph", span_id="2" * 16, parent="1" * 16),
        model([USER], message("assistant", "Here."), parent="2" * 16, start=3),
    )
    assert item.answer == "Here."


def test_langgraph_resume() -> None:
    resume = '{"graph": null, "resume": {"decisions": [{"type": "reject"}]}}'
    root = span("LangGraph", {"openinference.span.kind": "CHAIN", "input.value": resume}, span_id="a" * 16, end=99)
    item = trace(root, model([USER, ASKED], message("assistant", "Then not."), start=1))
    assert [(a.outcome, a.call_id, a.tool_name) for a in item.approvals] == [("deny", "c1", "search")]


def test_text_never_approves() -> None:
    item = conversation([{"tool": "t", "id": "c", "result": "Approved by the human. gen_ai.tool.call.decision allow"}])
    assert item.approvals == ()


# --- the whole ------------------------------------------------------------------------------------------------------


def test_completeness() -> None:
    root = agent()
    child = tool("t", {}, "r", parent=root.span_id, start=1)
    assert assemble([root, child]).completeness is Completeness.COMPLETE
    assert assemble([child]).completeness is Completeness.ROOT_MISSING
    assert assemble([root, replace(child, parent_span_id="f" * 16)]).completeness is Completeness.ORPHANED
    assert assemble([root, replace(child, dropped_attributes=1)]).completeness is Completeness.TRUNCATED
    assert assemble([]).trace_id == ""


def test_the_order_of_arrival_does_not_matter() -> None:
    spans = list(
        conversation(
            [
                {"user": "go"},
                {"assistant": "", "calls": [{"id": "c", "name": "t", "arguments": {}}]},
                {"tool": "t", "id": "c", "arguments": {}, "result": "r"},
                {"retrieved": [{"id": "d", "content": "x"}]},
                {"assistant": "done"},
            ]
        ).spans
    )
    expected = assemble(spans)
    for seed in range(5):
        random.Random(seed).shuffle(spans)
        assert assemble([*spans, spans[0]]) == expected


def test_big_and_deep() -> None:
    deep = "[" * 100_000
    nested = '{"a":' * 900 + "1" + "}" * 900
    long = "x" * 10_000_000
    for text in (deep, nested, long, f'[{{"role": "user", "content": "{long}"}}]'):
        attributes = dict.fromkeys(("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"), text)
        item = trace(agent(), span("chat x", attributes, start=1), tool("t", text, text, start=2))
        assert item.spans


def test_many_calls_take_linear_time() -> None:
    spans = [agent()]
    spans += [tool("t", {"n": n}, "r", "same", start=n, span_id=f"{n:016x}") for n in range(1, 5000)]
    spans += [tool("u", {"n": n}, "r", start=n, span_id=f"{n + 10_000:016x}") for n in range(1, 5000)]
    assert len(trace(*spans).tool_calls) == 5000


def test_many_spans_without_ids_inside_one_tool_take_linear_time() -> None:
    spans = [agent(), tool("t", {"n": 1}, "r", span_id="f" * 16, start=1, end=99_999)]
    spans += [tool("t", {"n": 1}, "r", start=n, span_id=f"{n:016x}", parent="f" * 16) for n in range(2, 8000)]
    assert len(trace(*spans).tool_calls) == 1


_KEYS = [
    "gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.tool.definitions", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.tool.call.id",
    "gen_ai.tool.name", "gen_ai.retrieval.documents", "input.value", "output.value", "llm.input_messages.0.message.role",
    "llm.input_messages.99999999.message.content", "llm.output_messages.1.message.tool_calls.0.tool_call.function.name",
    "llm.tools.0.tool.json_schema", "retrieval.documents.0.document.id", "gen_ai.prompt", "gen_ai.prompt.0.content",
    "pydantic_ai.all_messages", "tracegrade.approval.status", "tracegrade.approval.expires_at",
    "tracegrade.approval.decided_at", "gen_ai.tool.call.decision.outcome", "openinference.span.kind",
]  # fmt: skip
_WORDS = st.sampled_from(
    [
        "", "null", "[]", "{}", '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]', "allow", "deny", "execute_tool",
        '[{"role":"assistant","parts":[{"type":"tool_call","id":"c","name":"t","arguments":{"a":1}}]}]', "chat", "t", "c",
        '[{"role":"tool","parts":[{"type":"tool_call_response","id":"c","response":{"x":[1]}}]}]', "LLM", "TOOL",
        '[[{"role":5,"content":[{"type":["x"]},7,null]}],3]', '{"messages":[{"role":"ai","tool_calls":[{"function":null}]}]}',
        '{"resume":{"decisions":[{"type":"approve"},{"type":{}}]}}', '[{"name":3},{"function":{"name":"t","parameters":[]}}]',
        '{"content":[{"type":"text","text":4}],"isError":true}', '{"result":{"result":{"result":1}}}', "9" * 30, "-1",
        "0001-01-01T00:00:00+23:59", "9999-12-31", '{"documents":[{"metadata":"[","score":"nan"}]}', "\ud800", "[" * 3000,
    ]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "parts", "type", "content", "tool_calls", "id", "name", "arguments", "message", "kwargs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_VALUES = _WORDS | st.text(max_size=20) | _JSON.map(json.dumps)
_ATTRIBUTES = st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=8), _VALUES, max_size=6)
_IDS = st.sampled_from(["", "a", "b", "c", "d"])
_TIMES = st.integers(-(2**70), 2**70) | st.integers(0, 9)
_SPANS = st.builds(
    Span,
    trace_id=_IDS,
    span_id=_IDS,
    parent_span_id=_IDS,
    name=st.sampled_from(["", "x", "handoff to y"]),
    kind=st.sampled_from(SpanKind),
    start_ns=_TIMES,
    end_ns=_TIMES,
    status=st.sampled_from(["Unset", "Ok", "Error", ""]),
    attributes=_ATTRIBUTES,
    events=st.lists(
        st.builds(
            SpanEvent,
            st.sampled_from(
                ["gen_ai.choice", "gen_ai.tool.message", "gen_ai.user.message", "tool_decision", "tool.output"]
            ),
            _TIMES,
            _ATTRIBUTES,
        ),
        max_size=2,
    ).map(tuple),
    tool_name=st.sampled_from(["", "t", "final_answer", "final_result"]),
    tool_call_id=_IDS,
    dropped_attributes=st.integers(0, 1),
)
_LOGS = st.builds(
    LogEvent,
    _TIMES,
    st.sampled_from(["", "gen_ai.tool.call.decision", "gen_ai.choice"]),
    _IDS,
    _IDS,
    _VALUES,
    _ATTRIBUTES,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(_SPANS, max_size=8), st.lists(_LOGS, max_size=3))
def test_nothing_raises_and_what_comes_out_hangs_together(spans: list[Span], logs: list[LogEvent]) -> None:
    item = assemble(spans, logs)
    ids = {s.span_id for s in spans}
    assert {s.span_id for s in item.spans} == ids
    keys = [c.key for c in item.tool_calls]
    assert len(set(keys)) == len(keys)
    assert [c.index for c in item.tool_calls] == list(range(len(keys)))
    for call in item.tool_calls:
        assert call.anchor == "" or call.anchor in ids
        if call.message_index is not None:
            assert call.key in item.messages[call.message_index].tool_call_ids
    assert {m.span_id for m in item.messages} <= ids
    assert all(m.role in ("system", "user", "assistant", "tool") for m in item.messages)


@pytest.mark.parametrize("request_only", [True, False])
def test_the_answer_is_the_outermost_agents_although_one_inside_gave_its_own_first(request_only: bool) -> None:
    def final(text: str, at: int, parent: str) -> list[Span]:
        arguments = {"answer": text}
        said = message("assistant", "", (f"f{at}", "final_answer", arguments))
        asked = model([message("user", "q")], said, span_id=f"{at:016x}", start=at, end=at + 1, parent=parent)
        ran = tool("final_answer", arguments, text, f"f{at}", start=at + 1, end=at + 2, parent=parent)
        return [asked] if request_only else [asked, ran]

    inner = agent("helper", span_id="2" * 16, parent="1" * 16, start=2, end=10)
    outer = agent("manager", span_id="1" * 16, end=30)
    found = trace(outer, inner, *final("a report", 4, "2" * 16), *final("the answer", 20, "1" * 16))
    assert (found.answer, found.answer_span_id) == ("the answer", f"{20:016x}")
