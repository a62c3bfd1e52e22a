"""Slices against direct evaluation, and what is projected on them."""

import math

import pytest
import torch

import summiteer as sm
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.landscape import named_points, runs_to

KNOWN = {known.name: known for known in PROBLEMS}


def problem_of(region, batch=2, dim=5, **changes):
    net = sm.TwoLayerNetwork.random(input_dim=dim, width=9, activation="tanh", seed=3)
    generator = torch.Generator().manual_seed(5)
    inputs = torch.rand(batch, dim, generator=generator, dtype=torch.float64)
    targets = torch.linspace(-1, 1, batch, dtype=torch.float64)
    return sm.Problem(net.double(), inputs, targets, sm.Quadratic(), region, **changes)


def points(count, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return {f"point {number}": point for number, point in enumerate(drawn)}


def loss_at(problem, example, point):
    with torch.no_grad():
        output = problem.model((problem.inputs[example] + point)[None])
    return float((output - problem.targets[example]).square() / 2)


@pytest.mark.parametrize("example", [0, 1])
def test_values_are_the_objective_at_the_points(example):
    problem = problem_of(sm.L2Ball(0.5))
    for kind, count in (("line", 2), ("plane", 3), ("circle", 2)):
        chosen = points(count)
        made = sm.slice_through(problem, chosen, kind, example, resolution=7)
        shape = (7, 7) if kind == "plane" else (7,)
        assert made.values.shape == made.inside.shape == shape
        grid = torch.cartesian_prod(*made.coordinates).reshape(-1, len(shape))
        spots = made.points(grid)
        for spot, value, inside in zip(
            spots, made.values.flatten(), made.inside.flatten(), strict=True
        ):
            # The same forward pass in a batch of another size.
            expected = loss_at(problem, example, spot)
            assert float(value) == pytest.approx(expected, rel=1e-12)
            assert bool(inside) == bool(spot.norm() <= 0.5 * (1 + 1e-14))
        if kind == "circle":
            assert torch.allclose(spots.norm(dim=1), torch.tensor(0.5).double())
            assert float(made.values[0]) == pytest.approx(float(made.values[-1]))


def test_axes_by_hand():
    """The first axis goes from the first point to the second, the other across it."""
    problem = problem_of(sm.L2Ball(0.5))
    first, second, third = points(3).values()
    made = sm.slice_through(problem, points(3), resolution=3)
    along = (second - first) / (second - first).norm()
    assert torch.allclose(made.directions[0], along)
    gram = made.directions @ made.directions.T
    assert torch.allclose(gram, torch.eye(2).double(), atol=1e-14)
    marks = {mark.name: mark for mark in made.marks}
    assert marks["point 0"].coordinates.tolist() == [[0.0, 0.0]]
    reach = float((second - first).norm())
    assert marks["point 1"].coordinates[0].tolist() == pytest.approx([reach, 0.0])
    assert float(marks["point 2"].coordinates[0, 1]) > 0
    for name, given in zip(marks, (first, second, third), strict=True):
        mark = marks[name]
        assert float(mark.away) < 1e-14
        assert torch.allclose(made.points(mark.coordinates)[0], given)
        assert float(mark.losses) == pytest.approx(loss_at(problem, 0, given))


@pytest.mark.parametrize("kind", ["line", "plane", "circle"])
def test_projection_is_to_the_nearest_point(kind):
    problem = problem_of(sm.L2Ball(0.5))
    chosen = points(3 if kind == "plane" else 2)
    made = sm.slice_through(problem, chosen, kind, resolution=3)
    others = torch.stack(list(points(6, seed=9).values()))
    coordinates, away = made.project(others)
    there = made.points(coordinates)
    assert torch.allclose((others - there).norm(dim=1), away)
    for shift in (1e-3, -1e-3):
        for axis in range(coordinates.shape[1]):
            moved = coordinates.clone()
            moved[:, axis] += shift
            assert bool(((others - made.points(moved)).norm(dim=1) > away).all())


def test_points_outside_the_box_and_the_mask_are_marked():
    mask = torch.tensor([True, True, True, False, True])
    problem = problem_of(sm.LinfBall(0.4), box=(0.0, 1.0), mask=mask)
    unit = torch.eye(5, dtype=torch.float64)
    chosen = {"centre": 0 * unit[0], "first": unit[0], "held": unit[3]}
    made = sm.slice_through(problem, chosen, resolution=41, margin=0.0)
    first, held = made.coordinates
    x = float(problem.inputs[0, 0])
    for i, a in enumerate(first.tolist()):
        for j, b in enumerate(held.tolist()):
            allowed = b == 0 and a <= min(0.4, 1 - x)
            assert bool(made.inside[i, j]) == allowed
    # The function is there all the same.
    assert bool(made.values.isfinite().all())


@pytest.fixture(scope="module")
def landscape():
    return sm.explore(problem_of(sm.L2Ball(3.0)), restarts=12)


def test_a_landscape_is_sliced_through_its_maxima(landscape):
    for example in range(2):
        paths = runs_to(landscape, example)
        assert len(paths) == min(8, len(landscape.peaks[example]))
        made = sm.landscape_slice(landscape, "plane", example, paths=paths)
        top = next(mark for mark in made.marks if mark.name == "maximum 0")
        peak = landscape.peaks[example][0]
        assert float(top.losses) == pytest.approx(peak.loss)
        assert float(top.away) < 1e-12
        for (name, way), path in zip(paths.items(), made.paths, strict=True):
            run = int(name.removeprefix("run "))
            begin, end = landscape.starts[run, example], landscape.ends[run, example]
            # Made again, from the same start to the same end.
            assert torch.allclose(way[0].double(), begin, atol=1e-6)
            assert torch.allclose(way[-1].double(), end, atol=1e-5)
            lifted = made.points(path.coordinates)
            gap = (way.double() - lifted).norm(dim=1)
            assert torch.allclose(gap, path.away, atol=1e-12)
        low, high = (float(c[0]) for c in made.coordinates)
        # The whole ball is shown.
        assert max(low, high) <= -3.0


def test_the_circle_is_highest_at_the_maximum_on_the_sphere():
    """The geodesic circle through a maximum and any other point peaks there."""
    land = sm.explore(problem_of(sm.Sphere(2.0), batch=1), restarts=12)
    made = sm.landscape_slice(land, "circle", resolution=361)
    (angles,) = made.coordinates
    mark = next(each for each in made.marks if each.name == "maximum 0")
    assert float(mark.coordinates) == pytest.approx(0.0, abs=1e-12)
    near = angles.abs() < 0.1
    assert abs(float(angles[near][made.values[near].argmax()])) <= math.pi / 180
    assert bool(made.inside.all())
    assert mark.losses >= made.values[near].max() - 1e-9


def test_collinear_maxima_leave_room_for_another_direction():
    """±ε·e₁ and the centre lie on one line."""
    land = sm.explore(KNOWN["planted saddle"].problem, restarts=12)
    assert len(land.peaks[0]) == 2
    made = sm.landscape_slice(land)
    assert made.axes == ("from 'centre' to 'maximum 0'", "across it, towards 'random'")
    assert [mark.name for mark in made.marks][-1] == "maximum 1"
    assert float(made.marks[-1].away) < 1e-6


def test_chosen_points(landscape):
    known = named_points(landscape, 0)
    assert {"centre", "gradient", "random", "maximum 0"} <= set(known)
    for name in ("gradient", "random"):
        assert float(known[name].norm()) == pytest.approx(3.0)
    through = ("centre", "gradient", "random")
    made = sm.landscape_slice(landscape, through=through, resolution=3)
    assert made.axes[0] == "from 'centre' to 'gradient'"
    with pytest.raises(UserError, match=r"through: expected names out of centre, .*"):
        sm.landscape_slice(landscape, through=("centre", "summit", "random"))
    for example in (2, "0", True):
        with pytest.raises(UserError, match="example: expected an index below 2"):
            sm.landscape_slice(landscape, "plane", example)


def test_nothing_of_the_callers_changes(landscape):
    problem = problem_of(sm.L2Ball(0.5))
    problem.model.train()
    chosen = points(3)
    before = {name: point.clone() for name, point in chosen.items()}
    sm.slice_through(problem, chosen, resolution=3)
    assert problem.model.training
    assert all(torch.equal(before[name], point) for name, point in chosen.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "cube"}, "kind: expected one of"),
        ({"kind": "line"}, "a line goes through 2 points, got 3"),
        ({"example": 2}, "example: expected an index below 2"),
        ({"resolution": 1}, "resolution: expected an integer ≥ 2"),
        ({"margin": -1.0}, "margin: expected a finite number"),
        ({"marks": {"here": torch.zeros(4)}}, "'here' of shape"),
        ({"paths": {"way": torch.zeros(3, 4)}}, "'way' of shape"),
    ],
)
def test_bad_arguments_are_refused(changes, words):
    problem = problem_of(sm.L2Ball(0.5))
    with pytest.raises(UserError, match=words):
        sm.slice_through(problem, points(3), **changes)


def test_bad_points_are_refused():
    problem = problem_of(sm.L2Ball(0.5))
    line = points(1) | {"twice": 2 * points(1)["point 0"]}
    with pytest.raises(UserError, match="'twice' lies on the line"):
        sm.slice_through(problem, line, "circle")
    broken = points(2) | {"broken": torch.full((5,), math.nan)}
    with pytest.raises(UserError, match="'broken' has NaN"):
        sm.slice_through(problem, broken)
    boxed = problem_of(sm.LinfBall(0.5))
    with pytest.raises(UserError, match="a circle lies on the sphere of an L2"):
        sm.slice_through(boxed, points(2), "circle")
