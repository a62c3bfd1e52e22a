"""DC ascent: exact steps for two-layer networks whose activation has one kink."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.adversaries._adversary import Step
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, recognise
from summiteer.networks.activations import Abs, Activation, LeakyRelu, Relu
from summiteer.networks.relu_minorant import Peak, ReluMinorant, maximise
from summiteer.objectives import CrossEntropy, Margin, ScalarLoss
from summiteer.problem import Evaluation, Rows
from summiteer.regions import Intersection, L2Ball, Region
from summiteer.regions.intervals import Intervals

#: Pre-activations this near to 0, in units of the largest they can be, are ties.
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class _Ascended:
    """F = Σ_j c_j relu(h_j) + (affine in h) of each row, whose rise is the loss's.

    Attributes:
        head: `[rows]` which function F is: the sign of dφ/df, or the rival class.
        output: a `[rows, m]`, F = Σ_j a_j σ(h_j) + const.
        kink: c = a·(1 - left), left the slope of σ below 0; 0 where w_j = 0.
        inner: h `[rows, m]` at the points.
    """

    head: Tensor
    output: Tensor
    kink: Tensor
    inner: Tensor

    @property
    def pattern(self) -> Tensor:
        """Which convex neurons (c_j > 0) are on."""
        return (self.kink > 0) & (self.inner > 0)


@dataclass(frozen=True, eq=False)
class _State:
    """What the last step used.

    Attributes:
        head: as in `_Ascended`; a number that no head has before the first step.
        pattern: `[rows, m]` of the convex neurons.
        multipliers: λ of the last inner maximum `[rows, m]`.
        flip: `[rows]` bool, the next step takes the other side of ties.
    """

    head: Tensor
    pattern: Tensor
    multipliers: Tensor
    flip: Tensor


@dataclass(frozen=True)
class DCAscent:
    """δ ← argmax over C of the concave minorant F_π (mathematics.md §8, Prop. 9).

    For relu, leaky relu and |t| the ascended F is a difference of convex functions. The
    convex neurons (c_j > 0) are replaced by what they are on the present side of their
    kinks, π, which makes F_π ≤ F concave with equality at δ; its exact maximum over C
    is at least as high. A run stops (STALLED, with an exact maximum of its own F_π)
    when the pattern at the new point is the one just used, or F no longer rises.

    Where convex neurons tie at such a point, the other side of all of them is tried
    once. With several outputs F is the largest margin's z_k - z_y.

    `gradient_evaluations` counts every pair of products with W and Wᵀ inside the inner
    maximisation as one: that is what they cost.
    """

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> _State:
        """No pattern used yet.

        Raises:
            UserError: model, objective or region are none that this method knows.
        """
        network = _network(rows)
        count = len(points)
        nothing = points.new_zeros((count, len(network.hidden_weights)))
        return _State(
            head=torch.full((count,), -2, device=points.device),
            pattern=nothing.bool(),
            multipliers=nothing.double(),
            flip=torch.zeros(count, dtype=torch.bool, device=points.device),
        )

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
    ) -> Step:
        """Maximise the minorant at `points`; keep the old point where that is lower."""
        network = _network(rows)
        inputs = rows.inputs.double()
        region = rows.region
        if points.dtype != torch.float64:
            region = region.bind(inputs)
        now = _ascended(network, rows, inputs + points.double())
        tied = _tied(network, now)
        pattern = torch.where(
            state.flip[:, None] & tied, ~state.pattern & (now.kink > 0), now.pattern
        )
        peak = _peak(network, now, inputs, pattern, region, state)
        found = rows.region.project(peak.points.to(points))
        gained = rows.evaluate(found)
        rises = gained.loss > evaluation.loss
        kept = gained.loss >= evaluation.loss
        points = _rows.choose(kept, found, points)
        gained = _rows.choose(kept, gained, evaluation)
        after = _ascended(network, rows, inputs + points.double())
        same = (after.pattern == pattern).all(1) & (after.head == now.head)
        over = same | ~rises
        other = over & ~state.flip & _tied(network, after).any(1)
        used = torch.where((other & ~rises)[:, None], after.pattern, pattern)
        return Step(
            points=points,
            state=_State(now.head, used, peak.multipliers, other),
            size=torch.ones_like(gained.loss),
            evaluation=gained,
            spent=1 + peak.evaluations,
            stuck=over & ~other,
        )


def _network(rows: Rows) -> TwoLayerNetwork:
    """The recognised network in float64, or the reason why there is none."""
    structure = recognise(rows.model)
    if not isinstance(structure, TwoLayer):
        reason = getattr(structure, "reason", "it is deeper")
        raise UserError(
            "adversary: DCAscent needs a two-layer network with activation relu, "
            f"leaky_relu or abs, got another model ({reason}); use ProjectedAscent."
        )
    network = structure.scalar or structure.network
    if _left_slope(network.activation) is None:
        raise UserError(
            "adversary: DCAscent needs the activation relu, leaky_relu or abs, got "
            f"{network.activation.name}; use ProjectedAscent."
        )
    objective, outputs = rows.objective, network.outputs
    one = outputs is None and isinstance(objective, ScalarLoss)
    several = outputs is not None and (
        isinstance(objective, Margin)
        or (isinstance(objective, CrossEntropy) and outputs == 2)
    )
    if not (one or several):
        raise UserError(
            "adversary: DCAscent needs a scalar loss of one output, or Margin (with "
            f"two classes also CrossEntropy), got {objective!r} of {outputs or 1} "
            "outputs; use ProjectedAscent."
        )
    if not isinstance(rows.region, L2Ball | Intervals | Intersection):
        raise UserError(
            "adversary: DCAscent needs a convex region, got "
            f"{type(rows.region).__name__}; use L2Ball instead."
        )
    return network


def _left_slope(activation: Activation) -> float | None:
    """The slope of σ below 0 where it is 1 above, else None."""
    if type(activation) is LeakyRelu:
        return activation.negative_slope
    return {Relu: 0.0, Abs: -1.0}.get(type(activation))


def _ascended(network: TwoLayerNetwork, rows: Rows, inputs: Tensor) -> _Ascended:
    """F of each row at `inputs` = x + δ, in float64."""
    hidden, output, bias, shift = (
        getattr(network, name).detach().double()
        for name in ("hidden_weights", "output_weights", "hidden_bias", "output_bias")
    )
    inner = torch.addmm(bias, inputs, hidden.T)
    values = network.activation.value(inner) @ output.mT + shift
    if network.outputs is None:
        assert isinstance(rows.objective, ScalarLoss)
        targets = (
            rows.targets.double() if rows.targets.is_floating_point() else rows.targets
        )
        slope = rows.objective.slope_sign(values, targets)
        # At the bottom of ½u² both ways lead up.
        head = torch.where(slope < 0, -1, 1)
        weights = head[:, None] * output
    else:
        label = rows.targets[:, None]
        head = values.scatter(1, label, -torch.inf).argmax(1)
        weights = output[head] - output[rows.targets]
    left = _left_slope(network.activation)
    assert left is not None
    moves = (hidden != 0).any(1)
    return _Ascended(head, weights, (1 - left) * weights * moves, inner)


def _tied(network: TwoLayerNetwork, form: _Ascended) -> Tensor:
    """Convex neurons whose kink lies at the point, up to rounding."""
    scale = form.inner.abs().amax(1, keepdim=True)
    return (form.kink > 0) & (form.inner.abs() <= _TIE * scale)


def _peak(
    network: TwoLayerNetwork,
    form: _Ascended,
    inputs: Tensor,
    pattern: Tensor,
    region: Region,
    state: _State,
) -> Peak:
    """The maximum of F_π over C, warm from the last multipliers of the same F."""
    hidden = network.hidden_weights.detach().double()
    bias = network.hidden_bias.detach().double()
    left = _left_slope(network.activation)
    assert left is not None
    straight = left * form.output + form.kink * pattern
    height = torch.addmm(bias, inputs, hidden.T)
    minorant = ReluMinorant(
        hidden=hidden,
        height=height,
        weight=form.kink.clamp(max=0.0),
        linear=straight @ hidden,
        constant=(straight * height).sum(1),
    )
    # Signs at the point itself serve where there is nothing to continue.
    signs = (form.inner > 0).to(height)
    known = (state.head == form.head)[:, None]
    return maximise(minorant, region, torch.where(known, state.multipliers, signs))
