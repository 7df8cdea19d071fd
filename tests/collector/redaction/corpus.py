"""Reads `corpus.yaml`: every value in every frame, as a list of cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COUNTRIES = (
    *("AU", "BE", "BR", "CA", "CH", "CN", "DE", "DK", "ES", "FI", "FR", "GB"),
    *("IN", "IT", "KR", "MX", "NL", "NO", "PL", "SE", "TR", "US", "ZA"),
)


@dataclass(frozen=True)
class Case:
    """A text, and the rules that must find something in it; none where it must stay as it is."""

    text: str
    rules: tuple[str, ...]
    value: str = ""
    """What must not be left of it."""


def _texts(frames: list[Any], entries: Any) -> Iterator[tuple[str, str]]:
    """Each value, and a text it stands in."""
    for entry in entries:
        chosen = [frames[at] for at in entry.get("frames", range(len(frames)))]
        for value in map(str, entry["texts"]):
            yield from ((value, text) for text in _framed(chosen, entry["label"], value))


def _framed(frames: list[Any], label: str, value: str) -> Iterator[str]:
    for frame in frames:
        kind, text = (frame["json"], frame["text"]) if isinstance(frame, dict) else (None, frame)
        text = text.replace("{label}", label).replace("{value}", value)
        if kind:
            text = json.dumps({"content": text, "n": 42.5})
        yield json.dumps([text]) if kind == "twice" else text


def load() -> tuple[list[Case], list[Case]]:
    """What must be found, and what must not."""
    text = Path(__file__).with_name("corpus.yaml").read_text("utf-8").replace("{+}", "")
    data = yaml.safe_load(text)
    found, near = [], []
    for rule, entries in data["values"].items():
        found += [Case(text, (rule,), value) for value, text in _texts(data["frames"], entries)]
    near += [Case(text, ()) for _, text in _texts(data["frames"], data["near"])]
    for phrase in data["phrases"]:
        (found if phrase["finds"] else near).append(Case(phrase["text"], tuple(phrase["finds"])))
    return found, near
