"""The critical cone: where a multiplier vanishes its constraint may be left, inwards.

Second order decides there on a cone instead of a subspace (mathematics.md §4).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.optimality.curvature import Curvature, lanczos_curvature
from summiteer.regions import (
    Box,
    Face,
    Intersection,
    L2Ball,
    LinfBall,
    Region,
)
from summiteer.regions._region import rows_of
from summiteer.regions.intervals import held_by_limits

#: One-sided directions of which every combination is examined: 2⁴ spectra at most.
_MOST = 4
#: Steps of the search for a way up inside a cone of more.
_SEARCH = 16

#: v ↦ ∇²F·v of the rows with the given indices.
Products = Callable[[Tensor], Callable[[Tensor], Tensor]]


@dataclass(frozen=True, eq=False)
class CriticalCone:
    """{v in the tangent space of `face` : s_i v_i ≤ 0, nᵀv ≤ 0}.

    Attributes:
        face: as if the constraints whose multiplier vanishes were not there.
        side: `[rows, *input]` s_i = +1 at h_i, -1 at l_i where such a bound holds the
            coordinate, else 0.
        radial: `[rows, *input]` n, the unit outward normal of a ball whose multiplier
            vanishes, else 0.
    """

    face: Face
    side: Tensor
    radial: Tensor

    @property
    def count(self) -> Tensor:
        """How many directions are one-sided `[rows]`."""
        return self.side.ne(0).flatten(1).sum(1) + (_rows.norm(self.radial) > 0).long()

    def take(self, index: Tensor) -> "CriticalCone":
        """The rows `index`."""
        return _rows.take(self, index)

    def admits(self, vectors: Tensor) -> Tensor:
        """Whether no one-sided direction is gone outwards `[rows]`."""
        inwards = (self.side * vectors <= 0).flatten(1).all(1)
        return inwards & (_rows.dot(self.radial, vectors) <= 0)

    def turned(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """±v, whichever lies in the cone, and whether one does `[rows]`."""
        ahead, back = self.admits(vectors), self.admits(-vectors)
        return _rows.choose(back & ~ahead, -vectors, vectors), ahead | back

    def edge(self, pattern: int) -> "CriticalCone":
        """The face of the cone on which only the constraints of a pattern are loose.

        Args:
            pattern: its bit k tells of the k-th one-sided direction of each row, the
                ball's coming last.
        """
        sided = self.side.ne(0).flatten(1)
        rank = (sided.cumsum(1) - 1).clamp(0, _MOST).reshape(self.side.shape)
        loose = (torch.full_like(rank, pattern) >> rank) & 1 > 0
        side = self.side * loose
        free = self.face.free & ~(self.side.ne(0) & ~loose)
        last = sided.sum(1).clamp(max=_MOST)
        open_ball = (torch.full_like(last, pattern) >> last) & 1 > 0
        inside = self.radial * free
        normal = torch.where(
            _rows.expand(open_ball | (_rows.norm(self.radial) == 0), inside),
            _rows.unit(self.face.normal * free),
            _rows.unit(inside),
        )
        return CriticalCone(
            replace(self.face, free=free, normal=normal),
            side,
            inside * _rows.expand(open_ball, inside),
        )


def critical_cone(
    region: Region, points: Tensor, gradients: Tensor, face: Face, zero: Tensor
) -> CriticalCone:
    """Return the cone of directions that first order leaves open.

    Args:
        region: bound.
        points: `[rows, *input]`.
        gradients: of the ascended function.
        face: of the region there.
        zero: `[rows]` multipliers up to this size, in units of the gradient, vanish.
    """
    weak_ball = torch.zeros_like(zero, dtype=torch.bool)
    if isinstance(region, L2Ball | Intersection):
        pressure = _rows.dot(gradients, face.normal)
        weak_ball = (_rows.norm(face.normal) > 0) & (pressure.abs() <= zero)
    multiplier = torch.where(weak_ball, 0.0, face.multiplier)
    side = torch.zeros_like(points)
    box = region.box if isinstance(region, Intersection) else region
    if isinstance(box, Box | LinfBall):
        lower, upper = box.limits(points)
        room = rows_of(region.size, points) * tolerances.BOUNDARY
        room = _rows.expand(room, points)
        along = gradients - _rows.expand(multiplier, points) * points
        _, outward = held_by_limits(points, along, lower, upper, room)
        weak = outward.abs() <= _rows.expand(zero, points)
        side = torch.where(points >= upper - room, 1.0, -1.0).to(points) * weak
    free = face.free | side.ne(0)
    ball = _rows.expand((_rows.norm(face.normal) > 0) & ~weak_ball, points)
    outward = _rows.unit(points * free)
    wide = Face(
        free=free,
        normal=outward * ball,
        multiplier=multiplier,
        pressure=torch.full_like(face.pressure, torch.inf),
    )
    return CriticalCone(wide, side, outward * _rows.expand(weak_ball, points))


def cone_curvature(products: Products, cone: CriticalCone, like: Tensor) -> Curvature:
    """The largest vᵀ∇²Fv over the unit vectors of the cone.

    On a subspace vᵀ∇²Fv has no local maxima on the unit sphere but the global ones, so
    in the relative interior of a face of the cone a maximum is an eigenvector of the
    largest eigenvalue on the face's span. The answer is the largest of those
    eigenvalues whose eigenvector lies in the cone. It is at most the eigenvalue on the
    whole span, which alone decides where that lies below the multiplier.

    Args:
        products: of the rows.
        cone: of the rows.
        like: `[rows, *input]` float64, for the shape.

    Returns:
        Curvature on the cone, `way` in it. Where `error` is infinite (more than
        `_MOST` one-sided directions), `top` is only what a search found.
    """
    every = torch.arange(len(like), device=like.device)
    found = lanczos_curvature(products(every), cone.face, like)
    assert found.way is not None
    way, inside = cone.turned(found.way)
    below = found.top + found.error < cone.face.multiplier
    top, error = found.top.clone(), found.error.clone()
    for row in (~inside & ~below).nonzero().flatten():
        index = row[None]
        some = cone.take(index)
        if int(some.count) > _MOST:
            best = _searched(products(index), some, found, index)
        else:
            best = _enumerated(products(index), some, like[index])
        assert best.way is not None
        top[index], error[index], way[index] = best.top, best.error, best.way
    return Curvature(top, found.bottom, error, None, way)


def _enumerated(
    product: Callable[[Tensor], Tensor], cone: CriticalCone, like: Tensor
) -> Curvature:
    """Over the faces of one row's cone; that of the whole span is known to fail."""
    best: Curvature | None = None
    error = like.new_zeros(1)
    for pattern in range(2 ** int(cone.count) - 1):
        edge = cone.edge(pattern)
        found = lanczos_curvature(product, edge.face, like)
        assert found.way is not None
        error = torch.maximum(error, found.error)
        way, inside = edge.turned(found.way)
        if bool(inside) and (best is None or bool(found.top > best.top)):
            best = replace(found, way=way)
    assert best is not None  # pattern 0 has no one-sided direction
    return replace(best, error=error)


def _searched(
    product: Callable[[Tensor], Tensor],
    cone: CriticalCone,
    whole: Curvature,
    index: Tensor,
) -> Curvature:
    """The best vᵀ∇²Fv met by projected power steps from ±`whole.way` of one row.

    v ← clip(∇²Fv + ‖∇²F‖v)/‖…‖ raises a convex form on a box's cone at every step.
    """
    assert whole.way is not None
    shift = torch.maximum(whole.top[index].abs(), whole.bottom[index].abs())
    best, height = (
        torch.zeros_like(whole.way[index]),
        torch.full_like(shift, -torch.inf),
    )
    for sign in (1.0, -1.0):
        way = sign * whole.way[index]
        for _ in range(_SEARCH):
            way = torch.where(cone.side * way > 0, 0.0, way)
            outwards = _rows.dot(cone.radial, way).clamp(min=0)
            way = way - _rows.expand(outwards, way) * cone.radial
            way = _rows.unit(cone.face.project(way))
            image = cone.face.project(product(way))
            level = _rows.dot(way, image)
            if bool(cone.admits(way) & (level > height)):
                best, height = way, level
            way = image + _rows.expand(shift, way) * way
    return Curvature(height, whole.bottom[index], shift + torch.inf, None, best)
