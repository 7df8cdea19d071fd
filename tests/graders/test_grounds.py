"""Traces made to keep the graders of calls and grounds busy, or to mislead them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import load_graders
from graders.testing import agent, check_grader, conversation, grade, message, model, span, tool, trace
from store.types import Case, Expectations, Related, SpanKind, ToolCall, Trace

NAMES = [
    *("tools/known", "tools/expected", "tools/forbidden", "tools/intent", "tools/loop", "tools/error_handling"),
    *(
        "tools/needless",
        "tools/budget",
        "evidence/answered_without_evidence",
        "evidence/claimed_action",
        "evidence/late",
    ),
]
CASE = Case("c", "b", expect=Expectations(fitting=("get_*",), unfitting=("*",), compare=("unordered", "dates")))
BUDGETS = {"policy": {"budgets": {"tool_calls": 1, "calls": {"*": 1}, "errors": 0, "seconds": 1, "input_tokens": 1}}}


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    steps: list[dict[str, Any]] = [
        {"user": "Cancel it"},
        {"assistant": "", "calls": [{"id": "c", "name": "cancel_order", "arguments": {"n": 1}}]},
        {"tool": "cancel_order", "id": "c", "arguments": {"n": 1}, "result": "Error: no"},
        {"assistant": "I have cancelled order 4711."},
    ]
    (grader,) = load_graders({name: BUDGETS if name == "tools/budget" else {}})
    check_grader(grader, conversation(steps), conversation(steps, case=CASE), conversation(steps[:3]))


PIECES = st.sampled_from(
    [
        "Error: x",
        "[]",
        "",
        "No results found",
        "I have sent the mail 4711.",
        "final_answer(7)",
        "é" * 50,
        "2024-05-01",
        "?",
    ]
)
STEPS = st.one_of(
    st.builds(lambda t: {"user": t}, PIECES),
    st.builds(lambda t: {"assistant": t}, PIECES),
    st.builds(lambda t, n: {"assistant": t, "calls": [{"id": "x", "name": n}]}, PIECES, st.sampled_from(["a", "send", ""])),
    st.builds(
        lambda n, r, s, m: {"tool": n, "result": r, "span": s, "message": m, "arguments": {"q": r}},
        st.sampled_from(["a", "send", "get_x", ""]), PIECES, st.booleans(), st.booleans(),
    ),
    st.just({"retrieved": [{"id": "d", "content": ""}]}),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12), st.booleans())
def test_any_conversation_is_graded(steps: list[dict[str, Any]], cased: bool) -> None:
    item = conversation(steps, case=CASE if cased else None)
    for name in NAMES:
        (grader,) = load_graders({name: BUDGETS if name == "tools/budget" else {}})
        assert grade(grader, item)


def _many_failures(count: int) -> Trace:
    calls = [
        tool(
            "send_mail",
            {"n": i},
            "Error: full",
            f"c{i}",
            span_id=f"{i + 16:016x}",
            start=i + 1,
            end=i + 2,
            status="Error",
        )
        for i in range(count)
    ]
    return trace(agent(end=count + 5), *calls)


def _many_programs(count: int) -> Trace:
    said = [message("user", "q")]
    spans = [agent(end=10 * count)]
    for i in range(count):
        said.append(message("assistant", f"Code:\n```py\nfinal_answer(x{i})\n```"))
        said.append(message("tool", f"Observation: {i} " + "word " * 200, answers=" "))
    spans.append(model(said, message("assistant", "final_answer(1)"), span_id="b" * 16, start=1))
    return trace(*spans)


BUSY = {
    "failures": _many_failures(5_000),
    "programs": _many_programs(2_000),
    "offers": trace(
        agent(),
        *(
            model(
                [message("user", "q")],
                message("assistant", "", (f"c{i}", "t", {})),
                {"gen_ai.tool.definitions": [{"name": f"t{i}{j}"} for j in range(20)]},
                span_id=f"{i + 16:016x}",
                start=i,
            )
            for i in range(300)
        ),
    ),
    "results": trace(
        agent(end=3_000),
        *(
            tool(
                "get", {"q": i}, "a" * (19_000 - i) + f"{i}", f"c{i}", span_id=f"{i + 16:016x}", start=i + 1, end=i + 2
            )
            for i in range(1_000)
        ),
    ),
    "claims": conversation([{"tool": "get", "result": "x"}, {"assistant": "I have sent the mail. " * 20_000}]),
    "numbers": conversation(
        [{"user": "q"}, {"assistant": " ".join(map(str, range(10**6, 10**6 + 20_000)))}]
        + [{"tool": "log", "id": f"c{i}", "result": "z" * 20_000, "message": False} for i in range(100)]
    ),
}


@pytest.mark.parametrize("shape", BUSY)
def test_no_trace_keeps_the_graders_busy(shape: str) -> None:
    item = BUSY[shape]
    for name in NAMES:
        (grader,) = load_graders({name: BUDGETS if name == "tools/budget" else {}})
        started = time.process_time()
        grade(grader, item)
        assert time.process_time() - started < 2, name


def _claimed(item: Trace) -> str:
    (grader,) = load_graders({"evidence/claimed_action": {}})
    return grade(grader, item)[0].outcome


def test_what_another_trace_of_the_conversation_did_bears_out_a_claim() -> None:
    item = conversation([{"tool": "get_order", "result": "x"}, {"assistant": "I have cancelled the order."}])
    call = ToolCall("k", "cancel_order", 0, item.spans[0].start_ns - 2, item.spans[0].start_ns - 1, executed=True)
    assert _claimed(item) == "fail"
    assert _claimed(replace(item, related=Related(tool_calls=(call,)))) == "pass"
    assert _claimed(replace(item, related=Related(tool_calls=(replace(call, error="no"),)))) == "fail"


def test_what_the_agent_was_told_it_said_is_no_claim_of_this_trace() -> None:
    """History of turns whose calls stand in other traces."""
    said = [message("user", "a"), message("assistant", "I have sent the mail."), message("user", "b")]
    offered = {"gen_ai.tool.definitions": [{"name": "send_mail"}]}
    item = trace(agent(), model(said, message("assistant", "You are welcome."), offered, span_id="b" * 16, start=1))
    assert _claimed(item) == "skip"


def test_a_retrieval_whose_documents_were_not_captured_may_have_found_something() -> None:
    (grader,) = load_graders({"evidence/answered_without_evidence": {}})
    offered = {"gen_ai.tool.definitions": [{"name": "search"}]}
    answer = model(
        [message("user", "How high?")], message("assistant", "8849 metres."), offered, span_id="b" * 16, start=5
    )
    blind = span("retrieval docs", {"gen_ai.operation.name": "retrieval"}, span_id="c" * 16, start=1)
    assert blind.kind is SpanKind.RETRIEVAL
    assert grade(grader, trace(agent(), answer))[0].label == "nothing_looked_up"
    assert [g.outcome for g in grade(grader, trace(agent(), blind, answer))] == ["unknown"]
    failed = replace(blind, status="Error")
    assert grade(grader, trace(agent(), failed, answer))[0].outcome == "fail"


def test_a_result_from_a_machine_with_another_clock_is_not_late() -> None:
    (grader,) = load_graders({"evidence/late": {}})
    asked = model(
        [message("user", "Which?")], message("assistant", "It is 4711."), span_id="b" * 16, start=1, service="a"
    )
    late = tool("get", {}, "number 4711", span_id="c" * 16, start=50)
    assert grade(grader, trace(agent(service="a"), asked, replace(late, service="a")))[0].outcome == "fail"
    assert grade(grader, trace(agent(service="a"), asked, replace(late, service="b")))[0].outcome == "skip"
