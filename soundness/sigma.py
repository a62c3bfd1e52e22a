"""Activations and two derivatives in 80-bit floats, by formulas of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[Any]
#: Relative rounding of the 80-bit floats.
ULP = float(np.finfo(np.longdouble).eps)
_ROOT_PI = np.sqrt(np.arctan(np.longdouble(1)) * 4)
_ROOT_TWO = np.sqrt(np.longdouble(2))


def erfc(t: Array) -> Array:
    """1 - erf(t): in 80-bit floats a series within 3 of 0, a continued fraction beyond.

    Scipy's own in float64, which only searches use.
    """
    if t.dtype == np.float64:
        return np.asarray(special.erfc(t))
    size = np.abs(t)
    positive = np.empty_like(size)
    near, far = size[size <= 3], size[size > 3]
    term, total = near.copy(), near.copy()
    for k in range(1, 64):
        term = term * (2 * near * near / (2 * k + 1))
        total = total + term
    positive[size <= 3] = 1 - 2 / _ROOT_PI * np.exp(-near * near) * total
    tail = far.copy()
    for k in range(56, 0, -1):
        tail = far + k / (2 * tail)
    positive[size > 3] = np.exp(-far * far) / (_ROOT_PI * tail)
    return np.where(t >= 0, positive, 2 - positive)


def logistic(t: Array) -> Array:
    """1/(1 + e^-t)."""
    small = np.exp(-np.abs(t))
    return np.where(t >= 0, 1 / (1 + small), small / (1 + small))


def _softplus(t: Array) -> tuple[Array, Array, Array]:
    s = logistic(t)
    return np.logaddexp(0, t), s, s * logistic(-t)


def _tanh(t: Array) -> tuple[Array, Array, Array]:
    slope = 4 * logistic(2 * t) * logistic(-2 * t)
    return np.tanh(t), slope, -2 * np.tanh(t) * slope


def _sigmoid(t: Array) -> tuple[Array, Array, Array]:
    s, r = logistic(t), logistic(-t)
    return s, s * r, s * r * (r - s)


def _erf(t: Array) -> tuple[Array, Array, Array]:
    slope = 2 / _root_pi(t) * np.exp(-t * t)
    series = np.where(np.abs(t) < 0.5, _small_erf(t), 1 - erfc(t))
    return series, slope, -2 * t * slope


def _small_erf(t: Array) -> Array:
    near = np.clip(t, -0.5, 0.5)
    term, total = near.copy(), near.copy()
    for k in range(1, 18):
        term = term * (2 * near * near / (2 * k + 1))
        total = total + term
    return 2 / _root_pi(t) * np.exp(-near * near) * total


def _root_pi(t: Array) -> Any:
    return t.dtype.type(_ROOT_PI)


def _gelu(t: Array) -> tuple[Array, Array, Array]:
    root = t.dtype.type(_ROOT_TWO)
    below = erfc(-t / root) / 2
    density = np.exp(-t * t / 2) / (root * _root_pi(t))
    bend = np.where(np.abs(t) < 200, (2 - t * t) * density, 0)
    return t * below, below + t * density, bend


def _silu(t: Array) -> tuple[Array, Array, Array]:
    s, r = logistic(t), logistic(-t)
    return t * s, s + t * s * r, s * r * (2 + t * (r - s))


def _sin(t: Array) -> tuple[Array, Array, Array]:
    return np.sin(t), np.cos(t), -np.sin(t)


def _quadratic(t: Array) -> tuple[Array, Array, Array]:
    return t * t / 2, t.copy(), np.ones_like(t)


#: name -> t ↦ (σ, σ', σ'').
SIGMA: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "softplus": _softplus,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
    "gelu": _gelu,
    "silu": _silu,
    "sin": _sin,
    "quadratic": _quadratic,
}
