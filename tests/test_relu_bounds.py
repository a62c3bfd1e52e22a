"""Chord bounds of networks with kinks (mathematics.md §8) against truth."""

import pytest
import torch

import summiteer as sm
from summiteer.optimality.bracket import proved_robust
from summiteer.optimality.chords import chords
from summiteer.optimality.relu_form import Kinked
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of

F64 = torch.float64
REGIONS = (
    sm.L2Ball(0.8),
    sm.LinfBall(0.3),
    sm.Box(-0.2, 0.4),
    sm.Intersection(sm.L2Ball(0.6), sm.Box(-0.4, 0.3)),
    sm.Sphere(0.5),
)
over_regions = pytest.mark.parametrize(
    "region", REGIONS, ids=lambda r: type(r).__name__
)


def case(region, name="relu", dim=2, width=9, objective=None, seed=0, outputs=None):
    """Three examples of a random network with biases."""
    generator = torch.Generator().manual_seed(seed)
    net = sm.TwoLayerNetwork.random(dim, width, name, seed=seed, bias_std=0.5)
    if outputs:
        weights = torch.randn(outputs, width, generator=generator, dtype=F64)
        net = sm.TwoLayerNetwork(
            net.hidden_weights, weights, net.hidden_bias, activation=name
        )
    x = torch.randn(3, dim, generator=generator, dtype=F64)
    labels = torch.tensor([0, 1, 0]) if outputs else torch.tensor([1.0, -1.0, 1.0])
    labels = labels if outputs else labels.double()
    return sm.Problem(net, x, labels, objective or sm.Margin(), region)


def samples(problem, count=4000, seed=1):
    """Objective at points of the region and at its corners' projections `[n, 3]`."""
    generator = torch.Generator().manual_seed(seed)
    size = float(problem.size[0])
    found = []
    with torch.no_grad():
        for _ in range(count // 100):
            for spread in (0.7, 2.0):
                for _ in range(50):
                    step = torch.randn(problem.inputs.shape, generator=generator)
                    points = problem.feasible.project(spread * size * step.double())
                    outputs = problem.model(problem.inputs + points)
                    found.append(problem.objective(outputs, problem.targets))
    return torch.stack(found)


@over_regions
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_no_sample_is_above_the_bound_and_the_bracket_holds_the_truth(region, name):
    for objective in (sm.Margin(), sm.Quadratic(), sm.Logistic()):
        problem = case(region, name, objective=objective)
        highest = samples(problem, 400).amax(0)
        found = sm.upper_bound(problem)
        assert found.reason == ("",) * 3
        assert bool((found.upper >= highest - 1e-12).all())
        assert bool((found.lower <= found.upper).all())


@over_regions
@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy()], ids=str)
def test_bounds_of_several_outputs_are_above_their_samples(region, objective):
    problem = case(region, outputs=3, objective=objective)
    highest = samples(problem, 400).amax(0)
    found = sm.upper_bound(problem)
    assert bool((found.upper >= highest - 1e-12).all())
    assert bool(found.upper.isfinite().all())


@over_regions
def test_a_bound_is_exact_where_f_is_concave(region):
    # Every kink is concave, so that nothing is replaced.
    generator = torch.Generator().manual_seed(2)
    net = sm.TwoLayerNetwork(
        torch.randn(6, 3, generator=generator, dtype=F64),
        -torch.rand(6, generator=generator, dtype=F64),
        torch.randn(6, generator=generator, dtype=F64),
        activation="relu",
    )
    x = torch.randn(2, 3, generator=generator, dtype=F64)
    problem = sm.Problem(net, x, -torch.ones(2, dtype=F64), sm.Margin(), region)
    with torch.no_grad():
        form = scalar_form(problem, torch.zeros_like(x), kinked=True)
        limits = limits_of(problem.feasible, x)
        found = chords(Kinked.of(form.surface), limits)
        value = net(x + found.at)
    if isinstance(region, sm.Sphere):
        assert bool((found.top >= value - 1e-12).all())
    else:
        assert torch.allclose(found.top, value, rtol=0, atol=1e-11)


@over_regions
def test_where_f_reaches_a_value_every_height_is_in_its_interval(region):
    problem = case(region, dim=3, width=12, seed=5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x = problem.inputs
        form = scalar_form(problem, torch.zeros_like(x), kinked=True)
        kinked, limits = Kinked.of(form.surface), limits_of(problem.feasible, x)
        steps = torch.randn(400, *x.shape, generator=generator, dtype=F64)
        points = torch.stack([problem.feasible.project(step) for step in steps])
        values = torch.stack([form.surface.at(p).value.middle for p in points])
        floor = values.quantile(0.9, dim=0)
        found = chords(kinked, limits, floor)
        heights = torch.stack([kinked.heights(p) for p in points])
        high = (values >= floor)[:, :, None]
        assert bool(((heights >= found.lower - 1e-12) | ~high).all())
        assert bool(((heights <= found.upper + 1e-12) | ~high).all())
        # Far above all of F nothing is left, and less is left than of the region.
        whole = chords(kinked, limits)
        assert bool((found.top <= whole.top).all())
        width = (found.upper - found.lower).sum()
        assert float(width) < float((whole.upper - whole.lower).sum())


def test_robustness_is_proved_where_no_sample_fails_and_only_there():
    told = []
    for seed in range(4):
        for region in (sm.L2Ball(0.05), sm.LinfBall(0.02), sm.L2Ball(1.0)):
            problem = case(region, dim=4, width=10, outputs=3, seed=seed)
            robust = proved_robust(problem)
            wrong = (samples(problem, 200) >= 0).any(0)
            assert not bool((robust & wrong).any())
            told += robust.tolist()
    assert any(told)
    assert not all(told)


def test_a_budget_never_raises_a_bound():
    problem = case(sm.L2Ball(0.8))
    before, after = (sm.upper_bound(problem, budget=n).upper for n in (0, 20))
    assert bool((after <= before).all())


def test_stable_networks_are_solved_exactly():
    # No unit changes its side on the region: F is linear, its maximum known.
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(5, 3, generator=generator, dtype=F64)
    output = torch.randn(5, generator=generator, dtype=F64)
    bias = vector = 10.0 * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0], dtype=F64)
    net = sm.TwoLayerNetwork(hidden, output, bias, activation="relu")
    x = torch.zeros(1, 3, dtype=F64)
    slope = ((vector > 0) * output) @ hidden
    base = float(((vector > 0) * output) @ bias)
    for region, rise in (
        (sm.L2Ball(0.5), 0.5 * slope.norm()),
        (sm.LinfBall(0.5), 0.5 * slope.abs().sum()),
    ):
        problem = sm.Problem(net, x, -torch.ones(1, dtype=F64), sm.Margin(), region)
        found = sm.upper_bound(problem)
        assert float(found.upper[0]) == pytest.approx(base + float(rise), abs=1e-12)
        point = problem.feasible.linear_maximiser(slope[None])
        verdict = sm.local_optimality(problem, point).verdict[0]
        assert verdict is sm.Verdict.GLOBAL_MAXIMUM
