"""What `explore` proves, against dense truth in two dimensions.

On a disc every local maximum of ½u² can be found by brute force: on the circle, on a
fine grid of angles, where the slope points outwards; inside, on a fine grid of points.
"""

import math
from functools import cache

import pytest
import torch

import summiteer as sm
from summiteer.landscape.separation import Separation

ANGLES, GRID = 40_000, 401
#: Grid maxima of the circle are this near to the truth, in radii; two true maxima
#: that are not further apart would be counted as one by the grid too.
NEAR = 2 * 2 * math.pi / ANGLES
SCALES = (0.3, 1.0, 10.0)


def network(activation, seed):
    return sm.TwoLayerNetwork.random(
        input_dim=2, width=12, activation=activation, seed=seed
    ).double()


def problem_of(activation, seed, scale, sphere=False):
    generator = torch.Generator().manual_seed(100 + seed)
    inputs = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.tensor([1.0, -1.0, 0.2], dtype=torch.float64)
    region = (sm.Sphere if sphere else sm.L2Ball)(0.5 * scale)
    model = network(activation, seed)
    return sm.Problem(model, inputs, targets, sm.Quadratic(), region)


def loss_at(problem, example, points):
    with torch.no_grad():
        outputs = problem.model(problem.inputs[example] + points)
    return (outputs - problem.targets[example]).square() / 2


def on_the_circle(problem, example, outwards):
    radius = float(problem.size[example])
    angle = torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES)
    points = radius * torch.stack([angle.cos(), angle.sin()], 1)
    loss = loss_at(problem, example, points)
    peak = (loss > loss.roll(1)) & (loss >= loss.roll(-1))
    if outwards:
        moved = points.clone().requires_grad_()
        output = problem.model(problem.inputs[example] + moved)
        value = (output - problem.targets[example]).square().sum() / 2
        (slope,) = torch.autograd.grad(value, moved)
        peak = peak & ((slope * points).sum(1) > 0)
    return points[peak]


def inside_the_disc(problem, example):
    radius = float(problem.size[example])
    tick = torch.linspace(-radius, radius, GRID, dtype=torch.float64)
    points = torch.cartesian_prod(tick, tick)
    loss = loss_at(problem, example, points).reshape(GRID, GRID)
    peak = torch.ones(GRID - 2, GRID - 2, dtype=torch.bool)
    middle = loss[1:-1, 1:-1]
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            if (down, right) != (1, 1):
                around = loss[down : GRID - 2 + down, right : GRID - 2 + right]
                peak &= middle > around
    found = points.reshape(GRID, GRID, 2)[1:-1, 1:-1][peak]
    return found[found.norm(dim=1) < radius * (1 - 4 / GRID)]


def true_maxima(problem, example, sphere):
    if sphere:
        return on_the_circle(problem, example, outwards=False)
    ring = on_the_circle(problem, example, outwards=True)
    return torch.cat([ring, inside_the_disc(problem, example)])


@cache
def explored(activation, seed, scale, sphere=False):
    problem = problem_of(activation, seed, scale, sphere)
    return problem, sm.explore(problem, restarts=12, seed=seed)


@pytest.mark.parametrize("sphere", [False, True], ids=["disc", "circle"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_what_is_proved_holds_on_a_dense_grid(activation, scale, sphere):
    for seed in range(2):
        problem, land = explored(activation, seed, scale, sphere)
        separation = Separation.of(land.ends, land.certificate)
        for example in range(len(problem)):
            truth = true_maxima(problem, example, sphere)
            size = float(problem.size[example])
            ends = land.ends[:, example]
            met = land.maxima.label[:, example] >= 0
            apart = torch.cdist(ends, truth) / size
            # Inside the disc the grid is coarser.
            spacing = max(NEAR, 4 / GRID)
            assert bool((apart[met].amin(1) < spacing).all())
            nearest = apart.argmin(1)
            alike = nearest[:, None] == nearest
            same, other = separation.same[example], separation.different[example]
            assert bool(alike[same].all())
            assert not bool(alike[other].any())
            assert land.at_least[example] <= len(truth) <= land.at_most[example]
            if bool(land.complete[example]):
                assert len(truth) == land.at_least[example]
            # Groups are true maxima, one each.
            label = land.maxima.label[met, example]
            together = label[:, None] == label
            assert torch.equal(together, alike[met][:, met])
            assert int(land.count[example]) == len(nearest[met].unique())


def test_the_truth_is_not_trivial():
    """Several maxima, proofs of both kinds, and landscapes that are all known."""
    counts, complete, same, different = [], 0, 0, 0
    for scale in SCALES:
        problem, land = explored("tanh", 0, scale)
        separation = Separation.of(land.ends, land.certificate)
        truths = [len(true_maxima(problem, e, sphere=False)) for e in range(3)]
        counts += truths
        complete += int(land.complete.sum())
        same += int(separation.same.sum())
        different += int(separation.different.sum())
    assert max(counts) >= 3
    assert complete >= 2
    assert min(same, different) > 50
