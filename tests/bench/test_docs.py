"""docs/cards.md has the shape that `make cards` gives it: a section a grader, and figures that are figures."""

from __future__ import annotations

import re

from bench.carding.card import REGISTERED
from bench.carding.measures import labels
from bench.carding.sets import SETS
from bench.carding.written import FIGURE, SECTION, read, text
from graders import grader_types


def test_every_grader_is_there_once() -> None:
    """With a card or without: what is not measured is said not to be."""
    sections = [match[1] for match in SECTION.finditer(text())]
    assert len(sections) == len(set(sections))
    rest = text().partition("## Graders without a card")[2]
    bare = re.findall(r"^\| `([a-z_/]+)` \|", rest, re.MULTILINE)
    builtin = {name for name, kind in grader_types().items() if kind.__module__.startswith("graders.")}
    assert builtin <= {*sections, *bare}
    assert not set(sections) & set(bare)


def test_every_card_has_figures_with_intervals() -> None:
    """And each is of a set and grader that a measure is registered for."""
    known = {(r.set, r.grader) for r in REGISTERED}
    cards = read()
    assert len({found.set for found in cards}) >= 5
    for found in cards:
        assert (found.set, found.grader) in known
        assert found.set in SETS or found.set == labels.SET
        assert found.n > 0
        assert {"answered `unknown`", "answered `skip`"} <= set(found.rows)
        for value in found.figures.values():
            assert FIGURE.fullmatch(value.written)
            if value.low is not None and value.high is not None:
                assert value.low <= value.value <= value.high


def test_barred_figures_are_there() -> None:
    found = {(c.set, c.grader, name) for c in read() for name in c.figures}
    for registered in REGISTERED:
        if registered.grader in grader_types() and any(c[:2] == (registered.set, registered.grader) for c in found):
            for bar in registered.bars:
                assert (registered.set, registered.grader, bar) in found
