"""Pairs the two arms case by case, and lists what changed, new failures first.

Pure. What each pair of values becomes, b for the baseline and c for the candidate:

    both have a value                     compared
    both SKIP                             left out: not applicable
    b SKIP, c has a value                 b counts 1: nothing had gone wrong
    b has a value, c SKIP                 c counts 1, and is counted: a grader skips only what it can see not to apply
    b MISSING, UNKNOWN or ERROR           left out and counted: there is nothing to compare with. `gate.decide` asks again
                                          with b UNKNOWN or ERROR counting 1, and promotes only if that changes nothing
    c MISSING (b has a value or SKIP)     c counts 0, unless the policy excludes missing cases; counted
    c UNKNOWN or ERROR (b likewise)       c counts 0: what cannot be seen is not a pass; counted
    either INFRASTRUCTURE                 left out and counted
"""

from __future__ import annotations

import heapq
import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from gate import stats
from gate.decision import BucketDelta, CaseChange, GraderChanges
from gate.evidence import Column, Evidence, Gap, Key
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
    `missing_excluded`. Counted as failures: `missing_candidate`, `unknown_candidate`, `error_candidate`.
    Counted as passes: `not_applicable_candidate`."""


def select(evidence: Evidence, bucket: Bucket) -> Sequence[int]:
    """Indices of the cases of a bucket."""
    where = bucket.where
    if where.bucket is None and where.tag is None and where.risk is None:
        return range(len(evidence.cases))
    return [i for i, c in enumerate(evidence.cases) if selects(where, c.bucket, c.tags, c.risk)]


def pair(
    evidence: Evidence, key: Key, indices: Sequence[int], design: Design, *, grant_baseline: bool = False
) -> Pairs:
    """Pair the arms on these cases; `grant_baseline` takes the baseline to have passed where it could not be judged."""
    base, cand = evidence.baseline.columns[key].values, evidence.candidate.columns[key].values
    if isinstance(indices, range) and min(base) >= 0.0 and min(cand) >= 0.0:
        return _pairs(evidence, indices, indices, base, cand, {}, design)
    kept: list[int] = []
    first: list[float] = []
    second: list[float] = []
    counts: dict[str, int] = {}
    for i in indices:
        b, c = base[i], cand[i]
        if b < 0.0 or c < 0.0:
            if grant_baseline and b in (Gap.UNKNOWN, Gap.ERROR) and c >= 0.0:
                b = 1.0
            why, b, c = _settle(b, c, design)
            if why:
                counts[why] = counts.get(why, 0) + 1
            if b < 0.0:
                continue
        kept.append(i)
        first.append(b)
        second.append(c)
    return _pairs(evidence, indices, kept, first, second, dict(sorted(counts.items())), design)


def _pairs(
    evidence: Evidence,
    selected: Sequence[int],
    kept: Sequence[int],
    baseline: Sequence[float],
    candidate: Sequence[float],
    counts: dict[str, int],
    design: Design,
) -> Pairs:
    return Pairs(
        selected=selected,
        indices=kept,
        baseline=baseline,
        candidate=candidate,
        differences=list(map(operator.sub, candidate, baseline)),
        clusters=clusters_of(evidence, kept) if design.cluster == "cluster" else None,
        counts=counts,
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
        return "not_applicable_candidate", b, 1.0
    if c == Gap.MISSING and design.missing_candidate == "exclude":
        return "missing_excluded", -1.0, -1.0
    return (_FAILED[Gap(int(c))], b, 0.0) if c < 0.0 else ("", b, c)


def clusters_of(evidence: Evidence, indices: Sequence[int]) -> list[int] | None:
    """The cluster of each case; None when every case stands alone."""
    cases = evidence.cases
    if not any(map(operator.attrgetter("cluster"), cases)):
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
    cases = evidence.cases
    sizes = Counter(cases[i].bucket for i in pairs.indices)
    if len(sizes) < 2:
        return ()
    sums: dict[str, list[float]] = {name: [] for name in sizes}
    for i, d in zip(compress(pairs.indices, pairs.differences), filter(None, pairs.differences), strict=True):
        sums[cases[i].bucket].append(d)
    return tuple(
        BucketDelta(
            bucket=name,
            n=sizes[name],
            estimate=math.fsum(changed) / sizes[name],
            regressions=sum(d < 0.0 for d in changed),
            fixes=sum(d > 0.0 for d in changed),
        )
        for name, changed in sorted(sums.items())
    )


def changes(evidence: Evidence, paired: Sequence[tuple[Criterion, Pairs]]) -> tuple[GraderChanges, ...]:
    """What changed under each grader that blocks, over all cases its criteria look at."""
    by_key: dict[Key, list[tuple[Criterion, Pairs]]] = {}
    for criterion, pairs in paired:
        by_key.setdefault((criterion.grader, criterion.measure), []).append((criterion, pairs))
    return tuple(_grader_changes(evidence, key, found) for key, found in sorted(by_key.items()))


def _grader_changes(evidence: Evidence, key: Key, found: Sequence[tuple[Criterion, Pairs]]) -> GraderChanges:
    base, cand = evidence.baseline.columns[key], evidence.candidate.columns[key]
    worse: dict[int, float | None] = {}
    better: set[int] = set()
    for _, pairs in found:
        rows = zip(pairs.indices, pairs.baseline, pairs.differences, strict=True)
        for i, b, d in compress(rows, pairs.differences):
            if d < 0.0:
                worse[i] = b
            else:
                better.add(i)
    new = len(worse)
    for criterion, pairs in found:
        if criterion.mode in ("zero_tolerance", "must_pass"):
            for i in _events(evidence, key, criterion, pairs.selected):
                worse.setdefault(i, base.values[i] if base.values[i] >= 0.0 else None)

    def rank(i: int) -> tuple[int, int, float, int]:
        before = worse[i]
        drop = max(0.0, cand.values[i]) - (1.0 if before is None else before)
        return _STRENGTHS.index(_strength(base, cand, i)), _RISKS.index(evidence.cases[i].risk), drop, i

    listed = heapq.nsmallest(MAX_LISTED, worse, key=rank)
    traces = evidence.candidate.traces_of(set(listed))
    flaky = sorted({i for column in (base, cand) for i in _mixed(column)})
    return GraderChanges(
        grader=key[0] if key[1] == "outcome" else f"{key[0]} ({key[1]})",
        new_failures=new,
        fixes=len(better),
        flaky=len(flaky),
        expected_by_chance=_expected_by_chance(base),
        failures=tuple(
            CaseChange(
                case_id=evidence.cases[i].id,
                bucket=evidence.cases[i].bucket,
                risk=evidence.cases[i].risk,
                grader=key[0],
                baseline=worse[i],
                candidate=max(0.0, cand.values[i]),
                strength=_strength(base, cand, i),
                why="fail" if cand.values[i] >= 0.0 else Gap(int(cand.values[i])).name.lower(),
                traces=traces.get(i, ()),
            )
            for i in listed
        ),
        fixed=tuple(evidence.cases[i].id for i in heapq.nsmallest(MAX_LISTED, better)),
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


def _strength(base: Column, cand: Column, i: int) -> str:
    """A label by Fisher's exact test on the runs of one case; not a claim about the whole."""
    c, runs, before = cand.values[i], cand.runs[i], base.runs[i]
    if base.values[i] < 1.0 or c < 0.0 or runs < 2 or before < 2:
        return "observed"
    p = stats.fisher_worse(before, before, round(c * runs), runs)
    if c == 0.0 and p <= 0.05 + 1e-9:
        return "confirmed"
    return "likely" if p <= 0.1 else "observed"


def _mixed(column: Column) -> list[int]:
    """Cases whose runs disagree."""
    if max(column.runs, default=0) < 2:
        return []
    return [i for i, (v, k) in enumerate(zip(column.values, column.runs, strict=True)) if 0.0 < v < 1.0 and k > 1]


def _expected_by_chance(column: Column) -> float | None:
    """n·ψ/2 with ψ = 2(pass^1 − pass^2), over the replayed cases."""
    if max(column.runs, default=0) < 2:
        return None
    replayed = [(round(v * k), k) for v, k in zip(column.values, column.runs, strict=True) if k > 1 and v >= 0.0]
    return math.fsum(stats.pass_hat(passes, k, 1) - stats.pass_hat(passes, k, 2) for passes, k in replayed)
