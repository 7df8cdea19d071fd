"""From evidence to decision: the fold, the pairing, the four states, the precedence, determinism."""

import json
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gate import stats
from gate.compare import pair
from gate.decide import decide
from gate.decision import Reason, Status
from gate.evidence import Gap, Traces, Verdicts, build
from gate.policy import GatePolicy
from gate.suite import Suite

AS_OF = "2026-11-21"
GRADER = "tools/expected"
KEY = (GRADER, "outcome")


def _words(both: int, reg: int, fix: int, neither: int = 0) -> tuple[list[str], list[str]]:
    base = ["p"] * both + ["p"] * reg + ["f"] * fix + ["f"] * neither
    cand = ["p"] * both + ["f"] * reg + ["p"] * fix + ["f"] * neither
    return base, cand


# --- the fold: runs of one case to one value -------------------------------------------------------

# word, value as baseline, value as candidate
FOLD = [
    ("p", 1.0, 1.0),
    ("f", 0.0, 0.0),
    ("s", Gap.SKIP, Gap.SKIP),
    ("u", Gap.UNKNOWN, Gap.UNKNOWN),
    ("e", Gap.ERROR, Gap.ERROR),
    ("x", Gap.INFRASTRUCTURE, Gap.INFRASTRUCTURE),
    (".", Gap.MISSING, Gap.MISSING),
    ("pf", 0.5, 0.5),
    ("ppf", 0.666666666667, 0.666666666667),
    ("ps", 1.0, 1.0),
    ("fs", 0.5, 0.5),
    ("pu", 1.0, 0.5),
    ("pe", 1.0, 0.5),
    ("fx", 0.0, 0.0),
    ("px", 1.0, 1.0),
    ("su", Gap.UNKNOWN, Gap.UNKNOWN),
    ("se", Gap.ERROR, Gap.ERROR),
    ("ue", Gap.ERROR, Gap.ERROR),
    ("ss", Gap.SKIP, Gap.SKIP),
]


@pytest.mark.parametrize(("word", "as_baseline", "as_candidate"), FOLD, ids=[row[0] for row in FOLD])
def test_runs_fold_into_one_value(lab, word: str, as_baseline: float, as_candidate: float) -> None:
    made = lab([word], [word])
    assert made.evidence.baseline.columns[KEY].values[0] == as_baseline
    assert made.evidence.candidate.columns[KEY].values[0] == as_candidate


@pytest.mark.parametrize(("word", "value"), [("p", 0.25), ("pp", 0.5), ("px", 1 / 3), ("s", 0.25), ("pppp", 1.0)])
def test_replays_the_candidate_lacks_count_as_failures(lab, word: str, value: float) -> None:
    made = lab(["pppp"], [word], design={"replays": 4})
    assert made.evidence.candidate.columns[KEY].values[0] == pytest.approx(value)
    assert lab([word], ["pppp"], design={"replays": 4}).evidence.baseline.columns[KEY].values[0] in (1.0, Gap.SKIP)


# --- pairing ---------------------------------------------------------------------------------------

# baseline, candidate, difference (None: left out), what is counted
PAIRING = [
    ("p", "p", 0.0, ""),
    ("p", "f", -1.0, ""),
    ("f", "p", 1.0, ""),
    ("s", "s", None, "not_applicable"),
    ("s", "f", -1.0, ""),
    ("s", "p", 0.0, ""),
    ("f", "s", 1.0, "not_applicable_candidate"),
    ("p", "s", 0.0, "not_applicable_candidate"),
    (".", "p", None, "missing_baseline"),
    ("u", "f", None, "unknown_baseline"),
    ("e", "f", None, "error_baseline"),
    ("u", "u", None, "unknown_baseline"),
    (".", ".", None, "missing_baseline"),
    ("p", ".", -1.0, "missing_candidate"),
    ("s", ".", -1.0, "missing_candidate"),
    ("f", ".", 0.0, "missing_candidate"),
    ("p", "u", -1.0, "unknown_candidate"),
    ("p", "e", -1.0, "error_candidate"),
    ("p", "x", None, "infrastructure"),
    ("x", "f", None, "infrastructure"),
    ("x", ".", None, "infrastructure"),
]


@pytest.mark.parametrize(("b", "c", "difference", "counted"), PAIRING, ids=[f"{r[0]}-{r[1]}" for r in PAIRING])
def test_pairs(lab, b: str, c: str, difference: float | None, counted: str) -> None:
    made = lab([b], [c])
    pairs = pair(made.evidence, KEY, range(1), made.policy.design)
    assert list(pairs.differences) == ([] if difference is None else [difference])
    assert pairs.counts == ({counted: 1} if counted else {})


def test_a_policy_may_leave_missing_candidates_out(lab) -> None:
    made = lab(["p", "p"], ["p", "."], design={"missing_candidate": "exclude"})
    pairs = pair(made.evidence, KEY, range(2), made.policy.design)
    assert (list(pairs.differences), pairs.counts) == ([0.0], {"missing_excluded": 1})


def test_infrastructure_may_count_as_failure(lab) -> None:
    made = lab(["p"], ["x"], design={"infrastructure": {"on_match": "fail"}})
    pairs = pair(made.evidence, KEY, range(1), made.policy.design)
    assert list(pairs.differences) == [-1.0]


# --- the four states -------------------------------------------------------------------------------

# KA-10..13 and neighbours, margin 5 points: (both, reg, fix), status, decision, reason
STATES = [
    ((372, 18, 10), Status.PASS, "promote", None),
    ((360, 30, 10), Status.FAIL, "hold", Reason.REGRESSION),
    ((100, 0, 0), Status.PASS, "promote", None),
    ((50, 0, 0), Status.INCONCLUSIVE, "hold", Reason.INCONCLUSIVE),
    ((149, 1, 0), Status.PASS, "promote", None),
    ((970, 30, 5), Status.PASS_WITHIN_MARGIN, "promote", None),
    ((80, 12, 8), Status.INCONCLUSIVE, "hold", Reason.INCONCLUSIVE),
    ((0, 12, 0), Status.FAIL, "hold", Reason.REGRESSION),
]


@pytest.mark.parametrize(("table", "status", "verdict", "reason"), STATES, ids=[str(row[0]) for row in STATES])
def test_states(lab, table: tuple[int, int, int], status: Status, verdict: str, reason: Reason | None) -> None:
    made = lab(*_words(*table))
    decision = decide(made.policy, made.evidence, AS_OF)
    (result,) = decision.criteria
    assert result.status == status
    assert decision.decision == verdict
    assert decision.reasons == ((reason,) if reason else ())
    assert (result.regressions, result.fixes, result.n) == (table[1], table[2], sum(table))
    assert decision.summary.startswith(f"PROMOTE {1}" if verdict == "promote" else f"HOLD {reason}: ok: ")


def test_too_few_cases_says_how_many_it_takes(lab) -> None:
    made = lab(*_words(50, 0, 0))
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.criteria[0].n_needed == 100
    assert "too few cases: 50 of at least 100" in decision.summary
    assert "~50 more cases" in decision.summary


def test_underpowered_says_how_many_it_takes(lab) -> None:
    made = lab(*_words(90, 5, 5))
    (result,) = decide(made.policy, made.evidence, AS_OF).criteria
    assert result.status == Status.INCONCLUSIVE
    assert result.n_needed == 314


def test_proven_harm_blocks_whatever_the_number_of_cases(lab) -> None:
    made = lab(*_words(10, 8, 0))
    decision = decide(made.policy, made.evidence, AS_OF)
    assert (decision.criteria[0].status, decision.exit_code) == (Status.FAIL, 1)


MODES = [
    ({"mode": "deterioration"}, (5, 1, 0), Status.PASS),
    ({"mode": "deterioration"}, (5, 9, 0), Status.FAIL),
    ({"mode": "superiority"}, (100, 2, 20), Status.PASS),
    ({"mode": "superiority"}, (100, 10, 10), Status.INCONCLUSIVE),
    ({"mode": "superiority"}, (100, 20, 2), Status.FAIL),
    ({"mode": "floor", "threshold": 0.9}, (195, 5, 0), Status.PASS),
    ({"mode": "floor", "threshold": 0.9}, (180, 20, 0), Status.INCONCLUSIVE),
    ({"mode": "floor", "threshold": 0.9}, (150, 50, 0), Status.FAIL),
    ({"mode": "floor", "threshold": 0.5}, (20, 0, 0), Status.INCONCLUSIVE),
    ({"mode": "ceiling", "threshold": 0.5}, (50, 150, 0), Status.PASS),
    ({"mode": "ceiling", "threshold": 0.5}, (150, 50, 0), Status.FAIL),
    ({"mode": "zero_tolerance", "p_max": 0.05}, (100, 0, 0), Status.PASS),
    ({"mode": "zero_tolerance", "p_max": 0.01}, (100, 0, 0), Status.INCONCLUSIVE),
    ({"mode": "zero_tolerance", "p_max": 0.05}, (200, 1, 0), Status.FAIL),
    ({"mode": "must_pass", "cases": ["c0000", "c0001"]}, (5, 5, 0), Status.PASS),
    ({"mode": "must_pass", "cases": ["c0000", "c0005"]}, (5, 5, 0), Status.FAIL),
]


@pytest.mark.parametrize(("criterion", "table", "status"), MODES)
def test_modes(lab, criterion: dict[str, object], table: tuple[int, int, int], status: Status) -> None:
    made = lab(*_words(*table), criterion=criterion)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.criteria[0].status == status
    assert (decision.decision == "promote") is (status == Status.PASS)


@pytest.mark.parametrize(
    ("word", "status"), [(".", Status.FAIL), ("u", Status.INCONCLUSIVE), ("s", Status.INCONCLUSIVE)]
)
def test_must_pass_is_not_passed_unseen(lab, word: str, status: Status) -> None:
    made = lab(["p"] * 60, [word] + ["p"] * 59, criterion={"mode": "must_pass", "cases": ["c0000"]})
    assert decide(made.policy, made.evidence, AS_OF).criteria[0].status == status


def test_zero_tolerance_lists_every_event_also_old_ones(lab) -> None:
    made = lab(
        ["f", "p", "s"] + ["p"] * 7, ["f", "f", "f"] + ["p"] * 7, criterion={"mode": "zero_tolerance", "p_max": 0.1}
    )
    (change,) = decide(made.policy, made.evidence, AS_OF).changes
    assert [case.case_id for case in change.failures] == ["c0001", "c0002", "c0000"]
    assert change.new_failures == 2


def test_unknown_on_both_sides_shows_nothing(lab) -> None:
    made = lab(["u"] * 200, ["u"] * 200)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert (decision.decision, decision.reasons) == ("hold", (Reason.INSUFFICIENT_DATA,))
    assert decision.criteria[0].status == Status.NO_DATA


def test_a_blocker_that_never_applies_promotes_nothing(lab) -> None:
    made = lab(["s"] * 200, ["s"] * 200)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.criteria[0].status == Status.NOT_APPLICABLE
    assert (decision.decision, decision.exit_code) == ("hold", 3)


def test_a_low_tier_may_let_the_undecided_pass_and_says_so(lab) -> None:
    tiers = {"low": {"margin": 0.1, "min_cases": 50, "on_inconclusive": "warn"}}
    made = lab(*_words(30, 2, 2), tiers=tiers, buckets=[{"id": "all", "tier": "low"}])
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.decision == "promote"
    assert "undecided but allowed: ok" in decision.summary


# --- clusters and replays --------------------------------------------------------------------------


def test_dependent_cases_are_worth_less(lab) -> None:
    base, cand = _words(372, 18, 10)
    cases = [{"cluster": f"g{i // 14}"} for i in range(400)]
    clustered = lab(base, cand, cases=cases)
    (result,) = decide(clustered.policy, clustered.evidence, AS_OF).criteria
    assert result.status == Status.INCONCLUSIVE
    assert (result.clusters, result.method) == (29, "tango-eff/1")
    alone = lab(base, cand, cases=cases, design={"cluster": "none"})
    assert decide(alone.policy, alone.evidence, AS_OF).criteria[0].status == Status.PASS


def test_a_cluster_of_one_case_each_is_no_cluster(lab) -> None:
    made = lab(*_words(120, 0, 0), cases=[{"cluster": f"g{i}"} for i in range(120)])
    assert decide(made.policy, made.evidence, AS_OF).criteria[0].method == "tango/1"


def test_few_clusters_conclude_nothing(lab) -> None:
    made = lab(*_words(200, 0, 0), cases=[{"cluster": f"g{i % 4}"} for i in range(200)])
    (result,) = decide(made.policy, made.evidence, AS_OF).criteria
    assert result.status == Status.INCONCLUSIVE
    assert "too few clusters: 4" in result.reason
    one = lab(*_words(200, 0, 0), cases=[{"cluster": "g"} for i in range(200)])
    assert decide(one.policy, one.evidence, AS_OF).criteria[0].status == Status.INCONCLUSIVE


def test_replays_label_new_failures_and_count_what_chance_makes(lab) -> None:
    base = ["pppp", "pppp", "ppff", "pppf"] + ["pppp"] * 96
    cand = ["ffff", "pfff", "ffff", "ppff"] + ["pppp"] * 96
    made = lab(base, cand)
    (change,) = decide(made.policy, made.evidence, AS_OF).changes
    assert [(case.case_id, case.strength) for case in change.failures] == [
        ("c0000", "confirmed"),
        ("c0001", "likely"),
        ("c0002", "observed"),
        ("c0003", "observed"),
    ]
    assert change.expected_by_chance == pytest.approx((0.5 - 1 / 6) + (0.75 - 0.5))
    assert change.flaky == 3


# --- health and precedence -------------------------------------------------------------------------

UNHEALTHY = {
    "grader version": ({"versions": {"2"}}, "mixture"),
    "grader config": ({"configs": {"other"}}, "mixture"),
    "case version": ({"case_digests": ["old"] * 200}, "case_version"),
}


@pytest.mark.parametrize("name", UNHEALTHY)
def test_mixtures_are_not_compared(lab, name: str) -> None:
    options, check = UNHEALTHY[name]
    made = lab(["p"] * 200, ["p"] * 200, cand_options=options)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert (decision.decision, decision.reasons, decision.exit_code) == ("hold", (Reason.HEALTH,), 4)
    assert [note.check for note in decision.health if note.broken] == [check]


def test_a_grader_that_never_reads_the_case_needs_no_digest(lab) -> None:
    blank = {"case_digests": [""] * 200}
    made = lab(["p"] * 200, ["p"] * 200, base_options=blank, cand_options=blank)
    assert decide(made.policy, made.evidence, AS_OF).decision == "promote"


def test_runs_without_a_grade_hold(lab) -> None:
    made = lab(["p"] * 200, ["p"] * 200, cand_options={"grader": "other/grader"})
    decision = decide(made.policy, made.evidence, AS_OF)
    assert "200 runs not graded by tools/expected" in decision.summary
    assert decision.exit_code == 4


def test_an_arm_without_runs_is_not_a_regression(lab) -> None:
    made = lab(["p"] * 200, ["."] * 200)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.reasons[0] == Reason.HEALTH
    assert "no run of suite suite by the candidate (version b)" in decision.summary


def test_grader_errors_hold_above_the_limit_only(lab) -> None:
    for errors, broken in ((2, False), (3, True)):
        made = lab(["p"] * 200, ["e"] * errors + ["p"] * (200 - errors))
        notes = [n for n in decide(made.policy, made.evidence, AS_OF).health if n.check == "grader_errors"]
        assert [note.broken for note in notes] == [broken]


def test_a_baseline_with_holes_is_not_enough(lab) -> None:
    for missing, broken in ((4, False), (5, True)):
        made = lab(["."] * missing + ["p"] * (200 - missing), ["p"] * 200)
        notes = [n for n in decide(made.policy, made.evidence, AS_OF).health if n.check == "pairing"]
        assert [note.broken for note in notes] == [broken]


def test_uneven_loss_is_not_excluded_silently(lab) -> None:
    made = lab(["p"] * 300, ["."] * 11 + ["p"] * 289, design={"missing_candidate": "exclude"})
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.reasons == (Reason.HEALTH,)
    counted = lab(["p"] * 300, ["."] * 11 + ["p"] * 289)
    assert decide(counted.policy, counted.evidence, AS_OF).reasons == (Reason.REGRESSION,)


def test_runs_that_died_of_their_surroundings(lab) -> None:
    """The trap: eleven dead runs counted as failures hide that the candidate is better."""
    base = ["p"] * 87 + ["f"] * 14 + ["p"] * 13
    cand = ["f"] * 2 + ["p"] * 99 + ["x"] * 13
    wide = {"max_share": 0.2}
    left_out = lab(base, cand, criterion={"mode": "superiority"}, design={"infrastructure": wide})
    decision = decide(left_out.policy, left_out.evidence, AS_OF)
    (result,) = decision.criteria
    assert (result.n, result.regressions, result.fixes) == (101, 2, 14)
    assert result.counts == {"infrastructure": 13}
    assert decision.decision == "promote"
    assert any("13 of 114 runs died of their surroundings; left out" in note.message for note in decision.health)
    counted = lab(base, cand, criterion={"mode": "superiority"}, design={"infrastructure": wide | {"on_match": "fail"}})
    assert decide(counted.policy, counted.evidence, AS_OF).decision == "hold"
    default = lab(base, cand, criterion={"mode": "superiority"})
    assert decide(default.policy, default.evidence, AS_OF).reasons[0] == Reason.HEALTH


def test_health_goes_before_regression_and_both_are_named(lab) -> None:
    made = lab(*_words(100, 60, 0), cand_options={"versions": {"2"}})
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.reasons == (Reason.HEALTH, Reason.REGRESSION)


def test_a_canary_rolls_back(lab) -> None:
    base, cand = _words(100, 60, 0)
    healthy = lab(base, cand)
    assert decide(healthy.policy, healthy.evidence, AS_OF, "canary").decision == "rollback"
    broken = lab(base, cand, cand_options={"versions": {"2"}})
    assert decide(broken.policy, broken.evidence, AS_OF, "canary").decision == "hold"
    event = lab(base, cand, cand_options={"versions": {"2"}}, criterion={"mode": "zero_tolerance", "p_max": 0.05})
    decision = decide(event.policy, event.evidence, AS_OF, "canary")
    assert (decision.decision, decision.exit_code, decision.reasons[0]) == ("rollback", 1, Reason.REGRESSION)


def test_many_blockers_share_the_error_of_failing(lab) -> None:
    """One regression that alone would fail does not among many that show nothing."""
    alone = lab(*_words(100, 9, 2), criterion={"mode": "deterioration"})
    assert decide(alone.policy, alone.evidence, AS_OF).criteria[0].status == Status.FAIL
    many = [{"id": f"ok{i}", "grader": GRADER, "mode": "deterioration", "bucket": f"b{i}"} for i in range(4)]
    buckets = [{"id": f"b{i}", "where": {"bucket": f"b{i}"}} for i in range(4)]
    base, cand = _words(100, 9, 2)
    cases = [{"bucket": "b0"}] * 111 + [{"bucket": f"b{1 + i % 3}"} for i in range(30)]
    made = lab(base + ["p"] * 30, cand + ["p"] * 30, cases=cases, blockers=many, buckets=buckets)
    results = decide(made.policy, made.evidence, AS_OF).criteria
    assert [result.status for result in results] == [Status.PASS] * 4
    assert results[0].p_block_holm == pytest.approx(4 * (results[0].p_block or 0))


def test_buckets_select_and_deltas_are_shown_for_each(lab) -> None:
    cases = [{"bucket": "pay", "risk": "critical", "tags": ("money",)}] * 120 + [{"bucket": "faq"}] * 120
    base, cand = ["p"] * 240, ["p"] * 120 + ["f"] * 40 + ["p"] * 80
    for where, status in (
        ({"bucket": "pay"}, Status.PASS),
        ({"tag": "money"}, Status.PASS),
        ({"risk": "medium"}, Status.FAIL),
    ):
        made = lab(base, cand, cases=cases, criterion={"bucket": "part"}, buckets=[{"id": "part", "where": where}])
        assert decide(made.policy, made.evidence, AS_OF).criteria[0].status == status
    whole = lab(base, cand, cases=cases)
    shown = {delta.bucket: delta for delta in decide(whole.policy, whole.evidence, AS_OF).criteria[0].buckets}
    assert shown["faq"].estimate == pytest.approx(-1 / 3)
    assert (shown["pay"].regressions, shown["faq"].regressions) == (0, 40)


# --- scores and budgets ----------------------------------------------------------------------------


def test_scores_are_compared_as_they_are(lab) -> None:
    rng = random.Random(3)
    base = [round(rng.uniform(0.6, 1.0), 2) for _ in range(150)]
    made = lab(
        ["p"] * 150,
        ["p"] * 150,
        criterion={"measure": "score"},
        base_options={"scores": base},
        cand_options={"scores": [round(s - 0.2, 2) for s in base]},
    )
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.criteria[0].status == Status.FAIL
    assert decision.criteria[0].estimate == pytest.approx(-0.2)


def test_scores_outside_their_range_are_an_error(lab) -> None:
    odd = {"scores": [7.0] * 120}
    made = lab(["p"] * 120, ["p"] * 120, criterion={"measure": "score"}, base_options=odd, cand_options=odd)
    decision = decide(made.policy, made.evidence, AS_OF)
    assert decision.criteria[0].status == Status.ERROR
    assert decision.decision == "hold"


BUDGETS = [
    ({"metric": "latency_ms", "stat": "ratio_of_totals", "max_increase": 0.1}, 105.0, Status.PASS),
    ({"metric": "latency_ms", "stat": "ratio_of_totals", "max_increase": 0.1}, 120.0, Status.FAIL),
    ({"metric": "latency_ms", "stat": "geometric_mean_ratio", "max_increase": 0.1}, 120.0, Status.FAIL),
    ({"metric": "latency_ms", "stat": "exceedance", "threshold": 110.0, "margin": 0.05}, 120.0, Status.FAIL),
    ({"metric": "latency_ms", "stat": "exceedance", "threshold": 130.0, "margin": 0.05}, 120.0, Status.PASS),
    ({"metric": "input_tokens", "max_increase": 0.1}, 120.0, Status.PASS),
    ({"metric": "latency_ms", "max_increase": 0.1}, float("nan"), Status.NO_DATA),
]


@pytest.mark.parametrize(("budget", "latency", "status"), BUDGETS)
def test_budgets(lab, budget: dict[str, object], latency: float, status: Status) -> None:
    for enforce in (True, False):
        made = lab(
            ["p"] * 120,
            ["p"] * 120,
            cand_options={"latency": latency},
            budgets=[{"id": "cost", "enforce": enforce} | budget],
        )
        decision = decide(made.policy, made.evidence, AS_OF)
        assert decision.budgets[0].status == status
        assert (decision.decision == "promote") is (status == Status.PASS or not enforce)
        if status == Status.FAIL and enforce:
            assert (decision.reasons, decision.exit_code) == ((Reason.BUDGET,), 1)


def test_total_tokens_add_up(lab) -> None:
    budget = {"id": "t", "metric": "total_tokens", "max_increase": 0.5}
    made = lab(["p"] * 120, ["p"] * 120, cand_options={"tokens": 20.0}, budgets=[budget])
    (result,) = decide(made.policy, made.evidence, AS_OF).budgets
    assert (result.estimate, result.status) == (2.0, Status.FAIL)


# --- the decision as a value -----------------------------------------------------------------------


def _shuffled(suite: Suite, name: str, words: list[str], rng: random.Random) -> tuple[str, Traces, dict[str, Verdicts]]:
    """An arm with scores and latencies that follow from the trace ids, its rows in any order."""
    rows = [(f"{i:03}{k}", case, letter) for i, case in enumerate(suite.cases) for k, letter in enumerate(words[i])]
    rng.shuffle(rows)
    latency = [(int(key) % 7 + 1) / 3 for key, _, _ in rows]
    traces = Traces([name + key for key, _, _ in rows], [case.id for _, case, _ in rows], latency)
    rng.shuffle(rows)
    verdicts = Verdicts(
        [name + key for key, _, _ in rows],
        [{"p": "pass", "f": "fail"}[letter] for _, _, letter in rows],
        [int(key) % 10 / 10 + 0.03 for key, _, _ in rows],
        [case.digest for _, case, _ in rows],
    )
    return name, traces, {GRADER: verdicts}


three_runs = st.text("pf", min_size=3, max_size=3)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(three_runs, three_runs), min_size=12, max_size=30), st.integers(0, 2**32))
def test_the_order_of_the_evidence_never_matters(lab, words: list[tuple[str, str]], seed: int) -> None:
    base, cand = [b for b, _ in words], [c for _, c in words]
    cases = [{"cluster": f"g{i // 2}"} for i in range(len(base))]
    budget = {"id": "l", "metric": "latency_ms", "max_increase": 0.2}
    made = lab(base, cand, cases=cases, criterion={"measure": "score"}, budgets=[budget])
    decisions = []
    for rng in (random.Random(seed), random.Random(seed + 1)):
        arms = (_shuffled(made.suite, "a", base, rng), _shuffled(made.suite, "b", cand, rng))
        decisions.append(decide(made.policy, build(made.suite, made.policy, *arms), AS_OF))
    assert decisions[0].digest == decisions[1].digest
    assert decisions[0] == decisions[1]


def test_the_digest_covers_evidence_policy_date_and_stage(lab) -> None:
    made = lab(*_words(120, 2, 2))
    first = decide(made.policy, made.evidence, AS_OF)
    other_evidence = lab(*_words(121, 2, 1))
    other_policy = GatePolicy.model_validate(made.policy.model_dump() | {"version": "2"})
    digests = {
        first.digest,
        decide(made.policy, made.evidence, "2026-11-22").digest,
        decide(made.policy, made.evidence, AS_OF, "canary").digest,
        decide(other_policy, made.evidence, AS_OF).digest,
        decide(other_evidence.policy, other_evidence.evidence, AS_OF).digest,
    }
    assert len(digests) == 5
    assert decide(made.policy, made.evidence, AS_OF).digest == first.digest


def test_offending_spans_explain_and_change_nothing(lab) -> None:
    made = lab(*_words(100, 20, 0))
    decision = decide(made.policy, made.evidence, AS_OF)
    trace_id = decision.changes[0].failures[0].traces[0]
    row = {
        "TraceId": trace_id,
        "SpanId": "s2",
        "Grader": GRADER,
        "Subject": "",
        "Severity": "high",
        "Label": "",
        "Reason": "why",
    }
    explained = decision.with_offences([row, row | {"SpanId": "s1"}, row | {"Grader": "other/one"}])
    assert [offence.span_id for offence in explained.changes[0].failures[0].offences] == ["s1", "s2"]
    assert explained.digest == decision.digest
    assert trace_id in decision.offending_traces()


def test_the_document_is_json_and_says_what_the_decision_says(lab) -> None:
    made = lab(*_words(360, 30, 10))
    document = json.loads(json.dumps(decide(made.policy, made.evidence, AS_OF).to_json(), allow_nan=False))
    assert (document["decision"], document["reasons"], document["exitCode"]) == ("hold", ["regression"], 1)
    assert document["criteria"][0]["ci"] == [-0.083127, -0.019985]
    assert document["criteria"][0]["pBlockHolm"] == pytest.approx(stats.paired_binary(30, 10, 400).p_worse(), abs=1e-6)
    assert document["digest"].startswith("sha256:")


def test_an_identical_candidate_is_rarely_blocked(lab) -> None:
    """A/A: fail at most the family's 5 %, with room for 400 runs."""
    rng = random.Random(11)
    made, failed, runs = lab(["p"] * 150, ["p"] * 150), 0, 400
    suite, policy = made.suite, made.policy
    ids = [case.id for case in suite.cases]
    for _ in range(runs):
        arms = []
        for name in "ab":
            traces = [f"{name}{i}" for i in range(150)]
            outcomes = ["pass" if rng.random() < 0.9 else "fail" for _ in ids]
            arms.append((name, Traces(traces, ids), {GRADER: Verdicts(traces, outcomes)}))
        failed += decide(policy, build(suite, policy, *arms), AS_OF).criteria[0].status == Status.FAIL
    assert failed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_large_comparison_is_quick(lab) -> None:
    """Guards against quadratic work; the figure for a million cases is measured elsewhere."""
    made = lab(["p"] * 20_000, ["p"] * 19_000 + ["f"] * 1000, cases=[{"cluster": f"g{i // 5}"} for i in range(20_000)])
    start = time.perf_counter()
    decision = decide(made.policy, made.evidence, AS_OF)
    assert time.perf_counter() - start < 2.0
    assert len(decision.changes[0].failures) == 200
    assert decision.changes[0].new_failures == 1000


def test_an_advisory_never_breaks_a_decision(lab) -> None:
    made = lab(
        ["p"] * 120, ["p"] * 120, advisories=[{"id": "style", "grader": "style/polite", "mode": "deterioration"}]
    )
    decision = decide(made.policy, made.evidence, "2026-11-21")
    assert decision.decision == "promote"
    assert any("style/polite" in note.message and not note.broken for note in decision.health)
