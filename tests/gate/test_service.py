"""Evidence read by SQL from a real store, decisions kept in it, and the chain they form."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gate.decide import decide
from gate.decision import Status
from gate.evidence import ArmSelector, Gap, read
from gate.policy import GatePolicy
from gate.service import EvaluationRequest, GateService, NotFound
from gate.suite import Suite, parse_suite
from store.client import Store
from store.types import Grade, Outcome
from store.yamlfile import ConfigError

GRADER = "tools/expected"
KNOWN = {GRADER, "approval/boundary", "efficiency/cost"}
OUTCOMES = {"p": Outcome.PASS, "f": Outcome.FAIL, "u": Outcome.UNKNOWN, "s": Outcome.SKIP, "e": Outcome.ERROR}
START = datetime(2026, 11, 1, tzinfo=UTC)


def suite_text(count: int, name: str = "golden") -> str:
    cases = [{"id": f"c{i:03}", "bucket": "b", "input": "hello"} for i in range(count)]
    return json.dumps({"name": name, "cases": cases})


def policy_of(**changes: Any) -> GatePolicy:
    return GatePolicy.model_validate({"name": "p", "blockers": [{"id": "ok", "grader": GRADER}]} | changes)


def write_arm(
    store: Store,
    suite: Suite,
    version: str,
    words: Sequence[str],
    *,
    run: str = "",
    service: str = "agent",
    error: str = "",
    scores: Sequence[float] = (),
    graded: bool = True,
    **grade: Any,
) -> list[str]:
    """One trace a case; each letter of its word is the grade of one span. An empty word: no trace."""
    spans, grades, marks, ids = [], [], [], []
    for i, (case, word) in enumerate(zip(suite.cases, words, strict=True)):
        if not word:
            continue
        trace_id = f"{version}-{run}-{i}".encode().hex().rjust(32, "0")[-32:]
        ids.append(trace_id)
        common = {
            "TraceId": trace_id,
            "Service": service,
            "ServiceVersion": version,
            "RunId": run,
            "CaseId": case.id,
            "Suite": suite.name,
            "Dialect": "otel_genai",
        }
        broken = {"StatusCode": "Error", "StatusMessage": error} if error else {"StatusCode": "Ok", "StatusMessage": ""}
        root = {"SpanId": "root", "ParentSpanId": "", "Kind": "agent", "Duration": 2_000_000_000, "InputTokens": 99}
        call = {"SpanId": "llm", "ParentSpanId": "root", "Kind": "llm", "Duration": 1_000_000, "InputTokens": 10}
        for span in (common | root | broken, common | call | {"StatusCode": "Ok", "StatusMessage": ""}):
            spans.append(span | {"Timestamp": START + timedelta(seconds=i), "OutputTokens": 5})
        # A client may send a span twice.
        spans.append(spans[-1])
        mark = {"TraceId": trace_id, "Generation": 1, "Completeness": "complete", "GraderSet": "g"}
        marks.append(mark | {"LastIngested": datetime.now(UTC) + timedelta(hours=1)})
        grades += [
            Grade(
                trace_id=trace_id,
                span_id=f"span{k}",
                grader=grade.get("grader", GRADER),
                grader_version=grade.get("version", "1"),
                config_digest="cfg",
                outcome=OUTCOMES[letter],
                score=scores[i] if scores else None,
                reason=f"span {k} of {case.id}: '; DROP TABLE grades; --",
                case_digest=grade.get("case_digest", case.digest),
            )
            for k, letter in enumerate(word)
        ]
    store.insert("agent_spans", spans)
    store.insert_grades(grades)
    if graded:
        store.mark_graded(marks)
    return ids


def version(value: str, service: str = "") -> ArmSelector:
    return ArmSelector(kind="version", value=value, service=service)


FOLD = [("p", 1.0), ("pf", 0.0), ("efp", 0.0), ("pep", Gap.ERROR), ("eu", Gap.ERROR), ("pup", Gap.UNKNOWN),
        ("us", Gap.UNKNOWN), ("sps", 1.0), ("ss", Gap.SKIP), ("", Gap.MISSING)]  # fmt: skip


def test_grades_of_spans_fold_into_the_verdict_of_their_trace(store: Store) -> None:
    suite = parse_suite(suite_text(len(FOLD)))
    words = [word for word, _ in FOLD]
    write_arm(store, suite, "1", words)
    write_arm(store, suite, "2", words)
    found = read(store, suite, policy_of(), version("1"), version("2"))
    for arm in (found.baseline, found.candidate):
        assert list(arm.columns[GRADER, "outcome"].values) == [value for _, value in FOLD]
    assert found.shared_traces == 0


def test_metrics_count_each_model_call_once(store: Store) -> None:
    suite = parse_suite(suite_text(3))
    write_arm(store, suite, "1", ["p"] * 3)
    write_arm(store, suite, "2", ["p"] * 3, grader="efficiency/cost", scores=[1.0, 2.0, 3.0])
    budgets = [{"id": f"b{i}", "metric": m, "max_increase": 1} for i, m in enumerate(("total_tokens", "latency_ms"))]
    budgets.append({"id": "c", "metric": "efficiency/cost", "max_increase": 1})
    found = read(store, suite, policy_of(budgets=budgets), version("1"), version("2"))
    assert list(found.baseline.columns["total_tokens", "amount"].values) == [15.0] * 3
    assert list(found.baseline.columns["latency_ms", "amount"].values) == [2000.0] * 3
    assert list(found.candidate.columns["efficiency/cost", "amount"].values) == [1.0, 2.0, 3.0]
    assert list(found.baseline.columns["efficiency/cost", "amount"].values) == [Gap.MISSING] * 3


def test_a_run_that_goes_on_after_it_was_graded_is_not_decided_on(store: Store) -> None:
    suite = parse_suite(suite_text(120))
    quick = GateService(store, KNOWN, settle_seconds=0)
    quick.keep_suite(suite)
    write_arm(store, suite, "1", ["p"] * 120)
    (late, *_) = write_arm(store, suite, "2", ["p"] * 120)
    store.mark_graded(
        [
            {"TraceId": late, "Generation": 1, "Completeness": "complete", "GraderSet": "g", "LastIngested": START}
            | {"GradedAt": datetime.now(UTC) + timedelta(hours=2)}
        ]
    )
    request = EvaluationRequest(suite="golden", policy=policy_of(), baseline=version("1"), candidate=version("2"))
    decision = quick.evaluate(request).decision
    assert (decision.decision, decision.exit_code) == ("hold", 4)
    assert "candidate: 1 runs got something new since they were graded" in decision.summary


def test_services_taken_together_are_named(store: Store) -> None:
    suite = parse_suite(suite_text(2))
    write_arm(store, suite, "1", ["p", "p"])
    write_arm(store, suite, "2", ["p", "p"], run="x")
    write_arm(store, suite, "2", ["p", "p"], run="y", service="proxy")
    pooled = read(store, suite, policy_of(), version("1"), version("2"))
    assert (pooled.baseline.services, pooled.candidate.services) == (("agent",), ("agent", "proxy"))
    note = next(note for note in decide(policy_of(), pooled, "2026-11-21").health if note.check == "services")
    assert (note.broken, "agent, proxy" in note.message) == (False, True)
    assert read(store, suite, policy_of(), version("1"), version("2", "proxy")).candidate.services == ("proxy",)


def test_a_model_call_that_hides_its_tokens_makes_the_sum_unknown(store: Store) -> None:
    suite = parse_suite(suite_text(2))
    ids = write_arm(store, suite, "1", ["p"] * 2)
    store.command(
        "INSERT INTO agent_spans (TraceId, Timestamp, SpanId, ParentSpanId, Kind) "
        "VALUES ({trace:String}, '2026-11-01 00:00:01', 'mute', 'root', 'llm')",
        {"trace": ids[1]},
    )
    write_arm(store, suite, "2", ["p"] * 2)
    budgets = [{"id": "b", "metric": "total_tokens", "max_increase": 1}]
    found = read(store, suite, policy_of(budgets=budgets), version("1"), version("2"))
    assert list(found.baseline.columns["total_tokens", "amount"].values) == [15.0, Gap.MISSING]


def test_only_the_newest_generation_counts(store: Store) -> None:
    suite = parse_suite(suite_text(1))
    (trace_id,) = write_arm(store, suite, "1", ["f"])
    fields = {"grader": GRADER, "grader_version": "1", "config_digest": "cfg", "case_digest": suite.cases[0].digest}
    store.insert_grades([Grade(trace_id=trace_id, span_id="x", outcome=Outcome.PASS, generation=2, **fields)])
    found = read(store, suite, policy_of(), version("1"), version("2"))
    assert found.baseline.columns[GRADER, "outcome"].values[0] == 0.0
    mark = {"TraceId": trace_id, "Generation": 2, "LastIngested": START, "Completeness": "complete", "GraderSet": "g"}
    store.mark_graded([mark | {"GradedAt": datetime.now(UTC) + timedelta(seconds=5)}])
    found = read(store, suite, policy_of(), version("1"), version("2"))
    assert found.baseline.columns[GRADER, "outcome"].values[0] == 1.0


def test_arms_are_chosen_by_version_run_and_service(store: Store) -> None:
    suite = parse_suite(suite_text(2))
    write_arm(store, suite, "1", ["p", "p"], run="r1")
    write_arm(store, suite, "1", ["f", "f"], run="r2", service="other")
    values = {}
    for name, selector in {
        "both": version("1"),
        "service": version("1", "other"),
        "run": ArmSelector(kind="run", value="r1"),
        "none": version("1' OR '1'='1"),
    }.items():
        arm = read(store, suite, policy_of(), selector, version("2")).baseline
        values[name] = (arm.runs, list(arm.columns[GRADER, "outcome"].values))
    assert values == {
        "both": (4, [0.5, 0.5]),
        "service": (2, [0.0, 0.0]),
        "run": (2, [1.0, 1.0]),
        "none": (0, [Gap.MISSING, Gap.MISSING]),
    }


def test_another_suites_cases_stay_apart(store: Store) -> None:
    suite, other = parse_suite(suite_text(2)), parse_suite(suite_text(3, "other"))
    write_arm(store, suite, "1", ["p", "p"])
    write_arm(store, other, "1", ["f", "f", "f"], run="x")
    assert read(store, suite, policy_of(), version("1"), version("2")).baseline.runs == 2
    longer = parse_suite(suite_text(3))
    write_arm(store, longer, "3", ["p"] * 3)
    assert read(store, suite, policy_of(), version("3"), version("2")).baseline.foreign == 1


def test_dead_runs_are_recognised_by_their_root_span(store: Store) -> None:
    suite = parse_suite(suite_text(2))
    write_arm(store, suite, "1", ["e", "e"], error="You're out of extra usage")
    write_arm(store, suite, "2", ["f", "f"], error="KeyError: 'order'")
    found = read(store, suite, policy_of(), version("1"), version("2"))
    assert len(found.baseline.infrastructure) == 2
    assert list(found.baseline.columns[GRADER, "outcome"].values) == [Gap.INFRASTRUCTURE] * 2
    assert list(found.candidate.columns[GRADER, "outcome"].values) == [0.0, 0.0]


# --- the service ----------------------------------------------------------------------------------------------


@pytest.fixture
def service(store: Store) -> GateService:
    return GateService(store, KNOWN, {"standard": policy_of()}, settle_seconds=0.3)


def ask(**changes: Any) -> EvaluationRequest:
    fields = {"suite": "golden", "policy": "standard", "baseline": version("1"), "candidate": version("2")}
    return EvaluationRequest.model_validate(fields | changes)


def test_a_blocked_candidate_from_end_to_end(store: Store, service: GateService) -> None:
    suite = service.save_suite(suite_text(120))
    write_arm(store, suite, "1", ["p"] * 120)
    bad = write_arm(store, suite, "2", ["p"] * 100 + ["pf"] * 20)
    made = service.evaluate(ask(as_of="2026-11-21"))
    assert made.decision.decision == "hold"
    assert made.decision.exit_code == 1
    (change,) = made.decision.changes
    assert change.new_failures == 20
    first = change.failures[0]
    assert first.traces[0] in bad
    assert [(o.trace_id, o.span_id) for o in first.offences] == [(first.traces[0], "span1")]
    assert "DROP TABLE" in first.offences[0].reason
    assert service.get(made.id) == json.loads(json.dumps(made.document))
    assert service.get(made.id)["policyDocument"]["name"] == "p"
    again = service.evaluate(ask(as_of="2026-11-21"))
    assert (again.decision.digest, again.id != made.id) == (made.decision.digest, True)


def test_a_harmless_candidate_is_promoted(store: Store, service: GateService) -> None:
    suite = service.save_suite(suite_text(120))
    write_arm(store, suite, "1", ["p"] * 120)
    write_arm(store, suite, "2", ["p"] * 120)
    made = service.evaluate(ask())
    assert (made.decision.decision, made.decision.exit_code) == ("promote", 0)
    assert made.decision.criteria[0].status == Status.PASS


def test_ungraded_and_outdated_runs_hold(store: Store, service: GateService) -> None:
    suite = service.save_suite(suite_text(120))
    write_arm(store, suite, "1", ["p"] * 120)
    write_arm(store, suite, "2", ["p"] * 120, grader="approval/boundary")
    write_arm(store, suite, "3", ["p"] * 120, case_digest="sha256:old")
    ungraded, outdated = service.evaluate(ask()), service.evaluate(ask(candidate=version("3")))
    assert "120 runs not graded by tools/expected" in ungraded.decision.summary
    assert "other versions of the cases" in outdated.decision.summary
    assert (ungraded.decision.exit_code, outdated.decision.exit_code) == (4, 4)


def test_an_evaluation_waits_for_grades_under_way(store: Store, service: GateService) -> None:
    suite = service.save_suite(suite_text(120))
    write_arm(store, suite, "1", ["p"] * 120)
    write_arm(store, suite, "2", ["p"] * 120, graded=False)
    start = time.monotonic()
    decision = service.evaluate(ask()).decision
    assert time.monotonic() - start >= 0.3
    assert "120 runs not graded by tools/expected" in decision.summary


def test_the_newest_suite_is_used_unless_one_is_named(store: Store, service: GateService) -> None:
    old, new = service.save_suite(suite_text(3)), service.save_suite(suite_text(4))
    assert service.suite("golden") == new
    assert service.suite("golden", old.digest) == old
    service.save_suite(suite_text(3))
    assert service.suite("golden").cases == old.cases


def test_decisions_form_a_chain_that_shows_tampering(store: Store, service: GateService) -> None:
    service.save_suite(suite_text(2))
    made = [service.evaluate(ask()) for _ in range(3)]
    assert service.verify() == ""
    assert [row["id"] for row in service.decisions()] == [m.id for m in reversed(made)]
    assert [row["id"] for row in service.decisions(limit=2)] == [made[2].id, made[1].id]
    assert service.decisions(suite="other") == []
    row = store.query("SELECT * FROM decisions WHERE DecisionId = {id:String}", {"id": made[1].id})[0]
    store.command("TRUNCATE TABLE decisions")
    assert service.verify() == ""
    kept = [service.evaluate(ask()) for _ in range(2)]
    store.insert("decisions", [row])
    assert service.verify() in {kept[0].id, row["DecisionId"]}


REFUSED = {
    "unknown suite": ({"suite": "nope"}, NotFound, "no suite 'nope' is stored; stored: golden"),
    "unknown version": ({"suite_digest": "sha256:0"}, NotFound, "no suite 'golden' version sha256:0"),
    "unknown policy": ({"policy": "nope"}, NotFound, "no policy 'nope'; known: standard"),
    "same arm": ({"candidate": version("1")}, ConfigError, "cannot be compared with itself"),
    "unknown grader": (
        {"policy": policy_of(blockers=[{"id": "x", "grader": "no/no"}])}, ConfigError, "unknown grader 'no/no'"),
    "pinned": ({"policy": policy_of(pins={"suite": "sha256:1"})}, ConfigError, "move the pin"),
}  # fmt: skip


def test_refused_before_anything_runs(service: GateService) -> None:
    service.save_suite(suite_text(2))
    for changes, error, words in REFUSED.values():
        with pytest.raises(error, match=words):
            service.evaluate(ask(**changes))
    assert service.decisions() == []


def test_a_service_with_an_unusable_policy_does_not_start(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"bad: .*unknown grader"):
        GateService(store, {"other/one"}, {"bad": policy_of()})


def test_unknown_decisions_are_not_found(service: GateService) -> None:
    for decision_id in ("", "nope", "' OR 1=1 --"):
        with pytest.raises(NotFound):
            service.get(decision_id)


# --- what became of a decision's evidence ---


def regrade(store: Store, trace_id: str, generation: int) -> None:
    mark = {"TraceId": trace_id, "Generation": generation, "Completeness": "complete", "GraderSet": "g"}
    now = datetime.now(UTC) + timedelta(hours=generation)
    store.mark_graded([{**mark, "LastIngested": now, "GradedAt": now}])


def test_a_decision_says_what_it_used_was_graded_again(store: Store, service: GateService) -> None:
    suite = parse_suite(suite_text(120))
    service.keep_suite(suite)
    write_arm(store, suite, "1", ["p"] * 120)
    first, second, *_ = write_arm(store, suite, "2", ["p"] * 120)
    request = EvaluationRequest(suite="golden", policy=policy_of(), baseline=version("1"), candidate=version("2"))
    made = service.evaluate(request)
    document = service.get(made.id)
    assert service.superseded(made.id) == {"count": 0, "traces": []}
    regrade(store, second, 2)
    regrade(store, first, 2)
    regrade(store, first, 3)
    write_arm(store, suite, "3", ["p"] * 120)
    found = [{"traceId": first, "usedGeneration": 1, "generation": 3}]
    found.append({"traceId": second, "usedGeneration": 1, "generation": 2})
    assert service.superseded(made.id) == {"count": 2, "traces": sorted(found, key=lambda row: str(row["traceId"]))}
    assert service.get(made.id) == document
    assert service.verify() == ""
    later = service.evaluate(request)
    assert service.superseded(later.id) == {"count": 0, "traces": []}
    view = "SELECT DecisionId, Decision, EvidenceTraces, SupersededTraces FROM decisions_v ORDER BY DecidedAt"
    assert [tuple(row.values()) for row in store.query(view)] == [
        (made.id, made.decision.decision, 240, 2),
        (later.id, later.decision.decision, 240, 0),
    ]


def test_a_trace_that_was_not_graded_yet_supersedes_too(store: Store, service: GateService) -> None:
    suite = parse_suite(suite_text(3))
    service.keep_suite(suite)
    write_arm(store, suite, "1", ["p"] * 3)
    ids = write_arm(store, suite, "2", ["p"] * 3, graded=False)
    request = EvaluationRequest(suite="golden", policy=policy_of(), baseline=version("1"), candidate=version("2"))
    made = service.evaluate(request)
    regrade(store, ids[0], 1)
    assert service.superseded(made.id) == {
        "count": 1,
        "traces": [{"traceId": ids[0], "usedGeneration": 0, "generation": 1}],
    }


def test_of_a_decision_from_before_nothing_is_claimed(store: Store, service: GateService) -> None:
    suite = parse_suite(suite_text(3))
    service.keep_suite(suite)
    for name in "12":
        write_arm(store, suite, name, ["p"] * 3)
    request = EvaluationRequest(suite="golden", policy=policy_of(), baseline=version("1"), candidate=version("2"))
    made = service.evaluate(request)
    store.command("TRUNCATE TABLE decision_evidence")
    assert service.superseded(made.id) is None
    (row,) = store.query("SELECT EvidenceTraces, SupersededTraces FROM decisions_v")
    assert (row["EvidenceTraces"], row["SupersededTraces"]) == (None, None)
    with pytest.raises(NotFound):
        service.superseded("none")
