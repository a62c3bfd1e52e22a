"""The function that proofs speak of: F = Σ_j a_j σ(w_jᵀ(x + δ) + b_j) + c, enclosed.

W, b and σ are the caller's, shared by the batch; a and c are one row per example: s·a
for a scalar loss (Prop. 1), A_k - A_y for a margin (§7), with their own rounding.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.activations import Activation
from summiteer.optimality.definite import Weighted
from summiteer.optimality.rounding import Enclosure, down, gamma, up

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Surface:
    """F of each row.

    Attributes:
        activation: σ, three times continuously differentiable.
        weighted: W `[m, d]` with its row space.
        centre: Wx + b `[rows, m]`.
        output: a `[rows, m]`.
        shift: c `[rows]`.
    """

    activation: Activation
    weighted: Weighted
    centre: Enclosure
    output: Enclosure
    shift: Enclosure

    @classmethod
    def of(
        cls,
        network: TwoLayerNetwork,
        inputs: Tensor,
        output: Enclosure,
        shift: Enclosure,
    ) -> "Surface":
        """The surface of a float64 network on the CPU.

        Args:
            network: for W, b and σ.
            inputs: x `[rows, d]`.
            output: a `[rows, m]`.
            shift: c `[rows]`.
        """
        hidden = network.hidden_weights.detach()
        bias = network.hidden_bias.detach()
        moved = Enclosure.exact(inputs) @ hidden.T
        return cls(network.activation, Weighted(hidden), moved + bias, output, shift)

    def __len__(self) -> int:
        return len(self.centre.middle)

    def take(self, index: Tensor) -> "Surface":
        """The rows `index`, in ascending order."""
        if len(index) == len(self):
            return self
        return replace(
            self,
            centre=self.centre[index],
            output=self.output[index],
            shift=self.shift[index],
        )

    def negated(self) -> "Surface":
        """-F."""
        return replace(self, output=-self.output, shift=-self.shift)

    @property
    def hidden(self) -> Tensor:
        """W."""
        return self.weighted.hidden

    def preactivations(self, points: Tensor, slack: Tensor) -> Enclosure:
        """W(x + δ) + b for all real δ within `slack` `[rows]` of `points`."""
        moved = Enclosure.exact(points) @ self.hidden.T
        lengths = self.weighted.lengths
        return self.centre + moved.widened(up(slack[:, None] * lengths))

    def at(self, points: Tensor, slack: Tensor | None = None) -> "Place":
        """F around the real points within `slack` of the float ones.

        Args:
            points: δ `[rows, d]` float64.
            slack: `[rows]`, rounded up; the points themselves if None.
        """
        if slack is None:
            slack = points.new_zeros(len(points))
        return Place(self, points, self.preactivations(points, slack))

    def within(self, radius: Tensor) -> Enclosure:
        """I_j of §5: the pre-activations on ‖δ‖ ≤ radius, `[rows, m]`."""
        return self.centre.widened(up(radius[:, None] * self.weighted.lengths))

    def bent_range(self, interval: Enclosure) -> Enclosure:
        """σ'' on the interval, the same for all surfaces of one network and input."""
        return Enclosure.between(
            *self.activation.range_second(interval.lower, interval.upper)
        )

    def second(self, interval: Enclosure) -> Enclosure:
        """a_j σ'' on the interval: D with ∇²F = Wᵀ diag(D) W there."""
        return self.output * self.bent_range(interval)

    def upward(self, interval: Enclosure) -> Tensor:
        """c⁺ ≥ a_j σ'' on the interval: Wᵀ diag(c⁺) W = M ≽ ∇²F (§5)."""
        return self.second(interval).upper

    def sloped_range(self, interval: Enclosure) -> Enclosure:
        """σ' on the interval, the same for all surfaces of one network and input."""
        return Enclosure.between(
            *self.activation.range_first(interval.lower, interval.upper)
        )

    def steep(self, interval: Enclosure) -> Tensor:
        """|a_j|·c2_j: L = λ_max(Wᵀ diag(·) W) (§5)."""
        return self.second(interval).magnitude

    def wiggle(self, interval: Enclosure) -> Tensor:
        """|a_j|·c3_j: with ‖w_j‖ it gives Λ (§5)."""
        third = self.activation.sup_abs_third(interval.lower, interval.upper)
        return up(self.output.magnitude * third)

    def slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(∇F, a ⊙ σ''(h)) in plain floats: for searching, never for proving."""
        inner = torch.addmm(self.centre.middle, points, self.hidden.T)
        heavy = self.output.middle
        gradient = (heavy * self.activation.first(inner)) @ self.hidden
        return gradient, heavy * self.activation.second(inner)

    def bent(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Wᵀ diag(D) W v in plain floats."""
        return (weights * (vectors @ self.hidden.T)) @ self.hidden


@dataclass(frozen=True, eq=False)
class Place:
    """F at one real point of each row, enclosed.

    Attributes:
        surface: of the rows.
        points: δ `[rows, d]`, the floats nearest to the real points.
        inner: h at the real points.
        images: order -> that derivative of σ at h, once it is known.
    """

    surface: Surface
    points: Tensor
    inner: Enclosure
    images: dict[int, Enclosure] = field(default_factory=dict, repr=False)

    def take(self, index: Tensor) -> "Place":
        """The rows `index`, with what is known of them."""
        if len(index) == len(self.points):
            return self  # rows are asked for in order, each once
        images = {order: image[index] for order, image in self.images.items()}
        surface, points = self.surface.take(index), self.points[index]
        return carried(self, Place(surface, points, self.inner[index], images), index)

    def on(self, surface: Surface) -> "Place":
        """The same points of another surface of this network and these inputs."""
        return Place(surface, self.points, self.inner, self.images)

    def image(self, order: int) -> Enclosure:
        """The derivative `order` of σ at h `[rows, m]`."""
        if order not in self.images:
            self.images[order] = _image(self.surface.activation, order, self.inner)
        return self.images[order]

    @cached_property
    def value(self) -> Enclosure:
        """F `[rows]`."""
        return self.surface.output.dot(self.image(0)) + self.surface.shift

    @cached_property
    def gradient(self) -> Enclosure:
        """∇F = Wᵀ(a ⊙ σ'(h)) `[rows, d]`."""
        slope = self.surface.output * self.image(1)
        return slope @ self.surface.hidden

    @cached_property
    def bend(self) -> Enclosure:
        """D = a ⊙ σ''(h), ∇²F = Wᵀ diag(D) W `[rows, m]`."""
        return self.surface.output * self.image(2)

    def bent(self, vectors: Enclosure) -> Enclosure:
        """∇²F·v `[rows, d]`."""
        hidden = self.surface.hidden
        return (self.bend * (vectors @ hidden.T)) @ hidden

    def around(self, reach: Tensor) -> Enclosure:
        """The pre-activations within `reach` `[rows]` of the points."""
        return self.inner.widened(up(reach[:, None] * self.surface.weighted.lengths))


def carried(known: T, taken: T, index: Tensor) -> T:
    """`taken`, with the cached values of `known` at the rows `index`."""
    for name, value in vars(known).items():
        if name not in vars(taken):
            parts = value if isinstance(value, tuple) else (value,)
            rows = tuple(_rows.take(part, index) for part in parts)
            vars(taken)[name] = rows if isinstance(value, tuple) else rows[0]
    return taken


def _image(activation: Activation, order: int, inner: Enclosure) -> Enclosure:
    """The derivative `order` of σ on an enclosure, by the mean value theorem."""
    steepest = (
        activation.sup_abs_first,
        activation.sup_abs_second,
        activation.sup_abs_third,
    )[order]
    # The supremum next to h, not that of the whole line: in the tails of σ the one is
    # many orders smaller than the other.
    rate = steepest(inner.lower, inner.upper)
    middle, error = activation.with_error(order, inner.middle)
    return Enclosure(middle, up(error + rate * inner.radius, 3))


def lipschitz(weighted: Weighted, weights: Tensor) -> Tensor:
    """λ_max(Wᵀ diag(|D|) W) ≤ Σ_j |D_j|‖w_j‖², and ≤ max|D_j|·‖W‖_F²: the smaller.

    The crude bound that costs no factorisation.

    Args:
        weighted: W.
        weights: `[rows, m]`, magnitudes.
    """
    square = weighted.lengths.square()
    total = up(weights @ square, len(square) + 4)
    return up(torch.minimum(total, weights.amax(1) * weighted.size.square()), 4)


def gradient_ceiling(surface: Surface, sloped: Enclosure) -> Tensor:
    """≥ ‖∇F‖ wherever σ' lies in `sloped`, `[rows]`.

    ‖Wᵀv‖, v = a ⊙ σ': the smaller of Σ|v_j|‖w_j‖ and ‖W‖_F‖v‖.

    Args:
        surface: F of each row.
        sloped: `[rows, m]`, see `Surface.sloped_range`.
    """
    slope = up(surface.output.magnitude * sloped.magnitude)
    count = slope.shape[1]
    total = up(slope @ surface.weighted.lengths, count + 3)
    length = Enclosure.exact(slope).norm().upper
    return torch.minimum(total, up(length * surface.weighted.size))


def gradient_floor(place: Place, sloped: Enclosure, units: Tensor) -> Tensor:
    """A lower bound of vᵀ∇F for all points with σ' in `sloped`.

    Σ_j min over I_j of a_j(Wv)_jσ' (Prop. 4): at most ‖∇F‖ where ‖v‖ ≤ 1.

    Args:
        place: for the surface.
        sloped: `[rows, m]`, see `Surface.sloped_range`.
        units: v `[rows, d]`, at most 1 long.
    """
    surface = place.surface
    weight = surface.output * (Enclosure.exact(units) @ surface.hidden.T)
    each = (weight * sloped).lower
    lost = gamma(each.shape[1] + 2) * up(each.abs().sum(1), each.shape[1])
    return down(each.sum(1) - up(lost))


def unit(vectors: Tensor) -> Tensor:
    """v/‖v‖ shortened so that its real norm is at most 1; 0 stays 0."""
    return _rows.unit(vectors) * (1 - 2.0**-30)  # 2^22 squares round by less
