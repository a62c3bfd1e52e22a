"""Real numbers behind floats: enclosures that carry their rounding errors (§10).

u = 2⁻⁵³. A float64 operation errs by at most u relative (plus underflow), a sum of n
products in any order, with or without fused operations, by γ_n = nu/(1 - nu) of the sum
of magnitudes (Higham 2002, `higham2002accuracy`). Everything here is float64 on the CPU
and NaN where nothing is known: a test `bound > 0` fails on NaN, and so proves nothing.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.optimality.tools import tampered

#: More than all underflows of one formula together: each is below 2⁻¹⁰⁷⁴, and 2⁷⁴
#: operations take longer than anybody waits. Smaller numbers are never resolved.
TINY = 2.0**-1000
#: The same for a Euclidean norm, the square root of a sum of squares.
TINY_NORM = 2.0**-500


def gamma(count: int) -> float:
    """γ_n, rounded up.

    Args:
        count: n, at most 10¹² (1/(1 - nu) is then below 1.01).
    """
    if count > 10**12:
        raise OverflowError("more than 10^12 summands: no rounding bound")
    return 1.01 * count * UNIT_ROUNDOFF


def up(values: Tensor, operations: int = 1) -> Tensor:
    """An upper bound of the exact result of a computed one.

    Args:
        values: results of so many rounded operations on *non-negative* numbers; one
            operation may have any signs.
        operations: how many, in a row.
    """
    room = (2 * operations + 2) * UNIT_ROUNDOFF
    # 1 ± room are floats, by the sign of the value; infinite values stay what they are.
    factor = torch.copysign(values.new_tensor(room), values).add_(1.0)
    return factor.mul_(values).add_(TINY)


def down(values: Tensor, operations: int = 1) -> Tensor:
    """A lower bound of the exact result of a computed one; see `up`."""
    return -up(-values, operations)


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Real numbers, entry by entry within `radius` of `middle`.

    Attributes:
        middle: float64 of any shape.
        radius: ≥ 0, of the same shape.
    """

    middle: Tensor
    radius: Tensor

    @classmethod
    def exact(cls, values: Tensor) -> Self:
        """The floats themselves."""
        return cls(values, torch.zeros_like(values))

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> Self:
        """All of [lower, upper]."""
        middle = 0.5 * lower + 0.5 * upper
        radius = torch.maximum(up(upper - middle), up(middle - lower))
        return cls(middle, radius)

    @property
    def upper(self) -> Tensor:
        """Not below any of the numbers."""
        return up(self.middle + self.radius)

    @property
    def lower(self) -> Tensor:
        """Not above any of the numbers."""
        return down(self.middle - self.radius)

    @property
    def magnitude(self) -> Tensor:
        """Not below any of the absolute values."""
        return up(self.middle.abs() + self.radius)

    def __neg__(self) -> "Enclosure":
        return Enclosure(-self.middle, self.radius)

    def __add__(self, other: "Enclosure | Tensor") -> "Enclosure":
        right = _enclosed(other)
        middle = self.middle + right.middle
        radius = self.radius + right.radius
        radius.add_(middle.abs(), alpha=2 * UNIT_ROUNDOFF)
        return Enclosure(middle, up(radius, 3))

    def __sub__(self, other: "Enclosure | Tensor") -> "Enclosure":
        return self + (-other)

    def __mul__(self, other: "Enclosure | Tensor") -> "Enclosure":
        right = _enclosed(other)
        middle = self.middle * right.middle
        radius = self.radius * right.middle.abs().add_(right.radius)
        radius.addcmul_(self.middle.abs(), right.radius)
        radius.add_(middle.abs(), alpha=2 * UNIT_ROUNDOFF)
        return Enclosure(middle, up(radius, 5))

    def __matmul__(self, matrix: Tensor) -> "Enclosure":
        """Rows `[…, n]` times an exact matrix `[n, k]`."""
        count = matrix.shape[0]
        middle = self.middle @ matrix
        spread = self.radius + gamma(count + 2) * self.middle.abs()
        return _summed(middle, up(spread @ matrix.abs(), count + 4))

    def __getitem__(self, index: Tensor) -> "Enclosure":
        return Enclosure(self.middle[index], self.radius[index])

    def widened(self, by: Tensor) -> "Enclosure":
        """The numbers, moved by at most `by` each."""
        return Enclosure(self.middle, up(self.radius + by))

    def dot(self, other: "Enclosure | Tensor") -> "Enclosure":
        """Inner product of each pair of rows `[rows, n]` -> `[rows]`."""
        right, count = _enclosed(other), self.middle.shape[-1]
        product = self.middle * right.middle
        wide = self.radius * right.middle.abs()
        wide.addcmul_(self.middle.abs().add_(self.radius), right.radius)
        wide.add_(product.abs(), alpha=gamma(count + 2))
        return _summed(product.sum(-1), up(wide.sum(-1), count + 6))

    def norm(self) -> "Enclosure":
        """Euclidean norm of each row, `[rows, n]` -> `[rows]`."""
        middle = torch.linalg.vecdot(self.middle, self.middle).sqrt()
        count = self.middle.shape[-1]
        radius = _length(self.radius) + gamma(count + 4) * middle
        return Enclosure(middle, up(radius + TINY_NORM, 3))


def _summed(middle: Tensor, radius: Tensor) -> Enclosure:
    """Sums, of which nothing is known where they overflowed."""
    return Enclosure(middle, torch.where(middle.isfinite(), radius, torch.inf))


def _enclosed(value: "Enclosure | Tensor") -> Enclosure:
    return value if isinstance(value, Enclosure) else Enclosure.exact(value)


def _length(vectors: Tensor) -> Tensor:
    """An upper bound of the norm of each row of exact numbers."""
    square = torch.linalg.vecdot(vectors, vectors)
    return up(square.sqrt(), vectors.shape[-1] + 3) + TINY_NORM


def length(vectors: Tensor) -> Tensor:
    """‖v‖₂ of exact rows `[rows, n]`, rounded up."""
    return _length(vectors)


#: Numbers for each of which torch wakes one more thread: its grain size.
_PER_THREAD = 2**15


def arithmetic_fault() -> str:
    """Say what is wrong with this machine's float64 arithmetic now, or ''.

    Proofs need torch's own functions, gradual underflow, rounding to nearest and no
    silent casts. Checked on vectors too long for scalar code only.
    """
    changed = tampered()
    if changed:
        return changed
    ones = torch.ones(67, dtype=torch.float64, device="cpu")
    # Each thread flushes or not: enough numbers for all of them.
    threads = torch.get_num_threads()
    many = threads * _PER_THREAD if threads > 1 else len(ones)
    small = torch.full((many,), 1e-310, dtype=torch.float64, device="cpu")
    if not bool(((small * 1.0) != 0).all()) or not bool((small + small > small).all()):
        return "subnormal numbers are flushed to zero"
    half = UNIT_ROUNDOFF * ones
    nearest = [
        bool((ones + half == 1).all()),
        bool((ones - 0.5 * half == 1).all()),
        bool((ones + 3 * half == 1 + 4 * UNIT_ROUNDOFF).all()),
        bool((-ones - half == -1).all()),
        bool((ones + 1.0009765625 * half > 1).all()),
    ]
    if not all(nearest):
        return "float64 sums are not rounded to nearest"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    square = (ones[:, None] * (1 + half[None] * 2)) @ ones[:, None]
    if square.dtype != torch.float64:
        return "float64 products are cast to another type"
    return ""
