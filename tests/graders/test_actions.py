"""What texts do, language by language, in sentences made up for it; and that no text can make the reading slow or break it."""

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from graders.checks.action import words
from graders.checks.action.move import Move, last_move
from graders.testing import agent, conversation, message, model, span, tool, trace

FOLDER = Path(__file__).parent / "actions"
SENTENCES = {name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8")) for name in words.LANGUAGES}
EXAMPLES = [
    pytest.param(name, action, text, id=f"{name} {action} {number}")
    for name, actions in SENTENCES.items()
    for action, texts in actions.items()
    for number, text in enumerate(texts)
]


@pytest.mark.parametrize(("name", "action", "text"), EXAMPLES)
def test_a_text_is_read_in_its_language_as_what_it_does(name: str, action: str, text: str) -> None:
    reading = words.read(text)
    assert reading is not None
    assert (reading.language, reading.action) == (name, action), reading


def test_every_language_has_examples_of_every_class() -> None:
    classes = {"answer", "abstain", "clarify", "refuse", "escalate"}
    assert {name: set(actions) for name, actions in SENTENCES.items()} == dict.fromkeys(words.LANGUAGES, classes)


BAD = {
    "nothing": "",
    "blank": " \n\t ",
    "signs": "?!." * 5000,
    "one long word": "a" * 100_000,
    "one long sentence": "could you please " * 20_000,
    "opened thoughts": "<think>" * 20_000,
    "thoughts": "<think></think>" * 20_000,
    "fences": "```" * 20_000,
    "lines": "\n" * 100_000,
    "spaces in a question": "you" + " " * 50_000 + "?",
    "letters that grow in lower case": "İ" * 10_000 + " I can't help with that.",
    "half characters": "\ud800 I can't help with that.",
    "no's": "no " * 30_000 + "found",
    "do not have": "i do not have " * 10_000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_no_text_breaks_the_reading_or_makes_it_slow(text: str) -> None:
    begun = time.thread_time()
    words.read(text)
    assert time.thread_time() - begun < 0.5


def test_random_text_is_read_and_its_hits_lie_in_it() -> None:
    dice = random.Random(7)
    bits = [text for actions in SENTENCES.values() for texts in actions.values() for text in texts]
    bits += ["\n\n- ", "```", "<thinking>", "</thinking>", "İ", "\u200b", "🙂", "? ", "“", "1. ", "…", "**"]
    for _ in range(300):
        text = "".join(dice.choices(bits, k=dice.randint(1, 40)))
        reading = words.read(text)
        assert reading is not None
        for hit in reading.hits:
            assert 0 <= hit.start < hit.end <= len(text)


def test_the_evidence_quotes_the_answer_where_it_says() -> None:
    said = "Well.  I’m sorry, but I can’t help with that."
    move = last_move(conversation([{"user": "q"}, {"assistant": said}]))
    assert isinstance(move, Move)
    assert move.action == "refuse"
    (evidence,) = move.evidence
    assert evidence.where == "answer"
    assert evidence.text == said[evidence.start : evidence.end] == "can’t help"


def test_what_was_said_before_a_courtesy_is_quoted_from_its_message() -> None:
    said = "I could not find your parcel."
    steps = [{"user": "Where is it?"}, {"assistant": said}, {"user": "ok"}, {"assistant": "You're welcome!"}]
    trace = conversation(steps)
    move = last_move(trace)
    assert isinstance(move, Move)
    assert move.action == "abstain"
    index = int(move.evidence[0].where.removeprefix("messages[").removesuffix("]"))
    assert trace.messages[index].text == said


def test_a_language_without_rules_is_not_read() -> None:
    assert words.read("Я не нашёл этой записи, извините.") is None
    assert words.read("لم أجد هذا السجل") is None


@pytest.mark.parametrize("name", words.LANGUAGES)
def test_every_rule_compiles_and_names_what_it_needs(name: str) -> None:
    given = words.language(name)
    assert given.language == name
    for kind, rules in given.rules.items():
        for rule_name, rule in rules.items():
            assert rule.needs, (kind, rule_name)
            assert rule.match, (kind, rule_name)
            assert not rule.also or rule.also in given.groups
            for need in rule.needs:
                assert need == need.lower()


ASKED = [message("user", "What is on my bill?")]


def _guarded(triggered: str, said: str) -> Move | str:
    """A run whose guardrail came after the model had asked for a call."""
    called = message("assistant", "", ("c1", "get_bill", {}))
    guard = {"openinference.span.kind": "GUARDRAIL", "gen_ai.guardrail.triggered": triggered}
    spans = [agent(), model(ASKED, called, span_id="b" * 16, start=1), span("guard", guard, span_id="c" * 16, start=2)]
    if said:
        spans.append(model([*ASKED, called], message("assistant", said), span_id="d" * 16, start=3))
    return last_move(trace(*spans))


def test_a_guardrail_that_ended_the_run_refused() -> None:
    move = _guarded("true", "")
    assert isinstance(move, Move)
    assert (move.action, move.basis, move.span_id) == ("refuse", "structural", "c" * 16)
    assert isinstance(_guarded("false", ""), str)
    answered = _guarded("true", "It is 12.")
    assert isinstance(answered, Move)
    assert answered.action == "answer"


@pytest.mark.parametrize(("other", "action"), [("billing", "answer"), ("front", "escalate")])
def test_an_agent_that_takes_over_and_answers_makes_the_last_move(other: str, action: str) -> None:
    called = message("assistant", "", ("c1", "transfer_to_billing", {}))
    name = "gen_ai.agent.name"
    made = trace(
        agent("front"),
        model(ASKED, called, {name: "front"}, span_id="b" * 16, start=1),
        tool("transfer_to_billing", {}, "ok", "c1", {name: "front"}, span_id="c" * 16, start=2),
        model([*ASKED, called], message("assistant", "It is 12."), {name: other}, span_id="d" * 16, start=3),
    )
    move = last_move(made)
    assert isinstance(move, Move)
    assert move.action == action


def test_a_run_that_died_in_its_last_model_call_did_nothing() -> None:
    died = {"error.type": "APIError"}
    made = trace(
        agent(attributes=died, status="Error"),
        model(ASKED, message("assistant", "Let me look."), span_id="b" * 16, start=1),
        model(ASKED, None, died, span_id="d" * 16, start=3, status="Error", status_message="quota"),
    )
    found = last_move(made)
    assert isinstance(found, str)
    assert "died" in found


def test_where_content_is_not_captured_a_denial_is_no_end() -> None:
    steps: list[dict[str, Any]] = [{"user": "delete it"}, {"assistant": "", "calls": [{"id": "c", "name": "delete"}]}]
    denied = conversation([*steps, {"decision": "deny", "id": "c", "tool": "delete"}])
    move = last_move(denied)
    assert isinstance(move, Move)
    assert move.action == "refuse"
    bare = [replace(s, attributes={k: v for k, v in s.attributes.items() if "messages" not in k}) for s in denied.spans]
    assert isinstance(last_move(trace(*bare, logs=denied.logs)), str)
