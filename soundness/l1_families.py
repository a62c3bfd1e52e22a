"""Families on L1 balls and L1 balls in boxes, and nets behind `sm.Standardise`."""

from dataclasses import replace

import numpy as np

from soundness.diamond import Diamond, diamond
from soundness.draw import Random, draw_within
from soundness.field import LONG, Array
from soundness.kinked import Kinked, problem_of
from soundness.kinked_checks import KinkedCase
from soundness.kinked_families import (
    BATCH,
    KINKED,
    deep_layers,
    drawn,
    drawn_case,
    drawn_linear,
    drawn_loss,
    family,
    two_layers,
)
from soundness.layers import Layer, Linear, Smooth, Standard
from soundness.sigma import SIGMA

__all__ = ["KINKED"]

#: Examples of a batch: all vertices of each are looked at.
FEW = 40


def drawn_diamond(rng: Random, scale: float, batch: int, d: int) -> Diamond:
    """A ball, or one in a box whose limits meet it, at times but for some ulps."""
    radius = scale * 10 ** (rng.uniform(-1, 1, batch) * rng.choice([0, 1]))
    if rng.random() < 0.4:
        return diamond(radius, dimensions=d)
    parts = np.array([0, 0.2, 0.5, 1, 2])
    wide = radius[:, None]
    lower, upper = (wide * rng.choice(parts, (batch, d)) for _ in range(2))
    if rng.random() < 0.4:
        share = rng.choice([0.5, 1.0])
        near = share * wide * (1 + rng.integers(-2, 3, (batch, d)) * 2.0**-52)
        upper = np.where(rng.random((batch, d)) < 0.6, near, upper)
        lower = np.where(rng.random((batch, d)) < 0.6, near[::-1], lower)
    return diamond(radius, -lower, upper)


def steered(rng: Random, kinked: Kinked) -> KinkedCase:
    """Points next to vertices that linear maximisation leads to, and others."""
    batch, d = FEW, kinked.inputs.shape[1]
    kinked = kinked.take(np.arange(batch))
    zone = drawn_diamond(rng, 10 ** rng.uniform(-3, 0.7), batch, d)
    kinked = replace(kinked, zone=zone)
    width, within = zone.width[:, None], draw_within(rng)
    points = zone.project((rng.normal(size=(batch, 1, d)) * width[..., None])
                          .astype(LONG))  # fmt: skip
    corners = zone.corners()
    still = rng.random((batch, 1, 1)) < 0.25
    for _ in range(5):
        _, gradient, _ = kinked.slopes(points, LONG)
        best = (gradient * corners).sum(-1).argmax(1)
        ahead = corners[np.arange(batch), best][:, None]
        stays = still | (rng.random((batch, 1, 1)) < 0.1)
        points = np.where(stays, points, ahead)
    size = width * within * 10 ** rng.uniform(-17, 0.3, (batch, 1))
    noise = size * rng.normal(size=(batch, d)) * rng.choice([0, 1], (batch, 1))
    moved = points[:, 0] + noise
    inside = zone.project(moved[:, None].astype(LONG))[:, 0]
    given = np.where(rng.random((batch, 1)) < 0.7, inside, moved).astype(float)
    return KinkedCase(kinked, problem_of(kinked), given, within)


def drawn_dimension(rng: Random) -> int:
    """Few enough that all vertices can be looked at."""
    return int(rng.choice([1, 2, 2, 3, 3, 4]))


def twins(rng: Random, layer: Layer) -> Layer:
    """Two coordinates of slopes that are equal, or nearly."""
    assert isinstance(layer, Linear)
    if layer.weight.shape[1] < 2 or rng.random() < 0.7:
        return layer
    weight = layer.weight.copy()
    off = rng.choice([0, 1e-15, 1e-9])
    weight[:, 0] = weight[:, 1] * rng.choice([1, -1]) * (1 + off)
    return Linear(weight, layer.bias)


@family
def l1_smooth(rng: Random) -> KinkedCase:
    """Smooth two-layer networks."""
    d, width = drawn_dimension(rng), int(rng.integers(1, 8))
    loss, outputs = drawn_loss(rng)
    outputs = min(outputs, 2) if loss == "entropy" else outputs
    name = str(rng.choice(list(SIGMA)))
    first = twins(rng, drawn_linear(rng, width, d, 10 ** rng.uniform(-1, 0.4)))
    layers = (first, Smooth(name), drawn_linear(rng, outputs, width))
    return steered(rng, drawn(rng, layers, (d,), loss, outputs, name))


@family
def l1_two_layers(rng: Random) -> KinkedCase:
    """Two-layer networks with kinks."""
    d, width = drawn_dimension(rng), int(rng.integers(1, 8))
    loss, outputs = drawn_loss(rng)
    (first, *rest), name = two_layers(rng, d, width, outputs)
    layers = (twins(rng, first), *rest)
    return steered(rng, drawn(rng, layers, (d,), loss, outputs, name))


@family
def l1_deep(rng: Random) -> KinkedCase:
    """Deep piecewise-linear networks."""
    d = drawn_dimension(rng)
    loss, outputs = drawn_loss(rng)
    first, *rest = deep_layers(rng, d, outputs)
    layers = (twins(rng, first), *rest)
    return steered(rng, drawn(rng, layers, (d,), loss, outputs))


def drawn_standard(rng: Random, d: int) -> Standard:
    """Numbers as of stored data, and of very different sizes."""
    count = d if rng.random() < 0.6 else 1
    mean = rng.normal(size=count) * 10 ** rng.uniform(-3, rng.choice([1, 6]))
    std = 10 ** rng.uniform(-1, 1, count) * 10 ** rng.uniform(-8, 3)
    return Standard(mean, std)


def placed(kinked: Kinked, standard: Standard) -> Kinked:
    """The network behind the standardisation, at inputs as they are stored."""
    zone, size = kinked.zone, standard.std.max()
    zone = replace(zone, radius=size * zone.radius, lower=size * zone.lower,
                   upper=size * zone.upper)  # fmt: skip
    inputs: Array = standard.mean + standard.std * kinked.inputs
    layers = (standard, *kinked.layers)
    return replace(kinked, layers=layers, inputs=inputs, zone=zone)


@family
def standardised(rng: Random) -> KinkedCase:
    """(x - mean)/std in front of piecewise-linear networks, on every region."""
    d = drawn_dimension(rng)
    loss, outputs = drawn_loss(rng)
    layers: tuple[Layer, ...]
    if rng.random() < 0.5:
        layers, _ = two_layers(rng, d, int(rng.integers(1, 8)), outputs)
    else:
        layers = deep_layers(rng, d, outputs)
    kinked = drawn(rng, layers, (d,), loss, outputs)
    standard = drawn_standard(rng, d)
    assert len(kinked) == BATCH
    return drawn_case(rng, placed(kinked, standard))


@family
def l1_standardised(rng: Random) -> KinkedCase:
    """The same on L1 balls; the radius is of the size of std."""
    d = drawn_dimension(rng)
    loss, outputs = drawn_loss(rng)
    kinked = drawn(rng, deep_layers(rng, d, outputs), (d,), loss, outputs)
    standard = drawn_standard(rng, d)
    # Dividing the numbers by their size leaves the radii of `steered` as they are.
    standard = Standard(standard.mean, standard.std / standard.std.max())
    return steered(rng, placed(kinked, standard))
