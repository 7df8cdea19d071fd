"""Known answers, invariants and operating characteristics of `gate.stats`."""

import math
import random

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gate import stats

Z95 = stats.normal_quantile(0.975)
Z90 = stats.normal_quantile(0.95)


# --- distributions against scipy -------------------------------------------------------------------


@pytest.mark.parametrize("df", [1, 2.5, 6.362273, 9, 29, 120, 5e3, 9.9e4, 1.1e5, 1e7])
@pytest.mark.parametrize("p", [1e-8, 1e-4, 0.005, 0.025, 0.2, 0.5, 0.8, 0.975, 0.999])
def test_student_agrees_with_scipy(df: float, p: float) -> None:
    oracle = float(scipy.stats.t.ppf(p, df))
    assert stats.student_quantile(p, df) == pytest.approx(oracle, rel=1e-9, abs=1e-12)
    assert stats.student_cdf(oracle, df) == pytest.approx(p, rel=1e-7, abs=1e-10)


def test_student_with_infinite_df_is_the_normal() -> None:
    assert stats.student_quantile(0.975, math.inf) == pytest.approx(1.959963984540054, abs=1e-12)
    assert stats.student_cdf(-1.0, math.inf) == pytest.approx(float(scipy.stats.norm.cdf(-1.0)), abs=1e-15)


@given(st.floats(0.2, 500), st.floats(0.2, 500), st.floats(1e-6, 1 - 1e-6))
def test_beta_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert stats.beta_cdf(x, a, b) == pytest.approx(float(scipy.stats.beta.cdf(x, a, b)), abs=1e-10)


# --- known answers ---------------------------------------------------------------------------------

# name, reg, fix, n, exact, mid-p, Tango 95 % (reference/gate KA-1..6, 8, 9; published in the R packages named there)
PAIRED = [
    ("bentur", 7, 1, 21, 0.070313, 0.039063, (-0.5172, -0.0260)),
    ("cavo", 16, 6, 161, 0.052479, 0.034690, (-0.1240, -0.0054)),
    ("agresti-min", 8, 16, 86, 0.151590, 0.107752, (-0.0197, 0.2069)),
    ("tango", 3, 9, 32, 0.145996, 0.092285, (-0.0271, 0.3897)),
    ("ezra", 2, 25, 102, 5.6475e-6, None, (0.1392, 0.3213)),
    ("agresti-1600", 86, 150, 1600, 3.7e-5, 2.9e-5, (0.0214, 0.0590)),
    ("propcis", 20, 40, 160, None, None, (0.030865, 0.218064)),
    ("nothing-changed", 0, 0, 100, 1.0, 1.0, (-0.0369935, 0.0369935)),
]


@pytest.mark.parametrize(("name", "reg", "fix", "n", "exact", "mid", "interval"), PAIRED, ids=[r[0] for r in PAIRED])
def test_paired_binary_known_answers(
    name: str, reg: int, fix: int, n: int, exact: float | None, mid: float | None, interval: tuple[float, float]
) -> None:
    assert stats.tango_interval(reg, fix, n, Z95) == pytest.approx(interval, abs=5e-5)
    if exact is not None:
        assert stats.mcnemar_exact(reg, fix) == pytest.approx(exact, rel=0.02, abs=5e-7)
    if mid is not None:
        assert stats.mcnemar_mid_p(reg, fix) == pytest.approx(mid, rel=0.02, abs=5e-7)


def test_ka7_at_ninety_percent() -> None:
    assert stats.tango_interval(1, 0, 44, Z90) == pytest.approx((-0.0957, 0.0365), abs=5e-5)


# reg, fix, n, z(-.05), 95 % interval, shown not inferior at .025 (KA-10..13)
GATE_STYLE = [
    (18, 10, 400, 2.0721, (-0.0482, 0.0063), True),
    (30, 10, 400, 0.0, (-0.0831, -0.0200), False),
    (0, 0, 50, 1.6222, (-0.0713, 0.0713), False),
    (1, 0, 150, None, (-0.0368, 0.0185), True),
]


@pytest.mark.parametrize(("reg", "fix", "n", "z", "interval", "shown"), GATE_STYLE)
def test_gate_style_known_answers(
    reg: int, fix: int, n: int, z: float | None, interval: tuple[float, float], shown: bool
) -> None:
    paired = stats.paired_binary(reg, fix, n)
    if z is not None:
        assert paired.z(-0.05) == pytest.approx(z, abs=5e-5)
    assert paired.interval(0.025) == pytest.approx(interval, abs=5e-5)
    assert (paired.p_not_inferior(0.05) < 0.025) is shown
    assert (paired.interval(0.025)[0] > -0.05) is shown


def test_ka10_p() -> None:
    assert stats.paired_binary(18, 10, 400).p_not_inferior(0.05) == pytest.approx(0.01913, abs=5e-6)


def test_ka14_replays() -> None:
    base, cand = (4, 4, 3, 4, 2, 4, 1, 4, 4, 0), (4, 3, 3, 4, 1, 4, 2, 2, 4, 0)
    paired = stats.paired_effective([(c - b) / 4 for b, c in zip(base, cand, strict=True)], None, 0.2)
    assert (paired.fix, paired.reg, paired.estimate) == pytest.approx((0.25, 1.0, -0.075))
    assert paired.variance == pytest.approx(0.00423611, abs=1e-8)
    assert paired.scale == pytest.approx(2.818033, abs=1e-6)
    assert paired.n_eff == pytest.approx(28.1803, abs=1e-4)
    assert paired.df == 9
    assert paired.interval(0.025) == pytest.approx((-0.276331, 0.114819), abs=1e-6)


KA15 = [(0, -1, 0, 0), (1, 0, 0), (-1, -1, 0, -1, 0), (0, 0), (0, 1, 0), (-1, 0, 0, 0), (0, 0, 1), (-1, 0)]
KA15_VALUES = [float(d) for cluster in KA15 for d in cluster]
KA15_CLUSTERS = [g for g, cluster in enumerate(KA15) for _ in cluster]


def test_ka15_clusters() -> None:
    mean = math.fsum(KA15_VALUES) / len(KA15_VALUES)
    assert mean == pytest.approx(-0.115385, abs=1e-6)
    robust = stats.cluster_variances(stats.cluster_totals(KA15_VALUES, KA15_CLUSTERS).values(), mean)
    errors = [math.sqrt(v) for v in (robust.cr0, robust.cr1, robust.cr2)]
    assert errors == pytest.approx([0.136159, 0.145560, 0.147958], abs=1e-6)
    assert robust.df == pytest.approx(6.362273, abs=1e-6)
    assert math.sqrt(stats.mean_variance(KA15_VALUES, None).variance) == pytest.approx(0.115385, abs=1e-6)
    half = stats.student_quantile(0.975, robust.df) * errors[2]
    assert (mean - half, mean + half) == pytest.approx((-0.472486, 0.241717), abs=1e-6)
    paired = stats.paired_effective(KA15_VALUES, KA15_CLUSTERS, 0.2)
    assert paired.interval(0.025) == pytest.approx((-0.475918, 0.279708), abs=1e-6)
    assert stats.paired_binary(6, 3, 26).interval(0.025) == pytest.approx((-0.342210, 0.120783), abs=1e-6)


def test_ka16_pass_hat() -> None:
    assert [stats.pass_hat(6, 8, k) for k in range(1, 6)] == pytest.approx(
        [0.75, 0.535714, 0.357143, 0.214286, 0.107143], abs=1e-6
    )


@pytest.mark.parametrize(
    ("runs", "passes", "p"),
    [(3, 0, 0.05), (4, 0, 0.0143), (5, 0, 0.0040), (8, 0, 7.8e-5), (4, 1, 0.0714), (8, 1, 7e-4)],
)
def test_fisher_of_a_case_that_always_passed(runs: int, passes: int, p: float) -> None:
    assert stats.fisher_worse(runs, runs, passes, runs) == pytest.approx(p, rel=0.02)
    oracle = scipy.stats.fisher_exact([[passes, runs - passes], [runs, 0]], alternative="less").pvalue
    assert stats.fisher_worse(runs, runs, passes, runs) == pytest.approx(float(oracle), rel=1e-9)


def test_ka18_budgets() -> None:
    base = [1.2, 0.8, 2.5, 1.1, 3.0, 0.9, 1.4, 2.2, 1.0, 1.7, 0.6, 5.0]
    cand = [1.3, 0.9, 2.4, 1.5, 3.3, 0.9, 1.2, 2.9, 1.1, 1.6, 0.7, 6.1]
    typical = stats.geometric_mean_ratio(base, cand, None, 0.05)
    assert (typical.estimate, typical.low, typical.high) == pytest.approx((1.0934686, 1.0183074, 1.1741776), abs=1e-7)
    bill = stats.ratio_of_totals(base, cand, None, 0.05)
    assert (bill.estimate, bill.low, bill.high) == pytest.approx((1.1168224, 1.0324052, 1.2012397), abs=1e-7)


def test_ka20_no_event_bounds_the_rate() -> None:
    assert stats.clopper_pearson(0, 100, 0.05)[1] == pytest.approx(0.0295130, abs=1e-7)
    assert stats.clopper_pearson(0, 300, 0.05)[1] == pytest.approx(0.0099361, abs=1e-7)


@pytest.mark.parametrize(("events", "n"), [(0, 20), (1, 20), (7, 20), (19, 20), (20, 20), (180, 200)])
def test_clopper_pearson_agrees_with_scipy(events: int, n: int) -> None:
    oracle = scipy.stats.binomtest(events, n).proportion_ci(0.95, method="exact")
    assert stats.clopper_pearson(events, n, 0.025) == pytest.approx((oracle.low, oracle.high), abs=1e-10)


def test_ka22_holm() -> None:
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719]
    published += [0.6528, 0.7590, 1.0]
    adjusted = stats.holm({f"h{i:02}": p for i, p in enumerate(published)})
    assert [adjusted[f"h{i:02}"] for i in range(4)] == pytest.approx([0.0015, 0.0056, 0.0247, 0.1140])
    assert sum(p <= 0.05 for p in adjusted.values()) == 3


@pytest.mark.parametrize(("alpha", "row"), [(0.025, (765, 381, 189, 125, 73, 35)), (0.05, (539, 268, 133, 88, 52, 25))])
def test_smallest_n_that_can_pass(alpha: float, row: tuple[int, ...]) -> None:
    margins = (0.005, 0.01, 0.02, 0.03, 0.05, 0.10)
    assert tuple(stats.n_min(margin, alpha) for margin in margins) == row
    for margin, n in zip(margins, row, strict=True):
        assert stats.paired_binary(0, 0, n).p_not_inferior(margin) < alpha
        assert stats.paired_binary(0, 0, n - 1).p_not_inferior(margin) >= alpha
        assert stats.n_min(stats.margin_min(n, alpha), alpha) <= n


# psi 10 %, margin 5 %: cases for 80 % power (the planner's table, one blocker)
@pytest.mark.parametrize(("psi", "margin", "published"), [(0.05, 0.05, 157), (0.10, 0.05, 314), (0.20, 0.05, 628)])
def test_cases_needed(psi: float, margin: float, published: int) -> None:
    half = round(psi * 10_000 / 2)
    assert stats.paired_binary(half, half, 10_000).needed(margin, 0.025) == published


# --- invariants ------------------------------------------------------------------------------------

tables = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400)).map(
    lambda t: (t[0], t[1], t[0] + t[1] + t[2])
)
differences = st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=60)


@given(tables)
def test_swapping_the_arms_mirrors_the_interval(table: tuple[int, int, int]) -> None:
    reg, fix, n = table
    low, high = stats.paired_binary(reg, fix, n).interval(0.025)
    assert stats.paired_binary(fix, reg, n).interval(0.025) == pytest.approx((-high, -low), abs=1e-9)
    assert low <= (fix - reg) / n <= high


@given(tables, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_wider_margin_is_never_harder(table: tuple[int, int, int], one: float, other: float) -> None:
    paired = stats.paired_binary(*table)
    assert paired.p_not_inferior(max(one, other)) <= paired.p_not_inferior(min(one, other)) + 1e-12


@given(tables, st.floats(0.005, 0.4))
def test_the_interval_and_the_test_say_the_same(table: tuple[int, int, int], margin: float) -> None:
    paired = stats.paired_binary(*table)
    low, _ = paired.interval(0.025)
    if abs(low + margin) > 1e-9:
        assert (low > -margin) == (paired.p_not_inferior(margin) < 0.025)


@given(differences, st.randoms(use_true_random=False))
def test_order_never_matters(values: list[float], shuffler: random.Random) -> None:
    rows = [(value, i // 2) for i, value in enumerate(values)]
    shuffled = rows.copy()
    shuffler.shuffle(shuffled)
    for clustered in (False, True):
        first, second = (
            stats.paired_effective([d for d, _ in r], [g for _, g in r] if clustered else None, 0.2)
            for r in (rows, shuffled)
        )
        assert first.interval(0.025) == pytest.approx(second.interval(0.025), abs=1e-9)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=5, max_size=80))
def test_effective_sample_of_independent_binary_pairs_is_almost_the_sample(values: list[float]) -> None:
    """The only difference is n-1 in the variance."""
    paired = stats.paired_effective(values, None, 0.2)
    if sum(map(abs, values)) > 0 and abs(sum(values)) < len(values):
        assert paired.scale == pytest.approx((len(values) - 1) / len(values))


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(0, 7)), min_size=16, max_size=60))
def test_closed_forms_of_cr2_agree_with_the_matrix(rows: list[tuple[float, int]]) -> None:
    values = [d for d, _ in rows] + [0.0, 1.0]
    clusters = [g for _, g in rows] + [100, 101]
    n, mean = len(values), math.fsum(values) / len(values)
    sizes = {g: clusters.count(g) for g in clusters}
    names = list(sizes)
    brute = math.fsum(
        (math.fsum(d - mean for d, c in zip(values, clusters, strict=True) if c == g)) ** 2 / (1 - sizes[g] / n)
        for g in names
    )
    moment = math.fsum(
        (sizes[g] if g == h else -(sizes[g] * sizes[h] / n) / math.sqrt((1 - sizes[g] / n) * (1 - sizes[h] / n))) ** 2
        for g in names
        for h in names
    )
    robust = stats.cluster_variances(stats.cluster_totals(values, clusters).values(), mean)
    assert robust.cr2 == pytest.approx(brute / n**2, abs=1e-12)
    assert robust.df == pytest.approx(n**2 / moment)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_and_bonferroni(p_values: dict[str, float]) -> None:
    adjusted = stats.holm(p_values)
    for name, p in p_values.items():
        assert p <= adjusted[name] <= 1.0
        assert adjusted[name] <= max(min(1.0, len(p_values) * q) for q in p_values.values() if q <= p) + 1e-12
    ordered = sorted(p_values, key=lambda name: (p_values[name], name))
    assert [adjusted[name] for name in ordered] == sorted(adjusted.values())


# --- operating characteristics ---------------------------------------------------------------------


def _binomial_pmf(n: int, p: float) -> list[float]:
    return [math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
                     + k * math.log(p) + (n - k) * math.log1p(-p)) for k in range(n + 1)]  # fmt: skip


def _promote_probability(n: int, psi: float, difference: float, margin: float, alpha: float) -> float:
    """Exact, by enumerating the discordant tables that matter."""
    critical = -stats.normal_quantile(alpha)
    worse = (psi - difference) / 2 / psi
    total = 0.0
    for discordant, weight in enumerate(_binomial_pmf(n, psi)):
        if weight < 1e-9:
            continue
        split = [1.0] if discordant == 0 else _binomial_pmf(discordant, worse)
        for reg, share in enumerate(split):
            if stats.tango_z(reg, discordant - reg, n, -margin) <= critical:
                break  # more regressions never pass
            total += weight * share
    return total


@pytest.mark.parametrize("n", [30, 50, 100, 200])
@pytest.mark.parametrize("psi", [0.06, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("margin", [0.02, 0.05])
def test_exact_size_at_the_boundary(n: int, psi: float, margin: float) -> None:
    """A candidate exactly `margin` worse is promoted at most 2.6 % of the time."""
    assert _promote_probability(n, psi, -margin, margin, 0.025) <= 0.026


@pytest.mark.parametrize(
    ("n", "psi", "difference", "published"),
    [(100, 0.1, 0.0, 0.289), (200, 0.1, 0.0, 0.562), (200, 0.1, -0.05, 0.022), (100, 0.2, 0.0, 0.179)],
)
def test_exact_promote_rates(n: int, psi: float, difference: float, published: float) -> None:
    assert _promote_probability(n, psi, difference, 0.05, 0.025) == pytest.approx(published, abs=5.1e-4)


def _case_differences(rng: random.Random, n: int, replays: int) -> list[float]:
    """Cases as tau2-airline's, the candidate 5 points worse on average."""
    out = []
    for _ in range(n):
        p = rng.betavariate(0.62 * 4, 0.38 * 4)
        q = max(0.0, p - 0.05 * p / 0.62)
        base = sum(rng.random() < p for _ in range(replays))
        cand = sum(rng.random() < q for _ in range(replays))
        out.append((cand - base) / replays)
    return out


@pytest.mark.parametrize("replays", [2, 4])
def test_effective_sample_tango_keeps_its_size_with_replays(replays: int) -> None:
    rng = random.Random(20260101 + replays)
    runs = 1200
    passed = sum(
        stats.paired_effective(_case_differences(rng, 60, replays), None, 0.2).p_not_inferior(0.05) < 0.025
        for _ in range(runs)
    )
    assert passed / runs <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)


def _clustered_differences(rng: random.Random, groups: int, size: int) -> tuple[list[float], list[int]]:
    """A cluster moves as one a third of the time; the mean difference is -5 points."""
    values: list[float] = []
    clusters: list[int] = []
    for group in range(groups):
        shared = rng.random()
        for _ in range(size):
            u = shared if rng.random() < 0.55 else rng.random()
            values.append(-1.0 if u < 0.125 else 1.0 if u > 0.925 else 0.0)
            clusters.append(group)
    return values, clusters


def test_clusters_are_not_taken_for_independent_cases() -> None:
    """The plain interval promotes far too often here; the cluster-robust one stays near its level."""
    rng = random.Random(7)
    runs, plain, robust = 800, 0, 0
    for _ in range(runs):
        values, clusters = _clustered_differences(rng, 40, 10)
        reg, fix = values.count(-1.0), values.count(1.0)
        plain += stats.paired_binary(reg, fix, len(values)).p_not_inferior(0.05) < 0.025
        robust += stats.paired_effective(values, clusters, 0.2).p_not_inferior(0.05) < 0.025
    assert robust / runs <= 0.045
    assert plain / runs > 2 * robust / runs


# --- extremes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reg", "fix", "n"), [(0, 5, 5), (5, 0, 5), (0, 1, 1), (1, 0, 1), (0, 10**6, 10**6)])
def test_everything_discordant(reg: int, fix: int, n: int) -> None:
    low, high = stats.paired_binary(reg, fix, n).interval(0.025)
    assert -1.0 <= low <= high <= 1.0
    assert (high == 1.0) is (fix == n)
    assert (low == -1.0) is (reg == n)


def test_no_difference_in_few_clusters_is_not_certainty() -> None:
    flat = stats.paired_effective([0.0] * 100, [i // 10 for i in range(100)], 0.2)
    assert flat.n_eff == pytest.approx(100 / (1 + 9 * 0.2))
    low, high = flat.interval(0.025)
    assert low < -0.05 < 0.05 < high


def test_a_variance_needs_two() -> None:
    with pytest.raises(ValueError, match="two or more"):
        stats.mean_variance([1.0], None)
    with pytest.raises(ValueError, match="two or more"):
        stats.mean_variance([1.0, 0.0], [3, 3])
