"""A problem on a piecewise-linear network, as it is near given points."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.piecewise_linear import PiecewiseLinear
from summiteer.optimality.pieces import (
    Around,
    Backward,
    around,
    backward,
    forward,
    reached,
    replaced,
)
from summiteer.optimality.readout import Readout
from summiteer.optimality.rounding import Enclosure, up
from summiteer.optimality.stand import Limits


@dataclass(frozen=True, eq=False)
class LocalForm:
    """objective = φ(F(network(x + δ))) near the points that the read-out was made at.

    Attributes:
        network: in float64.
        inputs: x `[rows, *input]`.
        readout: F of the outputs.
        limits: of the region, flat.
    """

    network: PiecewiseLinear
    inputs: Tensor
    readout: Readout
    limits: Limits

    def take(self, index: Tensor) -> "LocalForm":
        """The rows `index`."""
        return replace(
            self,
            inputs=self.inputs[index],
            readout=self.readout.take(index),
            limits=self.limits.take(index),
        )

    def moved(self, points: Tensor) -> Enclosure:
        """The inputs x + δ `[rows, *input]`."""
        inputs = Enclosure.exact(self.inputs.flatten(1)) + points
        shape = self.inputs.shape
        return Enclosure(inputs.middle.reshape(shape), inputs.radius.reshape(shape))

    def around(self, points: Tensor, radius: Tensor, chosen: bool = False) -> "Patch":
        """The form on N = {δ ∈ box : ‖δ - p‖ ≤ R}.

        Args:
            points: p `[rows, d]`, in the box but for rounding.
            radius: R `[rows]`; 0 for the points alone.
            chosen: see `pieces.around`.
        """
        beyond = torch.maximum(
            up(self.limits.upper - points), up(points - self.limits.lower)
        )
        vary = torch.minimum(radius[:, None], beyond.clamp(min=0))
        shaped = vary.reshape(self.inputs.shape)
        seen = around(self.network, self.moved(points), shaped, radius, chosen)
        return Patch(self, points, radius, seen)


@dataclass(frozen=True, eq=False)
class Patch:
    """A form on neighbourhoods N of points.

    Attributes:
        form: whose.
        points: p `[rows, d]`.
        radius: R `[rows]`.
        around: the network on N.
    """

    form: LocalForm
    points: Tensor
    radius: Tensor
    around: Around

    def take(self, index: Tensor) -> "Patch":
        """The rows `index`."""
        return Patch(
            self.form.take(index),
            self.points[index],
            self.radius[index],
            self.around.take(index),
        )

    @cached_property
    def outputs(self) -> Enclosure:
        """At p `[rows, K]`."""
        return _flat(self.around.outputs)

    @cached_property
    def everywhere(self) -> Enclosure:
        """The outputs on N `[rows, K]`."""
        return _flat(self.around.everywhere)

    @cached_property
    def value(self) -> Enclosure:
        """F(p) `[rows]`."""
        return self.form.readout.value(self.outputs)

    @cached_property
    def holds(self) -> Tensor:
        """Whether the objective is this form on N `[rows]`."""
        return self.form.readout.holds(self.outputs, self.around.vary.flatten(1))

    @cached_property
    def slopes(self) -> dict[int, Enclosure]:
        """Of every kink, on N."""
        return self.around.slopes()

    def pulled(
        self, slopes: dict[int, Enclosure], outputs: Enclosure | None = None
    ) -> Backward:
        """∂F back to the inputs with these slopes; F's own gradient at `outputs`.

        Args:
            slopes: of the kinks.
            outputs: `[rows, K]`; all those on N if None.
        """
        outputs = self.everywhere if outputs is None else outputs
        return self.pull(self.form.readout.cotangent(outputs), slopes)

    def pull(self, cotangent: Enclosure, slopes: dict[int, Enclosure]) -> Backward:
        """A linear form of the outputs `[rows, K]`, back to the flat inputs."""
        network = self.form.network
        shape = (len(cotangent.middle), *self.around.vary.shape[1:])
        form = Enclosure(
            cotangent.middle.reshape(shape), cotangent.radius.reshape(shape)
        )
        back = backward(network, {network.last: form}, slopes)
        return replace(back, gradient=_flat(back.gradient))

    def rise(self, direction: Tensor) -> Tensor:
        """≤ vᵀg for every Clarke gradient g of F on N `[rows]`.

        Args:
            direction: v `[rows, d]`.
        """
        shaped = Enclosure.exact(direction.reshape(self.form.inputs.shape))
        along = _flat(forward(self.form.network, shaped, self.slopes))
        # A product of enclosures: sums of weights and derivatives of the outputs.
        steep = along.dot(self.form.readout.cotangent(self.everywhere))
        return torch.fmax(steep.lower, self.whole.gradient.dot(direction).lower)

    def relaxed(self, slack: Tensor, slopes: dict[int, Enclosure]) -> Enclosure:
        """The outputs `[rows, K]` near p with each kink replaced by a line.

        Args:
            slack: how far from p `[rows]`.
            slopes: of the lines.
        """
        inputs = self.form.moved(self.points)
        wide = inputs.widened(_rows.expand(slack, inputs.middle))
        return _flat(replaced(self.form.network, wide, slopes))

    @cached_property
    def whole(self) -> Backward:
        """∂F on N: every Clarke gradient, with all slopes that open kinks may have."""
        return self.pulled(self.slopes)

    @cached_property
    def _reached(self) -> tuple[Tensor, dict[int, Tensor]]:
        used = torch.ones_like(self.around.vary, dtype=torch.bool)
        inputs, results = reached(self.form.network, self.around.kinks, used)
        return inputs.flatten(1), results

    @property
    def alive(self) -> Tensor:
        """Inputs on which F may depend at all on N `[rows, d]` bool."""
        return self._reached[0]

    @cached_property
    def ties(self) -> dict[int, Tensor]:
        """Open kinks on whose result F may depend: step -> bool `[rows, *shape]`."""
        reach = self._reached[1]
        return {
            number: kink.open & reach[number]
            for number, kink in self.around.kinks.items()
            if number in reach
        }

    @property
    def tied(self) -> Tensor:
        """How many kinks of N matter `[rows]`."""
        counts = [tie.flatten(1).sum(1) for tie in self.ties.values()]
        if not counts:
            return torch.zeros(len(self.points), dtype=torch.int64)
        return torch.stack(counts).sum(0)


def _flat(value: Enclosure) -> Enclosure:
    return Enclosure(value.middle.flatten(1), value.radius.flatten(1))
