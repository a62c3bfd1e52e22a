"""The best multipliers of a dual in floats: Newton's method along the central path.

Nothing here is proved, and nothing needs to be: `dual.bound` holds for every λ, ν ≥ 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.networks.two_layer import weighted_gram
from summiteer.optimality.dual import Multipliers, joined
from summiteer.optimality.patches import Patches
from summiteer.optimality.surface import Place

#: Numbers of a batch of matrices held at once, of which a step needs a few.
_NUMBERS = 2**22
#: Newton steps at most; the barrier's last weight as a share of its first.
_STEPS, _LAST = 60, 1e-9
#: How much of the barrier's weight a step leaves.
_COOLING = 0.1
#: Halvings of a step.
_SHORTER = 12
#: A slab thinner than this (in radii) is solved for as if it were as thick.
_THIN = 1e-3


def interior_point(
    place: Place, weights: Tensor, patches: Patches, goal: Tensor | None = None
) -> Multipliers:
    """The best λ and ν by Newton's method with a logarithmic barrier.

    The dual function is convex, and with -log det A - Σ log y self-concordant.

    Args:
        place: at floats p.
        weights: D `[rows, m]`.
        patches: of the same rows.
        goal: `[rows]` a bound below it is good enough.
    """
    if goal is None:
        goal = weights.new_full((len(weights),), -torch.inf)
    weighted = place.surface.weighted
    axes = patches.frame.vectors is None
    dim = weighted.hidden.shape[1] if axes else weighted.coordinates.shape[1]
    step = max(1, _NUMBERS // dim**2)
    parts = [
        _InteriorPoint(place.take(index), weights[index], patches.take(index)).solve(
            goal[index]
        )
        for index in torch.split(torch.arange(len(weights)), step)
    ]
    return joined(parts)


@dataclass(frozen=True, eq=False)
class _Spot:
    """What both the barrier function and Newton's step need at y, found once.

    Attributes:
        y: `[rows, k]`.
        good: `[rows]` whether A was factorised.
        factor: of A, the identity where it was not.
        pull: β.
        fixed: the dual but for ½βᵀA⁻¹β.
        value: the dual.
        logs: log det A + Σ log y.
    """

    y: Tensor
    good: Tensor
    factor: Tensor
    pull: Tensor
    fixed: Tensor
    value: Tensor
    logs: Tensor

    def merit(self, weight: Tensor) -> Tensor:
        """Dual/weight - log det A - Σ log y; inf outside."""
        inside = self.good & (self.y > 0).all(1)
        return torch.where(inside, self.value / weight - self.logs, torch.inf)


class _InteriorPoint:
    """`interior_point` of a few rows, in coordinates of the row space of W.

    y = (λ, ν) or ν; t = δ - p = A⁻¹β, β = g - λp + V(ν ⊙ mid), mid = ½(lo + hi) - Vᵀp.
    """

    def __init__(self, place: Place, weights: Tensor, patches: Patches) -> None:
        weighted, frame = place.surface.weighted, patches.frame
        self.round = patches.limits.round
        self.basis = None if frame.vectors is None else weighted.basis
        rows = weighted.hidden if self.basis is None else weighted.coordinates
        self.matrix = weighted_gram(rows, weights)
        self.gradient = self._enter(place.gradient.middle)
        self.points = self._enter(place.points)
        self.vectors = frame.vectors
        if self.vectors is not None and self.basis is not None:
            self.vectors = self.basis.T @ self.vectors
        self.reach = patches.limits.reach
        along = frame.along(place.points).middle
        middle = 0.5 * patches.low + 0.5 * patches.high - along
        thin = _THIN * self.reach[:, None]
        half = (0.5 * (patches.high - patches.low)).clamp(min=thin)
        self.middle, self.half = middle, half
        self.radius = patches.limits.radius
        self.room = half.square() - middle.square()
        self.left = self.radius.square() - self.points.square().sum(1)
        self.value = place.value.middle

    def _enter(self, vectors: Tensor) -> Tensor:
        return vectors if self.basis is None else vectors @ self.basis

    def _spread(self, slabs: Tensor) -> Tensor:
        """Vs."""
        return slabs if self.vectors is None else slabs @ self.vectors.T

    def solve(self, enough: Tensor) -> Multipliers:
        """Follow the central path; the last point at which A was factorised.

        Args:
            enough: `[rows]`, values of the dual that need not be lowered further.
        """
        scale = self.matrix.abs().sum(2).amax(1)
        scale = scale + self.gradient.norm(dim=1) / self.reach
        count = self.half.shape[1] + self.round
        y = (1.5 * scale)[:, None].expand(-1, count).clone()
        weight = scale * self.reach.square() / (count + self.matrix.shape[1])
        goal, kept = _LAST * weight, y
        least = torch.zeros_like(scale)
        going = torch.ones_like(scale, dtype=torch.bool)
        spot = self._spot(y)
        for _ in range(_STEPS):
            step, decrement, floor, value = self._newton(spot, weight)
            sound = step.isfinite().all(1) & (floor > 0)
            kept = torch.where((going & sound)[:, None], spot.y, kept)
            least = torch.where(going & sound, floor, least)
            done = (weight < goal) & (decrement < 1)
            # What verifies the value may cost it a little.
            done |= value + 1e-6 * (value - self.value).abs() < enough
            going = going & sound & ~done
            if not bool(going.any()):
                break
            spot = self._moved(spot, step, decrement, weight, going)
            weight = torch.where(decrement < 1, _COOLING * weight, weight)
        ball = kept[:, 0] if self.round else torch.zeros_like(least)
        place = self.points + self._refined(kept)
        if self.basis is not None:
            place = place @ self.basis.T
        return Multipliers(ball, kept[:, int(self.round) :], place, ball - 0.5 * least)

    def _moved(
        self,
        spot: _Spot,
        step: Tensor,
        decrement: Tensor,
        weight: Tensor,
        going: Tensor,
    ) -> _Spot:
        """The longest halved step that lowers the barrier function enough.

        Rows that are not going may end anywhere.
        """
        y = spot.y
        shrink = (-step / y).amax(1).clamp(min=1e-300)
        length = (0.95 / shrink).clamp(max=1)
        safe = 1 / (1 + decrement)
        before = spot.merit(weight)
        open_ = going.clone()
        for _ in range(_SHORTER):
            there = self._spot(y + length[:, None] * step)
            after = there.merit(weight)
            enough = after <= before - 0.1 * length * decrement.square()
            open_ = open_ & ~enough
            if not bool(open_.any()):
                return there
            length = torch.where(open_, 0.5 * length, length)
        length = torch.where(open_, torch.minimum(safe, length), length)
        return self._spot(torch.where(going[:, None], y + length[:, None] * step, y))

    def _spot(self, y: Tensor) -> _Spot:
        """Everything at y that needs A."""
        factor, info = torch.linalg.cholesky_ex(self._matrix(y))
        pivots = factor.diagonal(dim1=1, dim2=2)
        good = (info == 0) & (pivots > 0).all(1)
        eye = torch.eye(factor.shape[1]).to(factor)
        factor = torch.where(good[:, None, None], factor, eye)
        pull, fixed = self._pull(y), self._fixed(y)
        half = torch.linalg.solve_triangular(factor, pull[:, :, None], upper=False)
        value = fixed + 0.5 * half.square().sum((1, 2))
        logs = 2 * pivots.log().sum(1) + y.log().sum(1)
        return _Spot(y, good, factor, pull, fixed, value, logs)

    def _fixed(self, y: Tensor) -> Tensor:
        """The dual but for ½βᵀA⁻¹β."""
        slabs = y[:, int(self.round) :]
        value = self.value + 0.5 * (slabs * self.room).sum(1)
        return value + 0.5 * y[:, 0] * self.left if self.round else value

    def _refined(self, y: Tensor) -> Tensor:
        """The t = A⁻¹β, once corrected: at the end A is nearly singular."""
        matrix, pull = self._matrix(y), self._pull(y)[:, :, None]
        factor, _ = torch.linalg.cholesky_ex(matrix)
        at = torch.cholesky_solve(pull, factor)
        at = at + torch.cholesky_solve(pull - matrix @ at, factor)
        return at[:, :, 0]

    def _pull(self, y: Tensor) -> Tensor:
        """β."""
        pull = self.gradient + self._spread(y[:, int(self.round) :] * self.middle)
        return pull - y[:, :1] * self.points if self.round else pull

    def _newton(
        self, spot: _Spot, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(step, decrement, ≤ λ_min(A), dual) at y for one weight of the barrier."""
        y, pull, good = spot.y, spot.pull, spot.good[:, None, None]
        inverse = torch.where(good, torch.cholesky_inverse(spot.factor), torch.nan)
        at = torch.einsum("rij,rj->ri", inverse, pull)
        value = spot.fixed + 0.5 * (pull * at).sum(1)
        if self.vectors is None:
            along, turned, core = at, inverse, inverse
        else:
            along = at @ self.vectors
            turned = inverse @ self.vectors
            core = self.vectors.T @ turned
        off = along - self.middle
        first = [0.5 * (self.half.square() - off.square())]
        trace = [core.diagonal(dim1=1, dim2=2)]
        second = core * off[:, :, None] * off[:, None, :]
        shape, size = core.square(), inverse.square().sum((1, 2))
        if self.round:
            whole = self.points + at
            bent = torch.einsum("rij,rj->ri", inverse, whole)
            room = self.radius.square() - whole.square().sum(1)
            first.insert(0, 0.5 * room[:, None])
            trace.insert(0, inverse.diagonal(dim1=1, dim2=2).sum(1, keepdim=True))
            cross = torch.einsum("ri,rik->rk", whole, turned) * off
            second = _bordered((whole * bent).sum(1), cross, second)
            shape = _bordered(size, turned.square().sum(1), shape)
        gradient = torch.cat(first, 1) / weight[:, None] - torch.cat(trace, 1) - 1 / y
        hessian = second / weight[:, None, None] + shape
        # In units of y: its diagonal is at least 1.
        scaled = hessian * y[:, :, None] * y[:, None, :]
        scaled = scaled + torch.eye(y.shape[1], dtype=y.dtype)
        factor, _ = torch.linalg.cholesky_ex(scaled)
        push = -(gradient * y)
        solved = torch.cholesky_solve(push[:, :, None], factor)[:, :, 0]
        decrement = (push * solved).sum(1).clamp(min=0).sqrt()
        floor = 1 / size.sqrt()
        return solved * y, decrement, floor, value

    def _matrix(self, y: Tensor) -> Tensor:
        """A."""
        slabs = y[:, int(self.round) :]
        if self.vectors is None:
            matrix = torch.diag_embed(slabs) - self.matrix
        else:
            matrix = (self.vectors * slabs[:, None]) @ self.vectors.T - self.matrix
        if self.round:
            matrix.diagonal(dim1=1, dim2=2).add_(y[:, :1])
        return matrix


def _bordered(corner: Tensor, border: Tensor, matrix: Tensor) -> Tensor:
    """[[corner, borderᵀ], [border, matrix]] of each row."""
    top = torch.cat([corner[:, None], border], 1)
    return torch.cat([top[:, None], torch.cat([border[:, :, None], matrix], 2)], 1)
