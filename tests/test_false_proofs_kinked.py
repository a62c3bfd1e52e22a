"""Proofs that an earlier version gave and that were false, for networks with kinks."""

import math

import pytest
import torch
from torch import nn

import summiteer as sm

F64 = torch.float64


def deep(weights, activation, output):
    """output·activation(weights·x + 10), as a module that has to be traced."""
    inner = nn.Linear(len(weights[0]), len(weights))
    model = nn.Sequential(nn.Identity(), inner, activation, nn.Linear(len(weights), 1))
    model = model.double()
    with torch.no_grad():
        inner.weight.copy_(torch.tensor(weights, dtype=F64))
        inner.bias.fill_(10.0)
        model[3].weight.copy_(torch.tensor([output], dtype=F64))
        model[3].bias.zero_()
    return model


def upwards(model, inputs, region, box=None):
    """The problem whose objective is the model itself."""
    target = -torch.ones(len(inputs), dtype=F64)
    return sm.Problem(model, inputs, target, sm.Margin(), region, box=box)


@pytest.mark.parametrize("slope", [0.1, 0.3])
def test_slopes_are_not_rounded_to_the_default_dtype(slope):
    """F = x₁ + slope·x₂ + const on the ball: its maximiser is the normalised slope."""
    model = deep([[1.0, 0.0], [0.0, 1.0]], nn.LeakyReLU(slope), [1.0, 1.0])
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([10.0, -10.0]))
    truth = torch.tensor([[1.0, slope]], dtype=F64)
    truth = truth / truth.norm()
    # 1e-8 beside it, where float32's slope would have it.
    tangent = torch.tensor([[-slope, 1.0]], dtype=F64)
    point = truth + 1e-8 * tangent / tangent.norm()
    problem = upwards(model, torch.zeros(1, 2, dtype=F64), sm.L2Ball(1.0))
    found = sm.local_optimality(problem, point)
    assert found.evidence[0] is sm.Evidence.PROVED
    assert float(found.distance_bound[0]) >= 1e-8 * (1 - 1e-6)


@pytest.mark.parametrize("cut", [1e-10, 1e-8, 1e-7, 4e-7])
def test_a_corner_outside_the_ball_is_no_maximum(cut):
    model = deep([[1.0, 0.0], [0.0, 1.0]], nn.ReLU(), [1.0, 1.5])
    radius = math.sqrt(0.5) - cut
    problem = upwards(
        model, torch.full((1, 2), 0.5, dtype=F64), sm.L2Ball(radius), (0.0, 1.0)
    )
    beside = math.sqrt(radius**2 - 0.25)
    for point in ([0.5, 0.5], [0.5, beside]):
        found = sm.local_optimality(problem, torch.tensor([point], dtype=F64))
        away = math.hypot(point[0] - beside, point[1] - 0.5)
        if found.maximum[0] and found.evidence[0] is sm.Evidence.PROVED:
            assert float(found.distance_bound[0]) >= away * (1 - 1e-6)


def test_two_maxima_of_a_sphere_are_not_called_one():
    """F = -10|x| - relu(2 - y): strict maxima of the sphere at (0, 1) and (0, -1)."""
    hidden = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], dtype=F64)
    net = sm.TwoLayerNetwork(
        hidden,
        torch.tensor([-10.0, -10.0, -1.0], dtype=F64),
        torch.tensor([0.0, 0.0, 2.0], dtype=F64),
        activation="relu",
    )
    problem = upwards(net, torch.zeros(1, 2, dtype=F64), sm.Sphere(1.0))
    for side in (1.0, -1.0):
        found = sm.local_optimality(problem, torch.tensor([[0.0, side]], dtype=F64))
        # What is shown of the ball's concave part says nothing of a sphere's.
        assert bool(found.uniqueness_radius.isnan().all())


def test_the_edge_of_a_plateau_is_flat_and_no_peak_of_its_kinks():
    """F = -relu(x₁) - relu(x₂) is 0 wherever both are ≤ 0: two kinks meet at 0."""
    net = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64), -torch.ones(2, dtype=F64), activation="relu"
    )
    problem = upwards(net, torch.zeros(1, 2, dtype=F64), sm.L2Ball(1.0))
    found = sm.local_optimality(problem, torch.zeros(1, 2, dtype=F64))
    assert found.evidence[0] is sm.Evidence.PROVED
    assert found.verdict[0] is not sm.Verdict.STRICT_LOCAL_MAXIMUM
