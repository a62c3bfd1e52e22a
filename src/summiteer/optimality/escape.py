"""Ways uphill from points that are no maxima, and what is measured along them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.problem import Rows

#: Lengths at which a way is tried, in search distances: second-order gains are largest
#: at the far end, first-order ones may end at a kink before it.
_LENGTHS = (1.0, 0.25, 1 / 16, 1 / 64)


def escape(
    rows: Rows, points: Tensor, ways: Sequence[Tensor], reach: Tensor, unit: float
) -> tuple[Tensor, Tensor]:
    """Return the best way uphill and the gain ℓ(Π(p + tv)) - ℓ(Π(p)) along it.

    Args:
        rows: the problem, one example per point.
        points: p `[rows, *input]` float64.
        ways: unit vectors v `[rows, *input]`; zero where there is none.
        reach: `[rows]` the longest t.
        unit: of rounding of the objective.

    Returns:
        (direction, gain): NaN where nothing beyond rounding was gained.
    """
    base = rows.region.project(points)
    here = rows.value(base).loss
    noise = 4 * tolerances.SAME_LOSS * unit * here.abs()
    best, gain = torch.full_like(points, torch.nan), noise.clone()
    for way in ways:
        for share in _LENGTHS:
            moved = base + _rows.expand(share * reach, way) * way
            gained = rows.value(rows.region.project(moved)).loss - here
            # NaN compares false.
            better = gained > gain
            best = torch.where(_rows.expand(better, way), way, best)
            gain = torch.where(better, gained, gain)
    found = gain > noise
    return best, torch.where(found, gain, torch.nan)
