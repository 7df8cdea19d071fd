"""May this candidate be promoted? A pure function of evidence, policy and date.

Promises the same decision and digest for the same evidence in whatever order it came. For each criterion one interval
and one status; promote only if every blocker is shown good (so no correction is needed), hold or roll back if any is
shown bad (Holm over all blockers). Undecided is never good and never bad: it holds, and says what would decide it.

    canary only: a zero-tolerance event, or a failed blocker after health      → rollback
    the evidence cannot be compared                                            → hold (health)
    a blocker failed                                                           → hold (regression)
    a blocker has nothing to go by                                             → hold (insufficient_data)
    a blocker is undecided                                                     → hold (inconclusive)
    an enforced budget is exceeded                                             → hold (budget)
    otherwise                                                                  → promote
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gate import stats
from gate.compare import Pairs, by_bucket, changes, clusters_of, pair, select
from gate.decision import (
    BudgetResult,
    CriterionResult,
    Decision,
    GraderChanges,
    HealthNote,
    Identity,
    Reason,
    Status,
)
from gate.evidence import Column, Evidence, Gap
from gate.policy import Budget, Criterion, GatePolicy

Stage = Literal["offline", "canary"]

MIN_CLUSTERS = 10
"""With fewer groups of dependent cases no interval is trusted."""
DIFFERENCE_MODES = ("non_inferiority", "deterioration", "superiority")
_MISSING_P = 0.001
"""Missing runs this unevenly spread over the arms do not happen by chance."""


def decide(policy: GatePolicy, evidence: Evidence, as_of: str, stage: Stage = "offline") -> Decision:
    """Decide. `as_of` is the date the decision speaks of, and part of its digest; the clock is not read."""
    blockers = [(c, _pairs(policy, evidence, c)) for c in policy.blockers]
    advisories = [(c, _pairs(policy, evidence, c)) for c in policy.advisories]
    health = _health(policy, evidence)
    measured = {c.id: _measure(policy, evidence, c, p) for c, p in blockers}
    family = stats.holm({name: m.paired.p_worse() for name, m in measured.items() if m.tests and m.paired})
    criteria = tuple(_judge(policy, measured[c.id], family.get(c.id), blocker=True) for c, _ in blockers)
    informed = [_measure(policy, evidence, c, p) for c, p in advisories]
    advice = tuple(_judge(policy, m, m.paired.p_worse() if m.paired else None, blocker=False) for m in informed)
    budgets = tuple(_budget(policy, evidence, budget) for budget in policy.budgets)
    listed = changes(evidence, blockers)
    verdict, reasons = _verdict(criteria, budgets, health, stage)
    return Decision(
        decision=verdict,
        reasons=reasons,
        summary=_summary(verdict, reasons, criteria, budgets, health, listed),
        stage=stage,
        as_of=as_of,
        baseline=evidence.baseline.label,
        candidate=evidence.candidate.label,
        suite=Identity(evidence.suite_name, "", evidence.suite_digest),
        cases=len(evidence.cases),
        policy=Identity(policy.name, policy.version, policy.digest),
        criteria=criteria,
        budgets=budgets,
        advisories=advice,
        changes=listed,
        health=health,
        evidence_digest=evidence.digest,
        stats=stats.CONTRACT,
    )


def _verdict(
    criteria: Sequence[CriterionResult], budgets: Sequence[BudgetResult], health: Sequence[HealthNote], stage: Stage
) -> tuple[str, tuple[Reason, ...]]:
    failed = [c for c in criteria if c.status == Status.FAIL]
    nothing = (Status.NO_DATA, Status.ERROR, Status.NOT_APPLICABLE)
    enforced = [b for b in budgets if b.enforce]
    present = {
        Reason.HEALTH: any(note.broken for note in health),
        Reason.REGRESSION: bool(failed),
        Reason.INSUFFICIENT_DATA: any(c.status in nothing for c in criteria)
        or any(b.status in nothing for b in enforced),
        Reason.INCONCLUSIVE: any(c.status == Status.INCONCLUSIVE and c.holds for c in criteria),
        Reason.BUDGET: any(b.status == Status.FAIL for b in enforced),
    }
    reasons = tuple(reason for reason in Reason if present[reason])
    if stage == "canary" and failed:
        event = any(c.mode == "zero_tolerance" for c in failed)
        if event or not present[Reason.HEALTH]:
            # What is seen to be broken is stopped, whatever else is wrong with the evidence.
            return "rollback", (Reason.REGRESSION, *(r for r in reasons if r != Reason.REGRESSION))
    return ("hold" if reasons else "promote"), reasons


# --- criteria ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measured:
    """A criterion with its numbers, before its status."""

    criterion: Criterion
    result: CriterionResult
    """With status NO_DATA until judged."""
    paired: stats.Paired | None
    """None when there is no interval."""
    settled: bool = False
    """The status needs no further judging."""
    doubt: stats.Paired | None = None
    """The interval if the baseline had passed wherever it could not be judged; None when it always could."""

    @property
    def tests(self) -> bool:
        """Whether it takes part in the family of tests for harm."""
        return self.criterion.mode in DIFFERENCE_MODES and not self.settled


def _pairs(policy: GatePolicy, evidence: Evidence, criterion: Criterion) -> Pairs:
    indices = select(evidence, policy.bucket(criterion.bucket))
    return pair(evidence, (criterion.grader, criterion.measure), indices, policy.design)


def _measure(policy: GatePolicy, evidence: Evidence, criterion: Criterion, pairs: Pairs) -> _Measured:
    key = (criterion.grader, criterion.measure)
    alpha = policy.design.confidence.promote
    n = len(pairs.differences)
    result = CriterionResult(
        id=criterion.id,
        status=Status.NO_DATA,
        reason="",
        grader=criterion.grader,
        mode=criterion.mode,
        bucket=criterion.bucket,
        tier=policy.bucket(criterion.bucket).tier,
        holds=policy.tier(criterion).on_inconclusive == "hold",
        n=n,
        clusters=n if pairs.clusters is None else len(set(pairs.clusters)),
        margin=policy.margin(criterion) if criterion.mode == "non_inferiority" else None,
        threshold=criterion.p_max if criterion.mode == "zero_tolerance" else criterion.threshold,
        counts=pairs.counts,
    )
    odd = sum(arm.columns[key].out_of_range for arm in (evidence.baseline, evidence.candidate))
    if odd:
        reason = f"{odd} scores of {criterion.grader} lie outside [0, 1]; use measure: outcome, or a budget"
        return _Measured(criterion, replace(result, status=Status.ERROR, reason=reason), None, settled=True)
    if criterion.mode == "must_pass":
        return _must_pass(evidence, criterion, result)
    if criterion.mode in ("floor", "ceiling", "zero_tolerance"):
        return _one_arm(policy, evidence, criterion, pairs, result)
    if not n:
        skipped = pairs.counts.get("not_applicable", 0)
        if skipped and skipped == len(pairs.selected):
            reason = (
                f"{criterion.grader} applies to none of the {skipped} cases in either arm: it shows nothing; "
                "add cases where it applies, or make it an advisory"
            )
            return _Measured(criterion, replace(result, status=Status.NOT_APPLICABLE, reason=reason), None, True)
        reason = f"no case of {len(pairs.selected)} can be compared: {_counted(pairs.counts) or 'the bucket is empty'}"
        return _Measured(criterion, replace(result, reason=reason), None, settled=True)
    if criterion.mode != "deterioration" and pairs.counts.get("not_applicable_candidate", 0) == n:
        reason = (
            f"{criterion.grader} applies to none of the candidate's {n} cases, only to the baseline's: it shows nothing"
        )
        return _Measured(criterion, replace(result, status=Status.NOT_APPLICABLE, reason=reason), None, settled=True)
    paired = _interval(pairs, policy.design.assumed_icc)
    worse = len([d for d in pairs.differences if d < 0.0])
    better = len([d for d in pairs.differences if d > 0.0])
    result = replace(
        result,
        estimate=math.fsum(pairs.differences) / n,
        baseline=math.fsum(pairs.baseline) / n,
        candidate=math.fsum(pairs.candidate) / n,
        regressions=worse,
        fixes=better,
        psi=(worse + better) / n,
        buckets=by_bucket(evidence, pairs),
    )
    if paired is None:
        reason = f"{n} cases in {result.clusters} cluster(s): too few to say how much the result varies"
        return _Measured(criterion, replace(result, status=Status.INCONCLUSIVE, reason=reason), None, settled=True)
    return _Measured(
        criterion,
        replace(
            result,
            ci=paired.interval(alpha),
            level=1.0 - 2.0 * alpha,
            n_eff=paired.n_eff,
            p_promote=paired.p_not_inferior(result.margin or 0.0),
            p_block=paired.p_worse(),
            mde80=paired.mde80(alpha),
            method=paired.method,
        ),
        paired,
        doubt=_doubt(policy, evidence, criterion, pairs),
    )


def _doubt(policy: GatePolicy, evidence: Evidence, criterion: Criterion, pairs: Pairs) -> stats.Paired | None:
    if not {"unknown_baseline", "error_baseline"} & pairs.counts.keys():
        return None
    key = (criterion.grader, criterion.measure)
    granted = pair(evidence, key, pairs.selected, policy.design, grant_baseline=True)
    return _interval(granted, policy.design.assumed_icc)


def _interval(pairs: Pairs, assumed_icc: float) -> stats.Paired | None:
    differences, clusters = pairs.differences, pairs.clusters
    if clusters is None and set(differences) <= {-1.0, 0.0, 1.0}:
        return stats.paired_binary(differences.count(-1.0), differences.count(1.0), len(differences))
    if len(differences) < 2 or (clusters is not None and len(set(clusters)) < 2):
        return None
    return stats.paired_effective(differences, clusters, assumed_icc)


def _judge(policy: GatePolicy, measured: _Measured, p_harm: float | None, *, blocker: bool) -> CriterionResult:
    result, paired, criterion = measured.result, measured.paired, measured.criterion
    if measured.settled or paired is None:
        return result
    confidence, tier = policy.design.confidence, policy.tier(criterion)
    harmed = p_harm is not None and p_harm < confidence.block_family
    if blocker:
        result = replace(result, p_block_holm=p_harm)
    if criterion.mode == "deterioration":
        if harmed:
            return replace(result, status=Status.FAIL, reason=f"shown worse: {_delta(result)}{_imputed(result)}")
        return replace(result, status=Status.PASS, reason=f"not shown worse: {_delta(result)}")
    margin = result.margin or 0.0
    shown = result.p_promote is not None and result.p_promote < confidence.promote
    lacking = _lacking(result, tier.min_cases, tier.min_clusters)
    if shown and measured.doubt and measured.doubt.p_not_inferior(margin) >= confidence.promote:
        shown = False
        dark = {name: n for name, n in result.counts.items() if name in ("unknown_baseline", "error_baseline")}
        lacking = (
            lacking or f"not shown where the baseline could not be judged ({_counted(dark)}): the candidate fails there"
        )
    if shown and not lacking:
        if result.ci and result.ci[1] < 0.0:
            reason = f"worse, but by less than {_points(margin)}: {_delta(result)}"
            return replace(result, status=Status.PASS_WITHIN_MARGIN, reason=reason)
        wanted = "better" if criterion.mode == "superiority" else f"not worse by {_points(margin)}"
        return replace(result, status=Status.PASS, reason=f"shown {wanted}: {_delta(result)}")
    if harmed and not shown:
        return replace(result, status=Status.FAIL, reason=f"shown worse: {_delta(result)}{_imputed(result)}")
    needed = paired.needed(margin, confidence.promote) if margin else None
    if lacking:
        needed = max(needed or 0, tier.min_cases)
        return replace(result, status=Status.INCONCLUSIVE, reason=lacking, n_needed=needed)
    if needed is not None and needed > result.n:
        reason = f"underpowered: {_delta(result)} does not exclude a loss of {_points(margin)}"
        return replace(result, status=Status.INCONCLUSIVE, reason=reason, n_needed=needed)
    reason = f"borderline: {_delta(result)}; the cases suffice, the difference lies near the limit"
    return replace(result, status=Status.INCONCLUSIVE, reason=reason)


def _lacking(result: CriterionResult, min_cases: int, min_clusters: int) -> str:
    if result.n < min_cases:
        return f"too few cases: {result.n} of at least {min_cases}"
    least = max(min_clusters, MIN_CLUSTERS)
    if result.clusters < least:
        return f"too few clusters: {result.clusters} of at least {least}"
    return ""


def _must_pass(evidence: Evidence, criterion: Criterion, result: CriterionResult) -> _Measured:
    column = evidence.candidate.columns[(criterion.grader, criterion.measure)]
    wanted = set(criterion.cases or ())
    found = {case.id: i for i, case in enumerate(evidence.cases) if case.id in wanted}
    failed = sorted(c for c, i in found.items() if column.failed[i] or column.values[i] == Gap.MISSING)
    unseen = sorted({c for c, i in found.items() if column.values[i] < 1.0}.difference(failed) | (wanted - set(found)))
    result = replace(result, n=len(wanted), clusters=len(wanted), counts={})
    if failed:
        result = replace(result, status=Status.FAIL, reason=f"{len(failed)} of {len(wanted)} fail: {_few(failed)}")
    elif unseen:
        reason = f"{len(unseen)} of {len(wanted)} have no verdict: {_few(unseen)}"
        result = replace(result, status=Status.INCONCLUSIVE, reason=reason)
    else:
        result = replace(result, status=Status.PASS, reason=f"all {len(wanted)} pass")
    return _Measured(criterion, result, None, settled=True)


def _one_arm(
    policy: GatePolicy, evidence: Evidence, criterion: Criterion, pairs: Pairs, result: CriterionResult
) -> _Measured:
    """Modes that look at the candidate alone: its rate against a threshold."""
    alpha = policy.design.confidence.promote
    column = evidence.candidate.columns[(criterion.grader, criterion.measure)]
    if criterion.mode == "zero_tolerance":
        return _Measured(
            criterion, _zero_tolerance(policy, evidence, column, pairs.selected, criterion, result), None, True
        )
    # What nobody saw is worth the least: nothing under a floor, everything under a ceiling.
    worst = 0.0 if criterion.mode == "floor" else 1.0
    lost = _lost(policy)
    indices = [i for i in pairs.selected if column.values[i] >= 0.0 or column.values[i] in lost]
    values = [
        column.values[i] + worst * column.unseen[i] / column.runs[i] if column.values[i] >= 0.0 else worst
        for i in indices
    ]
    counts = {
        "candidate_without_verdict": sum(column.values[i] < 0.0 for i in indices),
        "not_applicable": len(pairs.selected) - len(indices),
    }
    n = len(values)
    result = replace(result, n=n, clusters=n, counts={k: v for k, v in counts.items() if v}, level=1.0 - 2.0 * alpha)
    if not n:
        reason = f"{criterion.grader} judged no case of the candidate"
        return _Measured(criterion, replace(result, status=Status.NO_DATA, reason=reason), None, settled=True)
    result = replace(result, candidate=math.fsum(values) / n)
    clusters = clusters_of(evidence, indices) if policy.design.cluster == "cluster" else None
    return _Measured(criterion, _rate(policy, criterion, values, clusters, result), None, settled=True)


def _lost(policy: GatePolicy) -> set[float]:
    """Why a case the candidate should have answered, and visibly so, may have no value."""
    return {Gap.UNKNOWN, Gap.ERROR} | ({Gap.MISSING} if policy.design.missing_candidate == "fail" else set())


def _zero_tolerance(
    policy: GatePolicy,
    evidence: Evidence,
    column: Column,
    selected: Sequence[int],
    criterion: Criterion,
    result: CriterionResult,
) -> CriterionResult:
    """Only a run that was seen to fail is an event; a case nobody could judge may hide one."""
    alpha, p_max, lost = policy.design.confidence.promote, criterion.p_max or 0.0, _lost(policy)
    events = [evidence.cases[i].id for i in selected if column.failed[i]]
    clean = sum(not column.failed[i] and column.values[i] >= 1.0 for i in selected)
    hidden = sum(not column.failed[i] and (0.0 <= column.values[i] < 1.0 or column.values[i] in lost) for i in selected)
    n = len(events) + clean + hidden
    counts = {"candidate_without_verdict": hidden, "not_applicable": len(selected) - n}
    result = replace(result, n=n, clusters=n, counts={k: v for k, v in counts.items() if v}, level=1.0 - 2.0 * alpha)
    if n == hidden:
        reason = f"{criterion.grader} judged no case of the candidate"
        return replace(result, status=Status.NO_DATA, reason=reason)
    low, high = stats.clopper_pearson(len(events), n, alpha)
    result = replace(
        result,
        candidate=clean / n,
        estimate=len(events) / n,
        ci=(low, high),
        regressions=len(events),
        method="clopper-pearson/1",
    )
    if events:
        reason = f"{len(events)} of {n} cases fail, none may: {_few(events)}"
        return replace(result, status=Status.FAIL, reason=reason)
    least = stats.n_min_zero_events(p_max, alpha)
    if n < least:
        reason = f"none of {n} cases fails, but it takes {least} to show that fewer than {_percent(p_max)} would"
        return replace(result, status=Status.INCONCLUSIVE, reason=reason, n_needed=least)
    if hidden and stats.clopper_pearson(hidden, n, alpha)[1] > p_max:
        reason = f"no case is seen to fail, but {hidden} of {n} could not be judged, and {_percent(p_max)} is the limit"
        return replace(result, status=Status.INCONCLUSIVE, reason=reason)
    return replace(result, status=Status.PASS, reason=f"none of {n} cases fails")


def _rate(
    policy: GatePolicy,
    criterion: Criterion,
    values: Sequence[float],
    clusters: list[int] | None,
    result: CriterionResult,
) -> CriterionResult:
    alpha, threshold, n = policy.design.confidence.promote, criterion.threshold or 0.0, len(values)
    tier = policy.tier(criterion)
    groups = n if clusters is None else len(set(clusters))
    mean = math.fsum(values) / n
    # No spread tells nothing about the spread: then each independent group counts once.
    n_eff = float(groups)
    if groups > 1 and 0.0 < mean < 1.0:
        variance = stats.mean_variance(values, clusters).variance
        n_eff = n * (mean * (1.0 - mean) / (n - 1)) / variance if variance > 0.0 else float(groups)
    low, high = stats.clopper_pearson(mean * n_eff, n_eff, alpha)
    result = replace(result, clusters=groups, estimate=mean, ci=(low, high), n_eff=n_eff, method="clopper-pearson/1")
    floor = criterion.mode == "floor"
    good, bad = (low >= threshold, high < threshold) if floor else (high <= threshold, low > threshold)
    sides = f"{_percent(mean)} [{_percent(low)}, {_percent(high)}] against {criterion.mode} {_percent(threshold)}"
    if bad:
        return replace(result, status=Status.FAIL, reason=sides)
    lacking = _lacking(result, tier.min_cases, tier.min_clusters)
    if lacking:
        needed = max(tier.min_cases, n)
        return replace(result, status=Status.INCONCLUSIVE, reason=f"{lacking}; {sides}", n_needed=needed)
    return replace(result, status=Status.PASS if good else Status.INCONCLUSIVE, reason=sides)


# --- budgets ----------------------------------------------------------------------------------------------------------


def _budget(policy: GatePolicy, evidence: Evidence, budget: Budget) -> BudgetResult:
    key = (budget.metric, "amount")
    base, cand = (arm.columns[key].values for arm in (evidence.baseline, evidence.candidate))  # type: ignore[index]
    indices = [i for i in select(evidence, policy.bucket(budget.bucket)) if base[i] >= 0.0 and cand[i] >= 0.0]
    if budget.stat == "geometric_mean_ratio":
        indices = [i for i in indices if base[i] > 0.0 and cand[i] > 0.0]
    before, after = [base[i] for i in indices], [cand[i] for i in indices]
    result = BudgetResult(
        id=budget.id,
        status=Status.NO_DATA,
        reason="",
        metric=budget.metric,
        stat=budget.stat,
        bucket=budget.bucket,
        enforce=budget.enforce,
        n=len(indices),
        limit=budget.margin if budget.stat == "exceedance" else 1.0 + (budget.max_increase or 0.0),
    )
    ran = set(evidence.candidate.homes)
    hidden = sum(base[i] >= 0.0 > cand[i] and i in ran for i in select(evidence, policy.bucket(budget.bucket)))
    if hidden > (1.0 - policy.design.min_paired) * (len(indices) + hidden):
        reason = (
            f"{budget.metric} is known for {len(indices)} cases in both arms, and {hidden} more of the baseline alone"
        )
        return replace(result, reason=reason)
    clusters = clusters_of(evidence, indices) if policy.design.cluster == "cluster" else None
    if len(indices) < 2 or (clusters is not None and len(set(clusters)) < 2) or not math.fsum(before):
        reason = f"{budget.metric} is known in both arms for {len(indices)} case(s) only"
        return replace(result, reason=reason)
    alpha = policy.design.confidence.promote
    if budget.stat == "exceedance":
        return _exceedance(policy, budget, before, after, clusters, result)
    measure = stats.ratio_of_totals if budget.stat == "ratio_of_totals" else stats.geometric_mean_ratio
    ratio = measure(before, after, clusters, alpha)
    limit = result.limit or 1.0
    result = replace(result, estimate=ratio.estimate, ci=(ratio.low, ratio.high))
    sides = f"×{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], limit ×{limit:.3f}"
    if ratio.high < limit:
        return replace(result, status=Status.PASS, reason=sides)
    if ratio.low > 1.0:
        return replace(result, status=Status.FAIL, reason=f"more, and not shown within the limit: {sides}")
    return replace(result, status=Status.INCONCLUSIVE, reason=sides)


def _exceedance(
    policy: GatePolicy,
    budget: Budget,
    before: Sequence[float],
    after: Sequence[float],
    clusters: list[int] | None,
    result: BudgetResult,
) -> BudgetResult:
    alpha, margin, limit = policy.design.confidence.promote, budget.margin or 0.0, budget.threshold or 0.0
    differences = [float(b > limit) - float(a > limit) for b, a in zip(before, after, strict=True)]
    if clusters is None:
        paired = stats.paired_binary(differences.count(-1.0), differences.count(1.0), len(differences))
    else:
        paired = stats.paired_effective(differences, clusters, policy.design.assumed_icc)
    low, high = paired.interval(alpha)
    result = replace(result, estimate=-paired.estimate, ci=(-high, -low))
    sides = f"{_points(-paired.estimate)} more cases above {limit:g} [{_points(-high)}, {_points(-low)}]"
    if low > -margin:
        return replace(result, status=Status.PASS, reason=sides)
    if high < 0.0:
        return replace(result, status=Status.FAIL, reason=sides)
    return replace(result, status=Status.INCONCLUSIVE, reason=sides)


# --- health -----------------------------------------------------------------------------------------------------------


def _health(policy: GatePolicy, evidence: Evidence) -> tuple[HealthNote, ...]:
    """Everything to know about the evidence, what makes it unusable first."""
    notes = [*_health_of_arms(policy, evidence), *_health_of_graders(policy, evidence)]
    return tuple(sorted(notes, key=lambda note: (not note.broken, note.check, note.message)))


def _health_of_arms(policy: GatePolicy, evidence: Evidence) -> list[HealthNote]:
    notes: list[HealthNote] = []
    total, design = len(evidence.cases), policy.design
    arms = (("baseline", evidence.baseline), ("candidate", evidence.candidate))
    if policy.pins.suite and policy.pins.suite != evidence.suite_digest:
        message = f"the policy is pinned to suite {policy.pins.suite}, this is {evidence.suite_digest}"
        notes.append(HealthNote("suite", True, message))
    if evidence.shared_traces:
        message = f"{evidence.shared_traces} traces belong to both arms; select arms that exclude each other"
        notes.append(HealthNote("arms", True, message))
    for name, arm in arms:
        if not arm.runs:
            message = (
                f"no run of suite {evidence.suite_name} by the {name} ({arm.label}); run it, or check the name and "
                "that its spans carry tracegrade.suite and tracegrade.case.id"
            )
            notes.append(HealthNote("no_runs", True, message))
        if arm.reopened and not any(column.ungraded for column in arm.columns.values()):
            message = f"{name}: {arm.reopened} runs got something new since they were graded"
            notes.append(HealthNote("grading", True, f"{message}; decide again when the graders are done"))
        if len(arm.services) > 1:
            message = f"{name}: runs of {len(arm.services)} services are taken together ({_few(arm.services)})"
            notes.append(HealthNote("services", False, f"{message}; put @service behind the arm to take one"))
        if arm.foreign:
            message = f"{name}: {arm.foreign} runs of cases this suite does not have; not used"
            notes.append(HealthNote("foreign_cases", False, message))
        died = len(arm.infrastructure)
        if died:
            what = "left out" if design.infrastructure.on_match == "exclude" else "counted as failures"
            share, other = died / arm.runs, evidence.baseline if arm is evidence.candidate else evidence.candidate
            message = f"{name}: {died} of {arm.runs} runs died of their surroundings; {what}"
            broken = share > design.infrastructure.max_share
            if broken:
                message += f"; more than {_percent(design.infrastructure.max_share)}: run them again"
            elif died > len(other.infrastructure) and (
                stats.mcnemar_exact(died, len(other.infrastructure)) < _MISSING_P
            ):
                message += f"; in the other arm {len(other.infrastructure)}: that is no chance, find out why"
            notes.append(HealthNote("infrastructure", broken, message))
    missing = [arm.missing for _, arm in arms]
    if all(arm.runs for _, arm in arms):
        if missing[0]:
            covered = 1.0 - len(missing[0]) / total
            message = f"baseline: {len(missing[0])} of {total} cases have no run and are left out"
            broken = covered < design.min_paired
            if broken:
                message += f"; less than {_percent(design.min_paired)} can be paired: run the baseline on them"
            notes.append(HealthNote("pairing", broken, message))
        if missing[1]:
            what = "count as failures" if design.missing_candidate == "fail" else "are left out"
            message = f"candidate: {len(missing[1])} of {total} cases have no run and {what}"
            uneven = design.missing_candidate == "exclude" and (
                stats.mcnemar_exact(len(missing[0] - missing[1]), len(missing[1] - missing[0])) < _MISSING_P
            )
            if uneven:
                message += f"; the baseline lacks {len(missing[0])}: that is no chance, find out why"
            notes.append(HealthNote("pairing", uneven, message))
    return notes


def _health_of_graders(policy: GatePolicy, evidence: Evidence) -> list[HealthNote]:
    """What is wrong with an advisory's grades is said; only what decides can break a decision."""
    notes: list[HealthNote] = []
    decides = {c.grader for c in policy.blockers} | {b.metric for b in policy.budgets if b.enforce}
    seen: set[str] = set()
    for grader, measure in sorted(evidence.candidate.columns):
        if measure == "amount" or grader in seen:
            continue
        seen.add(grader)
        base, cand = evidence.baseline.columns[grader, measure], evidence.candidate.columns[grader, measure]
        for what, left, right in (("version", base.versions, cand.versions), ("config", base.configs, cand.configs)):
            if len(left | right) > 1:
                message = f"{grader}: graded with different {what}s ({_few(sorted(left | right))}); run both arms again"
                notes.append(HealthNote("mixture", grader in decides, message))
        pinned = policy.pins.graders.get(grader)
        if pinned is not None and cand.versions | base.versions not in (frozenset(), frozenset({pinned})):
            found = _few(sorted(cand.versions | base.versions))
            notes.append(HealthNote("pins", True, f"{grader}: pinned to version {pinned}, graded with {found}"))
        for name, column in (("baseline", base), ("candidate", cand)):
            if column.ungraded:
                why = "it is newer than the runs, or still at work: run both arms again"
                message = f"{name}: {column.ungraded} runs not graded by {grader}; {why}"
                notes.append(HealthNote("ungraded", grader in decides, message))
            if column.stale:
                message = f"{name}: {column.stale} verdicts of {grader} were made against other versions of the cases"
                notes.append(
                    HealthNote(
                        "case_version",
                        grader in decides,
                        message + "; let the runs name this suite in tracegrade.suite, and run them again",
                    )
                )
            if column.errors:
                share = column.errors / column.verdicts
                message = f"{name}: {grader} broke on {column.errors} of {column.verdicts} runs"
                notes.append(
                    HealthNote("grader_errors", grader in decides and share > policy.design.max_grader_errors, message)
                )
    return notes


# --- words ------------------------------------------------------------------------------------------------------------


def _summary(
    verdict: str,
    reasons: Sequence[Reason],
    criteria: Sequence[CriterionResult],
    budgets: Sequence[BudgetResult],
    health: Sequence[HealthNote],
    listed: Sequence[GraderChanges],
) -> str:
    if verdict == "promote":
        worst = min(criteria, key=lambda c: (c.estimate if c.estimate is not None and c.ci else 1.0, c.id))
        undecided = [c.id for c in criteria if c.status == Status.INCONCLUSIVE]
        tail = f"; undecided but allowed: {_few(undecided)}" if undecided else ""
        passed = sum(c.status in (Status.PASS, Status.PASS_WITHIN_MARGIN) for c in criteria)
        return f"PROMOTE {passed} of {len(criteria)} blockers passed; closest: {worst.id}: {worst.reason}{tail}"
    head = f"{verdict.upper()} {reasons[0]}: "
    if reasons[0] == Reason.HEALTH:
        broken = [note.message for note in health if note.broken]
        return head + broken[0] + (f" (and {len(broken) - 1} more)" if len(broken) > 1 else "")
    if reasons[0] == Reason.BUDGET:
        over = [b for b in budgets if b.status == Status.FAIL and b.enforce]
        return head + "; ".join(f"{b.id} {b.reason}" for b in over)
    wanted = {
        Reason.REGRESSION: (Status.FAIL,),
        Reason.INCONCLUSIVE: (Status.INCONCLUSIVE,),
        Reason.INSUFFICIENT_DATA: (Status.NO_DATA, Status.ERROR, Status.NOT_APPLICABLE),
    }[reasons[0]]
    found = [c for c in criteria if c.status in wanted]
    if not found:
        return head + "; ".join(f"{b.id} {b.reason}" for b in budgets if b.status in wanted)
    text = head + "; ".join(f"{c.id}: {c.reason}" for c in found[:3])
    text += f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    if reasons[0] == Reason.REGRESSION:
        new = sum(change.new_failures for change in listed)
        return f"{text}; {new} new failures; more data will not change it, a new candidate is needed"
    if reasons[0] == Reason.INCONCLUSIVE:
        more = [f"{c.id} ~{c.n_needed - c.n} more cases" for c in found if c.n_needed and c.n_needed > c.n]
        return text + (f"; to decide with 80 % power: {', '.join(more)} (or more replays)" if more else "")
    return text


def _delta(result: CriterionResult) -> str:
    if result.estimate is None or result.ci is None:
        return f"n = {result.n}"
    low, high = result.ci
    return (
        f"Δ {_points(result.estimate)} [{_points(low)}, {_points(high)}], "
        f"{result.regressions} worse and {result.fixes} better of {result.n}"
    )


def _imputed(result: CriterionResult) -> str:
    """What of a failure nobody saw."""
    counts = {name: result.counts[name] for name in sorted(_COUNTED_AS_FAILURES & result.counts.keys())}
    return f"; counted as failures though not seen to fail: {_counted(counts)}" if counts else ""


_COUNTED_AS_FAILURES = {"missing_candidate", "unknown_candidate", "error_candidate"}


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f} pts"


def _percent(share: float) -> str:
    return f"{100 * share:g} %" if share in (0.0, 1.0) else f"{100 * share:.3g} %"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())
