"""Pairs the two arms case by case, and lists what changed, new failures first.

Pure. What each pair of values becomes, b for the baseline and c for the candidate:

    both have a value                     compared
    both SKIP                             left out: not applicable
    b SKIP, c has a value                 b counts 1: nothing had gone wrong
    b has a value, c SKIP                 c counts 1
    b MISSING, UNKNOWN or ERROR           left out and counted: there is nothing to compare with
    c MISSING (b has a value or SKIP)     c counts 0, unless the policy excludes missing cases; counted
    c UNKNOWN or ERROR (b likewise)       c counts 0: what cannot be seen is not a pass; counted
    either INFRASTRUCTURE                 left out and counted
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from gate import stats
from gate.decision import BucketDelta, CaseChange, GraderChanges
from gate.evidence import Evidence, Gap, Key
from gate.policy import Bucket, Criterion, Design, selects

MAX_LISTED = 200
"""Changed cases listed per grader; all are counted."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The comparable cases of one criterion."""

    selected: Sequence[int]
    """Cases of the bucket, as indices into the suite's."""
    indices: Sequence[int]
    """Those of them that are compared."""
    baseline: Sequence[float]
    candidate: Sequence[float]
    differences: Sequence[float]
    clusters: list[int] | None
    """Cluster of each case; None when every case stands alone."""
    counts: dict[str, int]
    """Left out: `not_applicable`, `missing_baseline`, `unknown_baseline`, `error_baseline`, `infrastructure`,
    `missing_excluded`. Counted as failures: `missing_candidate`, `unknown_candidate`, `error_candidate`."""

    @property
    def left_out(self) -> int:
        """Cases of the bucket that are not among the pairs, not-applicable ones apart."""
        gone = ("missing_baseline", "unknown_baseline", "error_baseline", "infrastructure", "missing_excluded")
        return sum(self.counts.get(name, 0) for name in gone)


def select(evidence: Evidence, bucket: Bucket) -> Sequence[int]:
    """Indices of the cases of a bucket."""
    where = bucket.where
    if where.bucket is None and where.tag is None and where.risk is None:
        return range(len(evidence.cases))
    return [i for i, c in enumerate(evidence.cases) if selects(where, c.bucket, c.tags, c.risk)]


def pair(evidence: Evidence, key: Key, indices: Sequence[int], design: Design) -> Pairs:
    """Pair the arms on these cases."""
    base, cand = evidence.baseline.columns[key].values, evidence.candidate.columns[key].values
    kept: list[int] = []
    first: list[float] = []
    second: list[float] = []
    counts: dict[str, int] = {}
    for i in indices:
        b, c = base[i], cand[i]
        if b < 0.0 or c < 0.0:
            why, b, c = _settle(b, c, design)
            if why:
                counts[why] = counts.get(why, 0) + 1
            if b < 0.0:
                continue
        kept.append(i)
        first.append(b)
        second.append(c)
    return Pairs(
        selected=indices,
        indices=kept,
        baseline=first,
        candidate=second,
        differences=[c - b for b, c in zip(first, second, strict=True)],
        clusters=clusters_of(evidence, kept) if design.cluster == "cluster" else None,
        counts=dict(sorted(counts.items())),
    )


_LEFT_OUT = {Gap.MISSING: "missing_baseline", Gap.UNKNOWN: "unknown_baseline", Gap.ERROR: "error_baseline"}
_FAILED = {Gap.MISSING: "missing_candidate", Gap.UNKNOWN: "unknown_candidate", Gap.ERROR: "error_candidate"}


def _settle(b: float, c: float, design: Design) -> tuple[str, float, float]:
    """What to count, and the values to compare; a negative first value leaves the case out."""
    if Gap.INFRASTRUCTURE in (b, c):
        return "infrastructure", -1.0, -1.0
    if b in _LEFT_OUT:
        return _LEFT_OUT[Gap(int(b))], -1.0, -1.0
    if b == Gap.SKIP and c == Gap.SKIP:
        return "not_applicable", -1.0, -1.0
    b = 1.0 if b == Gap.SKIP else b
    if c == Gap.SKIP:
        return "", b, 1.0
    if c == Gap.MISSING and design.missing_candidate == "exclude":
        return "missing_excluded", -1.0, -1.0
    return (_FAILED[Gap(int(c))], b, 0.0) if c < 0.0 else ("", b, c)


def clusters_of(evidence: Evidence, indices: Sequence[int]) -> list[int] | None:
    """The cluster of each case; None when every case stands alone."""
    cases = evidence.cases
    if not any(cases[i].cluster for i in indices):
        return None
    names: dict[str, int] = {}
    clusters = [
        names.setdefault(cases[i].cluster, len(names)) if cases[i].cluster else -1 - position
        for position, i in enumerate(indices)
    ]
    shared = len(names) < sum(cluster >= 0 for cluster in clusters)
    return clusters if shared else None


def by_bucket(evidence: Evidence, pairs: Pairs) -> tuple[BucketDelta, ...]:
    """Sums per bucket of the suite; empty when there is only one."""
    sums: dict[str, list[float]] = {}
    for i, d in zip(pairs.indices, pairs.differences, strict=True):
        row = sums.setdefault(evidence.cases[i].bucket, [0, 0.0, 0, 0])
        row[0] += 1
        if d:
            row[1] += d
            row[2 if d < 0 else 3] += 1
    if len(sums) < 2:
        return ()
    return tuple(
        BucketDelta(bucket=name, n=int(n), estimate=total / n, regressions=int(reg), fixes=int(fix))
        for name, (n, total, reg, fix) in sorted(sums.items())
    )


def changes(evidence: Evidence, paired: Sequence[tuple[Criterion, Pairs]]) -> tuple[GraderChanges, ...]:
    """What changed under each grader that blocks, over all cases its criteria look at."""
    by_key: dict[Key, list[tuple[Criterion, Pairs]]] = {}
    for criterion, pairs in paired:
        by_key.setdefault((criterion.grader, criterion.measure), []).append((criterion, pairs))
    return tuple(_grader_changes(evidence, key, found) for key, found in sorted(by_key.items()))


def _grader_changes(evidence: Evidence, key: Key, found: Sequence[tuple[Criterion, Pairs]]) -> GraderChanges:
    worse: dict[int, tuple[float | None, float]] = {}
    better: set[int] = set()
    for _, pairs in found:
        for i, b, c in zip(pairs.indices, pairs.baseline, pairs.candidate, strict=True):
            if c < b:
                worse[i] = (b, c)
            elif c > b:
                better.add(i)
    new = len(worse)
    for criterion, pairs in found:
        if criterion.mode in ("zero_tolerance", "must_pass"):
            for i in _events(evidence, key, criterion, pairs.selected):
                worse.setdefault(i, (None, max(0.0, evidence.candidate.columns[key].values[i])))
    listed = sorted(
        (_change(evidence, key, i, b, c) for i, (b, c) in worse.items()),
        key=lambda change: (
            _STRENGTHS.index(change.strength),
            _RISKS.index(change.risk),
            change.candidate - (1.0 if change.baseline is None else change.baseline),
            change.case_id,
        ),
    )
    columns = (evidence.baseline.columns[key], evidence.candidate.columns[key])
    flaky = sorted(
        {i for column in columns for i, v in enumerate(column.values) if 0.0 < v < 1.0 and column.runs[i] > 1}
    )
    return GraderChanges(
        grader=key[0] if key[1] == "outcome" else f"{key[0]} ({key[1]})",
        new_failures=new,
        fixes=len(better),
        flaky=len(flaky),
        expected_by_chance=_expected_by_chance(columns[0].values, columns[0].runs),
        failures=tuple(listed[:MAX_LISTED]),
        fixed=tuple(evidence.cases[i].id for i in sorted(better)[:MAX_LISTED]),
        flaky_cases=tuple(evidence.cases[i].id for i in flaky[:MAX_LISTED]),
    )


def _events(evidence: Evidence, key: Key, criterion: Criterion, selected: Sequence[int]) -> list[int]:
    """Cases that must not fail and do, also where the baseline failed too or has nothing to show."""
    values = evidence.candidate.columns[key].values
    if criterion.mode == "must_pass":
        wanted = set(criterion.cases or ())
        return [i for i in selected if evidence.cases[i].id in wanted and values[i] < 1.0]
    return [i for i in selected if 0.0 <= values[i] < 1.0]


_STRENGTHS = ("confirmed", "likely", "observed")
_RISKS = ("critical", "high", "medium", "low")
_WHY = {gap: gap.name.lower() for gap in Gap}


def _change(evidence: Evidence, key: Key, i: int, b: float | None, c: float) -> CaseChange:
    case = evidence.cases[i]
    base, cand = evidence.baseline.columns[key], evidence.candidate.columns[key]
    value = cand.values[i]
    return CaseChange(
        case_id=case.id,
        bucket=case.bucket,
        risk=case.risk,
        grader=key[0],
        baseline=b,
        candidate=c,
        strength=_strength(base.values[i], base.runs[i], value, cand.runs[i]),
        why="fail" if value >= 0.0 else _WHY[Gap(int(value))],
        traces=evidence.candidate.traces.get(i, ()),
    )


def _strength(b: float, base_runs: int, c: float, cand_runs: int) -> str:
    """A label by Fisher's exact test on the runs of one case; not a claim about the whole."""
    if b < 1.0 or c < 0.0 or not base_runs or not cand_runs:
        return "observed"
    p = stats.fisher_worse(base_runs, base_runs, round(c * cand_runs), cand_runs)
    if c == 0.0 and p <= 0.05 + 1e-9:
        return "confirmed"
    return "likely" if p <= 0.1 else "observed"


def _expected_by_chance(values: array[float], runs: array[int]) -> float | None:
    """n·ψ/2 with ψ = 2(pass^1 − pass^2), over the baseline's replayed cases."""
    replayed = [(round(v * k), k) for v, k in zip(values, runs, strict=True) if k > 1 and v >= 0.0]
    if not replayed:
        return None
    return sum(stats.pass_hat(passes, k, 1) - stats.pass_hat(passes, k, 2) for passes, k in replayed)
