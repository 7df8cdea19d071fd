"""Words that tell what happened: nothing found, something failed, something done. The words are data: `graders/grounds.yaml`.

Each function looks at the first 50,000 characters of a text, in time proportional to their number. What a language has no words
for here is not recognised; no function takes silence for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple

import yaml

_MAX_TEXT = 50_000
_MAX_CLAIMS = 20
_NEAR = 40


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


@cache
def _languages(*names: str) -> re.Pattern[str]:
    every = [p for name in names for patterns in _table()[name].values() for p in patterns]
    return re.compile(_joined(every), re.IGNORECASE)


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
    signs: tuple[str, ...]
    """Without one of them nobody claims anything."""
    said: re.Pattern[str]
    """Any deed, in a sentence of any language."""
    condition: re.Pattern[str]
    things: re.Pattern[str]
    groups: tuple[tuple[re.Pattern[str], Group], ...]
    """By what the words of a deed end in."""


@cache
def _claims() -> _Claims:
    table = _table()["claim"]
    groups = table["groups"]
    frames = [
        frame.replace("VERBS", "|".join(group[language] for group in groups.values()))
        for language, frames in table["frames"].items()
        for frame in frames
    ]
    endings = []
    for name, entry in groups.items():
        verbs = "|".join(entry[language] for language in table["frames"])
        group = Group(name, frozenset(entry["tools"].split()), bool(entry.get("wide")))
        endings.append((re.compile(rf"\b(?:{verbs})\Z", re.IGNORECASE), group))
    condition = re.compile(table["not_after"], re.IGNORECASE)
    things = re.compile(table["things"], re.IGNORECASE)
    said = re.compile(_joined(frames), re.IGNORECASE)
    return _Claims(tuple(table["signs"]), said, condition, things, tuple(endings))


def gap(text: str) -> re.Match[str] | None:
    """Where a text says that nothing was found, or that it could not be looked at."""
    return _languages("gap").search(text, 0, _MAX_TEXT)


def disclosed(text: str) -> bool:
    """Whether a text says of any trouble: a gap, an error, an apology."""
    return _languages("gap", "trouble").search(text, 0, _MAX_TEXT) is not None


def asks(text: str) -> bool:
    """Whether a text ends in a question, or asks the user for something."""
    text = text[-2000:].rstrip()
    if (closing := _single("closing").search(text)) is not None:
        text = text[: closing.start()].rstrip()
    return _languages("asks").search(text) is not None


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
    if _table()["answer_in_code"]["name"] not in text:
        return None
    return _code()[0].search(text, 0, _MAX_TEXT)


def program_reads(text: str) -> bool:
    """Whether a program reads files or pages by itself."""
    return _single("program_reads").search(text, 0, _MAX_TEXT) is not None


def tools_in_prompt(text: str) -> list[str]:
    """The names of the tools a prompt lists for a model that writes its calls as code."""
    return _code()[1].findall(text[:_MAX_TEXT])


def claims(text: str) -> Iterator[Claim]:
    """The deeds somebody says he has done, but for those said of a condition or of the future."""
    known = _claims()
    text = text[:_MAX_TEXT]
    lowered = f" {text}".lower()
    if not any(sign in lowered for sign in known.signs):
        return
    for match in islice(known.said.finditer(text), _MAX_CLAIMS):
        start = match.start()
        if known.condition.search(text, max(0, start - 60), start):
            continue
        group = next((g for ending, g in known.groups if ending.search(match[0])), None)
        if group is not None:
            end = match.end()
            thing = known.things.search(text, end, end + _NEAR) is not None
            yield Claim(group, start, end, match[0], thing)
