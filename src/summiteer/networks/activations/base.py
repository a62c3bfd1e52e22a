"""What every activation offers: σ to σ''', their ranges on intervals, their rounding.

A derivative of an activation is monotone between its turning points. So its range on
an interval follows from its values at the two ends and at the turning points inside,
and one short table per derivative (`Shape`) is all that a proof needs to know.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from summiteer.errors import UserError

#: u, the largest relative error of one correctly rounded float64 operation.
UNIT_ROUNDOFF = 2.0**-53

#: In units of u: the relative error that the bounds allow each of torch's float64 exp,
#: sigmoid, logsigmoid, tanh, erf, erfc, sin and cos wherever the result is a normal
#: number. IEEE 754 promises nothing for them. Against Arb, on 25 000 points or more
#: each (tails and multiples of π/2 included), whole, strided and single elements, with
#: torch's AVX-512, AVX2 and plain kernels: worst 1.97 (sigmoid), 1.9 (logsigmoid),
#: 1.5 (erfc), 1.14 (the others).
LIBRARY = 8.0

#: Absolute error where anything underflows, torch's early zeros included (sigmoid is 0
#: below -709.8): 2^-1022 times the largest polynomial factor of a formula, below 2^22.
UNDERFLOW = 2.0**-1000

#: Turning points are stored as the nearest float64; they count as inside an interval
#: that misses them by no more than this.
LOCATION_MARGIN = 1e-9  # chosen by us: far above their error, costs only its square


@dataclass(frozen=True)
class Shape:
    """Where a function of one variable turns, and the limits that it tends to.

    Attributes:
        turns: `(location, value)` of every turning point, in float64 rounded to
            nearest; the function is monotone between neighbouring ones.
        limits: The exact limits at -∞ and +∞, also where they are infinite.
        period: If given, `turns` repeat with it (and `limits` play no part).
    """

    turns: tuple[tuple[float, float], ...]
    limits: tuple[float, float]
    period: float | None = None

    @property
    def lowest(self) -> float:
        """A lower bound of the function on the whole line, its infimum but for 4u."""
        return min(*self.limits, *(_outward(value, -1) for _, value in self.turns))

    @property
    def highest(self) -> float:
        """An upper bound of the function on the whole line, its supremum but for 4u."""
        return max(*self.limits, *(_outward(value, +1) for _, value in self.turns))

    def includes(self, location: float, lower: Tensor, upper: Tensor) -> Tensor:
        """Whether `[lower, upper]` may contain the turning point at `location`."""
        if self.period is None:
            left = lower <= location + LOCATION_MARGIN
            return left & (upper >= location - LOCATION_MARGIN)
        size = torch.maximum(lower.abs(), upper.abs())
        margin = LOCATION_MARGIN + 16 * UNIT_ROUNDOFF * size  # rounding of the quotient
        first = torch.ceil((lower - margin - location) / self.period)
        return first <= torch.floor((upper + margin - location) / self.period)


class Activation(ABC):
    """An activation function σ: R → R, applied to every element of a tensor.

    Activations are stateless, hashable and picklable; two of one class are equal.
    No method modifies its argument. `value` may be differentiated twice by autograd.
    """

    #: The name in `ACTIVATIONS` and in files.
    name: ClassVar[str]
    #: Whether σ is three times continuously differentiable.
    smooth: ClassVar[bool] = True
    #: k where σ(ct) = c^k σ(t) for all c > 0, else None.
    homogeneous_degree: ClassVar[int | None] = None
    #: The shapes of σ', σ'' and σ'''.
    _shapes: ClassVar[tuple[Shape, Shape, Shape]]

    @abstractmethod
    def value(self, t: Tensor) -> Tensor:
        """σ(t), of the shape and dtype of `t`."""

    def forward(self, t: Tensor) -> Tensor:
        """σ(t) to rounding, of which less is known than of that of `value`."""
        return self.value(t)

    @abstractmethod
    def first(self, t: Tensor) -> Tensor:
        """σ'(t), of the shape and dtype of `t`."""

    def value_and_first(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(`forward`(t), σ'(t)) in new tensors, which the caller may change."""
        return self.forward(t), self.first(t)

    @abstractmethod
    def second(self, t: Tensor) -> Tensor:
        """σ''(t), of the shape and dtype of `t`."""

    @abstractmethod
    def third(self, t: Tensor) -> Tensor:
        """σ'''(t), of the shape and dtype of `t`."""

    @abstractmethod
    def _rounding(self, order: int, t: Tensor, value: Tensor) -> Tensor:
        """Bound of |computed - exact| for the derivative `order`, in u, no underflow.

        `value` is what was computed at `t`.

        Arithmetic costs 1, a library function `LIBRARY`; every sum of these is rounded
        up by a sixth or more, which also covers second-order terms and the rounding of
        the bound itself. Where summands cancel, their absolute values count.
        """

    def value_error(self, t: Tensor) -> Tensor:
        """Bound of |computed σ(t) - σ(t)|, σ and `t` taken as real numbers.

        Args:
            t: Float64 of any shape, on the CPU; another dtype is a `UserError`.

        Returns:
            Tensor of the shape of `t`; infinite where nothing is known.
        """
        return self._error(0, t)

    def first_error(self, t: Tensor) -> Tensor:
        """Bound of |computed σ'(t) - σ'(t)|, see `value_error`."""
        return self._error(1, t)

    def second_error(self, t: Tensor) -> Tensor:
        """Bound of |computed σ''(t) - σ''(t)|, see `value_error`."""
        return self._error(2, t)

    def third_error(self, t: Tensor) -> Tensor:
        """Bound of |computed σ'''(t) - σ'''(t)|, see `value_error`."""
        return self._error(3, t)

    def sup_abs_first(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bound of sup |σ'| over `[lower, upper]`, see `sup_second`."""
        return _largest_magnitude(*self._range(1, lower, upper))

    def sup_abs_second(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bound of sup |σ''| over `[lower, upper]`, see `sup_second`."""
        return _largest_magnitude(*self._range(2, lower, upper))

    def sup_abs_third(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bound of sup |σ'''| over `[lower, upper]`, see `sup_second`."""
        return _largest_magnitude(*self._range(3, lower, upper))

    def sup_first(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bound of sup σ' over `[lower, upper]`, see `sup_second`."""
        return self._range(1, lower, upper)[1]

    def inf_first(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Lower bound of inf σ' over `[lower, upper]`, see `sup_second`."""
        return self._range(1, lower, upper)[0]

    def sup_second(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Upper bound of sup σ'' over `[lower, upper]`, true for real numbers.

        The largest of the values at the two ends and at the turning points between
        them, all rounded outwards; it exceeds the supremum by rounding only, or by
        what σ'' changes within 1e-9 of a turning point outside.

        Args:
            lower: Left ends, -inf allowed.
            upper: Right ends, +inf allowed, `lower <= upper`, same shape as `lower`.

        Returns:
            Float64 of the same shape, whatever the dtype of the ends; nan where an
            end is nan.
        """
        return self._range(2, lower, upper)[1]

    def inf_second(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Lower bound of inf σ'' over `[lower, upper]`, see `sup_second`."""
        return self._range(2, lower, upper)[0]

    def range_first(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """(`inf_first`, `sup_first`), for the price of one."""
        return self._range(1, lower, upper)

    def range_second(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """(`inf_second`, `sup_second`), for the price of one."""
        return self._range(2, lower, upper)

    def _derivative(self, order: int, t: Tensor) -> Tensor:
        return (self.value, self.first, self.second, self.third)[order](t)

    def with_error(self, order: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """(the derivative `order` as computed, its error bound): see `value_error`."""
        value = self._derivative(order, t)
        return value, self._error(order, t, value)

    def _error(self, order: int, t: Tensor, value: Tensor | None = None) -> Tensor:
        if t.dtype != torch.float64:
            raise UserError(
                f"t must be float64, got {t.dtype}: rounding bounds are known for "
                "float64 only, so compute with t.double()."
            )
        value = self._derivative(order, t) if value is None else value
        return UNIT_ROUNDOFF * self._rounding(order, t, value) + UNDERFLOW

    def _range(self, order: int, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = lower.double(), upper.double()
        low, high = self._extremes(order, lower, upper)
        unknown = torch.isnan(lower) | torch.isnan(upper)
        return low.masked_fill(unknown, math.nan), high.masked_fill(unknown, math.nan)

    def _extremes(
        self, order: int, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bounds below and above the derivative `order` on `[lower, upper]`."""
        shape = self._shapes[order - 1]
        lower, upper = _downward(lower), _upward(upper)
        low_left, high_left = self._enclosure(order, lower)
        low_right, high_right = self._enclosure(order, upper)
        low = torch.minimum(low_left, low_right)
        high = torch.maximum(high_left, high_right)
        for location, value in shape.turns:
            inside = shape.includes(location, lower, upper)
            low = torch.where(inside, low.clamp(max=_outward(value, -1)), low)
            high = torch.where(inside, high.clamp(min=_outward(value, +1)), high)
        return low.clamp(min=shape.lowest), high.clamp(max=shape.highest)

    def _enclosure(self, order: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds below and above the derivative `order` at `t`, which may be ±inf."""
        value, error = self.with_error(order, t)
        low, high = _downward(value - error), _upward(value + error)
        limits = self._shapes[order - 1].limits
        for end, limit in zip((-math.inf, math.inf), limits, strict=True):
            low = torch.where(t == end, limit, low)
            high = torch.where(t == end, limit, high)
        return low, high


def _outward(value: float, side: int) -> float:
    return value + side * 4 * UNIT_ROUNDOFF * abs(value)  # 2 ulp or more


def _downward(t: Tensor) -> Tensor:
    return torch.nextafter(t, t.new_tensor(-math.inf))


def _upward(t: Tensor) -> Tensor:
    return torch.nextafter(t, t.new_tensor(math.inf))


def _largest_magnitude(low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(-low, high)
