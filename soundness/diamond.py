"""L1 balls, alone or in a box, and the vertices that they have."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

import summiteer as sm
from soundness.field import LONG, Array, Zone, length
from soundness.sigma import ULP


@dataclass(frozen=True, eq=False)
class Diamond(Zone):
    """{‖δ‖₁ ≤ radius, lower ≤ δ ≤ upper} with lower ≤ 0 ≤ upper, all finite.

    Attributes:
        alone: whether the package is told of the ball only.
    """

    alone: bool = False

    def project(self, points: Array) -> Array:
        """The nearest points: clip(sign(p)·max(|p| - λ, 0)), λ by bisection."""
        low, high = self.lower[:, None], self.upper[:, None]
        radius = self.radius[:, None, None]
        size = np.abs(points)

        def cut(level: Array) -> Array:
            return np.clip(np.copysign(np.maximum(size - level, 0), points), low, high)

        least = np.zeros_like(points[..., :1])
        most = size.max(-1, keepdims=True)
        inside = _sum(cut(least)) <= radius
        for _ in range(70):
            middle = (least + most) / 2
            fits = _sum(cut(middle)) <= radius
            least, most = np.where(fits, least, middle), np.where(fits, middle, most)
        return cut(np.where(inside, 0, most))

    def inside(self, points: Array) -> Array:
        """Whether points belong to the region, but for 80-bit rounding `[…]`."""
        room = 16 * ULP * np.maximum(self.width[:, None], length(points))
        within = (points >= self.lower[:, None] - room[..., None]) & (
            points <= self.upper[:, None] + room[..., None]
        )
        away = _sum(points)[..., 0] - self.radius[:, None]
        return np.asarray(within.all(-1) & (away <= room))

    def corners(self) -> Array:
        """All vertices, some of them twice `[batch, n, d]`.

        A vertex maximises a linear function: for an order and signs of the coordinates,
        each takes what its limit and the coordinates before leave it.
        """
        batch, d = self.lower.shape
        orders = list(itertools.permutations(range(d)))
        signs = list(itertools.product((-1, 1), repeat=d))
        found = np.zeros((batch, len(orders) * len(signs), d), LONG)
        for n, (order, sign) in enumerate(itertools.product(orders, signs)):
            left = self.radius.astype(LONG)
            for k in order:
                cap = self.upper[:, k] if sign[k] > 0 else -self.lower[:, k]
                taken = np.minimum(cap, left)
                found[:, n, k] = sign[k] * taken
                left = left - taken
        return found

    def region(self) -> sm.Region:
        """The package's region."""
        ball = sm.L1Ball(torch.from_numpy(np.array(self.radius)))
        if self.alone:
            return ball
        low, high = (torch.from_numpy(np.array(x)) for x in (self.lower, self.upper))
        return sm.regions.intersect(ball, sm.Box(low, high))


def diamond(radius: Array, lower: Array | None = None,
            upper: Array | None = None, dimensions: int = 0) -> Diamond:  # fmt: skip
    """The ball, or its part within limits that are cut to what the ball allows."""
    if lower is None or upper is None:
        wide = np.repeat(radius[:, None], dimensions, 1)
        return Diamond(radius, -wide, wide, alone=True)
    wide = radius[:, None]
    return Diamond(radius, np.maximum(lower, -wide), np.minimum(upper, wide))


def _sum(points: Array) -> Array:
    return np.asarray(np.abs(points).sum(-1, keepdims=True))
