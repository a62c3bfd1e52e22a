"""Two-layer problems on L2 balls in the row space of W: the same runs, fewer numbers.

Let W = RQᵀ with orthonormal Q `[d, r]`, and δ = Qα + te with a unit vector e ⊥ Q of
each run's own. Then W(x+δ) + b = R(Qᵀx + α) + b, the gradient is Q∂/∂α, and Π_C only
rescales δ: a step that commutes with rotations moves α and t, never e. So r + 1 numbers
hold δ exactly (architecture.md, "Exact row-space reduction").

(α, t) ↦ δ is an isometry: lengths, distances, residuals, step sizes and the constants
of mathematics.md §5 are those of the input space, and points are lifted before anything
else sees them. Distinct maxima, verdicts and proofs (§10.6) need to know nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.closed_form import DTYPES, TwoLayerRows
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.problem import Problem

#: A direction is left out if no row of W, taken at length 1, loses more than this many
#: units of rounding by it: a few hundred, the error of the factorisation itself.
_LOST = 300.0 * torch.finfo(torch.float64).eps
#: Steps in fewer dimensions than this share of d repay their other overheads.
_SHARE = 0.8
#: What a coordinate of a point costs in a step besides the products with W, in neurons:
#: both take as long at about m = 150; see `pays`.
_NEURONS = 150


@dataclass(frozen=True, eq=False, kw_only=True)
class RowSpaceRows(TwoLayerRows):
    """Rows whose points are (α, t) `[rows, r + 1]`.

    `model` is the network with hidden weights [R, 0], `inputs` are (Qᵀx, eᵀx).

    Attributes:
        basis: Q `[d, r]`.
        units: e `[runs, d]` of all runs, 0 where the start lies in the row space.
        run: `[rows]` which of them is each row's.
        beyond: `[rows]` length of what x has outside of Q and e: for ‖x + δ‖ alone.
    """

    basis: Tensor
    units: Tensor = field(repr=False)
    run: Tensor
    beyond: Tensor

    def enter(self, perturbations: Tensor) -> Tensor:
        """Return (Qᵀδ, eᵀδ)."""
        inside = perturbations @ self.basis
        along = _rows.dot(perturbations, self.units[self.run])
        return torch.cat([inside, along[:, None]], 1)

    def lift(self, points: Tensor) -> Tensor:
        """Return δ = Qα + te, in the region after rounding too."""
        lifted = self.lift_gradient(points)
        lifted.addcmul_(points[:, -1:], self.units[self.run])
        return self.region.project(lifted)

    def lift_gradient(self, gradient: Tensor) -> Tensor:
        """Return Q∂/∂α: the model does not depend on t."""
        return gradient[:, :-1] @ self.basis.T

    def magnitude(self, points: Tensor) -> Tensor:
        """‖x + δ‖₂ of the caller's x, whose rounding the run would meet."""
        return torch.hypot(super().magnitude(points), self.beyond)

    def take(self, index: Tensor) -> Self:
        """Return the rows `index`."""
        run, beyond = self.run[index], self.beyond[index]
        return replace(super().take(index), run=run, beyond=beyond)


@dataclass(frozen=True, eq=False)
class Reduction:
    """A problem's row space, shared by all its examples.

    Attributes:
        problem: the caller's.
        network: in r + 1 dimensions.
        basis: Q `[d, r]` in the problem's dtype.
    """

    problem: Problem
    network: TwoLayerNetwork
    basis: Tensor

    def rows(self, index: Tensor, perturbations: Tensor) -> RowSpaceRows:
        """Return the rows of runs that start at `perturbations`.

        Args:
            index: `[runs]` the example of each run.
            perturbations: `[runs, d]`.
        """
        own = self.problem.rows(index)
        units = self._units(perturbations)
        inside = (self.problem.inputs @ self.basis)[index]
        outside = self._outside(self.problem.inputs)[index]
        along = _rows.dot(outside, units)[:, None]
        return RowSpaceRows(
            self.network,
            torch.cat([inside, along], 1),
            own.targets,
            own.objective,
            own.region,
            own.labelled,
            basis=self.basis,
            units=units,
            run=torch.arange(len(index), device=index.device),
            beyond=_rows.norm(outside.addcmul_(along, units, value=-1)),
        )

    def _outside(self, vectors: Tensor) -> Tensor:
        """(I - QQᵀ)v `[rows, d]`."""
        return vectors - (vectors @ self.basis) @ self.basis.T

    def _units(self, vectors: Tensor) -> Tensor:
        """The directions of (I - QQᵀ)v; 0 where that is rounding.

        Of rounding errors a second projection leaves what is orthogonal to Q: it may
        serve, unless it is little (Kahan's "twice is enough").
        """
        once = self._outside(vectors)
        twice = self._outside(once)
        meant = _rows.norm(twice) > 0.5 * _rows.norm(once)
        return _rows.unit(twice) * meant[:, None]


def choose(
    problem: Problem, methods: Sequence[object], runs: int, max_steps: int, forced: bool
) -> Reduction | None:
    """The reduction of a problem if it can be had, and pays or is `forced`.

    Args:
        problem: the caller's.
        methods: what sees points or gradients in the runs.
        runs: examples × restarts.
        max_steps: of each.
        forced: whether it is to be had in any case.

    Raises:
        UserError: it cannot be had but must; the message says why.
    """
    reason = obstacle(problem, methods)
    if forced and reason:
        raise UserError(f'space: "row" cannot be had: {reason}.')
    if reason or not (forced or pays(problem, runs, max_steps)):
        return None
    return reduce(problem)


def rotation_invariant(method: object) -> bool:
    """Whether an adversary, or a part of one, says that it commutes with rotations.

    Its class must say so itself: a sub-class may do something else.

    Args:
        method: anything with or without an attribute `rotation_invariant`.
    """
    name = "rotation_invariant"
    return name in vars(type(method)) and bool(getattr(method, name))


def obstacle(problem: Problem, methods: Sequence[object]) -> str:
    """Say why runs of a problem cannot be reduced, or ''.

    Args:
        problem: whose model is asked.
        methods: what sees points or gradients in the runs.
    """
    structure = as_two_layer(problem.model)
    if not isinstance(structure, TwoLayer):
        return f"the model is no two-layer network ({structure.reason})"
    if type(problem) is not Problem:
        return f"{type(problem).__name__} may have rows of its own"
    if not problem.feasible.whole_ball:
        return "the region is not a whole L2 ball or sphere"
    if problem.inputs.dtype not in DTYPES:
        return f"{problem.inputs.dtype} would not give the same runs"
    if not bool(_rows.norm(structure.network.hidden_weights.detach()).isfinite().all()):
        return "the length of a row of W is not finite"
    for method in methods:
        if not rotation_invariant(method):
            return f"{method!r} does not say that it is rotation_invariant"
    return ""


def reduce(problem: Problem) -> Reduction:
    """The reduction of a problem for which there is no `obstacle`.

    Args:
        problem: of a two-layer network on a whole L2 ball or sphere.
    """
    network = _network(problem)
    weights = network.hidden_weights.detach().cpu().double()
    basis = row_basis(weights)
    # The column of t: nothing depends on it.
    hidden = torch.cat([weights @ basis, weights.new_zeros(len(weights), 1)], 1)
    reduced = TwoLayerNetwork(
        hidden.to(problem.inputs),
        network.output_weights,
        network.hidden_bias,
        network.output_bias,
        activation=network.activation,
    )
    return Reduction(problem, reduced.requires_grad_(False), basis.to(problem.inputs))


def pays(problem: Problem, runs: int, max_steps: int) -> bool:
    """Whether runs of so many steps take less time in the row space.

    In units of four operations, as measured at batch 256 on one thread for d = 784 and
    3072, m = 100 … 1024: a step in D dimensions costs D(m + 150) per run; to factor W,
    8dk² with k = min(m, d); and to enter, lift and confirm, d(8k + m + 450) per run. A
    rank below k is not searched for: to find that there is none would cost steps.

    Args:
        problem: one for which there is no `obstacle`.
        runs: examples × restarts.
        max_steps: of each.
    """
    hidden = _network(problem).hidden_weights.detach()
    width, dim = int(hidden.any(1).sum()), hidden.shape[1]
    rank = min(width, dim)
    if rank + 1 > _SHARE * dim:
        return False
    saved = max_steps * runs * (dim - rank - 1) * (width + _NEURONS)
    return saved > 8 * dim * rank**2 + runs * dim * (8 * rank + width + 3 * _NEURONS)


def row_basis(weights: Tensor) -> Tensor:
    """Q `[d, r]`, orthonormal columns, W = RQᵀ with R = WQ; float64.

    Directions are left out only where every row of W, however short, keeps its own
    direction to a few hundred units of rounding; else all min(m, d) stay.

    Args:
        weights: W `[m, d]`, float64.
    """
    units = _rows.unit(weights)
    units = units[units.any(1)]
    few = units
    if len(few) > few.shape[1]:
        few = torch.linalg.qr(units).R
    # The diagonal: how far each row is from the span of those before it.
    every: Tensor
    every, triangle = torch.linalg.qr(few.T)
    apart = triangle.diagonal().abs() > _LOST
    if bool(apart.all()):
        return every
    basis: Tensor = torch.linalg.qr(few[apart].T).Q
    lost = _rows.norm(units - (units @ basis) @ basis.T)
    return basis if float(lost.max()) <= _LOST else every


def _network(problem: Problem) -> TwoLayerNetwork:
    structure = as_two_layer(problem.model)
    assert isinstance(structure, TwoLayer)
    return structure.network
