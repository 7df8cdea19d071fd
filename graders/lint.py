"""What is probably a mistake in a policy that can be read: each with the key, what it does now, and the way out.

`graders.policy` refuses what cannot be meant; this looks at what can, and rarely is. With a survey of traffic it also tells
which tools the policy does not know, and which of its entries meet nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from graders.base import Grader
from graders.effects import by_name
from graders.policy import AgentPolicy, Effect, ToolRule
from graders.survey import Survey, unfamiliar

_MAGIC = re.compile(r"[*?\[]")


class Advice(NamedTuple):
    """One remark about a policy."""

    key: str
    """Dotted path, as in `tools[2].when`."""
    message: str


def lint(
    policy: AgentPolicy, graders: Mapping[str, type[Grader]] | None = None, survey: Survey | None = None
) -> list[Advice]:
    """Everything that is probably not meant, in the order of the file."""
    return [
        *_tools(policy, survey),
        *_roles(policy),
        *_approval(policy),
        *_budgets(policy, survey),
        *_severities(policy, graders),
        *_traffic(policy, survey),
    ]


def _tools(policy: AgentPolicy, survey: Survey | None) -> Iterator[Advice]:
    if not policy.tools and policy.unlisted is Effect.UNKNOWN:
        yield Advice("tools", "lists no tool, so nothing is consequential; `tracegrade policy suggest` drafts a list")
    for index, rule in enumerate(policy.tools):
        place = f"tools[{index}]"
        shadow = _shadow(rule, policy.tools[:index])
        if shadow is not None:
            yield Advice(
                f"{place}.match", f"{rule.match} is never reached: {shadow} stands before it; put this one first"
            )
        if rule.effect == "read":
            idle = [key for key in ("when", "approvers", "confirm") if getattr(rule, key)]
            for key in idle:
                yield Advice(f"{place}.{key}", "does nothing: a read never needs approval; drop it, or change `effect`")
            named = by_name(rule.match) if not _MAGIC.search(rule.match) else None
            if named and named.effect in (Effect.WRITE, Effect.IRREVERSIBLE):
                message = f"calls {rule.match} a read, but {named.reason}; if it changes anything, say `write`"
                yield Advice(f"{place}.effect", message)
        if rule.match == "*" and rule.effect == "read":
            yield Advice(f"{place}.match", "makes every tool that is not listed above a read, renamed and new ones too")
        for number, condition in enumerate(rule.when):
            name = condition.argument.split(".")[0]
            seen = [s for tool, s in survey.tools.items() if fnmatchcase(tool, rule.match)] if survey else []
            if any(s.arguments for s in seen) and not any(name in s.arguments for s in seen):
                known = ", ".join(sorted(set().union(*(s.arguments for s in seen)))[:10])
                message = f"{name} was no argument of any call, so the condition never holds; arguments seen: {known}"
                yield Advice(f"{place}.when[{number}].argument", message)
    if policy.tools and policy.unlisted is Effect.UNKNOWN and all(rule.match != "*" for rule in policy.tools):
        message = (
            "calls of unlisted tools pass unjudged, and a renamed tool slips through; `unlisted: write` judges them"
        )
        yield Advice("unlisted", message)


def _shadow(rule: ToolRule, before: tuple[ToolRule, ...]) -> str | None:
    """The pattern of another entry that takes all that this one matches."""
    for other in before:
        if other.match == rule.match:
            if not other.when:
                return other.match
        elif fnmatchcase(_MAGIC.sub("x", rule.match), other.match) and fnmatchcase(rule.match, other.match):
            return other.match
    return None


def _roles(policy: AgentPolicy) -> Iterator[Advice]:
    used = {role for rule in policy.tools for role in rule.approvers}
    for name, role in policy.roles.items():
        if name not in used:
            yield Advice(f"roles.{name}", "no entry of `tools` names it in `approvers`, so it changes nothing")
        if not role.mechanisms:
            yield Advice(f"roles.{name}.mechanisms", "is empty, so nobody can decide in this role; name at least one")
    if used and policy.approval.explicit is None:
        yield Advice("approval.explicit", "`approvers` need recorded decisions, and `explicit: null` looks at none")


def _approval(policy: AgentPolicy) -> Iterator[Advice]:
    accepted = policy.approval
    for index, pattern in enumerate(accepted.standing):
        if re.search(pattern, "", re.IGNORECASE) or re.search(
            pattern, "hello, what is the weather like", re.IGNORECASE
        ):
            yield Advice(
                f"approval.standing[{index}]", f"{pattern!r} fits almost any message, which approves every call"
            )
    explicit = accepted.explicit
    if explicit is not None and not explicit.mechanisms:
        yield Advice("approval.explicit.mechanisms", "is empty, so no recorded decision counts; name at least one")
    if explicit is not None and {"config_default", "unknown"} & explicit.mechanisms:
        which = ", ".join(sorted({"config_default", "unknown"} & explicit.mechanisms))
        yield Advice("approval.explicit.mechanisms", f"{which}: a call that nobody looked at counts as approved")
    confirmation = accepted.user_confirmation
    if confirmation is not None:
        if confirmation.yes.search("what is the weather like in Rome"):
            yield Advice(
                "approval.user_confirmation.words", "fit a message that confirms nothing; anchor them with \\b"
            )
        if not confirmation.must_ask and policy.approval.explicit is None:
            message = "with `must_ask: false` a yes counts although the agent asked nothing; `true` wants a question before it"
            yield Advice("approval.user_confirmation.must_ask", message)
    if any(rule.confirm for rule in policy.tools) and confirmation is None:
        yield Advice("tools", "`confirm` needs `approval.user_confirmation`, and that is not open")


def _budgets(policy: AgentPolicy, survey: Survey | None) -> Iterator[Advice]:
    for pattern, most in policy.budgets.calls.items():
        if survey and survey.tools and not any(fnmatchcase(tool, pattern) for tool in survey.tools):
            yield Advice(f"budgets.calls.{pattern}", "meets no tool in the traffic; is the name right?")
        if policy.budgets.tool_calls is not None and most > policy.budgets.tool_calls:
            message = f"{most} is more than tool_calls allows in all ({policy.budgets.tool_calls})"
            yield Advice(f"budgets.calls.{pattern}", message)


def _severities(policy: AgentPolicy, graders: Mapping[str, type[Grader]] | None) -> Iterator[Advice]:
    for name in policy.severities:
        if graders is not None and name not in graders:
            yield Advice(f"severities.{name}", f"no such grader; known: {', '.join(sorted(graders))}")


def _traffic(policy: AgentPolicy, survey: Survey | None) -> Iterator[Advice]:
    if survey is None:
        return
    if not survey.traces:
        yield Advice("agents", f"no trace of {', '.join(policy.agents)} is in the store")
        return
    strange, unmet = unfamiliar(policy, survey)
    for name in strange[:50]:
        found = by_name(name)
        advice = f"; {found.reason}, perhaps {found.effect}" if found.effect is not Effect.UNKNOWN else ""
        yield Advice("tools", f"{name!r} is in the traffic ({survey.tools[name].calls} calls) and not listed{advice}")
    for index in unmet:
        yield Advice(f"tools[{index}].match", f"{policy.tools[index].match} meets no tool in the traffic")
