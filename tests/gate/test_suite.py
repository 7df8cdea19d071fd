"""Suites: what is refused, and what a digest depends on."""

import json
import random
from pathlib import Path

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gate.suite import load_suite, parse_suite
from store.cases import case_document, read_case
from store.types import ExpectedCall
from store.yamlfile import ConfigError

GOOD = """
name: support
version: "3"
buckets: [refunds, faq]
cases:
  - id: R-1
    bucket: refunds
    input: I want my money back
    risk: critical
    tags: [money, approval]
    cluster: template-7
    expected_action: answer
    expect:
      tools: [{tool: refund, arguments: {order: 17, amount: 9.5}}]
      tools_mode: in_order
      forbidden: [{tool: delete_order}]
      answer_contains: [refunded]
  - {id: F-1, bucket: faq, expect: {tools: []}}
  - {id: F-2, bucket: faq}
"""


def test_a_suite_reads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(GOOD)
    suite = load_suite(path)
    assert (suite.name, suite.version, suite.tier) == ("support", "3", "trusted")
    assert [case.id for case in suite.cases] == ["F-1", "F-2", "R-1"]
    refund = suite.cases[2]
    assert refund.expect.tools == (ExpectedCall("refund", {"order": 17, "amount": 9.5}),)
    assert (refund.risk, refund.tags, refund.cluster) == ("critical", ("approval", "money"), "template-7")
    assert [case.expect.tools_given for case in suite.cases] == [True, False, True]


def test_a_stored_suite_reads_back_the_same() -> None:
    suite = parse_suite(GOOD)
    again = parse_suite(suite.document)
    assert (again.cases, again.digest) == (suite.cases, suite.digest)
    assert [read_case(case_document(case), case.digest) for case in suite.cases] == list(suite.cases)


@given(st.randoms(use_true_random=False), st.sampled_from(["yaml", "flow", "json"]))
def test_the_digest_ignores_format_and_order(shuffler: random.Random, form: str) -> None:
    data = yaml.safe_load(GOOD)
    shuffler.shuffle(data["cases"])
    data["cases"] = [dict(shuffler.sample(list(case.items()), len(case))) for case in data["cases"]]
    text = (
        json.dumps(data) if form == "json" else yaml.safe_dump(data, default_flow_style=form == "flow", sort_keys=False)
    )
    assert parse_suite(text).digest == parse_suite(GOOD).digest


CHANGES = {
    "argument": ("order: 17", "order: 18"),
    "risk": ("risk: critical", "risk: high"),
    "mode": ("in_order", "exact"),
    "tools asked": ("expect: {tools: []}", "expect: {}"),
    "version": ('version: "3"', 'version: "4"'),
    "input": ("money back", "money back!"),
    "cluster": ("template-7", "template-8"),
    "tier": ("buckets:", "tier: monitoring\nbuckets:"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_changes_with_the_meaning(name: str) -> None:
    old, new = CHANGES[name]
    assert old in GOOD
    assert parse_suite(GOOD.replace(old, new)).digest != parse_suite(GOOD).digest


# what is wrong, text, words the problems must hold (one list entry a problem)
BAD = {
    "no id": ("name: s\ncases:\n- {bucket: b}", ["<suite>:3: cases[0].id: is required"]),
    "same id": (
        "name: s\ncases:\n- {id: a, bucket: b}\n- {id: a, bucket: b}",
        ["<suite>:4: cases[1].id: is also the id of"],
    ),
    "no bucket": ("name: s\ncases:\n- {id: a}", ["cases[0].bucket: is required"]),
    "unknown bucket": ("name: s\nbuckets: [x]\ncases:\n- {id: a, bucket: b}", ["unknown bucket 'b'; known: x"]),
    "unknown risk": ("name: s\ncases:\n- {id: a, bucket: b, risk: huge}", ["cases[0].risk", "critical"]),
    "unknown mode": ("name: s\ncases:\n- {id: a, bucket: b, expect: {tools_mode: loose}}", ["tools_mode", "any_order"]),
    "unknown word": (
        "name: s\ncases:\n- {id: a, bucket: b, expect: {compare: [vaguely]}}",
        ["compare[0]", "loose_text"],
    ),
    "unknown form": (
        "name: s\ncases:\n- {id: a, bucket: b, expect: {tools: [{tool: t, arguments: {q: {$some: 1}}}]}}",
        ["cases[0].expect.tools[0].arguments: ", "q.$some: unknown; known: $any"],
    ),
    "unknown key": ("name: s\ncases:\n- {id: a, bucket: b, buckt: c}", ["unknown key; did you mean bucket?"]),
    "no cases": ("name: s\ncases: []", ["cases"]),
    "nothing": ("", ["name: is required", "cases: is required"]),
    "a list": ("- 1\n- 2", ["<suite>"]),
    "number as id": ("name: s\ncases:\n- {id: 7, bucket: b}", ["cases[0].id", "put it in quotes"]),
    "control characters": ('name: s\ncases:\n- {id: "a\\e[31m", bucket: b}', ["cases[0].id"]),
    "path as name": ("name: ../../etc\ncases:\n- {id: a, bucket: b}", ["name"]),
    "not text": (b"\xff\xfe\x00\x01", ["UTF-8"]),
    "not YAML": ("name: [", ["is not YAML"]),
    "alias": ("name: &a s\ncases: *a", ["anchor"]),
    "cases as text": ("name: s\ncases: many", ["cases"]),
    "case as text": ("name: s\ncases: [a, a]", ["cases[0]", "cases[1]"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_suite_is_refused_with_its_problems(name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(ConfigError) as caught:
        parse_suite(text)
    for word in words:
        assert word in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    text = "name: s\ncases:\n- {bucket: b}\n- {id: a, bucket: b, risk: huge}\n- {id: a, bucket: b, oops: 1}\n- {id: a}"
    with pytest.raises(ConfigError) as caught:
        parse_suite(text)
    keys = sorted(problem.key for problem in caught.value.problems)
    assert keys == ["cases[0].id", "cases[1].risk", "cases[2].id", "cases[2].oops", "cases[3].bucket", "cases[3].id"]
    assert {p.key: p.line for p in caught.value.problems}["cases[2].oops"] == 5


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_garbage_is_refused_and_nothing_else(garbage: bytes | str) -> None:
    with pytest.raises(ConfigError):
        parse_suite(garbage)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ConfigError):
        parse_suite('{"name": "s", "cases": [{"id": "a", "bucket": "b", "input": "\\ud800"}]}')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_suite(tmp_path / "nowhere.yaml")


def test_a_case_that_asks_for_nothing_new_keeps_its_digest_and_every_case_comes_back() -> None:
    old = parse_suite(GOOD).cases[0]
    assert not {"compare", "fitting", "unfitting"} & orjson.loads(case_document(old))["expect"].keys()
    text = """
        name: s
        cases:
        - id: a
          bucket: b
          expect: {tools: [{tool: t, arguments: {q: {$any: [1, 2]}}}], compare: [only, dates], fitting: [t], unfitting: ["d_*"]}
    """
    for case in (old, *parse_suite(text).cases):
        assert read_case(case_document(case), case.digest) == case
