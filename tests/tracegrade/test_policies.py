"""`tracegrade policy` on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import yaml
from click.testing import CliRunner

from graders.policy import AgentPolicy, policy_schema
from store.yamlfile import parse_yaml
from tracegrade.cli import cli

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = Path(__file__).parents[2] / "examples/support_agent/approvals.yaml"


def _run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["policy", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_published_schema_is_the_one_in_force_and_takes_what_loads() -> None:
    published = json.loads((DOCS / "agent-policy.schema.json").read_text())
    assert published == policy_schema(), "run: tracegrade policy schema > docs/agent-policy.schema.json"
    code, printed, _ = _run("schema")
    assert (code, json.loads(printed)) == (0, published)
    validator = jsonschema_rs.Draft202012Validator(published)
    validator.validate(yaml.safe_load(EXAMPLE.read_text()))
    assert not validator.is_valid({"tools": [{"match": "x", "effect": "reed"}]})
    assert not validator.is_valid({"toools": []})


def test_the_documented_policies_load() -> None:
    text = (DOCS / "agent-policies.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    policies = [parse_yaml(block, AgentPolicy) for block in blocks]
    assert [len(policy.tools) for policy in policies] == [3, 0, 3]


def test_lint_says_what_is_wrong_and_what_is_probably_not_meant(tmp_path: Path) -> None:
    code, out, err = _run("lint", str(EXAMPLE))
    assert code == 0
    assert "1 to look at" in out
    assert "unlisted" in err
    assert _run("lint", str(EXAMPLE), "--strict")[0] == 2
    code, out, _ = _run("lint", str(EXAMPLE), "--json")
    assert [json.loads(line)["key"] for line in out.splitlines()] == ["unlisted"]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tools:\n- {match: pay, effect: write, approvers: [bos]}\n- {match: a, efect: read}\n")
    code, _, err = _run("lint", str(wrong))
    assert code == 2
    assert "wrong.yaml:3" in err
    assert "did you mean effect?" in err
    assert _run("lint", str(tmp_path / "none.yaml"))[0] == 2


def test_suggest_needs_a_database_and_says_so(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"data_dir: {tmp_path / 'data'}\n")
    code, _, err = _run("suggest", "--config", str(config))
    assert code == 2
    assert "there is no database" in err
