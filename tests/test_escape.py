"""Negative verdicts by measurement: the way uphill, the gain, the critical cone."""

import pytest
import torch

import summiteer as sm
from fakes import classifier, derivatives, measured, output_problem, seeded
from summiteer.analytic import PROBLEMS, Form
from summiteer.optimality.critical_cone import cone_curvature, critical_cone

DIM, RADIUS, WITHIN = 6, 0.8, 1e-3
F64 = torch.float64
REGIONS = [sm.L2Ball(RADIUS), sm.Sphere(RADIUS), sm.LinfBall(0.3)]


def deep(region, batch=8, objective=None, seed=1):
    """Three layers of tanh, one input many times."""
    model = classifier((DIM, 12, 12, 3), seed=seed)
    inputs = (0.5 * seeded(1, DIM, seed=seed + 7)).repeat(batch, 1)
    labels = model(inputs).argmax(1)
    return sm.Problem(model, inputs, labels, objective or sm.CrossEntropy(), region)


def of_example(problem, i):
    """The objective of one example as a function of its perturbation."""

    def function(d):
        outputs = problem.model((problem.inputs[i] + d)[None])
        return problem.objective(outputs, problem.targets[i : i + 1])[0]

    return function


def tangent_basis(point):
    stacked = torch.cat([point[:, None], torch.eye(len(point), dtype=F64)], 1)
    return torch.linalg.qr(stacked).Q[:, 1 : len(point)]


def saddles(problem, tries=24):
    """KKT points on the sphere with λ_max(tangent) > μ > 0, by Newton on g = μp."""
    function, found = of_example(problem, 0), []
    for seed in range(tries):
        p = RADIUS * torch.nn.functional.normalize(seeded(DIM, seed=seed), dim=0)
        multiplier = float(derivatives(function, p)[0] @ p) / RADIUS**2
        for _ in range(30):
            gradient, hessian = derivatives(function, p)
            matrix = torch.zeros(DIM + 1, DIM + 1, dtype=F64)
            matrix[:DIM, :DIM] = hessian - multiplier * torch.eye(DIM)
            matrix[:DIM, DIM] = matrix[DIM, :DIM] = -p
            excess = torch.cat(
                [gradient - multiplier * p, (RADIUS**2 - p @ p)[None] / 2]
            )
            step = torch.linalg.solve(matrix, -excess)
            p, multiplier = p + step[:DIM], multiplier + float(step[DIM])
        gradient, hessian = derivatives(function, p)
        if not float((gradient - multiplier * p).norm()) < 1e-13:
            continue
        basis = tangent_basis(p)
        top = float(torch.linalg.eigvalsh(basis.T @ hessian @ basis)[-1])
        if top > multiplier * 1.05 > 0:
            found.append(p)
    return torch.stack(found)


def gained(problem, certificate, i):
    """The largest gain along the stated direction, by the definition."""
    function, p = of_example(problem, i), certificate.certified_point[i]
    region = problem.feasible
    reach = certificate.within * float(problem.size[i])
    lengths = reach * torch.linspace(0, 1, 257, dtype=F64)[:, None]
    base = region.project(p[None])
    with torch.no_grad():
        moved = region.project(base + lengths * certificate.direction[i])
        assert bool(region.contains(moved).all())
        values = torch.stack([function(q) for q in moved])
        return float((values - function(base[0])).max())


def test_saddles_of_a_deep_network_are_left_uphill():
    problem = deep(sm.L2Ball(RADIUS))
    points = saddles(problem)
    assert len(points) >= 3
    problem = problem.take(torch.zeros(len(points), dtype=torch.int64))
    certificate = sm.local_optimality(problem, points)
    for i, p in enumerate(points):
        assert certificate.verdict[i] is sm.Verdict.SADDLE, certificate.explain(i)
        assert certificate.evidence[i] is sm.Evidence.NUMERICAL
        way, gain = certificate.direction[i], float(certificate.measured_gain[i])
        gradient, hessian = derivatives(of_example(problem, i), p)
        bend = float(way @ hessian @ way - gradient @ p / RADIUS**2)
        assert float(way.norm()) == pytest.approx(1, abs=1e-12)
        assert abs(float(way @ p)) < 1e-12
        # ½(vᵀHv - μ)t² at t = 1e-3 radii, to third order: 1e-3 relative and more.
        assert gain == pytest.approx(0.5 * bend * (WITHIN * RADIUS) ** 2, rel=0.1)
        assert gain == pytest.approx(gained(problem, certificate, i), rel=1e-3)
        told = certificate.explain(i)
        assert f"rises by {gain:.6g} along `direction`" in told


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.norm)
@pytest.mark.parametrize("objective", [sm.CrossEntropy(), sm.Margin()], ids=repr)
def test_points_where_ascent_goes_on_are_left_uphill(region, objective):
    problem = deep(region, objective=objective)
    start = sm.UniformStart(restarts=1, seed=3)
    points = start.points(problem)[0]
    certificate = sm.local_optimality(problem, points)
    for i in range(len(points)):
        assert certificate.verdict[i] is sm.Verdict.NOT_STATIONARY
        gain = float(certificate.measured_gain[i])
        assert float(certificate.direction[i].norm()) == pytest.approx(1, abs=1e-12)
        assert 0 < gain <= gained(problem, certificate, i) * (1 + 1e-9)
        # First order: at least half of what the slope along the face promises.
        gradient, _ = derivatives(of_example(problem, i), points[i])
        face = problem.feasible.take(torch.tensor([i])).face(
            points[i][None], gradient[None]
        )
        slope = float(face.project(gradient[None]).norm())
        assert gain > 0.5 * slope * WITHIN * float(problem.size[i])


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.norm)
@pytest.mark.parametrize("objective", [sm.CrossEntropy(), sm.Margin()], ids=repr)
def test_verdicts_on_deep_networks_are_those_of_dense_autodiff(region, objective):
    problem = deep(region, objective=objective)
    points = sm.polish(problem, sm.ascend(problem, max_steps=1000).best)
    certificate = sm.local_optimality(problem, points)
    assert set(certificate.evidence) == {sm.Evidence.NUMERICAL}
    for i in range(len(points)):
        assert certificate.verdict[i] is sm.Verdict.STRICT_LOCAL_MAXIMUM
        assert bool(certificate.direction[i].isnan().all())
        assert bool(certificate.measured_gain[i].isnan())
        p = certificate.certified_point[i]
        gradient, hessian = derivatives(of_example(problem, i), p)
        if region.norm == "linf":
            free = p.abs() < 0.3 * (1 - 1e-6)
            assert bool((gradient * p)[~free].gt(0).all())
            assert float(gradient[free].norm()) < 1e-9 * float(gradient.norm())
            top = (
                torch.linalg.eigvalsh(hessian[free][:, free]).max() if any(free) else -1
            )
            assert top < 0
        else:
            basis, multiplier = tangent_basis(p), gradient @ p / RADIUS**2
            assert float((basis.T @ gradient).norm()) < 1e-9 * float(gradient.norm())
            top = torch.linalg.eigvalsh(basis.T @ hessian @ basis)[-1]
            assert top < multiplier


@pytest.mark.parametrize("known", PROBLEMS, ids=lambda known: known.name)
def test_planted_points_that_are_no_maxima_are_left_uphill(known):
    below = [known for known in known.points if not known.verdict.is_maximum]
    for point in below:
        if point.verdict is sm.Verdict.FLAT:
            continue
        claims = measured(known.problem, point.point[None])
        assert list(claims.verdict) == [point.verdict]
        assert float(claims.numbers["measured_gain"][0]) > 0
        assert float(claims.direction[0].norm()) == pytest.approx(1, abs=1e-12)


def planted(matrix, held, region=None, slope=0.5, **changes):
    """½vᵀAv about a point of the L∞ ball whose `held` bounds have no multiplier."""
    dim = len(matrix)
    point = torch.zeros(dim, dtype=F64)
    point[:held] = 1.0
    point[-1] = 1.0  # one bound with a multiplier, so that the gradient is not 0
    linear = torch.zeros(dim, dtype=F64)
    linear[-1] = slope
    form = Form(point, linear, matrix, torch.zeros(dim, dtype=F64))
    problem = output_problem(
        form, torch.zeros(1, dim, dtype=F64), region or sm.LinfBall(1.0), **changes
    )
    return problem, point[None]


def bordered(matrix):
    """The matrix with one more coordinate, of no curvature."""
    return torch.block_diag(matrix, torch.zeros(1, 1, dtype=F64))


def verdict_at(problem, points):
    certificate = sm.local_optimality(problem, points)
    return certificate.verdict[0].name, certificate


def test_a_bound_without_multiplier_may_hide_a_saddle():
    """+δ₁² is uphill inwards; the free coordinate sees a maximum only."""
    problem, point = planted(
        bordered(torch.diag(torch.tensor([1.0, -1.0]).double())), 1
    )
    name, certificate = verdict_at(problem, point)
    assert name == "SADDLE", certificate.explain(0)
    way = certificate.direction[0]
    assert float(way[0]) == pytest.approx(-1.0, abs=1e-9)
    gain = float(certificate.measured_gain[0])
    assert gain == pytest.approx(0.5 * WITHIN**2, rel=1e-6)


def test_a_bound_without_multiplier_may_hold_a_maximum():
    problem, point = planted(bordered(-torch.eye(2).double()), 1)
    assert verdict_at(problem, point)[0] == "STRICT_LOCAL_MAXIMUM"


def test_a_way_up_that_leads_outwards_does_not_count():
    """vᵀAv > 0 for v = (1, -1) only, which leaves one of the bounds outwards."""
    matrix = bordered(torch.tensor([[-1.0, -2.0], [-2.0, -1.0]], dtype=F64))
    assert float(torch.linalg.eigvalsh(matrix)[-1]) == pytest.approx(1)
    problem, point = planted(matrix, 2)
    name, certificate = verdict_at(problem, point)
    assert name == "STRICT_LOCAL_MAXIMUM", certificate.explain(0)


def test_two_bounds_left_together_may_hide_a_saddle():
    """vᵀAv > 0 for v = -(1, 1), though along either bound alone it is negative."""
    matrix = bordered(torch.tensor([[-1.0, 2.0], [2.0, -1.0]], dtype=F64))
    problem, point = planted(matrix, 2)
    name, certificate = verdict_at(problem, point)
    assert name == "SADDLE", certificate.explain(0)
    assert bool((certificate.direction[0, :2] < 0).all())


def test_the_best_way_in_a_cone_is_that_of_many_random_ones():
    seen = set()
    for seed in range(12):
        matrix = seeded(4, 4, seed=seed) - torch.eye(4, dtype=F64)
        matrix = matrix + matrix.T
        ways = torch.nn.functional.normalize(seeded(100_000, 4, seed=99), dim=1)
        ways[:, :3] = -ways[:, :3].abs()
        best = float(torch.einsum("ni,ij,nj->n", ways, matrix, ways).max())
        wide = bordered(matrix)
        problem, point = planted(wide, 3)
        rows = problem.rows()
        gradient = rows.evaluate(point).gradient
        face = rows.region.face(point, gradient)
        cone = critical_cone(
            rows.region, point, gradient, face, torch.full((1,), 1e-9, dtype=F64)
        )
        assert cone.count.tolist() == [3]
        found = cone_curvature(lambda index, m=wide: lambda v: v @ m, cone, point)
        # 1e5 directions in four dimensions: a mesh of 0.03, of which the square counts.
        inside = bool(cone.admits(found.way)[0])
        if inside and float(found.top) > cone.face.multiplier:
            assert best <= float(found.top) + 1e-12 <= best + 0.05
        else:
            assert best < 0
        name, certificate = verdict_at(problem, point)
        expected = "SADDLE" if best > 0 else "STRICT_LOCAL_MAXIMUM"
        assert name == expected, certificate.explain(0)
        seen.add(name)
    assert len(seen) == 2


def test_many_bounds_without_multipliers():
    """Above four, a way up that is found decides, and so does negative curvature."""
    ones = torch.ones(6, 6, dtype=F64)
    apart = torch.zeros(6, dtype=F64)
    apart[0], apart[1] = 1.0, -1.0
    copositive = -0.1 * torch.eye(6).double() + 0.5 * torch.outer(apart, apart)
    copositive = copositive - 2.0 * (torch.outer(apart.abs(), apart.abs()))
    for matrix, expected in (
        (ones - 2 * torch.eye(6), "SADDLE"),
        (-torch.eye(6).double(), "STRICT_LOCAL_MAXIMUM"),
        (copositive, "UNDECIDED"),
    ):
        problem, point = planted(bordered(matrix), 6)
        name, certificate = verdict_at(problem, point)
        assert name == expected, certificate.explain(0)
        if expected == "UNDECIDED":
            assert float(torch.linalg.eigvalsh(matrix)[-1]) > 0
            assert "multipliers of 6 constraints vanish" in certificate.reason[0]


def test_coordinates_that_may_not_move_are_not_one_sided():
    matrix = bordered(torch.diag(torch.tensor([1.0, -1.0]).double()))
    problem, point = planted(matrix, 0, mask=torch.tensor([False, True, True]))
    assert verdict_at(problem, point)[0] == "STRICT_LOCAL_MAXIMUM"


@pytest.mark.parametrize("curvature", [1.0, -1.0])
@pytest.mark.parametrize("box", [None, (-2.0, 2.0)])
def test_a_ball_without_multiplier_may_hide_a_saddle(curvature, box):
    """∇F = 0 on the sphere: inwards it goes up with the curvature along the normal."""
    diagonal = torch.tensor([curvature, -1.0, -2.0], dtype=F64)
    point = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    zero = torch.zeros(3, dtype=F64)
    form = Form(point, zero, torch.diag(diagonal), zero)
    problem = output_problem(form, zero[None], sm.L2Ball(1.0), box=box)
    name, certificate = verdict_at(problem, point[None])
    assert name == ("SADDLE" if curvature > 0 else "STRICT_LOCAL_MAXIMUM")
    if curvature > 0:
        assert float(certificate.direction[0, 0]) == pytest.approx(-1, abs=1e-9)


def test_slow_ascent_is_ended_by_newton():
    """An ill-conditioned deep network on an L∞ ball: the maximum is found, or left."""
    model = classifier((40, 50, 50, 10), seed=3)
    inputs = 0.3 * seeded(12, 40, seed=5)
    labels = model(inputs).argmax(1)
    problem = sm.Problem(model, inputs, labels, sm.Margin(), sm.LinfBall(0.02))
    points = sm.ascend(problem, max_steps=3000).best
    certificate = sm.local_optimality(problem, points)
    assert sm.Verdict.UNDECIDED not in certificate.verdict
    at = certificate.certified_point
    gradient = problem.rows().evaluate(at).gradient
    free = at.abs() < 0.02 * (1 - 1e-6)
    found = certificate.maximum
    assert int(found.sum()) >= 4
    assert int((free.any(1) & found).sum()) >= 2
    rest = (gradient * free).norm(dim=1) / gradient.norm(dim=1)
    assert float(rest[found].max()) < 1e-11
