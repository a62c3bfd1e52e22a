"""DC ascent: exact steps for two-layer networks whose activation has one kink."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.adversaries._adversary import Step
from summiteer.adversaries.projected_ascent import default_adversary
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
        left: `[rows]` projected gradient steps still to be made.
        approach: the state of their step rule, a tensor `[rows]`.
        head: as in `_Ascended`; a number that no head has before the first DC step.
        pattern: `[rows, m]` of the convex neurons.
        multipliers: λ of the last inner maximum `[rows, m]`.
        flip: `[rows]` bool, the next step takes the other side of ties.
    """

    left: Tensor
    approach: Tensor
    head: Tensor
    pattern: Tensor
    multipliers: Tensor
    flip: Tensor


@dataclass(frozen=True, eq=False)
class _Made:
    """A `Step` all of whose fields are known."""

    points: Tensor
    state: _State
    size: Tensor
    evaluation: Evaluation
    spent: Tensor
    stuck: Tensor


@dataclass(frozen=True)
class DCAscent:
    """δ ← argmax over C of the concave minorant F_π (mathematics.md §8, Prop. 9).

    For relu, leaky relu and |t| the ascended F is a difference of convex functions. The
    convex neurons (c_j > 0) are replaced by what they are on the present side of their
    kinks, π, which makes F_π ≤ F concave with equality at δ; its exact maximum over C
    is at least as high. A run stops (STALLED, at the exact maximum of its own F_π)
    when the pattern at the new point is the one just used, or F no longer rises.

    A DC step may cross the whole region and land at a lower maximum than small steps
    lead to, so some steps of `default_adversary` come first. They choose the hill, DC
    steps reach its top, kinks included. Where convex neurons tie at the end, the other
    side of all of them is tried once. With several outputs F is the largest margin's
    z_k - z_y.

    `gradient_evaluations` counts every pair of products with W and Wᵀ inside the inner
    maximisation as one: that is what they cost.

    Args:
        approach: projected gradient steps before the first DC step; a run for which
            backtracking finds no step goes on at once.

    Raises:
        UserError: `approach` is not an integer ≥ 0.
    """

    approach: int = 30

    def __post_init__(self) -> None:
        if type(self.approach) is not int or self.approach < 0:
            raise UserError(
                f"approach: expected an integer ≥ 0, got {self.approach!r}."
            )

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> _State:
        """No pattern used yet.

        Raises:
            UserError: model, objective or region are none that this method knows.
        """
        network = _network(rows)
        first_order = default_adversary(rows.region)
        count = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        width = len(network.hidden_weights)
        nothing = points.new_zeros((len(points), width), dtype=torch.float64)
        return _State(
            left=count + self.approach,
            approach=first_order.init(rows, points, evaluation),
            head=count - 2,
            pattern=nothing.bool(),
            multipliers=nothing,
            flip=count.bool(),
        )

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
    ) -> Step:
        """One projected gradient step, or one DC step."""
        unmade = _Made(
            points,
            state,
            size=torch.zeros_like(evaluation.loss),
            evaluation=evaluation,
            spent=torch.zeros_like(state.left),
            stuck=torch.zeros_like(state.flip),
        )
        made = _rows.copy(unmade)
        near = (state.left > 0).nonzero().flatten()
        climbs = state.left == 0
        if len(near):
            part = _approach_step(*_part(near, rows, points, evaluation, state))
            _put(made, near, part)
            # The loop must not see a run that stands still for want of a DC step.
            climbs[near] = made.stuck[near]
        far = climbs.nonzero().flatten()
        if len(far):
            _put(made, far, _dc_step(*_part(far, rows, points, evaluation, state)))
        return Step(**vars(made))


def _part(
    index: Tensor, rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
) -> tuple[Rows, Tensor, Evaluation, _State]:
    if len(index) == len(points):
        return rows, points, evaluation, state
    return (
        rows.take(index),
        points[index],
        _rows.take(evaluation, index),
        _rows.take(state, index),
    )


def _put(target: _Made, index: Tensor, source: _Made) -> None:
    """Overwrite the rows `index` of our own buffers; evaluations spent add up."""
    source = replace(source, spent=source.spent + target.spent[index])
    for theirs, ours in (
        (target, source),
        (target.evaluation, source.evaluation),
        (target.state, source.state),
    ):
        for each in fields(theirs):
            buffer = getattr(theirs, each.name)
            if isinstance(buffer, Tensor):
                buffer[index] = getattr(ours, each.name)


def _approach_step(
    rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
) -> _Made:
    """One step of backtracking ascent."""
    adversary = default_adversary(rows.region)
    made = adversary.step(rows, points, evaluation, state.approach)
    stuck = torch.zeros_like(state.flip) if made.stuck is None else made.stuck
    assert made.evaluation is not None
    assert made.spent is not None
    return _Made(
        made.points,
        replace(state, left=state.left - 1, approach=made.state),
        made.size,
        made.evaluation,
        made.spent,
        stuck,
    )


def _dc_step(
    rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
) -> _Made:
    """Maximise the minorant at `points`; keep the old point where that is lower."""
    network = _network(rows)
    inputs = rows.inputs.double()
    region = rows.region
    if points.dtype != torch.float64:
        region = region.bind(inputs)
    now = _ascended(network, rows, inputs + points.double())
    tied = _tied(now)
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
    other = over & ~state.flip & _tied(after).any(1)
    used = torch.where((other & ~rises)[:, None], after.pattern, pattern)
    made = _Made(
        points=points,
        state=replace(
            state,
            left=torch.zeros_like(state.left),
            head=now.head,
            pattern=used,
            multipliers=peak.multipliers,
            flip=other,
        ),
        size=torch.ones_like(gained.loss),
        evaluation=gained,
        spent=1 + peak.evaluations,
        stuck=over & ~other,
    )
    index = other.nonzero().flatten()
    if len(index):
        # At once: the loop would end a run that stands still.
        part = _part(index, rows, *(made.points, made.evaluation, made.state))
        made = _rows.copy(made)
        _put(made, index, _dc_step(*part))
    return made


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
    heads = output if network.outputs is None else output.T
    values = network.activation.value(inner) @ heads + shift
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


def _tied(form: _Ascended) -> Tensor:
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
