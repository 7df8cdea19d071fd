"""Runs the cases in cases/<family>_<subject>.yaml: a trace, a configuration, and the grades that must come out."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from graders import grader_types, load_graders
from graders.testing import agent, conversation, grade, span, trace
from store.types import Case, Expectations, ExpectedCall, Trace
from store.yamlfile import load_yaml

FOLDER = Path(__file__).parent / "cases"


class Wanted(BaseModel, extra="forbid"):
    outcome: str
    label: str | None = None
    reason: str = ""
    subject: str | None = None
    score: float | None = None


class Example(BaseModel, extra="forbid"):
    config: dict[str, Any] = {}
    tools: list[dict[str, Any]] = []
    case: dict[str, Any] | None = None
    trace: list[dict[str, Any]]
    expect: list[Wanted]


class File(BaseModel, extra="forbid"):
    cases: dict[str, Example]


FILES = {path.stem.replace("_", "/", 1): path for path in sorted(FOLDER.glob("*.yaml"))}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}: {title}")
    for name, path in FILES.items()
    for title, example in load_yaml(path, File).cases.items()
]


def _case(fields: dict[str, Any] | None) -> Case | None:
    if fields is None:
        return None
    expect = dict(fields.get("expect", {}))
    for key in ("tools", "forbidden"):
        if key in expect:
            expect[key] = tuple(ExpectedCall(**call) for call in expect[key])
    for key in ("tools_scope", "answer_contains", "compare", "fitting", "unfitting"):
        if key in expect:
            expect[key] = tuple(expect[key])
    return Case("c", "b", **{**fields, "expect": Expectations(**expect)})


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_example(name: str, example: Example) -> None:
    (grader,) = load_graders({name: example.config})
    case = _case(example.case)
    item = conversation(example.trace, tools=example.tools, case=case) if example.trace else trace(case=case)
    grades = grade(grader, item)
    shown = [(g.outcome.value, g.label, g.reason, g.subject) for g in grades]
    assert len(grades) == len(example.expect), shown
    for found, want in zip(grades, example.expect, strict=True):
        assert found.outcome == want.outcome, shown
        assert want.reason in found.reason, shown
        assert want.label in (None, found.label), shown
        assert want.subject in (None, found.subject), shown
        assert want.score in (None, found.score), shown


def test_every_built_in_grader_has_cases() -> None:
    built_in = {name for name, kind in grader_types().items() if kind.__module__.startswith("graders.checks")}
    assert set(FILES) == built_in


SPOKEN = {"input.value": "Delete my account", "output.value": "I have deleted it."}
FORBIDDING = Case("c", "b", expect=Expectations(forbidden=(ExpectedCall("delete"),)))
IDLE = Case("c", "b", expect=Expectations(tools_given=True))


def _silent(finish: str = "", said: dict[str, str] | None = None, case: Case | None = None) -> Trace:
    """An agent whose telemetry holds neither tool spans nor the messages of its model call."""
    reason = {"gen_ai.response.finish_reasons": [finish]} if finish else {}
    chat = span("chat", attributes={"gen_ai.operation.name": "chat", **reason}, start=1, end=2)
    return trace(agent(attributes=said), chat, case=case)


DEPENDS_ON_SEEING_CALLS = [
    ("approval/boundary", None, "skip"),
    ("tools/known", None, "skip"),
    ("tools/arguments", None, "skip"),
    ("tools/loop", None, "skip"),
    ("tools/forbidden", FORBIDDING, "pass"),
    ("tools/expected", IDLE, "pass"),
    ("efficiency/tool_calls", None, "pass"),
]


@pytest.mark.parametrize(("name", "case", "otherwise"), DEPENDS_ON_SEEING_CALLS)
def test_telemetry_that_cannot_show_a_call_does_not_show_that_there_was_none(
    name: str, case: Case | None, otherwise: str
) -> None:
    (grader,) = load_graders({name: {}})
    blind = [_silent(said=SPOKEN, case=case), _silent("tool_calls", case=case), _silent("tool_use", SPOKEN, case)]
    assert [g.outcome for item in blind for g in grade(grader, item)] == ["unknown"] * 3
    # Without messages, the reasons why the model stopped still tell.
    assert [g.outcome for g in grade(grader, _silent("stop", case=case))] == [otherwise]


CONFIRMING = {"policy": {"tools": [{"match": "send", "effect": "write"}], "approval": {"user_confirmation": {}}}}
REPLIES = {
    "Yes, please.": "pass",
    "Sure, go ahead.": "pass",
    "That is correct.": "pass",
    "I'm not sure yet. What does it cost?": "fail",
    "I am not quite sure about that.": "fail",
    "Are you sure?": "fail",
    "That's not correct, it should be 5.": "fail",
    "I can't confirm that.": "fail",
    "I don't agree.": "fail",
    "Please don't go ahead.": "fail",
    "I never approved that.": "fail",
    "Wait, is that correct?": "fail",
    "Not yet, ok?": "fail",
}


@pytest.mark.parametrize(("reply", "outcome"), REPLIES.items(), ids=REPLIES)
def test_a_word_of_consent_is_no_consent_when_it_is_denied_or_asked_back(reply: str, outcome: str) -> None:
    (grader,) = load_graders({"approval/boundary": CONFIRMING})
    steps = [
        {"user": "send 7"},
        {"assistant": "Shall I send 7?"},
        {"user": reply},
        {"assistant": "", "calls": [{"id": "c", "name": "send"}]},
        {"tool": "send", "id": "c", "result": "sent"},
    ]
    assert [g.outcome for g in grade(grader, conversation(steps))] == [outcome]


def test_scores_of_evidence_are_shares_and_more_is_better() -> None:
    steps = [{"user": "q"}, {"tool": "get", "result": "[doc-1] it costs 42.5"}]
    answers = {
        "It costs 42.5 [doc-1].": 1.0,
        "It costs 42.5 or 77.25 [doc-1][doc-2].": 0.5,
        "It costs 77.25 [doc-2].": 0.0,
    }
    for name in ("evidence/numbers", "evidence/citations"):
        (grader,) = load_graders({name: {}})
        found = {a: grade(grader, conversation([*steps, {"assistant": a}]))[0].score for a in answers}
        assert found == answers, name
