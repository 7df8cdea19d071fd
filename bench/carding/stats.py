"""Figures with 95 % intervals, pure Python, for units that may repeat within clusters.

Units of one cluster (runs of one case, claims of one answer) are not independent. Shares get Wilson's interval with the
number of units divided by the design effect of the clusters; AUC the variance of DeLong, Obuchowski's form for clusters, on
the logit scale; kappa and balanced accuracy a percentile bootstrap that draws whole clusters, with a fixed seed. Where one
cluster is all there is no interval can be given, and none is.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Z = 1.959963984540054
DRAWS = 1000
SEED = 20261121

Table = Counter[tuple[Hashable, Hashable]]
"""How often two readers said what of the same unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, its interval and what it was counted on. None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


def wilson(good: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a share; `n` may be a fraction, as effective sizes are."""
    if n <= 0:
        raise ValueError("a share of nothing has no interval")
    p, square = good / n, Z * Z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = Z * math.sqrt(p * (1 - p) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(units: Iterable[tuple[str, bool]]) -> Figure:
    """The share of units that hold; each is its cluster and whether it holds."""
    sizes: Counter[str] = Counter()
    goods: Counter[str] = Counter()
    for cluster, good in units:
        sizes[cluster] += 1
        goods[cluster] += good
    n, good_units, clusters = sizes.total(), goods.total(), len(sizes)
    if not n:
        return Figure(None)
    p = good_units / n
    if clusters == n:
        effective = float(n)
    elif clusters == 1:
        return Figure(p, n=n)
    elif 0 < good_units < n:
        spread = sum((goods[c] - p * sizes[c]) ** 2 for c in sizes) * clusters / (clusters - 1) / n**2
        effective = min(float(n), p * (1 - p) / spread) if spread else float(n)
    else:
        # All alike: nothing tells how much the units of a cluster repeat each other, so a cluster counts once.
        effective = float(clusters)
    low, high = wilson(p * effective, effective)
    return Figure(p, low, high, n)


def auc(units: Iterable[tuple[str, bool, float]]) -> Figure:
    """Chance that a positive unit scores above a negative one, ties half; units are cluster, truth, score."""
    rows = list(units)
    positives = sorted(score for _, truth, score in rows if truth)
    negatives = sorted(score for _, truth, score in rows if not truth)
    n_pos, n_neg = len(positives), len(negatives)
    if not n_pos or not n_neg:
        return Figure(None, n=len(rows))
    above, below = _placements(negatives), _placements(positives)
    # Of each unit the share of the other class that it is on the right side of.
    placed = [(c, truth, above(score) if truth else 1 - below(score)) for c, truth, score in rows]
    area = math.fsum(value for _, truth, value in placed if truth) / n_pos
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cluster, truth, value in placed:
        sums[cluster][0 if truth else 1] += value - area
    if len(sums) < 2 or n_pos < 2 or n_neg < 2:
        return Figure(area, n=len(rows))
    factor = len(sums) / (len(sums) - 1)
    variance = factor * math.fsum((pos / n_pos + neg / n_neg) ** 2 for pos, neg in sums.values())
    if not 0 < area < 1:
        return Figure(area, n=len(rows))
    centre, half = math.log(area / (1 - area)), Z * math.sqrt(variance) / (area * (1 - area))
    return Figure(area, _logistic(centre - half), _logistic(centre + half), len(rows))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _placements(others: Sequence[float]) -> Callable[[float], float]:
    """Share of sorted values that are below a score, ties half."""
    from bisect import bisect_left, bisect_right

    return lambda score: (bisect_left(others, score) + bisect_right(others, score)) / 2 / len(others)


def kappa(table: Mapping[tuple[Hashable, Hashable], int]) -> float | None:
    """Cohen's kappa; None when chance alone would agree always."""
    n = sum(table.values())
    if not n:
        return None
    rows: Counter[Hashable] = Counter()
    columns: Counter[Hashable] = Counter()
    same = 0
    for (a, b), count in table.items():
        rows[a] += count
        columns[b] += count
        same += count if a == b else 0
    chance = sum(rows[key] * columns[key] for key in rows) / n**2
    return (same / n - chance) / (1 - chance) if chance < 1 else None


def balanced(table: Mapping[tuple[Hashable, Hashable], int]) -> float | None:
    """Mean, over the true classes (the second of each pair), of the share that was found."""
    sizes: Counter[Hashable] = Counter()
    found: Counter[Hashable] = Counter()
    for (said, truth), count in table.items():
        sizes[truth] += count
        found[truth] += count if said == truth else 0
    shares = [found[truth] / size for truth, size in sizes.items() if size]
    return sum(shares) / len(shares) if len(shares) > 1 else None


def bootstrap(
    units: Iterable[tuple[str, Hashable, Hashable]],
    statistic: Callable[[Mapping[tuple[Hashable, Hashable], int]], float | None],
    draws: int = DRAWS,
) -> Figure:
    """A statistic of a two-way table, and the 2.5th and 97.5th percentile of what it is on redrawn clusters."""
    tables: dict[str, Table] = defaultdict(Counter)
    for cluster, said, truth in units:
        tables[cluster][said, truth] += 1
    whole: Table = Counter()
    for table in tables.values():
        whole.update(table)
    value = statistic(whole)
    if value is None or len(tables) < 2:
        return Figure(value, n=whole.total())
    # Clusters with equal tables are interchangeable: drawing among kinds of tables is the same, and quicker.
    kinds = Counter(tuple(sorted(table.items(), key=repr)) for table in tables.values())
    contents, weights = [dict(kind) for kind in kinds], list(kinds.values())
    source = random.Random(SEED)
    found = []
    for _ in range(draws):
        drawn: Table = Counter()
        for index, times in Counter(source.choices(range(len(contents)), weights, k=len(tables))).items():
            for cell, count in contents[index].items():
                drawn[cell] += count * times
        if (again := statistic(drawn)) is not None:
            found.append(again)
    if len(found) < draws / 2:
        return Figure(value, n=whole.total())
    found.sort()
    low, high = (found[min(len(found) - 1, int(q * len(found)))] for q in (0.025, 0.975))
    return Figure(value, low, high, whole.total())
