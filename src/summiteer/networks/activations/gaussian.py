"""Activations made of the Gaussian: its integral and products with it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from summiteer.networks.activations.base import LIBRARY, Activation, Shape

_SQRT_HALF = math.sqrt(1 / 2)
_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_ONE_OVER_SQRT_TWO_PI = 1 / math.sqrt(2 * math.pi)

#: Beyond it the Gaussians here are 0 in every float dtype (float64: from 39 on).
_FAR = 64.0


def _near(t: Tensor) -> Tensor:
    """`t` for a polynomial times a Gaussian: t² = inf would make inf·0 = nan."""
    return t.clamp(-_FAR, _FAR)


@dataclass(frozen=True)
class Erf(Activation):
    """σ(t) = erf(t) = 2/√π ∫₀ᵗ exp(-z²) dz."""

    name: ClassVar[str] = "erf"
    # Values by mpmath with 60 digits, confirmed by Arb in the tests.
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(turns=((0.0, 1.1283791670955126),), limits=(0.0, 0.0)),
        Shape(
            turns=(
                (-_SQRT_HALF, 0.9678828980765734),
                (_SQRT_HALF, -0.9678828980765734),
            ),
            limits=(0.0, 0.0),
        ),
        Shape(
            turns=(
                (-math.sqrt(1.5), 1.0071016970486943),
                (0.0, -2.256758334191025),
                (math.sqrt(1.5), 1.0071016970486943),
            ),
            limits=(0.0, 0.0),
        ),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = erf(t)."""
        return torch.erf(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = 2/√π·exp(-t²)."""
        return _TWO_OVER_SQRT_PI * torch.exp(-t * t)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = -2t·σ'(t)."""
        t = _near(t)
        return -2 * t * self.first(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = (4t² - 2)σ'(t)."""
        t = _near(t)
        return (4 * t * t - 2) * self.first(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        if order == 0:
            return LIBRARY * value.abs()
        # The rounding of t² enters exp's argument: relative error t² in the result.
        t = _near(t)
        units = 2 * LIBRARY + 2 * t * t
        if order == 3:  # cancels near its zeros ±1/√2
            return (units + LIBRARY) * (4 * t * t + 2) * self.first(t)
        return units * self._derivative(order, t).abs()


@dataclass(frozen=True)
class Gelu(Activation):
    """σ(t) = t·Φ(t), Φ the standard normal distribution, exact (no tanh in it).

    With φ = Φ' the standard normal density.
    """

    name: ClassVar[str] = "gelu"
    # Values by mpmath with 60 digits, confirmed by Arb in the tests.
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(
            turns=(
                (-math.sqrt(2), -0.12890414518515478),
                (math.sqrt(2), 1.1289041451851547),
            ),
            limits=(0.0, 1.0),
        ),
        Shape(
            turns=(
                (-2.0, -0.1079819330263761),
                (0.0, 0.7978845608028654),
                (2.0, -0.1079819330263761),
            ),
            limits=(0.0, 0.0),
        ),
        Shape(
            turns=(
                (-2.5243377989621387, -0.09874165861146963),
                (-0.7922869913932613, 0.7787696350557323),
                (0.7922869913932613, -0.7787696350557323),
                (2.5243377989621387, 0.09874165861146963),
            ),
            limits=(0.0, 0.0),
        ),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = t·Φ(t) = (t/2)·erfc(-t/√2)."""
        # torch's own gelu takes 1 + erf(t/√2), which is 0 from t = -8.3 down, and is
        # three times slower in float64.
        return 0.5 * t * torch.erfc(-_SQRT_HALF * t)

    def forward(self, t: Tensor) -> Tensor:
        """See `Activation.forward`: torch's own, to the last bit."""
        return functional.gelu(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = Φ(t) + t·φ(t)."""
        distribution = 0.5 * torch.erfc(-_SQRT_HALF * t)
        gaussian = torch.exp(-0.5 * t * t)
        return torch.addcmul(distribution, t, gaussian, value=_ONE_OVER_SQRT_TWO_PI)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = (2 - t²)φ(t)."""
        t = _near(t)
        return (2 - t * t) * _density(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = t(t² - 4)φ(t)."""
        t = _near(t)
        return t * (t * t - 4) * _density(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        # erfc's argument is off by 2u·t/√2, which moves Φ by 2u·|t|φ; the rounding of
        # t²/2 in exp's argument is a relative error t²/2 of φ.
        near = _near(t)
        square, density = near * near, _density(near)
        if order <= 1:
            distribution = 0.5 * torch.erfc(-_SQRT_HALF * t)
            flank = near.abs() * density
            if order == 0:
                return t.abs() * (1.5 * LIBRARY * distribution + 4 * flank)
            # cancels near its zero -0.752
            return 2 * LIBRARY * distribution + (3 * LIBRARY + square) * flank
        units = 3 * LIBRARY + square
        if order == 2:  # cancels near its zeros ±√2
            return units * (2 + square) * density
        # cancels near its zeros ±2
        return units * near.abs() * (square + 4) * density


def _density(t: Tensor) -> Tensor:
    """φ(t) = exp(-t²/2)/√(2π)."""
    return _ONE_OVER_SQRT_TWO_PI * torch.exp(-0.5 * t * t)
