"""Means, intervals, tests and agreement over patients.

Bootstrap intervals are percentile intervals of `RESAMPLES` resamples of the patients with a fixed seed. The
percentiles are moved out as Hesterberg proposes (Am Stat 69 (2015) 371), so that for the mean of normal
values the interval is as wide as Student's: plain percentile intervals of few patients are too narrow.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 10_000
FEWEST = (
    6  # patients: the whole range of 5 values holds the median with 93.75 %, so no interval of 95 % exists
)
LEVEL = 0.95


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def mean_of_defined(values: Iterable[float]) -> float:
    """The mean of those values that are defined; NaN of none.

    Every mean of a metric is this one, over runs, over cases and over pairs of observers: two tables never
    differ in what they leave out.
    """
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


@lru_cache(maxsize=4)
def resampled(count: int) -> np.ndarray:
    """(RESAMPLES, count) of indices: patients drawn with replacement; the same for the same count."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


def interval_of(estimates: np.ndarray, count: int) -> Interval | None:
    """The interval of a statistic from its values in the resamples of `count` patients; None of too few."""
    estimates = estimates[np.isfinite(estimates)]
    if count < FEWEST or not len(estimates):
        return None
    quantile = stats.t.ppf((1 + LEVEL) / 2, count - 1)
    tail = stats.norm.cdf(-math.sqrt(count / (count - 1)) * quantile)
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bootstrap(values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean) -> Interval | None:
    """The 95 % interval of a statistic of one value per patient; None of fewer than `FEWEST`.

    Args:
        values: (patients,), finite.
        statistic: takes `axis`, as `numpy.mean` and `numpy.median`.
    """
    if len(values) < FEWEST:
        return None
    return interval_of(statistic(values[resampled(len(values))], axis=1), len(values))


def wilcoxon(differences: np.ndarray) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; 1 if all differences are 0, None if there are none."""
    if not len(differences):
        return None
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for their number (Holm, Scand J Stat 6 (1979) 65); None stays None."""
    tested = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(tested):
        largest = max(largest, min(1.0, value * (len(tested) - rank)))
        adjusted[i] = largest
    return adjusted


class Agreement(NamedTuple):
    """Bland and Altman's agreement of two volumes (Lancet 327 (1986) 307), in their unit.

    `bias` is the mean difference, the limits are bias ± 1.96 standard deviations of a single difference. Of
    several differences of a patient, the variance within patients counts beside that of their means (Stat
    Methods Med Res 8 (1999) 135, section 5). Intervals are None of fewer than `FEWEST` patients; the limits'
    are bootstrapped as the bias's is. Limits of one patient are None.
    """

    patients: int
    bias: float
    bias_interval: Interval | None
    lower: float | None
    lower_interval: Interval | None
    upper: float | None
    upper_interval: Interval | None


def agreement(differences: Sequence[Sequence[float]]) -> Agreement:
    """The agreement of one or several differences of each patient."""
    z, patients = stats.norm.ppf((1 + LEVEL) / 2), len(differences)
    counts = np.array([len(own) for own in differences])
    means = np.array([np.mean(own) for own in differences])
    squares = np.array([np.var(own) * len(own) for own in differences])

    def limit(side: float, rows: np.ndarray) -> np.ndarray:
        """Of the patients with these indices (..., patients)."""
        free = (counts[rows] - 1).sum(-1)
        within = squares[rows].sum(-1) / np.maximum(free, 1)
        variance = means[rows].var(-1, ddof=1) + within * (1 - 1 / counts[rows]).mean(-1)
        return np.asarray(means[rows].mean(-1) + side * np.sqrt(variance))

    everybody, several = np.arange(patients), patients > 1

    def limit_with_interval(side: float) -> tuple[float | None, Interval | None]:
        enough = patients >= FEWEST
        return (
            float(limit(side, everybody)) if several else None,
            interval_of(limit(side, resampled(patients)), patients) if enough else None,
        )

    return Agreement(
        patients, float(means.mean()), bootstrap(means), *limit_with_interval(-z), *limit_with_interval(z)
    )
