"""Puts one trace together from its spans and logs, in the words graders use.

`assemble` is pure, takes spans in any order and any state (duplicates, cycles, garbage, nothing at all) and never raises.

What it promises:
- **Messages** appear once, in time order, at the span that first showed them, although every model call sends its whole
  history again. A message counts as repeated when the same role, text and calls stand at the same occurrence.
- **Tool calls** are logical calls: the request in a message, the tool span (or several: client, server, wrapper, a span
  that only waited for approval) and the answer in a later message are joined by call id; without one by name and
  arguments, then by order. Spans that describe no call of a real tool (`_PSEUDO`) are dropped. `transfer_to_*` and the
  like stay: the model chose them.
- **Executed** is True when a tool span or message holds a result, False when the telemetry says the call was deferred,
  denied or invalid, None when it cannot tell. Text may explain why a call did not run; it never grants an approval.
- **Approvals** come from decision events and attributes, and from structures frameworks leave behind.

What it leaves to others: kinds and scalars of a span (`store.dialects`), what counts as consequential (`graders.policy`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from graders import content
from graders.content import History, Reader, Request, Turn, Value
from store.dialects import capabilities
from store.types import (
    Approval,
    Case,
    Completeness,
    ContentState,
    Document,
    LogEvent,
    Message,
    Span,
    SpanEvent,
    SpanKind,
    ToolCall,
    ToolDefinition,
    Trace,
)

_PSEUDO = re.compile(r"final_result(_.*)?|\(merged tools\)|adk_request_confirmation|transfer_to_agent")
_FINAL_ANSWER = re.compile(r"final_?answer(_?tool)?", re.IGNORECASE)
_HANDOFF_SPAN = re.compile(r"handoff to ")

_REFUSED_START = re.compile(
    r"User rejected the tool call for `"
    r"|Tool execution for \S+ was manually rejected by user\."
    r"|Tool execution was not approved\.$"
    r"|Tool execution rejected$"
    r"|Error: Tool call invocation was rejected by user\."
    r"|The tool call was denied\.$"
    r"|tool cancelled by user"
)
_REFUSED_PARTS = (
    "This tool call is rejected.",
    "This tool call requires confirmation, please approve or reject.",
    "was blocked because it was classified as risky (probability: ",
)
_SIGNATURE_LENGTH = 1000
"""Signatures are looked for in short texts only: a page that quotes one is not one."""

_ERROR_RESULT = re.compile(r"\s*(?:\{\s*\"error\"\s*:|error\b|exception\b|traceback \()", re.IGNORECASE)

_OUTCOMES = {
    "allow": "allow", "approved": "allow", "accept": "allow", "auto_accept": "allow", "approve": "allow",
    "approved_for_session": "allow", "not_required": "allow", "deny": "deny", "denied": "deny", "reject": "deny",
    "rejected": "deny", "require_approval": "require_approval", "required": "require_approval",
    "pending": "require_approval", "modified": "modified", "modify": "modified", "edit": "modified",
    "expired": "expired", "timeout": "expired", "cancelled": "cancelled", "abort": "cancelled",
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
_FRAMEWORK_DECISIONS = ("tool_decision", "claude_code.tool_decision", "codex.tool_decision", "gemini_cli.tool_call")
_APPROVAL = "tracegrade.approval."

_FAR = 1 << 62


def assemble(
    spans: Sequence[Span], logs: Sequence[LogEvent] = (), case: Case | None = None, generation: int = 1
) -> Trace:
    """One trace, ready to be graded."""
    ordered, parents = _order(spans)
    logs = tuple(sorted(logs, key=lambda e: e.time_ns))
    return _Assembly(ordered, parents, logs).trace(case, generation)


def _order(spans: Sequence[Span]) -> tuple[tuple[Span, ...], dict[str, str]]:
    """Spans by start, parents first, each id once; and the parent of each whose parent is there, without cycles."""
    by_id: dict[str, Span] = {}
    for span in spans:
        known = by_id.get(span.span_id)
        if known is None or span.end_ns > known.end_ns:  # some senders write a span when it starts and again at its end
            by_id[span.span_id] = span
    depth: dict[str, int] = {}
    parents: dict[str, str] = {}
    for start in by_id:
        chain = []
        current = start
        while current in by_id and current not in depth:
            depth[current] = -1
            chain.append(current)
            current = by_id[current].parent_span_id
        base = depth.get(current, -1)  # -1: a root, an orphan, or the point where a cycle closes
        for span_id in reversed(chain):
            parent = by_id[span_id].parent_span_id
            if base >= 0 and parent in by_id:
                parents[span_id] = parent
            base = depth[span_id] = base + 1
    return tuple(sorted(by_id.values(), key=lambda s: (s.start_ns, depth[s.span_id], s.span_id))), parents


@dataclass(slots=True)
class _Call:
    """A logical call while it is being joined."""

    name: str
    request: Request | None = None
    request_span: Span | None = None
    turn: int = -1
    """Index of the asking turn."""
    spans: list[_ToolSpan] = field(default_factory=list)
    answer: Turn | None = None
    answer_turn: int = -1
    answer_time: int = 0
    decided: Approval | None = None
    """Set when only a decision is known of the call."""

    @property
    def call_id(self) -> str:
        if self.request and self.request.id:
            return self.request.id
        spans = next((s.call_id for s in self.spans if s.call_id), "")
        return spans or (self.decided.call_id if self.decided else "")

    @property
    def start(self) -> int:
        if self.spans:
            return min(s.span.start_ns for s in self.spans)
        if self.decided:
            return self.decided.time_ns
        return self.request_span.end_ns if self.request_span else 0


@dataclass(frozen=True, slots=True)
class _ToolSpan:
    span: Span
    name: str
    call_id: str
    arguments: Value
    result: Value
    deferred: bool
    failed: bool


@dataclass(slots=True)
class _Shown:
    """A turn where it was first shown."""

    turn: Turn
    span: Span
    time: int
    key: str = ""


class _Assembly:
    def __init__(self, spans: tuple[Span, ...], parents: dict[str, str], logs: tuple[LogEvent, ...]) -> None:
        self.spans = spans
        self.parents = parents
        self.logs = logs
        self.by_id = {span.span_id: span for span in spans}
        self.reader = Reader()
        self.shown: list[_Shown] = []
        self.definitions: dict[str, ToolDefinition] = {}
        self.documents: list[Document] = []
        self.approvals: list[Approval] = []
        self.calls: list[_Call] = []
        self.structural: dict[Approval, tuple[int, Span]] = {}
        self.final: tuple[str, str] = ("", "")
        self.log_events: dict[str, list[SpanEvent]] = defaultdict(list)

    def trace(self, case: Case | None, generation: int) -> Trace:
        for log in self.logs:
            if log.span_id:
                self.log_events[log.span_id].append(_as_event(log))
        self._read_messages()
        self._read_approvals()
        tools = self._read_tools()
        self._join(tools)
        calls, keys = self._finish_calls()
        messages = self._messages(keys)
        answer, answer_span = self._answer()
        dialects = tuple(dict.fromkeys(s.dialect for s in self.spans if s.dialect))
        return Trace(
            trace_id=self.spans[0].trace_id if self.spans else (self.logs[0].trace_id if self.logs else ""),
            spans=self.spans,
            logs=self.logs,
            messages=messages,
            tool_calls=calls,
            tool_definitions=tuple(self.definitions.values()),
            documents=tuple(self.documents),
            approvals=tuple(sorted(self.approvals, key=lambda a: a.time_ns)),
            answer=answer,
            answer_span_id=answer_span,
            answer_state=self._answer_state(answer),
            completeness=self._completeness(),
            dialects=dialects,
            capabilities=_capabilities(self.spans),
            case=case,
            generation=generation,
        )

    def _events(self, span: Span) -> Sequence[SpanEvent]:
        logged = self.log_events.get(span.span_id)
        return [*span.events, *logged] if logged else span.events

    # --- messages ---------------------------------------------------------------------------------------------------

    def _read_messages(self) -> None:
        seen: dict[object, int] = {}
        agents: list[tuple[Span, list[Turn], History, list[Turn]]] = []
        offered: set[int] = set()
        for span in self.spans:
            kind = span.kind
            if kind is SpanKind.LLM or kind is SpanKind.AGENT:
                families = self.reader.families(span)
                said = self._turns(span, families)
                if kind is SpanKind.LLM:
                    self._show(span, *said, seen)
                else:
                    agents.append((span, *said))
                definitions = content.definitions(span, families)
                if id(definitions) not in offered:
                    offered.add(id(definitions))
                    self._offer(definitions)
            elif kind is SpanKind.RETRIEVAL or kind is SpanKind.RERANK:
                self.documents += content.documents(span, self.reader.families(span))
        # An agent span repeats what its model calls said; only what they did not say is new.
        for agent in agents:
            self._show(*agent, seen)
        if not self.shown:
            self._show_plain(seen)
        self.shown.sort(key=lambda s: s.time)

    def _offer(self, definitions: Iterable[ToolDefinition]) -> None:
        for definition in definitions:
            known = self.definitions.get(definition.name)
            if known is None or (known.parameters is None and definition.parameters is not None):
                self.definitions[definition.name] = definition

    def _turns(self, span: Span, families: content.Families) -> tuple[list[Turn], History, list[Turn]]:
        """System instructions, input and output messages of a span."""
        if span.kind is SpanKind.LLM:
            history = self.reader.history(span, families)
        else:
            history = History(self.reader.turns(span, families, "input_messages", "user"))
        outputs = self.reader.turns(span, families, "output_messages", "assistant")
        events = self._events(span)
        if events and not (history.turns and outputs):
            event_inputs, event_outputs = self.reader.events(events)
            history = history if history.turns else History(event_inputs)
            outputs = outputs or event_outputs
        return self.reader.turns(span, families, "system_instructions", "system"), history, outputs

    def _show(
        self, span: Span, system: list[Turn], history: History, outputs: list[Turn], seen: dict[object, int]
    ) -> None:
        """Keep what was not shown before: a turn at a higher occurrence than any call has had it."""
        here = history.counts
        for turn in system:
            if not seen.get(turn.identity):
                seen[turn.identity] = 1
                self.shown.append(_Shown(turn, span, span.start_ns))
        for turn in history.turns[history.counted :]:
            self._count(turn, here, span, span.start_ns, seen)
        history.counted = len(history.turns)
        if outputs:
            here = dict(here) if len(outputs) > 1 else here
            for turn in outputs:
                self._count(turn, here, span, span.end_ns, seen)
            if here is history.counts:  # what was just said comes back with the next history
                here[outputs[0].identity] -= 1

    def _count(self, turn: Turn, here: dict[object, int], span: Span, time: int, seen: dict[object, int]) -> None:
        identity = turn.identity
        for approval in turn.approvals:
            self.structural.setdefault(approval, (time, span))
        count = here[identity] = here.get(identity, 0) + 1
        if count > seen.get(identity, 0):
            seen[identity] = count
            self.shown.append(_Shown(turn, span, time))

    def _show_plain(self, seen: dict[object, int]) -> None:
        """Nobody sent messages: the plain input and output of the outermost agent or model span stand in."""
        for kind in (SpanKind.AGENT, SpanKind.LLM):
            for span in self.spans:
                if span.kind is kind and not self._inside(span, kind):
                    texts = content.first(span.attributes, "input"), content.first(span.attributes, "output")
                    inputs, outputs = (
                        [Turn(role, text)] if text and not isinstance(content.decode(text), dict | list) else []
                        for role, text in zip(("user", "assistant"), texts, strict=True)
                    )
                    self._show(span, [], History(inputs), outputs, seen)
            if self.shown:
                return

    def _inside(self, span: Span, kind: SpanKind) -> Span | None:
        """The nearest ancestor of a kind."""
        current = self.parents.get(span.span_id)
        while current is not None:
            ancestor = self.by_id[current]
            if ancestor.kind is kind:
                return ancestor
            current = self.parents.get(current)
        return None

    def _owner(self, span: Span) -> Span | None:
        """The agent a span belongs to; an agent span right inside one of the same name is the same agent."""
        owner = span if span.kind is SpanKind.AGENT else self._inside(span, SpanKind.AGENT)
        while owner is not None:
            outer = self._inside(owner, SpanKind.AGENT)
            if outer is None or outer.agent != owner.agent:
                return owner
            owner = outer
        return None

    # --- tool calls -------------------------------------------------------------------------------------------------

    def _read_tools(self) -> list[_ToolSpan]:
        tools = []
        names = {r.id: r.name for shown in self.shown for r in shown.turn.requests if r.id}
        for span in self.spans:
            if span.kind is not SpanKind.TOOL:
                continue
            attributes = span.attributes
            events = self._events(span)
            arguments = content.arguments(span, events)
            result = content.result(span, events)
            call_id = span.tool_call_id or arguments.call_id or result.call_id
            if not call_id and events:
                ids = (e.attributes.get("id") for e in events if e.name in ("gen_ai.tool.message", "gen_ai.choice"))
                call_id = next((i for i in ids if i), "")
            name = span.tool_name or names.get(call_id, "")
            if _FINAL_ANSWER.fullmatch(name):
                text = result.text or (text_argument(arguments.value) if arguments.value else "")
                if text:
                    self.final = (text, span.span_id)
                continue
            if _PSEUDO.fullmatch(name) or _HANDOFF_SPAN.match(span.name):
                continue
            deferred = (
                "pydantic_ai.tool.deferral.name" in attributes
                or attributes.get("pydantic_ai.tool.failure_stage") == "validation"
                or attributes.get("tracegrade.tool.executed") == "false"
            )
            if attributes.get("pydantic_ai.tool.deferral.name") == "ApprovalRequired":
                self.approvals.append(
                    Approval(
                        "require_approval",
                        span.start_ns,
                        call_id=call_id,
                        tool_name=name,
                        evidence="framework_structure",
                        span_id=span.span_id,
                    )
                )
            tools.append(_ToolSpan(span, name, call_id, arguments, result, deferred, span.status == "Error"))
        return tools

    def _join(self, tools: list[_ToolSpan]) -> None:
        calls: list[_Call] = []
        by_id: dict[str, deque[_Call]] = defaultdict(deque)
        by_name: dict[str, deque[_Call]] = defaultdict(deque)
        for index, shown in enumerate(self.shown):
            for request in shown.turn.requests:
                if _FINAL_ANSWER.fullmatch(request.name):
                    if not self.final[0] and (text := text_argument(request.arguments)):
                        self.final = (text, shown.span.span_id)
                elif not _PSEUDO.fullmatch(request.name):
                    call = _Call(request.name, request, shown.span, index)
                    calls.append(call)
                    by_id[request.id].append(call)
                    by_name[request.name].append(call)
        requested = list(calls)
        last: dict[str, _Call] = {}
        joined: dict[str, _Call] = {}
        for tool in self._outer_first(tools):
            owner = self._outer_call(tool, joined) or _request_of(tool, by_id, by_name, last)
            if owner is None:
                owner = _Call(tool.name)
                calls.append(owner)
            if tool.call_id:
                last[tool.call_id] = owner
            owner.spans.append(tool)
            owner.name = owner.name or tool.name
            joined[tool.span.span_id] = owner
        self._answer_calls(requested, [c for c in calls if c.request is None])
        known = {c.call_id for c in calls}
        for approval in self.approvals:  # a denied call may leave nothing but the decision
            if approval.call_id and approval.call_id not in known and approval.tool_name:
                known.add(approval.call_id)
                calls.append(_Call(approval.tool_name, decided=approval))
        self.calls = calls

    def _outer_first(self, tools: list[_ToolSpan]) -> Iterable[_ToolSpan]:
        """Each tool span after those around it, also when its own clock says that it began before them."""
        waiting = {tool.span.span_id: tool for tool in tools}
        for tool in tools:
            if tool.span.span_id not in waiting:
                continue
            chain = [waiting.pop(tool.span.span_id)]
            current = self.parents.get(tool.span.span_id)
            while current is not None:
                if current in waiting:
                    chain.append(waiting.pop(current))
                elif self.by_id[current].kind in (SpanKind.AGENT, SpanKind.LLM, SpanKind.TOOL):
                    break  # another call, or one whose outer spans have been seen
                current = self.parents.get(current)
            yield from reversed(chain)

    def _outer_call(self, tool: _ToolSpan, joined: dict[str, _Call]) -> _Call | None:
        """The call of the tool span around this one, if both describe one call (wrapper, MCP client, MCP server)."""
        current = self.parents.get(tool.span.span_id)
        while current is not None:
            if call := joined.get(current):
                same = not tool.name or call.name == tool.name
                if same and tool.call_id:  # the spans of one call have one id, or none; they may be very many
                    known = next((s.call_id for s in call.spans if s.call_id), "")
                    same = known in ("", tool.call_id)
                return call if same else None
            if self.by_id[current].kind in (SpanKind.AGENT, SpanKind.LLM):
                return None
            current = self.parents.get(current)
        return None

    def _answer_calls(self, requested: list[_Call], unrequested: list[_Call]) -> None:
        """Give each answer to the earliest unanswered call with its id; without an id, to the earliest of its name."""
        by_id: dict[str, deque[_Call]] = defaultdict(deque)
        for call in [*requested, *unrequested]:
            by_id[call.call_id].append(call)
        upcoming = deque(requested)
        waiting: deque[_Call] = deque()
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
            else:
                names = ("", turn.answers_name)
                target = next((c for c in waiting if c.answer is None and (names[1] == "" or c.name in names)), None)
            if target is not None:
                target.answer, target.answer_turn, target.answer_time = turn, index, shown.time

    def _finish_calls(self) -> tuple[tuple[ToolCall, ...], dict[int, str]]:
        """The calls in time order; and the key of each by the identity of its builder."""
        has_spans = any(c.spans for c in self.calls)
        last_word = {a.call_id: a.outcome for a in sorted(self.approvals, key=lambda a: a.time_ns) if a.call_id}
        denied = {call_id for call_id, outcome in last_word.items() if outcome in ("deny", "cancelled", "expired")}
        ordered = sorted(self.calls, key=lambda c: (c.start, c.turn if c.turn >= 0 else _FAR))
        used: Counter[str] = Counter()
        taken: set[str] = set()
        finished: list[ToolCall] = []
        keys: dict[int, str] = {}
        for index, call in enumerate(ordered):
            call_id = call.call_id
            anchor = call.spans[0].span if call.spans else call.request_span
            base = call_id or f"{anchor.span_id if anchor else ''}:{index}"
            key = base
            while key in taken or not key:
                used[base] += 1
                key = f"{base}#{used[base] + 1}"
            taken.add(key)
            keys[id(call)] = key
            finished.append(self._finish(call, key, index, call_id, has_spans, denied))
        return tuple(finished), keys

    def _finish(self, call: _Call, key: str, index: int, call_id: str, has_spans: bool, denied: set[str]) -> ToolCall:
        arguments = self._arguments(call)
        ran = [s for s in call.spans if not s.deferred and not _refused(s.result.text or s.span.status_message)]
        result, result_state = "", ContentState.ABSENT
        best = next((s for s in ran if s.result.state is ContentState.PRESENT), None) or next(
            (s for s in call.spans if s.result.state is not ContentState.ABSENT), None
        )
        if best is not None:
            result, result_state = best.result.text, best.result.state
        elif call.answer is not None and (call.answer.text or call.answer.empty):
            result, result_state = call.answer.text, ContentState.PRESENT
        shown = ran[-1] if ran else (call.spans[-1] if call.spans else None)
        first = call.spans[0].span if call.spans else call.request_span
        # A span inside another may be from a machine with another clock.
        own = {s.span.span_id for s in ran} if len(ran) > 1 else set()
        outer = [s.span for s in ran if not (own and self._within(s.span, own))]
        start = min((s.start_ns for s in outer), default=call.start)
        end = max((s.end_ns for s in outer), default=call.answer_time or start)
        agent = shown.span.agent if shown else ""
        if not agent and first is not None:
            agent = first.agent or getattr(self._inside(first, SpanKind.AGENT), "agent", "")
        value = arguments.value
        return ToolCall(
            key=key,
            name=call.name,
            index=index,
            start_ns=start,
            end_ns=end,
            call_id=call_id,
            arguments=value if isinstance(value, dict) else None,
            arguments_text=arguments.text,
            arguments_state=arguments.state,
            result=result,
            result_state=result_state,
            executed=_executed(call, ran, has_spans, call_id in denied),
            error=_error(call, ran, result),
            span_id=shown.span.span_id if shown else "",
            request_span_id=call.request_span.span_id if call.request_span else "",
            message_index=call.turn if call.turn >= 0 else None,
            agent=agent,
            provider_executed=bool(call.request and call.request.provider)
            or any(s.span.attributes.get("gen_ai.tool.type") == "extension" for s in call.spans),
        )

    def _within(self, span: Span, others: set[str]) -> bool:
        current = self.parents.get(span.span_id)
        while current is not None and current not in others:
            current = self.parents.get(current)
        return current is not None

    @staticmethod
    def _arguments(call: _Call) -> Value:
        states = [s.arguments for s in call.spans if s.arguments.state is ContentState.PRESENT]
        found = next((a for a in reversed(states) if isinstance(a.value, dict)), None)
        request = call.request
        if found is None and request is not None and request.arguments is not None:
            value = request.arguments
            bare = next((a.value for a in states if isinstance(a.value, str)), None)
            if (
                bare is not None
                and isinstance(value, dict)
                and len(value) == 1
                and bare not in map(str, value.values())
            ):
                # A bare value on the span stands for the only argument; here a reviewer has changed it.
                value = dict.fromkeys(value, bare)
                return Value(value, content.canonical(value), ContentState.PRESENT)
            text = value if isinstance(value, str) else request.key
            state = content.state_of(value) if isinstance(value, str) else ContentState.PRESENT
            if state is not ContentState.ABSENT:
                return Value({} if isinstance(value, str) and not value.strip() else value, text, state)
        if found is None and states:
            found = states[-1]
        if found is not None:
            return found
        return next((s.arguments for s in call.spans if s.arguments.state is not ContentState.ABSENT), Value())

    # --- approvals --------------------------------------------------------------------------------------------------

    def _read_approvals(self) -> None:
        for log in self.logs:
            if approval := _decision(_as_event(log), log.span_id):
                self.approvals.append(approval)
        for span in self.spans:
            for event in span.events:
                if approval := _decision(event, span.span_id):
                    self.approvals.append(approval)
            attributes = span.attributes
            if _DECISION + ".outcome" in attributes or _APPROVAL + "status" in attributes:
                call_id = attributes.get("gen_ai.tool.call.id", span.tool_call_id)
                name = attributes.get("gen_ai.tool.name", span.tool_name)
                approval = _approval(attributes, span.start_ns, span.span_id, "explicit_attribute", call_id, name)
                if approval:
                    self.approvals.append(approval)
            if self.parents.get(span.span_id) not in self.parents:  # the root, or right below it
                self._resumed(span)
        for approval, (time, span) in self.structural.items():
            self.approvals.append(replace(approval, time_ns=time, span_id=span.span_id))

    def _resumed(self, root: Span) -> None:
        """LangGraph: the input of a resumed root holds the decisions, in the order of the calls that waited."""
        raw = root.attributes.get("input.value") or root.attributes.get("traceloop.entity.input")
        if not raw or '"resume"' not in raw:
            return
        value = content.decode(raw)
        value = value.get("inputs", value) if isinstance(value, dict) else None
        resume = value.get("resume") if isinstance(value, dict) else None
        decisions = resume.get("decisions") if isinstance(resume, dict) else None
        if not isinstance(decisions, list):
            return
        waiting = self._waiting(len(decisions))
        for decision, request in zip(decisions, waiting, strict=False):
            kind = decision.get("type") if isinstance(decision, dict) else None
            if isinstance(kind, str) and (outcome := _OUTCOMES.get(kind)):
                self.approvals.append(
                    Approval(
                        outcome,
                        root.start_ns,
                        mechanism="human",
                        call_id=request.id,
                        tool_name=request.name,
                        evidence="framework_structure",
                        span_id=root.span_id,
                    )
                )

    def _waiting(self, count: int) -> list[Request]:
        """The calls of the newest assistant turn that was history when the first model call of the resume began."""
        asking = [s.turn.requests for s in self.shown if s.turn.requests and s.turn.role == "assistant"]
        fitting = [requests for requests in asking if len(requests) >= count]
        return list(fitting[0]) if len(fitting) == 1 else []

    # --- the whole --------------------------------------------------------------------------------------------------

    def _messages(self, keys: Mapping[int, str]) -> tuple[Message, ...]:
        asked: dict[int, list[str]] = defaultdict(list)
        answered: dict[int, str] = {}
        for call in self.calls:
            if call.turn >= 0:
                asked[call.turn].append(keys[id(call)])
            if call.answer_turn >= 0:
                answered[call.answer_turn] = keys[id(call)]
        return tuple(
            Message(
                role=shown.turn.role,
                text=shown.turn.text,
                span_id=shown.span.span_id,
                time_ns=shown.time,
                tool_call_ids=tuple(asked.get(index, ())),
                tool_call_id=answered.get(index, shown.turn.answers) if shown.turn.role == "tool" else "",
            )
            for index, shown in enumerate(self.shown)
        )

    def _answer(self) -> tuple[str, str]:
        if self.final[0]:
            return self.final
        outer = [s for s in self.spans if s.kind is SpanKind.AGENT and self._inside(s, SpanKind.AGENT) is None]
        agent = max(outer, key=lambda s: s.end_ns, default=None)
        if agent is not None:
            families = self.reader.families(agent)
            outputs = self.reader.turns(agent, families, "output_messages", "assistant")
            said = next((t for t in reversed(outputs) if t.role == "assistant" and t.text), None)
            if said is not None and not said.requests and said.finish != "interrupt":
                return said.text, agent.span_id
            plain = content.first(agent.attributes, "output")
            if plain and plain not in content.REDACTED and not isinstance(content.decode(plain), dict | list):
                return plain, agent.span_id
        for shown in reversed(self.shown):
            turn = shown.turn
            if agent is not None and self._owner(shown.span) not in (agent, None):
                continue
            if turn.finish == "interrupt":  # it waits for somebody
                break
            if turn.role == "tool" or turn.requests:  # it ended before it answered
                break
            if turn.role == "assistant" and turn.text:
                return turn.text, shown.span.span_id
        return "", ""

    def _answer_state(self, answer: str) -> ContentState:
        if answer:
            return ContentState.PRESENT
        spoke = any(s.turn.role == "assistant" for s in self.shown)
        if spoke:  # what was said is known, and no answer was among it
            return ContentState.PRESENT
        keys = {"gen_ai.output.messages_ref", "gen_ai.input.messages_ref"}
        if any(keys & s.attributes.keys() for s in self.spans if content.speaks(s)):
            return ContentState.EXTERNALISED
        return ContentState.ABSENT

    def _completeness(self) -> Completeness:
        if not any(not s.parent_span_id for s in self.spans):
            return Completeness.ROOT_MISSING
        if any(s.parent_span_id and s.parent_span_id not in self.by_id for s in self.spans):
            return Completeness.ORPHANED
        if any(s.dropped_attributes for s in self.spans):
            return Completeness.TRUNCATED
        return Completeness.COMPLETE


def _request_of(
    tool: _ToolSpan, by_id: dict[str, deque[_Call]], by_name: dict[str, deque[_Call]], last: dict[str, _Call]
) -> _Call | None:
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


def _refused(text: str) -> bool:
    if not text or len(text) > _SIGNATURE_LENGTH:
        return False
    return _REFUSED_START.match(text) is not None or any(part in text for part in _REFUSED_PARTS)


def _executed(call: _Call, ran: list[_ToolSpan], has_spans: bool, denied: bool) -> bool | None:
    if any(s.result.state in (ContentState.PRESENT, ContentState.TRUNCATED, ContentState.REDACTED) for s in ran):
        return True
    if any(s.span.attributes.get("tracegrade.tool.executed") == "true" for s in ran):
        return True
    if call.spans and not ran:
        return False
    if denied and not ran:
        return False
    answer = call.answer
    if answer is not None and (answer.text or answer.failed or answer.empty):
        if _refused(answer.text):
            return False
        if ran or not has_spans or answer.provider:  # others have spans and this has none: it may have been denied
            return True
    if any(s.failed and _raised(s.span) for s in ran):
        return True
    return None


def _raised(span: Span) -> bool:
    """Whether a failed span tells of an exception; a bare error class is what a denied call may leave as well."""
    message = span.status_message
    return bool(message and message != span.attributes.get("error.type")) or any(
        e.name == "exception" for e in span.events
    )


def _error(call: _Call, ran: list[_ToolSpan], result: str) -> str:
    for tool in ran:
        if tool.failed or tool.result.failed:
            return tool.span.status_message or tool.span.attributes.get("error.type") or result[:500] or "error"
    if call.answer is not None and call.answer.failed:
        return call.answer.text[:500] or "error"
    return result[:500] if result and _ERROR_RESULT.match(result) else ""


def _as_event(log: LogEvent) -> SpanEvent:
    attributes: dict[str, str] = dict(log.attributes)
    body = content.decode(log.body)
    if isinstance(body, dict):
        for key, value in body.items():
            attributes.setdefault(str(key), value if isinstance(value, str) else content.canonical(value))
    elif isinstance(body, str) and body:
        attributes.setdefault("content", body)
    return SpanEvent(log.name or attributes.get("event.name", ""), log.time_ns, attributes)


def _decision(event: SpanEvent, span_id: str) -> Approval | None:
    attributes = event.attributes
    if event.name == _DECISION or _DECISION + ".outcome" in attributes:
        return _approval(
            attributes,
            event.time_ns,
            span_id,
            "explicit_event",
            attributes.get("gen_ai.tool.call.id", ""),
            attributes.get("gen_ai.tool.name", ""),
        )
    if event.name in _FRAMEWORK_DECISIONS:
        outcome = _OUTCOMES.get(attributes.get("decision", ""))
        source = attributes.get("source", "").lower()
        if outcome:
            return Approval(
                outcome,
                event.time_ns,
                mechanism=_SOURCES.get(source, "unknown"),
                call_id=attributes.get("tool_use_id", attributes.get("call_id", "")),
                tool_name=attributes.get("tool_name", attributes.get("function_name", "")),
                scope="always" if source == "user_permanent" else "once",
                evidence="explicit_event",
                span_id=span_id,
            )
    return None


def _approval(
    attributes: Mapping[str, str], time_ns: int, span_id: str, evidence: str, call_id: str, tool_name: str
) -> Approval | None:
    outcome = _OUTCOMES.get(attributes.get(_APPROVAL + "status", ""))
    outcome = outcome or _OUTCOMES.get(attributes.get(_DECISION + ".outcome", ""))
    if outcome is None:
        return None
    mechanism = attributes.get(_APPROVAL + "mechanism", "")
    decider = attributes.get(_APPROVAL + "decider.id") or attributes.get(_APPROVAL + "decider.type", "")
    scope = attributes.get(_APPROVAL + "scope", "once")
    return Approval(
        outcome,
        _time(attributes.get(_APPROVAL + "decided_at")) or time_ns,
        mechanism=mechanism if mechanism in _MECHANISMS else "unknown",
        call_id=call_id,
        tool_name=tool_name,
        decider=decider,
        scope=scope if scope in ("once", "session", "always") else "once",
        arguments_hash=attributes.get(_APPROVAL + "args.approved_hash", "").lower(),
        expires_ns=_time(attributes.get(_APPROVAL + "expires_at")),
        evidence=evidence,
        span_id=span_id,
    )


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


def _capabilities(spans: Iterable[Span]) -> dict[str, str]:
    """The most that any sender of the trace can show."""
    rank = {"no": 0, "opt_in": 1, "yes": 2}
    merged: dict[str, str] = {}
    for dialect, scope in dict.fromkeys((s.dialect, s.scope) for s in spans if s.dialect):
        for fact, shown in capabilities(dialect, scope).items():
            if rank[shown] >= rank[merged.get(fact, "no")]:
                merged[fact] = shown
    return merged
