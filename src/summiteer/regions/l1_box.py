"""The intersection of an L1 ball with a box."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._typing import PerExample
from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.regions import knapsack
from summiteer.regions._region import Face, Region, default_slack, rows_of
from summiteer.regions.box import Box
from summiteer.regions.l1_ball import L1Ball, kinked_face, nearest_in
from summiteer.regions.l2_ball import projected_residual
from summiteer.regions.rejection import Proposal, accepted


@dataclass(frozen=True, eq=False)
class L1Intersection(Region):
    """{δ : ‖δ‖₁ ≤ radius, l ≤ δ ≤ h}, l ≤ 0 ≤ h.

    Args:
        ball: the L1 ball.
        box: in perturbation coordinates.
    """

    ball: L1Ball
    box: Box
    norm: ClassVar[str] = "l1"

    def __post_init__(self) -> None:
        if not isinstance(self.ball, L1Ball):
            raise UserError(
                f"ball: expected an L1Ball, got {type(self.ball).__name__}; use "
                "summiteer.intersect for other regions."
            )

    @property
    def size(self) -> PerExample:
        """The ball's radius."""
        return self.ball.radius

    def bind(self, inputs: Tensor) -> Self:
        """See `Region.bind`."""
        return replace(self, ball=self.ball.bind(inputs), box=self.box.bind(inputs))

    def take(self, index: Tensor) -> Self:
        """See `Region.take`."""
        return replace(self, ball=self.ball.take(index), box=self.box.take(index))

    def _caps(self, vectors: Tensor) -> Tensor:
        """The room |z_i| ≤ c_i that the box leaves on the side of each v_i."""
        lower, upper = self.box.limits(vectors)
        return torch.where(vectors > 0, upper, -lower).expand(vectors.shape)

    def project(self, points: Tensor) -> Tensor:
        """clip(sign(v)·max(|v| - τ, 0), l, h), τ ≥ 0 the least that fits the ball.

        The KKT conditions of min ½‖z - v‖² with multiplier τ of the ball; signs are
        those of v, since the box contains 0. See `knapsack.nearest`.
        """
        return nearest_in(points, rows_of(self.size, points), self._caps(points))

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        room = replace(self.box, radius=self.ball.radius)
        return self.ball.contains(points, slack) & room.contains(points, slack)

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """Fill by falling |g_i|, each up to its limit, until ε is spent.

        A continuous knapsack with weights of 1; the lower index goes first in ties.
        """
        flat = gradients.flatten(1)
        caps = self._caps(gradients).flatten(1)
        radius = rows_of(self.size, gradients)
        filled = knapsack.fill(flat.abs(), caps, radius).to(flat)
        return filled.copysign(flat).reshape(gradients.shape)

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """gᵀ(v - δ) by the multiplier of the ball; see `knapsack.shortfall`."""
        values = gradients.flatten(1).abs()
        caps = self._caps(gradients).flatten(1)
        radius = rows_of(self.size, points)
        along = (points * gradients.sign()).flatten(1)
        along = torch.where(values == 0, -points.flatten(1).abs(), along)
        most = knapsack.price(values, caps, radius)
        return knapsack.shortfall(values, caps, radius, along, most).to(points)

    def steepest(self, gradients: Tensor) -> Tensor:
        """sign(g_k) in the first coordinate k of the largest |g_i|; 0 where g = 0."""
        return self.ball.steepest(gradients)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """Uniform on ball ∩ box, by exact rejection.

        Proposals are independent Laplace numbers of rate λ, truncated to [l_i, h_i];
        one is accepted with probability exp(-λ(ε - ‖z‖₁)) if ‖z‖₁ ≤ ε, which makes the
        accepted ones uniform for every λ ≥ 0. With E‖z‖₁ = ε about one in 2.5·√d is
        accepted. After 2²⁰ numbers (d above about 5000) the last proposal is
        projected: such a start lies next to the ball's boundary, where almost all of
        the volume is.
        """
        lower, upper = (limit.cpu().double() for limit in self.box.limits(like))
        low, high = (x.expand(like.shape).flatten(1).numpy() for x in (lower, upper))
        radius = rows_of(self.size, like).cpu().double().numpy()
        # In units of ε; limits beyond the ball never bind.
        low = np.minimum(-low / radius[:, None], 1.0)
        high = np.minimum(high / radius[:, None], 1.0)
        rate = _tilt(low, high)

        def propose(rows: np.ndarray, numbers: np.ndarray) -> Proposal:
            proposal = _truncated(numbers, low[rows], high[rows], rate[rows])
            spare = 1.0 - np.abs(proposal).sum(1)
            chance = np.exp(-rate[rows] * np.maximum(spare, 0.0))
            return proposal, np.where(spare >= 0, chance, 0.0)

        points = accepted(draws, len(low), low.shape[1], propose) * radius[:, None]
        return self.project(torch.from_numpy(points).reshape(like.shape).to(like))

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """See `kinked_face`."""
        lower, upper = (x.expand(points.shape) for x in self.box.limits(points))
        radius = rows_of(self.size, points)
        return kinked_face(points, gradients, radius, lower, upper)

    def magnitude(self, gradients: Tensor) -> Tensor:
        """‖g‖₂ `[rows]`."""
        return _rows.norm(gradients)

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """‖Π(δ + τg) - δ‖₂/ε with the exact projection on ball ∩ box."""
        return projected_residual(self, self.size, points, gradients, reference)

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """(max|g_i|c_i - gᵀδ)/(3ε·g_ref): one coordinate alone at its limit.

        See `Intersection.residual_floor`; the gap itself would have to sort.
        """
        radius = rows_of(self.size, points)
        largest = torch.maximum(reference, gradient_norms)
        caps = torch.minimum(self._caps(gradients), _rows.expand(radius, points))
        best = (gradients.abs() * caps).flatten(1).amax(1)
        scale = (3 * radius * largest).clamp(min=tolerances.TINY_NORM)
        return (best - _rows.dot(gradients, points)) / scale


def _tilt(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """λ ≥ 0 with E‖z‖₁ ≈ 1; any value is right, this one is efficient `[rows]`."""
    width = np.maximum(low + high, np.finfo(float).tiny)
    loose = ((low**2 + high**2) / (2 * width)).sum(1) > 1
    rate = np.where(loose, float(low.shape[1]), 0.0)
    for _ in range(12):
        some = rate[loose][:, None]
        left, right = (-np.expm1(-some * side[loose]) for side in (low, high))
        whole = np.maximum(left + right, np.finfo(float).tiny)
        edges = sum(
            some * side[loose] * np.exp(-some * side[loose]) for side in (low, high)
        )
        narrow = some * (low + high)[loose] < 1e-4  # 1 - edges/whole cancels there
        flat = ((low**2 + high**2) / (2 * width))[loose]
        mean = np.where(narrow, flat, (1 - edges / whole) / some).sum(1)
        rate[loose] *= mean
    return rate


def _truncated(
    uniform: np.ndarray, low: np.ndarray, high: np.ndarray, rate: np.ndarray
) -> np.ndarray:
    """Laplace numbers of a rate on [-low, high] by inversion; flat at rate 0."""
    rate = rate[:, None]
    tilted = rate > 0
    safe = np.where(tilted, rate, 1.0)
    # Integrals of the density from 0 to either side.
    left, right = (
        np.where(tilted, -np.expm1(-safe * side) / safe, side) for side in (low, high)
    )
    place = uniform * (left + right) - left
    size = np.abs(place)
    with np.errstate(divide="ignore"):
        size = np.where(tilted, -np.log1p(-np.minimum(safe * size, 1.0)) / safe, size)
    numbers: np.ndarray = np.clip(np.copysign(size, place), -low, high)
    return numbers
