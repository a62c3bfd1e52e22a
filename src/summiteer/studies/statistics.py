"""Estimates with 95 % intervals: shares, means, slopes of growth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from summiteer.cells import finite
from summiteer.confidence import CONFIDENCE, share_interval

_TAIL = (1 - CONFIDENCE) / 2
#: Clusters with a miss (a hit) from which on their resampling speaks of misses (hits).
RARE = 10
#: Resamples of a bootstrap: their own noise is 1 % of an interval's width.
RESAMPLES = 10_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; all NaN where nothing is known.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
        units: independent units behind it.
    """

    value: float
    low: float
    high: float
    units: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def unknown(units: int = 0) -> Estimate:
    """Nothing is known.

    Args:
        units: that were seen all the same.
    """
    return Estimate(math.nan, math.nan, math.nan, units)


def clopper_pearson(hits: int, trials: int) -> Estimate:
    """A share with its exact interval, see `share_interval`.

    Args:
        hits: k.
        trials: n ≥ 1 independent ones.
    """
    return Estimate(hits / trials, *share_interval(hits, trials), trials)


def clustered_share(hits: ArrayLike, runs: ArrayLike, seed: int = 0) -> Estimate:
    """A share over runs that are independent only across clusters (networks).

    The clusters are resampled (`bootstrap`). Where fewer than `RARE` clusters have a
    miss, resampling cannot tell how rare clusters that miss altogether are: then the
    lower end is at most Clopper and Pearson's for one run per cluster, share·clusters
    of which are hits (no spread of clusters with this share is wider). Likewise the
    upper end where fewer than `RARE` clusters have a hit.

    Args:
        hits: of each cluster `[clusters]`.
        runs: of each cluster `[clusters]`, at least one in all.
        seed: of the resampling.
    """
    hits, runs = np.asarray(hits, float), np.asarray(runs, float)
    clusters = len(hits)
    share = float(hits.sum()) / float(runs.sum())
    # The mean of these is the derivative of the ratio: what is resampled is linear.
    found = bootstrap(share + (hits - share * runs) / runs.mean(), seed)
    low, high = max(0.0, found.low), min(1.0, found.high)
    least, most = share_interval(share * clusters, clusters)
    if not (hits < runs).sum() >= RARE:
        low = min(low, least)
    if not (hits > 0).sum() >= RARE:
        high = max(high, most)
    return Estimate(share, low, high, clusters)


def bootstrap(values: ArrayLike, seed: int = 0) -> Estimate:
    """The mean of independent values, with an expanded percentile interval.

    Percentile intervals of n values are too narrow by about √((n-1)/n) and by normal
    for Student quantiles. Hesterberg (`hesterberg2015teachers`) takes the percentiles
    Φ(∓√(n/(n-1))·t) instead, t Student's 0.975 quantile with n-1 degrees of freedom.

    Args:
        values: `[n]`; those that are not finite leave nothing known.
        seed: of the resampling.
    """
    values = np.asarray(values, float)
    count = len(values)
    if count < 2 or not np.isfinite(values).all():
        return unknown(count)
    generator = np.random.Generator(np.random.Philox(seed))
    index = generator.integers(count, size=(RESAMPLES, count))
    means = values[index].mean(1)
    reach = math.sqrt(count / (count - 1)) * stats.t.ppf(1 - _TAIL, count - 1)
    tail = float(stats.norm.cdf(-reach))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high), count)


def student(values: ArrayLike) -> Estimate:
    """The mean of independent values, with Student's interval.

    Args:
        values: `[n]`; those that are not finite leave nothing known.
    """
    values = np.asarray(values, float)
    count = len(values)
    if count < 2 or not np.isfinite(values).all():
        return unknown(count)
    mean = float(values.mean())
    reach = float(stats.sem(values) * stats.t.ppf(1 - _TAIL, count - 1))
    return Estimate(mean, mean - reach, mean + reach, count)


def slopes(x: ArrayLike, y: ArrayLike) -> Array:
    """Least squares b of log y = a + b·log x, one per row.

    Args:
        x: `[k]` positive, k ≥ 2.
        y: `[units, k]`; rows with a number that is not positive and finite give NaN.
    """
    places = np.log(np.asarray(x, float))
    values = np.atleast_2d(np.asarray(y, float))
    usable = (np.isfinite(values) & (values > 0)).all(1)
    away = places - places.mean()
    logs = np.log(np.where(usable[:, None], values, 1.0))
    found: Array = logs @ away / float(away @ away)
    return np.where(usable, found, np.nan)


def growth(x: ArrayLike, y: ArrayLike, seed: int = 0) -> Estimate:
    """The log-log slope of y over x: each unit has its own, units are resampled.

    Args:
        x: `[k]` positive.
        y: `[units, k]` positive.
        seed: of the resampling.
    """
    return bootstrap(slopes(x, y), seed)


def as_numbers(estimate: Estimate) -> dict[str, Any]:
    """For result.json: null where nothing is known.

    Args:
        estimate: any.
    """
    names = ("value", "low", "high")
    numbers = {name: finite(getattr(estimate, name)) for name in names}
    return {**numbers, "units": estimate.units}


def median(values: Sequence[float] | Array) -> float:
    """The median of what is not NaN; NaN if there is nothing.

    Args:
        values: any, infinite ones too.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan
    # The lower of two middle ones: the mean of ∞ and a number would be ∞.
    return float(np.sort(known)[(len(known) - 1) // 2])
