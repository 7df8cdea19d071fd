"""What a comparison works on: for every case and arm, how each grader judged its runs.

Promises one value per (case, arm, grader), whatever the order rows come in: the mean over the runs, or the reason there is
none (`Gap`). How two such values are compared is `gate.compare`'s. Reading is by SQL alone (gate/sql); telemetry text never
becomes part of a statement.

A run is one trace. From grades to a value:

    spans of a trace, one grader   any fail: fail · else any error: error · else any unknown: unknown · else any pass: pass
                                   · else skip (folded in verdicts.sql)
    runs of a case, one arm        fail 0, pass 1 (or the score, without which a run is unknown), skip 1 beside runs that were
                                   judged: nothing went wrong;
                                   unknown, error and runs that are missing count 0 for the candidate and nothing for the
                                   baseline; all skipped: SKIP; nothing known: ERROR or UNKNOWN
    runs that died of their        left out (INFRASTRUCTURE if no other run is there) or 0, as the policy says; what they
    surroundings                   had done wrong before is remembered in `Column.failed`
    no run                         MISSING
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.resources import files
from string import Template
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from gate.policy import METRICS, Design, GatePolicy
from gate.suite import Suite, Text
from store.types import Case


class Gap(IntEnum):
    """Why a case has no value. Values are never negative, so one number says either."""

    MISSING = -1
    """No run at all."""
    SKIP = -2
    """The grader's question does not apply."""
    UNKNOWN = -3
    """The capture lacks what the grader needs, or no grade is there."""
    ERROR = -4
    """The grader broke."""
    INFRASTRUCTURE = -5
    """Every run died of its surroundings and is left out."""


Measure = Literal["outcome", "score", "amount"]
Key = tuple[str, Measure]
"""Which values: a grader's outcome or score in [0, 1], or a metric or grader's amount (a budget)."""


class ArmSelector(BaseModel):
    """Which traces are one side of a comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["version", "run"]
    value: Text
    """A `service.version`, or a run id."""
    service: str = ""
    """Only traces of this service; empty takes any."""

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" + (f" of {self.service}" if self.service else "")


@dataclass(frozen=True, slots=True)
class Traces:
    """The runs of one arm, as columns."""

    trace_ids: Sequence[str]
    case_ids: Sequence[str]
    latency_ms: Sequence[float] = ()
    """This and the next two may be NaN where unknown, or empty when nothing is known."""
    input_tokens: Sequence[float] = ()
    output_tokens: Sequence[float] = ()
    errors: Sequence[str] = ()
    """What a failed root span says; empty text for others."""
    services: Sequence[str] = ()
    """Every service among them."""
    reopened: int = 0
    """How many got something new since they were graded, or never were."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One grader's verdicts on the runs of one arm, as columns."""

    trace_ids: Sequence[str]
    outcomes: Sequence[str]
    scores: Sequence[float] = ()
    """NaN where there is none; empty when no run has one."""
    case_digests: Sequence[str] = ()
    """Digest of the case each verdict was made against; empty text where the grader did not look at it."""
    versions: frozenset[str] = frozenset()
    configs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one grader in one arm, aligned with the suite's cases."""

    values: array[float]
    """Mean over the runs, or a `Gap`."""
    runs: array[int]
    """How many runs each mean is over."""
    failed: array[int] = field(default_factory=lambda: array("q"))
    """Runs seen to fail, also those that died of their surroundings afterwards; empty for amounts."""
    unseen: array[int] = field(default_factory=lambda: array("q"))
    """Runs that count 0 in the mean although nobody saw them fail; empty for amounts."""
    versions: frozenset[str] = frozenset()
    configs: frozenset[str] = frozenset()
    verdicts: int = 0
    errors: int = 0
    ungraded: int = 0
    """Runs without a verdict."""
    stale: int = 0
    """Verdicts made against another version of the case."""
    out_of_range: int = 0
    """Scores outside [0, 1]."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Everything one side did."""

    label: str
    trace_ids: Sequence[str]
    """Usable runs, by case, then by id."""
    homes: array[int]
    """Index of the case of each of them."""
    missing: frozenset[int]
    """Cases without any run."""
    runs: int
    foreign: int
    """Runs of cases the suite does not have; not used."""
    infrastructure: tuple[str, ...]
    """Trace ids of runs that died of their surroundings."""
    columns: Mapping[Key, Column]
    services: tuple[str, ...] = ()
    """Whose runs they are."""
    reopened: int = 0
    """Runs that the graders have not finished."""

    def traces_of(self, cases: Set[int]) -> dict[int, tuple[str, ...]]:
        """The usable runs of these cases."""
        found: dict[int, list[str]] = {}
        for i, trace_id in zip(self.homes, self.trace_ids, strict=True):
            if i in cases:
                found.setdefault(i, []).append(trace_id)
        return {i: tuple(ids) for i, ids in found.items()}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both sides of a comparison over one suite."""

    suite_name: str
    suite_digest: str
    cases: tuple[Case, ...]
    """By id."""
    baseline: Arm
    candidate: Arm
    shared_traces: int
    """Runs that belong to both arms."""
    digest: str
    """SHA-256 over everything a decision depends on."""


def build(
    suite: Suite,
    policy: GatePolicy,
    baseline: tuple[str, Traces, Mapping[str, Verdicts]],
    candidate: tuple[str, Traces, Mapping[str, Verdicts]],
) -> Evidence:
    """Fold both arms, each given as (label, runs, verdicts by grader)."""
    index = {case.id: i for i, case in enumerate(suite.cases)}
    digests = [case.digest for case in suite.cases]
    keys = _keys(policy)
    # A grader that never looks at the case writes no digest; one that does and wrote none did not know the case.
    verdicts = (*baseline[2].items(), *candidate[2].items())
    dated = frozenset(name for name, given in verdicts if any(given.case_digests))
    first = _arm(index, digests, keys, policy.design, *baseline, dated=dated, is_candidate=False)
    second = _arm(index, digests, keys, policy.design, *candidate, dated=dated, is_candidate=True)
    shared = len(set(first.trace_ids).intersection(second.trace_ids))
    return Evidence(suite.name, suite.digest, suite.cases, first, second, shared, _digest(suite, first, second))


def _keys(policy: GatePolicy) -> list[Key]:
    keys: set[Key] = {(c.grader, c.measure) for c in (*policy.blockers, *policy.advisories)}
    return sorted(keys | {(budget.metric, "amount") for budget in policy.budgets})


def _arm(
    index: Mapping[str, int],
    digests: Sequence[str],
    keys: Sequence[Key],
    design: Design,
    label: str,
    traces: Traces,
    verdicts: Mapping[str, Verdicts],
    *,
    dated: Set[str],
    is_candidate: bool,
) -> Arm:
    died = _dead_runs(traces, design)
    excluded = died if design.infrastructure.on_match == "exclude" else frozenset[str]()
    seen_dead: list[str] = []
    graves: dict[str, int] = {}
    usable: list[tuple[int, str]] = []
    present, lost = _zeros(len(index)), _zeros(len(index))
    foreign = 0
    for trace_id, case_id in zip(traces.trace_ids, traces.case_ids, strict=True):
        i = index.get(case_id, -1)
        if i < 0:
            foreign += 1
            continue
        if died and trace_id in died:
            seen_dead.append(trace_id)
        if excluded and trace_id in excluded:
            lost[i] += 1
            graves[trace_id] = i
        else:
            usable.append((i, trace_id))
            present[i] += 1
    usable.sort()
    home = {trace_id: i for i, trace_id in usable}
    columns: dict[Key, Column] = {}
    for key in keys:
        name, measure = key
        if measure == "amount":
            amounts = _metric(name, traces) if name in METRICS else _scores(verdicts.get(name))
            columns[key] = _amounts(home, len(index), amounts)
        else:
            given = verdicts.get(name, Verdicts((), ()))
            columns[key] = _column(
                home,
                graves,
                present,
                lost,
                digests if name in dated else (),
                design,
                measure,
                given,
                died - excluded,
                is_candidate=is_candidate,
            )
    return Arm(
        label=label,
        trace_ids=[trace_id for _, trace_id in usable],
        homes=array("q", [i for i, _ in usable]),
        missing=frozenset(i for i, n in enumerate(present) if not n and not lost[i]),
        runs=len(traces.trace_ids) - foreign,
        foreign=foreign,
        infrastructure=tuple(sorted(seen_dead)),
        columns=columns,
        services=tuple(sorted(traces.services)),
        reopened=traces.reopened,
    )


def _zeros(size: int) -> array[int]:
    return array("q", bytes(8 * size))


def _dead_runs(traces: Traces, design: Design) -> frozenset[str]:
    if not design.infrastructure.patterns:
        return frozenset()
    pattern = re.compile("|".join(f"(?:{p})" for p in design.infrastructure.patterns), re.IGNORECASE)
    return frozenset(
        trace_id
        for trace_id, error in zip(traces.trace_ids, traces.errors, strict=False)
        if error and pattern.search(error[:10_000])
    )


def _column(
    home: Mapping[str, int],
    graves: Mapping[str, int],
    present: Sequence[int],
    lost: Sequence[int],
    digests: Sequence[str],
    design: Design,
    measure: Measure,
    verdicts: Verdicts,
    doomed: frozenset[str],
    *,
    is_candidate: bool,
) -> Column:
    size = len(present)
    total, known = array("d", bytes(8 * size)), _zeros(size)
    skipped, unknown, broken = _zeros(size), _zeros(size), _zeros(size)
    failed, unseen = _zeros(size), _zeros(size)
    out_of_range = stale = count = 0
    scores = (verdicts.scores or [math.nan] * len(verdicts.outcomes)) if measure == "score" else None
    seen = verdicts.case_digests or [""] * len(verdicts.trace_ids)
    for position, (trace_id, outcome) in enumerate(zip(verdicts.trace_ids, verdicts.outcomes, strict=True)):
        i = home.get(trace_id, -1)
        if i < 0:
            if outcome == "fail" and trace_id in graves:
                failed[graves[trace_id]] += 1
            continue
        count += 1
        if digests and seen[position] != digests[i]:
            stale += 1
        if doomed and trace_id in doomed:
            known[i] += 1
            failed[i] += 1
            unseen[i] += 1
        elif outcome == "pass" or outcome == "fail":
            value = 1.0 if outcome == "pass" else 0.0
            if scores is not None:
                value = scores[position]
                if math.isnan(value):
                    unknown[i] += 1
                    continue
                if not 0.0 <= value <= 1.0:
                    out_of_range += 1
                    value = min(max(value, 0.0), 1.0)
            known[i] += 1
            total[i] += value
            failed[i] += outcome == "fail"
        elif outcome == "skip":
            skipped[i] += 1
        elif outcome == "error":
            broken[i] += 1
        else:
            unknown[i] += 1
    values, runs = array("d", bytes(8 * size)), _zeros(size)
    planned = design.replays if is_candidate and design.missing_candidate == "fail" else 0
    ungraded = 0
    for i in range(size):
        n = present[i]
        if not n:
            values[i] = Gap.INFRASTRUCTURE if lost[i] else Gap.MISSING
            continue
        judged = known[i] + skipped[i]
        ungraded += n - judged - unknown[i] - broken[i]
        absent = max(0, planned - n - lost[i])
        if known[i] or (skipped[i] and absent):
            divisor = max(judged, n + absent) if is_candidate else judged
            mean = (total[i] + skipped[i]) / divisor
            # Rounded, so that the order of the runs cannot show in the last digit.
            values[i] = mean if divisor == 1 else round(mean, 12)
            runs[i] = divisor
            unseen[i] += divisor - judged
        elif broken[i]:
            values[i] = Gap.ERROR
        elif skipped[i] == n:
            values[i] = Gap.SKIP
        else:
            values[i] = Gap.UNKNOWN
    return Column(
        values=values,
        runs=runs,
        failed=failed,
        unseen=unseen,
        versions=verdicts.versions,
        configs=verdicts.configs,
        verdicts=count,
        errors=sum(broken),
        ungraded=ungraded,
        stale=stale,
        out_of_range=out_of_range,
    )


def _amounts(home: Mapping[str, int], size: int, amounts: Iterable[tuple[str, float]]) -> Column:
    """Mean amount of the runs of each case; negative or unknown amounts do not count."""
    total, runs = array("d", bytes(8 * size)), _zeros(size)
    for trace_id, amount in amounts:
        i = home.get(trace_id, -1)
        if i >= 0 and amount >= 0.0 and not math.isinf(amount):
            total[i] += amount
            runs[i] += 1
    values = array("d", (round(t / n, 9) if n else float(Gap.MISSING) for t, n in zip(total, runs, strict=True)))
    return Column(values=values, runs=runs)


def _metric(name: str, traces: Traces) -> Iterable[tuple[str, float]]:
    if name == "total_tokens":
        sums = [i + o for i, o in zip(traces.input_tokens, traces.output_tokens, strict=True)]
        return zip(traces.trace_ids, sums, strict=False)
    columns: dict[str, Sequence[float]] = {
        "latency_ms": traces.latency_ms,
        "input_tokens": traces.input_tokens,
        "output_tokens": traces.output_tokens,
    }
    return zip(traces.trace_ids, columns[name], strict=False)


def _scores(verdicts: Verdicts | None) -> Iterable[tuple[str, float]]:
    return zip(verdicts.trace_ids, verdicts.scores, strict=False) if verdicts else ()


def _digest(suite: Suite, baseline: Arm, candidate: Arm) -> str:
    sha = hashlib.sha256(suite.digest.encode())
    for arm in (baseline, candidate):
        sha.update(f"\n{arm.label!r} {arm.runs} {arm.foreign} {arm.services!r} {arm.reopened}".encode())
        sha.update("\n".join(arm.infrastructure).encode())
        sha.update("\n".join(arm.trace_ids).encode("utf-8", "surrogatepass"))
        sha.update(_portable(arm.homes))
        for key in sorted(arm.columns):
            column = arm.columns[key]
            notes = (sorted(column.versions), sorted(column.configs), column.verdicts, column.errors, column.ungraded)
            sha.update(f"\n{key!r} {notes!r} {column.stale} {column.out_of_range}\n".encode())
            sha.update(_portable(column.values))
            sha.update(_portable(column.runs))
            sha.update(_portable(column.failed))
            sha.update(_portable(column.unseen))
    return f"sha256:{sha.hexdigest()}"


def _portable(values: array[Any]) -> bytes:
    """The same bytes on every machine."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


# --- from the store ----------------------------------------------------------------------------------------------------


class Queries(Protocol):
    """What reading needs of `store.client.Store`."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]: ...


class Statements(Protocol):
    """What writing needs of it."""

    def command(self, sql: str, parameters: dict[str, Any] | None = None) -> object: ...


def read(store: Queries, suite: Suite, policy: GatePolicy, baseline: ArmSelector, candidate: ArmSelector) -> Evidence:
    """The evidence as it stands in the store now."""
    return build(suite, policy, _read_arm(store, suite, policy, baseline), _read_arm(store, suite, policy, candidate))


def pending(store: Queries, suite: Suite, selector: ArmSelector) -> int:
    """How many traces of the arm the graders have not finished."""
    arm = {"suite": suite.name, "kind": selector.kind, "value": selector.value, "service": selector.service}
    (row,) = store.query(statement("pending"), dict(arm))
    return int(row["Pending"])


def keep(store: Statements, suite: Suite, decision_id: str, arms: Mapping[str, ArmSelector]) -> None:
    """Record which grading of each trace of the arms counts now. Done before they are read, so that what is graded again
    meanwhile shows as graded again."""
    for name, selector in arms.items():
        given = {"suite": suite.name, "kind": selector.kind, "value": selector.value, "service": selector.service}
        store.command(statement("keep_evidence"), {**given, "id": decision_id, "arm": name})


@dataclass(frozen=True, slots=True)
class Superseded:
    """Traces a decision rests on that were graded again since."""

    count: int
    traces: tuple[tuple[str, int, int], ...]
    """Trace id, the generation that was used, the newest; at most `MAX_SUPERSEDED`."""

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "traces": [{"traceId": t, "usedGeneration": used, "generation": now} for t, used, now in self.traces],
        }


MAX_SUPERSEDED = 100


def read_superseded(store: Queries, decision_id: str, decided_ms: int) -> Superseded | None:
    """What was graded again since a decision; None if what it rests on was not recorded."""
    given = {"id": decision_id, "since_ms": decided_ms - _CLOCK_SLACK_MS, "most": MAX_SUPERSEDED}
    (row,) = store.query(statement("superseded"), given)
    if not row["Known"]:
        return None
    return Superseded(row["Number"], tuple((t, used, now) for t, used, now in row["Shown"]))


_CLOCK_SLACK_MS = 24 * 3600 * 1000


def _read_arm(
    store: Queries, suite: Suite, policy: GatePolicy, selector: ArmSelector
) -> tuple[str, Traces, Mapping[str, Verdicts]]:
    arm = {"suite": suite.name, "kind": selector.kind, "value": selector.value, "service": selector.service}
    reopened = pending(store, suite, selector)
    (row,) = store.query(statement("traces"), dict(arm))
    traces = Traces(
        trace_ids=row["TraceIds"],
        case_ids=row["CaseIds"],
        latency_ms=row["LatencyMs"],
        input_tokens=row["InputTokens"],
        output_tokens=row["OutputTokens"],
        errors=row["Errors"],
        services=row["Services"],
        reopened=reopened,
    )
    verdicts = {
        row["Grader"]: Verdicts(
            trace_ids=row["TraceIds"],
            outcomes=row["Outcomes"],
            scores=row["Scores"],
            case_digests=row["CaseDigests"],
            versions=frozenset(row["GraderVersions"]),
            configs=frozenset(row["ConfigDigests"]),
        )
        for row in store.query(statement("verdicts"), {**arm, "graders": list(policy.graders)})
    }
    return str(selector), traces, verdicts


def read_offences(store: Queries, graders: Iterable[str], trace_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The failing grades of these traces."""
    wanted = {"graders": sorted(set(graders)), "traces": sorted(set(trace_ids))}
    return store.query(statement("offences"), wanted) if wanted["traces"] and wanted["graders"] else []


def statement(name: str) -> str:
    """A file of gate/sql, with the traces of an arm put in."""
    text = files("gate").joinpath(f"sql/{name}.sql").read_text("utf-8")
    arm = files("gate").joinpath("sql/arm.sql").read_text("utf-8")
    return Template(text).safe_substitute(arm=arm)
