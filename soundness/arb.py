"""Proposition 6 and the curvature bounds again, in Arb's interval arithmetic.

Everything is enclosed in balls of 200 bits from the caller's own floats, so that what
is refuted here is refuted by a proof, not by rounding.
"""

from collections.abc import Callable
from typing import Any

import flint
import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from soundness.field import Field

Array = NDArray[Any]
BITS = 200


def exact(value: Any) -> arb:
    """A float, 80-bit floats included, exactly."""
    high = float(value)
    low = float(value - np.longdouble(high)) if np.isfinite(high) else 0.0
    return arb(high) + arb(low)


def _logistic(t: arb) -> arb:
    return 1 / (1 + (-t).exp())


def _gauss(t: arb) -> arb:
    return (-t * t / 2).exp() / (2 * arb.pi()).sqrt()


def _phi(t: arb) -> arb:
    return (-t / arb(2).sqrt()).erfc() / 2


#: name -> (σ, σ', σ'').
SIGMA: dict[str, tuple[Callable[[arb], arb], ...]] = {
    "softplus": (
        lambda t: (1 + t.exp()).log(),
        _logistic,
        lambda t: _logistic(t) * _logistic(-t),
    ),
    "tanh": (
        lambda t: t.tanh(),
        lambda t: 1 - t.tanh() ** 2,
        lambda t: -2 * t.tanh() * (1 - t.tanh() ** 2),
    ),
    "sigmoid": (
        _logistic,
        lambda t: _logistic(t) * _logistic(-t),
        lambda t: _logistic(t) * _logistic(-t) * (1 - 2 * _logistic(t)),
    ),
    "erf": (
        lambda t: t.erf(),
        lambda t: 2 / arb.pi().sqrt() * (-t * t).exp(),
        lambda t: -4 * t / arb.pi().sqrt() * (-t * t).exp(),
    ),
    "gelu": (
        lambda t: t * _phi(t),
        lambda t: _phi(t) + t * _gauss(t),
        lambda t: (2 - t * t) * _gauss(t),
    ),
    "silu": (
        lambda t: t * _logistic(t),
        lambda t: _logistic(t) * (1 + t * _logistic(-t)),
        lambda t: (
            _logistic(t) * _logistic(-t) * (2 + t * (_logistic(-t) - _logistic(t)))
        ),
    ),
    "sin": (lambda t: t.sin(), lambda t: t.cos(), lambda t: -t.sin()),
    "quadratic": (lambda t: t * t / 2, lambda t: t, lambda t: arb(1)),
}


class Point:
    """F, ∇F and ∇²F of one example at one real point.

    Args:
        field: of one example.
        output: a `[m]` of the F that leads.
        shift: c.
        point: `[d]` floats.
        held: `[d]` bool: coordinates that are exactly what they are; the others are
            scaled to length √(ε² - ‖p_held‖²) where `curved`.
        curved: whether the point is meant to lie on the sphere.
    """

    def __init__(
        self,
        field: Field,
        output: Array,
        shift: Any,
        point: Array,
        held: Array,
        curved: bool,
    ) -> None:
        p = [exact(v) for v in point]
        self.free = [not h for h in held]
        self.curved = curved
        own = sum((v * v for v, f in zip(p, self.free, strict=True) if f), arb(0))
        fixed = sum((v * v for v, f in zip(p, self.free, strict=True) if not f), arb(0))
        if curved:
            self.radius = (exact(field.zone.radius[0]) ** 2 - fixed).sqrt()
            scale = self.radius / own.sqrt()
            p = [v * scale if f else v for v, f in zip(p, self.free, strict=True)]
        self.point = p
        rows = [[exact(w) for w in row] for row in field.hidden]
        x = [exact(v) + q for v, q in zip(field.inputs[0], p, strict=True)]
        h = [
            sum((w * v for w, v in zip(row, x, strict=True)), exact(b))
            for row, b in zip(rows, field.bias, strict=True)
        ]
        a = [exact(v) for v in output]
        value, slope, bend = SIGMA[field.activation]
        self.value = sum(
            (c * value(t) for c, t in zip(a, h, strict=True)), exact(shift)
        )
        first = [c * slope(t) for c, t in zip(a, h, strict=True)]
        second = [c * bend(t) for c, t in zip(a, h, strict=True)]
        d = len(p)
        self.gradient = [
            sum((f * row[i] for f, row in zip(first, rows, strict=True)), arb(0))
            for i in range(d)
        ]
        self.hessian = [
            [
                sum(
                    (s * row[i] * row[k] for s, row in zip(second, rows, strict=True)),
                    arb(0),
                )
                for k in range(d)
            ]
            for i in range(d)
        ]

    @property
    def multiplier(self) -> arb:
        """μ = gᵀp/e² in the free coordinates."""
        if not self.curved:
            return arb(0)
        pairs = zip(self.gradient, self.point, self.free, strict=True)
        return sum((g * v for g, v, f in pairs if f), arb(0)) / self.radius**2

    @property
    def tangential(self) -> arb:
        """‖Pg‖² in the free coordinates."""
        mu = self.multiplier
        triples = zip(self.gradient, self.point, self.free, strict=True)
        return sum(((g - mu * v) ** 2 for g, v, f in triples if f), arb(0))

    def exceeds(self, bound: float) -> bool | None:
        """Whether λ_max of ∇²F on the tangent space is > bound; None if not decided.

        tI - H on a basis of the tangent space, by LDLᵀ: a negative pivot refutes.
        """
        return exceeds(self.hessian, self._basis(), bound)

    def _basis(self) -> list[list[arb]]:
        """Vectors that span the tangent space of the face."""
        free = [i for i, f in enumerate(self.free) if f]
        unit = [[arb(int(i == k)) for i in range(len(self.free))] for k in free]
        if not self.curved:
            return unit
        # e_k·p_l - e_l·p_k with l the largest coordinate of p.
        size = [abs(float(self.point[i].mid())) for i in free]
        most = free[int(np.argmax(size))]
        basis = []
        for k in free:
            if k != most:
                vector = [arb(0)] * len(self.free)
                vector[k], vector[most] = self.point[most], -self.point[k]
                basis.append(vector)
        return basis


def exceeds(
    hessian: list[list[arb]], basis: list[list[arb]], bound: float
) -> bool | None:
    """Whether λ_max of H on the span of `basis` is > bound; None if not decided.

    tI - H by LDLᵀ: a negative pivot refutes that it is positive definite.
    """
    matrix = [
        [exact(bound) * _dot(u, v) - _form(hessian, u, v) for v in basis] for u in basis
    ]
    for k in range(len(matrix)):
        pivot = matrix[k][k]
        if pivot < 0:
            return True
        if not pivot > 0:
            return None
        for i in range(k + 1, len(matrix)):
            factor = matrix[i][k] / pivot
            for j in range(k, len(matrix)):
                matrix[i][j] = matrix[i][j] - factor * matrix[k][j]
    return False


def weighted(hidden: Array, weights: Array) -> list[list[arb]]:
    """Wᵀ diag(D) W."""
    rows = [[exact(w) for w in row] for row in hidden]
    heavy = [exact(v) for v in weights]
    span = range(hidden.shape[1])
    return [
        [
            sum((h * r[i] * r[k] for h, r in zip(heavy, rows, strict=True)), arb(0))
            for k in span
        ]
        for i in span
    ]


def _dot(u: list[arb], v: list[arb]) -> arb:
    return sum((x * y for x, y in zip(u, v, strict=True)), arb(0))


def _form(hessian: list[list[arb]], u: list[arb], v: list[arb]) -> arb:
    image = arb_mat(hessian) * arb_mat([[x] for x in v])
    return sum((x * image[i, 0] for i, x in enumerate(u)), arb(0))


def precise() -> Any:
    """A context with enough bits."""
    return flint.ctx.workprec(BITS)
