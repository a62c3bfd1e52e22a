"""Two-layer problems on L2 balls in the hidden space: one product with WWᵀ per step.

With G = WWᵀ and the start δ₀ of a run, δ = Wᵀβ + sδ₀ is carried as (β, s; u, v) with
u = Wδ and v = δ₀ᵀδ. The gradient is Wᵀc, c = σ'(h) ⊙ Aᵀ∂φ/∂z at h = Wx + b + u: as
(c, 0; Gc, u₀ᵀc). Both are linear in δ, so a step adds them and Π_C scales the sum; and

    ⟨δ, δ'⟩ = βᵀu' + sv'.

Two products with W become one with G (architecture.md, "the hidden-space (Gram) form").
The price is that lengths are roots of such sums: where Wᵀc is much shorter than its
summands they lose twice the digits that a gradient in the input space loses. Whether
that matters is asked at the starts; see `HiddenSpace.faithful`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks import TwoLayerNetwork
from summiteer.problem import Evaluation, Problem
from summiteer.spaces.input_space import TwoLayerRows

#: Columns of W multiplied at once, in float64.
_COLUMNS = 8192
#: Lengths may differ from those of the input space by so many units of rounding, at so
#: many inputs.
_FAITHFUL, _FEW = 64.0, 64


@dataclass(frozen=True, eq=False)
class HiddenEvaluation(Evaluation):
    """An evaluation whose gradient is (c, 0; Gc, u₀ᵀc)."""

    @cached_property
    def norm_and_kind(self) -> tuple[Tensor, bool]:
        """See `Evaluation.norm_and_kind`."""
        norms = _norm(self.gradient)
        if _rows.ordinary(norms):
            return norms, True
        largest = _rows.largest(self.gradient)
        return _norm(self.gradient / largest[:, None]) * largest, False

    @cached_property
    def unit(self) -> Tensor:
        """See `Evaluation.unit`."""
        norms, usual = self.norm_and_kind
        if usual:
            return self.gradient * norms.reciprocal()[:, None]
        scaled = self.gradient / _rows.largest(self.gradient)[:, None]
        norms = _norm(scaled)[:, None]
        return scaled / torch.where(norms > 0, norms, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class HiddenRows(TwoLayerRows):
    """Rows whose points are (β, s; u, v) `[rows, 2(m + 1)]`; see above.

    `inputs` are Wx + b `[rows, m]`.

    Attributes:
        gram: G `[m, m]`.
        starts: δ₀ `[runs, d]` of all runs; None where all are 0.
        images: u₀ = Wδ₀ `[rows, m]`; likewise.
        run: `[rows]` which of the starts is each row's.
        away: `[rows]` ‖x‖.
    """

    gram: Tensor = field(repr=False)
    starts: Tensor | None = field(repr=False)
    images: Tensor | None = field(repr=False)
    run: Tensor
    away: Tensor

    def evaluate(self, points: Tensor) -> Evaluation:
        """See `Rows.evaluate`."""
        width = len(self.gram)
        with torch.no_grad():
            hidden = self.inputs + points[:, width + 1 : -1]
            loss, pull, wrong = self.pulled(hidden)
            along = beyond = pull.new_zeros(len(pull), 1)
            if self.images is not None:
                beyond = _rows.dot(self.images, pull)[:, None]
            gradient = torch.cat([pull, along, pull @ self.gram, beyond], 1)
        return HiddenEvaluation(loss, gradient, wrong)

    def value(self, points: Tensor) -> Evaluation:
        """See `Rows.value`."""
        made = self.evaluate(points)
        return Evaluation(made.loss, points.new_empty(0), made.wrong)

    def enter(self, perturbations: Tensor) -> Tensor:
        """(0, 1; Wδ₀, ‖δ₀‖²) of the starts: no other points enter."""
        rows, width = len(perturbations), len(self.gram)
        inside = perturbations.new_zeros(rows, width + 1)
        inside[:, -1] = 1.0
        images = self.inputs.new_zeros(rows, width)
        if self.images is not None:
            images = self.images
        square = _rows.dot(perturbations, perturbations)[:, None]
        return torch.cat([inside, images, square], 1)

    def lift(self, points: Tensor) -> Tensor:
        """Return Wᵀβ + sδ₀, in the region after rounding too."""
        lifted = self.lift_gradient(points)
        if self.starts is not None:
            share = points[:, len(self.gram), None]
            lifted.addcmul_(share, self.starts[self.run])
        return self.region.project(lifted)

    def lift_gradient(self, gradient: Tensor) -> Tensor:
        """Return Wᵀc."""
        return gradient[:, : len(self.gram)] @ self.model.hidden_weights.detach()

    def advance(
        self, points: Tensor, direction: Tensor, size: float | Tensor
    ) -> Tensor:
        """See `Rows.advance`: on a ball around 0, Π scales."""
        if isinstance(size, Tensor):
            moved = torch.addcmul(points, size[:, None], direction)
        else:
            moved = torch.add(points, direction, alpha=size)
        far = _norm(moved)[:, None]
        return moved.mul_(_rows.ratio(self.region.project(far), far))

    def distance(self, points: Tensor, others: Tensor) -> Tensor:
        """‖δ - δ'‖₂ `[rows]`; 0 only where all numbers are the same."""
        apart = points - others
        least = torch.finfo(apart.dtype).tiny
        return torch.maximum(_norm(apart), least * apart.any(1))

    def length(self, points: Tensor) -> Tensor:
        """‖δ‖₂ `[rows]`."""
        return _norm(points)

    def magnitude(self, points: Tensor) -> Tensor:
        """(‖x‖² + ‖δ‖²)^½: what is rounded here are Wx and Wδ, apart."""
        return torch.hypot(self.away, _norm(points))

    def residual(
        self, points: Tensor, evaluation: Evaluation, reference: Tensor
    ) -> Tensor:
        """See `Rows.residual`: a ball's depends on the plane of δ and g alone."""
        unit = evaluation.unit
        along = _dot(points, unit)
        across = _norm(points - along[:, None] * unit)
        plane, slope = _plane(along, across, evaluation.gradient_norm)
        return self.region.residual(plane, slope, reference)

    def residual_floor(
        self, points: Tensor, evaluation: Evaluation, reference: Tensor
    ) -> Tensor:
        """See `Rows.residual_floor`."""
        norms, far = evaluation.gradient_norm, _norm(points)
        along = _dot(points, evaluation.unit)
        across = ((far - along) * (far + along)).clamp(min=0).sqrt()
        plane, slope = _plane(along, across, norms)
        return self.region.residual_floor(plane, slope, norms, reference)

    def take(self, index: Tensor) -> Self:
        """Return the rows `index`."""
        images = self.images
        return replace(
            super().take(index),
            images=None if images is None else images.index_select(0, index),
            run=self.run[index],
            away=self.away[index],
        )


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """⟨δ, δ'⟩ `[rows]`."""
    half = left.shape[1] // 2
    return _rows.dot(left[:, :half], right[:, half:])


def _norm(points: Tensor) -> Tensor:
    """‖δ‖ `[rows]`."""
    return _dot(points, points).clamp_(min=0).sqrt_()


def _plane(along: Tensor, across: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """δ and g `[rows, 2]` in a plane whose first axis is g's."""
    return torch.stack([along, across], 1), torch.stack([norms, 0 * norms], 1)


@dataclass(frozen=True, eq=False)
class HiddenSpace:
    """A problem's hidden space, shared by all its examples.

    Attributes:
        problem: the caller's.
        network: its model.
        gram: G `[m, m]` in the problem's dtype.
    """

    name: ClassVar[Literal["hidden"]] = "hidden"

    problem: Problem
    network: TwoLayerNetwork
    gram: Tensor

    @classmethod
    def of(cls, problem: Problem, network: TwoLayerNetwork) -> Self:
        """Multiply W with itself, in float64.

        Args:
            problem: of the network on a whole L2 ball.
            network: the two-layer network that the model is.
        """
        weights = network.hidden_weights.detach()
        gram = weights.new_zeros(len(weights), len(weights), dtype=torch.float64)
        for part in torch.split(weights, _COLUMNS, 1):
            exact = part.double()
            gram.addmm_(exact, exact.T)
        return cls(problem, network, gram.to(weights))

    def rows(self, index: Tensor, perturbations: Tensor) -> HiddenRows:
        """Return the rows of runs that start at `perturbations`.

        Args:
            index: `[runs]` the example of each run.
            perturbations: `[runs, d]`.
        """
        own, network = self.problem.rows(index), self.network
        starts, images = None, None
        with torch.no_grad():
            if bool(perturbations.any()):
                starts = perturbations
                images = perturbations @ network.hidden_weights.T
            inputs = network.preactivations(self.problem.inputs)[index]
        return HiddenRows(
            network,
            inputs,
            own.targets,
            own.objective,
            own.region,
            own.labelled,
            gram=self.gram,
            starts=starts,
            images=images,
            run=torch.arange(len(index), device=index.device),
            away=_rows.norm(own.inputs),
        )

    def faithful(self) -> bool:
        """Whether gradients at a few inputs have their length to rounding."""
        few = torch.arange(min(_FEW, len(self.problem)), device=self.gram.device)
        still = torch.zeros_like(self.problem.inputs[: len(few)])
        rows = self.rows(few, still)
        evaluation = rows.evaluate(rows.enter(still))
        exact = _rows.norm(rows.lift_gradient(evaluation.gradient))
        off = (evaluation.gradient_norm - exact).abs()
        return bool((off <= _FAITHFUL * torch.finfo(exact.dtype).eps * exact).all())
