"""What the model calls of a trace cost, by a table of prices with dates.

`graders/prices.yaml` holds the list prices of model makers, each with the page it stands on and the day it was seen there;
a table of your own comes before it. The price in force when a call began counts. What is not in the table is unknown, never
free: a model that is not listed, one bought from somebody who sells it at a price of their own (`elsewhere`), a day before the
first price known. Discounts telemetry does not show are left out: batches, committed use, free tiers; so are charges that
are not for tokens. A cache is priced as written for minutes unless a call tells that it was for an hour.

    prices:
      - models: [support-4o]        # a deployment's name, or a shell pattern; case does not matter
        providers: [azure*]         # only when bought there; left out: not from those under `elsewhere`
        rates:                      # US dollars for a million tokens
          - {input: 2.75, output: 11, cache_read: 1.375}
          - {since: 2026-10-01, input: 2.5, output: 10, over: {tokens: 200000, input: 5, output: 15}}
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from fnmatch import translate
from functools import cache, cached_property
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from graders.usage import Tokens, provider_of, usage_of
from store.types import Span, Trace
from store.yamlfile import ConfigError, load_yaml, parse_yaml

_MILLION = 1_000_000
_NS = 1_000_000_000
_MOST_REMEMBERED = 4096
_MOST_READ = 200
"""Letters of a name; none that has a price is as long."""

Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob.lower()) for glob in globs) or r"(?!)")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(_Part):
    """US dollars for a million tokens."""

    input: Price
    output: Price
    cache_read: Price | None = None
    """Input that came from a cache; None charges it like any other."""
    cache_write: Price | None = None
    """Input that was put into one; None charges it like any other."""
    cache_write_1h: Price | None = None
    """Input that was put into one for an hour, where telemetry tells; None charges it as `cache_write`."""

    def cost(self, used: Tokens) -> float:
        """Dollars for one call whose input and output are known."""
        read, write, long = used.cache_read or 0, used.cache_write or 0, used.cache_write_1h or 0
        written = self.input if self.cache_write is None else self.cache_write
        dollars = ((used.input or 0) - read - write) * self.input + (used.output or 0) * self.output
        dollars += read * (self.input if self.cache_read is None else self.cache_read)
        dollars += (write - long) * written + long * (written if self.cache_write_1h is None else self.cache_write_1h)
        return dollars / _MILLION


class LongPrompt(Rates):
    """Rates of a call, all of it, with more input than `tokens`."""

    tokens: int = Field(gt=0)


class Period(Rates):
    """Rates from a day on, 00:00 UTC."""

    since: date | None = None
    """None: as long as the model was there."""
    over: LongPrompt | None = None

    @cached_property
    def since_ns(self) -> int:
        """The day's beginning in nanoseconds."""
        if self.since is None:
            return 0
        return int(datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC).timestamp()) * _NS

    def cost(self, used: Tokens) -> float:
        """Dollars for one call, at the rates its length has."""
        if self.over is not None and (used.input or 0) > self.over.tokens:
            return self.over.cost(used)
        return super().cost(used)


class Entry(_Part):
    """What some models cost."""

    models: tuple[str, ...] = Field(min_length=1)
    """Names, or shell patterns, without anything up to the last `/`; case does not matter."""
    providers: tuple[str, ...] = ()
    """Whom they are bought from, by name or shell pattern; none means anyone who is not under `elsewhere`."""
    also_from: tuple[str, ...] = ()
    """Providers under `elsewhere` that sell them at the same prices."""
    rates: tuple[Period, ...] = Field(min_length=1)
    """In order of their dates."""
    source: str = ""
    """Where the prices stand."""
    seen: date | None = None
    """When they were looked at."""

    @cached_property
    def names(self) -> re.Pattern[str]:
        """`models` as one pattern."""
        return _pattern(self.models)

    @cached_property
    def sellers(self) -> re.Pattern[str]:
        """`providers` and `also_from` as one pattern."""
        return _pattern((*self.providers, *self.also_from))

    @model_validator(mode="after")
    def _ordered(self) -> Entry:
        days = [period.since_ns for period in self.rates]
        if any(later <= earlier for earlier, later in pairwise(days)):
            raise ValueError("`rates` stand in order of `since`, each day once; only the first may leave it out")
        return self


class PriceTable(_Part):
    """The whole file."""

    elsewhere: tuple[str, ...] = ()
    """Providers, as shell patterns, that sell other makers' models: only an entry that names them is about them."""
    prices: tuple[Entry, ...] = ()
    """The first entry that fits decides."""

    def before(self, other: PriceTable) -> PriceTable:
        """This table, and what it does not say from another."""
        return PriceTable(elsewhere=(*self.elsewhere, *other.elsewhere), prices=(*self.prices, *other.prices))

    @cached_property
    def _known(self) -> dict[tuple[str, str], Entry | None]:
        return {}

    def entry(self, model: str, provider: str) -> Entry | None:
        """The entry about a model bought from a provider."""
        known, key = self._known, (model[:_MOST_READ], provider[:_MOST_READ])
        if key not in known:
            if len(known) >= _MOST_REMEMBERED:  # names come from telemetry
                known.clear()
            known[key] = self._entry(*(text.lower().strip() for text in key))
        return known[key]

    def _entry(self, model: str, provider: str) -> Entry | None:
        # `azure/gpt-4o`: gateways write whom they ask before the name.
        *path, name = model.split("/")
        sellers = [seller for seller in (provider, *path) if seller]
        resold = any(self._resellers.match(seller) for seller in sellers)
        for entry in self.prices:
            if entry.names.match(name) and (
                any(entry.sellers.match(seller) for seller in sellers) or not (entry.providers or resold)
            ):
                return entry
        return None

    @cached_property
    def _resellers(self) -> re.Pattern[str]:
        return _pattern(self.elsewhere)


class Cost(NamedTuple):
    """What the model calls of a trace cost."""

    usd: float
    """Of those whose price is known."""
    calls: int
    unpriced: int = 0
    """How many others there are."""
    reasons: tuple[str, ...] = ()
    """Why their price is not known, once each."""


def trace_cost(trace: Trace, prices: PriceTable | None = None) -> Cost:
    """Add up the model calls of a trace, each once."""
    table = builtin() if prices is None else prices
    calls, tokens = usage_of(trace)
    usd, unpriced = 0.0, 0
    reasons: dict[str, None] = {}
    for span, used in zip(calls, tokens, strict=True):
        cost = _cost(span, used, table)
        if isinstance(cost, str):
            unpriced += 1
            reasons[cost] = None
        else:
            usd += cost
    return Cost(round(usd, 9), len(calls), unpriced, tuple(reasons))


def _cost(span: Span, used: Tokens, table: PriceTable) -> float | str:
    if used.input is None or used.output is None:
        return "tokens are not told"
    if not span.model:
        return "no model is named"
    provider = provider_of(span)
    entry = table.entry(span.model, provider)
    if entry is None:
        return f"no price is known for {span.model[:100]}" + (f" from {provider[:60]}" if provider else "")
    for period in reversed(entry.rates):
        if period.since_ns <= span.start_ns:
            return period.cost(used)
    return f"the price of {span.model[:100]} is known only since {entry.rates[0].since}"


@cache
def builtin() -> PriceTable:
    """The prices this version of tracegrade ships."""
    text = files("graders").joinpath("prices.yaml").read_text("utf-8")
    return parse_yaml(text, PriceTable, "graders/prices.yaml")


def _table(value: Any) -> Any:
    if not isinstance(value, str | Path):
        return value
    try:
        return load_yaml(value, PriceTable).before(builtin())
    except ConfigError as error:
        raise ValueError(str(error)) from None


Prices = Annotated[PriceTable, BeforeValidator(_table)]
"""A field for a table: a file's name puts what the file says before the prices that ship."""
