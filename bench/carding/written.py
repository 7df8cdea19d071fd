"""The figures in docs/cards.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "cards.md"
SECTION = re.compile(r"^## `([^`]+)`(?:, version (\S+))?$", re.MULTILINE)
_CARD = re.compile(r"^\*\*([a-z0-9_]+)\*\*: ([\d,]+) ", re.MULTILINE)
FIGURE = re.compile(r"(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?|-")


@dataclass
class Written:
    """A figure as it is printed."""

    written: str
    value: float
    low: float | None
    high: float | None


@dataclass
class Found:
    """One card."""

    set: str
    grader: str
    version: str
    n: int
    figures: dict[str, Written] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)


@cache
def text() -> str:
    """The file."""
    return DOCS.read_text(encoding="utf-8")


def read() -> list[Found]:
    """All cards, in order."""
    found = []
    sections = list(SECTION.finditer(text()))
    for section, after in zip(sections, [*sections[1:], None], strict=True):
        body = text()[section.end() : after.start() if after else len(text())].partition("\n## ")[0]
        cards = list(_CARD.finditer(body))
        for card, following in zip(cards, [*cards[1:], None], strict=True):
            part = body[card.end() : following.start() if following else len(body)]
            one = Found(card[1], section[1], section[2] or "", int(card[2].replace(",", "")))
            table = part.partition("| figure |")[2].partition("\n\n")[0]
            for line in table.splitlines()[2:]:
                name, value = (cell.strip() for cell in line.strip("|").split("|")[:2])
                one.rows.append(name)
                match = FIGURE.fullmatch(value)
                if match and match[1]:
                    low, high = (float(match[g]) if match[g] else None for g in (2, 3))
                    one.figures[name] = Written(value, float(match[1]), low, high)
            found.append(one)
    return found
