"""Props. 10 and 11 against brute force: what is proved near a point is so (§9)."""

import math

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import derivatives, seeded
from kinked import (
    F64,
    REGIONS,
    Kinked,
    ascending,
    linear,
    local,
    losses,
    near,
    perceptron,
)
from summiteer.optimality.local_maximum import certified, raised, softmax_bend, summit
from summiteer.optimality.pieces import Enclosure
from summiteer.optimality.stand import faces, stand

RADIUS, ROWS = 0.5, 48


def standing_at(form, points, snap=1e-9):
    """The face that the points lie on, by the gradient there."""
    zero = torch.zeros(len(points), dtype=F64)
    gradient = form.around(points, zero).whole.gradient.middle
    room = torch.full((len(points),), snap, dtype=F64)
    free, curved = faces(form.limits, points, gradient, 0 * points, room)
    return stand(form.limits, points, free, curved)


def piece_maxima(problem, points, steps=30):
    """Maximisers of one affine piece after the other: where they stay, or not."""
    for _ in range(steps):
        gradient = problem.rows().evaluate(points).gradient
        points = problem.feasible.linear_maximiser(gradient)
    return points


@pytest.mark.parametrize("name", REGIONS)
def test_the_maximiser_of_a_linear_function_is_proved_on_all_of_the_region(name):
    slope = seeded(1, 4, seed=1)
    problem = ascending(linear(slope), torch.zeros(5, 4, dtype=F64), REGIONS[name])
    points = problem.feasible.linear_maximiser(slope.expand(5, -1))
    form = local(problem, points)
    standing = standing_at(form, points)
    found = certified(form.around(points, torch.full((5,), 0.3, dtype=F64)), standing)
    assert bool(found.proved.all())
    small = form.around(points, torch.full((5,), 1e-3, dtype=F64))
    assert bool(certified(small, standing).strict.all())
    assert bool((found.gain <= 1e-14).all())
    assert bool((found.distance <= 1e-14).all())
    assert bool((found.radius <= 0.3).all() & (found.radius > 0.299).all())
    if name == "ball":
        true = float(slope.norm()) / RADIUS
        assert torch.allclose(
            found.margin, torch.full((5,), true, dtype=F64), rtol=1e-9
        )
    if name in ("cube", "box"):
        least = float(slope.abs().min())
        assert torch.allclose(found.margin, torch.full((5,), least, dtype=F64))


@pytest.mark.parametrize("angle", [1e-8, 1e-4, 1e-2])
def test_beside_the_maximiser_the_distance_is_that_to_it(angle):
    """On a circle, turned by θ: 2ε·sin(θ/2) away, and the bound is 2ε·tan θ."""
    slope = torch.tensor([[1.0, 0.0]], dtype=F64)
    problem = ascending(linear(slope), torch.zeros(1, 2, dtype=F64), sm.L2Ball(RADIUS))
    way = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=F64)
    points = RADIUS * way
    form = local(problem, points)
    found = certified(
        form.around(points, torch.full((1,), 0.3, dtype=F64)), standing_at(form, points)
    )
    true = 2 * RADIUS * math.sin(angle / 2)
    assert true <= float(found.distance) <= 2.01 * true + 1e-14
    rise = RADIUS * (1 - math.cos(angle))
    assert rise <= float(found.gain) + 1e-17
    assert float(found.gain) <= 1.01 * rise + 1e-14
    # N must hold the maximiser.
    small = form.around(points, torch.full((1,), true, dtype=F64))
    assert not bool(certified(small, standing_at(form, points)).proved)


@pytest.mark.parametrize("gap", [1e-12, 1e-6, 1e-3])
def test_a_relaxation_that_is_higher_by_a_gap_leaves_room_for_it(gap):
    """F ≤ pᵀq·μ + Γ: a maximiser of such an F may be anywhere within √(2Γ/μ)."""
    point = torch.tensor([[RADIUS, 0.0]], dtype=F64)
    slope = 2.0 * point
    problem = ascending(linear(slope), torch.zeros(1, 2, dtype=F64), sm.L2Ball(RADIUS))
    form = local(problem, point)
    patch = form.around(point, torch.full((1,), 0.2, dtype=F64))
    found = summit(
        patch,
        standing_at(form, point),
        patch.whole.gradient,
        torch.tensor([gap], dtype=F64),
    )
    true = math.sqrt(gap)  # μ = 2
    assert true <= float(found.distance) <= 1.01 * true
    assert gap <= float(found.gain) <= 1.01 * gap
    vertex = ascending(
        linear([[1.0, 3.0]]), torch.zeros(1, 2, dtype=F64), sm.LinfBall(0.5)
    )
    corner = torch.full((1, 2), 0.5, dtype=F64)
    form = local(vertex, corner)
    patch = form.around(corner, torch.full((1,), 0.2, dtype=F64))
    found = summit(
        patch,
        standing_at(form, corner),
        patch.whole.gradient,
        torch.tensor([gap], dtype=F64),
    )
    assert gap <= float(found.distance) <= 1.01 * gap
    assert found.strict.tolist() == [False]


CASES = {
    "margin": (sm.Margin(), (3, 8, 6, 1), nn.ReLU),
    "leaky": (sm.Margin(), (2, 8, 6, 1), lambda: nn.LeakyReLU(0.1)),
    "quadratic": (sm.Quadratic(), (3, 8, 6, 1), nn.ReLU),
    "logistic": (sm.Logistic(), (2, 8, 6, 1), nn.ReLU),
    "classes": (sm.Margin(), (3, 8, 6, 3), nn.ReLU),
    "entropy": (sm.CrossEntropy(), (3, 8, 6, 3), nn.ReLU),
}


def random_problem(kind, region, rows=ROWS, seed=3):
    objective, dims, activation = CASES[kind]
    model = perceptron(dims, seed=seed, activation=activation)
    inputs = seeded(rows, dims[0], seed=seed + 4)
    targets = torch.where(seeded(rows, seed=seed + 5) > 0, 1.0, -1.0).double()
    if dims[-1] > 1:
        with torch.no_grad():
            targets = model(inputs).argmax(1)
    return sm.Problem(model, inputs, targets, objective, region)


def real_point(standing, row):
    """The point that is certified, to rounding: on the sphere if the ball is active."""
    point, free = standing.points[row], standing.free[row]
    if not bool(standing.curved[row]):
        return point
    scale = standing.radius.middle[row] / (point * free).norm()
    return torch.where(free, scale * point, point)


def check_by_force(problem, form, standing, found, count=150):
    """Every proof against points near it, at eight scales; how many were checked."""
    link = form.readout.link
    for row in found.proved.nonzero().flatten().tolist():
        point, radius = real_point(standing, row), float(found.radius[row])
        scales = [s for s in torch.logspace(-8, 0, 8).tolist() if s < radius]
        seen = near(problem, row, point, [*scales, 0.99 * radius], count, seed=row)
        apart = (seen - point).norm(dim=1)
        within = apart <= radius
        here = losses(problem, row, point[None])
        values = losses(problem, row, seen)
        # Four layers of sums; 8e-15 was seen where exact arithmetic says -1e-16.
        noise = 1e-14 * (1 + float(here.abs()))
        patch = form.take(torch.tensor([row])).around(
            point[None], torch.zeros(1).double()
        )
        rise = link.rise(patch.value.lower, patch.value.upper + found.gain[row])
        assert float((values - here)[within].max()) <= float(rise) + noise
        beyond = within & (apart > float(found.distance[row]) * (1 + 1e-9) + 1e-12)
        assert float((values - here)[beyond].max()) <= noise
        if bool(found.strict[row]):
            far = within & (apart > max(1e-5, float(found.distance[row])))
            assert bool((values[far] < here).all())
    return int(found.proved.sum())


@pytest.mark.parametrize("radius", [1e-3, 0.05, 0.3])
@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("kind", CASES)
def test_no_point_near_is_higher_than_a_proved_maximum(kind, name, radius):
    problem = random_problem(kind, REGIONS[name])
    points = piece_maxima(problem, problem.feasible.project(0 * problem.inputs))
    # Half of them beside it.
    moved = problem.feasible.project(points + 1e-5 * seeded(*points.shape, seed=9))
    points[::2] = moved[::2]
    form = local(problem, points)
    with torch.no_grad():
        standing = standing_at(form, points, 1e-3 * radius)
        size = torch.full((ROWS,), radius, dtype=F64) + standing.slack
        found = certified(form.around(standing.points, size), standing)
    checked = check_by_force(problem, form, standing, found)
    assert checked >= (0.3 * ROWS if radius == 1e-3 else 0)


def test_random_points_are_hardly_ever_called_maxima():
    """And where so, brute force agrees: the prover must look at the gradient."""
    problem = random_problem("margin", sm.L2Ball(RADIUS))
    points = problem.feasible.project(0.5 * seeded(ROWS, 3, seed=11))
    form = local(problem, points)
    with torch.no_grad():
        standing = standing_at(form, points)
        size = torch.full((ROWS,), 1e-3, dtype=F64)
        found = certified(form.around(standing.points, size), standing)
    # Where the network is dead around the point it is a maximum, if not a strict one.
    slope = problem.rows().evaluate(points).gradient.norm(dim=1)
    assert not bool((found.proved & (slope > 0)).any())
    assert not bool(found.strict.any())


def test_a_kink_that_leads_uphill_on_one_side_is_seen():
    """gᵀx + a·relu(wᵀ(x - p)) with w tangent: a > 0 rises, a < 0 is a maximum too."""
    point = torch.tensor([[RADIUS, 0.0]], dtype=F64)
    for weight, peak in ((0.3, False), (0.0, True)):
        model = Kinked([2.0, 0.0], [[0.0, 1.0]], [0.0], [weight])
        problem = ascending(model, 0 * point, sm.L2Ball(RADIUS))
        form = local(problem, point)
        patch = form.around(point, torch.full((1,), 0.1, dtype=F64))
        standing = standing_at(form, point)
        assert bool(certified(patch, standing).proved) == peak


def test_coordinates_on_which_nothing_depends_keep_a_maximum_from_being_strict():
    problem = ascending(
        linear([[1.0, 0.0]]), torch.zeros(2, 2, dtype=F64), sm.LinfBall(0.5)
    )
    points = torch.tensor([[0.5, 0.1], [0.5, 0.5]], dtype=F64)
    form = local(problem, points)
    patch = form.around(points, torch.full((2,), 0.1, dtype=F64))
    found = certified(patch, standing_at(form, points))
    assert found.proved.tolist() == [True, True]
    assert found.strict.tolist() == [False, False]


BENDS = {"ball": sm.L2Ball(RADIUS), "both": REGIONS["both"]}


@pytest.mark.parametrize("radius", [1e-3, 0.1])
@pytest.mark.parametrize("name", BENDS)
def test_the_softmaxs_curvature_is_below_what_is_taken_from_the_multipliers(
    name, radius
):
    """½dᵀ∇²F(ξ)d ≤ ball·(-pᵀd) + Σ held_i|d_i|, and μ drifts by ≤ drift·‖d‖."""
    dim, classes = 3, 4
    model = nn.Sequential(
        linear(2 * seeded(classes, dim, seed=1), seeded(classes, seed=2))
    )
    inputs = seeded(16, dim, seed=3)
    labels = torch.arange(16) % classes
    problem = sm.Problem(model, inputs, labels, sm.CrossEntropy(), BENDS[name])
    points = piece_maxima(problem, problem.feasible.project(seeded(16, dim, seed=4)))
    form = local(problem, points)
    with torch.no_grad():
        standing = standing_at(form, points)
        size = torch.full((16,), radius, dtype=F64)
        patch = form.around(standing.points, size)
        gradient = patch.pulled(patch.slopes, patch.outputs).gradient
        bend = softmax_bend(patch, standing, patch.whole.gradient, patch.slopes)
    tight = []
    for row in standing.curved.nonzero().flatten().tolist():
        point, free = real_point(standing, row), standing.free[row]

        def loss(x, row=row):
            z = model(inputs[row] + x)
            return torch.logsumexp(z, 0) - z[labels[row]]

        seen = near(problem, row, point, (radius, 0.3 * radius, 1e-2 * radius), 8, row)
        e = float((point * free).norm())
        for q in seen[(seen - point).norm(dim=1) <= radius]:
            slope, hessian = derivatives(loss, q)
            for other in seen[:4]:
                d = other - point
                bent = 0.5 * float(d @ hessian @ d)
                room = float(bend.ball[row]) * -float(point @ d)
                room += float((bend.held[row] * d.abs() * ~free).sum())
                assert bent <= room * (1 + 1e-9) + 1e-18
            start = float(gradient.middle[row] @ (point * free)) / e**2
            moved = float(slope @ (q * free)) / float((q * free).norm()) ** 2
            gap = float(bend.drift[row] * (q - point).norm())
            if name == "ball":
                assert abs(moved - start) <= gap * (1 + 1e-9) + 1e-12
        normal = (point * free) / e
        tangent = torch.eye(dim, dtype=F64)[free] - normal[free][:, None] * normal
        _, hessian = derivatives(loss, point)
        top = float(torch.linalg.eigvalsh(tangent @ hessian @ tangent.T)[-1])
        assert top <= float(bend.ball[row])
        tight.append(float(bend.ball[row]) / max(top, 1e-3))
    assert len(tight) >= 5
    if radius == 1e-3 and name == "ball":
        # √s⁺ of every class at once instead of s: within a small factor.
        assert sorted(tight)[len(tight) // 2] < 4


def test_the_curvature_is_not_forgotten():
    """Where it exceeds the multiplier the stationary point is no maximum."""
    dim = 2
    # z = ±s·x₂: the loss log Σ exp grows as s|x₂|; pressed by 0.02·x₁ only.
    weight = torch.tensor([[0.0, 0.0], [0.2, 9.0], [0.2, -9.0]], dtype=F64)
    model = nn.Sequential(linear(weight))
    inputs = torch.zeros(1, dim, dtype=F64)
    problem = sm.Problem(
        model, inputs, torch.tensor([0]), sm.CrossEntropy(), sm.L2Ball(RADIUS)
    )
    point = torch.tensor([[RADIUS, 0.0]], dtype=F64)
    _, hessian = derivatives(
        lambda x: torch.logsumexp(model(x), 0) - model(x)[0], point[0]
    )
    gradient = problem.rows().evaluate(point).gradient[0]
    assert abs(float(gradient[1])) < 1e-15
    assert float(hessian[1, 1]) > float(gradient[0]) / RADIUS
    form = local(problem, point)
    with torch.no_grad():
        standing = standing_at(form, point)
        for radius in (1e-8, 1e-4, 0.1):
            patch = form.around(point, torch.full((1,), radius, dtype=F64))
            assert not bool(certified(patch, standing).proved)
            nothing = torch.zeros(1, dtype=F64)
            every = torch.ones(1, dtype=torch.bool)
            found = raised(patch, standing, patch.slopes, nothing, every)
            assert not bool(found.proved)


def test_a_gradient_known_too_coarsely_proves_nothing():
    point = torch.tensor([[RADIUS, 0.0]], dtype=F64)
    problem = ascending(linear([[1.0, 0.0]]), 0 * point, sm.L2Ball(RADIUS))
    form = local(problem, point)
    patch = form.around(point, torch.full((1,), 0.1, dtype=F64))
    zero = torch.zeros(1, dtype=F64)
    for doubt, sure in ((0.01, True), (0.2, False), (torch.nan, False)):
        slope = Enclosure(2 * point, torch.full((1, 2), doubt, dtype=F64))
        found = summit(patch, standing_at(form, point), slope, zero)
        assert bool(found.proved) == sure
        assert bool(found.distance.isnan()) != sure
