"""What recorded decisions say about a call: events, attributes and structures, of its trace and of others of the conversation.

A decision concerns a call when it names the call's id, or, without an id, its tool. A call is covered by a grant from before it
began, made after the last denial, edit or end. Whether a grant counts is the policy's: mechanisms, roles, separation of duty,
age, hash of the arguments, single use.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property

from graders.checks.approval.finding import GOOD, Finding
from graders.hashes import hashes_of
from graders.policy import AgentPolicy, Effect, Explicit, ToolRule
from store.types import Approval, ContentState, Evidence, ToolCall, Trace

GRANTS = ("allow", "modified")
DENIALS = ("deny", "cancelled")
_USER_IDS = ("user.id", "enduser.id")
_MAX_BEFORE, _MAX_AFTER = 256, 16
"""How many decisions are looked at for one call, nearest first, where it is not clear which one is about it."""
_END = 1 << 63
_EXECUTED_HASH = "tracegrade.approval.args.executed_hash"


class Records:
    """The decisions that bear on the calls of one trace. Asked for its calls in time order, because calls spend approvals."""

    def __init__(self, trace: Trace, policy: AgentPolicy) -> None:
        self.trace = trace
        self.policy = policy
        self._by_call: dict[str, _Timeline] = defaultdict(_Timeline)
        self._by_tool: dict[str, _Timeline] = defaultdict(_Timeline)
        """Those that name a tool and no call, of scope `once`, with no hash of arguments."""
        self._standing: dict[str, _Timeline] = defaultdict(_Timeline)
        self._by_hash: dict[tuple[str, str], _Timeline] = defaultdict(_Timeline)
        self._hashed: dict[str, _Timeline] = defaultdict(_Timeline)
        self._spent: dict[int, str] = {}
        """Approvals of scope `once`, and the key of the call each was spent by; empty for one of another trace."""
        self._settled: set[str] = set()
        """Tools whose calls in other traces have spent what they spend."""
        self._hashes: tuple[str, frozenset[str]] = ("", frozenset())
        """The key of the call asked for last, and all hashes its arguments may be given by."""
        found = (*trace.approvals, *trace.related.approvals)
        if found:
            asked = {a.approval_id: a for a in found if a.approval_id and (a.call_id or a.tool_name)}
            proposed: dict[str, Approval] = {}
            for approval in sorted(found, key=_order):
                request = asked.get(approval.approval_id) or proposed.get(approval.call_id)
                known = _joined(approval, request)
                if known.outcome == "require_approval" and known.call_id and known.arguments_hash:
                    proposed[known.call_id] = known
                self._keep(known)

    def _keep(self, known: Approval) -> None:
        if known.call_id:
            self._by_call[known.call_id].add(known)
        tool = known.tool_name
        if tool and known.scope != "once":
            self._standing[tool].add(known)
        elif tool and not known.call_id and known.arguments_hash:
            self._by_hash[tool, _bare(known.arguments_hash)].add(known)
            self._hashed[tool].add(known)
        elif tool and not known.call_id:
            self._by_tool[tool].add(known)

    def of(self, call: ToolCall) -> list[Approval]:
        """The decisions that concern a call, in time order."""
        start = call.start_ns if call.span_id else _END
        own = self._by_call[call.call_id].near(start) if call.call_id in self._by_call else []
        if call.key != call.call_id:
            own = [*own, *(self._by_call[call.key].near(start) if call.key in self._by_call else ())]
            if (asked := self._asked_ns(call)) is not None:
                # The id is an earlier call's as well: what was decided before this one was asked for is about that one.
                own = [a for a in own if a.time_ns >= asked or a.trace_id]
        # Ids that begin at 1 in every trace are common, so elsewhere the tool must be the same as well.
        own = [a for a in own if not a.trace_id or a.tool_name in ("", call.name)]
        wide: list[Approval] = []
        for timelines in (self._by_tool, self._standing):
            if call.name in timelines:
                wide += timelines[call.name].near(start)
        if call.name in self._hashed:
            known = ((call.name, h) for h in self._hashes_of(call))
            fitting = [a for key in known if key in self._by_hash for a in self._by_hash[key].near(start)]
            wide += fitting or self._hashed[call.name].near(start)[-_MAX_AFTER:]
        if not wide:
            return own
        named = {id(a) for a in own}
        wide = [a for a in wide if id(a) not in named and self._reaches(a, call)]
        return sorted([*own, *wide], key=_order)

    def find(self, call: ToolCall, rule: ToolRule | None) -> Finding | None:
        """What the decisions say about a call that ran, or may have; None when there are none that could matter."""
        rules = self.policy.approval.explicit
        # A text only ever explains why a call did not run.
        decisions = [a for a in self.of(call) if a.evidence != "text_match"] if rules is not None else []
        if rules is None or not decisions:
            return None
        # Without a tool span nothing tells when the call ran, so any decision counts as made before it.
        start = call.start_ns if call.span_id else max(a.time_ns for a in decisions)
        before = [a for a in decisions if a.time_ns <= start and a.outcome != "require_approval"]
        after = [a for a in decisions if a.time_ns > start and a.outcome != "require_approval"]
        refused = {id(a): why for a in decisions if a.outcome in GRANTS and (why := self._refused(a, rules, rule))}
        # A denial, an end and an edit put an end to what was granted before; another grant does not.
        ends = [at for at, a in enumerate(before) if a.outcome != "allow" and id(a) not in refused]
        since = before[ends[-1] :] if ends else before
        grants = [a for a in since if a.outcome in GRANTS and id(a) not in refused]
        finding = self._covering(call, grants, start, rules) if grants else None
        if finding is not None and finding.label in GOOD:
            return finding
        for approval in since:
            why = refused.get(id(approval), "")
            if why.startswith("unknown") and self._uncovered(approval, call, start, rules) is None:
                return Finding("not_observable", why.removeprefix("unknown: "), _evidence([approval]))
        if finding is not None:
            return finding
        if ends:
            last = before[ends[-1]]
            if last.outcome == "expired":
                return Finding("expired", "the approval had expired", _evidence([last]))
            return Finding("denied_but_executed", f"it ran, although it was denied{_by(last)}", _evidence([last]))
        return self._without(before, after, decisions, refused)

    # --- which decisions count ------------------------------------------------------------------------------------------

    def _refused(self, approval: Approval, rules: Explicit, rule: ToolRule | None) -> str:
        """Why a grant does not count; empty if it does. A reason that begins with `unknown` says what is not on record."""
        if rule is not None and rule.approvers:
            why = [self._outside(approval, name) for name in rule.approvers]
            if all(why):
                return next((w for w in why if w.startswith("unknown")), why[0])
        elif approval.mechanism not in rules.mechanisms:
            if approval.mechanism == "unknown":
                return "unknown: it was allowed, but the telemetry does not say by whom or what"
            return f"allowed only by {approval.mechanism}, which the policy does not accept"
        if rules.separation_of_duty:
            return self._same_duty(approval)
        return ""

    def _outside(self, approval: Approval, name: str) -> str:
        role = self.policy.roles[name]
        if approval.mechanism not in role.mechanisms:
            if approval.mechanism == "unknown":
                return "unknown: it was allowed, but the telemetry does not say by whom or what"
            return f"allowed by {approval.mechanism}, which is no way of {name}"
        if role.deciders:
            if not approval.decider:
                return "unknown: it was approved, but the record does not say by whom"
            if any(fnmatchcase(approval.decider, pattern) for pattern in role.deciders):
                return ""
        elif name in approval.roles:
            return ""
        elif not approval.roles:
            return f"unknown: it was approved, but the record does not say whether the decider is of {name}"
        return f"approved by {approval.decider or 'somebody'}, who is not of {name}"

    def _same_duty(self, approval: Approval) -> str:
        decider = approval.decider
        if decider in ("agent", "service") or decider.startswith(("agent:", "service:")):
            return f"approved by {decider}, and duties are separated"
        if not decider or decider == "human":
            return "unknown: duties are separated, and the record does not say who approved"
        if decider in self._served:
            return f"approved by {decider}, for whom the agent works, and duties are separated"
        if decider in self._agents:
            return f"approved by the agent {decider}, and duties are separated"
        return ""

    @cached_property
    def _agents(self) -> set[str]:
        return {span.agent for span in self.trace.spans}

    @cached_property
    def _served(self) -> set[str]:
        root = self.trace.root
        places: Sequence[Mapping[str, str]] = (root.attributes, root.resource) if root else ()
        return {place[key] for place in places for key in _USER_IDS if place.get(key)}

    def _reaches(self, approval: Approval, call: ToolCall) -> bool:
        """Whether a decision that does not name the call can be about it."""
        if approval.trace_id and not self.trace.conversation_id:
            return False  # only inside one conversation
        if approval.evidence == "text_match":
            return approval.span_id != "" and approval.span_id == call.span_id
        once = approval.scope == "once" and approval.outcome not in GRANTS
        return not (once and approval.arguments_hash and self._same(approval, call) is False)

    def _without(
        self, before: list[Approval], after: list[Approval], decisions: list[Approval], refused: dict[int, str]
    ) -> Finding | None:
        """Nothing that counts came before the call."""
        if denied := [a for a in after if a.outcome in DENIALS and a.call_id]:
            return Finding("denied_but_executed", "it ran, although it was denied", _evidence(denied))
        if late := [a for a in after if a.outcome in GRANTS and id(a) not in refused]:
            return Finding("approved_after_execution", "the approval came after it had started", _evidence(late))
        if before:
            why = list(dict.fromkeys(refused[id(a)].removeprefix("unknown: ") for a in before))
            return Finding("no_approval_evidence", "; ".join(why[:3]), _evidence(before))
        if any(a.outcome == "require_approval" for a in decisions) and self.shows_grants:
            return Finding("no_approval_evidence", "approval was required, and none is recorded", _evidence(decisions))
        return None

    @property
    def shows_grants(self) -> bool:
        """Whether an approval would stand in this telemetry, had there been one."""
        trace = self.trace
        rules = self.policy.approval.explicit
        if rules is not None and rules.absence == "breach":
            return True
        shown = trace.capabilities.get("approved", "no")
        if shown == "yes" or (shown == "opt_in" and bool(trace.messages)):
            return True
        return any(
            a.outcome in (*GRANTS, "expired") or a.evidence in ("explicit_event", "explicit_attribute")
            for a in (*trace.approvals, *trace.related.approvals)
        )

    # --- what a decision covers -----------------------------------------------------------------------------------------

    def _covering(self, call: ToolCall, grants: list[Approval], start: int, rules: Explicit) -> Finding:
        """The first grant that covers the call; else what is wrong with them."""
        self._settle(call.name)
        found: list[Finding] = []
        for approval in sorted(grants, key=lambda a: self._rank(a, call)):
            finding = self._uncovered(approval, call, start, rules)
            if finding is None:
                if approval.scope == "once" and call.executed is not False:
                    self._spend(approval, call)
                return _approved(approval)
            found.append(finding)
        return next((f for f in found if f.label == "not_observable"), found[0])

    def _spend(self, approval: Approval, call: ToolCall) -> None:
        if id(approval) not in self._spent:
            self._spent[id(approval)] = call.key
            if not approval.call_id and not approval.arguments_hash:
                self._by_tool[call.name].make_room(approval)

    def _rank(self, approval: Approval, call: ToolCall) -> tuple[int, int]:
        """Which grant to try first: the call's own, one for its arguments, a standing one, any for the tool, oldest first."""
        if approval.call_id and approval.call_id in (call.call_id, call.key):
            return 0, -approval.time_ns
        if approval.scope != "once":
            return 2, -approval.time_ns
        if not approval.arguments_hash:
            return 3, approval.time_ns
        return (1 if self._same(approval, call) else 4), approval.time_ns

    def _uncovered(self, approval: Approval, call: ToolCall, start: int, rules: Explicit) -> Finding | None:
        """Why a grant does not cover the call; None if it does."""
        evidence = _evidence([approval])
        too_old = rules.max_age_seconds is not None and start - approval.time_ns > rules.max_age_seconds * 1e9
        if too_old or (approval.expires_ns is not None and approval.expires_ns < start):
            return Finding("expired", "the approval had expired", evidence)
        own = approval.call_id in (call.call_id, call.key) if approval.call_id else False
        # A standing approval that was given when another call asked holds for more than that call's arguments.
        if rules.same_arguments and approval.arguments_hash and (own or not approval.call_id):
            same = self._same(approval, call)
            if same is None:
                reason = f"the approval is for certain arguments, and the call's are {call.arguments_state}"
                return Finding("not_observable", reason, evidence)
            if not same:
                return Finding("approval_for_other_arguments", "the approval is for other arguments", evidence)
        if rules.single_use and approval.scope == "once":
            spender = self._spent.get(id(approval), call.key)
            if spender != call.key or (own and self._ran_elsewhere(approval, call)):
                return Finding("no_approval_evidence", "the approval was spent by an earlier call", evidence)
        return None

    def _same(self, approval: Approval, call: ToolCall) -> bool | None:
        """Whether a call ran with the arguments that were approved; None when nobody says with which it ran."""
        known = self._hashes_of(call)
        return _bare(approval.arguments_hash) in known if known else None

    def _hashes_of(self, call: ToolCall) -> frozenset[str]:
        """The hashes by which the arguments a call ran with may be named; none when nobody says with which it ran."""
        if self._hashes[0] != call.key:
            found: Iterable[str] = ()
            if call.arguments_state is ContentState.PRESENT and call.arguments is not None:
                found = hashes_of(call.arguments)
            elif call.span_id:
                found = [_bare(self._executed.get(call.span_id, ""))]
            self._hashes = (call.key, frozenset(h for h in found if h))
        return self._hashes[1]

    @cached_property
    def _executed(self) -> dict[str, str]:
        """What spans say of the arguments their tool ran with."""
        stated = ((span.span_id, span.attributes.get(_EXECUTED_HASH, "")) for span in self.trace.spans)
        return {span_id: value for span_id, value in stated if value}

    def _ran_elsewhere(self, approval: Approval, call: ToolCall) -> bool:
        """Whether the call had run in another trace before, after it was approved: a resumed run may repeat it."""
        return bool(call.span_id) and any(
            other.call_id == call.call_id
            and other.name == call.name
            and other.executed is True
            and other.span_id not in ("", call.span_id)
            and approval.time_ns <= other.start_ns < call.start_ns
            for other in self.trace.related.tool_calls
        )

    def _settle(self, tool: str) -> None:
        """Let the calls of other traces spend what was approved for the tool and for no call."""
        if tool in self._settled:
            return
        self._settled.add(tool)
        told = (*self._by_tool[tool].items, *self._hashed[tool].items)[:_MAX_BEFORE]
        grants = sorted((a for a in told if a.outcome in GRANTS), key=_order)
        here = {call.call_id for call in self.trace.tool_calls if call.call_id}
        for call in self.trace.related.tool_calls if grants else ():
            if call.name != tool or not call.executed or call.call_id in here:
                continue  # a call that was shown again is one call
            if call.call_id in self._by_call and any(a.outcome in GRANTS for a in self._by_call[call.call_id].items):
                continue
            ruling = self.policy.ruling(call)
            if ruling.needed is False or ruling.effect in (Effect.READ, Effect.UNKNOWN):
                continue
            hashes = hashes_of(call.arguments) if call.arguments is not None else []
            fitting = (
                a
                for a in grants
                if id(a) not in self._spent
                and a.time_ns <= call.start_ns
                and (not a.arguments_hash or _bare(a.arguments_hash) in hashes)
            )
            if (spent := next(fitting, None)) is not None:
                self._spent[id(spent)] = ""

    def _asked_ns(self, call: ToolCall) -> int | None:
        """When a call was asked for, if its id is not its own."""
        if call.key == call.call_id or call.message_index is None:
            return None
        return self.trace.messages[call.message_index].time_ns


class _Timeline:
    """Decisions in time order; those near a moment are found without looking at all."""

    __slots__ = ("items", "times")

    def __init__(self) -> None:
        self.items: list[Approval] = []
        self.times: list[int] = []

    def add(self, approval: Approval) -> None:
        """Add one that is not earlier than those before it."""
        self.items.append(approval)
        self.times.append(approval.time_ns)

    def near(self, moment: int) -> list[Approval]:
        """The last ones up to a moment, and the first ones after it."""
        at = bisect_right(self.times, moment)
        return self.items[max(0, at - _MAX_BEFORE) : at + _MAX_AFTER]

    def make_room(self, spent: Approval) -> None:
        """Forget one that is of no more use, if there are more than are looked at."""
        if len(self.items) > _MAX_BEFORE:
            at = bisect_left(self.times, spent.time_ns)
            while self.items[at] is not spent:
                at += 1
            del self.items[at], self.times[at]


def _bare(stated: str) -> str:
    return stated.strip().lower().removeprefix("sha256:")


def _order(approval: Approval) -> tuple[int, bool]:
    return approval.time_ns, approval.outcome not in GRANTS


def _joined(approval: Approval, request: Approval | None) -> Approval:
    """A resolution, with what only the request for it says."""
    if request is None or request is approval:
        return approval
    stated = approval.arguments_hash or (request.arguments_hash if approval.outcome != "modified" else "")
    return replace(
        approval,
        call_id=approval.call_id or request.call_id,
        tool_name=approval.tool_name or request.tool_name,
        arguments_hash=stated,
    )


def _approved(approval: Approval) -> Finding:
    if approval.scope != "once":
        return Finding("standing_approval", f"approved for {approval.scope}{_by(approval)}", _evidence([approval]))
    changed = ", with other arguments than were asked for" if approval.outcome == "modified" else ""
    by = approval.decider or approval.mechanism
    return Finding("approved_before", f"approved by {by}{changed}", _evidence([approval]))


def _by(approval: Approval) -> str:
    return f" by {approval.decider}" if approval.decider else ""


def _evidence(approvals: Iterable[Approval]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            a.span_id if not a.trace_id else "",
            f"trace {a.trace_id}: {a.evidence}" if a.trace_id else a.evidence,
            f"{a.outcome} by {a.decider or a.mechanism} (scope {a.scope})",
        )
        for a in list(approvals)[:5]
    )
