"""From measured first and second order to a verdict."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured at the points; all `[rows]` unless said otherwise.

    Attributes:
        dimension: of the face's tangent space.
        pressure: smallest outward multiplier of an active constraint (`Face`), those
            that vanish not counted.
        one_sided: number of constraints whose multiplier vanishes.
        multiplier: μ of the ball, 0 where it is not active.
        steepness: ‖∇F‖.
        top: largest vᵀ∇²Fv met on the critical cone (the tangent space where no
            multiplier vanishes); NaN where there is no second derivative.
        bottom: λ_min.
        error: how far the largest may lie above `top`.
        distance: from the given point to the nearest critical point by Newton's model.
        exact: `distance` is that of a dense model, no bound.
        left: ascent left the neighbourhood; all else was measured at the given point.
        stalled: ascent found no step to make.
        inside: the given point lies in the region.
        level: the objective is constant around (asked only where `vanishing`).
        rises: a point next to it is higher than first order allows at a maximum.
        coarse: x + δ is rounded more coarsely than the search distance.
        doubt: (one number) relative accuracy of multipliers and eigenvalues.
    """

    dimension: Tensor
    pressure: Tensor
    one_sided: Tensor
    multiplier: Tensor
    steepness: Tensor
    top: Tensor
    bottom: Tensor
    error: Tensor
    distance: Tensor
    exact: Tensor
    left: Tensor
    stalled: Tensor
    inside: Tensor
    level: Tensor
    rises: Tensor
    coarse: Tensor
    doubt: float

    @property
    def bend(self) -> Tensor:
        """The order of magnitude of the second-order terms."""
        return bend_of(self.top, self.bottom, self.multiplier)

    @property
    def vanishing(self) -> Tensor:
        """Gradient and curvature are exactly zero."""
        return (self.steepness == 0) & (self.bend == 0) & ~self.top.isnan()


def bend_of(top: Tensor, bottom: Tensor, multiplier: Tensor) -> Tensor:
    """Largest magnitude of the eigenvalues (0 where there are none) plus |μ|.

    Args:
        top: λ_max.
        bottom: λ_min.
        multiplier: μ.
    """
    largest = torch.maximum(top.abs(), bottom.abs())
    return torch.where(largest.isfinite(), largest, 0.0) + multiplier.abs()


def decide(measured: Measured, reach: Tensor) -> tuple[list[Verdict], list[str]]:
    """Return the verdict of each row, and why.

    Args:
        measured: with every field given.
        reach: `[rows]`, the search distance.
    """
    verdicts = [Verdict.UNDECIDED] * len(reach)
    reasons = ["the curvature equals the multiplier within its error"] * len(reach)
    for mask, verdict, reason in reversed(_cases(measured, reach)):
        for row in mask.nonzero().flatten().tolist():
            verdicts[row] = verdict
            reasons[row] = reason.format(count=int(measured.one_sided[row]))
    return verdicts, reasons


def _cases(m: Measured, reach: Tensor) -> list[tuple[Tensor, Verdict, str]]:
    """(rows, verdict, reason): the first that holds is the answer."""
    far = m.distance > reach
    gap, noise = m.multiplier - m.top, m.doubt * m.bend
    sure = m.error + noise
    held = (m.pressure > m.doubt * m.steepness) | m.pressure.isinf()
    pushed = m.pressure < -m.doubt * m.steepness
    inwards = pushed & (m.pressure < -2 * reach * m.bend)
    # `top` is reached by a vector that was met: whatever else there is, it leads up.
    hill, valley = (gap > sure) & held & ~far, (gap < -noise) & held & ~far
    nothing, vertex = m.vanishing, m.dimension == 0
    away, maximum, saddle = (
        Verdict.NOT_STATIONARY,
        Verdict.STRICT_LOCAL_MAXIMUM,
        Verdict.SADDLE,
    )
    unknown = Verdict.UNDECIDED
    return [
        (~m.inside, away, "it lies outside the region"),
        (m.coarse, unknown, "x + δ is rounded more coarsely than the search distance"),
        (m.left & hill & ~vertex, unknown, _CONTRADICTION),
        (m.left & valley & m.exact, saddle, "the critical point near by is no maximum"),
        (m.left, away, "ascent leaves the neighbourhood"),
        (inwards, away, "the gradient points into the region"),
        (nothing & m.level, Verdict.FLAT, "gradient and curvature are zero"),
        (nothing, unknown, _NO_PLATEAU),
        (~held, unknown, "a constraint's multiplier is near zero"),
        (m.rises & (vertex | hill), unknown, _RISES),
        (vertex, maximum, "every coordinate is held at its bound"),
        (m.top.isnan(), unknown, "the model has no second derivative by autograd"),
        (hill, maximum, _HILL),
        (valley, saddle, "the objective curves upwards along the region"),
        ((m.one_sided > 0) & (m.bend > 0) & ~far, unknown, ONE_SIDED),
        (far & m.stalled, unknown, _KINK),
        (far & (gap.abs() > sure), unknown, _CREEPING),
        (m.bend == 0, unknown, _LINEAR),
    ]


#: Of rows on whose critical cone nothing was decided; `count` is `one_sided`.
ONE_SIDED = (
    "the multipliers of {count} constraints vanish, and the curvature on the cone that "
    "they leave open decides nothing"
)
_HILL = "the curvature is below the multiplier on the whole tangent space"
_CONTRADICTION = "ascent leaves the neighbourhood, but the quadratic model peaks in it"
_NO_PLATEAU = (
    "gradient and curvature are zero, but the objective is not constant around"
)
_KINK = "ascent finds no step although the gradient is not small: a kink, or noise"
_CREEPING = "ascent creeps: the quadratic model's critical point is not near"
_RISES = "the objective is higher right beside it: a kink that derivatives do not see"
_LINEAR = "the curvature on the free coordinates is zero: piecewise linear here"
