"""Polishing at once, and what certificates share: nothing is lost on the way."""

from unittest.mock import patch

import pytest
import torch

import summiteer as sm
from fakes import seeded
from summiteer.optimality import spectrum, summit
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.surface import Place

F64 = torch.float64
BATCH, DIM, WIDTH, RADIUS = 12, 8, 40, 0.5


def problem_of(activation, dtype=F64, classes=None):
    network = sm.TwoLayerNetwork.random(
        DIM, WIDTH, activation, weight_std=0.5, bias_std=0.3, seed=1, dtype=dtype
    )
    targets, objective = seeded(BATCH, seed=2).sign().to(dtype), sm.Quadratic()
    if classes:
        output = seeded(classes, WIDTH, seed=3).to(dtype) / WIDTH**0.5
        hidden, bias = network.hidden_weights, network.hidden_bias
        network = sm.TwoLayerNetwork(hidden, output, bias, activation=activation)
        targets, objective = torch.arange(BATCH) % classes, sm.Margin()
    inputs = seeded(BATCH, DIM, seed=4).to(dtype)
    return sm.Problem(network, inputs, targets, objective, sm.L2Ball(RADIUS))


def ends(problem, steps):
    return sm.ascend(problem, start=sm.CentreStart(), max_steps=steps).best


def no_ascent(*given, **named):
    raise AssertionError("not at once")


@pytest.mark.parametrize("activation", ["softplus", "tanh"])
@pytest.mark.parametrize("classes", [None, 3])
def test_ends_of_a_float32_ascent_are_polished_at_once(activation, classes):
    problem = problem_of(activation, torch.float32, classes)
    given = ends(problem, 1000)
    # Some stick out of the ball by a rounding, where the loss is higher.
    assert float(given.double().norm(dim=1).max()) > RADIUS
    with patch.object(summit, "ascend", no_ascent):
        polished = sm.polish(problem, given)
    found = sm.local_optimality(problem, polished)
    assert bool(found.maximum.all())
    assert set(found.evidence) == {sm.Evidence.PROVED}
    assert float(found.distance_bound.max()) <= 1e-11 * RADIUS


def test_points_far_from_any_maximum_are_climbed_from():
    problem = problem_of("softplus")
    given = torch.zeros(BATCH, DIM, dtype=F64)
    refused = pytest.raises(AssertionError, match="not at once")
    with refused, patch.object(summit, "ascend", no_ascent):
        sm.polish(problem, given)
    polished = sm.polish(problem, given)
    value = problem.rows().value
    assert bool((value(polished).loss >= value(given).loss).all())
    assert bool(sm.local_optimality(problem, polished).maximum.all())


def test_a_saddle_is_no_maximum_next_to_a_point():
    """Beside ε·e₂ of ½Σ λ_i δ_i², λ = 3, 2, 1, uphill is towards e₁."""
    network = sm.TwoLayerNetwork(
        torch.eye(3, dtype=F64),
        torch.tensor([3.0, 2.0, 1.0], dtype=F64),
        activation="quadratic",
    )
    zero, target = torch.zeros(1, 3, dtype=F64), torch.full((1,), -1.0, dtype=F64)
    problem = sm.Problem(network, zero, target, sm.Quadratic(), sm.L2Ball(RADIUS))
    point = torch.tensor([[1e-3, 1.0, 1e-3]], dtype=F64)
    polished = sm.polish(problem, RADIUS * point / point.norm())
    peak = torch.tensor([[RADIUS, 0.0, 0.0]], dtype=F64)
    assert torch.allclose(polished, peak, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("classes", [None, 3])
def test_kinked_networks_are_polished_to_proved_maxima(activation, classes):
    problem = problem_of(activation, classes=classes)
    given = ends(problem, 200)
    polished = sm.polish(problem, given)
    value = problem.rows().value
    assert bool((value(polished).loss >= value(given).loss - 1e-12).all())
    found = sm.local_optimality(problem, polished)
    assert bool(found.maximum.all())
    assert set(found.evidence) == {sm.Evidence.PROVED}


@pytest.mark.parametrize("classes", [None, 3])
def test_surfaces_at_one_place_share_what_they_have_in_common(classes):
    problem = problem_of("softplus", classes=classes)
    points = 0.1 * seeded(BATCH, DIM, seed=5)
    form = scalar_form(problem, points)
    place = form.surface.at(points)
    assert isinstance(place, Place)
    for other in (*form.rivals, *form.gaps):
        shared, alone = place.on(other), other.at(points)
        for name in ("value", "gradient", "bend"):
            mine, theirs = getattr(shared, name), getattr(alone, name)
            assert torch.equal(mine.middle, theirs.middle)
            assert torch.equal(mine.radius, theirs.radius)
    heights = form.heights(points)
    for row, surface in zip(heights, (form.surface, *form.rivals), strict=True):
        value = surface.at(points).value.middle
        assert torch.allclose(row, value, rtol=0, atol=1e-13)


def test_curvature_is_measured_when_it_is_asked_for():
    problem = problem_of("softplus")
    points = sm.polish(problem, ends(problem, 1000))

    with patch.object(spectrum, "on_face", wraps=spectrum.on_face) as measured:
        found = sm.local_optimality(problem, points)
        assert not measured.called
        ratio = found.curvature_ratio
        assert measured.call_count == 1
        assert found.curvature_ratio is ratio
    assert bool(((ratio > -5) & (ratio < 1)).all())
