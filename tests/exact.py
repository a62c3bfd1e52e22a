"""Real numbers as an oracle: definitions of σ in Arb, networks of them, rationals.

Arb (python-flint) differentiates the definitions by power series, so no formula of the
package is assumed.
"""

import math
from dataclasses import dataclass

from flint import arb, arb_series, ctx, fmpq
from torch import Tensor

#: Pre-activations beyond which float64 knows no tails.
_FURTHEST = 1000

DEFINITIONS = {
    "softplus": lambda t: (1 + t.exp()).log(),
    "tanh": lambda t: 2 * (2 * t).exp() / (1 + (2 * t).exp()) - 1,
    "sigmoid": lambda t: t.exp() / (1 + t.exp()),
    "erf": lambda t: t.erf(),
    "gelu": lambda t: t * (-t / arb(2).sqrt()).erfc() / 2,
    "silu": lambda t: t * t.exp() / (1 + t.exp()),
    "sin": lambda t: t.sin(),
    "quadratic": lambda t: t * t / 2,
}


def exact(name: str, t, count: int = 4) -> list[arb]:
    """Enclosures of σ, σ', … (`count` of them) at the ball or number `t`."""
    if name == "relu":
        step = arb(int(t > 0))
        return [step * t, step, arb(0), arb(0)][:count]
    if name in ("leaky_relu", "abs"):
        left, at_zero = {"leaky_relu": (0.01, 0.01), "abs": (-1.0, 0.0)}[name]
        slope = arb(1 if t > 0 else left)
        first = arb(at_zero) if t == 0 else slope
        return [slope * t, first, arb(0), arb(0)][:count]
    ctx.cap, before = count, ctx.cap
    series = DEFINITIONS[name](arb_series([t, 1], prec=count))
    ctx.cap = before
    return [series[k] * math.factorial(k) for k in range(count)]


def reals(values: Tensor) -> list:
    """The floats of a tensor as Arb numbers, nested as the tensor is."""
    if values.ndim == 0:
        return arb(float(values))
    return [reals(entry) for entry in values]


def dot(left, right) -> arb:
    return sum((a * b for a, b in zip(left, right, strict=True)), arb(0))


def length(vector) -> arb:
    return dot(vector, vector).sqrt()


@dataclass
class Network:
    """F(δ) = Σ_j a_j σ(w_jᵀ(x + δ) + b_j) + c of one example, at real δ."""

    name: str
    hidden: list
    bias: list
    inputs: list
    output: list
    shift: arb

    def inner(self, point) -> list:
        moved = [x + d for x, d in zip(self.inputs, point, strict=True)]
        return [dot(w, moved) + b for w, b in zip(self.hidden, self.bias, strict=True)]

    def terms(self, point, order: int) -> list:
        """a_j times the derivative of σ at h_j."""
        before, derivatives = ctx.prec, []
        ctx.prec = before + 8 * _FURTHEST
        heights = self.inner(point)
        for h in heights:
            # In the tails 1 + e^±2t takes 3|t| bits to see both summands; σ'' may be
            # the difference of two such numbers.
            ctx.prec = before + 8 * min(int(abs(float(h))), _FURTHEST)
            derivatives.append(exact(self.name, h, order + 1)[order])
        ctx.prec = before
        return [a * s for a, s in zip(self.output, derivatives, strict=True)]

    def value(self, point) -> arb:
        return sum(self.terms(point, 0), self.shift)

    def gradient(self, point) -> list:
        slopes = self.terms(point, 1)
        return [dot(slopes, column) for column in zip(*self.hidden, strict=True)]

    def bent(self, point, vector) -> list:
        """∇²F(δ)·v."""
        turned = [dot(w, vector) for w in self.hidden]
        weights = self.terms(point, 2)
        bends = [a * t for a, t in zip(weights, turned, strict=True)]
        return [dot(bends, column) for column in zip(*self.hidden, strict=True)]


def inside(middle: Tensor, radius: Tensor, real: arb) -> bool:
    """Whether a real number is proved to lie within a float radius of a float."""
    return bool(abs(real - arb(float(middle))) <= arb(float(radius)))


def rational(values: Tensor) -> list:
    """The floats of a tensor as fractions, nested as the tensor is."""
    if values.ndim == 0:
        return fmpq(*float(values).as_integer_ratio())
    return [rational(entry) for entry in values]


def positive_definite(matrix) -> bool:
    """By LDLᵀ in rationals: every pivot is positive."""
    rows = [list(row) for row in matrix]
    for k, row in enumerate(rows):
        if row[k] <= 0:
            return False
        for below in rows[k + 1 :]:
            share = below[k] / row[k]
            for j in range(k, len(row)):
                below[j] -= share * row[j]
    return True
