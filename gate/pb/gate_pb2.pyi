from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_OFFLINE: _ClassVar[Stage]
    STAGE_CANARY: _ClassVar[Stage]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_PROMOTE: _ClassVar[Verdict]
    VERDICT_HOLD: _ClassVar[Verdict]
    VERDICT_ROLLBACK: _ClassVar[Verdict]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_HEALTH: _ClassVar[Reason]
    REASON_REGRESSION: _ClassVar[Reason]
    REASON_INSUFFICIENT_DATA: _ClassVar[Reason]
    REASON_INCONCLUSIVE: _ClassVar[Reason]
    REASON_BUDGET: _ClassVar[Reason]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_PASS: _ClassVar[Status]
    STATUS_PASS_WITHIN_MARGIN: _ClassVar[Status]
    STATUS_FAIL: _ClassVar[Status]
    STATUS_INCONCLUSIVE: _ClassVar[Status]
    STATUS_NO_DATA: _ClassVar[Status]
    STATUS_ERROR: _ClassVar[Status]
    STATUS_NOT_APPLICABLE: _ClassVar[Status]
STAGE_UNSPECIFIED: Stage
STAGE_OFFLINE: Stage
STAGE_CANARY: Stage
VERDICT_UNSPECIFIED: Verdict
VERDICT_PROMOTE: Verdict
VERDICT_HOLD: Verdict
VERDICT_ROLLBACK: Verdict
REASON_UNSPECIFIED: Reason
REASON_HEALTH: Reason
REASON_REGRESSION: Reason
REASON_INSUFFICIENT_DATA: Reason
REASON_INCONCLUSIVE: Reason
REASON_BUDGET: Reason
STATUS_UNSPECIFIED: Status
STATUS_PASS: Status
STATUS_PASS_WITHIN_MARGIN: Status
STATUS_FAIL: Status
STATUS_INCONCLUSIVE: Status
STATUS_NO_DATA: Status
STATUS_ERROR: Status
STATUS_NOT_APPLICABLE: Status

class EvaluateRequest(_message.Message):
    __slots__ = ("suite", "suite_digest", "policy_name", "policy_document", "baseline", "candidate", "stage", "as_of")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    SUITE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    suite: str
    suite_digest: str
    policy_name: str
    policy_document: bytes
    baseline: ArmSelector
    candidate: ArmSelector
    stage: Stage
    as_of: str
    def __init__(self, suite: _Optional[str] = ..., suite_digest: _Optional[str] = ..., policy_name: _Optional[str] = ..., policy_document: _Optional[bytes] = ..., baseline: _Optional[_Union[ArmSelector, _Mapping]] = ..., candidate: _Optional[_Union[ArmSelector, _Mapping]] = ..., stage: _Optional[_Union[Stage, str]] = ..., as_of: _Optional[str] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: StoredDecision
    def __init__(self, decision: _Optional[_Union[StoredDecision, _Mapping]] = ...) -> None: ...

class GetDecisionRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetDecisionResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: StoredDecision
    def __init__(self, decision: _Optional[_Union[StoredDecision, _Mapping]] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("suite", "limit")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    suite: str
    limit: int
    def __init__(self, suite: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[DecisionSummary]
    def __init__(self, decisions: _Optional[_Iterable[_Union[DecisionSummary, _Mapping]]] = ...) -> None: ...

class PutSuiteRequest(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    def __init__(self, document: _Optional[bytes] = ...) -> None: ...

class PutSuiteResponse(_message.Message):
    __slots__ = ("name", "digest", "cases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    cases: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., cases: _Optional[int] = ...) -> None: ...

class ArmSelector(_message.Message):
    __slots__ = ("version", "run", "service")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    version: str
    run: str
    service: str
    def __init__(self, version: _Optional[str] = ..., run: _Optional[str] = ..., service: _Optional[str] = ...) -> None: ...

class StoredDecision(_message.Message):
    __slots__ = ("id", "decided_at", "decision", "digest", "exit_code", "document", "superseded_evidence")
    ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    decided_at: _timestamp_pb2.Timestamp
    decision: Decision
    digest: str
    exit_code: int
    document: str
    superseded_evidence: SupersededEvidence
    def __init__(self, id: _Optional[str] = ..., decided_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., digest: _Optional[str] = ..., exit_code: _Optional[int] = ..., document: _Optional[str] = ..., superseded_evidence: _Optional[_Union[SupersededEvidence, _Mapping]] = ...) -> None: ...

class SupersededEvidence(_message.Message):
    __slots__ = ("count", "traces")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TRACES_FIELD_NUMBER: _ClassVar[int]
    count: int
    traces: _containers.RepeatedCompositeFieldContainer[SupersededTrace]
    def __init__(self, count: _Optional[int] = ..., traces: _Optional[_Iterable[_Union[SupersededTrace, _Mapping]]] = ...) -> None: ...

class SupersededTrace(_message.Message):
    __slots__ = ("trace_id", "used_generation", "generation")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    USED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    used_generation: int
    generation: int
    def __init__(self, trace_id: _Optional[str] = ..., used_generation: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class DecisionSummary(_message.Message):
    __slots__ = ("id", "decided_at", "decision", "reasons", "suite", "policy", "baseline", "candidate", "summary", "digest")
    ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    decided_at: _timestamp_pb2.Timestamp
    decision: Verdict
    reasons: _containers.RepeatedScalarFieldContainer[Reason]
    suite: str
    policy: str
    baseline: str
    candidate: str
    summary: str
    digest: str
    def __init__(self, id: _Optional[str] = ..., decided_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Iterable[_Union[Reason, str]]] = ..., suite: _Optional[str] = ..., policy: _Optional[str] = ..., baseline: _Optional[str] = ..., candidate: _Optional[str] = ..., summary: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision", "reasons", "summary", "stage", "as_of", "baseline", "candidate", "suite", "cases", "policy", "criteria", "budgets", "advisories", "changes", "health", "evidence_digest", "stats")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    ADVISORIES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    decision: Verdict
    reasons: _containers.RepeatedScalarFieldContainer[Reason]
    summary: str
    stage: Stage
    as_of: str
    baseline: str
    candidate: str
    suite: Identity
    cases: int
    policy: Identity
    criteria: _containers.RepeatedCompositeFieldContainer[CriterionResult]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetResult]
    advisories: _containers.RepeatedCompositeFieldContainer[CriterionResult]
    changes: _containers.RepeatedCompositeFieldContainer[GraderChanges]
    health: _containers.RepeatedCompositeFieldContainer[HealthNote]
    evidence_digest: str
    stats: str
    def __init__(self, decision: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Iterable[_Union[Reason, str]]] = ..., summary: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., as_of: _Optional[str] = ..., baseline: _Optional[str] = ..., candidate: _Optional[str] = ..., suite: _Optional[_Union[Identity, _Mapping]] = ..., cases: _Optional[int] = ..., policy: _Optional[_Union[Identity, _Mapping]] = ..., criteria: _Optional[_Iterable[_Union[CriterionResult, _Mapping]]] = ..., budgets: _Optional[_Iterable[_Union[BudgetResult, _Mapping]]] = ..., advisories: _Optional[_Iterable[_Union[CriterionResult, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[GraderChanges, _Mapping]]] = ..., health: _Optional[_Iterable[_Union[HealthNote, _Mapping]]] = ..., evidence_digest: _Optional[str] = ..., stats: _Optional[str] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class CriterionResult(_message.Message):
    __slots__ = ("id", "status", "reason", "grader", "mode", "bucket", "tier", "holds", "n", "clusters", "estimate", "ci", "level", "margin", "threshold", "regressions", "fixes", "baseline", "candidate", "psi", "n_eff", "p_promote", "p_block", "p_block_holm", "mde80", "n_needed", "method", "counts", "buckets")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRADER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    CI_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    REGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    FIXES_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    PSI_FIELD_NUMBER: _ClassVar[int]
    N_EFF_FIELD_NUMBER: _ClassVar[int]
    P_PROMOTE_FIELD_NUMBER: _ClassVar[int]
    P_BLOCK_FIELD_NUMBER: _ClassVar[int]
    P_BLOCK_HOLM_FIELD_NUMBER: _ClassVar[int]
    MDE80_FIELD_NUMBER: _ClassVar[int]
    N_NEEDED_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Status
    reason: str
    grader: str
    mode: str
    bucket: str
    tier: str
    holds: bool
    n: int
    clusters: int
    estimate: float
    ci: Interval
    level: float
    margin: float
    threshold: float
    regressions: int
    fixes: int
    baseline: float
    candidate: float
    psi: float
    n_eff: float
    p_promote: float
    p_block: float
    p_block_holm: float
    mde80: float
    n_needed: int
    method: str
    counts: _containers.ScalarMap[str, int]
    buckets: _containers.RepeatedCompositeFieldContainer[BucketDelta]
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., grader: _Optional[str] = ..., mode: _Optional[str] = ..., bucket: _Optional[str] = ..., tier: _Optional[str] = ..., holds: bool = ..., n: _Optional[int] = ..., clusters: _Optional[int] = ..., estimate: _Optional[float] = ..., ci: _Optional[_Union[Interval, _Mapping]] = ..., level: _Optional[float] = ..., margin: _Optional[float] = ..., threshold: _Optional[float] = ..., regressions: _Optional[int] = ..., fixes: _Optional[int] = ..., baseline: _Optional[float] = ..., candidate: _Optional[float] = ..., psi: _Optional[float] = ..., n_eff: _Optional[float] = ..., p_promote: _Optional[float] = ..., p_block: _Optional[float] = ..., p_block_holm: _Optional[float] = ..., mde80: _Optional[float] = ..., n_needed: _Optional[int] = ..., method: _Optional[str] = ..., counts: _Optional[_Mapping[str, int]] = ..., buckets: _Optional[_Iterable[_Union[BucketDelta, _Mapping]]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class BucketDelta(_message.Message):
    __slots__ = ("bucket", "n", "estimate", "regressions", "fixes")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    REGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    FIXES_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    n: int
    estimate: float
    regressions: int
    fixes: int
    def __init__(self, bucket: _Optional[str] = ..., n: _Optional[int] = ..., estimate: _Optional[float] = ..., regressions: _Optional[int] = ..., fixes: _Optional[int] = ...) -> None: ...

class BudgetResult(_message.Message):
    __slots__ = ("id", "status", "reason", "metric", "stat", "bucket", "enforce", "n", "estimate", "ci", "limit")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    CI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Status
    reason: str
    metric: str
    stat: str
    bucket: str
    enforce: bool
    n: int
    estimate: float
    ci: Interval
    limit: float
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., metric: _Optional[str] = ..., stat: _Optional[str] = ..., bucket: _Optional[str] = ..., enforce: bool = ..., n: _Optional[int] = ..., estimate: _Optional[float] = ..., ci: _Optional[_Union[Interval, _Mapping]] = ..., limit: _Optional[float] = ...) -> None: ...

class GraderChanges(_message.Message):
    __slots__ = ("grader", "new_failures", "fixes", "flaky", "expected_by_chance", "failures", "fixed", "flaky_cases")
    GRADER_FIELD_NUMBER: _ClassVar[int]
    NEW_FAILURES_FIELD_NUMBER: _ClassVar[int]
    FIXES_FIELD_NUMBER: _ClassVar[int]
    FLAKY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BY_CHANCE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    FLAKY_CASES_FIELD_NUMBER: _ClassVar[int]
    grader: str
    new_failures: int
    fixes: int
    flaky: int
    expected_by_chance: float
    failures: _containers.RepeatedCompositeFieldContainer[CaseChange]
    fixed: _containers.RepeatedScalarFieldContainer[str]
    flaky_cases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, grader: _Optional[str] = ..., new_failures: _Optional[int] = ..., fixes: _Optional[int] = ..., flaky: _Optional[int] = ..., expected_by_chance: _Optional[float] = ..., failures: _Optional[_Iterable[_Union[CaseChange, _Mapping]]] = ..., fixed: _Optional[_Iterable[str]] = ..., flaky_cases: _Optional[_Iterable[str]] = ...) -> None: ...

class CaseChange(_message.Message):
    __slots__ = ("case_id", "bucket", "risk", "grader", "baseline", "candidate", "strength", "why", "traces", "offences")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    RISK_FIELD_NUMBER: _ClassVar[int]
    GRADER_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    TRACES_FIELD_NUMBER: _ClassVar[int]
    OFFENCES_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    bucket: str
    risk: str
    grader: str
    baseline: float
    candidate: float
    strength: str
    why: str
    traces: _containers.RepeatedScalarFieldContainer[str]
    offences: _containers.RepeatedCompositeFieldContainer[Offence]
    def __init__(self, case_id: _Optional[str] = ..., bucket: _Optional[str] = ..., risk: _Optional[str] = ..., grader: _Optional[str] = ..., baseline: _Optional[float] = ..., candidate: _Optional[float] = ..., strength: _Optional[str] = ..., why: _Optional[str] = ..., traces: _Optional[_Iterable[str]] = ..., offences: _Optional[_Iterable[_Union[Offence, _Mapping]]] = ...) -> None: ...

class Offence(_message.Message):
    __slots__ = ("trace_id", "span_id", "grader", "subject", "severity", "label", "reason")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    GRADER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    span_id: str
    grader: str
    subject: str
    severity: str
    label: str
    reason: str
    def __init__(self, trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., grader: _Optional[str] = ..., subject: _Optional[str] = ..., severity: _Optional[str] = ..., label: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class HealthNote(_message.Message):
    __slots__ = ("check", "broken", "message")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    check: str
    broken: bool
    message: str
    def __init__(self, check: _Optional[str] = ..., broken: bool = ..., message: _Optional[str] = ...) -> None: ...
