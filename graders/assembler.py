"""Puts one trace together from its spans and logs, in the words graders use.

`assemble` is pure, takes spans in any order and any state (duplicates, cycles, garbage, nothing at all) and never raises.

What it promises:
- **Messages** appear once, in time order, at the span that first showed them, although every model call sends its whole
  history again. A message counts as repeated when the same role, text and calls stand at the same occurrence.
- **Tool calls** are logical calls: everything that describes one is joined (`graders.calls`). Spans that describe no call of a
  real tool are dropped. `transfer_to_*` and the like stay: the model chose them.
- **Approvals** come from decision events and attributes, and from structures frameworks leave behind (`graders.decisions`).
- **Documents** are those of retrieval and reranking spans, in time order, and which of them the answer was given from.

What it leaves to others: kinds and scalars of a span (`store.dialects`), what counts as consequential (`graders.policy`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from graders import calls, content, decisions, messages
from graders.calls import Shown
from graders.messages import History, Reader, Request, Turn
from graders.tree import Tree
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

_FINALS = 100
"""Final answers that are looked at, the latest first: agents within agents each give one."""


def assemble(
    spans: Sequence[Span], logs: Sequence[LogEvent] = (), case: Case | None = None, generation: int = 1
) -> Trace:
    """One trace, ready to be graded."""
    return _Assembly(Tree(spans), tuple(sorted(logs, key=lambda e: e.time_ns))).trace(case, generation)


class _Assembly:
    def __init__(self, tree: Tree, logs: tuple[LogEvent, ...]) -> None:
        self.tree = tree
        self.spans = tree.spans
        self.logs = logs
        self.reader = Reader()
        self.shown: list[Shown] = []
        self.definitions: dict[str, ToolDefinition] = {}
        self.documents: list[Document] = []
        self.structural: dict[Approval, tuple[int, Span]] = {}
        self.events: dict[str, list[SpanEvent]] = defaultdict(list)
        """Log records, as events of the span they belong to."""
        self.finals: list[tuple[str, Span]] = []
        """What tools for final answers were given, and where; an agent within another gives its own."""
        self.root = next((s for s in self.spans if not s.parent_span_id), self.spans[0] if self.spans else None)

    def trace(self, case: Case | None, generation: int) -> Trace:
        told = [(decisions.as_event(log), log) for log in self.logs]
        for event, log in told:
            anchor = self._anchor(log)
            if anchor is not None:
                self.events[anchor.span_id].append(event)
        self._read_messages()
        tools = self._read_tools()
        records = [e for event, log in told if (e := calls.from_log(event, log, self._anchor(log)))]
        approvals = self._approvals(told, tools)
        joiner = calls.Joiner(self.tree, self.shown, approvals)
        joined = joiner.join(tools, records)
        self.finals += joiner.finals
        approvals = decisions.without_repetition([*approvals, *_explained(joined, approvals)])
        found = tuple(calls.finish(joined, approvals, self.definitions, self.tree))
        answer, answer_span = self._answer()
        documents = (*self.documents, *_tool_documents(found))
        dialects = tuple(dict.fromkeys(s.dialect for s in self.spans if s.dialect))
        return Trace(
            trace_id=self.spans[0].trace_id if self.spans else (self.logs[0].trace_id if self.logs else ""),
            spans=self.spans,
            logs=self.logs,
            messages=self._messages(joined),
            tool_calls=found,
            tool_definitions=tuple(self.definitions.values()),
            documents=documents,
            answer_documents=self._answer_documents(documents, answer_span),
            approvals=tuple(approvals),
            answer=answer,
            answer_span_id=answer_span,
            answer_state=self._answer_state(answer),
            completeness=self._completeness(),
            dialects=dialects,
            capabilities=_capabilities(self.spans),
            case=case,
            generation=generation,
        )

    def _anchor(self, log: LogEvent) -> Span | None:
        """The span a log record belongs to; coding agents name one that is none of an agent's, or that never came."""
        span = self.tree.by_id.get(log.span_id) if log.span_id else None
        return span or (self.root if log.trace_id else None)

    def _events_of(self, span: Span) -> Sequence[SpanEvent]:
        logged = self.events.get(span.span_id)
        return [*span.events, *logged] if logged else span.events

    # --- messages ---------------------------------------------------------------------------------------------------

    def _read_messages(self) -> None:
        seen: dict[object, int] = {}
        agents: list[tuple[Span, list[Turn], History, list[Turn]]] = []
        others: list[tuple[Span, list[Turn], History, list[Turn]]] = []
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
            elif kind is not SpanKind.TOOL and self.events.get(span.span_id):
                inputs, outputs = self.reader.events(self.events[span.span_id])
                others.append((span, [], History(inputs), outputs))
        # An agent span repeats what its model calls said; only what they did not say is new.
        requested = {call for shown in self.shown for call in shown.turn.calls if call[0]}
        texts = {shown.turn.text.strip() for shown in self.shown if shown.turn.requests}
        for span, system, history, outputs in (*agents, *others):
            told = History([turn for t in history.turns if (turn := _news(t, requested, texts))])
            self._show(span, system, told, [turn for t in outputs if (turn := _news(t, requested, texts))], seen)
        if not any(s.turn.role == "user" for s in self.shown):
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
        events = self._events_of(span)
        if events and not (history.turns and outputs):
            event_inputs, event_outputs = self.reader.events(events)
            history = history if history.turns else History(event_inputs)
            outputs = outputs or event_outputs
        if outputs and history.turns and span.kind is SpanKind.LLM:
            asked = {call for t in outputs if t.text for call in t.calls if call[0]}
            reasons = [reason.canonical for reason in messages.finish_reasons(span)] if asked else []
            if reasons and "tool_call" not in reasons:  # calls asked and answered before were left on a span used again
                answered = {t.answers for t in history.turns if t.answers}
                known = {call for t in history.turns for call in t.calls if call[0] in answered}
                outputs = [turn for t in outputs if (turn := _news(t, known & asked))] if known & asked else outputs
        if span.dialect == "gemini_cli" and len(outputs) > 1:
            outputs = _one_answer(outputs)
        return self.reader.turns(span, families, "system_instructions", "system"), history, outputs

    def _show(
        self, span: Span, system: list[Turn], history: History, outputs: list[Turn], seen: dict[object, int]
    ) -> None:
        """Keep what was not shown before: a turn at a higher occurrence than any call has had it."""
        here = history.counts
        for turn in system:
            if not seen.get(turn.identity):
                seen[turn.identity] = 1
                self.shown.append(Shown(turn, span, span.start_ns))
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
            self.shown.append(Shown(turn, span, time))

    def _show_plain(self, seen: dict[object, int]) -> None:
        """Nobody sent the user's words: the plain input of the outermost agent or model span stands in, and its output."""
        heard = bool(self.shown)
        for kind in (SpanKind.AGENT, SpanKind.LLM):
            for span in self.spans:
                if span.kind is kind and not self.tree.inside(span, kind):
                    texts = content.first(span.attributes, "input"), content.first(span.attributes, "output")
                    inputs, outputs = (
                        [Turn(role, text)] if text and _plain(text) else []
                        for role, text in zip(("user", "assistant"), texts, strict=True)
                    )
                    self._show(span, [], History(inputs), [] if heard else outputs, seen)
            if any(s.turn.role == "user" for s in self.shown):
                return

    # --- tools and decisions ----------------------------------------------------------------------------------------

    def _read_tools(self) -> list[calls.Evidence]:
        tools = []
        names = {r.id: r.name for shown in self.shown for r in shown.turn.requests if r.id}
        for span in self.spans:
            if span.kind is not SpanKind.TOOL:
                continue
            evidence = calls.from_span(span, self._events_of(span), names)
            if calls.FINAL_ANSWER.fullmatch(evidence.name):
                arguments = evidence.arguments.value
                text = evidence.result.text or (calls.text_argument(arguments) if arguments else "")
                if text:
                    self.finals.append((text, span))
            elif not calls.stands_for_message(evidence):
                tools.append(evidence)
        return tools

    def _approvals(self, told: Sequence[tuple[SpanEvent, LogEvent]], tools: Sequence[calls.Evidence]) -> list[Approval]:
        found = [a for event, log in told if (a := decisions.from_event(event, log.span_id))]
        asked = [s.turn.requests for s in self.shown if s.turn.requests and s.turn.role == "assistant"]
        for span in self.spans:
            if not decisions.may_tell(span):
                continue
            found += [a for event in span.events if (a := decisions.from_event(event, span.span_id))]
            found += decisions.from_span(span, self.tree.parent(span))
            found += decisions.suspended(span)
            found += decisions.interrupted(span, span.events, asked)
            if self.tree.parents.get(span.span_id) not in self.tree.parents:  # the root, or right below it
                found += decisions.resumed(span, self._waiting(asked))
        for evidence in tools:
            found += decisions.deferred(evidence.span, evidence.call_id, evidence.name)
        calls_of = self.reader.approval_calls
        found += [
            replace(a, call_id=calls_of.get(a.call_id, a.call_id), time_ns=time, span_id=span.span_id)
            for a, (time, span) in self.structural.items()
        ]
        names = {r.id: r.name for requests in asked for r in requests if r.id}
        return decisions.without_repetition(
            [a if a.tool_name else replace(a, tool_name=names.get(a.call_id, "")) for a in found]
        )

    def _waiting(self, asked: Sequence[tuple[Request, ...]]) -> list[tuple[Request, ...]]:
        """The turns with calls that were history when the first model call began; all, when only one asks at all."""
        first = next((s for s in self.shown if s.turn.role == "assistant" and s.turn.requests), None)
        if first is None or first.time != first.span.start_ns:
            return list(asked) if len(asked) == 1 else []
        history = (s for s in self.shown if s.span is first.span and s.time == first.time and s.turn.requests)
        return [s.turn.requests for s in history]

    # --- the whole --------------------------------------------------------------------------------------------------

    def _messages(self, joined: Iterable[calls.Call]) -> tuple[Message, ...]:
        asked: dict[int, list[str]] = defaultdict(list)
        answered: dict[int, str] = {}
        for call in joined:
            if call.turn >= 0:
                asked[call.turn].append(call.key)
            if call.answer_turn >= 0:
                answered[call.answer_turn] = call.key
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

    def _answer_documents(self, documents: Sequence[Document], answer_span: str) -> tuple[Document, ...]:
        """The documents of the last retrieval, reranking or retrieving tool before the answer, of the agent that gave it."""
        answered = self.tree.by_id.get(answer_span)
        sources = [self.tree.by_id[span_id] for d in documents if (span_id := d.span_id) in self.tree.by_id]
        if answered is not None:
            agent = self.tree.owner(answered)
            before = [s for s in sources if s.start_ns <= answered.end_ns]
            sources = [s for s in before if agent is None or self.tree.owner(s) in (agent, None)] or before
        if not sources:
            return ()
        last = max(sources, key=lambda s: (s.end_ns, s.kind is SpanKind.RERANK)).span_id
        return tuple(d for d in documents if d.span_id == last)

    def _answer(self) -> tuple[str, str]:
        if self.finals:
            latest = sorted(self.finals, key=lambda f: f[1].end_ns)[-_FINALS:]
            outermost = [f for f in latest if not self._within_another(f[1])] or latest
            asked = [f for f in outermost if f[1].kind is not SpanKind.TOOL]  # where the model said it goes first
            text, span = (asked or outermost)[-1]
            return text, span.span_id
        outer = [s for s in self.spans if s.kind is SpanKind.AGENT and self.tree.inside(s, SpanKind.AGENT) is None]
        agent = max(outer, key=lambda s: s.end_ns, default=None)
        if agent is not None:
            families = self.reader.families(agent)
            outputs = self.reader.turns(agent, families, "output_messages", "assistant")
            said = messages.said_by(outputs, "assistant")
            if said is not None and not said.requests and messages.finish_kind(said.finish) != "paused":
                return said.text, agent.span_id
            plain = content.first(agent.attributes, "output")
            if plain and _plain(plain):
                return content.text_of(content.decode(plain)), agent.span_id
        for shown in reversed(self.shown):
            turn = shown.turn
            if agent is not None and self.tree.owner(shown.span) not in (agent, None):
                continue
            if messages.finish_kind(turn.finish) == "paused":  # it waits for somebody
                break
            if (turn.role == "tool" and turn.answers) or turn.requests:  # it ended before it answered
                break
            if turn.role == "assistant" and turn.text:
                return turn.text, shown.span.span_id
        return "", ""

    def _within_another(self, span: Span) -> bool:
        """Whether a span belongs to an agent that another one called."""
        owner = self.tree.owner(span)
        return owner is not None and self.tree.inside(owner, SpanKind.AGENT) is not None

    def _answer_state(self, answer: str) -> ContentState:
        if answer:
            return ContentState.PRESENT
        spoke = any(s.turn.role == "assistant" for s in self.shown)
        if spoke:  # what was said is known, and no answer was among it
            return ContentState.PRESENT
        keys = {"gen_ai.output.messages_ref", "gen_ai.input.messages_ref"}
        if any(keys & s.attributes.keys() for s in self.spans if messages.speaks(s)):
            return ContentState.EXTERNALISED
        return ContentState.ABSENT

    def _completeness(self) -> Completeness:
        if not any(not s.parent_span_id for s in self.spans):
            return Completeness.ROOT_MISSING
        if any(s.parent_span_id and s.parent_span_id not in self.tree.by_id for s in self.spans):
            return Completeness.ORPHANED
        if any(s.dropped_attributes for s in self.spans):
            return Completeness.TRUNCATED
        return Completeness.COMPLETE


def _news(turn: Turn, requested: Collection[tuple[str, str, str]], texts: Collection[str] = ()) -> Turn | None:
    """A turn without the calls that a model call has asked for before, in a turn with one of `texts`; None: all is known."""
    if not turn.requests:
        return turn
    fresh = tuple([r for r, call in zip(turn.requests, turn.calls, strict=True) if call not in requested])
    if len(fresh) == len(turn.requests):
        return turn
    text = "" if turn.text.strip() in texts else turn.text
    if not fresh and not text and not turn.approvals:
        return None
    return Turn(turn.role, text, fresh, finish=turn.finish, approvals=turn.approvals)


def _one_answer(turns: list[Turn]) -> list[Turn]:
    """Gemini CLI shows the pieces of a streamed answer as messages."""
    texts = [t.text for t in turns if t.role == "assistant" and not t.requests and t.text]
    if len(texts) < 2:
        return turns
    rest = [t for t in turns if t.role != "assistant" or t.requests]
    return [*rest, Turn("assistant", "".join(texts), finish=turns[-1].finish)]


def _plain(text: str | None) -> bool:
    """Whether text may be what somebody said."""
    if not text or text in content.REDACTED or isinstance(content.decode(text), dict | list):
        return False
    return not (text.startswith("[{'id'") and messages.INTERRUPTED.search(text))


def _tool_documents(found: Iterable[ToolCall]) -> Iterator[Document]:
    """The passages in the results of tools that retrieve."""
    for call in found:
        if call.executed and call.result[:1] in ("[", "{"):
            yield from content.tool_documents(content.decode(call.result), call.anchor)


def _explained(joined: Iterable[calls.Call], known: Sequence[Approval]) -> Iterable[Approval]:
    """Denials that only a text tells of, or the structure of an answer; where nothing better is known."""
    decided = {a.call_id for a in known if a.call_id and a.outcome != "require_approval"}
    for call in joined:
        if call.call_id in decided:
            continue
        texts = [(e.result.text or e.error, e.span.end_ns, e.span.span_id) for e in call.spans]
        if call.answer is not None:
            if call.answer.denied:
                yield Approval(
                    "deny",
                    call.answer_time,
                    mechanism="human",
                    call_id=call.call_id,
                    tool_name=call.name,
                    evidence="framework_structure",
                )
                continue
            texts.append((call.answer.text, call.answer_time, ""))
        for text, time, span_id in texts:
            if signature := decisions.explained(text):
                yield Approval(
                    signature.outcome,
                    time,
                    mechanism=signature.mechanism,
                    call_id=call.call_id,
                    tool_name=call.name,
                    evidence="text_match",
                    span_id=span_id,
                )


def _capabilities(spans: Iterable[Span]) -> Mapping[str, str]:
    """The most that any sender of the trace can show."""
    rank = {"no": 0, "opt_in": 1, "yes": 2}
    merged: dict[str, str] = {}
    for dialect, scope in dict.fromkeys((s.dialect, s.scope) for s in spans if s.dialect):
        for fact, shown in capabilities(dialect, scope).items():
            if rank[shown] >= rank[merged.get(fact, "no")]:
                merged[fact] = shown
    return merged
