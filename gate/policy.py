"""The release policy: which criteria block, which only inform, how much loss is tolerable, how much evidence is needed.

Promises that a policy which could never promote, never block, or names something unknown is refused before anything
runs, with every problem and its way out. Deciding by it is `gate.decide`'s.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gate import stats
from gate.suite import Name, Suite, Text
from store.cases import canonical, digest_of
from store.yamlfile import ConfigError, Problem, load_yaml, parse_yaml

Mode = Literal["non_inferiority", "deterioration", "superiority", "floor", "ceiling", "zero_tolerance", "must_pass"]
Risk = Literal["critical", "high", "medium", "low"]
Share = Annotated[float, Field(gt=0, lt=1)]
Metric = Literal["latency_ms", "input_tokens", "output_tokens", "total_tokens"]

MODE_FIELDS: dict[str, frozenset[str]] = {
    "non_inferiority": frozenset({"margin"}),
    "deterioration": frozenset(),
    "superiority": frozenset(),
    "floor": frozenset({"threshold"}),
    "ceiling": frozenset({"threshold"}),
    "zero_tolerance": frozenset({"p_max"}),
    "must_pass": frozenset({"cases"}),
}
"""Which of the optional fields of a criterion each mode reads; any other is an error, not ignored."""

REQUIRED_FIELDS = {"floor": "threshold", "ceiling": "threshold", "zero_tolerance": "p_max", "must_pass": "cases"}

INFRASTRUCTURE_PATTERNS = (
    r"rate.?limit",
    r"too many requests|resource.?exhausted|quota|out of (extra )?usage|insufficient.?(credits?|funds|balance)",
    r"\boverloaded",
    r"service.?unavailable|bad.?gateway|gateway.?time.?out",
    r"(http|status|code|error)[\W_]{0,3}(429|50[234]|529)\b",
    r"connection (refused|reset|error|aborted)|connect.?time.?out|name resolution|\bssl(error\b|\W)",
    r"time.?out error|timed out|deadline exceeded",
)
"""What the error of a run says when its surroundings failed and not the agent; matched without regard to case."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Confidence(_Model):
    """Error levels, one-sided."""

    promote: Annotated[float, Field(ge=0.001, le=0.2)] = 0.025
    """Chance to call one criterion passed although the candidate is worse by its whole margin."""
    block_family: Annotated[float, Field(ge=0.001, le=0.2)] = 0.05
    """Chance to call any blocker of an unchanged candidate failed (Holm over all of them)."""


class Infrastructure(_Model):
    """Runs that died of their surroundings."""

    patterns: list[str] = list(INFRASTRUCTURE_PATTERNS)
    """Regular expressions over the error type and message of a failed root span."""
    on_match: Literal["exclude", "fail"] = "exclude"
    """`exclude` leaves such runs out and says how many; `fail` counts them as failures."""
    max_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """More of them than this share of either arm's runs, and nothing is concluded."""

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns


class Design(_Model):
    """How the comparison is made."""

    cluster: Literal["cluster", "none"] = "cluster"
    """Which cases depend on each other: those with the same `cluster` field, or none."""
    replays: Annotated[int, Field(ge=1, le=1000)] = 1
    """Runs planned per case and arm; runs the candidate lacks count as missing."""
    confidence: Confidence = Confidence()
    assumed_icc: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Correlation inside clusters, assumed where too few clusters differ to estimate it."""
    missing_candidate: Literal["fail", "exclude"] = "fail"
    min_paired: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Share of the suite's cases the baseline must have run; below, nothing is concluded."""
    max_grader_errors: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of a grader's verdicts that may be errors; above, nothing is concluded."""
    infrastructure: Infrastructure = Infrastructure()


class Tier(_Model):
    """Margins and minimum evidence for one level of risk."""

    margin: Share
    min_cases: Annotated[int, Field(ge=2)]
    min_clusters: Annotated[int, Field(ge=2)] = 10
    on_inconclusive: Literal["hold", "warn"] = "hold"


DEFAULT_TIERS: dict[str, Tier] = {
    "critical": Tier(margin=0.01, min_cases=400, min_clusters=100),
    "high": Tier(margin=0.03, min_cases=200, min_clusters=40),
    "medium": Tier(margin=0.05, min_cases=100, min_clusters=20),
    "low": Tier(margin=0.10, min_cases=50, min_clusters=10),
}


class Where(_Model):
    """Which cases belong; all that is given must hold."""

    bucket: Text | None = None
    tag: Text | None = None
    risk: Risk | None = None


class Bucket(_Model):
    """A named part of the suite."""

    id: Name
    tier: Risk = "medium"
    where: Where = Where()


class Criterion(_Model):
    """One question about one grader on one bucket."""

    id: Name
    grader: Text
    mode: Mode = "non_inferiority"
    bucket: Name = "all"
    measure: Literal["outcome", "score"] = "outcome"
    """Whether a run counts as pass or fail, or with the grader's score in [0, 1]."""
    margin: Share | None = None
    """Overrides the tier's."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    p_max: Share | None = None
    """The event rate that must be excluded."""
    cases: list[Text] | None = None


class Budget(_Model):
    """How much slower or dearer the candidate may be."""

    id: Name
    metric: Text
    """`latency_ms`, `input_tokens`, `output_tokens`, `total_tokens`, or a grader whose score is the amount."""
    stat: Literal["ratio_of_totals", "geometric_mean_ratio", "exceedance"] = "ratio_of_totals"
    bucket: Name = "all"
    max_increase: Annotated[float, Field(gt=0, le=100)] | None = None
    """For the ratios: 0.1 allows ten per cent more."""
    threshold: Annotated[float, Field(gt=0)] | None = None
    """For exceedance: an amount above this is a failure."""
    margin: Share | None = None
    """For exceedance: how many more cases may exceed."""
    enforce: bool = True


class Pins(_Model):
    """What the evidence must have been made with; empty accepts whatever both arms share."""

    suite: str = ""
    """Digest of the suite."""
    graders: dict[str, str] = {}
    """Version of each grader."""


class GatePolicy(_Model):
    """A policy file."""

    name: Name
    version: Text = "1"
    owners: list[Text] = []
    pins: Pins = Pins()
    design: Design = Design()
    tiers: dict[Risk, Tier] = {}
    """Replaces the defaults level by level."""
    buckets: list[Bucket] = []
    """`all` is always there, at tier medium unless it is listed."""
    blockers: Annotated[list[Criterion], Field(min_length=1)]
    """A policy that cannot block is no policy."""
    budgets: list[Budget] = []
    advisories: list[Criterion] = []

    @property
    def digest(self) -> str:
        """SHA-256 of everything the policy says."""
        return digest_of(canonical(self.model_dump(mode="json")))

    @property
    def graders(self) -> tuple[str, ...]:
        """Every grader a criterion or budget reads."""
        named = {c.grader for c in (*self.blockers, *self.advisories)}
        return tuple(sorted(named | {b.metric for b in self.budgets if b.metric not in METRICS}))

    def bucket(self, bucket_id: str) -> Bucket:
        """A declared bucket, or the whole suite for `all`."""
        return next((b for b in self.buckets if b.id == bucket_id), Bucket(id="all"))

    def tier(self, criterion: Criterion | Budget) -> Tier:
        """The tier of the criterion's bucket."""
        risk = self.bucket(criterion.bucket).tier
        return self.tiers.get(risk, DEFAULT_TIERS[risk])

    def margin(self, criterion: Criterion) -> float:
        """The largest loss a non-inferiority criterion accepts."""
        return criterion.margin if criterion.margin is not None else self.tier(criterion).margin


METRICS: tuple[str, ...] = ("latency_ms", "input_tokens", "output_tokens", "total_tokens")


def load_policy(path: Path | str, known_graders: Collection[str]) -> GatePolicy:
    """Read a policy file; raises `ConfigError` with every problem."""
    policy = load_yaml(path, GatePolicy)
    validate(policy, known_graders, str(path))
    return policy


def parse_policy(content: bytes | str, known_graders: Collection[str], name: str = "<policy>") -> GatePolicy:
    """Like `load_policy`, for text at hand."""
    policy = parse_yaml(content, GatePolicy, name)
    validate(policy, known_graders, name)
    return policy


def validate(policy: GatePolicy, known_graders: Collection[str], file: str = "<policy>") -> None:
    """Refuse what no schema can see: unknown names, contradictions, criteria that can never pass."""
    problems = [Problem(file, 0, key, message) for key, message in _problems(policy, known_graders)]
    if problems:
        raise ConfigError(problems)


def validate_for(policy: GatePolicy, suite: Suite, file: str = "<policy>") -> None:
    """Refuse a policy that asks about cases the suite does not have, or was made for another suite."""
    problems = [Problem(file, 0, key, message) for key, message in _suite_problems(policy, suite)]
    if problems:
        raise ConfigError(problems)


def _problems(policy: GatePolicy, known_graders: Collection[str]) -> Iterator[tuple[str, str]]:
    graders = ", ".join(sorted(known_graders)) or "none"
    buckets = {"all"} | {bucket.id for bucket in policy.buckets}
    for pin in policy.pins.graders:
        if pin not in known_graders:
            yield f"pins.graders.{pin}", f"unknown grader; known: {graders}"
    for risk in ("critical", "high"):
        if policy.tiers.get(risk, DEFAULT_TIERS[risk]).on_inconclusive == "warn":
            yield f"tiers.{risk}.on_inconclusive", f"an undecided {risk} criterion must hold the release; use hold"
    names = [bucket.id for bucket in policy.buckets]
    for i, name in enumerate(names):
        if name in names[:i]:
            yield f"buckets[{i}].id", f"{name!r} is also the id of buckets[{names.index(name)}]; rename one"
    seen: dict[str, str] = {}
    for key, item in _keyed(policy):
        if item.id in seen:
            yield f"{key}.id", f"{item.id!r} is also the id of {seen[item.id]}; rename one"
        seen.setdefault(item.id, key)
        if item.bucket not in buckets:
            yield f"{key}.bucket", f"unknown bucket {item.bucket!r}; known: {', '.join(sorted(buckets))}"
            continue
        if isinstance(item, Criterion):
            if item.grader not in known_graders:
                yield f"{key}.grader", f"unknown grader {item.grader!r}; known: {graders}"
            yield from _criterion_problems(policy, key, item)
        else:
            if item.metric not in METRICS and item.metric not in known_graders:
                yield (
                    f"{key}.metric",
                    f"{item.metric!r} is neither a metric ({', '.join(METRICS)}) nor a known grader ({graders})",
                )
            wanted = {"threshold", "margin"} if item.stat == "exceedance" else {"max_increase"}
            for field in ("max_increase", "threshold", "margin"):
                given = getattr(item, field) is not None
                if given != (field in wanted):
                    yield f"{key}.{field}", f"{item.stat} " + ("does not use it; remove it" if given else "needs it")


def _keyed(policy: GatePolicy) -> Iterator[tuple[str, Criterion | Budget]]:
    sections: tuple[tuple[str, Sequence[Criterion | Budget]], ...] = (
        ("blockers", policy.blockers),
        ("budgets", policy.budgets),
        ("advisories", policy.advisories),
    )
    for section, items in sections:
        yield from ((f"{section}[{i}]", item) for i, item in enumerate(items))


def _criterion_problems(policy: GatePolicy, key: str, criterion: Criterion) -> Iterator[tuple[str, str]]:
    mode, alpha = criterion.mode, policy.design.confidence.promote
    for field in ("margin", "threshold", "p_max", "cases"):
        if getattr(criterion, field) is not None and field not in MODE_FIELDS[mode]:
            users = sorted(m for m, fields in MODE_FIELDS.items() if field in fields)
            yield f"{key}.{field}", f"mode {mode} does not use it; only {', '.join(users)} does"
    required = REQUIRED_FIELDS.get(mode)
    if required and not getattr(criterion, required):
        yield f"{key}.{required}", f"mode {mode} needs it"
    if criterion.measure == "score" and mode in ("zero_tolerance", "must_pass"):
        yield f"{key}.measure", f"mode {mode} counts failures; use measure: outcome"
    if mode == "non_inferiority":
        margin, tier = policy.margin(criterion), policy.tier(criterion)
        least = stats.n_min(margin, alpha)
        if tier.min_cases < least:
            yield (
                key,
                f"min_cases {tier.min_cases} can never pass margin {margin:g}, even without one changed case: it takes "
                f"min_cases {least}, or a margin of {stats.margin_min(tier.min_cases, alpha):g}",
            )


def _suite_problems(policy: GatePolicy, suite: Suite) -> Iterator[tuple[str, str]]:
    if policy.pins.suite and policy.pins.suite != suite.digest:
        yield (
            "pins.suite",
            f"the policy is pinned to {policy.pins.suite!r}, but suite {suite.name} is {suite.digest}; "
            "evaluate against the pinned version, or review the change and move the pin",
        )
    if suite.tier == "monitoring":
        yield "blockers", f"suite {suite.name} is a monitoring suite, which may inform but not block; use a trusted one"
    ids = {case.id for case in suite.cases}
    for i, bucket in enumerate(policy.buckets):
        if not any(selects(bucket.where, case.bucket, case.tags, case.risk) for case in suite.cases):
            present = ", ".join(sorted({case.bucket for case in suite.cases}))
            yield f"buckets[{i}].where", f"selects no case of suite {suite.name}; its buckets: {present}"
    for section, criteria in (("blockers", policy.blockers), ("advisories", policy.advisories)):
        for i, criterion in enumerate(criteria):
            for case_id in criterion.cases or ():
                if case_id not in ids:
                    yield f"{section}[{i}].cases", f"{case_id!r} is not a case of suite {suite.name}"


def selects(where: Where, bucket: str, tags: Collection[str], risk: str) -> bool:
    """Whether a case with this bucket, these tags and this risk belongs."""
    return (
        (where.bucket is None or where.bucket == bucket)
        and (where.tag is None or where.tag in tags)
        and (where.risk is None or where.risk == risk)
    )
