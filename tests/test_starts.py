"""Starts: feasible, of the right law, and the same however examples are batched."""

import pytest
import torch

import summiteer as sm
from fakes import labelled_problem, output_problem, seeded
from summiteer.errors import UserError

REGIONS = {
    "L2": {"region": sm.L2Ball(0.5)},
    "L∞": {"region": sm.LinfBall(0.1)},
    "box": {"region": sm.Box(-0.1, 0.3)},
    "sphere": {"region": sm.Sphere(0.5)},
    "L2 ∩ box": {"region": sm.L2Ball(0.5), "box": (-1.5, 1.5)},
    "per example": {
        "region": sm.L2Ball(torch.linspace(0.1, 0.6, 6, dtype=torch.float64))
    },
}
RANDOM = {
    "uniform": sm.UniformStart(restarts=3, seed=5),
    "boundary": sm.BoundaryStart(restarts=3, seed=5),
}


def make(case="L2", dtype=torch.float64, **changes):
    inputs = (0.4 * seeded(6, 8)).clamp(-1.4, 1.4).to(dtype)
    return output_problem(lambda x: x.sum(1), inputs, **REGIONS[case], **changes)


@pytest.mark.parametrize("case", REGIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", [*RANDOM, "centre", "given"])
def test_starts_are_feasible(name, dtype, case):
    problem = make(case, dtype)
    fixed = {
        "centre": sm.CentreStart(),
        "given": sm.GivenStart(9 * seeded(2, 6, 8, seed=3)),
    }
    points = {**RANDOM, **fixed}[name].points(problem)
    assert points.shape[1:] == problem.inputs.shape
    assert points.dtype == dtype
    for restart in points:
        assert bool(problem.feasible.contains(restart).all())


@pytest.mark.parametrize("case", REGIONS)
@pytest.mark.parametrize("name", RANDOM)
def test_random_starts_depend_on_ids_alone(name, case):
    start, problem = RANDOM[name], make(case, ids=[10, 11, 12, 13, 14, 2**40])
    whole = start.points(problem)
    for order in ([3], [5, 0], [2, 1, 4], [5, 4, 3, 2, 1, 0]):
        part = start.points(problem.take(torch.tensor(order)))
        # Bit by bit: the numbers are named by id, restart and coordinate.
        assert torch.equal(part, whole[:, order])


@pytest.mark.parametrize("name", RANDOM)
def test_fewer_restarts_are_the_first_of_more(name):
    start, problem = RANDOM[name], make()
    few = type(start)(restarts=2, seed=5).points(problem)
    assert torch.equal(few, start.points(problem)[:2])


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize(("first", "restarts"), [(0, 5), (1, 1), (2, 3), (4, 1)])
def test_later_restarts_are_the_last_of_more(name, first, restarts):
    """A search that goes on draws what one long search would have drawn."""
    kind, problem = type(RANDOM[name]), make()
    whole = kind(restarts=first + restarts, seed=5).points(problem)
    late = kind(restarts=restarts, seed=5, first=first).points(problem)
    assert torch.equal(late, whole[first:])


@pytest.mark.parametrize("name", RANDOM)
def test_restarts_examples_seeds_and_kinds_differ(name):
    start, problem = RANDOM[name], make()
    points = start.points(problem)
    runs = torch.cat([points, type(start)(restarts=3, seed=6).points(problem)])
    flat = runs.flatten(0, 1)
    apart = torch.cdist(flat, flat) + torch.eye(len(flat))
    assert float(apart.min()) > 1e-3
    # A uniform and a boundary start with one seed do not share their directions.
    other = next(RANDOM[k] for k in RANDOM if k != name).points(problem)
    cosine = torch.cosine_similarity(points.flatten(0, 1), other.flatten(0, 1))
    assert float(cosine.max()) < 0.999


def test_the_global_generator_is_neither_read_nor_moved():
    problem = make()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = RANDOM["uniform"].points(problem)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(RANDOM["uniform"].points(problem), first)


def test_uniform_points_fill_the_ball():
    inputs = torch.zeros(1, 3, dtype=torch.float64)
    problem = output_problem(lambda x: x.sum(1), inputs, sm.L2Ball(2.0))
    points = sm.UniformStart(restarts=4000).points(problem)[:, 0]
    share = (points.norm(dim=1) / 2.0) ** 3  # uniform on [0, 1] in three dimensions
    # 0.0204 is the 1.29/√n bound of Kolmogorov and Smirnov at level 7 %; seed fixed.
    ordered = share.sort().values
    steps = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert float((ordered - steps).abs().max()) < 0.0204
    # The mean of a coordinate has deviation ε/√(5n) = 0.0141; four of them.
    assert float(points.mean(0).abs().max()) < 4 * 2 / (5 * 4000) ** 0.5


def test_boundary_points_lie_on_the_boundary():
    ball = sm.BoundaryStart(restarts=5).points(make("L2"))
    # Rounding of a normalisation: a few units of 1.1e-16.
    assert float((ball.norm(dim=2) - 0.5).abs().max()) < 1e-15
    vertices = sm.BoundaryStart(restarts=5).points(make("L∞"))
    assert set(vertices.abs().flatten().tolist()) == {0.1}
    assert 0.3 < float((vertices > 0).double().mean()) < 0.7


def test_the_centre_is_zero_and_on_the_sphere_a_point():
    assert not bool(sm.CentreStart().points(make()).any())
    sphere = sm.CentreStart().points(make("sphere"))
    assert sphere.shape[0] == 1
    assert float((sphere.norm(dim=2) - 0.5).abs().max()) < 1e-15


def test_starts_are_joined_in_order():
    problem = make()
    joined = sm.CentreStart() + RANDOM["uniform"] + RANDOM["boundary"]
    points = joined.points(problem)
    assert len(points) == 7
    assert torch.equal(points[:1], sm.CentreStart().points(problem))
    assert torch.equal(points[1:4], RANDOM["uniform"].points(problem))
    assert torch.equal(points[4:], RANDOM["boundary"].points(problem))


def test_given_points_are_projected_example_by_example():
    problem = make("per example")
    given = 0.3 * seeded(2, 6, 8, seed=9)
    points = sm.GivenStart(given).points(problem)
    for restart in range(2):
        alone = problem.feasible.project(given[restart])
        assert torch.equal(points[restart], alone)
    inside = 0.01 * given[0] / given[0].norm(dim=1, keepdim=True)
    assert torch.equal(sm.GivenStart(inside).points(problem)[0], inside)


def test_given_points_of_another_dtype_are_taken():
    problem = make(dtype=torch.float32)
    points = sm.GivenStart(0.01 * seeded(6, 8)).points(problem)
    assert points.dtype == torch.float32


@pytest.mark.parametrize(
    ("make_start", "message"),
    [
        (lambda: sm.UniformStart(restarts=0), r"restarts: expected an integer ≥ 1"),
        (lambda: sm.BoundaryStart(restarts=1.5), r"restarts: .* got 1.5"),
        (lambda: sm.UniformStart(first=-1), r"first: expected an integer ≥ 0"),
        (lambda: sm.BoundaryStart(first=0.5), r"first: .* got 0.5"),
        (lambda: sm.UniformStart(seed=-1), r"seed: expected an integer from 0"),
        (lambda: sm.GivenStart(seeded(5, 8)), r"start: GivenStart needs .* \[5, 8\]"),
        (lambda: sm.GivenStart(seeded(8)), r"start: GivenStart needs a tensor"),
        (
            lambda: sm.GivenStart(torch.full((6, 8), torch.nan)),
            r"start: GivenStart has NaN",
        ),
        (lambda: sm.GivenStart("here"), r"start: GivenStart needs a tensor"),
        (lambda: sm.GivenStart(seeded(0, 6, 8)), r"start: GivenStart needs .* \[0, 6"),
    ],
)
def test_bad_starts_are_refused(make_start, message):
    with pytest.raises(UserError, match=message):
        make_start().points(make())


def test_ascend_uses_five_runs_by_default():
    ascent = sm.ascend(labelled_problem(), max_steps=0)
    assert len(ascent.final) == 5
    assert not bool(ascent.final[0].any())
    assert bool((ascent.final[1:].flatten(2).norm(dim=2) > 0).all())
