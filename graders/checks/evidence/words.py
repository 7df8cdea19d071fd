"""The words of `words.yaml`: stop words, negations, cues, units. Data, checked once when it is first used."""

from __future__ import annotations

import re
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict


def _words(value: object) -> object:
    return frozenset(value.split()) if isinstance(value, str) else value


Words = Annotated[frozenset[str], BeforeValidator(_words)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Language(_Part):
    """The frequent words of one language."""

    stop: Words
    negation: Words


class Silent(_Part):
    """Sentences that claim nothing."""

    begins: Words
    then: str = ""


class Vocabulary(_Part):
    """The whole file."""

    languages: dict[str, Language]
    no_claim: tuple[Silent, ...]
    computed: tuple[str, ...]
    named: Words
    ending: tuple[str, ...]
    approximate: Words
    opposites: tuple[tuple[str, str], ...]
    quoted_as: tuple[str, ...]
    conflict: Words
    units: dict[str, dict[str, float]]
    number_words: dict[int, tuple[str, ...]]
    abbreviations: Words

    @cached_property
    def stop(self) -> frozenset[str]:
        """Stop words of all languages that are no word of weight in another: English decides, others add accents and length."""
        english = self.languages["en"].stop
        return english | {w for name, one in self.languages.items() if name != "en" for w in one.stop if len(w) <= 3}

    @cached_property
    def negation(self) -> frozenset[str]:
        """Negations of all languages."""
        return frozenset().union(*(one.negation for one in self.languages.values()))

    @cached_property
    def silent(self) -> dict[str, re.Pattern[str]]:
        """First word to what a sentence that makes no claim looks like."""
        found: dict[str, list[str]] = {}
        for entry in self.no_claim:
            for word in entry.begins:
                found.setdefault(word, []).append(entry.then)
        return {word: re.compile("|".join(f"(?:{p})" for p in ps), re.IGNORECASE) for word, ps in found.items()}

    @cached_property
    def unit(self) -> dict[str, tuple[str, float]]:
        """Spelling of a unit to what it measures and its size."""
        return {name: (kind, size) for kind, sizes in self.units.items() for name, size in sizes.items()}


@cache
def words() -> Vocabulary:
    """The vocabulary that ships with the graders."""
    text = files("graders.checks.evidence").joinpath("words.yaml").read_text("utf-8")
    return Vocabulary.model_validate(yaml.safe_load(text))
