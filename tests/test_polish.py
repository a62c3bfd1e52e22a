"""Newton's method reaches rounding where a maximum is near, and else stays put."""

import pytest
import torch

import summiteer as sm
from fakes import seeded
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.newton import newton
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of, stand
from summiteer.regions import Box, Intersection, L2Ball, LinfBall, Sphere

F64 = torch.float64
BATCH, DIM, WIDTH, RADIUS = 8, 6, 20, 0.5
#: Tangential gradient that float64 resolves, relative to ‖g‖: d·m roundings, and the
#: slack of the real point that stands for the float one.
ROUNDING = 1e-13
REGIONS = {
    "ball": L2Ball(RADIUS),
    "sphere": Sphere(RADIUS),
    "box": LinfBall(0.3),
    "both": Intersection(L2Ball(RADIUS), Box(-0.25, 0.3)),
}


def problem_on(region, activation="softplus"):
    network = sm.TwoLayerNetwork.random(
        DIM, WIDTH, activation, weight_std=2.0, bias_std=1.0, seed=3
    )
    inputs, targets = seeded(BATCH, DIM, seed=1), seeded(BATCH, seed=2)
    return sm.Problem(network, inputs, targets, sm.Quadratic(), region)


def setting(problem, points):
    """(surface, limits) as the prover sees them."""
    form = scalar_form(problem, points)
    return form.surface, limits_of(problem.feasible, points)


def residual(surface, limits, polished):
    """γ/‖g‖ on the face, rounding included, of what `newton` returned."""
    stood = stand(limits, *polished)
    first = FirstOrder(surface.at(stood.points, stood.slack), stood)
    return first.tangential / first.gradient.middle.norm(dim=1)


def near_maxima(problem, off):
    """Feasible points at about `off` radii from where ascent ends, and those ends."""
    adversary = sm.ProjectedAscent(sm.Normalised())
    start = sm.UniformStart(restarts=1, seed=4)
    ends = sm.ascend(problem, adversary, start, max_steps=5000).final[0]
    moved = ends + off * RADIUS * seeded(BATCH, DIM, seed=5) / DIM**0.5
    return problem.feasible.project(moved), ends


@pytest.mark.parametrize("name", REGIONS)
def test_newton_reaches_rounding(name):
    problem = problem_on(REGIONS[name])
    points, ends = near_maxima(problem, 1e-4)
    surface, limits = setting(problem, points)
    reach = torch.full((BATCH,), 1e-2 * RADIUS, dtype=F64)
    polished, free, curved = newton(surface, limits, points, reach)
    left = residual(surface, limits, (polished, free, curved))
    # The points themselves are orders worse, so that this is no matter of course.
    before = residual(surface, limits, (points, free, curved))
    vertex = ~free.any(1)
    assert bool((left <= ROUNDING).all())
    assert bool((before > 1e5 * ROUNDING)[~vertex].all())
    assert int(vertex.sum()) < BATCH
    assert bool((polished - points).norm(dim=1).max() <= reach[0])
    # Where ascent had ended: its residual is 1e-8 of the slope, its face the same.
    assert bool(((polished - ends).norm(dim=1) <= 1e-5 * RADIUS).all())
    held = torch.where(polished >= limits.upper, limits.upper, limits.lower)
    assert torch.equal(polished[~free], held[~free])
    if name in ("ball", "sphere"):
        norms = polished.norm(dim=1)[curved]
        assert torch.allclose(norms, torch.full_like(norms, RADIUS), rtol=4e-16)


@pytest.mark.parametrize("name", REGIONS)
def test_newton_does_not_leave_its_reach(name):
    problem = problem_on(REGIONS[name])
    points, _ = near_maxima(problem, 0.05)
    surface, limits = setting(problem, points)
    for size in (1e-12, 1e-6, 1e-3):
        reach = torch.full((BATCH,), size, dtype=F64)
        polished, _, _ = newton(surface, limits, points, reach)
        # The sphere's own rounding comes on top.
        assert float((polished - points).norm(dim=1).max()) <= size + 1e-15


def bowl():
    """½Σ λ_i δ_i² with λ = 3, 2, 1: critical points on the sphere at ±ε·e_i."""
    curvature = torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    network = sm.TwoLayerNetwork(
        torch.eye(3, dtype=F64), curvature, activation="quadratic"
    )
    target = torch.full((1,), -1.0, dtype=F64)
    zero = torch.zeros(1, 3, dtype=F64)
    return sm.Problem(network, zero, target, sm.Quadratic(), L2Ball(RADIUS))


@pytest.mark.parametrize("off", [1e-3, 1e-6])
def test_newton_does_not_fall_off_a_saddle(off):
    """Beside ε·e₂ uphill is towards e₁; the minimum's side leads back to the saddle."""
    problem = bowl()
    reach = torch.full((1,), 0.1 * RADIUS, dtype=F64)
    saddle = torch.tensor([[0.0, RADIUS, 0.0]], dtype=F64)
    for way in (0, 2):
        point = saddle.clone()
        point[0, way] = off * RADIUS
        point = point / point.norm() * RADIUS
        surface, limits = setting(problem, point)
        polished, _, _ = newton(surface, limits, point, reach)
        if way == 0:
            assert torch.allclose(polished, point, rtol=0, atol=1e-15)
        assert float((polished - saddle).norm()) <= 1.001 * off * RADIUS


def test_newton_converges_quadratically_at_a_known_maximum():
    problem = bowl()
    reach = torch.full((1,), 0.1 * RADIUS, dtype=F64)
    point = torch.tensor([[1.0, 0.01, -0.02]], dtype=F64)
    point = point / point.norm() * RADIUS
    surface, limits = setting(problem, point)
    polished, free, curved = newton(surface, limits, point, reach)
    peak = torch.tensor([[RADIUS, 0.0, 0.0]], dtype=F64)
    assert torch.allclose(polished, peak, rtol=0, atol=ROUNDING)
    assert bool(free.all())
    assert bool(curved)


def test_rows_are_polished_alone():
    """Each row ends where it ends without its companions, to their products' bits."""
    problem = problem_on(REGIONS["both"])
    points, _ = near_maxima(problem, 1e-4)
    surface, limits = setting(problem, points)
    reach = torch.full((BATCH,), 1e-2 * RADIUS, dtype=F64)
    together, _, _ = newton(surface, limits, points, reach)
    for row in range(BATCH):
        index = torch.tensor([row])
        alone, _, _ = newton(
            surface.take(index), limits.take(index), points[index], reach[index]
        )
        assert torch.allclose(alone[0], together[row], rtol=0, atol=1e-13)


def test_polish_climbs_to_the_maximum_next_to_a_point():
    problem = problem_on(REGIONS["ball"])
    points, ends = near_maxima(problem, 1e-2)
    polished = sm.polish(problem, points)
    rows = problem.rows()
    # Rounding of a loss of order 10.
    assert bool((rows.value(polished).loss >= rows.value(points).loss - 1e-14).all())
    assert bool(((polished - ends).norm(dim=1) <= 1e-6 * RADIUS).all())
    with pytest.raises(sm.UserError, match="one perturbation per example"):
        sm.polish(problem, points[:2])
