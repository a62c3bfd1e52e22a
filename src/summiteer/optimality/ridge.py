"""The highest point of g₀ᵀd + Σ a_j relu(h_j + w_jᵀd), a_j < 0, on a region, in floats.

A concave function: its maximum is told by multipliers λ_j ∈ [0, 1] with
v = g₀ + Σ λ_ja_jw_j normal to the region, λ_j = 1 where h_j > 0 and 0 where h_j < 0
(the inner problem of Prop. 9, for a few kinks of one point). Where the ball is active
the sets of kinks on, off and tied, and of held coordinates, are guessed from the last
solution until they repeat (primal-dual active sets, Hintermüller, Ito and Kunisch 2002,
`hintermuller2002primal`): each guess has a closed solution. Without a ball it is a
linear program.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from summiteer import _rows
from summiteer.optimality.stand import Limits
from summiteer.optimality.ties import Ties

#: Guesses of the active sets.
_GUESSES = 40
#: Heights and multipliers below this, relative to their own size, count as 0.
_ZERO = 1e-11


@dataclass(frozen=True, eq=False)
class Ridge:
    """Where the model is highest.

    Attributes:
        points: `[rows, d]`.
        multipliers: λ `[rows, ties]`.
        solved: `[rows]` bool, whether the conditions of a maximum hold.
    """

    points: Tensor
    multipliers: Tensor
    solved: Tensor


def ridge_on_ball(ties: Ties, limits: Limits, points: Tensor) -> Ridge:
    """The maximum with ‖δ‖ = ε.

    Args:
        ties: at the points.
        limits: of the region, which has a ball.
        points: `[rows, d]` where the model was made.
    """
    on = ties.real & (ties.height > 0)
    tied = ties.real & False
    held = torch.where(
        limits.upper <= points,
        1,
        torch.where(limits.lower >= points, -1, 0),
    )
    best = Ridge(points, on.double(), torch.zeros(len(points), dtype=torch.bool))
    for _ in range(_GUESSES):
        now = _solution(ties, limits, points, on, tied, held)
        sets = _sets(ties, limits, points, now, (on, tied, held))
        same = (sets[0] == on).all(1) & (sets[1] == tied).all(1)
        same &= (sets[2] == held).all(1) & now.solved
        best = _rows.choose(same & ~best.solved, now, best)
        if bool(best.solved.all()):
            break
        on, tied, held = sets
    return Ridge(best.points, best.multipliers.clamp(0, 1), best.solved)


def _solution(
    ties: Ties, limits: Limits, points: Tensor, on: Tensor, tied: Tensor, held: Tensor
) -> Ridge:
    """The stationary point for given sets: on the sphere, with w_jᵀd = -h_j if tied."""
    free = held == 0
    limit = torch.where(held > 0, limits.upper, limits.lower)
    fixed = torch.where(free, 0.0, limit)
    base = ties.slope(on.double())
    matrix = ties.normal * tied[:, :, None] * free[:, None, :]
    wanted = -ties.height + _times(ties.normal, points - fixed)
    wanted = torch.where(tied, wanted, 0.0)
    # Rows of length 1: the normals of one network may differ by orders of magnitude.
    length = matrix.norm(dim=2)
    scale = torch.where(length > 0, 1 / length, 0.0)
    matrix, wanted = matrix * scale[:, :, None], wanted * scale
    inverse = torch.linalg.pinv(matrix @ matrix.mT, rtol=1e-13, hermitian=True)

    def onto(vector: Tensor) -> Tensor:
        return _times(inverse, _times(matrix, vector))

    least = _back(matrix, _times(inverse, wanted))
    least = least + _back(matrix, _times(inverse, wanted - _times(matrix, least)))
    along = torch.where(free, base, 0.0)
    across = along - _back(matrix, onto(along))
    across = across - _back(matrix, onto(across))
    square = limits.radius.square() - fixed.square().sum(1) - least.square().sum(1)
    length = across.norm(dim=1)
    good = (square > 0) & (length > 0)
    root = square.clamp(min=1e-300).sqrt()
    place = least + (root / length.clamp(min=1e-300))[:, None] * across
    multiplier = length / root
    force = onto(multiplier[:, None] * place - along) * scale
    share = torch.where(tied, force / ties.weight.clamp(max=-1e-300), on.double())
    return Ridge(torch.where(free, place, limit), share, good)


def _sets(
    ties: Ties,
    limits: Limits,
    points: Tensor,
    now: Ridge,
    sets: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """(on, tied, held) as the solution for the last ones says they should be."""
    on, tied, before = sets
    heights = ties.heights(now.points - points)
    size = ties.normal.norm(dim=2) * limits.radius[:, None]
    share = now.multipliers
    turned_on = torch.where(tied, share > 1 + _ZERO, on & (heights >= -_ZERO * size))
    turned_off = torch.where(tied, share < -_ZERO, ~on & (heights <= _ZERO * size))
    becomes_tied = ties.real & ~turned_on & ~turned_off
    slope = ties.slope(share.clamp(0, 1))
    # μ from the solution: v = μδ in the free coordinates.
    inside = now.points * (before == 0)
    square = inside.square().sum(1).clamp(min=1e-300)
    multiplier = ((slope * inside).sum(1) / square).clamp(min=1e-300)
    target = slope / multiplier[:, None]
    held = torch.where(
        target >= limits.upper, 1, torch.where(target <= limits.lower, -1, 0)
    )
    return turned_on & ties.real, becomes_tied, held


def along_ridges(ties: Ties, ridge: Ridge, way: Tensor) -> Tensor:
    """The part of a way `[rows, d]` along which tied kinks keep their heights.

    Args:
        ties: at the points.
        ridge: with the multipliers that say which are tied.
        way: from the points.
    """
    share = ridge.multipliers
    tied = ties.real & (share > _ZERO) & (share < 1 - _ZERO)
    matrix = ties.normal * tied[:, :, None]
    length = matrix.norm(dim=2, keepdim=True)
    matrix = matrix / torch.where(length > 0, length, 1.0)
    inverse = torch.linalg.pinv(matrix @ matrix.mT, rtol=1e-13, hermitian=True)
    for _ in range(2):
        way = way - _back(matrix, _times(inverse, _times(matrix, way)))
    return way


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.bmm(matrix, vector[:, :, None])[:, :, 0]


def _back(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.bmm(vector[:, None], matrix)[:, 0]


def ridge_in_box(ties: Ties, limits: Limits, points: Tensor, reach: Tensor) -> Ridge:
    """The maximum within the box and max_i |δ_i - p_i| ≤ reach: a linear program a row.

    Variables d and t_j ≥ 0, t_j ≥ h_j + w_jᵀd; maximise g₀ᵀd + Σ a_jt_j. The
    multiplier of the latter constraint is -a_jλ_j.

    Args:
        ties: at the points.
        limits: of the region.
        points: `[rows, d]` where the model was made.
        reach: `[rows]`.
    """
    found, shares, solved = points.clone(), torch.zeros_like(ties.height), []
    for row in range(len(points)):
        real = ties.real[row].nonzero().flatten()
        answer = _program(ties, limits, points, reach, row, real)
        solved.append(answer is not None)
        if answer is not None:
            found[row], shares[row, real] = answer
    return Ridge(found, shares, torch.tensor(solved))


def _program(
    ties: Ties, limits: Limits, points: Tensor, reach: Tensor, row: int, real: Tensor
) -> tuple[Tensor, Tensor] | None:
    """(point, multipliers) of one row, or None."""
    normal, height = ties.normal[row, real], ties.height[row, real]
    weight, rest, here = ties.weight[row, real], ties.rest[row], points[row]
    room = reach[row]
    lower = torch.maximum(limits.lower[row] - here, -room)
    upper = torch.minimum(limits.upper[row] - here, room)
    dimension = len(here)
    cost = torch.cat([-rest, -weight])
    scale = cost.abs().max().clamp(min=1e-300)
    left = torch.cat([normal, -torch.eye(len(real), dtype=torch.float64)], 1)
    low = torch.cat([lower / room, torch.zeros(len(real), dtype=torch.float64)])
    high = torch.cat([upper / room, torch.full((len(real),), np.inf).double()])
    # In units of the reach, so that the solver's tolerances mean something.
    answer = linprog(
        (cost / scale).numpy(),
        A_ub=left.numpy() if len(real) else None,
        b_ub=(-height / room).numpy() if len(real) else None,
        bounds=torch.stack([low, high], 1).numpy(),
        method="highs",
    )
    if not answer.success:
        return None
    step = torch.from_numpy(answer.x[:dimension]) * room
    force = -torch.from_numpy(np.asarray(answer.ineqlin.marginals)) * scale
    share = (force / -weight).clamp(0, 1) if len(real) else height
    moved = here + step
    moved = torch.where(step >= upper, torch.minimum(here + upper, moved), moved)
    at_upper = (limits.upper[row] - moved).abs() <= 1e-9 * room
    at_lower = (moved - limits.lower[row]).abs() <= 1e-9 * room
    moved = torch.where(at_upper, limits.upper[row], moved)
    moved = torch.where(at_lower, limits.lower[row], moved)
    return _on_ties(normal, height, share, here, moved, ~(at_upper | at_lower)), share


def _on_ties(
    normal: Tensor,
    height: Tensor,
    share: Tensor,
    here: Tensor,
    moved: Tensor,
    free: Tensor,
) -> Tensor:
    """The point with the free coordinates put exactly on the tied kinks."""
    tied = (share > 1e-9) & (share < 1 - 1e-9)
    if not bool(tied.any()) or not bool(free.any()):
        return moved
    matrix = normal[tied][:, free]
    for _ in range(2):
        left = height[tied] + normal[tied] @ (moved - here)
        change = torch.linalg.lstsq(matrix, -left[:, None], driver="gelsd").solution
        moved = moved.clone()
        moved[free] += change[:, 0]
    return moved
