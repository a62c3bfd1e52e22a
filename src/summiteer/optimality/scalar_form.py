"""A problem as one function of two-layer networks: objective = φ(max_i F_i).

½(f - y)² is ½max(F, -F)² with F = s(f - y), the logistic loss is softplus(-yf), a
margin is the largest of K - 1 differences z_k - z_y, a targeted one is one of them, and
the cross-entropy of two classes is the softplus of the one difference. φ is increasing
where it is used, so that maxima of the objective are maxima of the largest F_i (Prop.
1; §7, several outputs).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.networks.activations import Softplus
from summiteer.objectives import (
    CrossEntropy,
    Logistic,
    Margin,
    Quadratic,
    TargetedMargin,
    scalar,
)
from summiteer.optimality.relu_form import slopes
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.surface import Place, Surface, gradient_ceiling
from summiteer.precision import DoubleModel
from summiteer.problem import Problem


@dataclass(frozen=True, eq=False)
class Link:
    """φ, convex, and increasing on the values that the largest F_i takes.

    Attributes:
        value: φ at floats `[rows]`, to a relative error of 32u.
        slope: an upper bound of φ' on values up to the given one.
        least: a lower bound of φ' on values from the given one.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    least: Callable[[Tensor], Tensor]

    def ceiling(self, top: Tensor) -> Tensor:
        """φ(top), rounded up."""
        return up(self.value(top), 32)

    def rise(self, low: Tensor, high: Tensor) -> Tensor:
        """≥ φ(high) - φ(low), by the mean value theorem; 0 where high < low."""
        gap = up(high - low).clamp(min=0)
        return up(self.slope(high) * gap, 2)

    def climb(self, low: Tensor, gain: Tensor) -> Tensor:
        """≤ φ(F + gain) - φ(F) for any F ≥ low and gain ≥ 0.

        φ is convex: at the bottom of ½F² its slope counts from half the way on.
        """
        half = down(gain / 2)
        later = self.least(down(low + half)) * half
        return down(torch.maximum(self.least(low) * gain, later)).clamp(min=0)


def _logistic(top: Tensor) -> Tensor:
    return torch.sigmoid(top.clamp(max=0))


IDENTITY = Link(lambda top: top, torch.ones_like, torch.ones_like)
SQUARE = Link(
    lambda top: 0.5 * top.clamp(min=0).square(),
    lambda top: top.clamp(min=0),
    lambda top: top.clamp(min=0),
)
# The slope of the softplus is the sigmoid s; s(t) ≤ min(e^t, 1).
SOFTPLUS = Link(
    Softplus().value,
    lambda top: up(torch.exp(top.clamp(max=0)), 16).clamp(max=1),
    lambda top: down(_logistic(top), 16),
)


@dataclass(frozen=True, eq=False)
class ScalarForm:
    """objective(δ) = φ(max(F, F_1, …, F_n)) with F the largest at the given points.

    Attributes:
        link: φ.
        surface: F.
        rivals: F_1 … F_n.
        gaps: F - F_i, as surfaces of their own: their constants are far better.
    """

    link: Link
    surface: Surface
    rivals: tuple[Surface, ...]
    gaps: tuple[Surface, ...]

    def take(self, index: Tensor) -> "ScalarForm":
        """The rows `index`."""
        return replace(
            self,
            surface=self.surface.take(index),
            rivals=tuple(rival.take(index) for rival in self.rivals),
            gaps=tuple(gap.take(index) for gap in self.gaps),
        )

    def lead(self, points: Tensor, slack: Tensor, radius: Tensor) -> Tensor:
        """How far from the points F is the largest of all: a proved distance `[rows]`.

        (F - F_i)(p) / Lip(F - F_i), the smallest; 0 or less where F need not lead.

        Args:
            points: `[rows, d]`.
            slack: of the points.
            radius: of the ball on which Lip is taken.
        """
        sloped = self.surface.sloped_range(self.surface.within(radius))
        return self.lead_at(self.surface.at(points, slack), sloped)

    def lead_at(self, place: Place, sloped: Enclosure) -> Tensor:
        """`lead` of points that are looked at already.

        Args:
            place: F there.
            sloped: σ' on the ball on which Lip is taken `[rows, m]`.
        """
        reach = torch.full_like(place.points[:, 0], torch.inf)
        for gap in self.gaps:
            ahead = place.on(gap).value.lower
            rate = gradient_ceiling(gap, sloped)
            reach = torch.minimum(reach, down(down(ahead / rate)))
        return reach

    def heights(self, points: Tensor) -> Tensor:
        """F, F_1, …, F_n in plain floats `[1 + n, rows]`: for searching.

        Args:
            points: `[rows, d]`.
        """
        surface = self.surface
        inner = torch.addmm(surface.centre.middle, points, surface.hidden.T)
        image = surface.activation.value(inner)
        return torch.stack(
            [
                torch.linalg.vecdot(each.output.middle, image) + each.shift.middle
                for each in (surface, *self.rivals)
            ]
        )

    @property
    def mirrored(self) -> bool:
        """Whether the only rival is -F, whose critical points are those of F."""
        return self.link is SQUARE


def known_network(problem: Problem, kinked: bool = False) -> TwoLayerNetwork | str:
    """The recognised two-layer network of a problem, or why there is none.

    Args:
        problem: whose model is looked at.
        kinked: whether an activation may have a kink at 0 and be straight elsewhere;
            else it must be smooth.
    """
    model = problem.model
    structure = as_two_layer(model)
    if not isinstance(structure, TwoLayer):
        if isinstance(model, DoubleModel):  # which the caller has never seen
            return f"{type(model.module).__name__} is not a TwoLayerNetwork"
        return structure.reason
    activation = structure.network.activation
    if activation.smooth or (kinked and slopes(activation) is not None):
        return structure.network
    return f"{activation.name} has kinks"


def scalar_form(
    problem: Problem, points: Tensor, kinked: bool = False
) -> ScalarForm | str:
    """The problem as φ(max F_i), F being the largest at `points`, or why it has none.

    Args:
        problem: in float64 on the CPU.
        points: `[batch, d]` float64.
        kinked: whether the activation may have a kink (see `known_network`).
    """
    network = known_network(problem, kinked)
    if isinstance(network, str):
        return network
    scalar_network, objective = as_two_layer(problem.model).scalar, problem.objective
    rival = one_rival(problem)
    with torch.no_grad():
        outputs = network(problem.inputs + points)
        if scalar_network is not None:
            form = _one_output(scalar_network, problem, scalar(outputs))
        elif rival is not None:
            surface = difference(network, problem.inputs, rival, problem.targets)
            form = ScalarForm(IDENTITY, surface, (), ())
        elif type(objective) is Margin or (
            type(objective) is CrossEntropy and network.outputs == 2
        ):
            form = _margins(network, problem, outputs)
        else:
            return f"{type(objective).__name__} of several outputs is not one function"
    return form


def one_rival(problem: Problem) -> Tensor | None:
    """The rival t of each row where z_t - z_y is ascended, else None `[rows]`."""
    objective = problem.objective
    if type(objective) is TargetedMargin and objective.over == "label":
        return objective.of(problem.targets)
    return None


def _one_output(
    network: TwoLayerNetwork, problem: Problem, outputs: Tensor
) -> ScalarForm | str:
    """Losses of one output."""
    targets = scalar(problem.targets).double()
    kind = type(problem.objective)
    moved = None
    if kind is Quadratic:
        sign = torch.where(outputs >= targets, 1.0, -1.0).to(outputs)
        shift = network.output_bias.detach().expand(len(outputs))
        moved = Enclosure.exact(shift) - targets
        link = SQUARE
    elif kind in (Logistic, Margin):
        sign = -targets
        link = SOFTPLUS if kind is Logistic else IDENTITY
    else:
        return f"{kind.__name__} is not a loss that proofs know"
    surface = signed(network, problem.inputs, sign, moved)
    if kind is not Quadratic:
        return ScalarForm(link, surface, (), ())
    double = replace(
        surface,
        output=Enclosure.exact(2 * surface.output.middle),
        shift=Enclosure(2 * surface.shift.middle, 2 * surface.shift.radius),
    )
    return ScalarForm(link, surface, (surface.negated(),), (double,))


def signed(
    network: TwoLayerNetwork,
    inputs: Tensor,
    sign: Tensor,
    shift: Enclosure | None = None,
) -> Surface:
    """s·f of a network with one output, s = ±1 per row: the products are exact.

    Args:
        network: f.
        inputs: x `[rows, d]`.
        sign: s `[rows]`.
        shift: what stands for the output bias `[rows]`; the bias itself if None.
    """
    if shift is None:
        shift = Enclosure.exact(network.output_bias.detach().expand(len(sign)))
    weights = sign[:, None] * network.output_weights.detach()
    moved = Enclosure(sign * shift.middle, shift.radius)
    return Surface.of(network, inputs, Enclosure.exact(weights), moved)


def _margins(network: TwoLayerNetwork, problem: Problem, outputs: Tensor) -> ScalarForm:
    """The largest z_k - z_y, k the best class at the points."""
    label = problem.targets
    order = _rows_without(label, outputs.shape[1])
    values = outputs.gather(1, order)
    # The best first, the others in their own order.
    first = values.argmax(1, keepdim=True)
    best = order.gather(1, first)[:, 0]
    others = [
        torch.where(order[:, i] == best, order[:, 0], order[:, i])
        for i in range(1, order.shape[1])
    ]
    surface = difference(network, problem.inputs, best, label)
    rivals, gaps = (
        tuple(difference(network, problem.inputs, *pair, surface) for pair in pairs)
        for pairs in ([(k, label) for k in others], [(best, k) for k in others])
    )
    link = IDENTITY if type(problem.objective) is Margin else SOFTPLUS
    return ScalarForm(link, surface, rivals, gaps)


def _rows_without(label: Tensor, classes: int) -> Tensor:
    """All classes but the label, `[rows, K - 1]`."""
    every = torch.arange(classes - 1).expand(len(label), -1)
    return every + (every >= label[:, None]).long()


def difference(
    network: TwoLayerNetwork,
    inputs: Tensor,
    left: Tensor,
    right: Tensor,
    like: Surface | None = None,
) -> Surface:
    """z_left - z_right as surfaces, one pair of classes per row.

    Args:
        network: z.
        inputs: x `[rows, d]`.
        left: `[rows]`.
        right: `[rows]`.
        like: another surface of this network and these inputs: Wx + b is its.
    """
    weights, shift = network.output_weights.detach(), network.output_bias.detach()
    output = Enclosure.exact(weights[left]) - weights[right]
    moved = Enclosure.exact(shift[left]) - shift[right]
    if like is not None:
        return replace(like, output=output, shift=moved)
    return Surface.of(network, inputs, output, moved)


def margin_surfaces(
    network: TwoLayerNetwork, inputs: Tensor, labels: Tensor
) -> tuple[Surface, ...]:
    """z_k - z_y for every k ≠ y, K - 1 surfaces with one row per example."""
    order = _rows_without(labels, network.output_weights.shape[0])
    first = difference(network, inputs, order[:, 0], labels)
    others = (order[:, i] for i in range(1, order.shape[1]))
    rest = (difference(network, inputs, k, labels, first) for k in others)
    return (first, *rest)


def reproduces(
    form: ScalarForm, problem: Problem, points: Tensor, place: Place | None = None
) -> Tensor:
    """Whether the model computes what the form says, within both rounding bounds.

    The model adds x + δ in floats and runs its own forward pass: twice the error bound
    of ours covers it; four times is allowed.

    Args:
        form: of the problem at the points.
        problem: in float64.
        points: `[batch, d]`.
        place: F there, if it is known.
    """
    with torch.no_grad():
        outputs = problem.model(problem.inputs + points)
        computed = problem.objective(outputs, problem.targets)
    value = (form.surface.at(points) if place is None else place).value
    width = Enclosure(value.middle, up(4 * value.radius))
    low, high = form.link.value(width.lower), form.link.ceiling(width.upper)
    # The objective's own few operations; a small cross-entropy is the rounding of a
    # difference of outputs.
    largest = outputs.reshape(len(outputs), -1).abs().amax(1)
    room = up(1e-12 * high.abs() + 1e-14 * (1 + largest))
    return (computed >= low - room) & (computed <= high + room)
