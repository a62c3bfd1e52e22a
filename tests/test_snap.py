"""Snapping: to exact vertices, never lower, and certified there."""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import classifier, labelled_problem, output_problem, seeded
from summiteer.errors import UserError


def linear(region, dtype=torch.float64, **changes):
    weights = seeded(6, seed=1, dtype=dtype)
    inputs = 0.3 + 0.1 * seeded(4, 6, seed=2, dtype=dtype).sigmoid()
    return weights, output_problem(lambda x: x @ weights, inputs, region, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_round_maximises_what_is_linear(dtype):
    weights, problem = linear(sm.LinfBall(0.1), dtype)
    snapped = sm.snap(problem, 0.05 * seeded(4, 6, dtype=dtype).tanh())
    limit = torch.tensor(0.1, dtype=dtype)
    # Exactly the limits, not to rounding.
    assert torch.equal(snapped.points, (limit * weights.sign()).expand(4, 6))
    assert snapped.rounds.tolist() == [1] * 4
    # Start, the vertex, and the trial that finds nothing more.
    assert snapped.gradient_evaluations == 3 * 4


def test_the_box_and_the_mask_hold():
    mask = torch.tensor([True, True, True, False, True, True])
    _, problem = linear(sm.LinfBall(0.5), box=(0.0, 1.0), mask=mask)
    snapped = sm.snap(problem, torch.zeros(4, 6, dtype=torch.float64))
    lower, upper = problem.feasible.limits(snapped.points)
    vertex = (snapped.points == lower) | (snapped.points == upper)
    assert bool(vertex.all())
    assert not bool(snapped.points[:, 3].any())


def test_on_a_ball_it_is_the_end_of_the_gradient():
    weights, problem = linear(sm.L2Ball(0.5))
    snapped = sm.snap(problem, torch.zeros(4, 6, dtype=torch.float64))
    end = (0.5 * weights / weights.norm()).expand(4, 6)
    assert torch.allclose(snapped.points, end, atol=1e-15)


@pytest.mark.parametrize("region", [sm.LinfBall(0.3), sm.L2Ball(0.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_objective_is_never_lower(region, dtype):
    problem = labelled_problem(32, region=region, dtype=dtype)
    points = sm.UniformStart(restarts=1, seed=5).points(problem)[0]
    before = problem.rows().value(points).loss
    snapped = sm.snap(problem, points, rounds=3)
    after = problem.rows().value(snapped.points).loss
    # The same numbers from another batch size: last bits.
    unit = 8 * torch.finfo(dtype).eps
    assert bool((after >= before - unit * before.abs()).all())
    assert bool((snapped.rounds <= 3).all())
    moved = (snapped.points != points).flatten(1).any(1)
    assert torch.equal(moved, snapped.rounds > 0)
    assert bool((after > before)[moved].all())
    assert bool(moved.any())
    assert bool(problem.feasible.contains(snapped.points).all())


def test_where_the_vertex_is_lower_the_point_stays():
    problem = output_problem(
        lambda x: -x.square().sum(1), torch.zeros(2, 3).double(), sm.LinfBall(0.5)
    )
    points = 0.1 * seeded(2, 3)
    snapped = sm.snap(problem, points)
    # From p the model points beyond 0, to a vertex that is lower.
    assert torch.equal(snapped.points, points)
    assert snapped.rounds.tolist() == [0, 0]
    centre = sm.snap(problem, torch.zeros(2, 3, dtype=torch.float64))
    assert not bool(centre.points.any())


def test_a_plateau_has_no_vertex():
    problem = output_problem(
        lambda x: x.sum(1) * 0 + 1, torch.zeros(2, 3).double(), sm.LinfBall(0.5)
    )
    points = 0.1 * seeded(2, 3)
    assert torch.equal(sm.snap(problem, points).points, points)


def test_points_short_of_their_vertex_become_proved_maxima():
    """An attack whose steps do not divide the radius, on a ReLU network."""
    net = classifier((8, 16, 3), seed=6)
    net[1] = nn.ReLU()
    problem = labelled_problem(
        24, model=net, region=sm.LinfBall(0.1), objective=sm.Margin()
    )
    ascent = sm.ascend(
        problem,
        sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.03)),
        sm.UniformStart(restarts=1),
        3,
        tolerance=None,
    )
    snapped = sm.snap(problem, ascent.final[0])

    def maxima(points):
        cert = sm.local_optimality(problem, points)
        return sum(
            verdict in (sm.Verdict.STRICT_LOCAL_MAXIMUM, sm.Verdict.GLOBAL_MAXIMUM)
            and evidence is sm.Evidence.PROVED
            for verdict, evidence in zip(cert.verdict, cert.evidence, strict=True)
        )

    before, after = maxima(ascent.final[0]), maxima(snapped.points)
    # All of them were short of every vertex that is a maximum.
    assert before == 0
    assert after >= 18


def test_bad_arguments_are_refused():
    _, problem = linear(sm.LinfBall(0.1))
    with pytest.raises(UserError, match="rounds: expected an integer ≥ 1"):
        sm.snap(problem, torch.zeros(4, 6), rounds=0)
    with pytest.raises(UserError, match="GivenStart needs a tensor of perturbations"):
        sm.snap(problem, torch.zeros(4, 5))
