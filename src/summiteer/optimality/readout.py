"""Objectives as functions of a network's outputs z `[rows, K]`, enclosed.

Near a point an objective is φ(cᵀz + shift) with φ increasing, c = e_k - e_y for the
best class k of a margin, or it is the cross-entropy itself, whose gradient with respect
to z is softmax(z) - e_y.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.objectives import CrossEntropy, Logistic, Margin, Quadratic, scalar
from summiteer.optimality.rounding import Enclosure, up
from summiteer.optimality.scalar_form import (
    IDENTITY,
    SOFTPLUS,
    SQUARE,
    Link,
    one_rival,
)
from summiteer.problem import Problem

#: Units of rounding of exp, of the sum of K of them, of their quotient.
_SOFTMAX = 64


@dataclass(frozen=True, eq=False)
class Difference:
    """φ(cᵀz + shift), while every dᵀz + rest of the `leads` is positive.

    Attributes:
        link: φ.
        weights: c `[rows, K]`, each 0 or ±1.
        shift: `[rows]`.
        leads: (d `[rows, K]`, rest `[rows]`): what makes the objective this form.
    """

    link: Link
    weights: Tensor
    shift: Enclosure
    leads: tuple[tuple[Tensor, Enclosure], ...]

    curved: ClassVar[bool] = False

    def take(self, index: Tensor) -> "Difference":
        """The rows `index`."""
        return replace(
            self,
            weights=self.weights[index],
            shift=self.shift[index],
            leads=tuple((d[index], rest[index]) for d, rest in self.leads),
        )

    def value(self, outputs: Enclosure) -> Enclosure:
        """F = cᵀz + shift `[rows]`."""
        return outputs.dot(self.weights) + self.shift

    def cotangent(self, outputs: Enclosure) -> Enclosure:
        """∂F/∂z `[rows, K]`, whatever z."""
        del outputs
        return Enclosure.exact(self.weights)

    def holds(self, outputs: Enclosure, vary: Tensor) -> Tensor:
        """Whether the objective is this form wherever z moves by ≤ `vary` `[rows]`."""
        sure = torch.ones(len(vary), dtype=torch.bool)
        for weights, rest in self.leads:
            ahead = outputs.dot(weights) + rest
            room = up((vary * weights.abs()).sum(1), vary.shape[1] + 2)
            sure &= ahead.lower > room
        return sure


@dataclass(frozen=True, eq=False)
class Entropy:
    """The cross-entropy log Σ exp(z_k - z_y).

    Attributes:
        labels: y `[rows]`.
        classes: K.
    """

    labels: Tensor
    classes: int

    curved: ClassVar[bool] = True
    link: ClassVar[Link] = IDENTITY

    def take(self, index: Tensor) -> "Entropy":
        """The rows `index`."""
        return replace(self, labels=self.labels[index])

    @property
    def _own(self) -> Tensor:
        return functional.one_hot(self.labels, self.classes).double()

    def value(self, outputs: Enclosure) -> Enclosure:
        """Log Σ exp(z_k - z_y): 1-Lipschitz in the largest |Δ(z_k - z_y)|."""
        own = (outputs.middle * self._own).sum(1, keepdim=True)
        ahead = outputs.middle - own
        middle = torch.logsumexp(ahead, 1)
        # The differences round by u each, exp and the sum by their own; the logarithm
        # of a sum ≥ 1 turns relative errors into absolute ones.
        size = 1 + ahead.abs().amax(1) + middle.abs()
        count = _SOFTMAX + 2 * self.classes
        moved = 2 * outputs.radius.amax(1)
        return Enclosure(middle, up(moved + count * UNIT_ROUNDOFF * size, 6))

    def cotangent(self, outputs: Enclosure) -> Enclosure:
        """softmax(z) - e_y for all z of the enclosure."""
        own = self._own
        others = Enclosure.between(*self.shares(outputs)) * (1 - own)
        # Not s_y - 1, which cancels: -Σ of the others.
        total = others.dot(torch.ones_like(own))
        return Enclosure(
            others.middle * (1 - own) - total.middle[:, None] * own,
            others.radius * (1 - own) + total.radius[:, None] * own,
        )

    def shares(self, outputs: Enclosure) -> tuple[Tensor, Tensor]:
        """Bounds of softmax(z): s_k is e^{w}/(1+e^{w}), w = z_k - log Σ_{j≠k} e^{z_j}.

        Each z_j moves by at most r_j, so w by at most r_k + max r: s by e^{±that}.
        """
        middle = torch.softmax(outputs.middle, 1)
        moved = up(outputs.radius + outputs.radius.amax(1, keepdim=True))
        # Rounding: relative, but for the differences z - max z, which are as large as
        # exp makes up for: (z - max)u ≤ 750u where the result is normal.
        room = up(moved + (_SOFTMAX + 2 * self.classes + 800) * UNIT_ROUNDOFF, 4)
        low = middle * torch.exp(-room) * (1 - 1e-14)
        high = middle * torch.exp(room) * (1 + 1e-14) + 1e-300
        return low.clamp(min=0) - 1e-300, high

    def holds(self, outputs: Enclosure, vary: Tensor) -> Tensor:
        """It is this form everywhere."""
        del outputs
        return torch.ones(len(vary), dtype=torch.bool)


Readout: TypeAlias = Difference | Entropy


def readout(problem: Problem, outputs: Tensor) -> Readout | str:
    """The objective near points with these outputs, or why there is no such form.

    Args:
        problem: in float64.
        outputs: of the model at the points, flat `[rows, K]`.
    """
    kind, targets = type(problem.objective), problem.targets
    rows, classes = outputs.shape
    zero = Enclosure.exact(outputs.new_zeros(rows))
    if classes == 1:
        wanted = scalar(targets).double()
        if kind is Quadratic:
            sign = torch.where(outputs[:, 0] >= wanted, 1.0, -1.0).double()
            shift = Enclosure.exact(-sign * wanted)
            form = sign[:, None]
            return Difference(SQUARE, form, shift, ((form, shift),))
        if kind in (Logistic, Margin):
            link = SOFTPLUS if kind is Logistic else IDENTITY
            return Difference(link, -wanted[:, None], zero, ())
        return f"{kind.__name__} of one output is not a loss that proofs know"
    rival = one_rival(problem)
    if rival is not None:
        pair = functional.one_hot(torch.stack([rival, targets]), classes).double()
        return Difference(IDENTITY, pair[0] - pair[1], zero, ())
    if kind not in (Margin, CrossEntropy) or targets.is_floating_point():
        return f"{kind.__name__} of several outputs is not a loss that proofs know"
    if kind is CrossEntropy and classes > 2:
        return Entropy(targets, classes)
    own = functional.one_hot(targets, classes).double()
    best = outputs.masked_fill(own > 0, -torch.inf).argmax(1)
    leader = functional.one_hot(best, classes).double()
    # The others in their order, the label and the best left out.
    leads = []
    numbers = torch.arange(classes).expand(rows, -1)
    rest = numbers[(own + leader) == 0].reshape(rows, classes - 2)
    for column in range(classes - 2):
        other = functional.one_hot(rest[:, column], classes).double()
        leads.append((leader - other, zero))
    link = IDENTITY if kind is Margin else SOFTPLUS
    return Difference(link, leader - own, zero, tuple(leads))
