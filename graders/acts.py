"""What kind of act a tool does, as its name says, and which acts a request asks for.

Words are English and stand in graders/acts.yaml. A request in another language asks for nothing that is read here, and says so
(`Request.readable`). What is read is kept by content: the same tools and requests come with every trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import NamedTuple

import yaml
from pydantic import BaseModel

from graders.values import EMAIL

_SENTENCE = 300
"""Characters to each side of a place that its sentence may have."""


class _Act(BaseModel, extra="forbid", frozen=True):
    tools: frozenset[str]
    asks: frozenset[str]
    unless: frozenset[str] = frozenset()
    demands: frozenset[str] = frozenset()
    places: bool = False


class _Words(BaseModel, extra="forbid", frozen=True):
    version: str
    acts: Mapping[str, _Act]
    plain: frozenset[str]
    reads: frozenset[str]
    before_noun: frozenset[str]
    to_owner: frozenset[str]
    delegates: tuple[str, ...]
    function_words: frozenset[str]
    stopwords: frozenset[str]


@cache
def _words() -> _Words:
    return _Words.model_validate(yaml.safe_load(files("graders").joinpath("acts.yaml").read_text("utf-8")))


@cache
def _delegating() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in _words().delegates))


class Tool(NamedTuple):
    """What a tool does, as its name says."""

    acts: frozenset[str]
    """Empty when the name says nothing that is known."""
    asks: frozenset[str]
    """Words by which an owner asks for it."""
    demands: frozenset[str]
    """Words by which a text does."""
    objects: frozenset[str]
    """What it is done to: the parts of the name that are no act."""
    places: bool
    """Whether an account or a handle among its arguments says where it goes."""
    reads: bool
    """Whether the name is that of a tool that only reads, or is not known."""


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_NAME = re.compile(r"[^A-Za-z0-9]+")


@lru_cache(maxsize=4096)
def tool_of(name: str) -> Tool:
    """What the tool of this name does."""
    words = _words()
    named = name[:200].rpartition("__")[2] or name[:200]  # MCP puts the server before it
    listed = [w.lower() for w in _NOT_NAME.split(_HUMP.sub(" ", named)) if w]
    parts = frozenset(listed) - words.plain
    acts = {n: a for n, a in words.acts.items() if parts & a.tools and not parts & a.unless}
    if not acts:
        return Tool(frozenset(), parts, parts, frozenset(), True, True)
    return Tool(
        acts=frozenset(acts),
        asks=frozenset().union(*(a.asks for a in acts.values())),
        demands=frozenset().union(*(a.demands or a.asks for a in acts.values())),
        objects=parts - frozenset().union(*(a.tools for a in acts.values())),
        places=any(a.places for a in acts.values()),
        reads=not words.reads.isdisjoint((listed[0], "_".join(listed[:2]))) or acts.keys() == {"fetch"},
    )


_PART = 4
"""Letters two words must share at their beginning to be taken for one."""
_WORD = re.compile(r"[a-z][a-z'-]*+")
_TOPIC = re.compile(r"[^\W_]++")


class Request:
    """What one who speaks asks for, in one or several messages. Nothing is read before it is needed."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts

    @cached_property
    def asks(self) -> frozenset[str]:
        """Words that may ask for an act."""
        return frozenset[str]().union(*map(_asks, self.texts))

    @cached_property
    def readable(self) -> bool:
        """Whether it is in a language these words are of."""
        words = _words()
        known = any(not words.function_words.isdisjoint(_mentions(text)) for text in self.texts)
        return known or any(not a.asks.isdisjoint(self.asks) for a in words.acts.values())

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset[str]().union(*map(_mentions, self.texts))

    def speaks_of(self, thing: str) -> bool:
        """Whether it has a word for a thing, be it a longer one or a part: account and accounts, info and information."""
        words = self._words
        if thing in words or f"{thing}s" in words:
            return True
        longer = len(thing) >= _PART and any(word.startswith(thing) for word in words)
        return longer or thing.startswith(tuple(word for word in words if len(word) >= _PART))

    @cached_property
    def topics(self) -> frozenset[str]:
        """What it is about: words and mail addresses."""
        return frozenset[str]().union(*map(_topics, self.texts))

    @cached_property
    def delegates(self) -> bool:
        """Whether it leaves to some text what to do."""
        return any(_handed_over(text) is not None for text in self.texts)

    @cached_property
    def delegated(self) -> frozenset[str]:
        """What the sentences that do so are about."""
        return frozenset[str]().union(*(_handed_over(text) or () for text in self.texts))


@lru_cache(maxsize=2048)
def _asks(text: str) -> frozenset[str]:
    words = _words()
    no_request, to_owner = words.before_noun, words.to_owner
    tokens = words_of(_plain(text))
    around = zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)
    found = {token for before, token, after in around if before not in no_request and after not in to_owner}
    stems = [token[:-3] for token in found if token.endswith("ing")]
    return frozenset((*found, *stems, *(f"{stem}e" for stem in stems)))


@lru_cache(maxsize=2048)
def _mentions(text: str) -> frozenset[str]:
    return frozenset(words_of(_plain(text)))


@lru_cache(maxsize=2048)
def _topics(text: str) -> frozenset[str]:
    return about(_plain(text)) - _words().stopwords


@lru_cache(maxsize=2048)
def _handed_over(text: str) -> frozenset[str] | None:
    """What the sentences are about that leave to a text what to do; None without any."""
    text = _plain(text)
    found = [text[slice(*sentence(text, m.start(), m.end()))] for m in _delegating().finditer(text)]
    return frozenset[str]().union(*map(about, found)) - _words().stopwords if found else None


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")


def words_of(text: str) -> list[str]:
    """The English words of a text in lower case."""
    return _WORD.findall(text)


_PASSIVE = re.compile(r"\bbe (?:[a-z]+ly )?([a-z]+)ed\b")


def demands_of(text: str) -> set[str]:
    """The words of a sentence that may ask for an act; "to be updated" asks to update, "to be transferred" to transfer."""
    stems = _PASSIVE.findall(text)
    return {*words_of(text), *stems, *(f"{stem}e" for stem in stems), *(stem[:-1] for stem in stems)}


def about(text: str, *, names: bool = False) -> frozenset[str]:
    """Words and mail addresses of a text in lower case; an address is one word, and with `names` its name counts too."""
    addresses = EMAIL.findall(text) if "@" in text else ()
    if addresses:
        text = EMAIL.sub(" ", text)
        if names:
            text = " ".join((text, *(a.partition("@")[0] for a in addresses)))
    return frozenset(w for w in (*_TOPIC.findall(text), *addresses) if len(w) > 2)


_BREAK = re.compile(r"[.!?。！？]['\")\]]?+\s|\n[ \t\r]*+\n|\\n\\n|\n[ \t]*+[-*•] ")


def sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """The sentence around a part of a text."""
    begin = max(0, start - _SENTENCE)
    for match in _BREAK.finditer(text, begin, start):
        begin = match.end()
    after = _BREAK.search(text, end, end + _SENTENCE)
    return begin, after.start() if after else min(len(text), end + _SENTENCE)
