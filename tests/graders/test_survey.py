"""Guessing effects, drafting a policy from traffic, and what lint says about one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import grader_types
from graders.effects import by_name, guess
from graders.lint import lint
from graders.policy import AgentPolicy, Effect
from graders.survey import Survey
from graders.testing import START_NS, agent, conversation, span, trace
from store.client import Store
from store.types import LogEvent, Trace
from store.yamlfile import parse_yaml
from tracegrade import cli, policies

from .conftest import Send


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("get_order", "read"),
        ("getDeletedUsers", "read"),
        ("mcp__shop__cancel_order", "irreversible"),
        ("shop.update_address", "write"),
        ("SendEmail", "irreversible"),
        ("list_and_delete", "read"),
        ("bulk_delete_or_create", "irreversible"),
        ("HTTPPost", "irreversible"),
        ("frobnicate", "unknown"),
        ("transfer_to_human_agents", "read"),
        ("transfer_funds", "irreversible"),
        ("", "unknown"),
        ("漢字", "unknown"),
    ],
)
def test_a_name_tells_an_effect_by_its_verbs(name: str, effect: str) -> None:
    assert by_name(name).effect == effect


def test_what_a_server_says_goes_before_the_name() -> None:
    assert guess("delete_cache", {"readOnlyHint": True}).effect is Effect.READ
    assert guess("get_rid_of", {"destructiveHint": True}).effect is Effect.IRREVERSIBLE
    assert guess("frobnicate", {"destructiveHint": False}).effect is Effect.WRITE
    assert guess("send_mail", {"destructiveHint": False}).effect is Effect.IRREVERSIBLE
    assert guess("get_mail", {}).effect is Effect.READ
    assert "readOnlyHint" in guess("x", {"readOnlyHint": True}).reason


def _shop(name: str = "pay", **arguments: object) -> Trace:
    call = {"name": name, "id": "c1", "arguments": arguments or {"amount": 12}}
    return conversation(
        [
            {"user": "Pay the bill"},
            {"assistant": "Shall I pay 12 euros?"},
            {"user": "yes"},
            {"assistant": "", "calls": [call]},
            {"tool": name, "id": "c1", "arguments": call["arguments"], "result": "done"},
            {"assistant": "Paid."},
        ],
        tools=[
            {"name": "look", "annotations": {"readOnlyHint": True, "title": "Look"}},
            {"name": name, "parameters": {"type": "object"}},
        ],
    )


def test_a_draft_lists_what_was_offered_and_called_and_says_why() -> None:
    survey = Survey()
    survey.add(_shop(amount=12))
    survey.add(_shop(amount=90))
    text = survey.draft()
    policy = parse_yaml(text, AgentPolicy)
    assert [(rule.match, rule.effect) for rule in policy.tools] == [("look", "read"), ("pay", "irreversible")]
    assert policy.unlisted is Effect.WRITE
    assert policy.approval.user_confirmation is not None
    assert policy.budgets.tool_calls == 2
    lines = text.splitlines()
    assert all("# guess: " in line for line in lines if "match: " in line)
    assert any("2 calls, amount 12 to 90" in line for line in lines)
    assert any("readOnlyHint: true; offered, never called" in line for line in lines)
    assert lint(policy, grader_types(), survey) == []


def test_nothing_captured_is_an_empty_draft_that_loads() -> None:
    assert parse_yaml(Survey().draft(), AgentPolicy).tools == ()


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=1, max_size=60), st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=3))
def test_a_draft_loads_whatever_tools_are_called(name: str, arguments: dict[str, float]) -> None:
    survey = Survey()
    survey.add(_shop(name, **{f"k{key}": value for key, value in arguments.items()}))
    policy = parse_yaml(survey.draft(), AgentPolicy)
    met = {name: rule.match for name in survey.tools if (rule := policy.rule(name))}
    assert len(set(met.values())) == len(policy.tools) == len(survey.tools)


LINT = [
    (
        "tools: [{match: get_x, effect: read, when: [{argument: a, is: '>', value: 1}]}]\nunlisted: write",
        "tools[0].when",
    ),
    ("tools: [{match: 'get_*', effect: read}, {match: get_secret, effect: write}]\nunlisted: write", "tools[1].match"),
    ("tools: [{match: delete_user, effect: read}]\nunlisted: write", "tools[0].effect"),
    ("tools: [{match: '*', effect: read}]\nunlisted: write", "tools[0].match"),
    ("tools: [{match: pay, effect: write}]", "unlisted"),
    ("unlisted: unknown", "tools"),
    ("unlisted: write\nroles: {boss: {}}", "roles.boss"),
    ("unlisted: write\napproval: {standing: ['.*']}", "approval.standing[0]"),
    ("unlisted: write\napproval: {explicit: {mechanisms: []}}", "approval.explicit.mechanisms"),
    ("unlisted: write\napproval: {explicit: {mechanisms: [human, config_default]}}", "approval.explicit.mechanisms"),
    ("unlisted: write\napproval: {user_confirmation: {words: ['.']}}", "approval.user_confirmation.words"),
    (
        "unlisted: write\napproval: {explicit: null, user_confirmation: {must_ask: false}}",
        "approval.user_confirmation.must_ask",
    ),
    ("unlisted: write\ntools: [{match: pay, effect: write, confirm: [amount]}]", "tools"),
    ("unlisted: write\nbudgets: {tool_calls: 3, calls: {search: 5}}", "budgets.calls.search"),
    ("unlisted: write\nseverities: {tools/nope: low}", "severities.tools/nope"),
]


@pytest.mark.parametrize(("text", "key"), LINT)
def test_lint_names_the_key(text: str, key: str) -> None:
    assert key in [advice.key for advice in lint(parse_yaml(text, AgentPolicy), grader_types())]


def test_where_every_tool_is_listed_none_is_unlisted() -> None:
    policy = parse_yaml("tools: [{match: '*', effect: write}]", AgentPolicy)
    assert lint(policy, grader_types()) == []


def test_lint_compares_with_traffic() -> None:
    survey = Survey()
    survey.add(_shop(amount=12))
    policy = parse_yaml(
        """
        unlisted: write
        tools:
        - {match: pay, effect: irreversible, when: [{argument: price, is: ">", value: 5}]}
        - {match: refund, effect: write}
        budgets: {calls: {serach: 2}}
        """,
        AgentPolicy,
    )
    found = {advice.key: advice.message for advice in lint(policy, grader_types(), survey)}
    assert "arguments seen: amount" in found["tools[0].when[0].argument"]
    assert "meets no tool" in found["tools[1].match"]
    assert "meets no tool" in found["budgets.calls.serach"]
    assert "'look' is in the traffic" in found["tools"]
    assert lint(policy, grader_types(), Survey())[-1].key == "agents"


def test_suggest_sees_decisions_that_are_log_events(
    store: Store, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_id = "1" * 32
    root = agent("shop", trace_id=trace_id)
    decided = {
        "gen_ai.tool.call.decision.outcome": "allow",
        "gen_ai.tool.name": "pay",
        "tracegrade.approval.mechanism": "policy_rule",
    }
    send("s", [root], [LogEvent(START_NS, "gen_ai.tool.call.decision", trace_id, root.span_id, "", decided)])
    monkeypatch.setattr(policies, "open_store", lambda config: nullcontext(store))
    (tmp_path / "c.yaml").write_text("{}")
    asked = ["policy", "suggest", "--config", str(tmp_path / "c.yaml"), "--since", "20000d", "--agent"]
    assert "explicit: {mechanisms: [policy_rule]}" in CliRunner().invoke(cli.cli, [*asked, "shop"]).stdout
    other = CliRunner().invoke(cli.cli, [*asked, "shpo"])
    assert "agents: [shpo]" in other.stdout, "a draft from nothing is not for everybody"
    assert "agents there: shop" in other.stderr


def test_the_hints_of_an_mcp_server_are_read_where_it_lists_its_tools() -> None:
    tools = [
        {"name": "wipe", "annotations": {"destructiveHint": False}},
        {"name": "odd", "annotations": "none"},
        {"name": 5},
    ]
    listing = span("tools/list.mcp", {"mcp.method.name": "tools/list", "mcp.response.value": {"tools": tools}}, start=1)
    survey = Survey()
    survey.add(trace(agent(), listing))
    assert {name: seen.hints for name, seen in survey.tools.items()} == {"wipe": {"destructiveHint": False}, "odd": {}}


def test_a_tool_that_is_called_like_a_pattern_is_listed_as_itself() -> None:
    survey = Survey()
    survey.add(
        conversation([{"user": "u"}, *({"tool": name, "result": "r"} for name in ("*", "a[b]?", "pay", "read"))])
    )
    policy = parse_yaml(survey.draft(), AgentPolicy)
    assert {name: rule.match for name in survey.tools if (rule := policy.rule(name))} == {
        "*": "[*]",
        "a[b]?": "a[[]b][?]",
        "pay": "pay",
        "read": "read",
    }


@pytest.mark.parametrize("name", ["*", "a[b]", "shop-?", "[!x]"])
def test_an_agent_that_is_called_like_a_pattern_is_drafted_as_itself(name: str) -> None:
    survey = Survey()
    survey.agents[name] += 1
    policy = parse_yaml(survey.draft(), AgentPolicy)
    assert policy.covers(name)
    assert not policy.covers("bank")
    assert not policy.covers("ab", "a", "shop-1")
    assert parse_yaml(Survey().draft(["shop-*"]), AgentPolicy).covers("shop-1"), (
        "what an operator asked for is a pattern"
    )
