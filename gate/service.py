"""The one service behind every front of the gate: evaluate, keep, look up.

Promises that a decision, once made, is stored before it is returned, is never changed, and carries the hash of the one
before it. Evaluations of one service run one at a time, so that the chain never forks; several processes deciding into
one store would fork it, which `verify` reports.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any, Literal, Protocol

from opentelemetry import trace
from pydantic import BaseModel, ConfigDict

from gate import evidence
from gate.decide import decide
from gate.decision import Decision
from gate.evidence import ArmSelector
from gate.policy import GatePolicy, validate, validate_for
from gate.suite import Name, Suite, parse_suite
from store.cases import canonical, digest_of
from store.types import Case
from store.yamlfile import ConfigError, Problem

_tracer = trace.get_tracer(__name__)


class GateStore(Protocol):
    """What the gate needs of `store.client.Store`."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]: ...

    def command(self, sql: str, parameters: dict[str, Any] | None = None) -> object: ...

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def save_suite(self, name: str, digest: str, document: str, cases: Iterable[Case]) -> None: ...


class NotFound(Exception):
    """Nothing is stored under this name; the message says what is."""


class EvaluationRequest(BaseModel):
    """Which candidate, against which baseline, on which suite, by which policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: Name
    suite_digest: str = ""
    """Empty takes the newest version."""
    policy: Name | GatePolicy
    """A policy the gate was started with, by name, or the policy itself."""
    baseline: ArmSelector
    candidate: ArmSelector
    stage: Literal["offline", "canary"] = "offline"
    as_of: date | None = None
    """The date the decision speaks of; today when left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request whose suite and policy are found and fit each other."""

    request: EvaluationRequest
    suite: Suite
    policy: GatePolicy


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision and its place in the chain."""

    id: str
    decided_at: str
    decision: Decision
    document: dict[str, Any]
    """As stored and served."""


class GateService:
    """Evaluates and remembers. May be used from any thread."""

    def __init__(
        self,
        store: GateStore,
        known_graders: Collection[str],
        policies: Mapping[str, GatePolicy] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        settle_seconds: float = 60.0,
        wait_until_loaded: Callable[[float], object] = lambda _: None,
    ) -> None:
        """`settle_seconds`: how long an evaluation waits for runs that were received but not stored or graded yet;
        `wait_until_loaded` blocks, at most so long, until what was received by now is stored. Raises `ConfigError` for a bad
        policy."""
        self._store = store
        self._graders = frozenset(known_graders)
        self._policies = dict(policies or {})
        self._clock = clock
        self._lock = threading.Lock()
        self._settle_seconds = settle_seconds
        self._wait_until_loaded = wait_until_loaded
        self._hurried = threading.Event()
        self.decided: Counter[str] = Counter()
        """Decisions stored since the start, by verdict."""
        for name, policy in self._policies.items():
            validate(policy, self._graders, name)

    def ping(self) -> None:
        """Raises `StoreError` if the store does not answer."""
        self._store.query("SELECT 1 AS One")

    def hurry(self) -> None:
        """Wait for nothing any more: the process is about to end. Evaluations under way decide on what is there."""
        self._hurried.set()

    # --- suites ---

    def save_suite(self, content: bytes | str, name: str = "<suite>") -> Suite:
        """Check and keep a suite; keeping the newest version again changes nothing. Raises `ConfigError`."""
        suite = parse_suite(content, name)
        self.keep_suite(suite)
        return suite

    def keep_suite(self, suite: Suite) -> None:
        """Keep a suite that is already checked."""
        self._store.save_suite(suite.name, suite.digest, suite.document, suite.cases)

    def suite(self, name: str, suite_digest: str = "") -> Suite:
        """A stored suite. Raises `NotFound`."""
        rows = self._store.query(_sql("suite"), {"suite": name, "digest": suite_digest})
        if not rows:
            known = [row["Suite"] for row in self._store.query("SELECT DISTINCT Suite FROM suites ORDER BY Suite")]
            version = f" version {suite_digest}" if suite_digest else ""
            raise NotFound(f"no suite {name!r}{version} is stored; stored: {', '.join(known) or 'none'}")
        suite = parse_suite(rows[0]["Document"], f"suite {name}")
        if suite.digest != rows[0]["Digest"]:
            message = f"was stored as {rows[0]['Digest']} but reads as {suite.digest}; store the file again"
            raise ConfigError([Problem(f"suite {name}", 0, "", message)])
        return suite

    # --- decisions ---

    def plan(self, request: EvaluationRequest) -> Plan:
        """Find and check everything an evaluation needs. Raises `NotFound`, `ConfigError`."""
        if request.baseline == request.candidate:
            message = f"baseline and candidate are both {request.candidate}; an arm cannot be compared with itself"
            raise ConfigError([Problem("request", 0, "candidate", message)])
        policy = request.policy if isinstance(request.policy, GatePolicy) else self._policies.get(request.policy)
        if policy is None:
            known = ", ".join(sorted(self._policies)) or "none"
            raise NotFound(f"no policy {request.policy!r}; known: {known}; or put the policy itself into the request")
        suite = self.suite(request.suite, request.suite_digest)
        validate(policy, self._graders, f"policy {policy.name}")
        validate_for(policy, suite, f"policy {policy.name}")
        return Plan(request, suite, policy)

    def evaluate(self, request: EvaluationRequest) -> StoredDecision:
        """Decide now, on what the store holds. Raises `NotFound`, `ConfigError`, `StoreError`."""
        return self.carry_out(self.plan(request), uuid.uuid4().hex)

    def carry_out(self, plan: Plan, decision_id: str) -> StoredDecision:
        """Decide as planned, and store the decision under this id."""
        request = plan.request
        as_of = request.as_of or self._clock().date()
        self._settle(plan)
        with _tracer.start_as_current_span("gate.decide", attributes={"decision": decision_id}):
            arms = {"baseline": request.baseline, "candidate": request.candidate}
            evidence.keep(self._store, plan.suite, decision_id, arms)
            found = evidence.read(self._store, plan.suite, plan.policy, request.baseline, request.candidate)
            decision = decide(plan.policy, found, as_of.isoformat(), request.stage)
            graders = [change.grader for change in decision.changes]
            decision = decision.with_offences(evidence.read_offences(self._store, graders, decision.offending_traces()))
            return self._keep(decision, plan, decision_id)

    def _settle(self, plan: Plan) -> None:
        """Give what was just received time to be stored and graded; what is not by then, the decision says."""
        deadline = time.monotonic() + self._settle_seconds
        self._wait_until_loaded(self._settle_seconds)
        while any(
            evidence.pending(self._store, plan.suite, arm) for arm in (plan.request.baseline, plan.request.candidate)
        ):
            if time.monotonic() > deadline or self._hurried.wait(0.2):
                return

    def _keep(self, decision: Decision, plan: Plan, decision_id: str) -> StoredDecision:
        with self._lock:
            last = self._rows(limit=1)
            # Strictly later than the last one, so that the order of the chain is the order of the rows.
            now_ms = max(int(self._clock().timestamp() * 1000), last[0]["DecidedAtMs"] + 1 if last else 0)
            now = datetime.fromtimestamp(now_ms / 1000, UTC)
            previous = last[0]["Digest"] if last else ""
            document = {
                "id": decision_id,
                "decidedAt": now.isoformat(timespec="milliseconds"),
                **decision.to_json(),
                "policyDocument": plan.policy.model_dump(mode="json"),
            }
            text = canonical(document).decode()
            self._store.insert(
                "decisions",
                [
                    {
                        "DecisionId": decision_id,
                        "DecidedAt": now,
                        "Decision": decision.decision,
                        "Reasons": [str(reason) for reason in decision.reasons],
                        "Suite": decision.suite.name,
                        "SuiteDigest": decision.suite.digest,
                        "PolicyName": decision.policy.name,
                        "PolicyDigest": decision.policy.digest,
                        "EvidenceDigest": decision.evidence_digest,
                        "Baseline": decision.baseline,
                        "Candidate": decision.candidate,
                        "Digest": _link(previous, text),
                        "PreviousDigest": previous,
                        "Document": text,
                    }
                ],
            )
            self.decided[decision.decision] += 1
        return StoredDecision(decision_id, document["decidedAt"], decision, document)

    def get(self, decision_id: str) -> dict[str, Any]:
        """A stored decision's document. Raises `NotFound`."""
        document: dict[str, Any] = json.loads(self._row(decision_id)["Document"])
        return document

    def superseded(self, decision_id: str) -> dict[str, Any] | None:
        """How many traces a stored decision rests on that were graded again since, and which; None where what it rests on was
        not recorded. Raises `NotFound`."""
        found = evidence.read_superseded(self._store, decision_id, self._row(decision_id)["DecidedAtMs"])
        return None if found is None else found.to_json()

    def _row(self, decision_id: str) -> dict[str, Any]:
        rows = self._rows(decision_id=decision_id, limit=1) if decision_id else []
        if not rows:
            raise NotFound(f"no decision {decision_id!r} is stored")
        return rows[0]

    def decisions(self, suite: str = "", limit: int = 50) -> list[dict[str, Any]]:
        """The newest decisions in short."""
        return [
            {
                "id": row["DecisionId"],
                "decidedAt": datetime.fromtimestamp(row["DecidedAtMs"] / 1000, UTC).isoformat(timespec="milliseconds"),
                "decision": row["Decision"],
                "reasons": list(row["Reasons"]),
                "suite": row["Suite"],
                "policy": row["PolicyName"],
                "baseline": row["Baseline"],
                "candidate": row["Candidate"],
                "summary": json.loads(row["Document"])["summary"],
                "digest": row["Digest"],
            }
            for row in self._rows(suite=suite, limit=limit)
        ]

    def verify(self) -> str:
        """The id of the newest decision that does not follow from the one before it; empty if all do."""
        rows = self._rows(limit=2**32 - 1)
        for i, row in enumerate(rows):
            before = rows[i + 1]["Digest"] if i + 1 < len(rows) else ""
            if row["PreviousDigest"] != before or row["Digest"] != _link(before, row["Document"]):
                return str(row["DecisionId"])
        return ""

    def _rows(self, decision_id: str = "", suite: str = "", limit: int = 50) -> list[dict[str, Any]]:
        return self._store.query(_sql("decisions"), {"id": decision_id, "suite": suite, "limit": limit})


def _link(previous: str, document: str) -> str:
    return digest_of(canonical([previous, document]))


def _sql(name: str) -> str:
    return files("gate").joinpath(f"sql/{name}.sql").read_text("utf-8")
