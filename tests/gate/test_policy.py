"""Policies: what is refused, with which way out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gate import stats
from gate.policy import DEFAULT_TIERS, INFRASTRUCTURE_PATTERNS, GatePolicy, load_policy, parse_policy, validate_for
from gate.suite import parse_suite
from store.yamlfile import ConfigError

KNOWN = {"tools/expected", "approval/boundary", "efficiency/cost"}

GOOD = """
name: support-agent
version: "2026.10"
owners: ["@release"]
design: {replays: 2, cluster: cluster, missing_candidate: fail}
tiers: {critical: {margin: 0.02, min_cases: 200, min_clusters: 20}}
buckets:
  - {id: all, tier: high}
  - {id: money, tier: critical, where: {tag: money}}
blockers:
  - {id: success, grader: tools/expected}
  - {id: success-money, grader: tools/expected, bucket: money, margin: 0.03}
  - {id: approval, grader: approval/boundary, mode: zero_tolerance, p_max: 0.02}
budgets:
  - {id: latency, metric: latency_ms, stat: geometric_mean_ratio, max_increase: 0.15}
  - {id: cost, metric: efficiency/cost, max_increase: 0.1, enforce: false}
advisories:
  - {id: cov, grader: approval/boundary, mode: deterioration}
"""


def test_a_policy_reads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    policy = load_policy(path, KNOWN)
    assert policy.graders == ("approval/boundary", "efficiency/cost", "tools/expected")
    assert [policy.margin(c) for c in policy.blockers[:2]] == [0.03, 0.03]
    assert policy.tier(policy.blockers[1]).min_cases == 200
    assert policy.tier(policy.blockers[0]) == DEFAULT_TIERS["high"]
    assert policy.digest == parse_policy(yaml.safe_dump(yaml.safe_load(GOOD)), KNOWN).digest
    assert policy.digest != parse_policy(GOOD.replace("0.15", "0.16"), KNOWN).digest


def _with(**changes: Any) -> str:
    return yaml.safe_dump(yaml.safe_load(GOOD) | changes)


def _blocker(**fields: Any) -> str:
    return _with(blockers=[{"id": "x", "grader": "tools/expected"} | fields])


def _tier(risk: str, on_inconclusive: str) -> str:
    return _with(tiers={risk: {"margin": 0.02, "min_cases": 200, "on_inconclusive": on_inconclusive}})


BAD = {
    "no blocker": (_with(blockers=[]), ["blockers"]),
    "blockers left out": ("name: p", ["blockers: is required"]),
    "unknown grader": (
        _blocker(grader="tools/expcted"),
        ["blockers[0].grader: unknown grader 'tools/expcted'; known: app"],
    ),
    "unknown mode": (_blocker(mode="vibes"), ["blockers[0].mode", "zero_tolerance"]),
    "unknown key": (_with(blockrs=[]), ["blockrs: unknown key; did you mean blockers?"]),
    "unknown bucket": (_blocker(bucket="vip"), ["unknown bucket 'vip'; known: all, money"]),
    "same id": (_with(advisories=[{"id": "success", "grader": "tools/expected"}]), ["also the id of blockers[0]"]),
    "same bucket": (_with(buckets=[{"id": "all"}, {"id": "all"}, {"id": "money"}]), ["also the id of buckets[0]"]),
    "margin of no use": (_blocker(mode="deterioration", margin=0.1), ["mode deterioration does not use it"]),
    "no p_max": (_blocker(mode="zero_tolerance"), ["blockers[0].p_max: mode zero_tolerance needs it"]),
    "no cases": (_blocker(mode="must_pass"), ["blockers[0].cases: mode must_pass needs it"]),
    "no threshold": (_blocker(mode="floor"), ["blockers[0].threshold: mode floor needs it"]),
    "score of events": (_blocker(mode="zero_tolerance", p_max=0.1, measure="score"), ["use measure: outcome"]),
    "impossible margin": (
        _blocker(margin=0.001),
        ["min_cases 200 can never pass margin 0.001", "min_cases 3838", "0.0189"],
    ),
    "impossible tier": (_with(tiers={"high": {"margin": 0.02, "min_cases": 150}}), ["it takes min_cases 189", "0.025"]),
    "margin above one": (_blocker(margin=5), ["blockers[0].margin", "less than 1"]),
    "careless critical": (_tier("critical", "warn"), ["use hold"]),
    "promote undecided": (_tier("low", "promote"), ["on_inconclusive"]),
    "unknown tier": (_with(tiers={"huge": {"margin": 0.1, "min_cases": 50}}), ["tiers"]),
    "unknown metric": (
        _with(budgets=[{"id": "b", "metric": "vibes", "max_increase": 1}]),
        ["neither a metric (latency_ms"],
    ),
    "budget without limit": (
        _with(budgets=[{"id": "b", "metric": "latency_ms"}]),
        ["max_increase: ratio_of_totals needs it"],
    ),
    "budget with both": (
        _with(budgets=[{"id": "b", "metric": "latency_ms", "max_increase": 1, "margin": 0.1}]),
        ["remove it"],
    ),
    "bad pattern": (_with(design={"infrastructure": {"patterns": ["("]}}), ["is not a regular expression"]),
    "unknown pin": (_with(pins={"graders": {"x/y": "1"}}), ["pins.graders.x/y: unknown grader"]),
    "negative replays": (_with(design={"replays": 0}), ["design.replays"]),
    "wild confidence": (_with(design={"confidence": {"promote": 0.5}}), ["design.confidence.promote"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_policy_is_refused_with_its_problems(name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, KNOWN)
    for word in words:
        assert word in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    text = _with(
        blockers=[{"id": "x", "grader": "no/no", "bucket": "vip"}, {"id": "x", "grader": "no/no", "margin": 0.001}]
    )
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, KNOWN)
    assert [p.key for p in caught.value.problems] == [
        "blockers[0].bucket",
        "blockers[1].id",
        "blockers[1].grader",
        "blockers[1]",
    ]


@pytest.mark.parametrize("name", sorted(DEFAULT_TIERS))
def test_the_default_tiers_can_pass(name: str) -> None:
    tier = DEFAULT_TIERS[name]  # type: ignore[index]
    assert tier.min_cases >= stats.n_min(tier.margin, 0.025)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_garbage_is_refused_and_nothing_else(garbage: bytes | str) -> None:
    with pytest.raises(ConfigError):
        parse_policy(garbage, KNOWN)


SUITE = parse_suite("name: s\ncases:\n- {id: a, bucket: pay, tags: [money]}\n- {id: b, bucket: faq}")

MONEY = "name: s\ncases:\n- {id: a, bucket: x, tags: [money]}"

MISFITS = {
    "pinned to another": (_with(pins={"suite": "sha256:00"}), MONEY, "move the pin"),
    "monitoring suite": (GOOD, MONEY + "\ntier: monitoring", "may inform but not block"),
    "empty bucket": (GOOD, "name: s\ncases:\n- {id: a, bucket: pay}", "selects no case of suite s; its buckets: pay"),
    "unknown case": (_blocker(mode="must_pass", cases=["zz"]), MONEY, "'zz' is not a case"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_policy_must_fit_its_suite(name: str) -> None:
    policy, suite, words = MISFITS[name]
    with pytest.raises(ConfigError, match=words):
        validate_for(parse_policy(policy, KNOWN), parse_suite(suite))


def test_a_fitting_policy_is_accepted() -> None:
    validate_for(parse_policy(GOOD, KNOWN), SUITE)
    validate_for(parse_policy(_with(pins={"suite": SUITE.digest}), KNOWN), SUITE)


# error text of a failed run, whether its surroundings failed
SURROUNDINGS = [
    ("RateLimitError: Error code: 429", True),
    ("You're out of extra usage", True),
    ("insufficient_quota", True),
    ("529 overloaded_error", True),
    ("upstream connect error: connection refused", True),
    ("ReadTimeout: timed out", True),
    ("503 Service Unavailable", True),
    ("KeyError: 'order_id'", False),
    ("refund of 4290.00 refused", False),
    ("the agent gave up after 30 turns", False),
    ("ValidationError: amount must be positive", False),
]


@pytest.mark.parametrize(("error", "expected"), SURROUNDINGS)
def test_infrastructure_patterns(error: str, expected: bool) -> None:
    assert any(re.search(pattern, error, re.IGNORECASE) for pattern in INFRASTRUCTURE_PATTERNS) is expected


def test_the_schema_is_closed() -> None:
    assert GatePolicy.model_json_schema()["additionalProperties"] is False
