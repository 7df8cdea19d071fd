"""What a trace says about who allowed which call: from decision events, attributes, structures frameworks leave, and texts.

An explicit event or attribute counts most, then structure (a resumed graph's input, an approval part of a message). A text may
explain why a call did not run; it never grants anything. What a decision means for a call is `graders.checks.approval`'s.
Only decisions inside the trace are seen; those of other traces of the conversation stand in `Trace.related`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, lru_cache

from graders.content import call_id_of, canonical, decode
from graders.hashes import arguments_hash
from graders.messages import INTERRUPTED, Request
from store.dialects import Signature, mapping
from store.types import Approval, LogEvent, Span, SpanEvent, SpanKind

OUTCOMES = {
    "allow": "allow", "approved": "allow", "accept": "allow", "auto_accept": "allow", "approve": "allow",
    "approved_for_session": "allow", "not_required": "allow", "deny": "deny", "denied": "deny", "reject": "deny",
    "rejected": "deny", "block": "deny", "blocked": "deny", "require_approval": "require_approval",
    "required": "require_approval", "pending": "require_approval", "modified": "modified", "modify": "modified",
    "edit": "modified", "expired": "expired", "timeout": "expired", "cancelled": "cancelled", "abort": "cancelled",
    "respond": "cancelled",
}  # fmt: skip
_SOURCES = {
    "config": "config_default", "classifier": "classifier", "hook": "hook", "user_temporary": "human",
    "user_permanent": "human", "user_reject": "human", "user_abort": "human", "user": "human",
    "automatedreviewer": "classifier",
}  # fmt: skip
_MECHANISMS = frozenset(
    {"human", "policy_rule", "hook", "classifier", "config_default", "cached_grant", "user_confirmation"}
)
_DECISION = "gen_ai.tool.call.decision"
_APPROVAL = "tracegrade.approval."
_STANDING = {"user_permanent": "always", "approved_for_session": "session"}
_NOT_HUMAN = frozenset({"agent", "service"})
_SIGNATURE_LENGTH = 1000
"""Signatures are looked for in short texts only: a page that quotes one is not one."""


_INTERRUPT_LENGTH = 20_000


def as_event(log: LogEvent) -> SpanEvent:
    """A log record as an event, under its name without the sender's prefix.

    Its body may hold what a tool returned, so the body names no event, and decides nothing in a record that is no decision.
    """
    attributes: dict[str, str] = dict(log.attributes)
    name = attributes.get("event.name") or log.name  # Codex names the place in its source as the event
    body = decode(log.body)
    if isinstance(body, dict):
        for key, value in body.items():
            if name == _DECISION or not str(key).startswith((_DECISION, _APPROVAL)):
                attributes.setdefault(str(key), value if isinstance(value, str) else canonical(value))
    elif isinstance(body, str) and body:
        attributes.setdefault("content", body)
    prefix = next((p for p in mapping().events.prefixes if name.startswith(p)), "")
    return SpanEvent(name.removeprefix(prefix), log.time_ns, attributes)


def tool_name_of(attributes: Mapping[str, str], keys: Sequence[str] = ("tool_name", "function_name")) -> str:
    """The tool a log record names; behind MCP the name stands in its parameters."""
    parameters = attributes.get("tool_parameters", "")
    if "mcp_tool_name" in parameters:
        value = decode(parameters)
        if isinstance(value, dict) and isinstance(value.get("mcp_tool_name"), str):
            return str(value["mcp_tool_name"])
    return next((attributes[key] for key in keys if attributes.get(key)), "")


def from_event(event: SpanEvent, span_id: str) -> Approval | None:
    """The decision a span event or log record tells of."""
    attributes = event.attributes
    if event.name == _DECISION or _DECISION + ".outcome" in attributes:
        call_id, name = attributes.get("gen_ai.tool.call.id", ""), attributes.get("gen_ai.tool.name", "")
        return _explicit(attributes, event.time_ns, span_id, "explicit_event", call_id, name)
    if event.name in mapping().events.decisions and (said := attributes.get("decision")):
        call_id = attributes.get("tool_use_id", attributes.get("call_id", ""))
        return _framework(said, attributes, event.time_ns, span_id, "explicit_event", call_id, tool_name_of(attributes))
    return None


_TELLING = frozenset({
    _DECISION + ".outcome", _APPROVAL + "status", "span.type", "crewai.policy.decision", "output.value", "final_result",
    "mastra.agent_run.output", "mastra.agent_run.input", "input.value", "traceloop.entity.input", "gen_ai.prompt",
})  # fmt: skip
"""Every attribute that the readers below look at: most spans have none, and are passed over at once."""


def may_tell(span: Span) -> bool:
    """Whether a span can tell of a decision by itself; `from_span`, `suspended`, `interrupted` and `resumed` say what."""
    return bool(span.events) or not _TELLING.isdisjoint(span.attributes)


def from_span(span: Span, outer: Span | None) -> Iterator[Approval]:
    """The decisions a span's own attributes tell of; `outer` is the span around it."""
    attributes = span.attributes
    if _DECISION + ".outcome" in attributes or _APPROVAL + "status" in attributes:
        call_id = attributes.get("gen_ai.tool.call.id", span.tool_call_id)
        name = attributes.get("gen_ai.tool.name", span.tool_name)
        found = _explicit(attributes, span.start_ns, span.span_id, "explicit_attribute", call_id, name)
        if found:
            yield found
    if attributes.get("span.type") == "tool.blocked_on_user" and outer is not None and attributes.get("decision"):
        found = _framework(
            attributes["decision"],
            attributes,
            span.end_ns,
            span.span_id,
            "explicit_attribute",
            outer.tool_call_id,
            outer.tool_name,
        )
        if found:
            yield found
    if outcome := OUTCOMES.get(attributes.get("crewai.policy.decision", "").lower()):
        yield Approval(
            outcome,
            span.start_ns,
            mechanism="policy_rule",
            call_id=span.tool_call_id,
            tool_name=attributes.get("gen_ai.tool.name", span.tool_name),
            decider=attributes.get("crewai.policy.id", ""),
            evidence="explicit_attribute",
            span_id=span.span_id,
        )


def suspended(span: Span) -> Iterator[Approval]:
    """A run that stops for an approval says so as its output (Pydantic AI, Strands, Mastra); Mastra's next one begins with the
    decision.
    """
    for call_id in INTERRUPTED.findall(span.attributes.get("output.value", "")[:_INTERRUPT_LENGTH]):
        yield Approval(
            "require_approval", span.end_ns, call_id=call_id, evidence="framework_structure", span_id=span.span_id
        )
    final = span.attributes.get("final_result", "")
    asked = decode(final) if '"approvals"' in final else None
    for call in asked.get("approvals") or () if isinstance(asked, dict) else ():
        if isinstance(call, dict) and isinstance(call.get("tool_name"), str):
            yield Approval(
                "require_approval",
                span.end_ns,
                call_id=call_id_of(call.get("tool_call_id")),
                tool_name=call["tool_name"],
                evidence="framework_structure",
                span_id=span.span_id,
            )
    for key, time in (("mastra.agent_run.output", span.end_ns), ("mastra.agent_run.input", span.start_ns)):
        raw = span.attributes.get(key, "")
        value = decode(raw) if '"toolCallId"' in raw else None
        if not isinstance(value, dict):
            continue
        approved = value.get("approved")
        if value.get("reason") == "tool-call-approval" or isinstance(approved, bool):
            outcome = "require_approval" if approved is None else "allow" if approved else "deny"
            yield Approval(
                outcome,
                time,
                mechanism="unknown" if approved is None else "human",
                call_id=call_id_of(value.get("toolCallId")),
                tool_name=str(value.get("toolName") or ""),
                evidence="framework_structure",
                span_id=span.span_id,
            )


def deferred(span: Span, call_id: str, name: str) -> Iterator[Approval]:
    """Pydantic AI: the tool's body asked for approval."""
    if span.attributes.get("pydantic_ai.tool.deferral.name") == "ApprovalRequired":
        yield Approval(
            "require_approval",
            span.start_ns,
            call_id=call_id,
            tool_name=name,
            evidence="framework_structure",
            span_id=span.span_id,
        )


def resumed(root: Span, waiting: Sequence[Sequence[Request]]) -> Iterator[Approval]:
    """LangGraph: the input of a resumed root holds the decisions, in the order of the calls that waited.

    `waiting` are the calls of each assistant turn; the decisions are theirs only when just one turn asks for as many.
    """
    if root.kind in (SpanKind.TOOL, SpanKind.LLM):  # what a model wrote
        return
    raw = root.attributes.get("input.value") or root.attributes.get("traceloop.entity.input")
    raw = raw or root.attributes.get("gen_ai.prompt")
    if not raw or '"resume"' not in raw:
        return
    value = decode(raw)
    for key in ("inputs", "input"):
        value = value.get(key, value) if isinstance(value, dict) else None
    resume = value.get("resume") if isinstance(value, dict) else None
    decisions = resume.get("decisions") if isinstance(resume, dict) else None
    if not isinstance(decisions, list):
        return
    fitting = [requests for requests in waiting if len(requests) >= len(decisions)]
    for decision, request in zip(decisions, fitting[-1] if fitting else (), strict=False):
        kind = decision.get("type") if isinstance(decision, dict) else None
        if isinstance(kind, str) and (outcome := OUTCOMES.get(kind)):
            edited = decision.get("edited_action") if outcome == "modified" else None
            edited = edited if isinstance(edited, dict) else {}
            approved = edited.get("args") if edited else request.arguments
            yield Approval(
                outcome,
                root.start_ns,
                mechanism="human",
                call_id=request.id,
                tool_name=str(edited.get("name") or request.name),
                arguments_hash=arguments_hash(approved) if isinstance(approved, dict) else "",
                evidence="framework_structure",
                span_id=root.span_id,
            )


def interrupted(span: Span, events: Sequence[SpanEvent], waiting: Sequence[Sequence[Request]]) -> Iterator[Approval]:
    """LangGraph: a span with a GraphInterrupt shows that the calls of the last assistant turn wait for a person."""
    messages = [e.attributes.get("exception.message", "") for e in events if e.name == "exception"]
    kinds = [e.attributes.get("exception.type", "") for e in events if e.name == "exception"]
    if not any(kind.endswith("GraphInterrupt") for kind in kinds) and not any(
        message.startswith("GraphInterrupt(") for message in messages
    ):
        return
    message = next(iter(messages), "")
    for request in waiting[-1] if waiting else ():
        if request.name and f"'{request.name}'" in message:
            yield Approval(
                "require_approval",
                span.end_ns,
                call_id=request.id,
                tool_name=request.name,
                evidence="framework_structure",
                span_id=span.span_id,
            )


def explained(text: str) -> Signature | None:
    """Why a call did not run, as far as a text in its place says it."""
    return _explained(text) if text and len(text) <= _SIGNATURE_LENGTH else None


# A result is looked at where it stands, where it is answered with, and where it is judged.
@lru_cache(maxsize=1024)
def _explained(text: str) -> Signature | None:
    for starts, signature in _signatures():
        if any(part in text for part in signature.holds) or (starts is not None and starts.match(text)):
            return signature
    return None


@cache
def _signatures() -> list[tuple[re.Pattern[str] | None, Signature]]:
    return [(re.compile("|".join(s.starts), re.DOTALL) if s.starts else None, s) for s in mapping().signatures]


def without_repetition(approvals: Sequence[Approval]) -> list[Approval]:
    """Each decision once, in time order, although a span and a log record may both tell of it.

    Two records of one kind that name other arguments, deciders or ids are two decisions.
    """
    kept: dict[object, Approval] = {}
    for approval in sorted(approvals, key=lambda a: a.time_ns):
        key: object = id(approval)
        if approval.call_id:
            own = (approval.decider, approval.arguments_hash, approval.approval_id, approval.expires_ns, approval.roles)
            key = (approval.call_id, approval.outcome, approval.mechanism, approval.scope, own if any(own) else ())
        known = kept.get(key)
        if known is None or (approval.evidence == "explicit_event" != known.evidence):
            kept[key] = replace(approval, time_ns=known.time_ns) if known else approval
    return sorted(kept.values(), key=lambda a: a.time_ns)


def _framework(
    said: str, attributes: Mapping[str, str], time_ns: int, span_id: str, evidence: str, call_id: str, tool_name: str
) -> Approval | None:
    """A decision in the words of a coding agent."""
    outcome = OUTCOMES.get(said.lower())
    if outcome is None:
        return None
    source = attributes.get("source", attributes.get("decision_source", "")).lower()
    if source:
        mechanism = _SOURCES.get(source, "unknown")
    elif "function_name" in attributes:  # Gemini CLI says only whether a person was asked
        mechanism = "config_default" if said == "auto_accept" else "human"
    else:
        mechanism = "unknown"
    return Approval(
        outcome,
        time_ns,
        mechanism=mechanism,
        call_id=call_id_of(call_id),
        tool_name=tool_name,
        scope=_STANDING.get(source) or _STANDING.get(said.lower(), "once"),
        evidence=evidence,
        span_id=span_id,
    )


def _explicit(
    attributes: Mapping[str, str], time_ns: int, span_id: str, evidence: str, call_id: str, tool_name: str
) -> Approval | None:
    """The neutral record of docs/approvals.md."""
    outcome = OUTCOMES.get(attributes.get(_APPROVAL + "status", "").lower())
    outcome = outcome or OUTCOMES.get(attributes.get(_DECISION + ".outcome", "").lower())
    if outcome is None:
        return None
    kind = attributes.get(_APPROVAL + "decider.type", "").lower()
    decider = attributes.get(_APPROVAL + "decider.id") or kind
    if kind in _NOT_HUMAN and decider != kind:
        decider = f"{kind}:{decider}"
    mechanism = attributes.get(_APPROVAL + "mechanism", "").lower()
    if mechanism not in _MECHANISMS:
        mechanism = "human" if kind == "human" else "unknown"
    elif mechanism == "human" and kind in _NOT_HUMAN:
        mechanism = "unknown"  # the record contradicts itself
    scope = attributes.get(_APPROVAL + "scope", "once").lower()
    approved = attributes.get(_APPROVAL + "args.approved_hash", "")
    if not approved and outcome != "modified":
        approved = attributes.get(_APPROVAL + "args.proposed_hash", "")
    return Approval(
        outcome,
        _time(attributes.get(_APPROVAL + "decided_at")) or time_ns,
        mechanism=mechanism,
        call_id=call_id_of(call_id),
        tool_name=tool_name,
        decider=decider,
        scope=scope if scope in ("once", "session", "always") else "once",
        arguments_hash=approved.strip().lower(),
        expires_ns=_time(attributes.get(_APPROVAL + "expires_at")),
        evidence=evidence,
        span_id=span_id,
        roles=_roles(attributes.get(_APPROVAL + "roles", "")),
        approval_id=attributes.get(_APPROVAL + "id", ""),
    )


def _roles(text: str) -> tuple[str, ...]:
    """Names out of a JSON list, or of words between commas."""
    value = decode(text) if text[:1] == "[" else text.split(",")
    items = value if isinstance(value, list) else []
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


def _time(text: str | None) -> int | None:
    """Nanoseconds out of nanoseconds as text, or an ISO date and time."""
    if not text:
        return None
    if text.isdecimal() and len(text) < 20:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000_000) * 1000
    except (ValueError, OverflowError, OSError):
        return None
