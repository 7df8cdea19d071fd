"""One text: equality survives, ids survive, and nothing an attacker writes takes more than linear time."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.redaction.rules import Group, Ruleset
from collector.redaction.text import Exhausted, Finding, Texts, Work, keyed, typed

from .corpus import load

FOUND, NEAR = load()


def make(key: bytes = b"k" * 32, **options: Any) -> Texts:
    return Texts(Ruleset(options.pop("groups", list(Group)), **options), keyed(key))


TEXTS = make()


def redact(text: str, *keys: str, by: Texts = TEXTS) -> str:
    return by.redact(text, keys, Work())


@pytest.mark.parametrize(
    "spellings",
    [
        ("jane.doe@example.com", "Jane.Doe@Example.COM", "jane.doe%40example.com"),
        ("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "４１１１ １１１１ １１１１ １１１１"),
        ("GB29NWBK60161331926819", "GB29 NWBK 6016 1331 9268 19"),
        ("+49 30 901820", "+4930901820", "0049 30 901820"),
    ],
)
def test_spellings_of_one_value_are_one_placeholder(spellings: tuple[str, ...]) -> None:
    assert len({redact(spelling) for spelling in spellings}) == 1
    assert redact(spellings[0], by=make(b"another key of some length")) != redact(spellings[0])


def test_a_placeholder_says_the_type_and_holds_no_digit() -> None:
    placeholder = redact("jane@example.com")
    assert placeholder.startswith("<EMAIL:")
    assert not any(char.isdecimal() for char in placeholder)
    assert Texts(Ruleset(list(Group)), typed).redact("jane@example.com", (), Work()) == "<EMAIL>"


def test_an_answer_and_the_tool_result_it_repeats_stay_equal() -> None:
    result = redact(json.dumps({"email": "jane@example.com", "total": 42.5, "note": "line\njane@example.com"}))
    answer = redact("I wrote to jane@example.com about the 42.50.")
    placeholder = orjson.loads(result)["email"]
    assert placeholder in answer
    assert "42.50" in answer
    assert orjson.loads(result)["note"] == f"line\n{placeholder}"


def test_the_rest_of_json_keeps_its_spelling() -> None:
    text = '{ "b":1.50,"a" :12345678901234567890, "big":1e400, "e":"\\u00e9\\/", "a":"jane@example.com" }'
    assert redact(text) == text.replace('"jane@example.com"', f'"{redact("jane@example.com")}"')


def test_keys_deny_and_allow() -> None:
    by = make(deny=("user.*", "conversation.id"), allow=("support.email", "contact"))
    assert redact("Ann", "user.name", by=by).startswith("<DENIED:")
    assert redact('{"user.name": {"first": "Ann", "age": 33}, "n": 1}', by=by).count("<DENIED:") == 2
    assert redact("help@example.com", "support.email", by=by) == "help@example.com"
    assert redact('{"contact": "help@example.com", "to": "jane@example.com"}', by=by).count("<EMAIL") == 1
    assert redact("conv-1", "conversation.id", by=by).startswith("<DENIED:"), "denied comes before what is kept"


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.tool.call.id",
        "gen_ai.conversation.id",
        "session.id",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id",
    ],
)
def test_ids_that_join_spans_stay(key: str) -> None:
    assert redact("jane@example.com", key) == "jane@example.com"


def test_call_ids_in_messages_stay() -> None:
    message = {
        "role": "assistant",
        "parts": [
            {"type": "tool_call", "id": "4111111111111111", "name": "send", "arguments": {"to": "jane@example.com"}},
            {"type": "tool_call_response", "id": "4111111111111111", "response": "sent to jane@example.com"},
        ],
        "tool_call_id": "4111111111111111",
    }
    after = redact(json.dumps([message]))
    assert after.count("4111111111111111") == 3
    assert "jane" not in after
    assert redact('{"id": "4111111111111111", "name": "Ann"}').count("<CARD:") == 1


def test_a_schema_is_no_secret() -> None:
    properties = {"password": {"type": "string"}, "token": {"description": "of the session"}}
    tools = json.dumps([{"name": "login", "parameters": {"type": "object", "properties": properties}}])
    assert redact(tools) == tools


def test_only_the_groups_that_are_on() -> None:
    by = make(groups=[Group.SECRETS])
    assert redact("jane@example.com 4111111111111111", by=by) == "jane@example.com 4111111111111111"
    assert redact("x", "http.request.header.authorization", by=by).startswith("<SECRET:")
    assert Ruleset([]).empty


def test_rule_sets_differ_in_their_digest() -> None:
    digests = {
        Ruleset(groups, **options).digest
        for groups, options in (
            ([Group.SECRETS], {}),
            ([Group.CONTACT], {}),
            ([Group.SECRETS], {"deny": ("a",)}),
            ([Group.SECRETS], {"allow": ("a",)}),
            ([Group.NATIONAL], {}),
            ([Group.NATIONAL], {"countries": ("DE",)}),
        )
    }
    assert len(digests) == 6
    assert Ruleset([Group.SECRETS]).digest == Ruleset([Group.SECRETS]).digest


_PIECES = st.one_of(
    st.sampled_from([case.text for case in (*FOUND, *NEAR)]),
    st.text(max_size=20),
    st.sampled_from(
        [" ", "\n", ":", "=", "phone ", "ssn", '"', "\\", "<EMAIL:", ">", "{", "}", "@", "password", "://", "١", "٣٤٥"]
    ),
)


@given(st.lists(_PIECES, max_size=6).map("".join), st.sampled_from([(), ("phone",), ("a", "password"), ("note",)]))
def test_what_was_redacted_stays_as_it_is(text: str, keys: tuple[str, ...]) -> None:
    once = redact(text, *keys)
    assert redact(once, *keys) == once


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | _PIECES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "phone", "password", "id", "arguments"]) | st.text(max_size=4), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_json_stays_json(document: Any) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, list):
            return [shape(item) for item in value]
        return [shape(item) for item in value.values()] if isinstance(value, dict) else None

    after = orjson.loads(redact(json.dumps({"wrapped": document}), "gen_ai.input.messages"))
    assert shape(after["wrapped"]) == shape(document)


ADVERSARIES = (
    *(
        "a",
        "@",
        "a@",
        "a@b.",
        "1",
        "1234 ",
        "4111 1111 1111 1111 1",
        "phone 1",
        "(1",
        "+1",
        "1.",
        "ab:",
        "GB29NWBK",
        "٣",
        "ＡＢ１",
    ),
    *(
        "eyJaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
        "://a:",
        "a://b:c",
        "password=",
        '"password":',
        "bearer ",
        "basic QUFB",
    ),
    *("\\", "[{", "<EMAIL:"),
)


@pytest.mark.parametrize("piece", ADVERSARIES)
def test_time_is_linear(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece.encode()))
        started = time.process_time()
        try:
            redact(text)
        except Exhausted:
            return 0.0
        return time.process_time() - started

    small = 2**17
    seconds(small)
    quick = min(seconds(small) for _ in range(2))
    # Four times as long takes four times as long; a quadratic rule would take sixteen times.
    assert seconds(4 * small) < 10 * max(quick, 0.01)


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.redaction.text.MAX_FINDINGS", 100)
    with pytest.raises(Exhausted, match="more than 100"):
        redact("jane@example.com " * 101)


class Names:
    """Finds one name."""

    def detect(self, text: str, /) -> list[Finding]:
        at = text.find("Ann")
        return [Finding(at, at + 3, "PERSON")] if at >= 0 else []


def test_a_detector_joins_in() -> None:
    by = Texts(Ruleset([Group.CONTACT]), keyed(b"k" * 32), [("names", Names())])
    work = Work()
    after = by.redact('{"to": "Zoë and Ann <ann@example.com>", "٣": "٣٤ Ann"}', (), work)
    assert "Ann" not in after
    assert "Zoë and <PERSON:" in after
    assert work.replaced == {"names": 2, "email": 1}
    assert by.redact(after, (), Work()) == after
