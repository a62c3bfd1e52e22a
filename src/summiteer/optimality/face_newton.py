"""Newton's method on the face where a point lies: where plain ascent creeps."""

from collections.abc import Callable

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.optimality.derivatives import derivatives
from summiteer.problem import Rows
from summiteer.regions import Face

#: Newton steps, and Hessian products of each; both end sooner where they converge.
_ROUNDS, _PRODUCTS = 4, 64
#: Relative residual of the linear systems: each round gains as many digits.
_FORCING = 1e-4
#: Units of rounding, relative to its terms, of which a gradient may consist.
_NOISE = 16.0
#: Curvature along a direction, relative to the largest seen, that counts as none.
_NO_CURVATURE = 1e-10  # rounding of float64 Hessian products of deep networks


def face_newton(rows: Rows, points: Tensor, reach: Tensor) -> Tensor:
    """Climb to the critical point next to each point, where the model is concave.

    Steps (μI - PHP)⁻¹Pg by conjugate gradients, at most `reach` long and projected. A
    step is kept where the residual falls and the objective does not, but for rounding.

    Args:
        rows: the problem, one example per point.
        points: `[rows, *input]` float64.
        reach: `[rows]` the longest step.

    Raises:
        RuntimeError: autograd knows no second derivative.
    """
    reached = points.clone()
    index = torch.arange(len(points), device=points.device)
    here = rows.evaluate(points)
    reference = rows.region.magnitude(here.gradient)
    unit = torch.finfo(points.dtype).eps
    for _ in range(_ROUNDS):
        some, at = rows.take(index), reached[index]
        local = derivatives(some, at, reach[index])
        face = some.region.face(at, local.gradient)
        step, bend = _solved(local.product, face, local.gradient)
        # Nothing but rounding of the gradient: no way to anywhere.
        noise = _rows.norm(local.gradient) + bend * some.magnitude(at)
        along = _rows.norm(face.project(local.gradient))
        loud = along > _NOISE * unit * noise
        length = _rows.norm(step)
        share = torch.where(length > reach[index], reach[index] / length, 1.0)
        moved = some.region.project(at + _rows.expand(share, step) * step)
        before, after = some.evaluate(at), some.evaluate(moved)
        same = tolerances.SAME_LOSS * unit * before.loss.abs()
        scale = reference[index]
        old, new = (
            some.region.residual(p, e.gradient, scale)
            for p, e in ((at, before), (moved, after))
        )
        better = (after.loss >= before.loss - same) & (new < old) & loud
        reached[index] = _rows.choose(better, moved, at)
        index = index[better & (new > unit)]
        if not len(index):
            break
    return reached


def _solved(
    product: Callable[[Tensor], Tensor], face: Face, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """(μI - PHP)⁻¹Pg, as far as it is positive, and the largest curvature met."""
    rest = face.project(gradient)
    step, way = torch.zeros_like(rest), rest
    size = _rows.dot(rest, rest)
    goal = _FORCING**2 * size
    largest, alive = torch.zeros_like(size), size > 0
    for _ in range(min(_PRODUCTS, rest[0].numel())):
        image = _rows.expand(face.multiplier, way) * way - face.project(product(way))
        bend = _rows.ratio(_rows.dot(way, image), _rows.dot(way, way))
        largest = torch.maximum(largest, bend.abs())
        alive = alive & (bend > _NO_CURVATURE * largest)
        share = torch.where(alive, size / _rows.dot(way, image), 0.0)
        step = step + _rows.expand(share, way) * way
        rest = rest - _rows.expand(share, way) * image
        after = _rows.dot(rest, rest)
        way = rest + _rows.expand(_rows.ratio(after, size), way) * way
        size, alive = after, alive & (after > goal)
        if not bool(alive.any()):
            break
    return step, largest
