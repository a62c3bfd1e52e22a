"""Activations made of the logistic function s(t) = 1/(1 + e^-t).

Its slope is s'(t) = s(t)s(-t), accurate in both tails where s(t)(1 - s(t)) is not, and
s''(t) = -s'(t)·tanh(t/2), s'''(t) = s'(t)(1 - 6s'(t)).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from summiteer.networks.activations.base import LIBRARY, Activation, Shape

#: Turning points of s'' and s'''.
_S2, _S3 = math.log(2 + math.sqrt(3)), math.log(5 + 2 * math.sqrt(6))
#: Above this the softplus is the identity to the last bit of float64: e^-40 < 2^-53.
_STRAIGHT = 40.0
#: sup |s''|.
_C2 = 1 / (6 * math.sqrt(3))

_SLOPE = Shape(turns=((0.0, 1 / 4),), limits=(0.0, 0.0))
_BEND = Shape(turns=((-_S2, _C2), (_S2, -_C2)), limits=(0.0, 0.0))
_TWIST = Shape(turns=((-_S3, 1 / 24), (0.0, -1 / 8), (_S3, 1 / 24)), limits=(0.0, 0.0))

#: Rounding of `_slope` and `_bend`, in u: two sigmoids and a product; one tanh more.
_SLOPE_ROUNDING, _BEND_ROUNDING = 2.5 * LIBRARY, 4 * LIBRARY


def _slope(t: Tensor) -> Tensor:
    """s'(t)."""
    return torch.sigmoid(t) * torch.sigmoid(-t)


def _bend(t: Tensor) -> Tensor:
    """s''(t)."""
    return -_slope(t) * torch.tanh(0.5 * t)


@dataclass(frozen=True)
class Softplus(Activation):
    """σ(t) = log(1 + e^t) on the whole line.

    `torch.nn.Softplus` is another function: it switches to the identity above 20, with
    a jump of 2e-9.
    """

    name: ClassVar[str] = "softplus"
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(turns=(), limits=(0.0, 1.0)),
        _SLOPE,
        _BEND,
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = log(1 + e^t)."""
        # Autograd's second derivative of torch.logaddexp is nan below -710 (below -89
        # in float32); that of logsigmoid is finite everywhere.
        return -functional.logsigmoid(-t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = s(t)."""
        return torch.sigmoid(t)

    def forward(self, t: Tensor) -> Tensor:
        """See `Activation.forward`: two thirds of the time of `value`."""
        return functional.softplus(t, threshold=_STRAIGHT)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = s(t)s(-t)."""
        return _slope(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = -s(t)s(-t)tanh(t/2)."""
        return _bend(t)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        units = (LIBRARY, LIBRARY, _SLOPE_ROUNDING, _BEND_ROUNDING)[order]
        return units * value.abs()


@dataclass(frozen=True)
class Sigmoid(Activation):
    """σ(t) = s(t) = 1/(1 + e^-t)."""

    name: ClassVar[str] = "sigmoid"
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (_SLOPE, _BEND, _TWIST)

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = s(t)."""
        return torch.sigmoid(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = s(t)s(-t)."""
        return _slope(t)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = -s(t)s(-t)tanh(t/2)."""
        return _bend(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = s'(t)(1 - 6s'(t)), s'(t) = s(t)s(-t)."""
        slope = _slope(t)
        return slope * (1 - 6 * slope)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        if order == 3:  # the bracket cancels near its zeros ±log(2 + √3)
            slope = _slope(t)
            return 6 * LIBRARY * slope * (1 + 6 * slope)
        units = (LIBRARY, _SLOPE_ROUNDING, _BEND_ROUNDING)[order]
        return units * value.abs()


@dataclass(frozen=True)
class Tanh(Activation):
    """σ(t) = tanh(t) = 2s(2t) - 1."""

    name: ClassVar[str] = "tanh"
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(turns=((0.0, 1.0),), limits=(0.0, 0.0)),
        Shape(turns=((-_S2 / 2, 8 * _C2), (_S2 / 2, -8 * _C2)), limits=(0.0, 0.0)),
        Shape(
            turns=((-_S3 / 2, 2 / 3), (0.0, -2.0), (_S3 / 2, 2 / 3)), limits=(0.0, 0.0)
        ),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = tanh(t)."""
        return torch.tanh(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = 4s(2t)s(-2t)."""
        return 4 * _slope(2 * t)

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = -2tanh(t)σ'(t)."""
        return -2 * torch.tanh(t) * self.first(t)

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = σ'(t)(4tanh²(t) - 2σ'(t))."""
        slope = self.first(t)
        return slope * (4 * torch.tanh(t).square() - 2 * slope)

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        if order == 3:  # the bracket cancels near its zeros ±artanh(1/√3)
            slope = self.first(t)
            summands = 4 * torch.tanh(t).square() + 2 * slope
            return 6 * LIBRARY * slope * summands
        units = (LIBRARY, _SLOPE_ROUNDING, _BEND_ROUNDING)[order]
        return units * value.abs()


@dataclass(frozen=True)
class Silu(Activation):
    """σ(t) = t·s(t), also called swish."""

    name: ClassVar[str] = "silu"
    # Turning points and values by mpmath with 60 digits, confirmed by Arb in the tests.
    _shapes: ClassVar[tuple[Shape, Shape, Shape]] = (
        Shape(
            turns=(
                (-2.3993572805154675, -0.09983932012886691),
                (2.3993572805154675, 1.099839320128867),
            ),
            limits=(0.0, 1.0),
        ),
        Shape(
            turns=(
                (-3.435840993535111, -0.036914373199893186),
                (0.0, 0.5),
                (3.435840993535111, -0.036914373199893186),
            ),
            limits=(0.0, 0.0),
        ),
        Shape(
            turns=(
                (-4.429235100557228, -0.013862297655470339),
                (-1.0319582417807491, 0.3081815157964791),
                (1.0319582417807491, -0.3081815157964791),
                (4.429235100557228, 0.013862297655470339),
            ),
            limits=(0.0, 0.0),
        ),
    )

    def value(self, t: Tensor) -> Tensor:
        """σ(t) = t·s(t)."""
        return functional.silu(t)

    def first(self, t: Tensor) -> Tensor:
        """σ'(t) = s(t)(1 + t·s(-t))."""
        return torch.sigmoid(t) * (1 + t * torch.sigmoid(-t))

    def second(self, t: Tensor) -> Tensor:
        """σ''(t) = s'(t)(2 - t·tanh(t/2)), s'(t) = s(t)s(-t)."""
        return _slope(t) * (2 - t * torch.tanh(0.5 * t))

    def third(self, t: Tensor) -> Tensor:
        """σ'''(t) = s'(t)(t(1 - 6s'(t)) - 3tanh(t/2)), s'(t) = s(t)s(-t)."""
        slope = _slope(t)
        return slope * (t * (1 - 6 * slope) - 3 * torch.tanh(0.5 * t))

    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        if order == 0:  # t/(1 + e^-t)
            return 1.5 * LIBRARY * value.abs()
        slope, bend = _slope(t), torch.tanh(0.5 * t).abs()
        if order == 1:  # cancels near its zero -1.278
            return 3 * LIBRARY * (torch.sigmoid(t) + t.abs() * slope)
        if order == 2:  # cancels near its zeros ±2.399
            return 5 * LIBRARY * slope * (2 + t.abs() * bend)
        return 6 * LIBRARY * slope * (t.abs() * (1 + 6 * slope) + 3 * bend)
