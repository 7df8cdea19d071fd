"""What a span, a trace, a grade, a case are.

Frozen, slotted values that every part of tracegrade passes around. They promise nothing about where they came from;
`graders.assembler` builds a `Trace` from spans, `store.client.Store` reads and writes the rows.

All times are integer nanoseconds since the Unix epoch, UTC. Attribute values are text, as the OpenTelemetry ClickHouse
exporter writes them: numbers and booleans in their shortest form, arrays and maps as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class SpanKind(StrEnum):
    """What a span is to an agent, whatever dialect said so."""

    AGENT = "agent"
    LLM = "llm"
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    RERANK = "rerank"
    EMBEDDING = "embedding"
    GUARDRAIL = "guardrail"
    EVALUATOR = "evaluator"
    HANDOFF = "handoff"
    WRAPPER = "wrapper"
    """A chain, task, step or workflow that only groups others."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """A timed event inside a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Span:
    """One row of `agent_spans`: canonical scalars beside everything the sender wrote."""

    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits."""
    parent_span_id: str
    """Empty for a root."""
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    status: str = "Unset"
    """`Unset`, `Ok` or `Error`."""
    status_message: str = ""
    service: str = ""
    service_version: str = ""
    scope: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    dialect: str = ""
    """The mapping that recognised the span, e.g. `otel_genai`, `openinference`; empty if none did."""
    tool_name: str = ""
    tool_call_id: str = ""
    agent: str = ""
    model: str = ""
    conversation_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: float | None = None
    """Time to first token in milliseconds."""
    arm: str = "production"
    """`production` or `shadow`."""
    run_id: str = ""
    case_id: str = ""
    dropped_attributes: int = 0


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One row of `otel_logs` that names a trace."""

    time_ns: int
    name: str
    trace_id: str
    span_id: str
    body: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    scope: str = ""


class ContentState(StrEnum):
    """Whether a piece of content can be judged at all."""

    PRESENT = "present"
    ABSENT = "absent"
    """The sender did not capture it (content capture is usually off by default)."""
    REDACTED = "redacted"
    EXTERNALISED = "externalised"
    """Only a reference was sent."""
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Document:
    """A retrieved passage, or a tool result that serves as one."""

    id: str
    text: str
    span_id: str
    score: float | None = None
    source: str = ""
    """Title or address, if the sender gave one."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One decision about one tool call, or about a tool for a while."""

    outcome: str
    """`allow`, `deny`, `require_approval`, `modified`, `expired`, `cancelled`."""
    time_ns: int
    mechanism: str = "unknown"
    """`human`, `policy_rule`, `hook`, `classifier`, `config_default`, `cached_grant`, `user_confirmation`, `unknown`.
    """
    call_id: str = ""
    tool_name: str = ""
    decider: str = ""
    """Who, as an opaque id; `agent:` or `service:` stands before one that is no person."""
    scope: str = "once"
    """`once`, `session` or `always`."""
    arguments_hash: str = ""
    """SHA-256 of the approved arguments in canonical JSON; empty when not stated."""
    expires_ns: int | None = None
    evidence: str = "explicit_event"
    """`explicit_event`, `explicit_attribute`, `framework_structure`, `conversation`, `text_match`."""
    span_id: str = ""
    roles: tuple[str, ...] = ()
    """What the decider may decide about, if the record says so."""
    approval_id: str = ""
    """Joins a request for approval with its resolution, where a framework names them (not a call id)."""
    trace_id: str = ""
    """Another trace of the conversation that holds the record; empty for the trace at hand."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn as the model saw or wrote it."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    text: str
    span_id: str
    time_ns: int
    tool_call_ids: tuple[str, ...] = ()
    """For an assistant message: the calls it requested, as `ToolCall.key`."""
    tool_call_id: str = ""
    """For a tool message: the call it answers, as `ToolCall.key`."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool the model was offered."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    """JSON Schema of the arguments; None when the sender gave only a name."""
    hints: Mapping[str, bool] = field(default_factory=dict)
    """What the tool's server says of it: MCP's `readOnlyHint`, `destructiveHint` and the like; its word, no proof."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One logical call: the spans and messages that describe it, joined."""

    key: str
    """The call id, or one made from span and position when the sender gave none. Unique in the trace."""
    name: str
    index: int
    """Position among the calls of the trace, in time order, from 0."""
    start_ns: int
    end_ns: int
    call_id: str = ""
    """As the provider wrote it; empty if it never did."""
    arguments: Mapping[str, Any] | None = None
    """Parsed; None when absent or not an object (see `arguments_text`, `arguments_state`)."""
    arguments_text: str = ""
    arguments_state: ContentState = ContentState.ABSENT
    result: str = ""
    result_state: ContentState = ContentState.ABSENT
    executed: bool | None = None
    """True or False when the telemetry shows it, None when it cannot tell."""
    error: str = ""
    """What went wrong, if the call failed."""
    span_id: str = ""
    """The tool span; empty when only messages describe the call."""
    request_span_id: str = ""
    """The model span that asked for the call."""
    message_index: int | None = None
    """Index into `Trace.messages` of the assistant message that asked for it."""
    agent: str = ""
    provider_executed: bool = False

    @property
    def anchor(self) -> str:
        """The span a grade of this call belongs to."""
        return self.span_id or self.request_span_id


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A tool call a case expects or forbids."""

    tool: str
    arguments: Mapping[str, Any] | None = None
    """Compared as a subset of the actual arguments (`graders.matching` has the forms a value may take); None accepts any."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a case says a good answer does. Empty fields ask nothing."""

    tools: tuple[ExpectedCall, ...] = ()
    tools_mode: str = "any_order"
    """`exact`, `in_order`, `any_order` or `subset`; see `graders.checks.tools`."""
    tools_scope: tuple[str, ...] = ()
    """When not empty, only calls to these tools are compared."""
    tools_given: bool = False
    """True when the case names `tools` at all: an empty list then means no call is expected."""
    forbidden: tuple[ExpectedCall, ...] = ()
    answer_contains: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    """How arguments are compared: words of `graders.matching`."""
    fitting: tuple[str, ...] = ()
    """Tools that serve the intent of the case: one of them is called."""
    unfitting: tuple[str, ...] = ()
    """Tools that do not serve it, though an agent may take them for it: none is called. Names, or shell patterns."""


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case of a suite (design: suites pinned by digest)."""

    id: str
    bucket: str
    input: str = ""
    intent: str = ""
    evidence: str = "tool-derived"
    """`retrieved`, `tool-derived`, `parametric` or `unsupported`."""
    expected_action: str = ""
    """`answer`, `abstain`, `clarify`, `refuse`, `escalate`; `safe_complete`: decline the unsafe part, do the rest. Empty asks
    nothing.
    """
    risk: str = "medium"
    """`critical`, `high`, `medium` or `low`."""
    tags: tuple[str, ...] = ()
    """Change-sensitivity tags."""
    cluster: str = ""
    """Cases of one cluster are not independent; empty means the case stands alone."""
    owner: str = ""
    source: str = ""
    expect: Expectations = field(default_factory=Expectations)
    digest: str = ""
    """SHA-256 of the canonical form of everything above."""


@dataclass(frozen=True, slots=True)
class Related:
    """What the other traces of a conversation hold that bears on this one: a run that paused is resumed in a new trace."""

    approvals: tuple[Approval, ...] = ()
    """Each with its `trace_id`."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that were asked for, pending or made elsewhere, in time order."""


class Home(NamedTuple):
    """Whose a trace is: what tells traces apart that claim one conversation."""

    tenant: str = ""
    """As the collector stamped it; what a sender says of it itself is taken away."""
    arm: str = "production"
    run: str = ""
    service: str = ""


class Sibling(NamedTuple):
    """A graded trace of a conversation."""

    trace_id: str
    home: Home = Home()


class Completeness(StrEnum):
    """How much of a trace arrived."""

    COMPLETE = "complete"
    ROOT_MISSING = "root_missing"
    ORPHANED = "orphaned"
    """A span names a parent that never came."""
    TRUNCATED = "truncated"
    """The sender dropped attributes, or content was cut."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything known about one trace, assembled for grading. Sequences are in time order."""

    trace_id: str
    spans: tuple[Span, ...]
    logs: tuple[LogEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    """The conversation without repetition: each turn once, although every model call re-sends its history."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_definitions: tuple[ToolDefinition, ...] = ()
    documents: tuple[Document, ...] = ()
    answer_documents: tuple[Document, ...] = ()
    """Those of the last retrieval before the answer, by the agent that gave it."""
    approvals: tuple[Approval, ...] = ()
    answer: str = ""
    """The last thing the agent said to its user."""
    answer_span_id: str = ""
    answer_state: ContentState = ContentState.ABSENT
    completeness: Completeness = Completeness.COMPLETE
    dialects: tuple[str, ...] = ()
    capabilities: Mapping[str, str] = field(default_factory=dict)
    """What this telemetry can show at all: keys of the dialect capability table, values `yes`, `no`, `opt_in`."""
    case: Case | None = None
    generation: int = 1
    conversation_id: str = ""
    related: Related = Related()

    @property
    def root(self) -> Span | None:
        """The span without a parent, or else the earliest."""
        return next((s for s in self.spans if not s.parent_span_id), self.spans[0] if self.spans else None)


class Outcome(StrEnum):
    """What a grader found."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """The question applies, but the capture lacks what answering needs. Never counted as pass."""
    SKIP = "skip"
    """The question does not apply."""
    ERROR = "error"
    """The grader itself broke."""


class Severity(StrEnum):
    """How much a failure matters."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where to look: a span, an attribute or message in it, and what it says."""

    span_id: str
    where: str = ""
    """Attribute, message index or document id."""
    text: str = ""
    """A short quotation; untrusted."""
    start: int | None = None
    """Where the quotation begins in what `where` names, in characters from 0; None when the whole of it is meant."""
    end: int | None = None
    """Where it ends, exclusive."""


class Grade(NamedTuple):
    """One row of `grades`. A tuple, because there are dozens a trace, and a frozen dataclass takes twice as long."""

    trace_id: str
    span_id: str
    """The span that is judged; the root span for a judgement of the whole trace."""
    grader: str
    """`family/subject`."""
    grader_version: str
    config_digest: str
    outcome: Outcome
    subject: str = ""
    """What inside the span: a call key, a cited id; unique with (trace, span, grader)."""
    score: float | None = None
    label: str = ""
    """A category, e.g. the approval state or the action class."""
    reason: str = ""
    severity: Severity = Severity.MEDIUM
    evidence: tuple[Evidence, ...] = ()
    completeness: Completeness = Completeness.COMPLETE
    generation: int = 1
    case_digest: str = ""
    """Digest of the case the grade was made against; empty without one."""
