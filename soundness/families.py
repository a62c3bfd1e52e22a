"""Families of cases: one function each, from a random generator to a `Case`."""

from collections.abc import Callable

import numpy as np
import torch

from soundness.climb import climb, newton
from soundness.draw import (
    Case,
    Random,
    altered,
    balls,
    case,
    draw_field,
    draw_within,
    outermost,
    problem_of,
)
from soundness.field import Zone

Family = Callable[[Random], Case]
FAMILIES: dict[str, Family] = {}


def family(make: Family) -> Family:
    """Add a family to the campaign."""
    FAMILIES[make.__name__] = make
    return make


@family
def plain(rng: Random) -> Case:
    """Small networks of ordinary size."""
    return case(rng, draw_field(rng))


@family
def regular(rng: Random) -> Case:
    """Small radii, where most maxima are proved global and rates exist."""
    return case(rng, draw_field(rng, scale=10 ** rng.uniform(-4, -1)))


@family
def one_neuron(rng: Random) -> Case:
    """One neuron, or two, where every constant of the region is attained."""
    return case(rng, draw_field(rng, dims=(1, 2), widths=(1, 2)))


@family
def straight(rng: Random) -> Case:
    """Nearly linear on the region: rates close to their bounds."""
    field = draw_field(rng, region="ball", scale=10 ** rng.uniform(-5, -2))
    return case(rng, field)


@family
def wide(rng: Random) -> Case:
    """More dimensions and neurons, d > m and m > d."""
    dims, widths = ((5, 20), (1, 6)) if rng.random() < 0.5 else ((2, 12), (8, 40))
    return case(rng, draw_field(rng, batch=8, dims=dims, widths=widths))


@family
def large(rng: Random) -> Case:
    """D up to 50."""
    field = draw_field(rng, batch=3, dims=(30, 50), widths=(10, 60), scale=0.3)
    return case(rng, field)


@family
def badly_scaled(rng: Random) -> Case:
    """Rows, inputs and output weights of very different sizes."""
    d, m = int(rng.integers(1, 5)), int(rng.integers(1, 8))
    rows = (
        10 ** rng.uniform(-6, 6, (m, 1))
        if rng.random() < 0.5
        else 10 ** rng.uniform(-6, 6)
    )
    hidden = rng.normal(size=(m, d)) * rows
    output = rng.normal(size=(1, m)) * 10 ** rng.uniform(-6, 6, (1, m))
    scale = 10 ** rng.uniform(-8, 2)
    scale = scale if rng.random() < 0.3 else scale / np.abs(hidden).max()
    inputs = rng.normal(size=(16, d)) * scale * 10 ** rng.uniform(-1, 2)
    bias = rng.normal(size=m) * 10 ** rng.uniform(-3, 3)
    loss = str(rng.choice(["quadratic", "logistic", "margin"]))
    field = draw_field(
        rng,
        hidden=hidden,
        output=output,
        shift=np.zeros(1),
        bias=bias,
        inputs=inputs,
        scale=scale,
        loss=loss,
    )
    return case(rng, field)


@family
def cancelling(rng: Random) -> Case:
    """Pairs of neurons that cancel but for their last digits (§10.3)."""
    d, half = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    hidden = rng.normal(size=(half, d)) * 10 ** rng.uniform(-1, 1)
    output = rng.normal(size=half) * 10 ** rng.uniform(0, 12)
    off = 10 ** rng.uniform(-16, -1)
    twin = hidden * (1 + off * rng.choice([0, 1, 1]) * rng.normal(size=hidden.shape))
    rest = rng.normal(size=(2, d))
    field = draw_field(
        rng,
        hidden=np.concatenate([hidden, twin, rest]),
        output=np.concatenate([output, -output * (1 + off), rng.normal(size=2)])[None],
        bias=np.zeros(2 * half + 2),
        shift=np.zeros(1),
        inputs=rng.normal(size=(16, d)),
        loss=str(rng.choice(["quadratic", "logistic", "margin"])),
    )
    return case(rng, field)


@family
def duplicates(rng: Random) -> Case:
    """Duplicate and nearly duplicate rows, dead neurons, rank far below m."""
    d, m = int(rng.integers(1, 6)), int(rng.integers(2, 9))
    hidden = rng.normal(size=(m, d))
    hidden = hidden[rng.integers(0, max(1, m // 2), m)]
    hidden = hidden * (1 + 10 ** rng.uniform(-17, -8) * rng.normal(size=(m, 1)))
    hidden[rng.random(m) < 0.2] = 0
    output = rng.normal(size=(1, m)) * (rng.random((1, m)) < 0.8)
    field = draw_field(
        rng,
        hidden=hidden,
        output=output,
        bias=rng.normal(size=m),
        shift=np.zeros(1),
        inputs=rng.normal(size=(16, d)),
        loss=str(rng.choice(["quadratic", "logistic", "margin"])),
    )
    return case(rng, field)


@family
def saturated(rng: Random) -> Case:
    """Huge biases and deep tails."""
    field = draw_field(rng)
    bias = rng.normal(size=len(field.bias)) * 10 ** rng.uniform(0, 3)
    return case(rng, altered(field, bias=bias))


@family
def near_zero(rng: Random) -> Case:
    """Targets next to the output at the maximum: the sign of u hardly known."""
    field = draw_field(rng, loss="quadratic")
    drawn = case(rng, field)
    z, _ = field.outputs(drawn.points[:, None])
    size = 10 ** rng.uniform(-17, -1, len(field)) * rng.choice([-1, 1], len(field))
    close = altered(field, targets=(z[:, 0, 0] + size).astype(float))
    return Case(close, problem_of(close), drawn.points, drawn.within)


@family
def ties(rng: Random) -> Case:
    """Two classes that tie, or nearly, at the point."""
    outputs = int(rng.integers(2, 4))
    field = draw_field(
        rng,
        loss="margin",
        output=rng.normal(size=(outputs, 5)),
        hidden=rng.normal(size=(5, 3)),
        bias=rng.normal(size=5),
        shift=np.zeros(outputs),
        inputs=rng.normal(size=(16, 3)),
    )
    drawn = case(rng, field)
    z, _ = field.outputs(drawn.points[:1, None])
    level = z[0, 0] + 10 ** rng.uniform(-17, -1) * rng.normal(size=outputs)
    shift = np.where(np.arange(outputs) == field.targets[0], 0, (z[0, 0].max() - level))
    close = altered(field, shift=shift.astype(float))
    return Case(close, problem_of(close), drawn.points, drawn.within)


@family
def single_precision(rng: Random) -> Case:
    """Networks and inputs that are float32."""
    field = draw_field(rng)
    names = ("hidden", "bias", "output", "shift", "inputs")
    small = {n: getattr(field, n).astype(np.float32).astype(float) for n in names}
    targets = field.targets.astype(np.float32).astype(float)
    zone = Zone(
        *(
            getattr(field.zone, n).astype(np.float32).astype(float)
            for n in ("radius", "lower", "upper")
        ),
        field.zone.sphere,
    )
    field = altered(field, targets=targets, zone=zone, **small)
    return case(rng, field, torch.float32)


@family
def critical_index(rng: Random) -> Case:
    """Radius bisected until the curvature meets the multiplier but for 1e-3 … 1e-13."""
    field = draw_field(
        rng, batch=12, region="ball", loss="margin", scale=0.2,
        output=rng.normal(size=(1, 4)), hidden=rng.normal(size=(4, 2)),
        bias=rng.normal(size=4), shift=np.zeros(1), inputs=rng.normal(size=(12, 2)),
    )  # fmt: skip
    low, high = np.full(12, 1e-3), np.full(12, 20.0)
    found = None
    for _ in range(45):
        middle = np.sqrt(low * high)
        field = altered(field, zone=balls(field, middle))
        surface = field.lead(np.zeros((12, 2)))
        found = newton(surface, climb(surface, outermost(field, surface), 25))
        share = found.alpha[:, 0] / (np.abs(found.multiplier[:, 0]) + 1e-300)
        good = share > 0.05
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    off = 1 + 10 ** rng.uniform(-13, -3, 12) * rng.choice([-1, 1], 12)
    field = altered(field, zone=balls(field, low * off))
    surface = field.lead(np.zeros((12, 2)))
    ends = newton(surface, climb(surface, outermost(field, surface), 300))
    points = ends.points[:, 0].astype(float)
    return Case(field, problem_of(field), points, 1e-3)


@family
def flat_curvature(rng: Random) -> Case:
    """Two quadratic neurons whose curvature is μ(1 ± 1e-3 … 1e-15): α, ω around 0."""
    batch = 12
    radius = float(10 ** rng.uniform(-2, 1))
    angle = rng.uniform(0, np.pi)
    n = np.array([np.cos(angle), np.sin(angle)])
    t = np.array([-n[1], n[0]])
    size = 10 ** rng.uniform(-4, 4)
    off = 10 ** rng.uniform(-15, -3) * rng.choice([-1, 1])
    # F = ½λ(tᵀδ)² + ½ν(nᵀδ + k)²: at p = εn the multiplier is ν(ε + k)/ε.
    nu, k = size * rng.choice([-1, 1]), radius * rng.uniform(-2, 2)
    curvature = nu * (radius + k) / radius * (1 + off)
    field = draw_field(
        rng, hidden=np.stack([t, n]), bias=np.array([0.0, k]),
        output=np.array([[curvature, nu]]), shift=np.zeros(1),
        inputs=np.zeros((batch, 2)), activation="quadratic", loss="margin",
        targets=-np.ones(batch), scale=radius,
        region=str(rng.choice(["ball", "sphere"])),
    )  # fmt: skip
    near = radius * n + rng.normal(size=(batch, 2)) * radius * 10 ** rng.uniform(
        -17, -5, (batch, 1)
    )
    return Case(field, problem_of(field), near, draw_within(rng))


@family
def concave_corner(rng: Random) -> Case:
    """Ball ∩ box with a concave F: multipliers of either sign at corners."""
    d, m = int(rng.integers(2, 4)), int(rng.integers(2, 6))
    field = draw_field(
        rng, region="both", hidden=rng.normal(size=(m, d)), bias=rng.normal(size=m),
        output=-np.abs(rng.normal(size=(1, m))), shift=np.zeros(1), loss="margin",
        inputs=rng.normal(size=(24, d)), targets=-np.ones(24),
        activation=str(rng.choice(["softplus", "quadratic", "silu", "gelu"])),
    )  # fmt: skip
    z = field.zone
    # Boxes whose corners lie close to the sphere.
    corner = np.linalg.norm(np.maximum(-z.lower, z.upper), axis=1)
    share = np.where(rng.random(24) < 0.5, rng.uniform(0.6, 1.1, 24), 1.0)
    field = altered(field, zone=Zone(corner * share, z.lower, z.upper))
    return case(rng, field)


@family
def hidden_curvature(rng: Random) -> Case:
    """A curvature that is the small difference of huge ones: the trap of §10.3."""
    d, pairs, batch = int(rng.integers(2, 5)), int(rng.integers(2, 12)), 12
    rows = rng.normal(size=(pairs, d))
    size = 10 ** rng.uniform(4, 11) * rng.normal(size=pairs)
    net = 10 ** rng.uniform(-6, -1) * rng.normal(size=pairs)
    n, k = rng.normal(size=d), 1e4
    n /= np.linalg.norm(n)
    field = draw_field(
        rng, hidden=np.concatenate([rows, rows, n[None]]),
        bias=np.concatenate([np.zeros(2 * pairs), [k]]),
        output=np.concatenate([size, net - size, [1 / k]])[None],
        shift=np.zeros(1), inputs=np.zeros((batch, d)), activation="quadratic",
        loss="margin", targets=-np.ones(batch), scale=1.0, region="ball",
    )  # fmt: skip
    return case(rng, field)


@family
def grazing_box(rng: Random) -> Case:
    """Limits that pass through a maximiser of the ball, or next to it."""
    d, m, batch = int(rng.integers(2, 4)), int(rng.integers(2, 8)), 16
    field = draw_field(
        rng, region="ball", hidden=rng.normal(size=(m, d)), bias=rng.normal(size=m),
        output=rng.normal(size=(1, m)), shift=np.zeros(1), loss="margin",
        inputs=rng.normal(size=(batch, d)), scale=10 ** rng.uniform(-2, 0),
    )  # fmt: skip
    surface = field.lead(np.zeros((batch, d)))
    ends = newton(surface, climb(surface, outermost(field, surface), 200))
    p = ends.points[:, 0].astype(float)
    radius = field.zone.radius[:, None]
    off = radius * 10 ** rng.uniform(-18, -2, (batch, d)) * rng.choice([-1, 0, 1])
    grazed = rng.random((batch, d)) < 0.5
    upper = np.where(grazed & (p > 0), np.maximum(p + off, 0), 2 * radius)
    lower = np.where(grazed & (p < 0), np.minimum(p + off, 0), -2 * radius)
    if rng.random() < 0.3:  # without the ball
        field = altered(field, zone=Zone(np.full(batch, np.inf), lower, upper))
    else:
        field = altered(field, zone=Zone(radius[:, 0], lower, upper))
    if rng.random() < 0.5:
        return case(rng, field)
    return Case(field, problem_of(field), p, 1e-3)
