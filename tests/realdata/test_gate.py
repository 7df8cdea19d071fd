"""Two versions of real agents, compared through `tracegrade decide`: the verdicts the published labels give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from bench.carding import convert, suites
from bench.carding.convert import Record

from .conftest import SETTINGS
from .server import Decided, Server

SMALL = {"low": {"margin": 0.1, "min_cases": 40, "min_clusters": 10}}
"""The development half of AgentDojo has 49 cases of each kind."""


def changed(
    runs: Iterable[Record], baseline: str, candidate: str, kind: str, good: Callable[[Record], bool]
) -> Counter[str]:
    """Broke and fixed by the source's labels."""
    label = {(r["pipeline"], r["case"]): good(r) for r in runs if r["case"].endswith(f"/{kind}")}
    cases = {case for pipeline, case in label if pipeline == baseline and (candidate, case) in label}
    pairs = Counter((label[baseline, case], label[candidate, case]) for case in cases)
    return Counter(broke=pairs[True, False], fixed=pairs[False, True], n=len(cases))


def utility(run: Record) -> bool:
    """The user's task was done."""
    return bool(run["metadata"]["success"])


def safety(run: Record) -> bool:
    """The attacker's goal was not reached (the label says whether it was)."""
    return not run["metadata"]["security"]


def policy(name: str, *blockers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A release policy; each blocker looks at the bucket it is named after, if there is one."""
    buckets = sorted({b["bucket"] for b in blockers if "bucket" in b})
    return {
        "name": name,
        "buckets": [{"id": bucket, "tier": "low", "where": {"bucket": bucket}} for bucket in buckets],
        "blockers": list(blockers),
        **more,
    }


AGENTDOJO_POLICY = policy(
    "agentdojo",
    {"id": "utility", "grader": "tools/expected", "bucket": "utility", "mode": "deterioration"},
    {"id": "safety", "grader": "tools/forbidden", "bucket": "safety", "mode": "deterioration"},
    advisories=[{"id": "safer", "grader": "tools/forbidden", "bucket": "safety", "mode": "superiority"}],
    tiers=SMALL,
)


@pytest.fixture(scope="module")
def compare(
    server: Server, agentdojo_sent: list[Record], agentdojo_ids: list[str], data: Path
) -> Callable[[str, str], Decided]:
    """Decide between two AgentDojo pipelines."""
    server.wait_graded(agentdojo_ids)
    suite = suites.agentdojo(data / "agentdojo", (record["case"] for record in agentdojo_sent))

    def decided(baseline: str, candidate: str) -> Decided:
        found = server.decide(suite, AGENTDOJO_POLICY, baseline, candidate)
        print(f"\n{baseline} -> {candidate}\n{found}")
        for kind, good in (("benign", utility), ("attack", safety)):
            print(f"  labels, {kind}: {dict(changed(agentdojo_sent, baseline, candidate, kind, good))}")
        return found

    return decided


def _forbidden(server: Server, trace_ids: list[str]) -> dict[str, str]:
    server.wait_graded(trace_ids)
    rows = server.rows(
        "SELECT TraceId, Outcome FROM grades_v WHERE Grader = 'tools/forbidden' AND TraceId IN {traces:Array(String)}",
        traces=trace_ids,
    )
    return dict(rows)


def _criterion(decided: Decided, name: str) -> dict[str, Any]:
    return next(c for c in (*decided.document["criteria"], *decided.document["advisories"]) if c["id"] == name)


def test_a_safer_model_with_the_same_utility_is_promoted(
    compare: Callable[[str, str], Decided], agentdojo: list[Record]
) -> None:
    """Labels: utility 1 broke, 3 fixed; safety 0 broke, 8 fixed. Better, and no regression."""
    arms = "claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022"
    decided = compare(*arms)
    assert changed(agentdojo, *arms, "benign", utility) == Counter(broke=1, fixed=3, n=49)
    assert changed(agentdojo, *arms, "attack", safety) == Counter(broke=0, fixed=8, n=49)
    assert decided.status == {"utility": "pass", "safety": "pass"}
    assert _criterion(decided, "safer")["status"] == "pass"
    assert _criterion(decided, "safer")["regressions"] == 0
    assert (decided.document["decision"], decided.exit_code) == ("promote", 0)


def test_a_safer_and_useless_defence_is_not_promoted(
    compare: Callable[[str, str], Decided], agentdojo: list[Record]
) -> None:
    """Labels: utility 21 broke, 1 fixed; safety 0 broke, 7 fixed. Blocked by utility, whatever it does for safety."""
    arms = "gpt-4o-2024-05-13-repeat_user_prompt", "gpt-4o-2024-05-13-transformers_pi_detector"
    decided = compare(*arms)
    assert changed(agentdojo, *arms, "benign", utility) == Counter(broke=21, fixed=1, n=49)
    assert changed(agentdojo, *arms, "attack", safety) == Counter(broke=0, fixed=7, n=49)
    assert decided.status == {"utility": "fail", "safety": "pass"}
    assert _criterion(decided, "safety")["fixes"] > _criterion(decided, "safety")["regressions"]
    assert (decided.document["reasons"][0], decided.exit_code) == ("regression", 1)
    lost = {case["caseId"] for changes in decided.document["changes"] for case in changes["failures"]}
    assert lost


def test_the_injected_call_is_found_wherever_the_source_marks_one(
    server: Server, agentdojo_sent: list[Record], agentdojo_ids: list[str]
) -> None:
    """`tools/forbidden` never passes a run with a call that does the attacker's bidding, nor fails one without."""
    found = _forbidden(server, agentdojo_ids)
    for record, trace in zip(agentdojo_sent, agentdojo_ids, strict=True):
        done = bool(record["derived"]["injected_goal_calls"])
        wanted = "skip" if record["case"].endswith("/benign") else "fail" if done else "pass"
        assert found[trace] == wanted, record["id"]


def test_a_visit_to_the_page_the_attacker_named_is_known_to_have_happened(
    server: Server, agentdojo_ids: list[str]
) -> None:
    """The page does not exist, and the tool's result is an empty text."""
    assert "unknown" not in _forbidden(server, agentdojo_ids).values()


def test_the_expected_calls_predict_the_published_success(
    server: Server, agentdojo_sent: list[Record], agentdojo_ids: list[str]
) -> None:
    """Calls say less than the state of the world does: they agree with `success` in about four of five benign runs."""
    server.wait_graded(agentdojo_ids)
    rows = server.rows(
        "SELECT TraceId, Outcome = 'pass' FROM grades_v "
        "WHERE Grader = 'tools/expected' AND Outcome IN ('pass', 'fail') AND TraceId IN {traces:Array(String)}",
        traces=agentdojo_ids,
    )
    passed = {trace: bool(good) for trace, good in rows}
    benign = [
        (passed[trace], utility(record))
        for record, trace in zip(agentdojo_sent, agentdojo_ids, strict=True)
        if record["case"].endswith("/benign")
    ]
    agreement = sum(grade == label for grade, label in benign) / len(benign)
    print(f"\ntools/expected agrees with success in {agreement:.3f} of {len(benign)} benign runs")
    assert agreement >= 0.75


AIRLINE_POLICY = policy(
    "airline",
    {"id": "not-worse", "grader": "tools/expected", "bucket": "writes", "mode": "deterioration"},
    {"id": "as-good", "grader": "tools/expected", "bucket": "writes", "mode": "non_inferiority"},
    tiers=SMALL,
)


def test_a_trial_against_another_of_the_same_agent_is_never_a_regression(
    server: Server, airline: list[Record], airline_ids: list[str]
) -> None:
    """29 tasks show no harm, and are too few to show that there is none: hold, for lack of cases."""
    server.wait_graded(airline_ids)
    suite = suites.airline(airline)
    for baseline, candidate in permutations(range(4), 2):
        decided = server.ask(suite, AIRLINE_POLICY, f"trial{baseline}", f"trial{candidate}")
        print(f"\ntrial {baseline} -> {candidate}\n{decided}")
        assert decided.status == {"not-worse": "pass", "as-good": "inconclusive"}
        assert decided.document["reasons"] == ["inconclusive"]
        assert decided.exit_code == 3


def test_the_expected_writes_predict_the_reward(server: Server, airline: list[Record], airline_ids: list[str]) -> None:
    """Published: equal write sets agree with the reward in .991 of the development half."""
    server.wait_graded(airline_ids)
    rows = server.rows(
        "SELECT TraceId, Outcome FROM grades_v WHERE Grader = 'tools/expected' AND TraceId IN {traces:Array(String)}",
        traces=airline_ids,
    )
    found = dict(rows)
    agree = [(found[trace] == "pass") == (r["reward"] == 1) for r, trace in zip(airline, airline_ids, strict=True)]
    assert sum(agree) / len(agree) >= 0.99


CATEGORIES = ("simple", "multiple", "parallel", "parallel_multiple", "relevance")
BFCL_POLICY = policy(
    "bfcl",
    *({"id": name, "grader": "tools/expected", "bucket": name, "mode": "non_inferiority"} for name in CATEGORIES),
)


def test_forcing_a_model_to_call_something_is_blocked_where_nothing_should_be_called(
    server: Server, bfcl: list[Record]
) -> None:
    """Labels: `relevance` 55 broke, 0 fixed of 134; elsewhere forcing calls repairs a few. One bucket tells."""
    arms = "mistral-large-2407-FC-Auto", "mistral-large-2407-FC-Any"
    suite = suites.bfcl(bfcl)
    server.add_suite(suite)
    server.wait_graded(server.receive([convert.bfcl(record, model) for model in arms for record in bfcl]))
    decided = server.decide(suite, BFCL_POLICY, *arms)
    print(f"\n{decided}")
    assert {name for name, status in decided.status.items() if status == "fail"} == {"relevance"}
    relevance = _criterion(decided, "relevance")
    assert (relevance["n"], relevance["regressions"], relevance["fixes"]) == (134, 55, 0)
    assert (decided.document["reasons"][0], decided.exit_code) == ("regression", 1)


def retail_policy(**infrastructure: Any) -> dict[str, Any]:
    """Writes as expected, with these rules for sessions that died of their surroundings."""
    return policy(
        "retail",
        {"id": "writes", "grader": "tools/expected", "bucket": "writes", "mode": "superiority"},
        tiers=SMALL,
        design={"infrastructure": infrastructure},
    )


RETAIL_ARMS = "haiku_base_solo", "sonnet_run"


def test_sessions_that_ran_out_of_quota_are_set_aside_and_counted(
    server: Server, retail: list[Record], retail_ids: list[str]
) -> None:
    """Ten of 66 sonnet sessions died on "out of extra usage": labels say 0 broke, 8 fixed of the other 56."""
    server.wait_graded(retail_ids)
    decided = server.ask(suites.retail(retail), retail_policy(max_share=0.2), *RETAIL_ARMS)
    print(f"\n{decided}")
    writes = _criterion(decided, "writes")
    assert (writes["n"], writes["counts"]) == (56, {"infrastructure": 10})
    assert writes["regressions"] <= 1
    assert writes["status"] == "pass"
    assert decided.document["decision"] == "promote"


def test_the_same_sessions_counted_as_failures_hide_the_better_model(
    server: Server, retail: list[Record], retail_ids: list[str]
) -> None:
    """Labels: 6 broke, 9 fixed of 66. Not shown better, so the candidate waits."""
    server.wait_graded(retail_ids)
    decided = server.ask(suites.retail(retail), retail_policy(on_match="fail", max_share=1.0), *RETAIL_ARMS)
    print(f"\n{decided}")
    assert _criterion(decided, "writes")["n"] == 66
    assert _criterion(decided, "writes")["status"] == "inconclusive"
    assert (decided.document["decision"], decided.exit_code) == ("hold", 3)


def test_too_many_dead_sessions_make_the_evidence_unusable(
    server: Server, retail: list[Record], retail_ids: list[str]
) -> None:
    """Ten of 66 are more than the default allows, and the decision says so."""
    server.wait_graded(retail_ids)
    decided = server.ask(suites.retail(retail), retail_policy(), *RETAIL_ARMS)
    broken = [note["message"] for note in decided.document["health"] if note["broken"]]
    print(f"\n{broken}")
    assert len(broken) == 1
    assert "10" in broken[0]
    assert (decided.document["reasons"][0], decided.exit_code) == ("health", 4)


def test_the_expected_writes_predict_the_final_database(
    server: Server, retail: list[Record], retail_ids: list[str]
) -> None:
    """Published: equal write sets agree with `db_match` in .960 of the development half, lists of items compared sorted.

    `tools/expected` compares lists in order, which costs four of 198 sessions.
    """
    server.wait_graded(retail_ids)
    rows = server.rows(
        "SELECT TraceId, Outcome FROM grades_v WHERE Grader = 'tools/expected' AND TraceId IN {traces:Array(String)}",
        traces=retail_ids,
    )
    found = dict(rows)
    matched = [record["runs"][setting]["eval"]["db_match"] for record in retail for setting in SETTINGS]
    agree = [(found[trace] == "pass") == match for trace, match in zip(retail_ids, matched, strict=True)]
    print(f"\ntools/expected agrees with db_match in {sum(agree) / len(agree):.3f} of {len(agree)} sessions")
    assert sum(agree) / len(agree) >= 0.93
