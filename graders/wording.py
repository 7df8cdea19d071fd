"""Words that tell what happened: nothing found, something failed, something done. The words are data: `graders/grounds.yaml`.

Each function looks at the first 50,000 characters of a text, in time proportional to their number. What a language has no words
for here is not recognised; no function takes silence for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import chain, islice
from typing import Any, NamedTuple

import yaml

_MAX_TEXT = 50_000
_MAX_CLAIMS = 20
_NEAR = 40
_END = 500
_MAX_PLACES = 200
_BEFORE = 30
_AFTER = 150
"""How far the words of a claim may stand from its sign."""
_LINE = 200


@dataclass(frozen=True, slots=True)
class Group:
    """Deeds people speak of in the same words, and the words in names of tools that do them."""

    name: str
    tools: frozenset[str]
    wide: bool
    """Whether people also say it of what stands in the answer itself."""


class Claim(NamedTuple):
    """Somebody says that he has done something."""

    group: Group
    start: int
    end: int
    text: str
    thing: bool
    """Whether it is of something that lies outside of any answer: an event, a file."""


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = yaml.safe_load(files("graders").joinpath("grounds.yaml").read_text("utf-8"))
    return table


def _joined(patterns: Any) -> str:
    return "|".join(f"(?:{p})" for p in patterns)


class _Language(NamedTuple):
    signs: tuple[str, ...]
    """Without one of them, in lower case, nothing is said."""
    lower: re.Pattern[str]
    """For texts in lower case: it takes half the time."""
    pattern: re.Pattern[str]


@cache
def _languages(name: str) -> tuple[_Language, ...]:
    entries = [(tuple(e["signs"]), _joined(e["patterns"])) for e in _table()[name].values()]
    return tuple(_Language(signs, re.compile(p), re.compile(p, re.IGNORECASE)) for signs, p in entries)


def _said(name: str, text: str) -> re.Match[str] | None:
    lowered = text.lower()
    same = len(lowered) == len(text)  # else a letter is two in lower case, and places do not agree
    for signs, lower, pattern in _languages(name):
        for sign in signs:
            if sign in lowered:
                match = lower.search(lowered) if same else pattern.search(text)
                if match is not None:
                    return pattern.match(text, match.start()) if same else match
                break
    return None


@cache
def _troubles() -> tuple[str, ...]:
    return tuple(words for language in _table()["trouble"].values() for words in language)


@cache
def _flat(name: str) -> re.Pattern[str]:
    return re.compile(_joined(_table()[name]), re.IGNORECASE | re.MULTILINE)


@cache
def _single(name: str) -> re.Pattern[str]:
    return re.compile(_table()[name], re.IGNORECASE)


@cache
def _observation() -> tuple[re.Pattern[str], re.Pattern[str]]:
    table = _table()["observation"]
    return re.compile(table["frame"], re.IGNORECASE), re.compile(table["failed"], re.IGNORECASE)


@cache
def _code() -> tuple[re.Pattern[str], re.Pattern[str]]:
    flags = re.IGNORECASE | re.MULTILINE
    return re.compile(_table()["answer_in_code"]["call"], flags), re.compile(_table()["tool_in_prompt"], flags)


class _Claims(NamedTuple):
    english: tuple[str, ...]
    """English texts hold one of them."""
    signs: Mapping[str, tuple[str, ...]]
    """Without one of those of its language, nobody claims anything."""
    said: Mapping[str, re.Pattern[str]]
    """Any deed, in a sentence of English or of any other language."""
    condition: re.Pattern[str]
    things: re.Pattern[str]
    groups: tuple[tuple[re.Pattern[str], Group], ...]
    """By what the words of a deed end in."""


@cache
def _claims() -> _Claims:
    table = _table()["claim"]
    groups = table["groups"]
    frames: dict[str, list[str]] = {"en": [], "other": []}
    for language, sentences in table["frames"].items():
        verbs = "|".join(group[language] for group in groups.values())
        frames["en" if language == "en" else "other"] += [s.replace("VERBS", verbs) for s in sentences]
    endings = []
    for name, entry in groups.items():
        verbs = "|".join(entry[language] for language in table["frames"])
        group = Group(name, frozenset(entry["tools"].split()), bool(entry.get("wide")))
        endings.append((re.compile(rf"\b(?:{verbs})\Z", re.IGNORECASE), group))
    condition = re.compile(table["not_after"], re.IGNORECASE)
    things = re.compile(table["things"], re.IGNORECASE)
    said = {kind: re.compile(_joined(sentences), re.IGNORECASE) for kind, sentences in frames.items()}
    signs = {language: tuple(words) for language, words in table["signs"].items()}
    return _Claims(tuple(table["english"]), signs, said, condition, things, tuple(endings))


def gap(text: str) -> re.Match[str] | None:
    """Where a text says that nothing was found, or that it could not be looked at."""
    return _said("gap", text[:_MAX_TEXT])


def bare_gap(text: str) -> re.Match[str] | None:
    """A gap of which the sentence says no more: with "although" before it, something follows that was found all the same."""
    found = gap(text)
    return None if found and _single("concession").search(text, max(0, found.start() - _END), found.start()) else found


def cross_checked(text: str) -> re.Match[str] | None:
    """Where a text says that it was checked against another source, or that several agree."""
    return _said("cross_checked", text[:_MAX_TEXT])


def held_verified(text: str) -> re.Match[str] | None:
    """Where a text calls its result verified."""
    return _said("held_verified", text[:_MAX_TEXT])


def self_contained(text: str) -> bool:
    """Whether a text says that nothing has to be looked up."""
    return _said("self_contained", text[:_MAX_TEXT]) is not None


def disclosed(text: str) -> bool:
    """Whether a text says of any trouble: a gap, an error, an apology."""
    lowered = text[:_MAX_TEXT].lower()
    return any(words in lowered for words in _troubles()) or gap(text) is not None


def asks(text: str) -> bool:
    """Whether a text ends in a question, or its end asks the user for something."""
    text = text[-_END:].rstrip()
    if (closing := _single("closing").search(text)) is not None:
        text = text[: closing.start()].rstrip()
    return _said("asks", text) is not None


def nothing_found(error: str) -> bool:
    """Whether an error only says that there is nothing of the kind."""
    return _single("nothing_found").match(error, 0, 500) is not None


def transient(error: str) -> bool:
    """Whether an error is of the kind that passes by itself."""
    return _flat("transient").search(error, 0, 2000) is not None


def empty(result: str) -> bool:
    """Whether a result says that it holds nothing."""
    return not result or _flat("empty").match(result, 0, 300) is not None or result.isspace()


def failed_observation(text: str) -> bool:
    """Whether what an executor of code gave back is a failure."""
    return _observation()[1].match(text, 0, 300) is not None


def unframed(text: str) -> str:
    """What code printed, without what its executor put around it."""
    return _observation()[0].sub(" ", text[:_MAX_TEXT])


def answer_in_code(text: str) -> re.Match[str] | None:
    """Where a model gives its answer by a call written as code: up to the answer itself."""
    name = _table()["answer_in_code"]["name"]
    at = text.find(name, 0, _MAX_TEXT)
    for _ in range(_MAX_CLAIMS):
        if at < 0:
            break
        line = text.rfind("\n", 0, at) + 1
        if at - line < _LINE and (match := _code()[0].match(text, line)) is not None:
            return match
        at = text.find(name, at + 1, _MAX_TEXT)
    return None


def program_reads(text: str) -> bool:
    """Whether a program reads files or pages by itself."""
    return _single("program_reads").search(text, 0, _MAX_TEXT) is not None


@cache
def arithmetic() -> frozenset[str]:
    """What a program may say and still compute with nothing but what stands in it."""
    return frozenset(_table()["arithmetic"].split())


def tools_in_prompt(text: str) -> Sequence[str]:
    """The names of the tools a prompt lists for a model that writes its calls as code."""
    return _tools_in_prompt(text[:_MAX_TEXT])


@lru_cache(64)  # prompts repeat from trace to trace
def _tools_in_prompt(text: str) -> tuple[str, ...]:
    return tuple(_code()[1].findall(text))


def claims(text: str) -> Iterator[Claim]:
    """The deeds somebody says he has done, but for those said of a condition or of the future."""
    known = _claims()
    text = text[:_MAX_TEXT]
    lowered = f" {text}".lower()
    kinds = ("en",) if any(word in lowered for word in known.english) else tuple(known.signs)
    found = {kind: list(_windows(lowered, known.signs[kind])) for kind in kinds}
    if len(lowered) != len(text) + 1:  # a letter that is two in lower case: places do not agree
        found = {kind: [(0, len(text))] if windows else [] for kind, windows in found.items()}
    matches = chain.from_iterable(
        known.said[kind].finditer(text, *w) for kind, windows in found.items() for w in windows
    )
    for match in islice(matches, _MAX_CLAIMS):
        start = match.start()
        if known.condition.search(text, max(0, start - 60), start):
            continue
        group = next((g for ending, g in known.groups if ending.search(match[0])), None)
        if group is not None:
            end = match.end()
            thing = known.things.search(text, end, end + _NEAR) is not None
            yield Claim(group, start, end, match[0], thing)


def _windows(lowered: str, signs: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """The places around signs, each once, in a text that begins one character later."""
    places: list[int] = []
    for sign in signs:
        at = lowered.find(sign)
        while at >= 0 and len(places) < _MAX_PLACES:
            places.append(at)
            at = lowered.find(sign, at + 1)
    start = end = -1
    for at in sorted(places):
        if at - _BEFORE > end:
            if end > 0:
                yield start, end
            start = max(0, at - _BEFORE)
        end = at + _AFTER
    if end > 0:
        yield start, end
