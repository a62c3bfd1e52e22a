"""Constants of a two-layer network over an L2 ball (mathematics.md §5), per example.

Computed in float64 without outward rounding: good for step sizes and reported indices,
not for proofs.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, recognise
from summiteer.objectives import ScalarLoss
from summiteer.problem import Problem, Rows
from summiteer.regions._region import rows_of


@dataclass(frozen=True, eq=False)
class Constants:
    """Bounds for F = s·f on ‖δ‖ ≤ ε around each input; all `[rows]`, float64.

    Attributes:
        gradient_lipschitz: L ≥ Lip(∇f).
        hessian_lipschitz: Λ ≥ Lip(∇²f).
        majorant: λ⁺(M) = max(λ_max(M), 0), M ≽ ∇²F for s = +1.
        majorant_down: λ⁺(M) for s = -1.
        gradient_norm: ‖g0‖, g0 = ∇f at the centre.
        gradient_ceiling: ≥ ‖∇f‖.
        gradient_floor: g_min ≤ ‖∇f‖.
        radius: ε.
        value: f at the centre.
    """

    gradient_lipschitz: Tensor
    hessian_lipschitz: Tensor
    majorant: Tensor
    majorant_down: Tensor
    gradient_norm: Tensor
    gradient_ceiling: Tensor
    gradient_floor: Tensor
    radius: Tensor
    value: Tensor

    @property
    def a_priori(self) -> Tensor:
        """q = εL/(‖g0‖ - Lε), ∞ where ‖g0‖ ≤ Lε (Prop. 5); < 1: one maximum."""
        growth = self.gradient_lipschitz * self.radius
        room = self.gradient_norm - growth
        return torch.where(room > 0, growth / room, torch.inf)

    def majorant_for(self, sign: Tensor) -> Tensor:
        """λ⁺(M) of F = s·f `[rows]`."""
        return torch.where(sign >= 0, self.majorant, self.majorant_down)


def constants(problem: Problem) -> Constants:
    """L, Λ, λ⁺(M) and gradient bounds per example (mathematics.md §5).

    Args:
        problem: a `TwoLayerNetwork` with one output on an L2 ball or sphere.

    Returns:
        One entry per example, float64.

    Raises:
        UserError: the constants are not known for this model or region.
    """
    return constants_of(problem.rows())


def constants_of(rows: Rows) -> Constants:
    """`constants` for a set of rows."""
    structure = recognise(rows.model)
    if not isinstance(structure, TwoLayer) or structure.network.outputs is not None:
        raise UserError(
            "model: L, Λ and M are known for a TwoLayerNetwork with one output only; "
            "got " + (getattr(structure, "reason", "") or "several outputs") + "."
        )
    if rows.region.norm not in ("l2", "sphere"):
        raise UserError(
            "region: the constants are stated for L2 balls and spheres, got "
            f"{type(rows.region).__name__}."
        )
    radius = rows_of(rows.region.size, rows.inputs).double()
    return network_constants(structure.network, rows.inputs.double(), radius)


@torch.no_grad()
def network_constants(
    network: TwoLayerNetwork, inputs: Tensor, radius: Tensor
) -> Constants:
    """The constants of `network` on the balls of `radius` `[rows]` around `inputs`."""
    hidden, output, bias = (
        cast(Tensor, weights).detach().double()
        for weights in (
            network.hidden_weights,
            network.output_weights,
            network.hidden_bias,
        )
    )
    sigma = network.activation
    lengths = hidden.norm(dim=1)
    centre = inputs.flatten(1) @ hidden.T + bias
    reach = radius[:, None] * lengths
    low, high = centre - reach, centre + reach
    size = output.abs()
    bend = size * sigma.sup_abs_second(low, high)
    wiggle = size * sigma.sup_abs_third(low, high) * lengths
    above, below = sigma.sup_second(low, high), sigma.inf_second(low, high)
    upward = torch.where(output > 0, output * above, output * below)
    downward = torch.where(output > 0, -output * below, -output * above)
    compress = _compression(hidden)
    lipschitz = _top(compress, bend)
    slope = output * sigma.first(centre)
    gradient = slope @ hidden
    length = gradient.norm(dim=1)
    return Constants(
        gradient_lipschitz=lipschitz,
        hessian_lipschitz=_top(compress, wiggle),
        majorant=_top(compress, upward).clamp(min=0),
        majorant_down=_top(compress, downward).clamp(min=0),
        gradient_norm=length,
        gradient_ceiling=length + lipschitz * radius,
        gradient_floor=_gradient_floor(
            network, hidden, output, gradient, (low, high), length - lipschitz * radius
        ),
        radius=radius,
        value=sigma.value(centre) @ output + network.output_bias.detach().double(),
    )


def _compression(hidden: Tensor) -> Tensor:
    """R `[m, r]`, W = RQᵀ with orthonormal Q: WᵀDW and RᵀDR share their spectrum."""
    if hidden.shape[0] >= hidden.shape[1]:
        return hidden
    return torch.linalg.qr(hidden.T).R.T


def _top(compressed: Tensor, weights: Tensor) -> Tensor:
    """λ_max(Wᵀ diag(weights) W) per row of `weights` `[rows, m]`."""
    tops = []
    for row in weights.split(max(1, 2**24 // compressed.shape[1] ** 2)):
        finite = row.isfinite().all(1)
        safe = torch.where(finite[:, None], row, 0.0)
        matrices = torch.einsum("jr,bj,js->brs", compressed, safe, compressed)
        top = torch.linalg.eigvalsh(matrices)[:, -1]
        tops.append(torch.where(finite, top, torch.inf))
    return torch.cat(tops)


def _gradient_floor(
    network: TwoLayerNetwork,
    hidden: Tensor,
    output: Tensor,
    gradient: Tensor,
    interval: tuple[Tensor, Tensor],
    plain: Tensor,
) -> Tensor:
    """g_min: the best of 0, ‖g0‖ - Lε and Σ_j min_{I_j} a_j(Wv)_jσ' (Prop. 4)."""
    sigma = network.activation
    weight = output * (_rows.unit(gradient) @ hidden.T)
    least = torch.where(
        weight > 0,
        weight * sigma.inf_first(*interval),
        weight * sigma.sup_first(*interval),
    )
    return torch.maximum(plain, least.sum(1)).clamp(min=0)


def lipschitz_of_gradient(rows: Rows) -> Tensor:
    """Lip(∇ℓ) ≤ sup φ''·sup‖∇f‖² + sup|φ'|·L on each row's ball `[rows]`.

    Args:
        rows: a two-layer network with one output and a scalar loss.

    Raises:
        UserError: the objective is not a known loss of one output.
    """
    loss = rows.objective
    if not isinstance(loss, ScalarLoss):
        raise UserError(
            "objective: LipschitzStep knows Quadratic, Logistic and Margin of one "
            f"output, got {type(loss).__name__}; use BacktrackingStep."
        )
    known = constants_of(rows)
    farthest = known.gradient_ceiling * known.radius
    targets = rows.targets.double().reshape(len(known.value), -1)[:, 0]
    slope = loss.slope_bound((known.value - targets).abs() + farthest)
    bend: Tensor = loss.curvature_bound * known.gradient_ceiling**2
    return bend + slope * known.gradient_lipschitz
