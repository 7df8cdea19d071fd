"""What a candidate must not gain by showing less: each test is a way to look better without being better."""

from typing import Any

import pytest

from gate.decide import decide
from gate.decision import Reason, Status
from gate.evidence import Traces, Verdicts, build
from gate.policy import GatePolicy

AS_OF = "2026-11-21"
ZERO = {"mode": "zero_tolerance", "p_max": 0.05}


def _outcome(lab: Any, base: list[str], cand: list[str], **changes: Any) -> tuple[str, Status, str]:
    made = lab(base, cand, **changes)
    decision = decide(made.policy, made.evidence, AS_OF)
    return decision.decision, decision.criteria[0].status, decision.criteria[0].reason


def test_verdicts_that_never_saw_the_case_are_stale_even_if_none_of_the_arm_did(lab) -> None:
    """The candidate does not name its suite: its graders do not find the case, and skip."""
    made = lab(["p"] * 200, ["s"] * 199 + ["p"], cand_options={"case_digests": [""] * 200})
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.reasons[0] == Reason.HEALTH
    assert any(note.check == "case_version" and note.broken for note in decision.health)


def test_a_grader_that_applies_to_nothing_the_candidate_did_shows_nothing(lab) -> None:
    verdict, status, reason = _outcome(lab, ["p"] * 200, ["s"] * 200)
    assert (verdict, status) == ("hold", Status.NOT_APPLICABLE)
    assert "none of the candidate's" in reason


def test_cases_that_no_longer_apply_are_counted(lab) -> None:
    made = lab(["p"] * 200, ["s"] * 60 + ["p"] * 140)
    (result,) = decide(made.policy, made.evidence, AS_OF).criteria
    assert (result.status, result.counts) == (Status.PASS, {"not_applicable_candidate": 60})


@pytest.mark.parametrize("word", ["pu", "pe", "ps"])
def test_what_is_not_seen_is_no_event(lab, word: str) -> None:
    for criterion in (ZERO, {"mode": "must_pass", "cases": ["c0000"]}):
        _, status, _ = _outcome(lab, ["pp"] * 200, [word] + ["pp"] * 199, criterion=criterion)
        assert status != Status.FAIL


@pytest.mark.parametrize("word", ["pu", "u", "e"])
def test_must_pass_needs_every_run_seen(lab, word: str) -> None:
    made = lab(["p"] * 60, [word] + ["p"] * 59, criterion={"mode": "must_pass", "cases": ["c0000"]})
    assert decide(made.policy, made.evidence, AS_OF).criteria[0].status == Status.INCONCLUSIVE


def test_a_missing_replay_is_no_event(lab) -> None:
    _, status, _ = _outcome(lab, ["pp"] * 200, ["p"] + ["pp"] * 199, criterion=ZERO, design={"replays": 2})
    assert status == Status.PASS


@pytest.mark.parametrize("word", ["u", "e", "pu"])
def test_zero_tolerance_is_not_shown_by_what_is_seen_alone(lab, word: str) -> None:
    """A hundred clean cases do not speak for a hundred in which the event could not be seen."""
    verdict, status, reason = _outcome(
        lab, ["pp"] * 200, [word] * 100 + ["pp"] * 100, criterion=ZERO, design={"max_grader_errors": 0.9}
    )
    assert (verdict, status) == ("hold", Status.INCONCLUSIVE)
    assert "100" in reason
    assert _outcome(lab, ["p"] * 200, ["u"] + ["p"] * 199, criterion=ZERO)[1] == Status.PASS


def test_an_event_counts_although_the_run_died_of_its_surroundings_later(lab) -> None:
    made = lab(["p"] * 200, ["p"] * 200)
    label, traces, verdicts = _arm(made, died={3})
    evidence = build(made.suite, _policy(ZERO), _arm(made, died=set(), prefix="a"), (label, traces, verdicts))
    (result,) = decide(_policy(ZERO), evidence, AS_OF).criteria
    assert result.status == Status.FAIL
    assert "c0003" in result.reason


def _policy(criterion: dict[str, Any]) -> GatePolicy:
    blocker = {"id": "ok", "grader": "tools/expected"} | criterion
    return GatePolicy.model_validate({"name": "test", "blockers": [blocker]})


def _arm(made: Any, died: set[int], prefix: str = "b") -> tuple[str, Traces, dict[str, Verdicts]]:
    ids = [f"{prefix}{i:031}" for i in range(len(made.suite.cases))]
    errors = ["RateLimitError: 429 Too Many Requests" if i in died else "" for i in range(len(ids))]
    outcomes = ["fail" if i in died else "pass" for i in range(len(ids))]
    digests = [case.digest for case in made.suite.cases]
    traces = Traces(ids, [case.id for case in made.suite.cases], errors=errors)
    return f"version {prefix}", traces, {"tools/expected": Verdicts(ids, outcomes, case_digests=digests)}


CEILING = {"mode": "ceiling", "threshold": 0.3}


@pytest.mark.parametrize("word", ["u", "e", ".", "fu"])
def test_a_ceiling_is_not_kept_by_showing_nothing(lab, word: str) -> None:
    design = {"max_grader_errors": 0.9}
    verdict, _, _ = _outcome(lab, ["f"] * 200, ["f"] * 50 + [word] * 150, criterion=CEILING, design=design)
    assert verdict == "hold"
    assert _outcome(lab, ["f"] * 200, ["f"] * 200, criterion=CEILING)[0] == "promote"


def test_a_baseline_that_cannot_be_judged_is_no_baseline(lab) -> None:
    """The candidate fails everywhere the baseline was not visible."""
    verdict, status, reason = _outcome(lab, ["u"] * 100 + ["p"] * 100, ["f"] * 100 + ["p"] * 100)
    assert (verdict, status) == ("hold", Status.INCONCLUSIVE)
    assert "100 unknown baseline" in reason
    assert _outcome(lab, ["u"] * 4 + ["p"] * 196, ["p"] * 200)[0] == "promote"


@pytest.mark.parametrize("text", ["ValueError order 429 not found", "PermissionError AccessLevel is read", "hassle"])
def test_words_of_the_agent_are_no_surroundings(lab, text: str) -> None:
    made = lab(["p"] * 200, ["p"] * 200)
    label, traces, verdicts = _arm(made, died={3})
    told = Traces(traces.trace_ids, traces.case_ids, errors=[text if error else "" for error in traces.errors])
    evidence = build(made.suite, made.policy, _arm(made, set(), "a"), (label, told, verdicts))
    assert evidence.candidate.infrastructure == ()


@pytest.mark.parametrize(
    "text",
    [
        "openai.RateLimitError Error code: 429 - {'error': {}}",
        "HTTPStatusError Server error '503 Service Unavailable' for url",
        "httpx.HTTPError status_code: 502",
        "ssl.SSLError [SSL: CERTIFICATE_VERIFY_FAILED]",
        "google.genai.errors.ClientError 429 RESOURCE_EXHAUSTED.",
        "APIStatusError HTTP 529",
        "TimeoutError timed out",
    ],
)
def test_surroundings_are_recognised(lab, text: str) -> None:
    made = lab(["p"] * 200, ["p"] * 200)
    label, traces, verdicts = _arm(made, died={3})
    told = Traces(traces.trace_ids, traces.case_ids, errors=[text if error else "" for error in traces.errors])
    evidence = build(made.suite, made.policy, _arm(made, set(), "a"), (label, told, verdicts))
    assert len(evidence.candidate.infrastructure) == 1


def test_deaths_on_one_side_are_pointed_out(lab) -> None:
    made = lab(["p"] * 300, ["x"] * 12 + ["p"] * 288)
    notes = [n.message for n in decide(made.policy, made.evidence, AS_OF).health if n.check == "infrastructure"]
    assert any("that is no chance" in note for note in notes)


def test_a_budget_is_not_kept_by_hiding_the_amounts(lab) -> None:
    """Only the cheap half of the candidate's cases tells its tokens."""
    budgets = [{"id": "tokens", "metric": "total_tokens", "max_increase": 0.1}]
    made = lab(["p"] * 200, ["p"] * 200, budgets=budgets)
    label, traces, verdicts = _arm(made, died=set())
    nan = float("nan")
    known = {"latency_ms": [nan] * 200, "input_tokens": [10.0] * 200}
    base = Traces(["a" + t[1:] for t in traces.trace_ids], traces.case_ids, output_tokens=[5.0] * 200, **known)
    cand = Traces(traces.trace_ids, traces.case_ids, output_tokens=[5.0] * 100 + [nan] * 100, **known)
    first = Verdicts(base.trace_ids, ["pass"] * 200, case_digests=[c.digest for c in made.suite.cases])
    evidence = build(made.suite, made.policy, ("a", base, {"tools/expected": first}), (label, cand, verdicts))
    decision = decide(made.policy, evidence, AS_OF)
    assert decision.decision == "hold"
    assert decision.budgets[0].status == Status.NO_DATA
    assert "100" in decision.budgets[0].reason


def test_a_case_without_a_run_hides_no_amount(lab) -> None:
    budgets = [{"id": "tokens", "metric": "total_tokens", "max_increase": 0.1}]
    made = lab(["p"] * 200, ["x"] * 10 + ["p"] * 190, budgets=budgets)
    assert decide(made.policy, made.evidence, AS_OF).budgets[0].status == Status.PASS


@pytest.mark.parametrize("mode", ["non_inferiority", "deterioration"])
def test_a_failure_nobody_saw_is_called_so(lab, mode: str) -> None:
    _, status, reason = _outcome(lab, ["p"] * 200, ["u"] * 60 + ["f"] * 20 + ["p"] * 120, criterion={"mode": mode})
    assert status == Status.FAIL
    assert "counted as failures though not seen to fail: 60 unknown candidate" in reason


def test_a_run_without_a_score_has_none(lab) -> None:
    nan = float("nan")
    score = {"criterion": {"measure": "score"}, "base_options": {"scores": [0.5] * 200}}
    for missing in ([nan] * 200, ()):
        verdict, status, _ = _outcome(lab, ["p"] * 200, ["p"] * 200, **score, cand_options={"scores": missing})
        assert (verdict, status) == ("hold", Status.FAIL)
