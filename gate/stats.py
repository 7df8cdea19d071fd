"""The arithmetic of the gate: closed forms, standard library only, no randomness.

Promises that the same numbers in give the same numbers out on every machine, to the precision the tests pin against
published tables. Every score is oriented so that higher is better; a difference is candidate minus baseline; `reg` is
the weight of cases that got worse, `fix` of cases that got better. What that means for a release is `gate.decide`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONTRACT = "1"
"""Part of every decision digest; raised when any status can change for the same evidence and policy."""

_NORMAL = NormalDist()
_LARGE_DF = 1e5
"""Above this, Student's t is computed from the normal: the error is below 1e-10, the continued fraction's is not."""


# --- distributions -------------------------------------------------------------------------------------------------


def normal_cdf(x: float) -> float:
    """P(Z ≤ x)."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """The z with P(Z ≤ z) = p."""
    return _NORMAL.inv_cdf(p)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(x, a, b) / a


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Lentz's evaluation of the continued fraction of I_x(a, b)."""
    tiny = 1e-300
    c = 1.0
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0) or tiny)
    value = d
    for m in range(1, 100_000):
        step = 1.0
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + numerator * d or tiny)
            c = 1.0 + numerator / c or tiny
            step = d * c
            value *= step
        if abs(step - 1.0) < 1e-15:
            break
    return value


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = p."""
    return _root(lambda x: beta_cdf(x, a, b) - p, 0.0, 1.0)


def student_cdf(t: float, df: float) -> float:
    """P(T ≤ t) with `df` degrees of freedom."""
    if math.isinf(df):
        return normal_cdf(t)
    if df > _LARGE_DF:
        # Hill's normalising transformation, whose next term is O(df^-3).
        w = df * math.log1p(t * t / df)
        v = df - 0.5
        z = math.sqrt((1.0 - 0.5 / df) * w) if t else 0.0
        z += (z**3 + 3.0 * z) / (48.0 * v * v)
        return normal_cdf(math.copysign(z, t))
    tail = 0.5 * beta_cdf(df / (df + t * t), df / 2.0, 0.5)
    return tail if t < 0 else 1.0 - tail


def student_quantile(p: float, df: float) -> float:
    """The t with P(T ≤ t) = p."""
    if p == 0.5:
        return 0.0
    if p > 0.5:
        return -student_quantile(1.0 - p, df)
    z = normal_quantile(p)
    if math.isinf(df):
        return z
    if df > _LARGE_DF:
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)
    low = 2.0 * z - 1.0
    while student_cdf(low, df) > p:
        low *= 2.0
    return _root(lambda t: student_cdf(t, df) - p, low, 0.0)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """The zero of a monotone `f` between `low` and `high`, by bisection to the last bit."""
    rising = f(high) > f(low) if not math.isnan(f(low)) else True
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if (f(middle) < 0.0) == rising:
            low = middle
        else:
            high = middle


# --- paired binary -------------------------------------------------------------------------------------------------


def tango_z(reg: float, fix: float, n: float, shift: float) -> float:
    """Tango's (1998) score statistic for the hypothesis that the mean difference is `shift`."""
    a = 2.0 * n
    b = -fix - reg + (2.0 * n - fix + reg) * shift
    c = -reg * shift * (1.0 - shift)
    p = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = n * (2.0 * p + shift * (1.0 - shift))
    distance = fix - reg - n * shift
    if variance <= 0.0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def tango_interval(reg: float, fix: float, n: float, critical: float) -> tuple[float, float]:
    """The mean differences Tango's statistic does not reject at `critical`."""
    if reg == 0.0 and fix == 0.0:
        bound = critical**2 / (n + critical**2)
        return -bound, bound
    estimate = (fix - reg) / n
    low = -1.0 if estimate <= -1.0 else _root(lambda x: tango_z(reg, fix, n, x) - critical, -1.0, estimate)
    high = 1.0 if estimate >= 1.0 else _root(lambda x: tango_z(reg, fix, n, x) + critical, estimate, 1.0)
    return low, high


def mcnemar_exact(reg: int, fix: int) -> float:
    """Two-sided exact p of no difference."""
    return min(1.0, 2.0 * _binomial_half_cdf(min(reg, fix), reg + fix))


def mcnemar_mid_p(reg: int, fix: int) -> float:
    """Two-sided mid-p of no difference."""
    total, small = reg + fix, min(reg, fix)
    if total == 0:
        return 1.0
    log_pmf = math.lgamma(total + 1) - math.lgamma(small + 1) - math.lgamma(total - small + 1) - total * math.log(2.0)
    pmf = math.exp(log_pmf)
    if reg == fix:
        return 1.0 - 0.5 * pmf
    return 2.0 * _binomial_half_cdf(small, total) - pmf


def _binomial_half_cdf(k: int, n: int) -> float:
    return 1.0 if k >= n else beta_cdf(0.5, n - k, k + 1)


def fisher_worse(base_passes: int, base_runs: int, cand_passes: int, cand_runs: int) -> float:
    """One-sided Fisher p that the candidate passes as seldom as this although both arms pass alike."""
    passes, runs = base_passes + cand_passes, base_runs + cand_runs
    below = sum(
        math.comb(cand_runs, k) * math.comb(base_runs, passes - k)
        for k in range(max(0, passes - base_runs), cand_passes + 1)
    )
    return below / math.comb(runs, passes)


def pass_hat(passes: int, runs: int, k: int) -> float:
    """Unbiased estimate that `k` further runs of a case all pass."""
    return math.comb(passes, k) / math.comb(runs, k)


# --- variances -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanVariance:
    """A mean and how sure it is."""

    mean: float
    variance: float
    """Of the mean."""
    df: float
    n: int
    clusters: int
    """Independent groups; equal to `n` when each case stands alone."""


@dataclass(frozen=True, slots=True)
class ClusterVariances:
    """Cluster-robust variances of one mean."""

    cr0: float
    cr1: float
    cr2: float
    df: float
    """Bell-McCaffrey degrees of freedom of CR2."""


def cluster_variances(groups: Iterable[tuple[float, int]], mean: float) -> ClusterVariances:
    """CR0, CR1, CR2 from the (sum, size) of each cluster; at least two clusters."""
    sizes: list[int] = []
    plain: list[float] = []
    for total, size in groups:
        sizes.append(size)
        plain.append((total - size * mean) ** 2)
    n, g = sum(sizes), len(sizes)
    if g < 2:
        raise ValueError(f"{g} cluster(s): a variance between clusters needs two or more")
    cr0 = math.fsum(plain) / n**2
    cr2 = math.fsum(square / (1.0 - size / n) for square, size in zip(plain, sizes, strict=True)) / n**2
    leverage = [size * size / n / (1.0 - size / n) for size in sizes]
    # sum over g,h of M_gh^2 without the double loop: M_gh^2 = leverage_g * leverage_h off the diagonal.
    moment = math.fsum(size * size for size in sizes) + math.fsum(leverage) ** 2 - math.fsum(x * x for x in leverage)
    return ClusterVariances(cr0=cr0, cr1=cr0 * g / (g - 1), cr2=cr2, df=n * n / moment)


def cluster_totals(values: Sequence[float], clusters: Sequence[int]) -> dict[int, tuple[float, int]]:
    """Sum and size of every cluster."""
    totals: dict[int, tuple[float, int]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        total, size = totals.get(cluster, (0.0, 0))
        totals[cluster] = (total + value, size + 1)
    return totals


def mean_variance(values: Sequence[float], clusters: Sequence[int] | None) -> MeanVariance:
    """Mean of the values with CR2 (never below the independent variance), or the plain one when `clusters` is None.

    At least two values, and two clusters if there are clusters.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"{n} value(s): a variance needs two or more")
    mean = math.fsum(values) / n
    independent = math.fsum((value - mean) ** 2 for value in values) / (n * (n - 1))
    if clusters is None:
        return MeanVariance(mean, independent, n - 1.0, n, n)
    totals = cluster_totals(values, clusters)
    robust = cluster_variances(totals.values(), mean)
    return MeanVariance(mean, max(robust.cr2, independent), robust.df, n, len(totals))


# --- effective-sample Tango ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paired:
    """What `n` paired differences in [-1, 1] say about their mean."""

    n: int
    clusters: int
    reg: float
    """Sum of the losses."""
    fix: float
    """Sum of the gains."""
    scale: float
    """Size of the equivalent independent paired binary sample, as a share of `n`."""
    variance: float
    """Of the mean difference."""
    df: float
    """Infinite for plain Tango."""

    @property
    def estimate(self) -> float:
        """Mean difference."""
        return (self.fix - self.reg) / self.n

    @property
    def n_eff(self) -> float:
        """Equivalent number of independent paired binary cases."""
        return self.scale * self.n

    @property
    def method(self) -> str:
        """Name of the interval, for the record."""
        return "tango/1" if math.isinf(self.df) else "tango-eff/1"

    def z(self, shift: float) -> float:
        """Score statistic for the hypothesis that the mean difference is `shift`."""
        return tango_z(self.scale * self.reg, self.scale * self.fix, self.n_eff, shift)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided interval with `alpha` in each tail."""
        critical = -student_quantile(alpha, self.df)
        return tango_interval(self.scale * self.reg, self.scale * self.fix, self.n_eff, critical)

    def p_not_inferior(self, margin: float) -> float:
        """One-sided p against a loss of at least `margin`: small means the loss is smaller."""
        return student_cdf(-self.z(-margin), self.df)

    def p_worse(self) -> float:
        """One-sided p against no loss: small means it got worse."""
        return student_cdf(self.z(0.0), self.df)

    def mde80(self, alpha: float) -> float:
        """Smallest true loss found with 80 % power at this precision."""
        return (normal_quantile(0.8) - normal_quantile(alpha)) * math.sqrt(self.variance)

    def needed(self, margin: float, alpha: float) -> int:
        """Cases that would show an unchanged candidate within `margin` with 80 % power, at this variance."""
        both = normal_quantile(0.8) - normal_quantile(alpha)
        planned = math.ceil(both**2 * self.n * self.variance / margin**2 - 1e-9)
        return max(planned, math.ceil(n_min(margin, alpha) / self.scale - 1e-9))


def paired_binary(reg: int, fix: int, n: int) -> Paired:
    """Plain Tango: independent cases, one run each."""
    estimate = (fix - reg) / n
    variance = max(((fix + reg) / n - estimate**2) / n, 0.0)
    return Paired(n=n, clusters=n, reg=reg, fix=fix, scale=1.0, variance=variance, df=math.inf)


MIN_ACTIVE_CLUSTERS = 5
"""With fewer clusters that show any difference, their variance is assumed, not estimated."""


def paired_effective(differences: Sequence[float], clusters: Sequence[int] | None, assumed_icc: float) -> Paired:
    """Tango's interval at the sample size the variance is worth: replays, clusters, bounded scores.

    `clusters` gives the cluster of each difference, or None when every case stands alone. Two clusters or more.
    """
    n = len(differences)
    fix = math.fsum(d for d in differences if d > 0)
    reg = math.fsum(-d for d in differences if d < 0)
    estimate = (fix - reg) / n
    summary = mean_variance(differences, clusters)
    variance = summary.variance
    # What n independent binary pairs with this discordance would have.
    binary = ((fix + reg) / n - estimate**2) / n
    if clusters is not None:
        active = {cluster for d, cluster in zip(differences, clusters, strict=True) if d}
        if len(active) < MIN_ACTIVE_CLUSTERS:
            effect = 1.0 + (n / summary.clusters - 1.0) * assumed_icc
            independent = math.fsum((d - estimate) ** 2 for d in differences) / (n * (n - 1))
            variance = max(variance, effect * independent)
            if fix + reg == 0.0:
                return Paired(n, summary.clusters, 0.0, 0.0, 1.0 / effect, 0.0, summary.df)
    # No spread at all tells nothing about the spread: count each case once.
    scale = binary / variance if variance > 0.0 and binary > 0.0 else 1.0
    return Paired(n, summary.clusters, reg, fix, scale, variance, summary.df)


def n_min(margin: float, alpha: float) -> int:
    """Fewest cases with which `margin` can ever be shown, even without one discordant case."""
    square = normal_quantile(alpha) ** 2
    return math.floor(square * (1.0 - margin) / margin) + 1


def margin_min(n: int, alpha: float) -> float:
    """Smallest margin (to four decimals) that `n` cases can ever show."""
    square = normal_quantile(alpha) ** 2
    return math.floor(square / (n + square) * 1e4 + 1.0) / 1e4


# --- one arm, ratios, multiplicity -----------------------------------------------------------------------------------


def clopper_pearson(events: float, n: float, alpha: float) -> tuple[float, float]:
    """Exact interval of a rate with `alpha` in each tail; `events` and `n` may be effective, not whole."""
    low = 0.0 if events <= 0.0 else beta_quantile(alpha, events, n - events + 1.0)
    high = 1.0 if events >= n else beta_quantile(1.0 - alpha, events + 1.0, n - events)
    return low, high


def wilson(good: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; `good` and `n` may be effective, not whole."""
    z = normal_quantile(0.025)
    p, square = good / n, z * z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = abs(z) * math.sqrt(p * (1 - p) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def n_min_zero_events(rate: float, alpha: float) -> int:
    """Cases without an event that show a rate below `rate`."""
    return math.ceil(math.log(alpha) / math.log1p(-rate) - 1e-9)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Candidate over baseline, with an interval."""

    estimate: float
    low: float
    high: float
    n: int
    clusters: int


def geometric_mean_ratio(
    baseline: Sequence[float], candidate: Sequence[float], clusters: Sequence[int] | None, alpha: float
) -> Ratio:
    """Typical ratio of positive values, from paired log-ratios; `alpha` in each tail."""
    logs = [math.log(c / b) for b, c in zip(baseline, candidate, strict=True)]
    summary = mean_variance(logs, clusters)
    half = -student_quantile(alpha, summary.df) * math.sqrt(summary.variance)
    low, high = math.exp(summary.mean - half), math.exp(summary.mean + half)
    return Ratio(math.exp(summary.mean), low, high, summary.n, summary.clusters)


def ratio_of_totals(
    baseline: Sequence[float], candidate: Sequence[float], clusters: Sequence[int] | None, alpha: float
) -> Ratio:
    """What the bill says: the sums' ratio; `alpha` in each tail. The baseline's sum must be positive."""
    total = math.fsum(baseline)
    ratio = math.fsum(candidate) / total
    residuals = [c - ratio * b for b, c in zip(baseline, candidate, strict=True)]
    summary = mean_variance(residuals, clusters)
    error = math.sqrt(summary.variance) / (total / summary.n)
    half = -student_quantile(alpha, summary.df) * error
    return Ratio(ratio, ratio - half, ratio + half, summary.n, summary.clusters)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm-adjusted p of each hypothesis; ties are broken by name, so that order never matters."""
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: (item[1], item[0]))):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = floor
    return adjusted
