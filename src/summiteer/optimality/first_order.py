"""First order at a real point, enclosed: multiplier, tangential part, pressure (§3)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from summiteer.optimality.rounding import Enclosure, down, length, up
from summiteer.optimality.stand import Stand
from summiteer.optimality.surface import Place, carried


class Multipliers(ABC):
    """What a gradient at the points of a stand presses against.

    Attributes:
        stand: of the same rows.
    """

    stand: Stand

    @property
    @abstractmethod
    def gradient(self) -> Enclosure:
        """The gradient g `[rows, d]`."""

    @cached_property
    def along(self) -> Enclosure:
        """The gradient in the free coordinates, 0 in the held ones."""
        free = self.stand.free
        return Enclosure(self.gradient.middle * free, self.gradient.radius * free)

    @cached_property
    def steepness(self) -> Enclosure:
        """‖g‖ in the free coordinates `[rows]`."""
        return self.along.norm()

    @cached_property
    def outward(self) -> Enclosure:
        """gᵀp in the free coordinates, for the real p `[rows]`."""
        product = self.along.dot(self.stand.inside)
        return product.widened(up(self.steepness.upper * self.stand.slack))

    @cached_property
    def multiplier(self) -> Tensor:
        """A float μ next to gᵀp/e²; 0 where the ball is not active."""
        square = self.stand.radius.middle.square()
        return torch.where(self.stand.curved, self.outward.middle / square, 0.0)

    @cached_property
    def _lagrangian(self) -> Enclosure:
        """The Lagrangian's gradient g - μp `[rows, d]`, but for the slack of p."""
        pull = Enclosure.exact(self.stand.points) * self.multiplier[:, None]
        return self.gradient - pull

    @cached_property
    def _loose(self) -> Tensor:
        """|μ|·slack: what g - μp may change from the float point to the real one."""
        return up(self.multiplier.abs() * self.stand.slack)

    @cached_property
    def tangential(self) -> Tensor:
        """≥ γ = ‖Pg‖ on the face: no μ makes ‖g - μp‖ smaller `[rows]`."""
        free = self.stand.free
        left = Enclosure(self._lagrangian.middle * free, self._lagrangian.radius * free)
        return up(left.norm().upper + self._loose)

    @cached_property
    def tangential_low(self) -> Tensor:
        """≤ γ = ‖Pg‖: γ² = ‖g‖² - (gᵀn)², as the norm of g - μp less what μ misses.

        ‖g - μp‖² = γ² + ((gᵀn) - μe)² for every μ.
        """
        free = self.stand.free
        left = Enclosure(self._lagrangian.middle * free, self._lagrangian.radius * free)
        missed = (self.outward - self._square).magnitude / self.stand.radius.lower
        missed = torch.where(self.stand.curved, up(missed, 2), 0.0)
        return down(left.norm().lower - up(self._loose + missed))

    @cached_property
    def _square(self) -> Enclosure:
        """μe² `[rows]`."""
        radius = self.stand.radius
        return radius * radius * self.multiplier

    @cached_property
    def tangent_direction(self) -> Tensor:
        """Pg in floats: the way uphill on the face."""
        middle: Tensor = self._lagrangian.middle * self.stand.free
        return middle

    @cached_property
    def pressure(self) -> Tensor:
        """≤ s_i(g_i - μp_i), the multipliers of held coordinates; inf where free."""
        # A held coordinate is the limit itself: it has no slack.
        side = self.stand.side
        push = (self._lagrangian * side).lower
        # The float μ is not quite gᵀp/e², which is what drifts on the way to p*.
        missed = (self.outward - self._square).magnitude
        e = self.stand.radius.lower
        missed = torch.where(self.stand.curved, up(missed / e / e, 3), 0.0)
        push = down(push - up(missed[:, None] * self.stand.points.abs()))
        return torch.where(side == 0, torch.inf, push)

    @cached_property
    def leftover(self) -> Tensor:
        """≥ ‖g - μp - Σ s_iλ_ie_i‖, λ_i = max(s_i(g_i - μp_i), 0): γ of Prop. 3."""
        violated = torch.where(self.stand.side == 0, 0.0, (-self.pressure).clamp(min=0))
        return up(self.tangential + length(violated))

    def drift(self, steepest: Tensor) -> Tensor:
        """≥ |μ(q) - μ(p)|/‖q - p‖ on the sphere: L/e + ‖g‖/e² `[rows]`.

        Args:
            steepest: L.
        """
        e = self.stand.radius.lower
        return up(up(steepest / e) + up(self.steepness.upper / e / e, 3), 2)

    @cached_property
    def multiplier_low(self) -> Tensor:
        """≤ μ(p) = gᵀp/e² of the real point `[rows]`."""
        radius = self.stand.radius
        low = self.outward.lower
        e = torch.where(low > 0, radius.upper, radius.lower)
        return torch.where(self.stand.curved, down(down(low / e) / e), 0.0)


class OfGradient(Multipliers):
    """Those of a gradient that is given.

    Args:
        gradient: `[rows, d]`.
        stand: of the same rows.
    """

    def __init__(self, gradient: Enclosure, stand: Stand) -> None:
        self._gradient, self.stand = gradient, stand

    @property
    def gradient(self) -> Enclosure:
        """The gradient g `[rows, d]`."""
        return self._gradient


@dataclass(frozen=True, eq=False)
class FirstOrder(Multipliers):
    """What ∇F is at the points of a stand.

    Attributes:
        place: F there.
        stand: of the same rows.
    """

    place: Place
    stand: Stand

    def take(self, index: Tensor) -> "FirstOrder":
        """The rows `index`."""
        if len(index) == len(self.stand.points):
            return self  # rows are asked for in order, each once
        taken = FirstOrder(self.place.take(index), self.stand.take(index))
        return carried(self, taken, index)

    @cached_property
    def gradient(self) -> Enclosure:
        """The gradient g = ∇F(p) `[rows, d]`."""
        return self.place.gradient

    @cached_property
    def normal_bend(self) -> tuple[Tensor, Tensor, Tensor]:
        """(≥ |nᵀHn|, ≥ ‖PHn‖, ≥ max(nᵀHn, 0)) in the free coordinates `[rows]`."""
        normal, free = self.stand.normal, self.stand.free
        bent = self.place.bent(normal)
        bent = Enclosure(bent.middle * free, bent.radius * free)
        value = bent.dot(normal)
        # No c makes ‖Hn - cn‖ smaller than ‖PHn‖.
        across = (bent - normal * value.middle[:, None]).norm().upper
        return value.magnitude, across, value.upper.clamp(min=0)
