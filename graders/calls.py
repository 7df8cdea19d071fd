"""Joins everything that describes a tool call — the request in a message, tool spans, log records, the answer in a later
message — into one logical call.

What belongs together is found by call id; without one by name and arguments, then by order. A tool span inside another of the
same name is the same call (wrapper, MCP client, MCP server). A call is `executed` when a span or message holds its result or
its exception, not executed when the telemetry says it was deferred, denied or invalid, and unknown when it cannot tell. A text
may explain why a call did not run; it never shows an approval. Everything here is linear in the number of spans and messages.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from graders import content
from graders.content import Value
from graders.decisions import OUTCOMES, explained, tool_name_of
from graders.messages import Request, Turn
from graders.tree import Tree
from store.dialects import Mark, mapping
from store.types import Approval, ContentState, LogEvent, Span, SpanEvent, SpanKind, ToolCall, ToolDefinition

FINAL_ANSWER = re.compile(r"final_?answer(_?tool)?", re.IGNORECASE)
_HANDOFF_SPAN = re.compile(r"handoff to ")
_ERROR_RESULT = re.compile(r"\s*(?:\{\s*\"error\"\s*:|error\b|exception\b|traceback \()", re.IGNORECASE)
_NUMBER = re.compile(r"_\d+\Z")
_FAR = 1 << 62
_ERROR_LENGTH = 500


@dataclass(slots=True)
class Shown:
    """A turn where it was first shown."""

    turn: Turn
    span: Span
    time: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one span or log record tells of a call."""

    name: str
    call_id: str
    arguments: Value
    result: Value
    ran: bool | None
    """What the sender says of it in so many words; None when it does not."""
    error: str
    """Empty when it did not fail, as far as this tells."""
    raised: bool
    """Whether it tells of an exception; a bare error class is what a denied call may leave as well."""
    span: Span


@dataclass(slots=True)
class Call:
    """A logical call while it is being joined."""

    name: str
    request: Request | None = None
    request_span: Span | None = None
    turn: int = -1
    """Index of the asking turn."""
    spans: list[Evidence] = field(default_factory=list)
    logs: list[Evidence] = field(default_factory=list)
    span_id: str = ""
    """The first call id that its spans have."""
    answer: Turn | None = None
    answer_turn: int = -1
    answer_time: int = 0
    decided: Approval | None = None
    """Set when only a decision is known of the call."""
    key: str = ""

    @property
    def call_id(self) -> str:
        if self.request and self.request.id:
            return self.request.id
        found = self.span_id or next((log.call_id for log in self.logs if log.call_id), "")
        return found or (self.decided.call_id if self.decided else "")

    @property
    def start(self) -> int:
        if self.spans:
            return min(s.span.start_ns for s in self.spans)
        if self.decided:
            return self.decided.time_ns
        return self.request_span.end_ns if self.request_span else self.logs[0].span.start_ns if self.logs else 0


@cache
def _pseudo() -> re.Pattern[str]:
    return re.compile(mapping().pseudo_tools)


def is_pseudo(name: str) -> bool:
    """Whether a tool is none: it stands for a message of the framework."""
    return _pseudo().fullmatch(name) is not None


# --- what a span or log record says ---------------------------------------------------------------------------------


def from_span(span: Span, events: Sequence[SpanEvent], names: Mapping[str, str]) -> Evidence:
    """What a tool span tells; `names` are the tools of known call ids."""
    arguments = content.arguments(span, events)
    result = content.result(span, events)
    call_id = span.tool_call_id or arguments.call_id or result.call_id
    if not call_id and events:
        ids = (e.attributes.get("id") for e in events if e.name in ("gen_ai.tool.message", "gen_ai.choice"))
        call_id = next((i for i in ids if i), "")
    exception = next((e for e in reversed(events) if e.name == "exception"), None)
    failed = span.status == "Error"
    error = ""
    if failed:
        error_class = span.attributes.get("error.type", "")
        told = exception.attributes.get("exception.message", "") if exception else ""
        message = span.status_message if span.status_message != error_class else ""
        error = told or message or result.text or span.status_message or error_class or "error"
    elif result.failed:
        error = result.text or "error"
    mark = next((mark for mark in mapping().executed if _marked(span, mark)), None)
    raised = failed and (
        exception is not None or bool(span.status_message and span.status_message != span.attributes.get("error.type"))
    )
    ran = mark.ran if mark else None
    raised = raised and not (mark and mark.ran is None)
    name = span.tool_name or names.get(call_id, "")
    return Evidence(name, call_id, arguments, result, ran, error[:_ERROR_LENGTH], raised, span)


def _marked(span: Span, mark: Mark) -> bool:
    found = span.attributes.get(mark.attribute) if mark.attribute else ""
    return (
        found is not None
        and (not mark.value or found == mark.value)
        and span.scope.startswith(mark.scope)
        and (not mark.status or span.status == mark.status)
    )


def stands_for_message(evidence: Evidence) -> bool:
    """Whether a tool span describes no call of a real tool."""
    return is_pseudo(evidence.name) or _HANDOFF_SPAN.match(evidence.span.name) is not None


def from_log(event: SpanEvent, log: LogEvent, anchor: Span | None) -> Evidence | None:
    """What a log record tells of a tool call; `anchor` is the span it belongs to."""
    rule = mapping().events.tools.get(event.name)
    if rule is None or anchor is None:
        return None
    attributes = event.attributes
    name = tool_name_of(attributes, rule.name)
    if not name:
        return None

    def first(keys: Iterable[str]) -> str | None:
        return next((attributes[key] for key in keys if attributes.get(key)), None)

    raw = first(rule.arguments)
    value = content.decode(raw)
    arguments = Value(value, raw or "", content.state_of(raw)) if raw else Value()
    success = attributes.get(rule.success, "").lower()
    error = (first(rule.error) or "error") if success == "false" else ""
    output = first(rule.result)
    result = content.unwrap_result(output) if output else Value()
    if error == "error" and result.text:
        error = result.text
    refused = OUTCOMES.get(attributes.get("decision", "").lower()) in ("deny", "cancelled")
    ran = False if refused else True if success == "true" else None
    return Evidence(
        name,
        content.call_id_of(first(rule.call_id)),
        arguments,
        result,
        ran,
        "" if refused else error[:_ERROR_LENGTH],
        bool(error) and error != "error" and not refused,
        Span(
            log.trace_id, anchor.span_id, "", event.name, SpanKind.OTHER, log.time_ns, log.time_ns, agent=anchor.agent
        ),
    )


# --- joining --------------------------------------------------------------------------------------------------------


class Joiner:
    """Calls out of what was shown, in any order and any state."""

    def __init__(self, tree: Tree, shown: Sequence[Shown], approvals: Sequence[Approval]) -> None:
        self.tree = tree
        self.shown = shown
        self.approvals = approvals
        self.finals: list[tuple[str, Span]] = []
        """Answers that were given through a tool of that name, and where."""

    def join(self, tools: Sequence[Evidence], logs: Sequence[Evidence]) -> list[Call]:
        """The logical calls, each with all that describes it."""
        calls: list[Call] = []
        by_id: dict[str, deque[Call]] = defaultdict(deque)
        by_name: dict[str, deque[Call]] = defaultdict(deque)
        for index, shown in enumerate(self.shown):
            for request in shown.turn.requests:
                if FINAL_ANSWER.fullmatch(request.name):
                    if text := text_argument(request.arguments):
                        self.finals.append((text, shown.span))
                elif not is_pseudo(request.name):
                    call = Call(request.name, request, shown.span, index)
                    calls.append(call)
                    by_id[request.id].append(call)
                    by_name[request.name].append(call)
        requested = list(calls)
        last: dict[str, Call] = {}
        joined: dict[str, Call] = {}
        around: dict[str, Call | None] = {}
        for tool in self._outer_first(tools):
            owner = self._outer_call(tool, joined, around) or _request_of(tool, by_id, by_name, last)
            if owner is None:
                owner = Call(tool.name)
                calls.append(owner)
            if tool.call_id:
                last[tool.call_id] = owner
            owner.spans.append(tool)
            owner.span_id = owner.span_id or tool.call_id
            owner.name = owner.name or tool.name
            joined[tool.span.span_id] = owner
        self._add_logs(logs, calls)
        self._answer_calls(requested, [c for c in calls if c.request is None])
        known = {c.call_id for c in calls}
        for approval in self.approvals:  # a denied call may leave nothing but the decision
            if approval.call_id and approval.call_id not in known and approval.tool_name:
                known.add(approval.call_id)
                calls.append(Call(approval.tool_name, decided=approval))
        return calls

    def _outer_first(self, tools: Sequence[Evidence]) -> Iterable[Evidence]:
        """Each tool span after those around it, also when its own clock says that it began before them."""
        waiting = {tool.span.span_id: tool for tool in tools}
        for tool in tools:
            if tool.span.span_id not in waiting:
                continue
            chain = [waiting.pop(tool.span.span_id)]
            current = self.tree.parents.get(tool.span.span_id)
            while current is not None:
                if current in waiting:
                    chain.append(waiting.pop(current))
                elif self.tree.by_id[current].kind in (SpanKind.AGENT, SpanKind.LLM, SpanKind.TOOL):
                    break  # another call, or one whose outer spans have been seen
                current = self.tree.parents.get(current)
            yield from reversed(chain)

    def _outer_call(self, tool: Evidence, joined: dict[str, Call], around: dict[str, Call | None]) -> Call | None:
        """The call of the tool span around this one, if both describe one call (wrapper, MCP client, MCP server)."""
        path = []
        current = self.tree.parents.get(tool.span.span_id)
        call: Call | None = None
        while current is not None:
            if (call := joined.get(current)) or self.tree.by_id[current].kind in (SpanKind.AGENT, SpanKind.LLM):
                break
            if current in around:
                call = around[current]
                break
            path.append(current)
            current = self.tree.parents.get(current)
        around.update(dict.fromkeys(path, call))
        if call is None or (tool.name and call.name != tool.name):
            return None
        # The spans of one call have one id, or none.
        return call if not tool.call_id or call.span_id in ("", tool.call_id) else None

    @staticmethod
    def _add_logs(logs: Sequence[Evidence], calls: list[Call]) -> None:
        by_id = {call.call_id: call for call in reversed(calls) if call.call_id}
        by_name: dict[str, deque[Call]] = defaultdict(deque)
        for call in calls:
            by_name[call.name].append(call)
        for log in logs:
            owner = by_id.get(log.call_id) if log.call_id else None
            if not log.call_id:
                arguments = content.canonical(log.arguments.value)
                fitting = (c for c in by_name[log.name] if not c.logs and _same_arguments(c, arguments))
                owner = next(fitting, None)
            if owner is None:
                owner = Call(log.name)
                calls.append(owner)
                if log.call_id:
                    by_id[log.call_id] = owner
            owner.logs.append(log)

    def _answer_calls(self, requested: list[Call], unrequested: list[Call]) -> None:
        """Give each answer to the earliest unanswered call with its id; without an id, to the earliest of its name."""
        by_id: dict[str, deque[Call]] = defaultdict(deque)
        for call in [*requested, *unrequested]:
            by_id[call.call_id].append(call)
        upcoming = deque(requested)
        waiting: deque[Call] = deque()
        for index, shown in enumerate(self.shown):
            while upcoming and upcoming[0].turn < index:
                waiting.append(upcoming.popleft())
            turn = shown.turn
            if turn.role != "tool":
                continue
            while waiting and waiting[0].answer is not None:
                waiting.popleft()
            if turn.answers:
                queue = by_id.get(turn.answers)
                target = queue.popleft() if queue else None
                if queue is None:
                    target = next((c for c in waiting if c.answer is None and _nearly(c, turn)), None)
            else:
                names = ("", turn.answers_name)
                target = next((c for c in waiting if c.answer is None and (names[1] == "" or c.name in names)), None)
            if target is not None:
                target.answer, target.answer_turn, target.answer_time = turn, index, shown.time


def _nearly(call: Call, answer: Turn) -> bool:
    """Whether an answer is to a call although the ids differ: a name and a number (Google GenAI), a prefix (OpenAI)."""
    name = answer.answers_name or _NUMBER.sub("", answer.answers)
    return call.name == name or (call.request is not None and call.request.id.endswith("_" + answer.answers))


def _same_arguments(call: Call, arguments: str) -> bool:
    if not arguments:
        return True
    known = [content.canonical(s.arguments.value) for s in call.spans if s.arguments.state is ContentState.PRESENT]
    known += [call.request.key] if call.request else []
    return not known or arguments in known


def _request_of(
    tool: Evidence, by_id: dict[str, deque[Call]], by_name: dict[str, deque[Call]], last: dict[str, Call]
) -> Call | None:
    """The call a tool span belongs to: by id, else by name and arguments, else by name and order."""
    if tool.call_id:
        same = by_id.get(tool.call_id)
        while same:
            call = same.popleft()
            if not call.spans:
                return call
            last[tool.call_id] = call
        if tool.call_id in last:  # repeated ids pair by order; a span beyond the last request shows that call again
            return last[tool.call_id]
    named = by_name.get(tool.name)
    while named and named[0].spans:
        named.popleft()
    if not named:
        return None
    arguments = content.canonical(tool.arguments.value)
    fallback = None
    for call in named:
        request = call.request
        if call.spans or request is None or (request.id and tool.call_id):
            continue
        if not arguments or request.key == arguments:
            return call
        fallback = fallback or call
    return fallback


def text_argument(value: object) -> str:
    """The answer inside the arguments of a final-answer tool."""
    if isinstance(value, dict):
        value = value.get("answer", next(iter(value.values()), None) if len(value) == 1 else None)
    return content.text_of(value)


# --- finishing ------------------------------------------------------------------------------------------------------


def finish(
    calls: Sequence[Call], approvals: Sequence[Approval], definitions: Mapping[str, ToolDefinition], tree: Tree
) -> Iterator[ToolCall]:
    """The calls in time order, each under a key of its own, which is noted in the `Call`."""
    known = mapping().dialects
    has_spans = any(c.spans for c in calls) or any(
        known[s.dialect].spans_tools for s in tree.spans if s.dialect in known
    )
    last_word = {a.call_id: a.outcome for a in sorted(approvals, key=lambda a: a.time_ns) if a.call_id}
    stopped = ("deny", "cancelled", "expired", "require_approval")
    denied = {call_id for call_id, outcome in last_word.items() if outcome in stopped}
    nameless = {a.tool_name for a in approvals if not a.call_id and a.outcome in stopped and a.scope == "once"}
    used: Counter[str] = Counter()
    taken: set[str] = set()
    ordered = sorted(calls, key=lambda c: (c.start, c.turn if c.turn >= 0 else _FAR))
    for index, call in enumerate(ordered):
        anchor = call.spans[0].span if call.spans else call.request_span
        base = call.call_id or f"{anchor.span_id if anchor else ''}:{index}"
        key = base
        while key in taken or not key:
            used[base] += 1
            key = f"{base}#{used[base] + 1}"
        taken.add(key)
        call.key = key
        yield _finished(call, index, has_spans, _denied(call, denied, nameless), definitions.get(call.name), tree)


def _denied(call: Call, ids: Collection[str], names: Collection[str]) -> bool:
    """Whether the last word about a call is that it may not run; without an id anywhere, by the tool's name."""
    return call.call_id in ids if call.call_id else call.name in names


def _finished(
    call: Call, index: int, has_spans: bool, denied: bool, definition: ToolDefinition | None, tree: Tree
) -> ToolCall:
    told = [*call.spans, *call.logs]
    ran = [e for e in told if e.ran is not False and not explained(e.result.text or e.error)]
    ran_spans = [e for e in ran if e.span.kind is SpanKind.TOOL]
    result, result_state = _result(call, ran, told)
    shown = ran_spans[-1] if ran_spans else (call.spans[-1] if call.spans else None)
    first = call.spans[0].span if call.spans else call.request_span
    # A span inside another may be from a machine with another clock.
    own = {e.span.span_id for e in ran_spans} if len(ran_spans) > 1 else set()
    outer = [e.span for e in ran_spans if not (own and tree.within(e.span.span_id, own))]
    start = min((s.start_ns for s in outer), default=call.start)
    end = max((s.end_ns for s in outer), default=call.answer_time or start)
    agent = shown.span.agent if shown else ""
    if not agent and first is not None:
        agent = first.agent or getattr(tree.inside(first, SpanKind.AGENT), "agent", "")
    arguments = _arguments(call, definition)
    value = arguments.value
    return ToolCall(
        key=call.key,
        name=call.name,
        index=index,
        start_ns=start,
        end_ns=end,
        call_id=call.call_id,
        arguments=value if isinstance(value, dict) else None,
        arguments_text=arguments.text,
        arguments_state=arguments.state,
        result=result,
        result_state=result_state,
        executed=_executed(call, ran, has_spans, denied),
        error=_error(call, ran, result),
        span_id=shown.span.span_id if shown else "",
        request_span_id=call.request_span.span_id if call.request_span else "",
        message_index=call.turn if call.turn >= 0 else None,
        agent=agent,
        provider_executed=bool(call.request and call.request.provider)
        or any(e.span.attributes.get("gen_ai.tool.type") == "extension" for e in call.spans),
    )


def _result(call: Call, ran: Sequence[Evidence], told: Sequence[Evidence]) -> tuple[str, ContentState]:
    best = next((e for e in ran if e.result.state is ContentState.PRESENT), None)
    best = best or next((e for e in told if e.result.state is ContentState.PRESENT), None)
    if best is not None:
        return best.result.text, best.result.state
    if call.answer is not None and (call.answer.text or call.answer.empty):
        return call.answer.text, ContentState.PRESENT
    partly = next((e.result for e in told if e.result.state is not ContentState.ABSENT), Value())
    return partly.text, partly.state


def _arguments(call: Call, definition: ToolDefinition | None) -> Value:
    states = [e.arguments for e in (*call.logs, *call.spans) if e.arguments.state is ContentState.PRESENT]
    found = next((a for a in reversed(states) if isinstance(a.value, dict)), None)
    request = call.request
    if found is None and request is not None and request.arguments is not None:
        value = request.arguments
        bare = next((a.value for a in states if isinstance(a.value, str)), None)
        if bare is not None and isinstance(value, dict) and len(value) == 1 and bare not in map(str, value.values()):
            # A bare value on the span stands for the only argument; here a reviewer has changed it.
            value = dict.fromkeys(value, bare)
            return Value(value, content.canonical(value), ContentState.PRESENT)
        text = value if isinstance(value, str) else request.key
        state = content.state_of(value) if isinstance(value, str) else ContentState.PRESENT
        if state is not ContentState.ABSENT:
            return Value({} if isinstance(value, str) and not value.strip() else value, text, state)
    if found is None and states:
        found = states[-1]
        only = _only_parameter(definition)
        if isinstance(found.value, str) and only:
            value = {only: found.value}
            return Value(value, content.canonical(value), ContentState.PRESENT)
    if found is not None:
        return found
    told = (*call.spans, *call.logs)
    return next((e.arguments for e in told if e.arguments.state is not ContentState.ABSENT), Value())


def _only_parameter(definition: ToolDefinition | None) -> str:
    properties = (definition.parameters or {}).get("properties") if definition else None
    return next(iter(properties)) if isinstance(properties, dict) and len(properties) == 1 else ""


def _executed(call: Call, ran: Sequence[Evidence], has_spans: bool, denied: bool) -> bool | None:
    known = (ContentState.PRESENT, ContentState.TRUNCATED, ContentState.REDACTED)
    if any(e.result.state in known or e.ran for e in ran):
        return True
    if (call.spans or call.logs) and not ran:
        return False
    if denied and not ran:
        return False
    answer = call.answer
    if answer is not None and (answer.text or answer.failed or answer.empty or answer.denied):
        if answer.denied or explained(answer.text):
            return False
        if ran or not has_spans or answer.provider:  # others have spans and this has none: it may have been denied
            return True
    if any(e.raised for e in ran):
        return True
    return None


def _error(call: Call, ran: Sequence[Evidence], result: str) -> str:
    told = [e for e in ran if e.error]
    if told:
        return next((e.error for e in told if e.raised), told[0].error)
    if call.answer is not None and call.answer.failed:
        return call.answer.text[:_ERROR_LENGTH] or "error"
    return result[:_ERROR_LENGTH] if result and _ERROR_RESULT.match(result) else ""
