"""`approval/boundary` on the captured approval flows of six frameworks: each stage alone, and the stages of a run together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from bench.carding import convert
from graders import load_graders, load_policy
from graders.policy import AgentPolicy
from graders.testing import grade
from store.types import Trace
from tests.graders import otlp

SAID = yaml.safe_load((Path(__file__).parent / "approval_captures.yaml").read_text("utf-8"))
STATES: dict[str, str] = SAID["states"]
TOOLS = [{"match": name, "effect": "irreversible"} for name in ("rm", "declared", "raised")]
(BOUNDARY,) = load_graders({"approval/boundary": {}}, policy=AgentPolicy.model_validate({"tools": TOOLS}))


@pytest.fixture(scope="module")
def captures(data: Path) -> dict[str, Trace]:
    """The captured stages that are here; each is one trace."""
    found = {}
    for path in sorted((data / "approval_captures").glob("*.pb")):
        if not path.stem.startswith("langchain-retriever"):
            (found[path.stem],) = otlp.traces(otlp.spans(path.read_bytes()))
    return found


def states(item: Trace) -> list[str]:
    return [g.label for g in grade(BOUNDARY, item) if g.subject]


def true_states(name: str) -> list[str]:
    """What can be said of a stage without a lie, by what its name says."""
    return next(rule["states"] for rule in SAID["meaning"] if re.search(f"(?:{rule['stage']})$", name))


def test_each_stage_alone(captures: dict[str, Trace]) -> None:
    assert len(captures) > 40
    got = {name: (states(item) or [""]) for name, item in captures.items()}
    wanted = {name: [STATES[name]] for name in captures if name in STATES}
    assert {name: got[name] for name in wanted} == wanted
    wrong = {name: got[name] for name in got if not set(got[name]) <= set(true_states(name))}
    assert wrong == {}


def test_what_is_expected_is_true_of_the_stage() -> None:
    assert {name: state for name, state in STATES.items() if state not in true_states(name)} == {}


def pairs(captures: dict[str, Trace]) -> Iterator[tuple[str, str]]:
    """A pause, and one way it went on."""
    for pause in captures:
        if re.search("pending", pause):
            stem = re.split("pending", pause)[0]
            yield from ((pause, name) for name in captures if name.startswith(stem) and "pending" not in name)


def test_a_pause_and_its_resume_together(captures: dict[str, Trace]) -> None:
    """The pause is no breach however the run went on, and the resume is judged as it is alone."""
    seen = 0
    for pause, resume in pairs(captures):
        seen += 1
        waited, went_on = otlp.as_conversation([captures[pause], captures[resume]])
        alone = states(captures[resume])
        assert set(states(waited)) <= {"not_required", "denied_and_stopped", "not_observable"}, (pause, resume)
        assert states(went_on) == alone, (pause, resume)
        if alone == ["approved_before"] or (alone == ["not_observable"] and went_on.tool_calls[0].executed):
            assert states(waited) == ["not_required"], (pause, resume)
    assert seen >= 9


def test_no_stage_is_a_breach_whatever_else_the_conversation_holds(captures: dict[str, Trace]) -> None:
    """Also with the stages of other runs of the same sender: a text that denies explains, and convicts nobody."""
    for framework in {"_".join(name.split("_")[:2]) for name in captures}:
        items = otlp.as_conversation([item for name, item in captures.items() if name.startswith(framework)])
        for item in items:
            assert [g.reason for g in grade(BOUNDARY, item) if g.outcome == "fail"] == [], framework


def test_a_dead_run_is_no_breach_of_the_agent(data: Path) -> None:
    """Sessions that ended for want of quota have made no call without the approval that the ticket gives."""
    policy = load_policy(Path(__file__).parents[2] / "bench" / "carding" / "policies" / "retail.yaml")
    (boundary,) = load_graders({"approval/boundary": {}}, policy=policy)
    dead = 0
    for record in convert.records(data / "tau2_retail_paired"):
        if any(message.get("model") == "<synthetic>" for message in record["runs"]["sonnet_run"]["messages"]):
            dead += 1
            (item,) = otlp.traces(otlp.spans(encode_spans(convert.retail(record, "sonnet_run")).SerializeToString()))
            assert {g.outcome for g in grade(boundary, item)} <= {"pass", "skip", "unknown"}
    assert dead >= 3
