"""Grades a batch of traces: rows in, rows out, and nothing of the store in between.

Promises: `grade_batch` is pure, so it may run in another process (`graders.isolation`). Whatever a grader does, the trace
gets an error grade for that grader and the grades of all others; a trace that cannot be assembled gets one grade that says
so. What other traces of a conversation hold is given to each (`Trace.related`), that of traces in the same batch included,
and the batch says which traces graded before have to be graded again because of it.

**Related.** A decision or a call of another trace is news to a trace graded before if it bears on a call of that trace and
nothing stored says the same, or says it as early:

- a decision about the call's id;
- a decision without a call id, about a tool the trace used, made before it was used last;
- a call that ran, with the id or with the tool and arguments of one that did not run there.

What a trace holds follows from its own spans alone, so grading it again brings no news: this comes to an end.

**Whose.** A conversation id is anybody's to claim, and many count from 1. So traces are of one conversation only if they have
the same tenant, as the collector stamped it, the same arm, and no other run: a replay is not approved by what it replays. What
another service sends counts only if it names the call, or the approval, by an id that nobody guesses.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from graders import decisions
from graders.assembler import assemble
from graders.base import Grader, GraderSets, run_graders
from store import rows
from store.types import (
    Approval,
    Case,
    Completeness,
    Grade,
    Home,
    Outcome,
    Related,
    Severity,
    Sibling,
    SpanEvent,
    ToolCall,
    Trace,
)

ASSEMBLE = "worker/assemble"
KEEP = "worker/keep"
MAX_RELATED = 1000
"""Decisions, and calls, of other traces that a trace is given: the ones nearest to it in time."""
_MAX_LOOKED_AT = 4 * MAX_RELATED
_MAX_TEXT = 2000
_T = TypeVar("_T")


def loose(conversation: str) -> str:
    """Where the store keeps decisions of a conversation that name no trace."""
    return f"conversation {conversation}"


@dataclass(frozen=True, slots=True)
class Item:
    """One trace that is to be graded."""

    trace_id: str
    generation: int
    """The one its grades will have."""
    conversation_id: str = ""
    truncated: bool = False
    """There is more of it than was read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Traces to grade together, as the store gave them."""

    items: Sequence[Item]
    spans: bytes
    logs: bytes
    cases: Mapping[str, Case] = field(default_factory=dict)
    siblings: Mapping[str, Sequence[Sibling]] = field(default_factory=dict)
    """Conversation → its traces that were graded before, those of this batch included."""
    approvals: bytes = b""
    calls: bytes = b""
    """What those hold."""
    loose: bytes = b""
    """Decisions logged without a trace, under `loose(conversation)`."""
    only: frozenset[str] = frozenset()
    """Names of the graders to run; empty for all."""


@dataclass(slots=True)
class Graded:
    """What is to be stored."""

    tables: dict[str, bytes]
    """Columns by table; see `store.rows.COLUMNS`."""
    completeness: list[Completeness]
    """Of each item."""
    reopen: list[str] = field(default_factory=list)
    """Traces graded before to which this batch brings news."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Traces that could not be assembled, and why."""


class Watch:
    """Sees what a batch is about to do, and may end it. This one lets everything be."""

    def on(self, what: str, trace_id: str = "") -> AbstractContextManager[object]:
        """`what` is a grader's name, or `ASSEMBLE`. Raises to prevent it."""
        return nullcontext()


def grade_batch(batch: Batch, graders: GraderSets, watch: Watch | None = None) -> Graded:
    """Grade every trace of the batch."""
    watch = watch or Watch()
    spans, logs = rows.spans(batch.spans), rows.events(batch.logs)
    out: dict[str, list[Sequence[Any]]] = {name: [] for name in rows.COLUMNS}
    graded = Graded({}, [])
    traces: dict[str, Trace] = {}
    for item in batch.items:
        own = spans.pop(item.trace_id, [])
        try:
            with watch.on(ASSEMBLE, item.trace_id):
                trace = assemble(own, logs.get(item.trace_id, ()), batch.cases.get(item.trace_id), item.generation)
                conversation = trace.conversation_id or item.conversation_id
                completeness = Completeness.TRUNCATED if item.truncated else trace.completeness
                traces[item.trace_id] = replace(trace, conversation_id=conversation, completeness=completeness)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = f"the trace cannot be assembled: {printable(error)}"
            graded.failed.append((item.trace_id, reason))
            span_id = own[0].span_id if own else ""
            out["grades"].append(rows.grade_row(error_grade(item.trace_id, span_id, ASSEMBLE, reason, item.generation)))
    others = _Others(batch, traces)
    for item in batch.items:
        trace_ = traces.pop(item.trace_id, None)
        graded.completeness.append(trace_.completeness if trace_ else Completeness.COMPLETE)
        if trace_ is not None:
            _grade(others.with_related(trace_), item, graders, watch, batch.only, out)
    graded.reopen = others.with_news()
    graded.tables = {name: rows.columns(table) for name, table in out.items() if table}
    return graded


def _grade(
    trace: Trace,
    item: Item,
    graders: GraderSets,
    watch: Watch,
    only: frozenset[str],
    out: dict[str, list[Sequence[Any]]],
) -> None:
    chosen: Sequence[Grader] = graders.of(trace)
    if only:
        chosen = [grader for grader in chosen if grader.grader_name in only]
    found = run_graders(chosen, trace, lambda grader: watch.on(grader.grader_name, trace.trace_id))
    states = {g.subject: g.label for g in found if g.grader == "approval/boundary" and g.subject}
    out["grades"] += map(rows.grade_row, found)
    if only and "approval/boundary" not in only:
        return  # what the calls are said to be stays as it is
    trace_id, generation = item.trace_id, item.generation
    out["tool_calls"] += (
        rows.call_row(trace_id, generation, call, states.get(call.key, "")) for call in trace.tool_calls
    )
    out["approvals"] += rows.approval_rows(trace_id, trace.conversation_id, generation, trace.approvals)
    if trace.conversation_id and (trace.tool_calls or trace.approvals):
        out["conversations"].append((trace.conversation_id, trace_id, *home_of(trace)))


# --- conversations --------------------------------------------------------------------------------------------------------

_Decided = tuple[str, str, str]


def _decided(approval: Approval) -> _Decided:
    """What makes two records the same decision."""
    return (approval.call_id or f"\n{approval.tool_name}", approval.outcome, approval.arguments_hash)


def _same_call(call: ToolCall) -> tuple[str, ...]:
    """By what a call is known again elsewhere: its id, and its tool with its arguments."""
    said = f"\n{call.name}\n{call.arguments_text}"
    return (call.call_id, said) if call.call_id else (said,)


def home_of(trace: Trace) -> Home:
    """Whose a trace is, by its root; the tenant stands on any agent's span as well."""
    root = trace.root
    if root is None:
        return Home()
    tenant = root.resource.get(_TENANT) or next(
        (s.resource[_TENANT] for s in trace.spans if s.resource.get(_TENANT)), ""
    )
    return Home(tenant, root.arm, root.run_id, root.service)


def _home_of_event(event: SpanEvent) -> Home:
    """Whose a decision without a trace is: the store put that among its attributes (schema/0002_logs.sql)."""
    said = event.attributes
    return Home(said.get(_TENANT, ""), said.get("tracegrade.arm", ""), "", said.get("service.name", ""))


def _of_one(a: Home, b: Home) -> bool:
    """Whether two traces that claim one conversation may be of one; an approval hours later may know of no run."""
    return a.tenant == b.tenant and a.arm == b.arm and (a.run == b.run or not a.run or not b.run)


def _bears_on(home: Home, other: Home, *ids: str) -> bool:
    """Whether what another trace holds under these ids may bear on a trace."""
    if not _of_one(home, other):
        return False
    known = home.service == other.service or not home.service or not other.service
    return known or any(map(_unguessable, ids))


@lru_cache(maxsize=4096)
def _unguessable(text: str) -> bool:
    """Whether an id was drawn at random, from more than anybody tries: digits and letters take turns in it, and it is long."""
    return any(len(run) >= 20 and len(_KINDS.findall(run)) >= 9 for run in _RUNS.findall(_MARKS.sub("", text[:200])))


_TENANT = "tracegrade.tenant"
_MARKS = re.compile(r"[-_]+")
_RUNS = re.compile(r"[0-9A-Za-z]+")
_KINDS = re.compile(r"[0-9]+|[a-z]+|[A-Z]+")


class _Others:
    """What the traces of each conversation hold: those of this batch, and those stored before."""

    def __init__(self, batch: Batch, fresh: Mapping[str, Trace]) -> None:
        self._fresh: dict[str, list[Trace]] = defaultdict(list)
        for trace in fresh.values():
            if trace.conversation_id:
                self._fresh[trace.conversation_id].append(trace)
        self._siblings = batch.siblings
        self._approvals = rows.approvals(batch.approvals)
        self._calls = rows.calls(batch.calls)
        self._loose = rows.events(batch.loose)
        self._of_batch = {item.trace_id for item in batch.items}
        self._gathered: dict[str, tuple[_Line[Approval], _Line[ToolCall]]] = {}

    def with_related(self, trace: Trace) -> Trace:
        """The trace, with what the others of its conversation hold."""
        if not trace.conversation_id:
            return trace
        if trace.conversation_id not in self._gathered:
            self._gathered[trace.conversation_id] = self._gather(trace.conversation_id)
        approvals, calls = self._gathered[trace.conversation_id]
        decided = approvals.near(trace, lambda a: (a.call_id, a.approval_id))
        called = calls.near(trace, lambda c: (c.call_id,))
        return replace(trace, related=Related(decided, called)) if decided or called else trace

    def _gather(self, conversation: str) -> tuple[_Line[Approval], _Line[ToolCall]]:
        approvals: list[_Placed[Approval]] = []
        calls: list[_Placed[ToolCall]] = []
        for log in self._loose.get(loose(conversation), ()):
            event = decisions.as_event(log)
            if (approval := decisions.from_event(event, "")) is not None:
                approvals.append(_Placed(approval.time_ns, "", _home_of_event(event), approval))
        for trace in self._fresh[conversation]:
            place = trace.trace_id, home_of(trace)
            approvals += (_Placed(a.time_ns, *place, replace(a, trace_id=trace.trace_id)) for a in trace.approvals)
            calls += (_Placed(call.start_ns, *place, call) for call in trace.tool_calls)
        for trace_id, home in self._siblings.get(conversation, ()):
            if trace_id not in self._of_batch:
                approvals += (_Placed(a.time_ns, trace_id, home, a) for a in self._approvals.get(trace_id, ()))
                calls += (_Placed(c.start_ns, trace_id, home, c) for c in self._calls.get(trace_id, ()))
        return _Line(approvals), _Line(calls)

    def with_news(self) -> list[str]:
        """The traces stored before, and not in this batch, on which something bears that no stored row says yet."""
        found: list[str] = []
        for conversation, siblings in self._siblings.items():
            # Of other runs and services as well: what does not bear on a trace after all changes nothing in it.
            known: dict[tuple[str, str], list[str]] = defaultdict(list)
            for trace_id, home in siblings:
                known[home.tenant, home.arm].append(trace_id)
            fresh: dict[tuple[str, str], list[Trace]] = defaultdict(list)
            for trace in self._fresh.get(conversation, ()):
                home = home_of(trace)
                fresh[home.tenant, home.arm].append(trace)
            for place in known.keys() & fresh.keys():
                found += self._bears(known[place], fresh[place])
        return found

    def _bears(self, known: Sequence[str], fresh: Sequence[Trace]) -> Iterable[str]:
        decided: dict[_Decided, int] = {}
        for approval in (a for trace_id in known for a in self._approvals.get(trace_id, ())):
            key = _decided(approval)
            decided[key] = min(approval.time_ns, decided.get(key, approval.time_ns))
        ran = {key for t in known for c in self._calls.get(t, ()) if c.executed for key in _same_call(c)}
        about_calls: set[str] = set()
        about_tools: dict[str, int] = {}
        for approval in (a for trace in fresh for a in trace.approvals):
            if decided.get(_decided(approval), approval.time_ns + 1) <= approval.time_ns:
                continue  # said before: each turn may repeat the history
            if approval.call_id:
                about_calls.add(approval.call_id)
            elif approval.tool_name:
                earlier = about_tools.get(approval.tool_name, approval.time_ns)
                about_tools[approval.tool_name] = min(earlier, approval.time_ns)
        run = {key for trace in fresh for c in trace.tool_calls if c.executed for key in _same_call(c)} - ran
        if not (about_calls or about_tools or run):
            return
        for trace_id in known:
            if trace_id not in self._of_batch and any(
                (call.call_id and call.call_id in about_calls)
                or about_tools.get(call.name, call.start_ns + 1) <= call.start_ns
                or (not call.executed and not run.isdisjoint(_same_call(call)))
                for call in self._calls.get(trace_id, ())
            ):
                yield trace_id


class _Placed(NamedTuple, Generic[_T]):
    """A decision or a call, where it stands."""

    time_ns: int
    trace_id: str
    """Empty for a decision without a trace."""
    home: Home
    what: _T


class _Line(Generic[_T]):
    """What the traces of a conversation hold, in time order."""

    def __init__(self, placed: list[_Placed[_T]]) -> None:
        self._placed = sorted(placed, key=lambda p: p.time_ns)
        self._times = [p.time_ns for p in self._placed]

    def near(self, trace: Trace, ids: Callable[[_T], tuple[str, ...]]) -> tuple[_T, ...]:
        """What bears on a trace, in time order: at most `MAX_RELATED`, those nearest to it in time."""
        root = trace.root
        now, home = root.start_ns if root else 0, home_of(trace)
        placed, times = self._placed, self._times
        after = bisect_left(times, now)
        before = after - 1
        kept: list[_Placed[_T]] = []
        # Outwards, and not endlessly: most of what is there may be of the trace itself, or of strangers.
        for _ in range(min(len(placed), _MAX_LOOKED_AT)):
            if after >= len(placed) or (before >= 0 and now - times[before] <= times[after] - now):
                one, before = placed[before], before - 1
            else:
                one, after = placed[after], after + 1
            if one.trace_id != trace.trace_id and _bears_on(home, one.home, *ids(one.what)):
                kept.append(one)
                if len(kept) == MAX_RELATED:
                    break
        return tuple(p.what for p in sorted(kept, key=lambda p: p.time_ns))


# --- errors ---------------------------------------------------------------------------------------------------------------


def printable(error: BaseException) -> str:
    """What an error says, in characters that can be stored."""
    return f"{type(error).__name__}: {error}"[:_MAX_TEXT].encode(errors="backslashreplace").decode()


def error_grade(trace_id: str, span_id: str, grader: str, reason: str, generation: int) -> Grade:
    """A grade that says that there is none."""
    return Grade(
        trace_id=trace_id,
        span_id=span_id,
        grader=grader,
        grader_version="1",
        config_digest="",
        outcome=Outcome.ERROR,
        reason=reason,
        severity=Severity.INFO,
        generation=generation,
    )
