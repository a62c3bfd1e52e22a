"""The rectifier and its kin: straight on both sides of a kink at 0, convex there."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from summiteer.errors import UserError
from summiteer.networks.activations.base import Activation


@dataclass(frozen=True)
class Relu(Activation):
    """σ(t) = max(t, 0), with the convention σ'(0) = 0.

    The bounds of σ' count both one-sided slopes at the kink. There σ'' is +∞ (the kink
    is convex) and σ''' may be anything.
    """

    name: ClassVar[str] = "relu"
    smooth: ClassVar[bool] = False
    homogeneous_degree: ClassVar[int | None] = 1

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = max(t, 0)."""
        return torch.relu(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = 1 where t > 0, else 0."""
        # Three times faster than casting t > 0, and as exact.
        return torch.sign(torch.relu(t))

    def value_and_first(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `Activation.value_and_first`: one rectifier for both."""
        value = torch.relu(t)
        return value, torch.sign(value)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _extremes(
        self, order: int, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _extremes(order, 0.0, lower, upper)


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """σ(t) = max(t, 0) + α·min(t, 0), with torch's convention σ'(0) = α.

    The bounds of σ' count both one-sided slopes at the kink; see `Relu`.

    Args:
        negative_slope: α, 0 ≤ α < 1.

    Raises:
        UserError: α is not such a number.
    """

    name: ClassVar[str] = "leaky_relu"
    smooth: ClassVar[bool] = False
    homogeneous_degree: ClassVar[int | None] = 1

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        slope = self.negative_slope
        if type(slope) not in (int, float) or not 0 <= slope < 1:
            raise UserError(
                f"negative_slope: expected a number 0 ≤ α < 1, got {slope!r}."
            )
        object.__setattr__(self, "negative_slope", float(slope))

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = t where t > 0, else αt."""
        return functional.leaky_relu(t, self.negative_slope)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = 1 where t > 0, else α."""
        slope = torch.full_like(t, self.negative_slope)
        return torch.where(t > 0, torch.ones_like(t), slope)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        # All exact but the value, which is one rounded product below 0.
        return 2 * value.abs() if order == 0 else torch.zeros_like(t)

    def _extremes(
        self, order: int, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _extremes(order, self.negative_slope, lower, upper)


@dataclass(frozen=True)
class Abs(Activation):
    """σ(t) = |t|, with torch's convention σ'(0) = 0.

    The bounds of σ' count both one-sided slopes at the kink; see `Relu`.
    """

    name: ClassVar[str] = "abs"
    smooth: ClassVar[bool] = False
    homogeneous_degree: ClassVar[int | None] = 1

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = |t|."""
        return t.abs()

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = sign(t)."""
        return t.sign()

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = 0, the kink left out."""
        return torch.zeros_like(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _extremes(
        self, order: int, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _extremes(order, -1.0, lower, upper)


def _extremes(
    order: int, left: float, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    """Bounds of a derivative on intervals, the slope being `left` below 0, 1 above."""
    if order == 1:
        # Not `torch.where` of two numbers, which rounds them to the default dtype.
        below = torch.full(lower.shape, left, dtype=torch.float64)
        return below.masked_fill(lower > 0, 1.0), below.masked_fill(upper >= 0, 1.0)
    zero = torch.zeros_like(lower)
    high = zero.masked_fill((lower <= 0) & (upper >= 0), math.inf)
    return (-high if order == 3 else zero), high
