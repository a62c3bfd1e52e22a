"""Random networks, regions and points, for `families.py`.

The arrays are drawn here; the package gets copies of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import summiteer as sm
from soundness.climb import climb, newton
from soundness.field import LONG, Field, Zone
from soundness.sigma import SIGMA

Array = NDArray[Any]
Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class Case:
    """One batch that `local_optimality` is asked about.

    Attributes:
        field: truth.
        problem: what the package sees.
        points: `[batch, d]` given.
        within: search distance in radii.
    """

    field: Field
    problem: sm.Problem
    points: Array
    within: float


LOSSES = {
    "quadratic": sm.Quadratic,
    "logistic": sm.Logistic,
    "margin": sm.Margin,
    "entropy": sm.CrossEntropy,
}


def draw_field(
    rng: Random,
    batch: int = 24,
    dims: tuple[int, int] = (1, 4),
    widths: tuple[int, int] = (1, 8),
    **fixed: Any,
) -> Field:
    """A random field; `fixed` overrides attributes of `Field` by name.

    Args:
        rng: random numbers.
        batch: examples.
        dims: range of d, ends included.
        widths: range of m.
        **fixed: attributes; `region` names the kind of region, `scale` its size.
    """
    d, m = (
        int(rng.integers(dims[0], dims[1] + 1)),
        int(rng.integers(widths[0], widths[1] + 1)),
    )
    loss = fixed.get("loss") or str(rng.choice(list(LOSSES)))
    outputs = {"entropy": 2, "margin": int(rng.choice([1, 1, 2, 3]))}.get(loss, 1)
    hidden = rng.normal(size=(m, d)) * 10 ** rng.uniform(-1, 0.6)
    bias = rng.normal(size=m) * rng.choice([0.0, 1.0])
    inputs = rng.normal(size=(batch, d)) * 10 ** rng.uniform(-1, 0.5)
    arrays = {
        "hidden": hidden,
        "bias": bias,
        "output": rng.normal(size=(outputs, m)) / m**0.5,
        "shift": rng.normal(size=outputs) * rng.choice([0.0, 0.3]),
        "inputs": inputs,
    }
    arrays.update({k: v for k, v in fixed.items() if k in arrays})
    batch, d = arrays["inputs"].shape
    if loss == "quadratic":
        targets = rng.normal(size=batch) * 10 ** rng.uniform(-1, 1)
    elif len(arrays["output"]) > 1:
        targets = rng.integers(0, len(arrays["output"]), batch).astype(float)
    else:
        targets = rng.choice([-1.0, 1.0], batch)
    scale = fixed.get("scale", 10 ** rng.uniform(-2, 0.5))
    zone = draw_zone(rng, arrays["inputs"], scale, fixed.get("region"))
    return Field(
        activation=fixed.get("activation") or str(rng.choice(list(SIGMA))),
        targets=fixed.get("targets", targets),
        loss=loss,
        zone=zone,
        **arrays,
    )


def draw_zone(rng: Random, inputs: Array, scale: float, kind: str | None) -> Zone:
    """A region around each input: ball, sphere, L∞ ball, box or ball ∩ box."""
    batch, d = inputs.shape
    names = ["ball", "ball", "ball", "sphere", "linf", "box", "both"]
    kind = kind or str(rng.choice(names))
    radius = scale * (
        rng.uniform(0.3, 1.7, batch) if rng.random() < 0.5 else np.ones(batch)
    )
    nothing = np.full((batch, d), np.inf)
    if kind in ("ball", "sphere"):
        return Zone(radius, -nothing, nothing, kind == "sphere")
    if kind == "linf":
        wide = np.broadcast_to(radius[:, None], (batch, d))
        return Zone(nothing[:, 0], -wide, wide)
    low = -scale * rng.uniform(0, 1, (batch, d)) * (rng.random((batch, d)) < 0.9)
    high = scale * rng.uniform(0, 1, (batch, d))
    if kind == "box":
        return Zone(nothing[:, 0], low, high)
    return Zone(radius, low, high)


def problem_of(field: Field, dtype: torch.dtype = torch.float64) -> sm.Problem:
    """The package's problem of a field."""

    def tensor(array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array, float)).to(dtype)

    scalar = len(field.output) == 1
    network = sm.TwoLayerNetwork(
        tensor(field.hidden),
        tensor(field.output[0] if scalar else field.output),
        tensor(field.bias),
        tensor(field.shift[0] if scalar else field.shift),
        activation=field.activation,
    )
    zone = field.zone
    region: sm.regions.Region
    if zone.boxed:
        region = sm.Box(tensor(zone.lower), tensor(zone.upper))
        same = bool((zone.upper == zone.upper[:, :1]).all())
        if not zone.round and same and bool((zone.lower == -zone.upper).all()):
            region = sm.LinfBall(tensor(zone.upper[:, 0]))
        if zone.round:
            region = sm.regions.Intersection(sm.L2Ball(tensor(zone.radius)), region)
    else:
        region = (sm.Sphere if zone.sphere else sm.L2Ball)(tensor(zone.radius))
    labels = tensor(field.targets)
    if not scalar:
        labels = labels.long()
    return sm.Problem(
        network, tensor(field.inputs), labels, LOSSES[field.loss](), region
    )


def draw_points(rng: Random, field: Field, within: float) -> Array:
    """Points of every kind, in float64: one per example."""
    zone, (batch, d) = field.zone, field.inputs.shape
    start = zone.project(rng.normal(size=(batch, 1, d)) * zone.width[:, None, None])
    surface = field.lead(start[:, 0])
    rising = rng.random() < 0.85
    if not rising:
        surface = type(surface)(field, -surface.output, -surface.shift)
    ends = climb(surface, start, int(rng.choice([30, 200])))
    found = newton(surface, ends)
    near = found.points[:, 0].astype(float)
    if rng.random() < 0.15:
        near = newton(surface, start).points[:, 0].astype(float)  # any critical point
    size = zone.width[:, None] * 10 ** rng.uniform(-17, -2, (batch, 1))
    size = np.minimum(size, 0.7 * within * zone.width[:, None])
    kind = rng.integers(0, 12, (batch, 1))
    way = rng.normal(size=(batch, d))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    other = start[:, 0].astype(float)
    points = np.where(kind <= 3, near, near + size * way)
    points = np.where(kind == 8, other, points)
    points = np.where(kind == 9, np.where(rng.random() < 0.3, 0.0, near), points)
    ulps = 1 + rng.integers(-4, 5, (batch, 1)) * 2.0**-53
    points = np.where(kind == 10, near * ulps, points)
    outside = near * (1 + 10 ** rng.uniform(-6, 0, (batch, 1)))
    points = np.where((kind == 11) & (rng.random() < 0.5), outside, points)
    inside = (kind != 11) & (kind != 10) & (rng.random((batch, 1)) < 0.7)
    clipped = zone.project(points[:, None].astype(LONG))[:, 0].astype(float)
    return np.nan_to_num(np.where(inside, clipped, points), nan=0.0)


def draw_within(rng: Random) -> float:
    """The default most of the time."""
    return float(rng.choice([1e-3, 1e-3, 1e-2, 0.1, 0.5, 1e-6]))


def case(rng: Random, field: Field, dtype: torch.dtype = torch.float64) -> Case:
    """A case with points of every kind."""
    within = draw_within(rng)
    points = draw_points(rng, field, within)
    return Case(field, problem_of(field, dtype), points, within)


def outermost(field: Field, surface: Any) -> Array:
    """Where the gradient at the centre points `[batch, 1, d]`."""
    """Return the region's furthest points in the direction of the gradient at 0."""
    gradient = surface.look(np.zeros((len(field), 1, field.inputs.shape[1])))[1]
    return field.zone.project(1e6 * gradient)


def balls(field: Field, radius: Array) -> Zone:
    """Balls of other radii."""
    """Return the zone of the field with other radii."""
    return Zone(radius, field.zone.lower, field.zone.upper)


def altered(field: Field, **changes: Any) -> Field:
    """The field with other attributes."""
    """Return the field with some of its parts replaced."""
    values = {k: changes.get(k, getattr(field, k)) for k in field.__dataclass_fields__}
    return Field(**values)
