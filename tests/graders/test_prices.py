"""What model calls cost, and which spans are one model call: prices by date, stand-ins, garbage, a recorded double."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from graders import load_graders
from graders.prices import PriceTable, builtin, trace_cost
from graders.testing import agent, check_grader, grade, model, span, trace
from graders.usage import Tokens, model_calls, tokens_of
from store.types import Span, SpanKind, Trace
from store.yamlfile import ConfigError

DAY_NS = 86_400 * 10**9


def call(name: str = "m", tokens: tuple[int, int] = (1_000_000, 0), **options: Any) -> Span:
    attributes = {
        "gen_ai.request.model": name,
        "gen_ai.usage.input_tokens": tokens[0],
        "gen_ai.usage.output_tokens": tokens[1],
        **options.pop("attributes", {}),
    }
    return model(attributes=attributes, **{"span_id": "b" * 16, "start": 1, **options})


def at(day: date, sent: Span) -> Trace:
    start = (day - date(1970, 1, 1)).days * DAY_NS
    return Trace(trace_id=sent.trace_id, spans=(replace(sent, start_ns=start, end_ns=start),))


def test_every_price_that_ships_says_where_and_when_it_was_seen_and_can_be_reached() -> None:
    table = builtin()
    assert len(table.prices) > 70
    for entry in table.prices:
        assert entry.source.startswith("https://"), entry.models
        assert entry.seen is not None
        assert all(rate.input <= rate.output for rate in entry.rates), entry.models
        for pattern in entry.models:
            name = pattern.replace("-20*", "-20250101").replace("*", "x").replace("?", "1")
            assert table.entry(name, "") is entry, f"{name} is priced as {table.entry(name, '')}"


def test_the_price_of_the_day_a_call_began_counts() -> None:
    sonnet = call("claude-sonnet-5-5", attributes={"gen_ai.usage.cache_read.input_tokens": 1_000_000})
    assert trace_cost(at(date(2026, 10, 6), sonnet)).usd == 0.2
    assert trace_cost(at(date(2026, 10, 7), sonnet)).usd == 0.1
    o3 = call("o3")
    assert trace_cost(at(date(2025, 6, 9), o3)).unpriced == 1
    assert trace_cost(at(date(2025, 6, 10), o3)).usd == 2


def test_a_file_of_ours_comes_before_the_prices_that_ship(tmp_path: Path) -> None:
    ours = tmp_path / "prices.yaml"
    ours.write_text("prices: [{models: [gpt-4o-mini], rates: [{input: 1, output: 1}]}]")
    (grader,) = load_graders({"efficiency/cost": {"prices": str(ours)}})
    check_grader(grader)
    (shipped,) = load_graders({"efficiency/cost": {}})
    (ours_grade,) = grade(grader, trace(agent(), call("gpt-4o-mini")))
    assert ours_grade.score == 1
    assert grade(shipped, trace(agent(), call("gpt-4o-mini")))[0].score == 0.15
    assert grade(grader, trace(agent(), call("gpt-4o-2024-05-13")))[0].score == 5
    assert grader.config_digest != shipped.config_digest
    ours.write_text("prices: [{models: [gpt-4o-mini], rates: [{input: 2, output: 1}]}]")
    (later,) = load_graders({"efficiency/cost": {"prices": str(ours)}})
    assert later.config_digest != grader.config_digest, "grades by other prices are other grades"


BROKEN = {
    "a price below zero": "prices: [{models: [a], rates: [{input: -1, output: 1}]}]",
    "no rates": "prices: [{models: [a], rates: []}]",
    "no models": "prices: [{models: [], rates: [{input: 1, output: 1}]}]",
    "days out of order": "prices: [{models: [a], rates: [{since: 2026-02-01, input: 1, output: 1}, {input: 1, output: 1}]}]",
    "an unknown key": "prices: [{models: [a], rates: [{input: 1, output: 1, cached: 2}]}]",
    "no date": "prices: [{models: [a], rates: [{since: soon, input: 1, output: 1}]}]",
    "no YAML": "prices: [",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"efficiency/cost.*prices\.yaml"):
        load_graders({"efficiency/cost": {"prices": str(path)}})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_graders({"efficiency/cost": {"prices": str(tmp_path / "none.yaml")}})


def test_infinite_prices_are_none() -> None:
    with pytest.raises(ValidationError):
        PriceTable.model_validate({"prices": [{"models": ["a"], "rates": [{"input": float("inf"), "output": 1}]}]})


@pytest.mark.parametrize("name", ["", "\0", "*", "[", "gpt-4o" * 10_000, "//", "GPT-4O-mini ", "../gpt-4o-mini", "ﬁ"])
def test_names_of_strangers_find_a_price_or_none(name: str) -> None:
    entry = builtin().entry(name, name)
    assert entry is None or "gpt-4o-mini" in entry.models


def test_many_names_are_not_remembered_for_ever() -> None:
    table = PriceTable()
    for number in range(10_000):
        table.entry(f"{number}" + "m" * 10_000, "p" * 10_000)
    assert len(table._known) < 5_000
    assert max(len(text) for key in table._known for text in key) <= 200


def doubled(**second: Any) -> Trace:
    """One call as two instrumentations describe it."""
    same = {"attributes": {"gen_ai.response.id": "r1"}}
    return trace(
        agent(),
        call(tokens=(5, 2), start=1, end=9, **same),
        call(tokens=(5, 2), **{"span_id": "c" * 16, "start": 2, "end": 8, **same, **second}),
    )


def test_two_spans_of_one_call_are_one() -> None:
    assert len(model_calls(doubled())) == 1
    assert len(model_calls(doubled(start=9, end=12))) == 1
    assert len(model_calls(doubled(start=10, end=12))) == 2, "after the other had ended"
    assert len(model_calls(doubled(attributes={"gen_ai.response.id": "r2"}))) == 2
    assert len(model_calls(doubled(attributes={"gen_ai.response.id": ""}))) == 2
    assert len(model_calls(doubled(parent="b" * 16))) == 1, "one within the other is one as well"


def test_of_two_spans_the_one_that_tells_its_tokens_stands() -> None:
    silent = model(attributes={"gen_ai.response.id": "r1"}, span_id="c" * 16, start=1, end=9)
    telling = call(tokens=(5, 2), start=2, end=8, attributes={"gen_ai.response.id": "r1"})
    (kept,) = model_calls(trace(agent(), silent, telling))
    assert kept.input_tokens == 5


def test_the_events_of_a_stream_are_pieces_of_one_call() -> None:
    def piece(number: int, **fields: Any) -> Span:
        return span("handle_responses", span_id=f"{number:016x}", start=number, kind=SpanKind.LLM, **fields)

    telling = piece(3, input_tokens=5, output_tokens=2)
    assert model_calls(trace(agent(), piece(1), piece(2), telling)) == (replace(telling, parent_span_id="a" * 16),)
    assert len(model_calls(trace(agent(), piece(1), piece(2)))) == 2, "none tells: what they are is not known"
    assert len(model_calls(trace(agent(), piece(1, status="Error"), telling))) == 2
    assert len(model_calls(trace(agent(), piece(1, model="m"), telling))) == 2
    assert len(model_calls(trace(agent(), telling, piece(4, parent="c" * 16)))) == 2


GARBAGE = ["", "-1", "1e3", "nan", "12.5", "9" * 400, "٣", "true", "[]", "{}", "\0"]


@pytest.mark.parametrize("text", GARBAGE)
def test_counts_that_are_none_are_not_told(text: str) -> None:
    told = call(tokens=(10, 10), attributes={"gen_ai.usage.cache_read.input_tokens": text})
    assert tokens_of(told) == Tokens(10, 10, None, None, None)


def test_cached_tokens_inside_a_json_object() -> None:
    for text, read in (
        ('{"input_cached_tokens": 4}', 4),
        ('{"input_cached_tokens": true}', None),
        ('{"input_cached_tokens": -4}', None),
        ("[1]", None),
        ("{", None),
    ):
        assert tokens_of(call(attributes={"langfuse.observation.usage_details": text})).cache_read == read


def test_reasoning_counted_beside_the_output_is_part_of_it() -> None:
    spent = {"gen_ai.usage.reasoning.output_tokens": 50}
    assert tokens_of(call(tokens=(1, 10), attributes=spent)).output == 60
    assert tokens_of(call(tokens=(1, 50), attributes=spent)).output == 50
