"""The rules as data: read, checked as a whole, and made ready for the groups that are on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collector.redaction import checks
from store.dialects import mapping
from store.yamlfile import load_yaml, parse_yaml


class Group(StrEnum):
    """Kinds of values that are switched on together."""

    SECRETS = "secrets"
    FINANCIAL = "financial"
    CONTACT = "contact"
    NATIONAL = "national"
    NETWORK = "network"


Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Canonical = Literal["exact", "digits", "alphanumeric", "address", "phone"]
Edges = Literal["none", "word", "number", "code"]
Type = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("check", check_fields=False)
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            checks.find_check(name)
        return names


class Rule(_Part):
    """One kind of value; the file's head says what each key means."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    type: Type
    pattern: Annotated[str, Field(min_length=1, max_length=4096)]
    group: Group | None = None
    """Without one the rule always counts."""
    screen: str | None = None
    context: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    edges: Edges = "word"
    canonical: Canonical = "exact"
    country: Country | None = None

    @field_validator("pattern", "screen")
    @classmethod
    def _re2(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern

    @field_validator("context")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            compiled(word)
        return words

    @model_validator(mode="after")
    def _narrow(self) -> Rule:
        if re2.search(_options(self.pattern), b"") is not None:
            raise ValueError(f"the pattern of {self.name} matches nothing at all, so it would match everywhere")
        if self.screen is None and not self.context and re.search(r"(?<![\\\[])[$^]|\\[Az]", self.pattern):
            raise ValueError(
                f"the pattern of {self.name} is tied to the beginning or end of a text, which raw bytes do not show; "
                "give it a `screen` that is not"
            )
        return self

    @property
    def screens(self) -> str:
        """What to look for in raw bytes, where JSON may have escaped all but ASCII."""
        found = self.screen
        if found is None:
            found = f"(?i)(?:{'|'.join(self.context)})" if self.context else self.pattern
            found = re.sub(r"(\\[^bB])|\\[bB]", r"\1", found)
        return re.sub(r"[^\x00-\x7f]", lambda char: rf"(?:{char[0]}|\\+u{ord(char[0]):04x})", found)


class KeyRule(_Part):
    """Keys whose whole value is replaced."""

    type: Type
    names: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+( [a-z0-9]+)*$")], ...]
    group: Group | None = None
    check: tuple[str, ...] = ()


class RuleFile(_Part):
    """A whole file."""

    rules: tuple[Rule, ...] = ()
    keys: tuple[KeyRule, ...] = ()
    number_keys: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> RuleFile:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several rules are called {', '.join(twice)}")
        return self


@cache
def built_in() -> RuleFile:
    """The rules that ship with tracegrade."""
    return parse_yaml(files(__package__).joinpath("rules.yaml").read_bytes(), RuleFile, "redaction/rules.yaml")


# --- made ready ---------------------------------------------------------------------------------------------------

_MEMORY: Final = 64 * 2**20
"""For the automaton of a set. At its limit it is built anew, which costs time, not matches."""


def _options(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return re2.compile(pattern, options)


def compiled(pattern: str) -> Any:
    try:
        return _options(pattern)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise ValueError(f"is not a pattern RE2 understands: {reason}") from None


def pattern_set(patterns: Iterable[str]) -> Any:
    """All patterns at once; its `Match` gives the numbers of those found, or None."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


@dataclass(frozen=True, slots=True)
class Matcher:
    """A rule made ready."""

    rule: Rule
    regex: Any
    part: int
    """The group to replace."""
    context: Any
    checks: tuple[checks.Check, ...]

    def canonical(self, text: str, countries: Sequence[str]) -> str:
        """What all spellings of a value have in common."""
        match self.rule.canonical:
            case "digits":
                return checks.digits(text)
            case "alphanumeric":
                return "".join(filter(str.isalnum, text)).upper()
            case "address":
                return text.replace("%40", "@").lower()
            case "phone":
                return checks.dialled(text, tuple(countries) or (None,)) or checks.digits(text)
            case "exact":
                return text


@dataclass(frozen=True, slots=True)
class DeniedKeys:
    """A key rule made ready."""

    type: str
    name: str
    names: frozenset[tuple[str, ...]]
    checks: tuple[checks.Check, ...]


class Ruleset:
    """The rules that are on, and the keys that are special."""

    def __init__(
        self,
        groups: Iterable[Group],
        *,
        countries: Sequence[str] = (),
        deny: Sequence[str] = (),
        allow: Sequence[str] = (),
        own: Path | None = None,
    ) -> None:
        shipped, mine = built_in(), load_yaml(own, RuleFile) if own else RuleFile()
        self.countries = tuple(countries)
        on = set(groups)

        def counts(group: Group | None, country: str | None = None) -> bool:
            return (group is None or group in on) and (country is None or country in countries)

        rules = [rule for rule in (*mine.rules, *shipped.rules) if counts(rule.group, rule.country)]
        keys = [rule for rule in (*mine.keys, *shipped.keys) if counts(rule.group)]
        numbers = (*mine.number_keys, *shipped.number_keys)
        self.matchers = tuple(map(self._matcher, rules))
        self.denied_keys = tuple(
            DeniedKeys(rule.type, "key", frozenset(tuple(name.split()) for name in rule.names), _checks(rule.check))
            for rule in keys
        )
        fields = mapping().fields
        ids = (*fields["tool_call_id"].keys, *fields["conversation_id"].keys)
        self.deny = _keys(deny)
        self.keep = _keys((*allow, *mine.keep, *shipped.keep, *ids))
        self.structure = frozenset(
            [key for rule in fields.values() for key in rule.keys] + [rule.attribute for rule in mapping().kinds]
        )
        """Attributes that say what a span is, rather than what was said in it."""
        self.empty = not (rules or keys or deny)
        self.digest = hashlib.sha256(
            orjson.dumps(
                [
                    _VERSION,
                    [rule.model_dump(mode="json") for rule in (*rules, *keys)],
                    [
                        sorted(numbers),
                        sorted(deny),
                        sorted(allow),
                        sorted((*mine.keep, *shipped.keep)),
                        sorted(countries),
                    ],
                ]
            )
        ).hexdigest()[:16]
        """Changes whenever what is replaced may change."""
        self.screens = [rule.screens for rule in rules]
        if not self.empty:
            self.screens += [*_key_screens(keys, deny), *_number_screens(numbers), *_ESCAPED]

    def _matcher(self, rule: Rule) -> Matcher:
        regex = compiled(rule.pattern)
        tests = [
            partial(checks.phone, regions=self.countries)
            if name == "phone_here" and self.countries
            else checks.find_check(name)
            for name in rule.check
        ]
        context = compiled(f"(?i)(?:{'|'.join(rule.context)})") if rule.context else None
        return Matcher(rule, regex, regex.groupindex.get("value", 0), context, tuple(tests))


_VERSION: Final = 1
"""Of the code that applies the rules; raised when what is replaced changes although no rule does."""

_ESCAPED: Final = (
    # Letters, digits, @ and - that JSON need not escape, but may; what they spell is only seen once they are unescaped.
    r"\\u00(?:2[dD]|3[0-9]|40|[46][1-9a-fA-F]|[57][0-9aA])",
    # Digits of other scripts, as UTF-8 and escaped.
    r"[٠-٩۰-۹०-९০-৯๐-๙０-９]{3}",
    r"(?i)\\u(?:06[6f][0-9]|096[6-9a-f]|09e[6-9a-f]|0e5[0-9]|ff1[0-9])",
)


def _checks(names: tuple[str, ...]) -> tuple[checks.Check, ...]:
    return tuple(map(checks.find_check, names))


def _keys(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether a key is one of these; `*` stands for anything."""
    plain = frozenset(glob for glob in globs if "*" not in glob)
    wild = "|".join(".*".join(map(re.escape, glob.split("*"))) for glob in sorted(set(globs) - plain))
    pattern = re.compile(f"(?s:{wild})") if wild else None
    return lambda key: key in plain or (pattern is not None and pattern.fullmatch(key) is not None)


_KEY_ENDS: Final = r"""(?:\x12|\\*["']\s*[:=])"""
"""What stands behind a key: the tag of its value in protobuf, or a quote and a colon."""


def _key_screens(rules: Iterable[KeyRule], deny: Iterable[str]) -> Iterator[str]:
    names = sorted({name.replace(" ", "[ _.-]?") for rule in rules for name in rule.names})
    if names:
        # A list of values is indexed behind its name: `authorization.0`.
        yield rf"(?i)(?:{'|'.join(names)})(?:\.[0-9]+)?{_KEY_ENDS}"
    for glob in deny:
        yield r"[\pL\pN_.:/-]*".join(map(re2.escape, glob.split("*"))) + _KEY_ENDS


def _number_screens(words: Iterable[str]) -> Iterator[str]:
    """Keys of integers (tag 0x18) and floats (0x21)."""
    if words:
        yield rf"(?i)(?:{'|'.join(sorted(set(words)))})[\pL\pN_.-]*\x12[\x01-\x0b][\x18!]"
