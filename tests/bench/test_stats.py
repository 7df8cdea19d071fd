"""Figures against textbook answers, against scipy, and against what an interval promises."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import binomtest, mannwhitneyu

from bench.carding import stats
from bench.carding.stats import Figure


@pytest.mark.parametrize(("good", "n"), [(0, 1), (1, 1), (0, 20), (8, 10), (50, 100), (999, 1000)])
def test_wilson_is_scipys(good: int, n: int) -> None:
    expected = binomtest(good, n).proportion_ci(method="wilson")
    assert stats.wilson(good, n) == pytest.approx((expected.low, expected.high))


def test_wilson_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        stats.wilson(0, 0)


def test_a_share_of_independent_units_is_wilsons() -> None:
    found = stats.share((str(i), i < 8) for i in range(10))
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx(stats.wilson(8, 10))


def test_units_that_repeat_each_other_count_once() -> None:
    """Ten times the units, all of a cluster alike: the interval stays about as wide as it was."""
    once = stats.share((str(i), i < 80) for i in range(100))
    repeated = stats.share((str(i), i < 80) for i in range(100) for _ in range(10))
    assert repeated.n == 1000
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.02)


def test_units_that_do_not_repeat_each_other_count_each() -> None:
    source = random.Random(7)
    units = [(str(i % 100), source.random() < 0.5) for i in range(1000)]
    clustered, alone = stats.share(units), stats.share((str(i), good) for i, (_, good) in enumerate(units))
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.15)


@pytest.mark.parametrize("good", [True, False])
def test_a_share_of_all_or_none_has_as_many_units_as_clusters(good: bool) -> None:
    found = stats.share((str(i), good) for i in range(30) for _ in range(4))
    assert (found.low, found.high) == pytest.approx(stats.wilson(30 * good, 30))


def test_one_cluster_or_no_unit_has_no_interval() -> None:
    assert stats.share([]) == Figure(None)
    assert stats.share([("a", True), ("a", False)]) == Figure(0.5, n=2)
    assert stats.auc([("a", True, 1.0), ("a", False, 0.0)]) == Figure(1.0, n=2)
    assert stats.auc([("a", True, 1.0)]) == Figure(None, n=1)
    assert stats.bootstrap([("a", 1, 1), ("a", 0, 0)], stats.kappa) == Figure(1.0, n=2)
    assert stats.bootstrap([], stats.kappa) == Figure(None)


def test_auc_with_ties_is_mann_whitneys() -> None:
    source = random.Random(3)
    positive = [source.randrange(6) + 1.0 for _ in range(40)]
    negative = [float(source.randrange(6)) for _ in range(60)]
    units = [(f"p{i}", True, v) for i, v in enumerate(positive)] + [(f"n{i}", False, v) for i, v in enumerate(negative)]
    found = stats.auc(units)
    assert found.value == pytest.approx(mannwhitneyu(positive, negative).statistic / (40 * 60))


def test_auc_of_independent_units_has_delongs_interval() -> None:
    """DeLong, DeLong and Clarke-Pearson (1988), written out; the two differ by the factor of the clusters, n / (n - 1)."""
    source = random.Random(5)
    positive = [source.gauss(1, 1) for _ in range(150)]
    negative = [source.gauss(0, 1) for _ in range(250)]

    def above(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    v10 = [sum(above(x, y) for y in negative) / 250 for x in positive]
    v01 = [sum(above(x, y) for x in positive) / 150 for y in negative]
    area = sum(v10) / 150
    variance = sum((v - area) ** 2 for v in v10) / 149 / 150 + sum((v - area) ** 2 for v in v01) / 249 / 250
    half = stats.Z * math.sqrt(variance) / (area * (1 - area))
    found = stats.auc(
        [(f"p{i}", True, v) for i, v in enumerate(positive)] + [(f"n{i}", False, v) for i, v in enumerate(negative)]
    )
    assert found.value == pytest.approx(area)
    logit = [math.log(p / (1 - p)) for p in (found.low, found.high)]
    assert (logit[1] - logit[0]) / 2 == pytest.approx(half, rel=0.01)


def test_the_interval_of_a_clustered_auc_holds_the_truth_about_as_often_as_it_says() -> None:
    """Scores share a cluster's luck; an interval that took units for independent would often miss the truth."""
    source = random.Random(11)
    truth = 0.5 * (1 + math.erf(0.5))  # the difference of two scores has mean 1 and variance 2
    held = held_by_units = 0
    for _ in range(200):
        units = []
        for cluster in range(60):
            luck, good = source.gauss(0, math.sqrt(0.5)), cluster % 2 == 0
            units += [(str(cluster), good, luck + source.gauss(1.0 if good else 0.0, math.sqrt(0.5))) for _ in range(6)]
        found = stats.auc(units)
        held += found.low <= truth <= found.high
        found = stats.auc((str(i), good, score) for i, (_, good, score) in enumerate(units))
        held_by_units += found.low <= truth <= found.high
    assert 180 <= held <= 199
    assert held_by_units < 160


def test_kappa_of_the_textbook() -> None:
    assert stats.kappa({("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}) == pytest.approx(0.4)
    assert stats.kappa({("a", "a"): 3, ("b", "b"): 4, ("c", "c"): 5}) == 1
    assert stats.kappa({("a", "b"): 1, ("b", "a"): 1}) == -1
    assert stats.kappa({("a", "a"): 7}) is None
    assert stats.kappa({}) is None


def test_balanced_accuracy_is_the_mean_of_recalls() -> None:
    table = {(True, True): 8, (False, True): 2, (True, False): 30, (False, False): 70}
    assert stats.balanced(table) == pytest.approx((0.8 + 0.7) / 2)
    assert stats.balanced({(True, True): 8}) is None


def test_the_bootstrap_gives_the_same_twice_and_agrees_with_theory() -> None:
    """Cohen's (1960) large-sample error of kappa: the root of po (1 - po) / n, by 1 - pe."""
    cells = {("y", "y"): 88, ("y", "n"): 10, ("n", "y"): 14, ("n", "n"): 88}
    units = [(str(i), *cell) for i, cell in enumerate(cell for cell, count in cells.items() for _ in range(count))]
    found = stats.bootstrap(units, stats.kappa)
    assert found == stats.bootstrap(units, stats.kappa)
    po = 176 / 200
    error = math.sqrt(po * (1 - po) / 200) / 0.5  # the margins are near one half, so pe is
    assert found.high - found.low == pytest.approx(2 * stats.Z * error, rel=0.1)


def test_the_bootstrap_draws_whole_clusters() -> None:
    units = [(str(i), i % 3 > 0, i % 2 > 0) for i in range(120)]
    once = stats.bootstrap(units, stats.balanced)
    repeated = stats.bootstrap([unit for unit in units for _ in range(5)], stats.balanced)
    assert repeated.value == once.value
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.05)
