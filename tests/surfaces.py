"""Surfaces and regions with their truth by sampling, for several test files."""

import torch

import summiteer as sm
from fakes import seeded
from summiteer.networks.activations import ACTIVATIONS
from summiteer.optimality.rounding import Enclosure
from summiteer.optimality.stand import limits_of
from summiteer.optimality.surface import Surface

SMOOTH = [name for name, sigma in ACTIVATIONS.items() if sigma.smooth]
REGIONS = ["l2", "linf", "box", "cap"]


def region_of(kind, radius, dim):
    low = -radius * (0.3 + 0.7 * torch.arange(dim).double() / dim)
    box = sm.Box(low, 0.6 * radius * torch.ones(dim).double())
    return {
        "l2": sm.L2Ball(radius),
        "linf": sm.LinfBall(radius),
        "box": box,
        "cap": sm.Intersection(sm.L2Ball(radius), box),
    }[kind]


def samples(region, dim, count, seed=0):
    """Points of a bound region: random ones, and many on its boundary."""
    points = seeded(count, dim, seed=seed)
    size = torch.linspace(0, 3, count).double()[:, None] * float(
        torch.as_tensor(region.size).max()
    )
    return region.project(points / points.norm(dim=1, keepdim=True) * size)


def case(name, kind, dim, width, scale=1.0, radius=1.0, rows=2, seed=0):
    """(surface, limits, region, copy of the region for n points)."""
    net = sm.TwoLayerNetwork(
        scale * seeded(width, dim, seed=seed),
        seeded(width, seed=seed + 1),
        seeded(width, seed=seed + 2),
        activation=name,
    )
    inputs = seeded(rows, dim, seed=seed + 3)
    output = net.output_weights.detach().expand(rows, -1)
    shift = torch.zeros(rows, dtype=torch.float64)
    surface = Surface.of(net, inputs, Enclosure.exact(output), Enclosure.exact(shift))
    region = region_of(kind, radius, dim)
    limits = limits_of(region.bind(inputs), inputs)
    return surface, limits, region


def values(surface, index, points):
    """F of one row at many points, rounded down."""
    inner = surface.centre.middle[index] + points @ surface.hidden.T
    sigma = surface.activation
    return (
        sigma.value(inner) @ surface.output.middle[index]
        + (surface.shift.middle[index])
    )


def truth(surface, limits, region, count=20000):
    """(best sampled value, point) of each row."""
    dim = limits.lower.shape[1]
    points = samples(region.bind(seeded(count, dim)), dim, count)
    best = [values(surface, i, points) for i in range(len(surface))]
    at = torch.stack([points[v.argmax()] for v in best])
    return torch.stack([v.max() for v in best]), at
