"""What counts as the argument a case asks for: laws that hold for any value, and specifications that are nonsense."""

from __future__ import annotations

import time
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graders.matching import Word, fits, problems, same_name, unmatched

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
NAMES = st.text(alphabet="abcxyz_", min_size=1, max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
WORDS: tuple[Word, ...] = ("loose_text", "numeric_text", "dates", "unordered", "json_text", "only", "loose_names")


@given(VALUES, st.sets(st.sampled_from(WORDS)))
def test_every_value_fits_itself(value: Any, words: set[Word]) -> None:
    unambiguous = "loose_names" not in words or "_" not in str(value)
    if unambiguous:
        assert fits(value, value, words)
    assert fits({"$is": value}, value, words)
    assert fits({"$any": ["no such thing", {"$is": value}]}, value, words)


@given(VALUES, VALUES)
def test_comparing_anything_with_anything_gives_an_answer(expected: Any, actual: Any) -> None:
    assert isinstance(fits(expected, actual, WORDS), bool)
    assert list(problems(expected)) == []


@given(st.lists(st.lists(st.integers(0, 4), unique=True), max_size=5))
def test_as_many_as_possible_are_paired(options: list[list[int]]) -> None:
    best = max(
        (sum(pick in o for o, pick in zip(options, order, strict=False)) for order in permutations(range(5))), default=0
    )
    assert len(options) - len(unmatched(options)) == best


REFUSED = {
    "unknown form": ({"q": {"$some": 1}}, "q.$some: unknown; known: $any"),
    "beside other keys": ({"q": {"$any": [1], "x": 2}}, "q: $any stands beside other keys"),
    "no list": ({"q": {"$set": 1}}, "q.$set: needs a list"),
    "no choice": ({"q": {"$any": []}}, "q.$any: needs at least one value"),
    "no object": ({"q": {"$only": [1]}}, "q.$only: needs an object"),
    "neither true nor false": ({"q": {"$given": 1}}, "q.$given: needs true or false"),
    "no text": ({"q": {"$text": 1}}, "q.$text: needs a text"),
    "no number": ({"q": {"$number": "five"}}, "q.$number: needs a number"),
    "not a number": ({"q": {"$number": "nan"}}, "q.$number: needs a number"),
    "no date": ({"q": {"$date": "soon"}}, "q.$date: needs a date"),
    "a day that is none": ({"q": {"$date": "2024-02-30"}}, "q.$date: needs a date"),
    "a date that could be two": ({"q": {"$date": "03/04/2024"}}, "q.$date: needs a date"),
    "inside": ({"q": [{"x": {"$any": [{"$nope": 1}]}}]}, "q[0].x.$any[0].$nope: unknown"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_in_a_case_is_named_with_its_place(name: str) -> None:
    value, problem = REFUSED[name]
    found = list(problems(value))
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_what_is_nested_too_deeply_is_refused_and_fits_nothing() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert "nested more than" in next(iter(problems(value)))
    assert not fits(value, value)


EDGES = ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2024-13-01", "1" * 1000, "²024-05-01"]


@pytest.mark.parametrize("text", EDGES)
def test_dates_at_the_edge_are_no_error(text: str) -> None:
    assert not fits({"$date": "2024-05-01"}, text)


SAME_DAY = ["2024-05-01", "2024/5/1", "2024.05.01", "May 1, 2024", "1 May 2024", "1st of May 2024", "may 1st 2024"]


@pytest.mark.parametrize("text", SAME_DAY)
def test_one_day_in_many_forms(text: str) -> None:
    assert fits({"$date": "2024-05-01"}, text)
    assert fits("2024-05-01", text, ["dates"])
    assert not fits({"$date": "2024-05-02"}, text)
    assert not fits({"$date": "2024-05-01T00:00:00Z"}, text), "a day is no moment"


def test_names() -> None:
    assert same_name("math.hypot", "math_hypot", ["loose_names"])
    assert not same_name("math.hypot", "math_hypot")
    assert not fits({"a_b": 1}, {"ab": 1, "aB": 1}, ["loose_names", "only"]), "one of the two was not asked for"


def test_large_values_take_a_moment() -> None:
    started = time.process_time()
    lists = [[i] * 5 for i in range(200)]
    assert fits({"$set": lists}, lists[::-1])
    assert not fits({"$set": list(range(100_000))}, list(range(100_000, 0, -1)))
    assert fits({"x" * 100_000: "y" * 1_000_000}, {"x" * 100_000: "Y" * 1_000_000}, WORDS)
    assert time.process_time() - started < 2
