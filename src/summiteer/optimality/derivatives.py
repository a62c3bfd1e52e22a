"""First and second derivatives of what is ascended, for measurements."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.networks import TwoLayerNetwork, recognise
from summiteer.objectives import ScalarLoss
from summiteer.problem import Rows
from summiteer.regions._region import rows_of

#: Largest dimension of a dense spectrum: 10 ms a row; above it 32 Hessian products.
_DENSE_DIMENSION = 256


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Of F at one point per row.

    Attributes:
        gradient: `[rows, *input]`.
        product: v ↦ ∇²F·v, `[rows, *input]` both.
        hessians: row numbers `[n]` -> `[n, d, d]` ∇²F; None for large networks and all
            but two-layer ones.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    hessians: Callable[[Tensor], Tensor] | None = None


def derivatives(rows: Rows, points: Tensor, reach: Tensor) -> Derivatives:
    """Return those of F = s·f for two-layer networks (Prop. 1), else of F = ℓ.

    Args:
        rows: the problem, one example per point.
        points: `[rows, *input]` float64.
        reach: `[rows]`, the distance on which F must be monotone in ℓ.

    Raises:
        RuntimeError: autograd knows no second derivative.
    """
    network, loss = recognise(rows.model).scalar, rows.objective
    if network is not None and isinstance(loss, ScalarLoss):
        return _of_two_layer(network, loss, rows, points, reach)
    gradient = rows.evaluate(points).gradient
    return Derivatives(gradient, _hessian_product(rows, points))


@torch.no_grad()
def _of_two_layer(
    network: TwoLayerNetwork,
    loss: ScalarLoss,
    rows: Rows,
    points: Tensor,
    reach: Tensor,
) -> Derivatives:
    moved = rows.inputs + points
    output, slope = network(moved), network.gradient(moved)
    sign = loss.slope_sign(output, rows.targets)
    # Prop. 1 needs one sign on the whole neighbourhood; where it may change, near the
    # loss's minimum u = 0, ℓ itself is examined: ∇²ℓ = φ'∇²f + φ''∇f∇fᵀ.
    room = reach * _rows.norm(slope)
    signs = [loss.slope_sign(output + way, rows.targets) for way in (-room, room)]
    first, second = _loss_derivatives(rows, output)
    changing = signs[0] != signs[1]
    weight = torch.where(changing, first, sign)[:, None]
    outer = torch.where(changing, second, 0.0)[:, None] * slope

    @torch.no_grad()
    def hessians(index: Tensor) -> Tensor:
        bend = weight[index, :, None] * network.hessian(moved[index])
        return bend + outer[index, :, None] * slope[index, None, :]

    @torch.no_grad()
    def product(vectors: Tensor) -> Tensor:
        bent = weight * network.hessian_product(moved, vectors)
        return bent + outer * _rows.dot(slope, vectors)[:, None]

    small = slope.shape[1] <= _DENSE_DIMENSION
    return Derivatives(weight * slope, product, hessians if small else None)


@torch.enable_grad()
def _loss_derivatives(rows: Rows, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """φ' and φ'' of the loss at one output per row."""
    value = outputs.detach().requires_grad_()
    loss = rows.objective(value, rows.targets)
    (first,) = torch.autograd.grad(loss.sum(), value, create_graph=True)
    if not first.requires_grad:
        return first, torch.zeros_like(first)
    (second,) = torch.autograd.grad(first.sum(), value)
    return first.detach(), second


def _hessian_product(rows: Rows, points: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v ↦ ∇²ℓ·v by two backward passes; 0 where ∇ℓ is constant."""
    moved = (rows.inputs + points).detach().requires_grad_()
    loss = rows.objective(rows.model(moved), rows.targets)
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(
            loss.sum(), moved, create_graph=True, allow_unused=True
        )
    if gradient is not None and not gradient.requires_grad:
        # Either f is linear, or autograd has lost the way without a word.
        aside = tolerances.BOUNDARY * rows_of(rows.region.size, points)
        again = rows.evaluate(points + _rows.expand(aside, points)).gradient
        if not torch.equal(again, gradient):
            raise RuntimeError("the gradient is not differentiable")

    def product(vectors: Tensor) -> Tensor:
        if gradient is None or not gradient.requires_grad:
            return torch.zeros_like(vectors)
        along = (gradient * vectors).sum()
        (image,) = torch.autograd.grad(
            along, moved, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(vectors) if image is None else image

    return product
