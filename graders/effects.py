"""What a tool does to the world, guessed from its name and from the hints its server gives; a start for somebody who knows.

A hint is the server's own word (MCP's annotations), a name is less: both are guesses, and each comes with its reason. The words
are data, `graders/effects.yaml`. What an operator decides stands in a policy (`graders.policy`), never here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from graders.policy import Effect

_ORDER = (Effect.IRREVERSIBLE, Effect.WRITE, Effect.READ)
_HANDS_OVER = re.compile(r"(?:\w+__)?(?:transfer_?to|hand_?off|escalate)", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class Guess(NamedTuple):
    """An effect, and what it was guessed from."""

    effect: Effect
    """`unknown` when nothing tells."""
    reason: str


def words(name: str) -> tuple[str, ...]:
    """The words of a tool's name in lower case, without the server an MCP client puts before it."""
    own = name.rsplit("__", 1)[-1] if name.startswith("mcp__") else name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    return tuple(word.lower() for word in _WORD.findall(own[:200]))


@lru_cache(maxsize=4096)
def by_name(name: str) -> Guess:
    """The effect that the verbs of a name tell."""
    verbs = _verbs()
    if _HANDS_OVER.match(name):
        return Guess(Effect.READ, "its name says that it hands over to a person or an agent")
    found = [(verbs[word], word) for word in words(name) if word in verbs]
    if not found:
        return Guess(Effect.UNKNOWN, "no word of its name is a verb that is known")
    first = words(name)[0]
    effect, word = found[0] if found[0][1] == first else min(found, key=lambda f: _ORDER.index(f[0]))
    return Guess(effect, f"its name says “{word}”")


def guess(name: str, hints: Mapping[str, bool] | None = None) -> Guess:
    """The effect of a tool by its server's hints (`readOnlyHint`, `destructiveHint`), else by its name.

    MCP counts a tool without hints as destructive; so little is said by silence that the name goes before it.
    """
    hints = hints or {}
    if hints.get("readOnlyHint") is True:
        return Guess(Effect.READ, "its server says readOnlyHint: true")
    if hints.get("destructiveHint") is True:
        return Guess(Effect.IRREVERSIBLE, "its server says destructiveHint: true")
    if hints.get("destructiveHint") is False or hints.get("readOnlyHint") is False:
        named = by_name(name)
        if named.effect is Effect.IRREVERSIBLE:
            return named
        said = "destructiveHint" if "destructiveHint" in hints else "readOnlyHint"
        return Guess(Effect.WRITE, f"its server says {said}: false")
    return by_name(name)


@cache
def _verbs() -> Mapping[str, Effect]:
    table = yaml.safe_load(files("graders").joinpath("effects.yaml").read_text("utf-8"))
    return {word: effect for effect in reversed(_ORDER) for word in table[effect.value].split()}
