"""Piecewise-linear problems as their prover sees them, and brute force near points."""

from itertools import pairwise

import torch
from torch import nn

import summiteer as sm
from fakes import seeded
from summiteer.networks import PiecewiseLinear, as_piecewise_linear
from summiteer.optimality.local_form import LocalForm
from summiteer.optimality.readout import readout
from summiteer.optimality.stand import limits_of

F64 = torch.float64


def perceptron(dims, seed=0, activation=nn.ReLU, gain=1.5):
    """A random network with weights of a seed."""
    layers = []
    for i, (inner, outer) in enumerate(pairwise(dims)):
        layer = nn.Linear(inner, outer, dtype=F64)
        with torch.no_grad():
            layer.weight.copy_(gain * seeded(outer, inner, seed=seed + i) / inner**0.5)
            layer.bias.copy_(0.3 * seeded(outer, seed=seed + i + 50))
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1]).eval()


def linear(weight, bias=None):
    """A layer with these numbers."""
    weight = torch.as_tensor(weight, dtype=F64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return layer


class Kinked(nn.Module):
    """gᵀx + Σ a_j relu(w_jᵀx + h_j): the kinks are where they were planted.

    Args:
        slope: g `[d]`.
        normals: w `[m, d]`.
        heights: h `[m]`.
        weights: a `[m]`.
    """

    def __init__(self, slope, normals, heights, weights):
        super().__init__()
        slope = torch.as_tensor(slope, dtype=F64)
        weights = torch.as_tensor(weights, dtype=F64)
        self.along = linear(slope[None])
        self.inner = linear(normals, torch.as_tensor(heights, dtype=F64))
        self.outer = linear(weights[None])

    def forward(self, x):
        return self.along(x) + self.outer(torch.relu(self.inner(x)))


def ascending(model, inputs, region):
    """The model's own output, maximised: a margin with target -1."""
    targets = torch.full((len(inputs),), -1.0, dtype=inputs.dtype)
    return sm.Problem(model, inputs, targets, sm.Margin(), region)


def local(problem, points):
    """The problem near points `[rows, *input]`."""
    problem = problem.in_double()
    inputs = problem.inputs
    network = as_piecewise_linear(problem.model, tuple(inputs.shape[1:]))
    assert isinstance(network, PiecewiseLinear), network.reason
    with torch.no_grad():
        outputs = network.evaluate(inputs + points).flatten(1)
        form = readout(problem, outputs)
    return LocalForm(network, inputs, form, limits_of(problem.feasible, inputs))


def losses(problem, row, points):
    """The objective of one row at many points `[n, *input]`."""
    index = torch.full((len(points),), row)
    return problem.rows(index).value(points).loss.double()


def near(problem, row, point, radii, count, seed=0):
    """Feasible points of one row about `radii` from a point of its region `[n, d]`.

    Projections onto a convex set bring none further from a point of it.
    """
    region = problem.feasible.take(torch.full((count * len(radii),), row))
    ways = seeded(count * len(radii), point.numel(), seed=seed)
    ways = ways / ways.norm(dim=1, keepdim=True)
    sizes = torch.tensor(list(radii), dtype=F64).repeat_interleave(count)
    moved = point.flatten() + sizes[:, None] * ways
    made = region.project(moved.reshape(-1, *problem.inputs.shape[1:]))
    return made.reshape(len(moved), *problem.inputs.shape[1:])


REGIONS = {
    "ball": sm.L2Ball(0.5),
    "cube": sm.LinfBall(0.4),
    "box": sm.Box(-0.3, 0.45),
    "both": sm.Intersection(sm.L2Ball(0.5), sm.Box(-0.35, 0.4)),
}
