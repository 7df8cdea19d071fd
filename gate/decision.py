"""What a decision is: values that can be printed, stored and hashed, and hold no behaviour but that.

A decision's digest covers everything that follows from the evidence and the policy; ids and wall-clock times are outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any

from store.cases import canonical, digest_of


class Status(StrEnum):
    """What one criterion came to."""

    PASS = "pass"
    PASS_WITHIN_MARGIN = "pass_within_margin"
    """Shown worse, and shown to be worse by less than the margin."""
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"
    """The grader's question came up in no case of either arm."""


class Reason(StrEnum):
    """Why a release does not go ahead; in order of precedence."""

    HEALTH = "health"
    """The evidence cannot be compared."""
    REGRESSION = "regression"
    """Blocked: more data will not change it."""
    INSUFFICIENT_DATA = "insufficient_data"
    INCONCLUSIVE = "inconclusive"
    """More data can change it."""
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class BucketDelta:
    """One bucket of the suite under one criterion; shown, never decided on."""

    bucket: str
    n: int
    estimate: float
    regressions: int
    fixes: int


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One blocker or advisory. Rates and bounds are in [0, 1] or [-1, 1]; None where nothing can be said."""

    id: str
    status: Status
    reason: str
    """In words, with the numbers it rests on."""
    grader: str
    mode: str
    bucket: str
    tier: str
    holds: bool
    """Whether an undecided outcome holds the release."""
    n: int = 0
    clusters: int = 0
    estimate: float | None = None
    ci: tuple[float, float] | None = None
    level: float | None = None
    """Of `ci`."""
    margin: float | None = None
    threshold: float | None = None
    regressions: int = 0
    fixes: int = 0
    baseline: float | None = None
    """Mean of the baseline over the compared cases."""
    candidate: float | None = None
    psi: float | None = None
    """Share of cases whose value changed."""
    n_eff: float | None = None
    p_promote: float | None = None
    p_block: float | None = None
    p_block_holm: float | None = None
    mde80: float | None = None
    n_needed: int | None = None
    method: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Cases that were left out or counted as failures, by why; see `gate.compare`."""
    buckets: tuple[BucketDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """One budget."""

    id: str
    status: Status
    reason: str
    metric: str
    stat: str
    bucket: str
    enforce: bool
    n: int = 0
    estimate: float | None = None
    ci: tuple[float, float] | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Offence:
    """A span that made a run fail. Reason and label come from telemetry: untrusted text."""

    trace_id: str
    span_id: str
    grader: str
    subject: str
    severity: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class CaseChange:
    """A case that differs between the arms, or must not fail and does."""

    case_id: str
    bucket: str
    risk: str
    grader: str
    baseline: float | None
    """Mean over the runs; None where the baseline has no value."""
    candidate: float
    strength: str
    """`confirmed` (always passed, now never, and replays enough to say so), `likely`, or `observed`."""
    why: str
    """`fail`, or why a case without a verdict counts as one: `missing`, `unknown`, `error`, `skip`."""
    traces: tuple[str, ...]
    """Of the candidate."""
    offences: tuple[Offence, ...] = ()


@dataclass(frozen=True, slots=True)
class GraderChanges:
    """What changed case by case under one grader that blocks."""

    grader: str
    new_failures: int
    fixes: int
    flaky: int
    """Cases whose runs disagree within an arm."""
    expected_by_chance: float | None
    """New failures an unchanged agent would show in one run a case, from the baseline's own replays; None without."""
    failures: tuple[CaseChange, ...]
    """The worst first; at most `gate.compare.MAX_LISTED`."""
    fixed: tuple[str, ...]
    flaky_cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthNote:
    """Something to know about the evidence; `broken` means that nothing may be concluded from it."""

    check: str
    broken: bool
    message: str


@dataclass(frozen=True, slots=True)
class Identity:
    """A named thing and its digest."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Decision:
    """May this candidate be promoted?"""

    decision: str
    """`promote`, `hold` or `rollback`."""
    reasons: tuple[Reason, ...]
    """Primary first; empty for promote."""
    summary: str
    """One line with the arithmetic and what would change it."""
    stage: str
    as_of: str
    baseline: str
    candidate: str
    suite: Identity
    cases: int
    policy: Identity
    criteria: tuple[CriterionResult, ...]
    budgets: tuple[BudgetResult, ...]
    advisories: tuple[CriterionResult, ...]
    changes: tuple[GraderChanges, ...]
    health: tuple[HealthNote, ...]
    evidence_digest: str
    stats: str
    """Version of the arithmetic."""

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the offending spans, which explain and do not decide."""
        bare = tuple(
            replace(change, failures=tuple(replace(case, offences=()) for case in change.failures))
            for change in self.changes
        )
        return digest_of(canonical(_plain(replace(self, changes=bare))))

    @property
    def exit_code(self) -> int:
        """0 promote, 1 blocked, 3 hold, 4 infrastructure or health (2 is for usage)."""
        if self.decision == "promote":
            return 0
        if self.decision == "rollback":
            return 1
        return {Reason.REGRESSION: 1, Reason.BUDGET: 1, Reason.HEALTH: 4}.get(self.reasons[0], 3)

    def to_json(self) -> dict[str, Any]:
        """The decision document."""
        document: dict[str, Any] = _plain(self)
        return document | {"digest": self.digest, "exitCode": self.exit_code}

    def offending_traces(self) -> list[str]:
        """The candidate's traces whose failing spans are worth showing."""
        return sorted({t for change in self.changes for case in change.failures for t in case.traces})

    def with_offences(self, rows: Iterable[Mapping[str, Any]]) -> Decision:
        """The same decision with the failing spans of its listed failures; rows as offences.sql returns them."""
        found: dict[tuple[str, str], list[Offence]] = {}
        for row in rows:
            offence = Offence(
                trace_id=row["TraceId"],
                span_id=row["SpanId"],
                grader=row["Grader"],
                subject=row["Subject"],
                severity=row["Severity"],
                label=row["Label"],
                reason=row["Reason"],
            )
            found.setdefault((offence.trace_id, offence.grader), []).append(offence)
        for offences in found.values():
            offences.sort(key=lambda o: (o.span_id, o.subject))
        changes = tuple(
            replace(
                change,
                failures=tuple(
                    replace(case, offences=tuple(o for t in case.traces for o in found.get((t, case.grader), ())))
                    for case in change.failures
                ),
            )
            for change in self.changes
        )
        return replace(self, changes=changes)


def _plain(value: Any) -> Any:
    """JSON values; field names in camelCase, floats at six decimals so that no digest hangs on the last bit."""
    if is_dataclass(value):
        return {camel(f.name): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, StrEnum):
        return str(value)
    return value


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
