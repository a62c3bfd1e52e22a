"""Two-layer networks with kinked activations as concave functions and kinks (§8).

σ is positively homogeneous of degree 1: t ↦ left·t below 0, right·t above, so that

    F(δ) = s + Σ_j a_j·left·h_j + Σ_j k_j relu(h_j),   k_j = a_j(right - left),

with h = Wδ + (Wx + b). Kinks with k_j > 0 are convex, with k_j < 0 concave; neurons
with k_j = 0 or w_j = 0 have none. For shares ρ ∈ [0, 1]^m the affine function with the
coefficients a_j·left + k_jρ_j of h_j lies above F in the concave neurons, below it in
the convex ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.networks.activations import Activation
from summiteer.networks.relu_minorant import ReluMinorant
from summiteer.optimality.rounding import Enclosure, length, up
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface
from summiteer.regions import Box, Intersection, L2Ball, Region

#: Sums of products of larger numbers are no use: their squares overflow.
_HUGE = 1e250


def slopes(activation: Activation) -> tuple[float, float] | None:
    """(left, right) of an activation that is straight on both sides of 0, else None.

    Args:
        activation: one of the package's own.
    """
    if activation.smooth or activation.homogeneous_degree != 1:
        return None
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    left, right = activation.first(ends).tolist()
    return left, right


def region_of(limits: Limits) -> Region:
    """The convex hull of a region as one to maximise over: the ball of a sphere."""
    if not limits.boxed:
        return L2Ball(limits.radius)
    box = Box(limits.lower, limits.upper)
    return Intersection(L2Ball(limits.radius), box) if limits.round else box


@dataclass(frozen=True, eq=False)
class Kinked:
    """F of each row (see the head of this file).

    Attributes:
        hidden: W `[m, d]`.
        lengths: ‖w_j‖ `[m]`, rounded up.
        centre: Wx + b `[rows, m]`.
        straight: a_j·left `[rows, m]`.
        kink: k_j `[rows, m]`.
        sign: of k_j, exact, and 0 where there is no kink, `[rows, m]`.
        shift: s `[rows]`, and what neurons with w_j = 0 add.
    """

    hidden: Tensor
    lengths: Tensor
    centre: Enclosure
    straight: Enclosure
    kink: Enclosure
    sign: Tensor
    shift: Enclosure

    @classmethod
    def of(cls, surface: Surface) -> "Kinked":
        """The kinks of a surface.

        Its outputs are weights, or differences of two of them: the sign of a float
        difference is that of the real one.

        Args:
            surface: with an activation that has `slopes`.
        """
        pair = slopes(surface.activation)
        assert pair is not None, "asked of smooth networks only"
        output, centre = surface.output, surface.centre
        left, right = (output.middle.new_tensor(value) for value in pair)
        straight = Enclosure.exact(torch.zeros_like(output.middle))
        kink = output
        if pair != (0.0, 1.0):
            straight = output * left
            kink = output * (Enclosure.exact(right) - left)
        # A product may underflow; its sign is known from the factors.
        sign = output.middle.sign() * torch.sign(right - left)
        moves = (surface.hidden != 0).any(1)
        bent = (sign != 0) & moves
        shift = surface.shift
        if not bool(moves.all()):
            # relu(h) of neurons that do not move is a number.
            low, high = centre.lower.clamp(min=0), centre.upper.clamp(min=0)
            still = (~moves).to(sign).expand_as(sign)
            shift = shift + (kink * Enclosure.between(low, high)).dot(still)
        return cls(
            surface.hidden,
            surface.weighted.lengths,
            centre,
            straight,
            Enclosure(kink.middle * bent, kink.radius * bent),
            sign * bent,
            shift,
        )

    def __len__(self) -> int:
        return len(self.sign)

    def take(self, index: Tensor) -> "Kinked":
        """The rows `index`, in any order and with repetitions."""
        return Kinked(
            self.hidden,
            self.lengths,
            self.centre[index],
            self.straight[index],
            self.kink[index],
            self.sign[index],
            self.shift[index],
        )

    @property
    def convex(self) -> Tensor:
        """Which neurons have convex kinks `[rows, m]`."""
        return self.sign > 0

    @property
    def concave(self) -> Tensor:
        """Which have concave ones `[rows, m]`."""
        return self.sign < 0

    def inner(self, points: Tensor, slack: Tensor) -> Enclosure:
        """W(x + δ) + b at all real points within `slack` `[rows]` of `points`."""
        moved = Enclosure.exact(points) @ self.hidden.T
        return self.centre + moved.widened(up(slack[:, None] * self.lengths))

    def heights(self, points: Tensor) -> Tensor:
        """The pre-activations in floats: for searching."""
        return torch.addmm(self.centre.middle, points, self.hidden.T)

    def values(self, points: Tensor) -> Tensor:
        """F in floats: for searching."""
        inner = self.heights(points)
        bent = self.straight.middle * inner + self.kink.middle * inner.relu()
        return self.shift.middle + bent.sum(1)

    def ranges(self, limits: Limits) -> tuple[Tensor, Tensor]:
        """(≤, ≥) h on a region `[rows, m]` both: I_j of §5, of boxes their own."""
        low = torch.full_like(self.sign, -torch.inf)
        high = -low
        if limits.round:
            ball = self.centre.widened(up(limits.radius[:, None] * self.lengths))
            low, high = ball.lower, ball.upper
        if limits.boxed:
            box = Enclosure.between(limits.lower, limits.upper) @ self.hidden.T
            box = self.centre + box
            low, high = torch.fmax(low, box.lower), torch.fmin(high, box.upper)
        return low, high

    def ordinary(self, limits: Limits) -> Tensor:
        """Whether the summands of F are numbers that floats can search among `[rows]`.

        Args:
            limits: of the region.
        """
        low, high = self.ranges(limits)
        each = self.kink.magnitude * torch.maximum(low.abs(), high.abs())
        size = each.sum(1) + (self.straight.magnitude * high.abs()).sum(1)
        size = size + self.kink.magnitude.amax(1) * self.lengths.amax()
        return size < _HUGE

    def coefficients(self, shares: Tensor) -> Enclosure:
        """a_j·left + k_jρ_j `[rows, m]`.

        Args:
            shares: ρ `[rows, m]` in [0, 1].
        """
        return self.kink * shares + self.straight

    def waste(self, inner: Enclosure, shares: Tensor) -> Tensor:
        """≥ Σ |k_j|(relu(h_j) - ρ_jh_j) over the concave neurons `[rows]`.

        What the affine function of `shares` exceeds F_π by at the point: each summand
        is zero where ρ_j is 1 and h_j > 0, or 0 and h_j < 0.

        Args:
            inner: h at the point.
            shares: ρ.
        """
        above = (1 - shares) * inner.upper.clamp(min=0)
        below = shares * (-inner.lower).clamp(min=0)
        each = self.kink.magnitude * torch.maximum(above, below)
        count = each.shape[1]
        return up(torch.where(self.concave, up(each, 4), 0.0).sum(1), count)

    def minorant(self, shares: Tensor, lift: Tensor | None = None) -> ReluMinorant:
        """The concave function with these shares in the convex neurons, in floats.

        Args:
            shares: ρ `[rows, m]`; those of concave neurons are not read.
            lift: added to its value `[rows]`.
        """
        heavy = self.kink.middle
        convex = torch.where(self.convex, heavy * shares, 0.0) + self.straight.middle
        constant = self.shift.middle + (convex * self.centre.middle).sum(1)
        return ReluMinorant(
            hidden=self.hidden,
            height=self.centre.middle,
            weight=torch.where(self.concave, heavy, 0.0),
            linear=convex @ self.hidden,
            constant=constant if lift is None else constant + lift,
        )


def longest(vectors: Tensor) -> Tensor:
    """The largest norm of the columns of `vectors` `[n, k]`, rounded up."""
    return length(vectors.T).amax()
