"""Sine and square: activations whose derivatives need no special care."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from summiteer.networks.activations.base import LIBRARY, Activation, Shape

#: Up to here torch's sin and cos were compared with Arb (elsewhere as far as 1e22).
_SIN_VERIFIED = 1e8


def _wave(peak: float) -> Shape:
    """Shape of cos(t - peak)."""
    turns = ((peak, 1.0), (peak + math.pi, -1.0))
    return Shape(turns=turns, limits=(0.0, 0.0), period=2 * math.pi)


@dataclass(frozen=True)
class Sin(Activation):
    """σ(t) = sin(t)."""

    name: ClassVar[str] = "sin"
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        _wave(0.0),
        _wave(-math.pi / 2),
        _wave(math.pi),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = sin(t)."""
        return torch.sin(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = cos(t)."""
        return torch.cos(t)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = -sin(t)."""
        return -torch.sin(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = -cos(t)."""
        return -torch.cos(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        units = LIBRARY * value.abs()
        return torch.where(t.abs() <= _SIN_VERIFIED, units, math.inf)


@dataclass(frozen=True)
class Quadratic(Activation):
    """σ(t) = t²/2."""

    name: ClassVar[str] = "quadratic"
    homogeneous_degree: ClassVar[int | None] = 2
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(turns=(), limits=(-math.inf, math.inf)),
        Shape(turns=(), limits=(1.0, 1.0)),
        Shape(turns=(), limits=(0.0, 0.0)),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = t²/2."""
        return 0.5 * t * t

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = t."""
        return t.clone()

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = 1."""
        return torch.ones_like(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = 0."""
        return torch.zeros_like(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        # All exact but the value, which is one rounded product.
        return 2 * self.value(t) if order == 0 else torch.zeros_like(t)
