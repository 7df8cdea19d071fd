"""A run that waits is resumed in another trace: what one trace of a conversation holds, the graders of the others see."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from graders import Grader, GraderSets, Score, Trace, passed
from graders import batch as batch_module
from graders.assembler import assemble
from graders.testing import conversation
from graders.worker import Worker
from store import client as client_module
from store.client import Store
from store.types import LogEvent, Span

Send = Callable[..., None]
MINUTE = 60_000_000_000


class Sees(Grader, name="test/sees", version="1"):
    """Says what it was given of other traces."""

    def grade(self, trace: Trace) -> Score:
        decided = [f"{a.trace_id[-1:]}:{a.call_id or a.tool_name}:{a.outcome}" for a in trace.related.approvals]
        called = [f"{c.key}:{c.executed}:{c.arguments_text}" for c in trace.related.tool_calls]
        return passed(" ".join([*decided, *called]))


def ask(call: str = "c1", tool: str = "pay", *, decided: str = "require_approval") -> list[dict[str, Any]]:
    """A run that stops because a call waits for a decision."""
    arguments = {"amount": 5}
    return [
        {"user": "Pay"},
        {"assistant": "", "calls": [{"id": call, "name": tool, "arguments": arguments}]},
        {"decision": decided, "id": call, "tool": tool},
    ]


def resumed(call: str = "c1", tool: str = "pay") -> list[dict[str, Any]]:
    """The run after it: the decision, and the call."""
    return [
        {"decision": "allow", "id": call, "tool": tool},
        {"tool": tool, "id": call, "arguments": {"amount": 5}, "result": "paid"},
    ]


def run(
    number: int, steps: Sequence[dict[str, Any]], conversation_id: str = "conv", minute: int | None = None
) -> tuple[list[Span], list[LogEvent]]:
    """Spans and log events of one trace of a conversation."""
    made, trace_id = conversation(steps), f"{number:032x}"
    later = MINUTE * (number if minute is None else minute)
    spans = []
    for span in made.spans:
        attributes = {**span.attributes, **({"gen_ai.conversation.id": conversation_id} if conversation_id else {})}
        times = {"start_ns": span.start_ns + later, "end_ns": span.end_ns + later}
        spans.append(replace(span, trace_id=trace_id, attributes=attributes, **times))
    return spans, [replace(e, trace_id=trace_id, time_ns=e.time_ns + later) for e in made.logs]


@pytest.fixture
def subject(store: Store) -> Worker:
    return Worker(store, GraderSets([Sees()]), grace_ms=0, idle_ms=600_000)


def settle(worker: Worker) -> int:
    """Grade until nothing is left; says how often a trace was graded."""
    total = 0
    while done := worker.run_once():
        total += done
        assert total < 50, "it never ends"
    return total


def seen(store: Store) -> dict[str, tuple[int, str]]:
    """Trace → (generation, what it saw)."""
    rows = store.query("SELECT TraceId, Generation, Reason FROM grades_v WHERE Grader = 'test/sees'")
    return {row["TraceId"][-1]: (row["Generation"], row["Reason"]) for row in rows}


ASKED = "1:c1:require_approval"
WAITING = 'c1:False:{"amount":5}'
RESUMED = '2:c1:allow c1:True:{"amount":5}'


def test_a_batch_sees_its_own_traces(store: Store, send: Send, subject: Worker) -> None:
    for number, steps in ((1, ask()), (2, resumed())):
        send(f"s{number}", *run(number, steps))
    assert settle(subject) == 2
    assert seen(store)["1"] == (1, RESUMED)
    assert seen(store)["2"][1].startswith(ASKED)


def test_a_decision_made_elsewhere_reopens_what_it_is_about_once(store: Store, send: Send, subject: Worker) -> None:
    send("s1", *run(1, ask()))
    assert settle(subject) == 1
    assert seen(store) == {"1": (1, "")}
    time.sleep(0.01)
    send("s2", *run(2, resumed()))
    assert settle(subject) == 2, "the new trace, and the one that waited"
    assert seen(store)["1"] == (2, RESUMED)
    assert seen(store)["2"][1].startswith(ASKED)
    assert store.query("SELECT count() AS n FROM approvals_v") == [{"n": 2}]
    (row,) = store.query("SELECT * EXCEPT WrittenAt FROM approvals_v WHERE Outcome = 'allow'")
    assert (row["ConversationId"], row["CallId"], row["ToolName"], row["Scope"]) == ("conv", "c1", "pay", "once")
    assert row["Expires"] is None
    assert settle(subject) == 0


def test_what_arrives_out_of_order_comes_to_the_same(store: Store, send: Send, subject: Worker) -> None:
    send("s2", *run(2, resumed()))
    settle(subject)
    time.sleep(0.01)
    send("s1", *run(1, ask()))
    assert settle(subject) == 2
    assert seen(store)["2"][0] == 2
    assert seen(store)["2"][1].startswith(ASKED)
    assert seen(store)["1"] == (1, RESUMED)


def test_late_events_with_nothing_new_reopen_nobody_else(store: Store, send: Send, subject: Worker) -> None:
    send("s1", *run(1, ask()))
    settle(subject)
    time.sleep(0.01)
    send("s2", *run(2, resumed()))
    settle(subject)
    time.sleep(0.01)
    spans, _ = run(2, resumed())
    send("s3", [replace(spans[-1], span_id="f" * 16, name="later", attributes={})])
    assert settle(subject) == 1


def test_a_conversation_that_goes_on_is_not_graded_again_with_each_turn(
    store: Store, send: Send, subject: Worker
) -> None:
    """Each turn repeats what was said before, calls and decisions included, and makes an approved call of its own."""
    graded, steps = 0, []
    for number in range(1, 7):
        call = f"c{number}"
        steps += [
            *ask(call, decided="allow"),
            {"tool": "pay", "id": call, "arguments": {"amount": 5}, "result": "paid"},
        ]
        steps += [{"assistant": "Paid."}]
        send(f"s{number}", *run(number, steps))
        graded += settle(subject)
        time.sleep(0.01)
    assert graded == 6


def test_an_earlier_grant_for_the_tool_reopens_and_a_later_one_does_not(
    store: Store, send: Send, subject: Worker
) -> None:
    standing = [{"user": "go"}, {"decision": "allow", "tool": "pay", "attributes": {"scope": "session"}}]
    send("s1", *run(1, resumed(), minute=10))
    settle(subject)
    time.sleep(0.01)
    send("s2", *run(2, standing, minute=20))
    assert settle(subject) == 1
    time.sleep(0.01)
    send("s3", *run(3, standing, minute=5))
    assert settle(subject) == 2
    assert "3:pay:allow" in seen(store)["1"][1]


@pytest.mark.parametrize("other", ["", "another"])
def test_other_conversations_are_none_of_its_business(store: Store, send: Send, subject: Worker, other: str) -> None:
    send("s1", *run(1, ask(), conversation_id=other))
    send("s2", *run(2, resumed()))
    assert settle(subject) == 2
    assert {text for _, text in seen(store).values()} == {""}


def test_traces_without_a_conversation_cost_no_look(store: Store, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    send("s1", *run(1, ask(), conversation_id=""))
    asked: list[str] = []
    query = store.raw

    monkeypatch.setattr(client_module, "_sql", lambda name, real=client_module._sql: asked.append(name) or real(name))
    assert Worker(store, GraderSets([Sees()]), grace_ms=0, idle_ms=0).run_once() == 1
    assert query is not None
    assert not {"conversations", "related_calls", "related_approvals"} & set(asked)


def test_a_huge_conversation_is_cut_to_what_is_near(
    store: Store, send: Send, subject: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_SIBLINGS", 3)
    monkeypatch.setattr(batch_module, "MAX_RELATED", 2)
    for number in range(1, 6):
        send(f"s{number}", *run(number, ask(f"c{number}")))
        settle(subject)
        time.sleep(0.01)
    assert seen(store)["5"][1].count("require_approval") == 2
    assert "4:c4" in seen(store)["5"][1]


def test_an_id_that_too_many_share_is_no_conversation(
    store: Store, send: Send, subject: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_CONVERSATION", 2)
    looked_up: list[list[str]] = []
    real = Store.siblings
    monkeypatch.setattr(Store, "siblings", lambda self, ids: looked_up.append(list(ids)) or real(self, ids))
    for number in range(1, 6):
        send(f"s{number}", *run(number, ask(f"c{number}")))
        settle(subject)
        time.sleep(0.01)
    assert [bool(text) for _, (_, text) in sorted(seen(store).items())] == [False, True, True, False, False]
    assert looked_up == [["conv"]] * 4 + [[]], "once it is known to be too large, it is not looked up again"


def test_long_texts_of_other_traces_come_cut(
    store: Store, send: Send, subject: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_RELATED_TEXT", 5)
    send("s1", *run(1, ask()))
    settle(subject)
    time.sleep(0.01)
    send("s2", *run(2, resumed()))
    settle(subject)
    assert 'c1:False:{"amo' in seen(store)["2"][1]
    assert '{"amount"' not in seen(store)["2"][1]


def decided(**attributes: str) -> LogEvent:
    return LogEvent(MINUTE, "claude_code.tool_decision", "", "", attributes={"tool_name": "pay", **attributes})


@pytest.mark.parametrize("key", ["session.id", "gen_ai.conversation.id", "conversation.id"])
def test_a_decision_logged_without_a_trace_joins_by_its_conversation(
    store: Store, send: Send, subject: Worker, key: str
) -> None:
    more = {"tool_use_id": "c1", "decision": "accept", "source": "user_temporary"}
    send("s1", *run(1, ask()))
    send("s2", logs=[decided(**{key: "conv"}, **more), decided(**{key: "other"}, **more), decided(**more)])
    send("s3", logs=[decided(**{key: "conv"}, note="no decision")])
    assert store.query("SELECT count() AS n FROM agent_events WHERE startsWith(TraceId, 'conversation ')") == [{"n": 2}]
    assert settle(subject) == 1
    assert store.query("SELECT TraceId FROM traces_v") == [{"TraceId": f"{1:032x}"}]
    assert seen(store) == {"1": (1, ":c1:allow")}


OURS = {"service.name": "shop", "tracegrade.tenant": "us", "tracegrade.arm": "production", "tracegrade.run.id": "r1"}
RANDOM = "call_9fKq2LmZx7RtVb4NcY81TpQw"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("call", "theirs", "counts"),
    [
        ("c1", OURS, True),
        ("c1", {"tracegrade.tenant": "them"}, False),
        (RANDOM, {"tracegrade.tenant": "them"}, False),
        ("c1", {"tracegrade.tenant": ""}, False),
        ("c1", {"tracegrade.arm": "shadow"}, False),
        ("c1", {"tracegrade.run.id": "r2"}, False),
        ("c1", {"tracegrade.run.id": ""}, True),
        ("c1", {"service.name": "approvals"}, False),
        ("call_pay_00000000000000000001", {"service.name": "approvals"}, False),
        (RANDOM, {"service.name": "approvals"}, True),
    ],
)
def test_what_a_stranger_decides_under_the_same_conversation_counts_for_nobody(
    store: Store, send: Send, subject: Worker, call: str, theirs: dict[str, str], counts: bool, together: bool
) -> None:
    send("s1", *run(1, ask(call)), resource=OURS)
    assert together or settle(subject) == 1
    send("s2", *run(2, resumed(call)), resource={**OURS, **theirs})
    settle(subject)
    assert (f"2:{call}:allow" in seen(store)["1"][1]) is counts
    assert (f"{call}:True" in seen(store)["1"][1]) is counts
    assert (f"1:{call}:require_approval" in seen(store)["2"][1]) is counts


@pytest.mark.parametrize(
    ("theirs", "counts"),
    [
        (OURS, True),
        ({"tracegrade.tenant": "them"}, False),
        ({"tracegrade.arm": "shadow"}, False),
        ({"service.name": "else"}, False),
    ],
)
def test_a_stranger_s_decision_without_a_trace_counts_for_nobody(
    store: Store, send: Send, subject: Worker, theirs: dict[str, str], counts: bool
) -> None:
    claimed = {"tracegrade.tenant": "us", "tracegrade.arm": "production", "service.name": "shop"}
    more = {"session.id": "conv", "tool_use_id": "c1", "decision": "accept", "source": "user_temporary"}
    send("s1", *run(1, ask()), resource=OURS)
    send("s2", logs=[decided(**more, **claimed)], resource={**OURS, **theirs})
    assert settle(subject) == 1
    assert seen(store) == {"1": (1, ":c1:allow" if counts else "")}


def test_a_crowd_of_traces_that_claim_one_conversation_is_joined_in_a_moment() -> None:
    _, told = run(1, [{"decision": "allow", "id": f"c{number}", "tool": "pay"} for number in range(100)])
    steps = ({"user": "Pay"}, {"tool": "pay", "id": "c", "arguments": {"amount": 5}, "result": "paid"})
    traces = {}
    for number in range(1, 301):
        spans, logs = run(number, steps)
        service = f"s{number % 3}"
        made = assemble(
            [replace(s, service=service, conversation_id="conv") for s in spans], told if number < 100 else logs
        )
        traces[f"{number:032x}"] = replace(made, trace_id=f"{number:032x}", conversation_id="conv")
    others = batch_module._Others(batch_module.Batch((), b"", b""), traces)
    started = time.process_time()
    found = [others.with_related(trace) for trace in traces.values()]
    assert time.process_time() - started < 3
    assert max(len(trace.related.approvals) for trace in found) == batch_module.MAX_RELATED
