"""The suite and the policy in the documentation load."""

from __future__ import annotations

import re
from pathlib import Path

from gate.policy import parse_policy
from gate.suite import parse_suite
from graders import AgentPolicy, grader_types
from graders.matching import fits
from store.yamlfile import parse_yaml

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_documented_suite_and_policy_load() -> None:
    suite, forms, policy = blocks("release-policy.md")
    assert parse_suite(suite).cases[0].id == "refund-01"
    booking = {"city": "new york", "day": "May 1, 2024", "guests": "4", "note": "by the Window, please"}
    (case,) = parse_suite(forms).cases
    assert fits(case.expect.tools[0].arguments, booking, case.expect.compare)
    assert not fits(case.expect.tools[0].arguments, booking | {"smoking": True}, case.expect.compare)
    assert parse_policy(policy, grader_types()).name == "support-agent"


def test_the_documented_approval_policy_loads() -> None:
    [policy] = blocks("approvals.md")
    assert len(parse_yaml(policy, AgentPolicy).tools) == 3
