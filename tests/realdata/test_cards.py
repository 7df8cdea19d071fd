"""docs/cards.md says of the graders at hand what they do: some cards are made again, in this process, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cards
from bench.carding.written import DOCS, read

SETS = ("tau_bench_airline", "tau2_retail_paired", "trail", "expertqa", "wice", "begin")
"""Those that take a few seconds together."""


@pytest.fixture(scope="module")
def made(data: Path) -> dict[tuple[str, str, int], dict[str, float]]:
    """Figures by set, grader and number of units."""
    document = cards.measure(data, "dev", names=SETS)
    return {
        (c["set"], c["grader"], c["n"]): {name: f["value"] for name, f in c["figures"].items()}
        for c in document["cards"]
    }


def test_the_docs_are_of_these_graders(made: dict[tuple[str, str, int], dict[str, float]]) -> None:
    """Every card is there with as many units, and every figure lies in the interval that is printed."""
    written = {(c.set, c.grader, c.n): c.figures for c in read() if c.set in SETS}
    assert set(written) == set(made), f"{DOCS.name} is old: run `make cards`"
    for key, figures in written.items():
        for name, value in figures.items():
            now = made[key][name]
            low, high = value.low, value.high
            near = abs(now - value.value) <= 0.0051 if low is None or high is None else low - 5e-4 <= now <= high + 5e-4
            assert near, f"{key}, {name}: the docs say {value.written}, now it is {now:.3f}; run `make cards`"
