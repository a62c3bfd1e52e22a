"""Every tolerance with a reason; nothing else in the package decides what is small.

A numeric literal below 1e-3 elsewhere has its reason on its line.
"""

import torch

#: Residual (mathematics.md §3) at which a run is called STATIONARY.
STATIONARY = {torch.float64: 1e-8, torch.float32: 1e-4}
#: Half-precision models resolve about three digits of a gradient.
STATIONARY_HALF = 1e-2
#: A step that moved less than this many units of rounding of x + δ has STALLED (§3).
STALL_ULPS = 4.0
#: ‖δ‖ ≥ (1 - BOUNDARY)·radius counts as on the boundary in numerical verdicts: wider
#: than float32 rounding of a projection, narrower than any search distance `within`.
BOUNDARY = 1e-6
#: Search distance of verdicts, in units of the region's radius (architecture.md).
WITHIN = 1e-3
#: A numerical curvature ratio this close to 1 decides nothing: relative accuracy of a
#: float64 eigenvalue with room for the error of the multiplier.
CURVATURE_RATIO = 1e-6
#: A vector norm below this squares to a subnormal number in float32: rescale first.
TINY_NORM = 1e-15
#: Two end points nearer than this many radii are one maximum (by distance, not proof).
SAME_MAXIMUM = 1e-2
#: A dip shallower than this, relative to the objective, is no valley between two end
#: points: 256 units of rounding in float32, whatever the dtype.
VALLEY = 3e-5
#: Losses that differ by so many units of rounding are the same.
SAME_LOSS = 256.0
#: …but no more than this: in half precision 256 units are as much as the loss itself.
SAME_LOSS_MOST = 1e-2
#: Two forward passes of a deterministic model agree to this, relative to the outputs.
DETERMINISTIC = 1e-6


def same_loss(dtype: torch.dtype) -> float:
    """Return how far apart, relatively, two losses in `dtype` may be and be the same.

    Args:
        dtype: of the losses, or of what they were computed from.
    """
    return min(SAME_LOSS * torch.finfo(dtype).eps, SAME_LOSS_MOST)


def curvature_ratio(dtype: torch.dtype) -> float:
    """Return how near to 1 a curvature ratio computed in `dtype` decides nothing.

    Args:
        dtype: the coarsest one inside the model.

    Returns:
        `CURVATURE_RATIO`, or a thousand units of rounding where that is more.
    """
    return max(CURVATURE_RATIO, 1e3 * torch.finfo(dtype).eps)


def stationary(dtype: torch.dtype) -> float:
    """Return the default residual at which a run in `dtype` is called STATIONARY.

    Args:
        dtype: the dtype of the points.

    Returns:
        1e-8 in float64, 1e-4 in float32, 1e-2 below (mathematics.md §3).
    """
    return STATIONARY.get(dtype, STATIONARY_HALF)
