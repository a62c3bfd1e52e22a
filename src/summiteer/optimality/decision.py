"""From measured first and second order to a verdict."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer.optimality.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured at the points; all `[rows]` unless said otherwise.

    Attributes:
        dimension: of the face's tangent space.
        pressure: smallest outward multiplier of an active constraint (`Face`).
        multiplier: μ of the ball, 0 where it is not active.
        steepness: ‖∇F‖.
        top: λ_max on the tangent space; NaN where there is no second derivative.
        bottom: λ_min.
        error: some eigenvalue lies this near to `top`.
        distance: from the given point to the nearest critical point by Newton's model.
        exact: (one bool) `distance` is that of a dense model, no bound.
        left: ascent left the neighbourhood; all else was measured at the given point.
        stalled: ascent found no step to make.
        inside: the given point lies in the region.
        level: gradient and curvature vanish and the objective is constant around.
        doubt: (one number) relative accuracy of multipliers and eigenvalues.
    """

    dimension: Tensor
    pressure: Tensor
    multiplier: Tensor
    steepness: Tensor
    top: Tensor
    bottom: Tensor
    error: Tensor
    distance: Tensor
    exact: bool
    left: Tensor | None = None
    stalled: Tensor | None = None
    inside: Tensor | None = None
    level: Tensor | None = None
    doubt: float = tolerances.CURVATURE_RATIO

    @property
    def bend(self) -> Tensor:
        """The order of magnitude of the second-order terms."""
        largest = torch.maximum(self.top.abs(), self.bottom.abs())
        return torch.where(largest.isfinite(), largest, 0.0) + self.multiplier.abs()

    @property
    def derivatives_vanish(self) -> Tensor:
        """Gradient and curvature are exactly zero."""
        return (self.steepness == 0) & (self.bend == 0) & ~self.top.isnan()


def decide(measured: Measured, reach: Tensor) -> tuple[list[Verdict], list[str]]:
    """Return the verdict of each row, and why.

    Args:
        measured: with every field given.
        reach: `[rows]`, the search distance.
    """
    m, far = measured, measured.distance > reach
    assert m.left is not None
    assert m.stalled is not None
    assert m.inside is not None
    assert m.level is not None
    gap = m.multiplier - m.top
    sure = m.error + m.doubt * m.bend
    held = (m.pressure > m.doubt * m.steepness) | m.pressure.isinf()
    pushed = m.pressure < -m.doubt * m.steepness
    inwards = pushed & (m.pressure < -2 * reach * m.bend)
    hill, valley = (gap > sure) & held & ~far, (gap < -sure) & held & ~far
    nothing = m.derivatives_vanish
    cases = [
        (~m.inside, Verdict.NOT_STATIONARY, "it lies outside the region"),
        (
            m.left & hill & (m.dimension > 0),
            Verdict.UNDECIDED,
            "ascent leaves the neighbourhood, but the quadratic model peaks in it",
        ),
        (
            m.left & valley & torch.tensor(m.exact),
            Verdict.SADDLE,
            "the nearest critical point of the quadratic model is no maximum",
        ),
        (m.left, Verdict.NOT_STATIONARY, "ascent leaves the neighbourhood"),
        (inwards, Verdict.NOT_STATIONARY, "the gradient points into the region"),
        (nothing & m.level, Verdict.FLAT, "gradient and curvature are zero"),
        (
            nothing,
            Verdict.UNDECIDED,
            "gradient and curvature are zero, but the objective is not constant around",
        ),
        (~held, Verdict.UNDECIDED, "a constraint's multiplier is near zero"),
        (
            m.dimension == 0,
            Verdict.STRICT_LOCAL_MAXIMUM,
            "every coordinate is held at its bound",
        ),
        (
            m.top.isnan(),
            Verdict.UNDECIDED,
            "the model has no second derivative by autograd",
        ),
        (
            hill,
            Verdict.STRICT_LOCAL_MAXIMUM,
            "the curvature is below the multiplier on the whole tangent space",
        ),
        (valley, Verdict.SADDLE, "the objective curves upwards along the region"),
        (
            far & m.stalled,
            Verdict.UNDECIDED,
            "ascent finds no step although the gradient is not small: a kink, or noise",
        ),
        (
            far & (gap.abs() > sure),
            Verdict.UNDECIDED,
            "ascent creeps; the quadratic model's critical point is beyond the "
            "neighbourhood",
        ),
        (
            m.bend == 0,
            Verdict.UNDECIDED,
            "the curvature on the free coordinates is zero: piecewise linear here",
        ),
    ]
    verdicts = [Verdict.UNDECIDED] * len(gap)
    reasons = ["the curvature equals the multiplier within its error"] * len(gap)
    for mask, verdict, reason in reversed(cases):
        for row in mask.nonzero().flatten().tolist():
            verdicts[row], reasons[row] = verdict, reason
    return verdicts, reasons
