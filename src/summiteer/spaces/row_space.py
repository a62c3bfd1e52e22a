"""Two-layer problems on L2 balls in the row space of W: the same runs, fewer numbers.

Let W = RQᵀ with orthonormal Q `[d, r]`, and δ = Qα + te with a unit vector e ⊥ Q of
each run's own. Then W(x+δ) + b = R(Qᵀx + α) + b, the gradient is Q∂/∂α, and Π_C only
rescales δ: a step that commutes with rotations moves α and t, never e. So r + 1 numbers
hold δ exactly (architecture.md, "Exact row-space reduction").

(α, t) ↦ δ is an isometry: lengths, distances, residuals, step sizes and the constants
of mathematics.md §5 are those of the input space, and points are lifted before anything
else sees them. Distinct maxima, verdicts and proofs (§10.6) need to know nothing of it.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks import TwoLayerNetwork
from summiteer.problem import Problem
from summiteer.spaces.input_space import TwoLayerRows

#: A direction is left out if no row of W, taken at length 1, loses more than this many
#: units of rounding by it: a few hundred, the error of the factorisation itself.
_LOST = 300.0 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False, kw_only=True)
class RowSpaceRows(TwoLayerRows):
    """Rows whose points are (α, t) `[rows, r + 1]`.

    `model` is the network with hidden weights [R, 0], `inputs` are (Qᵀx, eᵀx).

    Attributes:
        basis: Q `[d, r]`.
        units: e `[runs, d]` of all runs, 0 where the start lies in the row space; None
            where all do.
        run: `[rows]` which of them is each row's.
        beyond: `[rows]` length of what x has outside of Q and e: for ‖x + δ‖ alone.
    """

    basis: Tensor
    units: Tensor | None = field(repr=False)
    run: Tensor
    beyond: Tensor

    def enter(self, perturbations: Tensor) -> Tensor:
        """Return (Qᵀδ, eᵀδ)."""
        inside = perturbations @ self.basis
        along = inside.new_zeros(len(inside))
        if self.units is not None:
            along = _rows.dot(perturbations, self.units[self.run])
        return torch.cat([inside, along[:, None]], 1)

    def lift(self, points: Tensor) -> Tensor:
        """Return δ = Qα + te, in the region after rounding too."""
        lifted = self.lift_gradient(points)
        if self.units is not None:
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
class RowSpace:
    """A problem's row space, shared by all its examples.

    Attributes:
        problem: the caller's.
        network: in r + 1 dimensions.
        basis: Q `[d, r]` in the problem's dtype.
    """

    name: ClassVar[Literal["row"]] = "row"

    problem: Problem
    network: TwoLayerNetwork
    basis: Tensor

    @classmethod
    def of(cls, problem: Problem, network: TwoLayerNetwork) -> Self:
        """Factor W.

        Args:
            problem: on a whole L2 ball or sphere.
            network: the two-layer network that its model is.
        """
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
        return cls(problem, reduced.requires_grad_(False), basis.to(problem.inputs))

    def rows(self, index: Tensor, perturbations: Tensor) -> RowSpaceRows:
        """Return the rows of runs that start at `perturbations`.

        Args:
            index: `[runs]` the example of each run.
            perturbations: `[runs, d]`.
        """
        own = self.problem.rows(index)
        inside = (self.problem.inputs @ self.basis)[index]
        units, along = None, inside.new_zeros(len(inside))
        started = perturbations.any(1).nonzero().flatten()
        if len(started):
            units = torch.zeros_like(perturbations)
            units[started] = self._units(perturbations[started])
            along = _rows.dot(own.inputs, units)
        reduced = torch.cat([inside, along[:, None]], 1)
        # Squares may cancel; it is a scale of rounding.
        whole, shown = (_rows.norm(each) for each in (own.inputs, reduced))
        beyond = ((whole - shown).clamp(min=0) * (whole + shown)).sqrt()
        return RowSpaceRows(
            self.network,
            reduced,
            own.targets,
            own.objective,
            own.region,
            own.labelled,
            basis=self.basis,
            units=units,
            run=torch.arange(len(index), device=index.device),
            beyond=beyond,
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
