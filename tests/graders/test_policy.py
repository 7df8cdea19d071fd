"""The approval policy reads what operators write and explains what they got wrong."""

from pathlib import Path

import pytest

from graders.policy import AgentPolicy, Effect, load_policy
from graders.testing import agent, tool, trace
from store.types import ToolCall
from store.yamlfile import ConfigError, parse_yaml

GOOD = """
version: 1
tools:
  - {match: get_balance, effect: read}
  - match: transfer
    effect: irreversible
    when:
      - {argument: amount, is: ">=", value: 100}
      - {argument: to.country, is: not in, value: [DE, FR]}
  - {match: "delete_*", effect: irreversible}
  - {match: "*", effect: write}
approval:
  explicit: {mechanisms: [human], max_age_seconds: 600, absence: breach}
  user_confirmation: {spent_by: call, must_ask: true}
  standing: [already agreed]
executed_unknown: executed
"""


def call(name: str, arguments: object = None) -> ToolCall:
    return trace(agent(), tool(name, arguments, "r", start=1)).tool_calls[0]


def test_first_match_decides(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(GOOD)
    policy = load_policy(tmp_path / "p.yaml")
    assert policy.effect(call("get_balance")) == (Effect.READ, True)
    assert policy.effect(call("delete_all")) == (Effect.IRREVERSIBLE, True)
    assert policy.effect(call("Delete_all")) == (Effect.WRITE, True)
    assert policy.effect(call("transfer", {"amount": 100, "to": {"country": "US"}})) == (Effect.IRREVERSIBLE, True)
    assert policy.effect(call("transfer", {"amount": 99, "to": {"country": "US"}})) == (Effect.IRREVERSIBLE, False)
    assert policy.effect(call("transfer", {"amount": 100, "to": {"country": "DE"}})) == (Effect.IRREVERSIBLE, False)
    assert policy.effect(call("transfer")) == (Effect.IRREVERSIBLE, None)


def test_unlisted_is_unknown_unless_said_otherwise() -> None:
    assert AgentPolicy().effect(call("anything")) == (Effect.UNKNOWN, True)
    assert AgentPolicy(unlisted=Effect.WRITE).effect(call("anything")) == (Effect.WRITE, True)


@pytest.mark.parametrize(
    ("test", "arguments", "holds"),
    [
        ("{argument: a, is: '>', value: 1}", {"a": 2}, True),
        ("{argument: a, is: '>', value: 1}", {"a": "2"}, True),
        ("{argument: a, is: '>', value: 1}", {"a": "0.5"}, False),
        ("{argument: a, is: '>', value: 1000}", {"a": "$1,200.50"}, True),
        ("{argument: a, is: '>', value: 1000}", {"a": "€ 999"}, False),
        ("{argument: a, is: '>', value: 1000}", {"a": "1200 EUR"}, True),
        ("{argument: a, is: '>', value: 1000}", {"a": "-1200"}, False),
        ("{argument: a, is: '>', value: 1000}", {"a": "five hundred"}, True),
        ("{argument: a, is: '<', value: 1000}", {"a": None}, True),
        ("{argument: a, is: '>', value: 1}", {"a": True}, True),
        ("{argument: a, is: '>', value: 1}", {"a": float("nan")}, True),
        ("{argument: a, is: '==', value: 5}", {"a": "5.0"}, True),
        ("{argument: a, is: '!=', value: 5}", {"a": "5"}, False),
        ("{argument: a, is: in, value: [5, x]}", {"a": "5"}, True),
        ("{argument: a, is: 'not in', value: [5, x]}", {"a": "y"}, True),
        ("{argument: a, is: '==', value: true}", {"a": 1}, True),
        ("{argument: a, is: '<', value: 1}", {}, False),
        ("{argument: a, is: '==', value: x}", {"a": "x"}, True),
        ("{argument: a, is: '!=', value: x}", {"a": "y"}, True),
        ("{argument: a, is: in, value: [x, 1]}", {"a": 1}, True),
        ("{argument: a, is: matches, value: '@evil'}", {"a": "m@evil.example"}, True),
        ("{argument: a, is: matches, value: '@evil'}", {"a": 5}, False),
        ("{argument: a.b, is: '==', value: true}", {"a": {"b": True}}, True),
        ("{argument: a.b, is: '==', value: true}", {"a": [1]}, False),
        ("{argument: a.b, is: '>', value: 5}", {"a": [{"b": 1}, {"b": 6}, 7, {"c": 9}]}, True),
        ("{argument: a.b, is: '>', value: 5}", {"a": [{"b": 1}, [{"b": 6}]]}, False),
        ("{argument: a, is: '>', value: 5}", {"a": [6]}, True),
    ],
)
def test_conditions(test: str, arguments: dict[str, object], holds: bool) -> None:
    policy = parse_yaml(f"tools: [{{match: t, effect: write, when: [{test}]}}]", AgentPolicy)
    assert policy.effect(call("t", arguments)) == (Effect.WRITE, holds)


PROBLEMS = {
    "everything at once": (
        "version: 2\ntools:\n  - match: a\n    efect: write\n  - {match: b, effect: wrte}\nunlisted: maybe\n",
        ["version", "tools[0].effect: is required", "did you mean effect?", "tools[1].effect", "unlisted"],
    ),
    "no way to approve": ("approval: {explicit: null}", ["opens no way to approve"]),
    "a rule nothing reaches": (
        "tools: [{match: '*', effect: read}, {match: pay, effect: write}]",
        ["tools[1] (pay) is never reached"],
    ),
    "a comparison of text": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: '>', value: many}]}]",
        ["compares numbers; give `value` a number"],
    ),
    "a number like no other": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: '>', value: 1e400}]}]",
        ["tools[0].when[0]", "needs a finite number"],
    ),
    "one in a list": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: in, value: [1, -1e400]}]}]",
        ["needs a finite number"],
    ),
    "what other dialects read as a number": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: '<=', value: .nan}]}]",
        ["compares numbers; give `value` a number"],
    ),
    "a list that is none": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: in, value: y}]}]",
        ["needs a list as `value`"],
    ),
    "an unknown comparison": (
        "tools: [{match: a, effect: write, when: [{argument: x, is: '=', value: y}]}]",
        ["'>', '>=', '<'"],
    ),
    "a broken pattern": ("approval: {standing: ['(']}", ["not a regular expression"]),
    "an unknown mechanism": ("approval: {explicit: {mechanisms: [humans]}}", ["'human', 'policy_rule'"]),
    "an impossible age": ("approval: {explicit: {max_age_seconds: -1}}", ["greater than 0"]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name: str) -> None:
    text, expected = PROBLEMS[name]
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, AgentPolicy, "policy.yaml")
    shown = "\n".join(map(str, caught.value.problems))
    assert all(part in shown for part in expected), shown
    assert all(p.file == "policy.yaml" and p.line > 0 for p in caught.value.problems)


def test_entries_of_one_tool_are_tried_until_the_conditions_of_one_hold() -> None:
    policy = parse_yaml(
        """
        tools:
        - {match: pay, effect: irreversible, when: [{argument: amount, is: ">", value: 1000}], approvers: [board]}
        - {match: pay, effect: write, when: [{argument: amount, is: ">", value: 100}], approvers: [lead]}
        - {match: "p*", effect: read}
        roles: {board: {deciders: [b]}, lead: {deciders: [l]}}
        """,
        AgentPolicy,
    )

    def ruling(name: str, amount: float | None) -> tuple[str, bool | None, tuple[str, ...]]:
        found = policy.ruling(call(name, {"amount": amount} if amount is not None else None))
        return found.effect.value, found.needed, found.rule.approvers if found.rule else ()

    assert ruling("pay", 5000) == ("irreversible", True, ("board",))
    assert ruling("pay", 500) == ("write", True, ("lead",))
    assert ruling("pay", 5) == ("irreversible", False, ("board",))
    assert ruling("pay", None) == ("irreversible", None, ("board",))
    assert ruling("peek", 5) == ("read", True, ())
    assert ruling("other", 5) == ("unknown", True, ())
