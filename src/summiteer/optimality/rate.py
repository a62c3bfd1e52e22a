"""Prop. 2: how fast projected gradient ascent is proved to converge.

From every start in C, with every constant step 0 < η ≤ 2/L on F,
‖δ_{t+1} - δ*‖ ≤ ρ‖δ_t - δ*‖, ρ = (1 + ηλ⁺)/(1 + ημ*/2), which is below 1 where
μ* > 2λ⁺(M). On ℓ = φ(F) the step is ηφ'(F), η|u| for ½u².
"""

import math

import torch
from torch import Tensor

from summiteer.optimality.rounding import down, up


def contraction(step: Tensor, multiplier: Tensor, majorant: Tensor) -> Tensor:
    """ρ, rounded up; NaN where Prop. 2 does not hold.

    Args:
        step: η `[rows]`, at most 2/L.
        multiplier: ≤ μ* at the maximiser.
        majorant: ≥ λ⁺(M).
    """
    grown = up(1 + up(step * majorant))
    shrunk = down(1 + down(down(step * multiplier) / 2))
    rate = up(grown / shrunk)
    return torch.where((multiplier > up(2 * majorant)) & (rate < 1), rate, torch.nan)


def steps_to(tolerance: float, rate: Tensor) -> Tensor:
    """Steps after which δ lies within `tolerance` radii of δ*: ⌈log(2/tol)/log(1/ρ)⌉.

    Every start lies within 2ε of δ*.

    Args:
        tolerance: in radii, below 2.
        rate: ρ `[rows]`.

    Returns:
        `[rows]` float64, NaN where there is no rate.
    """
    # Two ulp of doubt in the logarithms cost at most one step.
    steps = math.log(2 / tolerance) / -torch.log(rate)
    return torch.ceil(steps * (1 + 1e-12)) + 0 * rate
