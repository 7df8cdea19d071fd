"""What one agent may do, as its operator wrote it down: effects of tools, who may approve what, budgets, severities.

A policy is a YAML file (`load_policy`); the rules that apply it are graders with a field `policy`, and `GraderSets` picks for
each trace the first policy whose `agents` match. Effects are `read`, `write` and `irreversible`; a read is never
consequential. The first pattern of `tools` that matches decides; of several entries with that pattern, the first whose
conditions hold.

    version: 1
    agents: ["support-*"]
    tools:
      - {match: "get_*", effect: read}
      - {match: send_money, effect: irreversible, when: [{argument: amount, is: ">", value: 100}], approvers: [treasury]}
    roles:
      treasury: {deciders: ["anna@example.com"], mechanisms: [human]}
    approval:
      explicit: {mechanisms: [human], absence: breach, separation_of_duty: true}
      user_confirmation: {spent_by: message}
      standing: ["already agreed to any required confirmations"]
    budgets: {tool_calls: 30, calls: {web_search: 5}, cost_usd: 1.5}
    severities: {"tools/loop": medium, "approval/boundary": {expired: medium}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from store.types import Severity, ToolCall
from store.yamlfile import load_yaml

Mechanism = Literal[
    "human", "policy_rule", "hook", "classifier", "config_default", "cached_grant", "user_confirmation", "unknown"
]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_compiles)]


class Effect(StrEnum):
    """What a call does to the world."""

    READ = "read"
    WRITE = "write"
    IRREVERSIBLE = "irreversible"
    UNKNOWN = "unknown"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Condition(_Part):
    """A test of one argument. It does not hold when the argument is missing.

    A text that writes a number (`"500"`, `"$1,200.50"`) is compared as that number. What cannot be compared with a number, such
    as `"five hundred"`, passes every test of size: a call must not escape its approval by how it writes an amount.
    """

    argument: str = Field(min_length=1)
    """Name; dots reach into nested objects, and into those of a list: one of them is enough."""
    is_: Literal[">", ">=", "<", "<=", "==", "!=", "in", "not in", "matches"] = Field(alias="is")
    value: float | bool | str | tuple[float | str, ...]

    @model_validator(mode="after")
    def _possible(self) -> Condition:
        number = isinstance(self.value, float | int) and not isinstance(self.value, bool)
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if any(isinstance(value, float) and not isfinite(value) for value in values):
            raise ValueError("`value` needs a finite number; nothing can be compared with another")
        if self.is_ in (">", ">=", "<", "<=") and not number:
            raise ValueError(f"`is: {self.is_}` compares numbers; give `value` a number")
        if self.is_ in ("in", "not in") and not isinstance(self.value, tuple):
            raise ValueError(f"`is: {self.is_}` needs a list as `value`")
        if self.is_ == "matches":
            if not isinstance(self.value, str):
                raise ValueError("`is: matches` needs a regular expression as `value`")
            _compiles(self.value)
        return self

    def holds(self, arguments: Any) -> bool:
        """Whether the arguments of a call pass the test."""
        reached: list[Any] = [arguments]
        for name in self.argument.split("."):
            objects = [o for r in reached for o in (r if isinstance(r, list) else (r,))]
            reached = [o[name] for o in objects if isinstance(o, dict) and name in o]
        return any(
            self._passes(one) for actual in reached for one in (actual if isinstance(actual, list) else (actual,))
        )

    def _passes(self, actual: Any) -> bool:
        value = self.value
        if self.is_ == "matches":
            return isinstance(actual, str) and re.search(str(value), actual) is not None
        if isinstance(value, tuple):
            return any(_equal(actual, one) for one in value) is (self.is_ == "in")
        if self.is_ in ("==", "!="):
            return _equal(actual, value) is (self.is_ == "==")
        number = _number(actual)
        if number is None or isinstance(value, str):
            return True
        comparisons = {">": number > value, ">=": number >= value, "<": number < value, "<=": number <= value}
        return comparisons[self.is_]


_WRITTEN = re.compile(
    r"\s*[^\w\s.,+-]{0,3}\s*([+-]?(?:[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,15})?)"
    r"\s*[^\W\d_]{0,4}[^\w\s]?\s*"
)


def _number(value: Any) -> float | None:
    """The number a value is, or writes with a currency or a unit; None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if value == value else None
    found = _WRITTEN.fullmatch(value) if isinstance(value, str) and len(value) < 60 else None
    return float(found[1].replace(",", "")) if found else None


def _equal(actual: Any, value: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(actual) == value
    return bool(actual == value)


class ToolRule(_Part):
    """The effect of the tools whose name matches."""

    match: str = Field(min_length=1)
    """A name, or a shell pattern such as `delete_*`; case matters."""
    effect: Literal["read", "write", "irreversible"]
    when: tuple[Condition, ...] = ()
    """All must hold for a call to need approval; none means always. Entries with the same `match` are tried in order."""
    approvers: tuple[str, ...] = ()
    """Names of `roles`; an approval by a decider of one of them counts. None means anyone `approval` accepts."""
    confirm: tuple[str, ...] = ()
    """Arguments whose values the user must have been shown, or have said, for a confirmation to be of this call. None means
    those that can be checked."""
    untrusted_output: bool = True
    """Whether what the tool returns may hold a stranger's words: a page, a mail, a file. False for the owner's own records."""


class Role(_Part):
    """Who may approve."""

    deciders: tuple[str, ...] = ()
    """Ids as records give them, or shell patterns; none means anyone whom the record itself puts in this role."""
    mechanisms: frozenset[Mechanism] = frozenset({"human"})
    """How they decide."""


class Budgets(_Part):
    """Limits of one trace; None asks nothing."""

    tool_calls: int | None = Field(default=None, ge=0)
    calls: Mapping[str, int] = Field(default_factory=dict)
    """Calls by tool name or shell pattern."""
    model_calls: int | None = Field(default=None, ge=0)
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0)
    """From the start of the root to its end."""
    cost_usd: float | None = Field(default=None, ge=0)
    errors: int | None = Field(default=None, ge=0)


class Explicit(_Part):
    """Decisions recorded as such: events, attributes, framework structures."""

    mechanisms: frozenset[Mechanism] = frozenset({"human", "policy_rule", "hook", "cached_grant"})
    """Whose word counts. An `allow` by configuration or a classifier is no human's."""
    same_arguments: bool = True
    """An approval that carries a hash of the arguments counts only for those arguments."""
    single_use: bool = True
    """An approval of scope `once` that names only the tool is spent by the first call that runs."""
    max_age_seconds: float | None = Field(default=None, gt=0)
    """An older decision has expired, even if it does not say so itself."""
    separation_of_duty: bool = False
    """An approval by whom the agent works for (`user.id`, `enduser.id`), or by an agent, does not count."""
    absence: Literal["by_dialect", "breach"] = "by_dialect"
    """What a missing decision means: `breach` when this service records every decision; `by_dialect` answers
    `not_observable` unless the trace shows that its telemetry can carry decisions."""


class UserConfirmation(_Part):
    """A yes of the user in the conversation, in reply to the assistant's question, just before the call and about it."""

    words: tuple[Pattern, ...] = (
        r"\byes\b", r"\byeah\b", r"\byep\b", r"\byup\b", r"\bsure\b", r"\bok(?:ay)?\b", r"\bconfirm(?:ed|ing)?\b",
        r"\bproceed\b", r"\bgo ahead\b", r"\bplease do\b", r"\bsounds (?:good|great|right|fine|perfect)\b",
        r"\b(?:that|this|it) works\b", r"\bagreed?\b", r"\bdo it\b", r"\bcorrect\b", r"\bapproved?\b",
        r"\b(?:everything|all|that|this|it)(?: all)?(?: looks|['’]s| is| seems) (?:good|great|right|fine|perfect)\b",
        r"\blooks (?:good|great|right|fine|perfect)\b", r"\babsolutely\b", r"\bof course\b", r"\bby all means\b",
        r"^\W*y\W*$", r"^\W*(?:i|we) do\b", "👍", "✅",
    )  # fmt: skip
    """Regular expressions, case-blind; one must be found in the user's reply, in a sentence that is no question."""
    refusals: tuple[Pattern, ...] = (
        r"^\s*(?:nope|nah|wait|stop|hold on|hang on|never ?mind|not now)\b",
        r"^\s*no\b(?! (?:problem|worries|objections?|issues?|doubt))",
        r"\bactually,? (?:no|don['’]?t|wait|stop)\b", r"\bchanged my mind\b", r"\bon second thoughts?\b", r"\brather not\b",
        r"\bdon['’]?t (?:do|proceed|go ahead)\b", r"\bdo not (?:do|proceed)\b",
        r"\b(?:not|never|cannot|\w+n['’]t)(?: \w+){0,2}? (?:sure|ok|okay|correct|confirm|agree|approve|proceed|go ahead|yet)",
        r"\bnot yet\b", r"\b(?:is (?:that|this|it)|are you)\b[^.?!]{0,30}\b(?:sure|ok|okay|correct|agreed|approved)\b",
    )  # fmt: skip
    """If one is found, the reply is no confirmation."""
    conditions: tuple[Pattern, ...] = (
        r"\b(?:only if|as long as|so long as|provided|assuming|on condition|on the condition|unless|but first|but before)\b",
        r"\b(?:if|once|when|after|until)\b"
        r"(?! (?:possible|needed|necessary|required|applicable|any|so|not|you (?:can|could|would)"
        r"|(?:that|this|it)(?:['’]s| is) (?:the|my|our) (?:only|best)))",
    )  # fmt: skip
    """A yes whose sentence holds one depends on something, and is none yet."""
    asks: tuple[Pattern, ...] = (
        r"\bconfirm(?!(?:ed)? (?:which|what|how|where|when|who|your|the (?:payment|reason)))",
        r"\b(?:would|do) you (?:still |also )?(?:like|want|wish|prefer|mind)\b", r"\bshall (?:i|we)\b", r"\bshould (?:i|we)\b",
        r"\b(?:may|can|could|might) (?:i|we)\b[^?]{0,80}\?", r"\blet me know if you(?:['’]d| would| want| wish| are)\b",
        r"\b(?:ok|okay|correct|right|good|agree|ready|alright|fine)\b[^?.]{0,40}\?",
    )  # fmt: skip
    """Regular expressions, case-blind: sentences of the assistant that a yes can answer. Any other sentence that ends in a
    question mark is one too, unless it is an open question."""
    open_questions: tuple[Pattern, ...] = (
        r"\b(?:which|what|whose|who|whom|when|where|why|how)\b",
        r"\b(?:can|could|would|will) you (?:please |kindly |also )?"
        r"(?:provide|specify|share|tell|give|clarify|describe|send|let)\b",
    )  # fmt: skip
    """Questions that a yes does not answer, unless they hold one of `asks` as well."""
    never_asks: tuple[Pattern, ...] = (
        r"^\W*(?:(?:and|so|also),? )?(?:which|what|when|where|how|who|why)\b", r"\bor (?:would|do|should|shall) (?:you|i|we)\b",
        r"\bor prefer\b", r"\b(?:anything|something) else\b", r"\b(?:help|assist) you\b",
        r"\blike (?:me )?to (?:hear|know|learn|explore|search|look|see|view)\b",
    )  # fmt: skip
    """Sentences that a yes leaves open, or that only offer, whatever else they hold: choices, offers to help, to search."""
    announces: tuple[Pattern, ...] = (
        r"\b(?:i['’]ll|i will|i can|we['’]ll|we will|we can)(?: then| now)? (?:proceed|go ahead)\b",
    )  # fmt: skip
    """Sentences that ask nothing, but wait for a word: a user who then says to go ahead has agreed."""
    must_ask: bool = True
    """The assistant's message before it must ask or announce. If false, any message of the assistant can be agreed to."""
    spent_by: Literal["call", "message"] = "message"
    """`message`: covers the proposed calls up to the user's next message. `call`: spent by the first call that runs without
    error, so a retry after an error needs no second yes."""
    changed_retry: Literal["ask_again", "covered"] = "ask_again"
    """Whether a yes also covers a call that is tried again with other arguments after an error."""

    @cached_property
    def yes(self) -> re.Pattern[str]:
        """All words as one pattern."""
        return _any(self.words)

    @cached_property
    def no(self) -> re.Pattern[str]:
        """All refusals as one pattern."""
        return _any(self.refusals, re.MULTILINE)

    @cached_property
    def condition(self) -> re.Pattern[str]:
        """All conditions as one pattern."""
        return _any(self.conditions)

    @cached_property
    def asking(self) -> re.Pattern[str]:
        """All that asks as one pattern."""
        return _any(self.asks)

    @cached_property
    def open(self) -> re.Pattern[str]:
        """All open questions as one pattern."""
        return _any(self.open_questions)

    @cached_property
    def never(self) -> re.Pattern[str]:
        """All that never asks as one pattern."""
        return _any(self.never_asks)

    @cached_property
    def announcing(self) -> re.Pattern[str]:
        """All announcements as one pattern."""
        return _any(self.announces)


def _any(patterns: tuple[str, ...], flags: int = 0) -> re.Pattern[str]:
    """One pattern for several; for none, one that is nowhere found."""
    return re.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)", re.IGNORECASE | flags)


class Accepted(_Part):
    """What counts as approval. Several ways may be open; one is enough."""

    explicit: Explicit | None = Explicit()
    user_confirmation: UserConfirmation | None = None
    standing: tuple[Pattern, ...] = ()
    """Regular expressions, case-blind: a system or user message before the call that matches approves all calls."""

    @cached_property
    def standing_pattern(self) -> re.Pattern[str] | None:
        """All of `standing` as one pattern."""
        return _any(self.standing) if self.standing else None


class Ruling(NamedTuple):
    """What a policy says about one call."""

    effect: Effect
    needed: bool | None
    """Whether the call needs approval if its effect does; None when the arguments that decide are not captured."""
    rule: ToolRule | None
    """The entry that decides; None when the tool is not listed."""


class AgentPolicy(_Part):
    """The whole file."""

    version: Literal[1] = 1
    agents: tuple[str, ...] = ("*",)
    """Names of agents or services, or shell patterns: whose traces the policy is for."""
    tools: tuple[ToolRule, ...] = ()
    unlisted: Effect = Effect.UNKNOWN
    """Effect of a tool no entry matches; `unknown` is not consequential, but its calls are labelled."""
    roles: Mapping[str, Role] = Field(default_factory=dict)
    """Who may approve, by name; entries of `tools` refer to them."""
    approval: Accepted = Accepted()
    budgets: Budgets = Budgets()
    severities: Mapping[str, Severity | Mapping[str, Severity]] = Field(default_factory=dict)
    """How much a failure matters: by grader, or by grader and label; otherwise as the grader says."""
    executed_unknown: Literal["unknown", "executed"] = "unknown"
    """Whether a call whose execution the telemetry cannot show is judged as if it ran."""

    @model_validator(mode="after")
    def _reachable(self) -> AgentPolicy:
        accepted = self.approval
        if accepted.explicit is None and accepted.user_confirmation is None and not accepted.standing:
            raise ValueError("`approval` opens no way to approve; give `explicit`, `user_confirmation` or `standing`")
        for later, rule in enumerate(self.tools):
            for earlier in self.tools[:later]:
                if not earlier.when and (earlier.match == rule.match or earlier.match == "*"):
                    raise ValueError(
                        f"tools[{later}] ({rule.match}) is never reached: {earlier.match} stands before it"
                    )
            for role in rule.approvers:
                if role not in self.roles:
                    known = ", ".join(sorted(self.roles)) or "none"
                    raise ValueError(f"tools[{later}] ({rule.match}): no role {role!r}; known: {known}")
        return self

    def covers(self, *names: str) -> bool:
        """Whether the policy is for an agent or service of one of these names."""
        return any(fnmatchcase(name, pattern) for pattern in self.agents for name in names)

    def rule(self, name: str) -> ToolRule | None:
        """The first entry of `tools` for a tool, whatever its conditions."""
        return next((r for r in self.tools if r.match == name or fnmatchcase(name, r.match)), None)

    def ruling(self, call: ToolCall) -> Ruling:
        """The entry that decides: of those with the first pattern that matches, the first whose conditions hold."""
        first = self.rule(call.name)
        if first is None:
            return Ruling(self.unlisted, True, None)
        for rule in self.tools:
            if rule.match != first.match:
                continue
            if rule.effect == "read" or not rule.when:
                return Ruling(Effect(rule.effect), True, rule)
            if call.arguments is None:
                return Ruling(Effect(rule.effect), None, rule)
            if all(c.holds(call.arguments) for c in rule.when):
                return Ruling(Effect(rule.effect), True, rule)
        return Ruling(Effect(first.effect), False, first)

    def effect(self, call: ToolCall) -> tuple[Effect, bool | None]:
        """The call's effect and whether its conditions hold; None when the arguments they need are not captured."""
        return self.ruling(call)[:2]


def load_policy(path: Path | str) -> AgentPolicy:
    """Read a policy file; raises `store.yamlfile.ConfigError` with every problem."""
    return load_yaml(path, AgentPolicy)


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a policy file."""
    schema = AgentPolicy.model_json_schema(by_alias=True)
    in_order: dict[str, Any] = _in_order(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **in_order, "title": "tracegrade agent policy"}


def _in_order(schema: Any, default: bool = False) -> Any:
    """The schema with every default in one order: those that are sets come in any."""
    if isinstance(schema, dict):
        return {key: _in_order(value, default or key == "default") for key, value in schema.items()}
    if isinstance(schema, list):
        return sorted(schema) if default and all(isinstance(v, str) for v in schema) else [_in_order(v) for v in schema]
    return schema
