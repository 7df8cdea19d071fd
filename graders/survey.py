"""What traffic shows of an agent's tools, and a policy drafted from it.

A draft is a start for somebody who knows the tools: nothing in traffic says what a call does to the world, so every effect is a
guess and is marked as one, with its reason (`graders.effects`). Names and values come from telemetry and are untrusted: they
are written with escapes, and a draft always loads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from graders import content
from graders.effects import guess
from graders.policy import AgentPolicy, Effect
from store.types import ToolCall, Trace

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,120}")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
_UNSHOWN = re.compile(r"[^ -~\u00a1-\u2027\u2030-\ud7ff\ue000-\ufffc]")
_MAGIC = re.compile(r"[*?\[]")
_MAX_TOOLS = 2000
_MAX_ARGUMENTS = 50


@dataclass(slots=True)
class Seen:
    """One tool, as traffic shows it."""

    calls: int = 0
    errors: int = 0
    hints: dict[str, bool] = field(default_factory=dict)
    arguments: set[str] = field(default_factory=set)
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and greatest value of each argument that was a number."""
    asked: int = 0
    """Calls right after the agent asked its user something and got an answer."""


@dataclass(slots=True)
class Survey:
    """What a number of traces show; add them one by one."""

    traces: int = 0
    agents: Counter[str] = field(default_factory=Counter)
    tools: dict[str, Seen] = field(default_factory=dict)
    mechanisms: Counter[str] = field(default_factory=Counter)
    """Of decisions that allowed a call."""
    most_calls: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def add(self, trace: Trace) -> None:
        """Take one trace into account."""
        root = trace.root
        if root is None:
            return
        self.traces += 1
        self.agents[root.agent or root.service] += 1
        self.first_ns = min(self.first_ns or root.start_ns, root.start_ns)
        self.last_ns = max(self.last_ns, root.start_ns)
        self.most_calls = max(self.most_calls, len(trace.tool_calls))
        self.mechanisms.update(a.mechanism for a in trace.approvals if a.outcome in ("allow", "modified"))
        listed = [definition for span in trace.spans for definition in content.listed(span)]
        for definition in (*trace.tool_definitions, *listed):
            if seen := self._tool(definition.name):
                seen.hints.update(definition.hints)
        for call in trace.tool_calls:
            if seen := self._tool(call.name):
                _add_call(seen, call, _was_asked(trace, call))

    def _tool(self, name: str) -> Seen | None:
        if not name or (name not in self.tools and len(self.tools) >= _MAX_TOOLS):
            return None
        return self.tools.setdefault(name, Seen())

    def draft(self, asked: Iterable[str] = ("*",)) -> str:
        """A policy in YAML, with the reason of every guess beside it; for those asked for, if nothing was seen."""
        days = " to ".join(dict.fromkeys(f"{datetime.fromtimestamp(t / 1e9, UTC):%Y-%m-%d}" for t in self._times()))
        names = [_itself(name) for name, _ in self.agents.most_common() if name]
        lines = [
            f"# Drafted from {_count(self.traces, 'trace')}{f' of {days}' if days else ''}. Traffic does not say what a tool",
            "# does to the world: every line marked as a guess is one. Check it, correct it, and delete the mark.",
            "version: 1",
            f"agents: [{', '.join(map(_quoted, names or asked))}]",
        ]
        effects = {name: guess(name, seen.hints) for name, seen in self.tools.items()}
        order = (Effect.READ, Effect.WRITE, Effect.IRREVERSIBLE, Effect.UNKNOWN)
        listed = sorted(self.tools, key=lambda name: (order.index(effects[name].effect), name))
        lines.append("tools:" if listed else "tools: []")
        for name in listed:
            found, seen = effects[name], self.tools[name]
            effect = Effect.WRITE if found.effect is Effect.UNKNOWN else found.effect
            lines.append(
                f"- {{match: {_quoted(_itself(name))}, effect: {effect}}}  # guess: {_shown(found.reason)}; {_about(seen)}"
            )
        lines.append("unlisted: write  # a tool that is not listed asks for approval until it is")
        consequential = [self.tools[name] for name in listed if effects[name].effect is not Effect.READ]
        lines += self._approval(consequential)
        if self.most_calls:
            lines += [
                "budgets:",
                f"  tool_calls: {2 * self.most_calls}  # guess: twice the most that one trace made, {self.most_calls}",
            ]
        return "\n".join(lines) + "\n"

    def _times(self) -> Collection[int]:
        return [t for t in (self.first_ns, self.last_ns) if 0 < t < 4e18]

    def _approval(self, consequential: Iterable[Seen]) -> list[str]:
        lines = ["approval:"]
        if self.mechanisms:
            said = ", ".join(f"{mechanism} {count} times" for mechanism, count in self.mechanisms.most_common())
            known = sorted(self.mechanisms.keys() - {"unknown"})
            lines.append(
                f"  explicit: {{mechanisms: [{', '.join(known) or 'human'}]}}  # guess: calls were allowed by {said}"
            )
        else:
            lines.append(
                "  explicit: {mechanisms: [human]}  # no decision is recorded in this traffic: docs/approvals.md"
            )
        asked, calls = 0, 0
        for seen in consequential:
            asked, calls = asked + seen.asked, calls + seen.calls
        if asked:
            share = f"{asked} of {calls} consequential calls came after the user answered a question"
            lines.append(f"  user_confirmation: {{must_ask: true, spent_by: call}}  # guess: {share}")
        return lines


def _add_call(seen: Seen, call: ToolCall, asked: bool) -> None:
    seen.calls += 1
    seen.errors += bool(call.error)
    seen.asked += asked
    for key, value in (call.arguments or {}).items():
        if len(seen.arguments) < _MAX_ARGUMENTS:
            seen.arguments.add(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and key in seen.arguments:
            least, most = seen.numbers.get(key, (value, value))
            seen.numbers[key] = (min(least, value), max(most, value))


def _was_asked(trace: Trace, call: ToolCall) -> bool:
    """Whether the user's last word before a call answers a question of the agent."""
    before = trace.messages[: call.message_index or 0]
    at = next((i for i in range(len(before) - 1, -1, -1) if before[i].role == "user"), 0)
    said = next((m for m in reversed(before[:at]) if m.role == "assistant" and m.text), None)
    return said is not None and "?" in said.text


def _about(seen: Seen) -> str:
    if not seen.calls:
        return "offered, never called"
    parts = [_count(seen.calls, "call")]
    if seen.errors:
        parts.append(f"{seen.errors} failed")
    for key, (least, most) in sorted(seen.numbers.items())[:3]:
        if least != most:
            parts.append(f"{_shown(key)} {least:,g} to {most:,g}")
    return ", ".join(parts)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' if number != 1 else ''}"


def _quoted(name: str) -> str:
    if _PLAIN.fullmatch(name) and name.lower() not in _WORDS:
        return name
    return (
        '"'
        + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in name)
        + '"'
    )


def _itself(name: str) -> str:
    """The pattern that a name alone fits: a tool or an agent may be called `*`."""
    return _MAGIC.sub(r"[\g<0>]", name)


def _shown(text: str) -> str:
    """Telemetry's words in a comment: on one line, and no longer than a line."""
    return _UNSHOWN.sub("·", text)[:120]


def unfamiliar(policy: AgentPolicy, survey: Survey) -> tuple[list[str], list[int]]:
    """Tools in the traffic that the policy does not list, and the entries of the policy that no tool in the traffic meets."""
    strange = sorted(name for name in survey.tools if policy.rule(name) is None)
    met = {rule.match for name in survey.tools if (rule := policy.rule(name)) is not None}
    return strange, [i for i, rule in enumerate(policy.tools) if rule.match not in met]
