"""Prop. 2: projected gradient ascent is never slower than the rate that is proved."""

import math

import pytest
import torch

import summiteer as sm
from fakes import seeded
from summiteer.optimality.rate import contraction, steps_to
from summiteer.optimality.scalar_form import scalar_form

F64 = torch.float64
#: Below this distance, in radii, a step is rounding.
RESOLVED = 1e-10
#: So small that μ exceeds twice the curvature.
RADIUS = 0.05


def problem_of(activation, region, batch=4):
    net = sm.TwoLayerNetwork.random(5, 30, activation, bias_std=1.0, seed=7)
    # Far below every output: f itself is ascended.
    targets = torch.full((batch,), -50.0, dtype=F64)
    return sm.Problem(net, seeded(batch, 5, seed=1), targets, sm.Quadratic(), region)


def climbed(surface, points, radius, step):
    """One step of projected gradient ascent on F."""
    gradient, _ = surface.slope(points)
    moved = points + step * gradient
    norm = moved.norm(dim=1, keepdim=True)
    return torch.where(norm > radius, moved * (radius / norm), moved)


@pytest.mark.parametrize("activation", ["softplus", "tanh", "sin", "gelu"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.02])
def test_no_step_is_slower_than_the_rate(activation, share):
    """Every start, every step of η ≤ 2/L: the ratio of distances is at most ρ."""
    radius, batch = RADIUS, 4
    problem = problem_of(activation, sm.L2Ball(radius), batch)
    ascent = sm.ascend(problem, start=sm.CentreStart(), max_steps=3000)
    best = sm.polish(problem, ascent.final[0])
    certificate = sm.local_optimality(problem, best)
    step = share * 2 / certificate.lipschitz
    rate = certificate.rate_of(step)
    known = (~rate.isnan()).nonzero().flatten()
    assert len(known) >= 2
    form = scalar_form(problem, best)
    for seed in range(5):
        points = seeded(batch, 5, seed=seed)
        length = radius * (1.0 if seed % 2 else 0.3)
        points = length * points / points.norm(dim=1, keepdim=True)
        distance = (points - best).norm(dim=1)
        for _ in range(40):
            points = climbed(form.surface, points, radius, step[:, None])
            nearer = (points - best).norm(dim=1)
            # A float step is off by rounding of δ, and so is the maximiser.
            allowed = rate * distance + 1e-14 * radius
            going = distance > RESOLVED * radius
            assert bool((nearer <= allowed)[known][going[known]].all())
            distance = nearer


@pytest.mark.parametrize("activation", ["softplus", "tanh"])
def test_so_many_steps_are_enough(activation):
    radius, tolerance = RADIUS, 1e-6
    problem = problem_of(activation, sm.L2Ball(radius))
    best = sm.polish(problem, sm.ascend(problem, max_steps=3000).best)
    certificate = sm.local_optimality(problem, best)
    needed = certificate.steps_to(tolerance)
    assert bool((needed == steps_to(tolerance, certificate.rate)).all())
    assert not bool(needed.isnan().any())
    assert bool((needed == needed.ceil()).all())
    surface = scalar_form(problem, best).surface
    # The opposite point is as far from the maximiser as any.
    points, step = -best, (2 / certificate.lipschitz)[:, None]
    for _ in range(int(needed.max())):
        points = climbed(surface, points, radius, step)
    assert float((points - best).norm(dim=1).max()) <= tolerance * radius


def test_the_rate_is_the_formula_rounded_up():
    step = torch.tensor([0.5, 1.0, 1e-9, 2.0], dtype=F64)
    multiplier = torch.tensor([4.0, 1.0, 3.0, 1e-3], dtype=F64)
    majorant = torch.tensor([1.0, 0.1, 1.4, 0.0], dtype=F64)
    exact = (1 + step * majorant) / (1 + step * multiplier / 2)
    found = contraction(step, multiplier, majorant)
    assert bool((found >= exact).all())
    assert bool((found <= exact * (1 + 1e-14)).all())
    assert bool((found < 1).all())


def test_without_a_margin_there_is_no_rate():
    one = torch.ones(5, dtype=F64)
    multiplier = torch.tensor([2.0, 1.9, -1.0, math.nan, 2.0 + 1e-15], dtype=F64)
    assert bool(contraction(one, multiplier, one).isnan().all())
    # η = 0 goes nowhere.
    assert bool(contraction(0 * one, 4 * one, one).isnan().all())
    problem = problem_of("sin", sm.L2Ball(3.0))
    certificate = sm.local_optimality(problem, torch.zeros_like(problem.inputs))
    assert bool(certificate.rate.isnan().all())
    assert bool(certificate.steps_to(1e-3).isnan().all())


def test_steps_that_are_too_long_have_no_rate():
    problem = problem_of("softplus", sm.L2Ball(RADIUS))
    best = sm.polish(problem, sm.ascend(problem, max_steps=3000).best)
    certificate = sm.local_optimality(problem, best)
    limit = 2 / certificate.lipschitz
    assert not bool(certificate.rate_of(0.999 * limit).isnan().any())
    assert bool(certificate.rate_of(1.001 * limit).isnan().all())
    assert bool(certificate.rate_of(0.0).isnan().all())
    assert bool(certificate.rate_of(-limit).isnan().all())


def test_steps_are_counted_upwards():
    rate = torch.tensor([0.5, 0.9, 1 - 1e-12, math.nan], dtype=F64)
    found = steps_to(0.6, rate)
    assert found[0] == 2  # 2·½² < 0.6 < 2·½, in radii
    assert found[1] == math.ceil(math.log(2 / 0.6) / -math.log(0.9))
    # 1 - 1e-12 is a float to four digits of the difference.
    assert float(found[2]) == pytest.approx(math.log(2 / 0.6) * 1e12, rel=1e-4)
    assert bool(found[3].isnan())
    # One step less leaves more than the tolerance.
    for count, ratio in zip(found[:2].tolist(), rate[:2].tolist(), strict=True):
        assert 2 * ratio**count <= 0.6 < 2 * ratio ** (count - 1)
