"""Families of networks with kinks: one function each, from a generator to a case."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundness.draw import draw_within, draw_zone
from soundness.field import LONG, Zone
from soundness.kinked import Kinked, climb, problem_of
from soundness.kinked_checks import KinkedCase
from soundness.layers import (
    Flat,
    Flow,
    Layer,
    Leaky,
    Linear,
    Norm,
    Skip,
    convolution,
    pool,
)
from summiteer.networks.activations import ACTIVATIONS

Array = NDArray[Any]
Random = np.random.Generator
Family = Callable[[Random], KinkedCase]
KINKED: dict[str, Family] = {}
#: Examples of a batch: they share the network, and most of the time.
BATCH = 96
#: The package's own two-layer networks with kinks, by name, and their slopes.
SLOPES = {name: s for name, s in {"relu": 0.0, "abs": -1.0}.items()
          if name in ACTIVATIONS}  # fmt: skip


def family(make: Family) -> Family:
    """Add a family to the campaign."""
    KINKED[make.__name__] = make
    return make


def drawn_linear(rng: Random, out: int, inner: int, size: float = 1.0) -> Linear:
    """Random weights; sparse or of equal rows now and then."""
    weight = rng.normal(size=(out, inner)) * size / inner**0.5
    bias = rng.normal(size=out) * rng.choice([0.0, 0.3, 1.0]) * size
    if rng.random() < 0.2:
        weight *= rng.random(weight.shape) < 0.6
    if rng.random() < 0.2:
        # Twins, and units that are dead everywhere.
        weight = weight[rng.integers(0, out, out)]
        bias = np.where(rng.random(out) < 0.2, -1e3, bias)
    return Linear(weight, bias)


def drawn_kink(rng: Random) -> Leaky:
    """ReLU most of the time."""
    return Leaky(float(rng.choice([0.0, 0.0, 0.0, 0.1, 0.01])))


def drawn_loss(rng: Random, fixed: str = "") -> tuple[str, int]:
    """(loss, outputs)."""
    loss = fixed or str(rng.choice(["margin", "margin", "quadratic", "logistic",
                                    "entropy"]))  # fmt: skip
    if loss == "entropy":
        return loss, int(rng.choice([2, 3, 4]))
    return loss, int(rng.choice([1, 2, 3])) if loss == "margin" else 1


def drawn_targets(rng: Random, loss: str, outputs: int) -> Array:
    """Labels or numbers."""
    if loss == "quadratic":
        return rng.normal(size=BATCH) * 10 ** rng.uniform(-1, 1)
    if outputs == 1:
        return rng.choice([-1.0, 1.0], BATCH)
    return rng.integers(0, outputs, BATCH).astype(float)


def drawn(
    rng: Random,
    layers: tuple[Layer, ...],
    shape: tuple[int, ...],
    loss: str,
    outputs: int,
    activation: str = "",
) -> Kinked:
    """A batch around random inputs."""
    d = int(np.prod(shape))
    inputs = rng.normal(size=(BATCH, d)) * 10 ** rng.uniform(-1, 0.3)
    scale = 10 ** rng.uniform(-3, 0.5)
    kind = str(rng.choice(["ball", "ball", "linf", "box", "both"]))
    zone = draw_zone(rng, inputs, scale, kind)
    targets = drawn_targets(rng, loss, outputs)
    return Kinked(layers, shape, inputs, targets, loss, zone, activation)


def drawn_case(rng: Random, kinked: Kinked) -> KinkedCase:
    """With points of every kind."""
    within = draw_within(rng)
    zone, (batch, d) = kinked.zone, kinked.inputs.shape
    width = zone.width[:, None]
    start = zone.project(rng.normal(size=(batch, 1, d)) * width[:, None])
    ends = climb(kinked, start, int(rng.choice([8, 40, 100])))[:, 0].astype(float)
    size = width * 10 ** rng.uniform(-17, -1, (batch, 1))
    size = np.minimum(size, 0.7 * within * width)
    way = rng.normal(size=(batch, d))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    kind = rng.integers(0, 12, (batch, 1))
    points = np.where(kind <= 5, ends, ends + size * way)
    points = np.where(kind == 10, start[:, 0].astype(float), points)
    corner = zone.project(1e3 * width[:, None] * rng.choice([-1, 1], (batch, 1, d)))
    points = np.where(kind == 11, corner[:, 0].astype(float), points)
    inside = zone.project(points[:, None].astype(LONG))[:, 0].astype(float)
    points = np.where(rng.random((batch, 1)) < 0.8, inside, points)
    return KinkedCase(kinked, problem_of(kinked), np.nan_to_num(points), within)


def two_layers(
    rng: Random, d: int, width: int, outputs: int, size: float = 1.0
) -> tuple[tuple[Layer, ...], str]:
    """(layers, the name of the package's activation or "")."""
    kink, name = drawn_kink(rng), ""
    if rng.random() < 0.75:
        name = str(rng.choice(list(SLOPES)))
        kink = Leaky(SLOPES[name])
    layers = (
        drawn_linear(rng, width, d, size),
        kink,
        drawn_linear(rng, outputs, width),
    )
    return layers, name


@family
def kinked_two_layers(rng: Random) -> KinkedCase:
    """Two-layer networks of ordinary size."""
    d, width = int(rng.choice([1, 2, 2, 3, 3, 4])), int(rng.integers(1, 10))
    loss, outputs = drawn_loss(rng)
    layers, name = two_layers(rng, d, width, outputs)
    return drawn_case(rng, drawn(rng, layers, (d,), loss, outputs, name))


@family
def kinked_wide(rng: Random) -> KinkedCase:
    """More inputs and units."""
    d, width = int(rng.integers(4, 10)), int(rng.integers(8, 40))
    loss, outputs = drawn_loss(rng)
    layers, name = two_layers(rng, d, width, outputs)
    return drawn_case(rng, drawn(rng, layers, (d,), loss, outputs, name))


@family
def kinked_badly_scaled(rng: Random) -> KinkedCase:
    """Rows of very different sizes."""
    d, width = int(rng.choice([1, 2, 2, 3, 3, 4])), int(rng.integers(1, 8))
    loss, outputs = drawn_loss(rng)
    (first, kink, last), name = two_layers(rng, d, width, outputs)
    assert isinstance(first, Linear)
    rows = 10 ** rng.uniform(-5, 5, width)
    first = Linear(first.weight * rows[:, None], first.bias * rows)
    return drawn_case(rng, drawn(rng, (first, kink, last), (d,), loss, outputs, name))


@family
def kinked_concave(rng: Random) -> KinkedCase:
    """Mostly units of negative weight: maxima on kinks, and global ones."""
    d, width = int(rng.choice([1, 2, 2, 3, 3, 4])), int(rng.integers(2, 10))
    (first, kink, last), name = two_layers(rng, d, width, 1)
    assert isinstance(last, Linear)
    sign = np.where(rng.random(width) < 0.85, -1.0, 1.0)
    last = Linear(sign * np.abs(last.weight), last.bias)
    loss = str(rng.choice(["margin", "logistic"]))
    kinked = drawn(rng, (first, kink, last), (d,), loss, 1, name)
    return drawn_case(rng, replace(kinked, targets=-np.ones(BATCH)))


def deep_layers(rng: Random, d: int, outputs: int) -> tuple[Layer, ...]:
    """Two or three hidden layers, normalised or with a residual branch at times."""
    width = int(rng.integers(2, 9))
    layers: list[Layer] = [drawn_linear(rng, width, d, 1.5)]
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.2:
            layers.append(drawn_norm(rng, width, 1))
        layers.append(drawn_kink(rng))
        if rng.random() < 0.3:
            layers.append(Skip((drawn_linear(rng, width, width), drawn_kink(rng))))
        wider = int(rng.integers(2, 9))
        layers.append(drawn_linear(rng, wider, width, 1.5))
        width = wider
    return (*layers, drawn_kink(rng), drawn_linear(rng, outputs, width))


def drawn_norm(rng: Random, channels: int, repeat: int) -> Norm:
    """BatchNorm in eval mode."""
    numbers = rng.normal(size=(4, channels))
    numbers[1] = rng.uniform(0.1, 2.0, channels)
    return Norm(numbers, repeat)


@family
def kinked_deep(rng: Random) -> KinkedCase:
    """Deep networks."""
    d = int(rng.choice([1, 2, 2, 3, 3, 4]))
    loss, outputs = drawn_loss(rng)
    layers = deep_layers(rng, d, outputs)
    return drawn_case(rng, drawn(rng, layers, (d,), loss, outputs))


@family
def kinked_images(rng: Random) -> KinkedCase:
    """Convolution, pooling, normalisation; windows that tie."""
    image = (1, int(rng.integers(2, 4)), int(rng.integers(2, 5)))
    loss, outputs = drawn_loss(rng)
    channels = int(rng.integers(1, 4))
    kernel = rng.normal(size=(channels, 1, 2, 2))
    if rng.random() < 0.4:
        kernel = np.round(2 * kernel) / 2
    offset = rng.normal(size=channels) * rng.choice([0.0, 0.5])
    first, made = convolution(kernel, offset, image, int(rng.integers(0, 2)))
    layers: list[Layer] = [first]
    if rng.random() < 0.4:
        layers.append(drawn_norm(rng, made[0], made[1] * made[2]))
    pooling = made[1] >= 2 or made[2] >= 2
    before = rng.random() < 0.5
    if before:
        layers.append(drawn_kink(rng))
    if pooling:
        size = (min(2, made[1]), min(2, made[2]))
        pooled, made = pool(made, size)
        layers.append(pooled)
    if not before:
        layers.append(drawn_kink(rng))
    count = int(np.prod(made))
    layers += [Flat(), drawn_linear(rng, outputs, count)]
    kinked = drawn(rng, tuple(layers), image, loss, outputs)
    if rng.random() < 0.3:
        # Pixels that are equal: windows tie exactly.
        inputs = np.round(kinked.inputs * rng.choice([1, 2])) / 2
        kinked = replace(kinked, inputs=inputs)
    return drawn_case(rng, kinked)


def planted(rng: Random, layers: tuple[Layer, ...], point: Array) -> tuple[Layer, ...]:
    """The layers with some pre-activations at `point` 0, or ± 1e-17 … 1e-3.

    Args:
        rng: random numbers.
        layers: of the network.
        point: an input `[d]`.
    """
    share = rng.choice([0.2, 0.5, 1.0])
    size = 10 ** rng.uniform(-17, rng.choice([-12, -6, -3]))
    flow = Flow(point[None].astype(LONG), np.zeros((1, len(point))), None)
    made: list[Layer] = []
    # Classes that tie, or nearly.
    last = len(layers) - 1 if rng.random() < 0.3 else -1
    for k, layer in enumerate(layers):
        new = layer
        kink = k + 1 < len(layers) and isinstance(layers[k + 1], Leaky)
        if isinstance(layer, Linear) and kink and layer.kernel is None:
            height = layer.push(flow).value[0]
            off = size * rng.normal(size=len(height)) * (rng.random() < 0.7)
            chosen = rng.random(len(height)) < share
            bias = layer.bias.astype(LONG) - height + off
            new = Linear(layer.weight, np.where(chosen, bias, layer.bias).astype(float))
        if k == last and isinstance(layer, Linear):
            height = layer.push(flow).value[0]
            off = size * rng.normal(size=len(height))
            new = Linear(layer.weight, (layer.bias - height + off).astype(float))
        made.append(new)
        flow = new.push(flow)
    return tuple(made)


def planted_case(rng: Random, kinked: Kinked, middle: Array) -> KinkedCase:
    """All examples meet at `middle`, which should be a maximiser, with kinks there.

    The way to it lies among the gradients of the pieces that meet: maximal on a ball
    for concave kinks, and no maximum for convex ones.
    """
    batch, d = kinked.inputs.shape
    here = replace(kinked, inputs=np.broadcast_to(middle, (batch, d)).copy())
    if kinked.loss == "quadratic" and rng.random() < 0.5:
        # Targets next to the output: the sign of f - y hardly known.
        level = here.flow(np.zeros((batch, 1, d))).value[:, 0].astype(float)
        off = 10 ** rng.uniform(-17, -1, batch) * rng.choice([-1, 0, 1], batch)
        here = replace(here, targets=level + off)
        kinked = replace(kinked, targets=here.targets)
    off = rng.normal(size=(batch, 24, d)) * 10 ** rng.uniform(-6, -3)
    _, gradient, _ = here.slopes(off.astype(LONG))
    mixed = rng.dirichlet(np.full(24, 0.1), batch)
    way = np.einsum("bn,bnd->bd", mixed, gradient.astype(float))
    way = np.where(np.abs(way).sum(-1, keepdims=True) > 0, way, 1.0)
    radius = 10 ** rng.uniform(-3, 0.5) * rng.uniform(0.3, 1.7, batch)
    far = np.full((batch, d), np.inf)
    if rng.random() < 0.5:
        point = radius[:, None] * way / np.linalg.norm(way, axis=1, keepdims=True)
        zone = Zone(radius, -far, far)
        if rng.random() < 0.3:
            room = np.abs(point) * rng.choice([1.0, 1.5, 3.0], (batch, d))
            zone = Zone(radius, -room, room)
    else:
        held = rng.random((batch, d)) < rng.choice([0.3, 0.7, 1.0])
        room = radius[:, None] * rng.uniform(0.5, 1.5, (batch, d))
        loose = room * rng.uniform(-0.8, 0.8, (batch, d))
        point = np.where(held, room * np.sign(way), loose)
        zone = Zone(far[:, 0], -room, room)
    moved = replace(kinked, inputs=middle - point, zone=zone)
    within = draw_within(rng)
    noise = 10 ** rng.uniform(-17, 0, (batch, 1)) * rng.choice([0, 1], (batch, 1))
    noise = noise * within * zone.width[:, None] * 0.5
    given = point + noise * rng.normal(size=(batch, d)) / d**0.5
    given = zone.project(given[:, None].astype(LONG))[:, 0].astype(float)
    return KinkedCase(moved, problem_of(moved), given, within)


@family
def kinked_planted(rng: Random) -> KinkedCase:
    """Two-layer networks with kinks at the point, or next to it."""
    d, width = int(rng.choice([1, 2, 2, 3, 3, 4])), int(rng.integers(1, 10))
    loss, outputs = drawn_loss(rng)
    layers, name = two_layers(rng, d, width, outputs)
    middle = rng.normal(size=d)
    layers = planted(rng, layers, middle)
    kinked = drawn(rng, layers, (d,), loss, outputs, name)
    return planted_case(rng, kinked, middle)


@family
def kinked_planted_concave(rng: Random) -> KinkedCase:
    """The same with units of negative weight: maxima on kinks."""
    d, width = int(rng.choice([1, 2, 2, 3, 3, 4])), int(rng.integers(1, 10))
    (first, kink, last), name = two_layers(rng, d, width, 1)
    assert isinstance(last, Linear)
    sign = np.where(rng.random(width) < 0.85, -1.0, 1.0)
    last = Linear(sign * np.abs(last.weight), last.bias)
    middle = rng.normal(size=d)
    layers = planted(rng, (first, kink, last), middle)
    loss = str(rng.choice(["margin", "logistic"]))
    kinked = drawn(rng, layers, (d,), loss, 1, name)
    return planted_case(rng, replace(kinked, targets=-np.ones(BATCH)), middle)


@family
def kinked_planted_deep(rng: Random) -> KinkedCase:
    """Deep networks with kinks at the point, or next to it."""
    d = int(rng.choice([1, 2, 2, 3, 3, 4]))
    loss, outputs = drawn_loss(rng)
    middle = rng.normal(size=d)
    layers = planted(rng, deep_layers(rng, d, outputs), middle)
    kinked = drawn(rng, layers, (d,), loss, outputs)
    return planted_case(rng, kinked, middle)


@family
def kinked_exact(rng: Random) -> KinkedCase:
    """Small dyadic numbers, where ties are exact and rounding does not occur."""
    d, width = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    layers: list[Layer] = []
    inner = d
    for _ in range(int(rng.integers(1, 3))):
        weight = rng.integers(-2, 3, (width, inner)).astype(float)
        layers += [Linear(weight, rng.integers(-1, 2, width) / 2.0), Leaky(0.0)]
        inner = width
    outputs = int(rng.choice([1, 3]))
    last = Linear(rng.integers(-2, 3, (outputs, inner)) / 1.0, np.zeros(outputs))
    kinked = drawn(rng, (*layers, last), (d,), "margin", outputs)
    inputs = rng.integers(-2, 3, (BATCH, d)) / 2.0
    kind = str(rng.choice(["linf", "box", "ball"]))
    zone = draw_zone(rng, inputs, 0.5, kind)
    if kind != "ball":
        half = rng.choice([0.25, 0.5, 1.0], (BATCH, 1)) * np.ones(d)
        zone = Zone(zone.radius, -half, half)
    kinked = replace(kinked, inputs=inputs, zone=zone)
    case = drawn_case(rng, kinked)
    points = case.points
    if kind != "ball":
        corner = zone.upper * rng.choice([-1, 0, 1], (BATCH, d))
        points = np.where(rng.random((BATCH, 1)) < 0.6, corner, points)
    return KinkedCase(kinked, case.problem, points, case.within, dyadic=True)
