"""Piecewise-linear networks enclosed: at a point, around it, and backwards (§§9, 10.7).

Around a point p, N = {q : |q_i - p_i| ≤ r_i, ‖q - p‖ ≤ R}. Two things are carried from
layer to layer: the values at p with their running rounding error, and by how much each
value may differ from that on N. A kink whose height keeps its sign on N is stable: N
lies on one side of it. Where all that matter are stable, the network is affine on N.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.affine import (
    Affine,
    Elementwise,
    Normalisation,
)
from summiteer.networks.piecewise_linear import (
    Addition,
    Maximum,
    PiecewiseLinear,
    Rectifier,
)
from summiteer.optimality.norms import operator_norm, row_lengths
from summiteer.optimality.rounding import TINY, Enclosure, gamma, length, up


@dataclass(frozen=True, eq=False)
class Kink:
    """All the maxima of one step, on N; tensors `[rows, *shape]`.

    Attributes:
        height: right - left (v itself for a rectifier) on N.
        centre: the same at p.
        right: height > 0 on N.
        left: height < 0 on N, or there is no right one.
        slope: of the left side: s of a rectifier, 0 of a maximum.
    """

    height: Enclosure
    centre: Enclosure
    right: Tensor
    left: Tensor
    slope: float

    @property
    def open(self) -> Tensor:
        """Where N may lie on both sides."""
        return ~(self.right | self.left)

    def side(self, right: Tensor) -> Tensor:
        """1 where `right`, else the slope of the left side."""
        # Not `torch.where` of two numbers, which has torch's default dtype.
        left = torch.full(right.shape, self.slope, dtype=torch.float64)
        return left.masked_fill(right, 1.0)

    @property
    def slopes(self) -> Enclosure:
        """The share of the right side: 1, s, or anything between where open."""
        low, high = self.side(self.right), self.side(~self.left)
        return (
            Enclosure.between(low, high)
            if bool(self.open.any())
            else (Enclosure.exact(low))
        )

    def take(self, index: Tensor) -> "Kink":
        """The rows `index`."""
        return _rows.take(self, index)


@dataclass(frozen=True, eq=False)
class Around:
    """A network on the neighbourhoods N of a batch of points.

    Attributes:
        network: the program.
        outputs: at p `[rows, *shape]`.
        vary: ≥ |output(q) - output(p)| on N.
        kinks: number of the step -> its kinks.
    """

    network: PiecewiseLinear
    outputs: Enclosure
    vary: Tensor
    kinks: dict[int, Kink]

    @property
    def everywhere(self) -> Enclosure:
        """The outputs on N."""
        return self.outputs.widened(self.vary)

    @property
    def open(self) -> Tensor:
        """How many kinks are open `[rows]`."""
        counts = [kink.open.flatten(1).sum(1) for kink in self.kinks.values()]
        if not counts:
            return torch.zeros(len(self.vary), dtype=torch.int64)
        return torch.stack(counts).sum(0)

    def slopes(self) -> dict[int, Enclosure]:
        """Of every kink, enclosed."""
        return {number: kink.slopes for number, kink in self.kinks.items()}

    def take(self, index: Tensor) -> "Around":
        """The rows `index`."""
        return replace(
            self,
            outputs=self.outputs[index],
            vary=self.vary[index],
            kinks={number: kink.take(index) for number, kink in self.kinks.items()},
        )


@dataclass(frozen=True, eq=False)
class _Value:
    """One value of the network: at p, and what it changes by on N."""

    centre: Enclosure
    vary: Tensor
    euclid: Tensor  # ≥ ‖change‖₂ `[rows]`

    def limited(self) -> "_Value":
        """With the better of both bounds of the change as a whole."""
        total = length(self.vary.reshape(len(self.vary), -1))
        return replace(self, euclid=torch.minimum(self.euclid, total))


def around(
    network: PiecewiseLinear,
    inputs: Enclosure,
    vary: Tensor,
    euclid: Tensor,
    chosen: bool = False,
) -> Around:
    """Enclose a network on N.

    Args:
        network: in float64.
        inputs: x + p `[rows, *input]`.
        vary: r ≥ 0 `[rows, *input]`.
        euclid: R `[rows]`.
        chosen: let an open kink take any value between its two sides, not only the
            larger: what bounds with chosen slopes need.
    """
    values = [_Value(inputs, vary, euclid).limited()]
    kinks: dict[int, Kink] = {}
    for number, step in enumerate(network.steps):
        sources = [values[i] for i in step.sources]
        operation = step.operation
        if isinstance(operation, Addition):
            made = _added(*sources)
        elif isinstance(operation, Rectifier):
            made, kinks[number] = _rectified(sources[0], operation.slope, chosen)
        elif isinstance(operation, Maximum):
            made, kinks[number] = _larger(
                sources[0], sources[1], operation.absent, chosen
            )
        else:
            made = _mapped(operation, sources[0])
        values.append(made)
    return Around(network, values[-1].centre, values[-1].vary, kinks)


def _mapped(operation: Affine, value: _Value) -> _Value:
    """An affine operation."""
    vary = up(operation.spread(value.vary), operation.terms + 4)
    rows = row_lengths(operation)
    if rows is not None:
        vary = torch.minimum(vary, up(_rows.expand(value.euclid, vary) * rows))
    euclid = up(value.euclid * operator_norm(operation))
    return _Value(_affine(operation, value.centre), vary, euclid).limited()


def _added(left: _Value, right: _Value) -> _Value:
    return _Value(
        left.centre + right.centre,
        up(left.vary + right.vary),
        up(left.euclid + right.euclid),
    ).limited()


def _rectified(value: _Value, slope: float, chosen: bool) -> tuple[_Value, Kink]:
    """max(v, s·v)."""
    height = value.centre.widened(value.vary)
    low, high = height.lower, height.upper
    kink = Kink(height, value.centre, low > 0, high < 0, slope)
    right, left, v = kink.right, kink.left, value.centre
    scaled = v * torch.full_like(low, slope) if slope else None
    lower = v.lower.clamp(min=0) if scaled is None else _rectify(v, slope)[0]
    upper = v.upper.clamp(min=0) if scaled is None else _rectify(v, slope)[1]
    both = Enclosure.between(lower, upper)
    zero = torch.zeros_like(low)
    aside = Enclosure(zero, zero) if scaled is None else scaled
    middle = torch.where(right, v.middle, torch.where(left, aside.middle, both.middle))
    radius = torch.where(right, v.radius, torch.where(left, aside.radius, both.radius))
    vary = torch.where(left, up(abs(slope) * value.vary) if slope else zero, value.vary)
    made = _Value(Enclosure(middle, radius), vary, value.euclid)
    if chosen:
        # Anything in ±max|height|, of which the centre is one.
        made = _loosened(made, kink, 2 * height.magnitude)
    return made.limited(), kink


def _rectify(v: Enclosure, slope: float) -> tuple[Tensor, Tensor]:
    """Lower and upper bound of max(v, s·v) on an enclosure, -1 ≤ s < 1."""
    low, high = v.lower, v.upper
    wide = TINY + 4 * 2.0**-53 * torch.maximum(low.abs(), high.abs())
    ends = [torch.maximum(end, slope * end) for end in (low, high)]
    lower, upper = torch.minimum(*ends), torch.maximum(*ends)
    # |v| turns at 0; the others are monotone.
    lower = torch.where((low < 0) & (high > 0), torch.fmin(lower, 0 * lower), lower)
    return lower - wide, upper + wide


def _larger(
    left: _Value, right: _Value, absent: Tensor, chosen: bool
) -> tuple[_Value, Kink]:
    """max(left, right) where there is a right one."""
    centre = right.centre - left.centre
    height = centre.widened(up(left.vary + right.vary))
    above = (height.lower > 0) & ~absent
    below = (height.upper < 0) | absent
    kink = Kink(height, centre, above, below, 0.0)
    one, two = left.centre, right.centre
    both = Enclosure.between(
        torch.maximum(one.lower, two.lower), torch.maximum(one.upper, two.upper)
    )
    middle = torch.where(above, two.middle, torch.where(below, one.middle, both.middle))
    radius = torch.where(above, two.radius, torch.where(below, one.radius, both.radius))
    wide = torch.maximum(left.vary, right.vary)
    vary = torch.where(above, right.vary, torch.where(below, left.vary, wide))
    euclid = up(torch.hypot(left.euclid, right.euclid), 2)
    made = _Value(Enclosure(middle, radius), vary, euclid)
    if chosen:
        made = _loosened(made, kink, up(wide + height.magnitude))
    return made.limited(), kink


def _loosened(value: _Value, kink: Kink, room: Tensor) -> _Value:
    """The change where an open kink may take any value between its sides."""
    vary = torch.where(kink.open, torch.maximum(value.vary, room), value.vary)
    extra = length(torch.where(kink.open, vary, 0.0).flatten(1))
    return replace(value, vary=vary, euclid=up(value.euclid + extra))


@dataclass(frozen=True, eq=False)
class Backward:
    """What a linear form of the outputs depends on.

    Attributes:
        gradient: with respect to the inputs `[rows, *input]`.
        weights: number of the step -> with respect to the results of its kinks.
    """

    gradient: Enclosure
    weights: dict[int, Enclosure]


def backward(
    network: PiecewiseLinear,
    forms: dict[int, Enclosure],
    slopes: dict[int, Enclosure],
) -> Backward:
    """Pull a linear form of some values back to the inputs, with these slopes.

    Args:
        network: in float64.
        forms: number of the value -> its weights `[rows, *shape]`; `network.last` is
            the output.
        slopes: number of the step -> share of the right side `[rows, *shape]`.
    """
    pulled = dict(forms)
    weights: dict[int, Enclosure] = {}
    for number in range(max(forms) - 1, -1, -1):
        own = pulled.pop(number + 1, None)
        if own is None:
            continue
        step = network.steps[number]
        operation = step.operation
        if isinstance(operation, Addition):
            parts = [own, own]
        elif isinstance(operation, Rectifier):
            weights[number] = own
            parts = [own * slopes[number]]
        elif isinstance(operation, Maximum):
            weights[number] = own
            share = slopes[number]
            parts = [own * (-share + torch.ones_like(share.middle)), own * share]
        else:
            parts = [_pulled(operation, own)]
        for source, part in zip(step.sources, parts, strict=True):
            known = pulled.get(source)
            pulled[source] = part if known is None else known + part
    gradient = pulled.get(0)
    if gradient is None:
        some = next(iter(forms.values())).middle
        gradient = Enclosure.exact(some.new_zeros(len(some), *network.shape))
    return Backward(gradient, weights)


def _pulled(operation: Affine, own: Enclosure) -> Enclosure:
    terms = operation.terms_back
    middle = operation.transpose(own.middle)
    error = operation.spread_back(own.radius + gamma(terms + 6) * own.middle.abs())
    radius = torch.where(middle.isfinite(), up(error, terms + 6), torch.inf)
    return Enclosure(middle, radius)


def forward(
    network: PiecewiseLinear, direction: Enclosure, slopes: dict[int, Enclosure]
) -> Enclosure:
    """The outputs' derivative along a direction, with these slopes `[rows, *shape]`.

    Where slopes are known only to lie between two, a kink whose height hardly changes
    along the direction costs nothing here; in a gradient it costs its whole weight.

    Args:
        network: in float64.
        direction: v `[rows, *input]`.
        slopes: number of the step -> share of the right side `[rows, *shape]`.
    """
    return _along(network, direction, slopes, _linear)


def replaced(
    network: PiecewiseLinear, inputs: Enclosure, slopes: dict[int, Enclosure]
) -> Enclosure:
    """The outputs where each kink is replaced by the line with its slope.

    Args:
        network: in float64.
        inputs: `[rows, *input]`.
        slopes: number of the step -> share of the right side `[rows, *shape]`.
    """
    return _along(network, inputs, slopes, _affine)


def _along(
    network: PiecewiseLinear,
    first: Enclosure,
    slopes: dict[int, Enclosure],
    mapped: Callable[[Affine, Enclosure], Enclosure],
) -> Enclosure:
    values = [first]
    for number, step in enumerate(network.steps):
        sources = [values[i] for i in step.sources]
        operation = step.operation
        if isinstance(operation, Addition):
            made = sources[0] + sources[1]
        elif isinstance(operation, Rectifier):
            made = sources[0] * slopes[number]
        elif isinstance(operation, Maximum):
            made = sources[0] + (sources[1] - sources[0]) * slopes[number]
        else:
            made = mapped(operation, sources[0])
        values.append(made)
    return values[-1]


def _affine(operation: Affine, value: Enclosure) -> Enclosure:
    """Av + b."""
    terms = operation.terms
    middle = operation.apply(value.middle)
    size = operation.magnify(value.middle.abs())
    error = operation.spread(value.radius) + gamma(terms + 4) * size
    radius = torch.where(middle.isfinite(), up(error, terms + 4), torch.inf)
    return Enclosure(middle, radius)


def _linear(operation: Affine, value: Enclosure) -> Enclosure:
    """Av, without b: apply(v) - apply(0), so b counts in the rounding."""
    terms = operation.terms
    nothing = torch.zeros_like(value.middle[:1])
    middle = operation.apply(value.middle) - operation.apply(nothing)
    size = operation.magnify(value.middle.abs())
    # Each apply errs by γ of its size, the difference by u of its own.
    error = operation.spread(value.radius) + 2 * gamma(terms + 6) * size
    radius = torch.where(middle.isfinite(), up(error, terms + 6), torch.inf)
    return Enclosure(middle, radius)


def reached(
    network: PiecewiseLinear, kinks: dict[int, Kink], used: Tensor
) -> tuple[Tensor, dict[int, Tensor]]:
    """What the outputs `used` may depend on, on N.

    Where it says no there is no path of non-zero weights and open or right sides: the
    network does not depend on that entry at all, rounding or not.

    Args:
        network: the program.
        kinks: on N.
        used: bool `[rows, *shape]`.

    Returns:
        bool `[rows, *input]`, and of the results of every kinked step.
    """
    pulled: dict[int, Tensor] = {network.last: used}
    results: dict[int, Tensor] = {}
    for number in range(network.last - 1, -1, -1):
        own = pulled.pop(number + 1, None)
        if own is None:
            continue
        step = network.steps[number]
        operation = step.operation
        if isinstance(operation, Addition):
            parts = [own, own]
        elif isinstance(operation, Rectifier):
            results[number] = own
            parts = [own & ~kinks[number].left] if operation.slope == 0 else [own]
        elif isinstance(operation, Maximum):
            results[number] = own
            parts = [own & ~kinks[number].right, own & ~kinks[number].left]
        elif isinstance(operation, Elementwise):
            # Not by the computed scale, which may have underflowed.
            parts = [own & (operation.factor != 0)]
        elif isinstance(operation, Normalisation):
            factor = operation.factor.reshape(-1, *([1] * operation.trailing))
            parts = [own & (factor != 0)]
        else:
            parts = [operation.spread_back(own.double()) > 0]
        for source, part in zip(step.sources, parts, strict=True):
            known = pulled.get(source)
            pulled[source] = part if known is None else known | part
    nothing = used.new_zeros(len(used), *network.shape)
    return pulled.get(0, nothing), results
