"""What the claims' rules share: verdicts from intervals, and curves from rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from summiteer.cells import finite
from summiteer.studies.claims.claim import Row, Standing
from summiteer.studies.statistics import Array, Estimate, bootstrap, median, slopes

#: Fewer networks than this are no sample of networks: then images are.
SAMPLE = 5


def standing(effect: Estimate, negligible: float) -> Standing:
    """The verdict on an effect that is claimed to be positive.

    NO_EFFECT where the interval lies within ±negligible, else SUPPORTED where it lies
    above 0, REVERSED below 0; INCONCLUSIVE where it holds 0 and more than negligible
    effects, or is not known. Units in none of which there was an effect give an
    interval without width; it says nothing of those that were not met, among which
    there may be one: INCONCLUSIVE too.

    Args:
        effect: with its interval.
        negligible: size of an effect that would not matter.
    """
    if not effect.known:
        return Standing.INCONCLUSIVE
    if max(abs(effect.low), abs(effect.high)) <= negligible:
        return Standing.NO_EFFECT if effect.half_width else Standing.INCONCLUSIVE
    if effect.low > 0:
        return Standing.SUPPORTED
    return Standing.REVERSED if effect.high < 0 else Standing.INCONCLUSIVE


def share_standing(share: Estimate, wanted: float) -> Standing:
    """The verdict on a share that is claimed to be at least `wanted`.

    SUPPORTED where the whole interval is, NOT_SUPPORTED where none of it is.

    Args:
        share: with its interval.
        wanted: in [0, 1].
    """
    if not share.known or share.low < wanted <= share.high:
        return Standing.INCONCLUSIVE
    return Standing.SUPPORTED if share.low >= wanted else Standing.NOT_SUPPORTED


def bound_standing(growth: Estimate, most: float) -> Standing:
    """The verdict on a growth that is claimed to be at most `most`.

    Args:
        growth: with its interval.
        most: SUPPORTED where the whole interval is at most this, NOT_SUPPORTED where
            none of it is.
    """
    if not growth.known or growth.low <= most < growth.high:
        return Standing.INCONCLUSIVE
    return Standing.SUPPORTED if growth.high <= most else Standing.NOT_SUPPORTED


def together(standings: Iterable[Standing]) -> Standing:
    """The verdict where several must hold: the one they share, or the worst.

    Args:
        standings: at least one.
    """
    found = set(standings)
    if len(found) == 1:
        return found.pop()
    if Standing.INCONCLUSIVE in found and found <= {
        Standing.INCONCLUSIVE,
        Standing.SUPPORTED,
    }:
        return Standing.INCONCLUSIVE
    return Standing.NOT_SUPPORTED


def overturned(x: Array, limited: Sequence[bool]) -> frozenset[Standing]:
    """Verdicts on a log-log slope that larger values at some x could overturn.

    Larger values above the (geometric) mean of x make the slope larger, below it
    smaller: SUPPORTED holds with lower bounds only above it, REVERSED only below,
    NO_EFFECT with none.

    Args:
        x: `[k]` positive.
        limited: `[k]`, where a value is a lower bound.
    """
    # In decades, to 1e-9: the middle one is neither above nor below.
    decades = np.log10(x).round(9)
    away = decades - decades.mean().round(9)
    bounds = np.asarray(limited)
    found = {
        Standing.SUPPORTED: bounds & (away < 0),
        Standing.REVERSED: bounds & (away > 0),
        Standing.NO_EFFECT: bounds,
    }
    return frozenset(verdict for verdict, where in found.items() if where.any())


def chosen(rows: Iterable[Row], **parameters: Any) -> list[Row]:
    """Rows whose parameters have these values.

    Args:
        rows: of studies.
        parameters: name -> value.
    """
    wanted = parameters.items()
    return [row for row in rows if all(row.parameters[k] == v for k, v in wanted)]


def values_of(rows: Iterable[Row], name: str) -> list[Any]:
    """The different values of a parameter, in ascending order.

    Args:
        rows: of studies.
        name: of the parameter.
    """
    return sorted({row.parameters[name] for row in rows})


@dataclass(frozen=True, eq=False)
class Curves:
    """A quantity against a parameter, one curve per independent unit.

    Attributes:
        axis: the parameter.
        x: its values `[k]`, ascending.
        y: `[units, k]`; NaN where a unit has no value.
        unit: "network", or "image" where networks are too few.
    """

    axis: str
    x: Array
    y: Array
    unit: str

    @property
    def middle(self) -> list[float | None]:
        """The median over units at each x, None where it is not finite."""
        return [finite(median(column)) for column in self.y.T]

    def growth(self) -> Estimate:
        """The log-log slope, over the x at which all units have a finite value.

        Not known where one of these values is not positive.
        """
        usable = np.isfinite(self.y).all(0)
        if usable.sum() < 2:
            return bootstrap([])
        return bootstrap(slopes(self.x[usable], self.y[:, usable]))

    def rise(self) -> Estimate:
        """The difference between the last x and the first."""
        return bootstrap(self.y[:, -1] - self.y[:, 0])

    def between(self, first: int, last: int) -> "Curves":
        """The part from one x to another.

        Args:
            first: its number.
            last: likewise.
        """
        part = slice(first, last + 1)
        return replace(self, x=self.x[part], y=self.y[:, part])

    def local_growth(self) -> list[Estimate]:
        """The log-log slope between neighbouring x."""
        pairs = (self.between(i, i + 1) for i in range(len(self.x) - 1))
        return [bootstrap(slopes(each.x, each.y)) for each in pairs]


def curves(
    rows: Sequence[Row],
    axis: str,
    quantity: Callable[[Row], Tensor],
    reduce: Callable[[Array], float] = median,
) -> Curves:
    """Curves of a quantity against a parameter.

    Args:
        rows: that differ in the axis, the seed and the first image only.
        axis: the parameter.
        quantity: of each image `[examples]`.
        reduce: the images of a network to one number, where networks are the units.
    """
    xs, seeds = values_of(rows, axis), values_of(rows, "seed")
    images: dict[tuple[Any, Any], list[Array]] = {}
    for row in sorted(rows, key=lambda row: row.parameters.get("first", 0)):
        key = (row.parameters["seed"], row.parameters[axis])
        found = quantity(row).double().numpy()
        images.setdefault(key, []).append(found)
    joined = {key: np.concatenate(parts) for key, parts in images.items()}
    if len(seeds) >= SAMPLE:
        table = [
            [reduce(joined[s, x]) if (s, x) in joined else math.nan for x in xs]
            for s in seeds
        ]
        return Curves(axis, np.array(xs, float), np.array(table, float), "network")
    whole = [s for s in seeds if all((s, x) in joined for x in xs)]
    stacked = [np.stack([joined[s, x] for x in xs], axis=1) for s in whole]
    y = np.concatenate(stacked) if stacked else np.empty((0, len(xs)))
    return Curves(axis, np.array(xs, float), y, "image")


def effect_of(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    """(effect, low, high) of a `Judgement`.

    Args:
        estimate: that is judged.
    """
    return finite(estimate.value), finite(estimate.low), finite(estimate.high)


def mean(values: Array) -> float:
    """The mean of what is not NaN; NaN if there is nothing.

    Args:
        values: any.
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def interval(estimate: Estimate, digits: int = 3) -> str:
    """In words: "1.02 [0.97, 1.08]".

    Args:
        estimate: any.
        digits: significant ones.
    """
    if not estimate.known:
        return "not known"
    value, low, high = (
        f"{each:.{digits}g}" for each in (estimate.value, estimate.low, estimate.high)
    )
    if estimate.half_width == 0:
        return f"{value} (alike in all {estimate.units})"
    return f"{value} [{low}, {high}]"


def percentage(share: float, digits: int = 0) -> str:
    """In words: "99.8 %"; all and none of it only where it is all or none.

    Args:
        share: in [0, 1].
        digits: behind the point.
    """
    least = 10.0**-digits
    rounded = min(max(round(100 * share, digits), least), 100 - least)
    if share in (0.0, 1.0):
        rounded = 100 * share
    return f"{rounded:.{digits}f} %"


def percentages(share: Estimate) -> str:
    """In words: "98.1 % [97.2, 98.8]".

    Args:
        share: of runs.
    """
    if not share.known:
        return "not known"
    value, low, high = (100 * each for each in (share.value, share.low, share.high))
    return f"{value:.1f}\u00a0% [{low:.1f}, {high:.1f}]"
