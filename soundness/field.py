"""What is ascended, in 80-bit floats: values, gradients, Hessians and regions.

Arrays are `[batch, n, d]`: n points for each of `batch` examples of one network.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundness.sigma import SIGMA, ULP, logistic

Array = NDArray[Any]
LONG = np.longdouble


@dataclass(frozen=True, eq=False)
class Zone:
    """{‖δ‖ ≤ radius} ∩ {lower ≤ δ ≤ upper}, or ‖δ‖ = radius; infinite where absent.

    Attributes:
        radius: `[batch]` float64.
        lower: `[batch, d]`.
        upper: `[batch, d]`.
        sphere: whether ‖δ‖ = radius.
    """

    radius: Array
    lower: Array
    upper: Array
    sphere: bool = False

    @property
    def round(self) -> bool:
        """Whether there is a ball."""
        return bool(np.isfinite(self.radius).all())

    @property
    def boxed(self) -> bool:
        """Whether there is a box."""
        return bool(np.isfinite(self.upper).all())

    @property
    def width(self) -> Array:
        """A length that bounds the region's distance from 0 `[batch]`."""
        corner = np.maximum(np.abs(self.lower), np.abs(self.upper))
        return np.minimum(self.radius, np.sqrt((corner**2).sum(-1)))

    def take(self, rows: Array) -> "Zone":
        """The examples `rows`."""
        return replace(
            self,
            radius=self.radius[rows],
            lower=self.lower[rows],
            upper=self.upper[rows],
        )

    def project(self, points: Array) -> Array:
        """The nearest points of the region."""
        low, high = self.lower[:, None], self.upper[:, None]
        radius = self.radius[:, None, None]
        if not self.round:
            return np.clip(points, low, high)
        if self.sphere:
            # The centre has no nearest point: any will do.
            points = np.where(_long(points) == 0, np.ones_like(points), points)
            return points * (radius / np.maximum(_long(points), 1e-300))
        if not self.boxed:
            long = np.maximum(_long(points), radius)
            return points * (radius / long)
        least, most = np.zeros_like(points[..., :1]), np.ones_like(points[..., :1])
        for _ in range(70):
            middle = (least + most) / 2
            fits = _long(np.clip(middle * points, low, high)) <= radius
            least, most = np.where(fits, middle, least), np.where(fits, most, middle)
        inside = _long(np.clip(points, low, high)) <= radius
        return np.clip(np.where(inside, 1, least) * points, low, high)

    def inside(self, points: Array) -> Array:
        """Whether points belong to the region, but for 80-bit rounding `[…]`."""
        room = 16 * ULP * np.maximum(self.width[:, None], length(points))
        within = (points >= self.lower[:, None] - room[..., None]) & (
            points <= self.upper[:, None] + room[..., None]
        )
        away = length(points) - self.radius[:, None]
        fine = np.abs(away) <= room if self.sphere else away <= room
        return np.asarray(within.all(-1) & fine)


def length(vectors: Array) -> Array:
    """Euclidean norm of the last axis: no under- or overflow of float64's range."""
    wide = np.asarray(vectors, LONG)
    return np.asarray(np.sqrt((wide * wide).sum(-1)))


def _long(vectors: Array) -> Array:
    """The norm in the precision of the vectors, the last axis kept."""
    return np.asarray(np.sqrt((vectors * vectors).sum(-1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class Field:
    """One network with a batch of examples.

    Attributes:
        activation: name of σ.
        hidden: W `[m, d]`.
        bias: b `[m]`.
        output: A `[K, m]`.
        shift: c `[K]`.
        inputs: x `[batch, d]`.
        targets: y `[batch]`, labels as floats.
        loss: "quadratic", "logistic", "margin" (of one output or K) or "entropy".
        zone: the region.
    """

    activation: str
    hidden: Array
    bias: Array
    output: Array
    shift: Array
    inputs: Array
    targets: Array
    loss: str
    zone: Zone

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Array) -> "Field":
        """The examples `rows`."""
        return replace(
            self,
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            zone=self.zone.take(rows),
        )

    def inner(self, points: Array) -> tuple[Array, Array]:
        """(h, |W||x + δ| + |b|)."""
        where = self.inputs[:, None].astype(LONG) + points.astype(LONG)
        hidden = self.hidden.astype(LONG)
        size = np.abs(self.inputs)[:, None] + np.abs(points)
        reach = size.astype(float) @ np.abs(self.hidden).T + np.abs(self.bias)
        return _times(where, hidden.T) + self.bias.astype(LONG), reach

    def outputs(self, points: Array) -> tuple[Array, Array]:
        """(z, bound of its 80-bit rounding) `[batch, n, K]`."""
        h, reach = self.inner(points)
        value, slope, _ = SIGMA[self.activation](h)
        z = _times(value, self.output.astype(LONG).T) + self.shift.astype(LONG)
        count = 4 * (self.hidden.size + 64) ** 0.5 + 64
        doubt = np.abs(value) + (np.abs(slope) + ULP * reach) * reach
        big = doubt.astype(float) @ np.abs(self.output).T + np.abs(self.shift)
        return z, count * ULP * big

    def objective(self, points: Array) -> tuple[Array, Array]:
        """(objective, bound of its 80-bit rounding) `[batch, n]`."""
        z, doubt = self.outputs(points)
        y = self.targets[:, None].astype(LONG)
        if self.loss == "quadratic":
            u, error = z[..., 0] - y, doubt[..., 0] + ULP * np.abs(y)
            return u * u / 2, np.asarray(np.abs(u) * error + error**2 + ULP * u * u)
        if self.loss in ("logistic", "margin") and z.shape[-1] == 1:
            margin, error = -y * z[..., 0], doubt[..., 0]
        else:
            margin, error = self._margin(z), 2 * doubt.max(-1)
        if self.loss in ("logistic", "entropy"):
            value = np.logaddexp(0, margin)
            return value, np.asarray(error * logistic(margin) + 8 * ULP * value)
        return margin, np.asarray(error)

    def _margin(self, z: Array) -> Array:
        label = self.targets.astype(int)[:, None, None]
        own = np.take_along_axis(z, np.broadcast_to(label, (*z.shape[:2], 1)), -1)
        index = np.arange(z.shape[-1])
        return np.where(index == label, -np.inf, z - own).max(-1)

    def lead(self, points: Array) -> "Surface":
        """The F that leads at one point of each example `[batch, d]`."""
        z, _ = self.outputs(points[:, None])
        z, y = z[:, 0], self.targets
        if self.loss == "quadratic":
            s = np.where(z[:, 0] >= y, 1.0, -1.0)
            return Surface(self, s[:, None] * self.output[0], s * (self.shift[0] - y))
        if z.shape[-1] == 1:
            return Surface(self, -y[:, None] * self.output[0], -y * self.shift[0])
        label = y.astype(int)
        masked = np.where(np.arange(z.shape[-1]) == label[:, None], -np.inf, z)
        best = masked.argmax(-1)
        wide, shift = self.output.astype(LONG), self.shift.astype(LONG)
        return Surface(self, wide[best] - wide[label], shift[best] - shift[label])


@dataclass(frozen=True, eq=False)
class Surface:
    """F = Σ a_j σ(w_jᵀ(x + δ) + b_j) + c of each example.

    Attributes:
        field: the network.
        output: a `[batch, m]`.
        shift: c `[batch]`.
    """

    field: Field
    output: Array
    shift: Array

    def take(self, rows: Array) -> "Surface":
        """The examples `rows`."""
        return Surface(self.field.take(rows), self.output[rows], self.shift[rows])

    def look(self, points: Array) -> tuple[Array, Array, Array]:
        """(F, ∇F, a ⊙ σ''(h)), in the precision of the points."""
        field, kind = self.field, points.dtype.type
        hidden = field.hidden.astype(kind)
        where = field.inputs[:, None].astype(kind) + points
        h = _times(where, hidden.T) + field.bias.astype(kind)
        value, slope, bend = SIGMA[field.activation](h)
        a = self.output.astype(kind)[:, None]
        f = (value * a).sum(-1) + self.shift.astype(kind)[:, None]
        return f, _times(slope * a, hidden), bend * a

    def doubt(self, points: Array) -> tuple[Array, Array]:
        """Bounds of the 80-bit rounding of (F, each entry of ∇F)."""
        h, reach = self.field.inner(points)
        value, slope, bend = SIGMA[self.field.activation](h)
        a = np.abs(self.output.astype(float))[:, None]
        count = ULP * (4 * (self.field.hidden.size + 64) ** 0.5 + 64)
        reach = reach + 1e-300
        first = np.abs(slope).astype(float) + ULP * reach
        second = np.abs(bend).astype(float) + ULP * reach
        f = ((np.abs(value).astype(float) + first * reach) * a).sum(-1)
        f = f + np.abs(self.shift.astype(float))[:, None]
        g = (first + second * reach) * a @ np.abs(self.field.hidden)
        return count * f, count * g

    def hessian(self, points: Array) -> Array:
        """∇²F in the precision of the points `[batch, n, d, d]`."""
        bend = self.look(points)[2]
        wide = self.field.hidden.astype(points.dtype)
        if points.dtype == np.float64:
            return np.asarray(wide.T @ (bend[..., None] * wide))
        total = np.zeros((*points.shape, points.shape[-1]), LONG)
        for j in range(len(wide)):
            total += bend[..., j, None, None] * np.multiply.outer(wide[j], wide[j])
        return total


def _times(left: Array, right: Array) -> Array:
    """The product; in 80-bit floats, for which there is no BLAS, row by row."""
    if left.dtype == np.float64:
        return np.asarray(left @ right)
    total = np.zeros((*left.shape[:-1], right.shape[-1]), LONG)
    for j in range(right.shape[0]):
        total += left[..., j, None] * right[j]
    return total
