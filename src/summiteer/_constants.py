"""Constants of a two-layer network over an L2 ball (mathematics.md §5), per example.

Computed in float64 without outward rounding: good for step sizes and reported indices,
not for proofs.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.networks.two_layer import weighted_gram
from summiteer.objectives import ScalarLoss
from summiteer.problem import Problem, Rows
from summiteer.regions._region import rows_of

#: Numbers of the matrices whose eigenvalues are computed at a time: 128 MiB.
_NUMBERS = 2**24
#: Least Lipschitz constant reported: 1/it is finite in float32 even if doubled.
_TINY = 2.0 * torch.finfo(torch.float32).tiny


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
        """Prop. 5: q = εL/(‖g0‖ - Lε), ∞ where ‖g0‖ ≤ Lε; < 1 means one maximum."""
        return _a_priori(self.gradient_norm, self.gradient_lipschitz, self.radius)

    def majorant_for(self, sign: Tensor) -> Tensor:
        """λ⁺(M) of F = s·f `[rows]`."""
        return torch.where(sign >= 0, self.majorant, self.majorant_down)


def constants(problem: Problem) -> Constants:
    """L, Λ, λ⁺(M) and gradient bounds per example (mathematics.md §5).

    Args:
        problem: a `TwoLayerNetwork` with one output on an L2 ball or sphere.

    Returns:
        One entry per example, float64.

    They are not known for other models and regions: a UserError says which.
    """
    return constants_of(problem.rows())


def constants_of(rows: Rows) -> Constants:
    """`constants` for a set of rows."""
    return network_constants(*_known(rows))


def network_constants(
    network: TwoLayerNetwork, inputs: Tensor, radius: Tensor
) -> Constants:
    """The constants of `network` on the balls of `radius` `[rows]` around `inputs`."""
    ball = _Balls(network, inputs, radius)
    output, sigma, interval = ball.output, network.activation, ball.interval
    wiggle = output.abs() * sigma.sup_abs_third(*interval) * ball.lengths
    return Constants(
        gradient_lipschitz=ball.gradient_lipschitz,
        hessian_lipschitz=ball.top(wiggle),
        majorant=ball.majorant(torch.ones_like(ball.radius)),
        majorant_down=ball.majorant(-torch.ones_like(ball.radius)),
        gradient_norm=ball.gradient_norm,
        gradient_ceiling=ball.gradient_ceiling,
        gradient_floor=ball.gradient_floor,
        radius=ball.radius,
        value=ball.value,
    )


def regularity_of(
    network: TwoLayerNetwork,
    inputs: Tensor,
    radius: Tensor,
    sign: Tensor,
    multiplier: Tensor,
) -> dict[str, Tensor]:
    """The regularity indices of mathematics.md §6 `[rows]`: small is regular.

    Args:
        network: with one output.
        inputs: `[rows, *input]`.
        radius: ε `[rows]`.
        sign: s of F = s·f.
        multiplier: μ at the maximisers, 0 or less where there is none.

    Returns:
        "global" λ⁺(M)/μ, "unique" 2λ⁺/(μ + g_min/ε), "a_priori" q.
    """
    ball = _Balls(network, inputs, radius)
    majorant = ball.majorant(sign)
    steep = multiplier + ball.gradient_floor / ball.radius
    infinite = torch.full_like(multiplier, torch.inf)
    return {
        "global": torch.where(multiplier > 0, majorant / multiplier, infinite),
        "unique": torch.where(multiplier > 0, 2 * majorant / steep, infinite),
        "a_priori": _a_priori(ball.gradient_norm, ball.gradient_lipschitz, ball.radius),
    }


def _a_priori(gradient_norm: Tensor, lipschitz: Tensor, radius: Tensor) -> Tensor:
    """Prop. 5: q = εL/(‖g0‖ - Lε), ∞ where ‖g0‖ ≤ Lε.

    The a-priori index, after the principle that a smooth map takes a ball that is small
    enough to a convex set (`polyak2001convexity`).
    """
    growth = lipschitz * radius
    room = gradient_norm - growth
    return torch.where(room > 0, growth / room, torch.inf)


class _Balls:
    """A network of one output on balls: what several constants are made of.

    Args:
        network: f, with one output.
        inputs: `[rows, *input]`, the centres.
        radius: `[rows]`.
    """

    def __init__(
        self, network: TwoLayerNetwork, inputs: Tensor, radius: Tensor
    ) -> None:
        self.sigma = network.activation
        self.hidden = network.hidden_weights.detach().double()
        self.output = network.output_weights.detach().double().reshape(-1)
        self.shift = network.output_bias.detach().double().reshape(())
        self.radius = radius.double()
        self.lengths = self.hidden.norm(dim=1)
        bias = network.hidden_bias.detach().double()
        self.centre = inputs.detach().double().flatten(1) @ self.hidden.T + bias
        reach = self.radius[:, None] * self.lengths
        #: I_j of mathematics.md §5.
        self.interval = self.centre - reach, self.centre + reach
        #: Neurons that move the output; the others may have infinite suprema.
        self.alive = (self.output != 0) & (self.lengths > 0)

    @cached_property
    def compressed(self) -> Tensor:
        """R `[m, r]`, W = RQᵀ with orthonormal Q: WᵀDW and RᵀDR share their spectrum.

        Up to zeros, which `top` allows for.
        """
        if self.hidden.shape[0] >= self.hidden.shape[1]:
            return self.hidden
        triangle: Tensor = torch.linalg.qr(self.hidden.T).R
        return triangle.T

    def top(self, weights: Tensor) -> Tensor:
        """max(λ_max(Wᵀ diag(w_i) W), 0) for each row of `weights` `[rows, m]`."""
        weights = torch.where(self.alive, weights, 0.0)
        finite = weights.isfinite().all(1)
        known = torch.where(finite[:, None], weights, 0.0)
        # One chunk of matrices at a time, so that memory does not grow with the rows.
        size = max(1, _NUMBERS // self.compressed.shape[1] ** 2)
        tops = [
            torch.linalg.eigvalsh(weighted_gram(self.compressed, chunk))[:, -1]
            for chunk in torch.split(known, size)
        ]
        return torch.where(finite, torch.cat(tops).clamp(min=0), torch.inf)

    def majorant(self, sign: Tensor) -> Tensor:
        """λ⁺(M) of F = s·f, s one per row."""
        sigma, output = self.sigma, sign[:, None] * self.output
        above = sigma.sup_second(*self.interval)
        below = sigma.inf_second(*self.interval)
        return self.top(torch.where(output > 0, output * above, output * below))

    @cached_property
    def value(self) -> Tensor:
        """The value f at the centre."""
        return self.sigma.value(self.centre) @ self.output + self.shift

    @cached_property
    def gradient(self) -> Tensor:
        """g0 = ∇f at the centre, `[rows, d]`."""
        gradient: Tensor = self.output * self.sigma.first(self.centre) @ self.hidden
        return gradient

    @cached_property
    def gradient_norm(self) -> Tensor:
        """‖g0‖."""
        return _rows.norm(self.gradient)

    @cached_property
    def gradient_lipschitz(self) -> Tensor:
        """L."""
        return self.top(self.output.abs() * self.sigma.sup_abs_second(*self.interval))

    @cached_property
    def gradient_ceiling(self) -> Tensor:
        """≥ ‖∇f‖: the smaller of ‖g0‖ + Lε and ‖W‖·‖a ⊙ sup σ'‖."""
        near = self.gradient_norm + self.gradient_lipschitz * self.radius
        largest = self.output * self.sigma.sup_abs_first(*self.interval)
        far = torch.linalg.matrix_norm(self.compressed, 2) * largest.norm(dim=1)
        return torch.minimum(near, far)

    @cached_property
    def gradient_floor(self) -> Tensor:
        """g_min: the best of 0, ‖g0‖ - Lε and Σ_j min_{I_j} a_j(Wv)_jσ' (Prop. 4)."""
        weight = self.output * (_rows.unit(self.gradient) @ self.hidden.T)
        least = torch.where(
            weight > 0,
            weight * self.sigma.inf_first(*self.interval),
            weight * self.sigma.sup_first(*self.interval),
        )
        near = self.gradient_norm - self.gradient_lipschitz * self.radius
        return torch.maximum(near, least.sum(1)).clamp(min=0)


def _known(rows: Rows) -> tuple[TwoLayerNetwork, Tensor, Tensor]:
    """Return network, float64 inputs and radii, or say what is not known."""
    structure = as_two_layer(rows.model)
    wrong = "" if isinstance(structure, TwoLayer) else structure.reason
    if isinstance(structure, TwoLayer) and structure.network.outputs not in {None, 1}:
        wrong = f"this one has {structure.network.outputs} outputs"
    if wrong or not isinstance(structure, TwoLayer):
        raise UserError(
            "model: L, Λ and M are known for a TwoLayerNetwork with one output only; "
            f"{wrong}."
        )
    # With a box they hold all the more: the region is a part of the ball.
    if rows.region.norm not in ("l2", "sphere"):
        raise UserError(
            "region: the constants are stated for L2 balls and spheres, got "
            f"{type(rows.region).__name__}."
        )
    inputs = rows.inputs.double()
    return structure.network, inputs, rows_of(rows.region.size, inputs).double()


def lipschitz_of_gradient(rows: Rows) -> Tensor:
    """Lip(∇ℓ) ≤ sup φ''·sup‖∇f‖² + sup|φ'|·L on each row's ball `[rows]`.

    Args:
        rows: a two-layer network with one output and a scalar loss.

    Raises:
        UserError: the objective is not a known loss of one output, or ∇f jumps.
    """
    loss = rows.objective
    if not isinstance(loss, ScalarLoss):
        raise UserError(
            "objective: LipschitzStep knows Quadratic, Logistic and Margin of one "
            f"output, got {type(loss).__name__}; use BacktrackingStep."
        )
    network, inputs, radius = _known(rows)
    # Restarts of one example share its ball: eigenvalues are what costs here.
    balls, which = torch.unique(
        torch.cat([inputs.flatten(1), radius[:, None]], 1), dim=0, return_inverse=True
    )
    ball = _Balls(network, balls[:, :-1], balls[:, -1])
    lipschitz, ceiling = ball.gradient_lipschitz[which], ball.gradient_ceiling[which]
    targets = rows.targets.double().reshape(len(which), -1)[:, 0]
    distance = (ball.value[which] - targets).abs() + ceiling * radius
    bend: Tensor = loss.curvature_bound * ceiling**2
    bound = bend + loss.slope_bound(distance) * lipschitz
    if not bool(bound.isfinite().all()):
        raise UserError(
            f"step_rule: ∇f of a {network.activation.name} network jumps inside the "
            "region, so that no Lipschitz step exists; use BacktrackingStep."
        )
    return bound.clamp(min=_TINY)
