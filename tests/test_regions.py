"""Laws of the regions, against oracles that share no code with them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from shapes import (
    CONVEX,
    DTYPES,
    EPS,
    LIMITS,
    limits_of,
    make,
    nearest,
    normal,
    plain_gap,
    points_for,
)
from summiteer import _rows
from summiteer.draws import Draws
from summiteer.regions import Box, Intersection, L2Ball, LinfBall, Sphere


@pytest.mark.parametrize("shape", [(1,), (2,), (3, 8, 8)])
@pytest.mark.parametrize("radius", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_projection_laws(kind, dtype, radius, shape):
    like = torch.zeros(9, *shape, dtype=dtype)
    for limits in LIMITS if "box" in kind else LIMITS[:1]:
        region = make(kind, like, radius, limits)
        points = points_for(region, like, radius)
        projected = region.project(points)
        # Sums of d squares and one product round: 8 ulp of the radius.
        tiny = 8 * EPS[dtype] * radius
        assert region.contains(projected).all()
        assert (region.project(projected) - projected).abs().max() <= tiny
        if kind == "sphere":
            length = _rows.norm(points)
            best = torch.where(length > 0, (length - radius).abs(), radius)
            gap = _rows.norm(points - projected) - best
            assert (gap.abs() <= tiny + 8 * EPS[dtype] * length).all()
            continue
        inside = projected * 0.99
        assert torch.equal(region.project(inside), inside)
        other = points_for(region, like, radius, seed=2).flip(0)
        apart = _rows.norm(region.project(other) - projected)
        slack = 8 * EPS[dtype] * (_rows.norm(points) + _rows.norm(other) + radius)
        assert (apart <= _rows.norm(other - points) + slack).all()
        beyond = (points - projected).double()
        scale = (_rows.norm(points) + radius).double() * radius * EPS[dtype]
        for z in (region.project(other), inside, region.linear_maximiser(beyond)):
            # An error of e ulp in Πv changes the product by e·eps·ε·‖v‖.
            product = _rows.dot(beyond, z.double() - projected.double())
            assert (product <= 16 * scale).all()


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("kind", CONVEX)
def test_projection_is_the_nearest_point(kind, limits):
    for d in (1, 2, 5, 40):
        radius = torch.linspace(0.3, 2.0, 30, dtype=torch.float64)
        like = torch.zeros(30, d, dtype=torch.float64)
        region = make(kind, like, radius, limits)
        points = points_for(region, like, 1.0)
        projected = region.project(points)
        for row in range(30):
            expected = nearest(region, row, points[row].numpy())
            # The oracle's bisection stops at 1e-15 relative of points up to 1e3.
            np.testing.assert_allclose(projected[row], expected, rtol=0, atol=1e-12)


def test_projection_agrees_with_a_general_solver():
    like = torch.zeros(4, 3, dtype=torch.float64)
    region = make("l2box", like, 0.7, "one-sided")
    points = normal(4, 3, seed=3)
    for row, (point, ours) in enumerate(
        zip(points.numpy(), region.project(points).numpy(), strict=True)
    ):
        radius, low, high = limits_of(region, row, 3)
        solved = optimize.minimize(
            lambda z, v=point: ((z - v) ** 2).sum(),
            np.zeros(3),
            bounds=list(zip(low, high, strict=True)),
            constraints={"type": "ineq", "fun": lambda z, r=radius: r**2 - z @ z},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )
        # SLSQP stops about sqrt(ftol) from the minimiser.
        np.testing.assert_allclose(ours, solved.x, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_huge_and_subnormal_vectors_beside_ordinary_ones(kind, dtype):
    huge, tiny = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    sizes = [huge, huge / 4, huge**0.5 * 10, 1.0, tiny, tiny * 4 * EPS[dtype], 0.0]
    direction = torch.tensor([0.6, -0.8, 0.0, 1.0], dtype=torch.float64)
    points = torch.stack([(direction * size).to(dtype) for size in sizes])
    for radius in (1e-6, 1.0, 1e9):
        region = make(kind, points, radius, "loose")
        projected = region.project(points)
        assert region.contains(projected).all()
        row = torch.tensor([3])
        alone = region.take(row).project(points[row])
        assert torch.equal(alone, projected[row]), "rows depend on their companions"
        assert region.contains(region.linear_maximiser(points)).all()
        if kind in ("l2", "sphere", "l2box"):
            long = projected[:3].double() / radius
            unit = (direction / direction.norm()).expand(3, 4)
            assert (long - unit).abs().max() <= 8 * EPS[dtype]
            steep = region.steepest(points)
            # A subnormal number of 4 ulp has two significant bits.
            near = torch.tensor([8 * EPS[dtype]] * 5 + [0.2])
            assert ((steep[:6] - unit[0]).abs().amax(1) <= near).all()
            assert torch.equal(steep[6], torch.zeros(4, dtype=dtype))


@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_rows_per_example_radius_and_take(kind):
    radius = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)
    like = torch.zeros(4, 2, 3, dtype=torch.float64)
    region = make(kind, like, radius)
    points = normal(4, 2, 3) * 3
    gradients = normal(4, 2, 3, seed=4)
    draws = Draws(0, torch.arange(4), torch.zeros(4, dtype=torch.int64))
    calls = [
        lambda r, p, g, d: r.project(p),
        lambda r, p, g, d: r.contains(p),
        lambda r, p, g, d: r.linear_maximiser(g),
        lambda r, p, g, d: r.gap(p, g),
        lambda r, p, g, d: r.steepest(g),
        lambda r, p, g, d: r.sample(d, p),
        lambda r, p, g, d: r.face(r.project(p), g).pressure,
        lambda r, p, g, d: r.residual(r.project(p), g, r.magnitude(g)),
    ]
    for index in (torch.tensor([2, 0]), torch.tensor([3]), torch.arange(0)):
        some = region.take(index)
        named = Draws(0, draws.ids[index], draws.restarts[index])
        for call in calls:
            whole = call(region, points, gradients, draws)
            part = call(some, points[index], gradients[index], named)
            assert part.shape == whole[index].shape
            assert torch.equal(part, whole[index])


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("kind", CONVEX)
def test_the_gap_is_its_definition_and_never_below_zero(kind, limits):
    like = torch.zeros(12, 5, dtype=torch.float64)
    region = make(kind, like, 0.8, limits)
    points = region.project(points_for(region, like, 0.8))
    gradients = normal(12, 5, seed=4)
    gradients[3], gradients[4, 2] = 0, 0
    gaps = region.gap(points, gradients)
    assert (gaps >= 0).all()
    for row in range(12):
        expected = plain_gap(region, row, points[row].numpy(), gradients[row].numpy())
        # Five products of order one; the linear solver's own tolerance.
        assert float(gaps[row]) == pytest.approx(expected, abs=1e-9)
    best = region.linear_maximiser(gradients)
    # At the maximiser itself nothing cancels: units of rounding of ε‖g‖, squared.
    assert region.gap(best, gradients).max() <= 8 * EPS[torch.float64]


def test_the_gap_of_a_sphere_is_that_of_its_hull():
    points, gradients = normal(6, 5), normal(6, 5, seed=1)
    sphere, ball = make("sphere", points, 0.7), make("l2", points, 0.7)
    points = sphere.project(points)
    torch.testing.assert_close(
        sphere.gap(points, gradients), ball.gap(points, gradients), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("kind", ["l1", "linf", "box", "l1box", "linfbox"])
def test_support_points_of_polytopes_agree_with_linear_programming(kind, limits):
    like = torch.zeros(3, 4, dtype=torch.float64)
    region = make(kind, like, 0.6, limits)
    gradients = normal(3, 4, seed=8)
    for row, gradient in enumerate(gradients.numpy()):
        value = gradient @ region.linear_maximiser(gradients)[row].numpy()
        solved = plain_gap(region, row, np.zeros(4), gradient)
        assert value == pytest.approx(solved, abs=1e-12)


@pytest.mark.parametrize("limits", LIMITS)
def test_support_points_of_the_intersection_reach_the_dual_bound(limits):
    for d in (1, 3, 30):
        like = torch.zeros(6, d, dtype=torch.float64)
        region = make("l2box", like, 0.8, limits)
        gradients = normal(6, d, seed=9) * torch.logspace(-3, 3, d).double()
        support = region.linear_maximiser(gradients)
        assert region.contains(support).all()
        for row, gradient in enumerate(gradients.numpy()):
            radius, low, high = limits_of(region, row, d)

            def dual(log, g=gradient, r=radius, low=low, high=high):
                z = np.clip(g * np.exp(-log), low, high)
                return g @ z - np.exp(log) * (z @ z - r**2) / 2

            bound = min(
                optimize.minimize_scalar(dual, bounds=(a, a + 4), method="bounded").fun
                for a in range(-60, 16, 2)
            )
            value = gradient @ support[row].numpy()
            # Weak duality is exact; the scalar search finds the bound to ~1e-8, and
            # stops at λ = e⁻⁶⁰ where it should be 0.
            assert value <= bound * (1 + 1e-12)
            assert value >= bound * (1 - 1e-7) - 1e-15


@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_zero_and_not_finite_gradients_have_support_points(kind):
    like = torch.zeros(3, 50, dtype=torch.float64)
    region = make(kind, like, 1.0)
    assert region.contains(region.linear_maximiser(like)).all()
    gradients = normal(3, 50)
    gradients[1, 4] = torch.nan
    points = region.linear_maximiser(gradients)
    assert region.contains(points)[[0, 2]].all()


def test_tiny_free_gradients_beside_held_ones_still_fill_the_ball():
    limits = torch.tensor([[1e-3, 5.0, 5.0]])
    region = Intersection(L2Ball(1.0), Box(-limits, limits)).bind(limits)
    point = region.linear_maximiser(torch.tensor([[1.0, -1e-30, 0.0]]))
    # (1e-3, -sqrt(1 - 1e-6), 0) to float32 rounding.
    assert point[0].tolist() == pytest.approx([1e-3, -0.9999995, 0.0], abs=1e-7)


@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_steepest_maximises_over_the_unit_ball_of_the_norm(kind):
    gradients = normal(5, 2, 3)
    steepest = make(kind, gradients).steepest(gradients)
    order = torch.inf if kind in ("linf", "box", "linfbox") else 2
    order = 1 if kind in ("l1", "l1box") else order
    dual = {1: torch.inf, 2: 2, torch.inf: 1}[order]
    flat = steepest.flatten(1)
    assert (flat.norm(order, dim=1) <= 1 + 1e-15).all()
    value = (flat * gradients.flatten(1)).sum(1)
    # Dual norms: the maximum is ‖g‖ of the dual norm; rounding of six terms.
    assert value.tolist() == pytest.approx(gradients.flatten(1).norm(dual, 1).tolist())


def test_face_of_the_ball_and_the_sphere():
    points = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]]).double()
    gradients = torch.tensor([[-6.0, 1.0, 7.0], [1.0, 2.0, 3.0]]).double()
    face = L2Ball(5.0).bind(points).face(points, gradients)
    # μ = gᵀp/ε² = (-18 + 4)/25, outward gᵀn = -14/5: the ball pulls inwards.
    assert face.multiplier.tolist() == pytest.approx([-14 / 25, 0.0])
    assert face.pressure.tolist() == pytest.approx([-14 / 5, torch.inf])
    assert face.dimension.tolist() == [2, 3]
    face = Sphere(5.0).bind(points[:1]).face(points[:1], gradients[:1])
    assert face.multiplier.tolist() == pytest.approx([-14 / 25])
    assert face.pressure.tolist() == [torch.inf]


def test_face_of_a_box_presses_outwards_with_the_gradient():
    limits = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).double()
    region = Box(-limits, limits).bind(limits)
    points = torch.tensor([[1.0, -1.0, 0.2, 0.0]]).double()
    for gradient, pressure in [
        ([2.0, -3.0, 5.0, -9.0], 2.0),
        ([2.0, 3.0, 5.0, -9.0], -3.0),
        ([-0.5, -3.0, 5.0, 9.0], -0.5),
    ]:
        face = region.face(points, torch.tensor([gradient]).double())
        assert face.free.tolist() == [[False, False, True, False]]
        assert (face.pressure.tolist(), face.dimension.tolist()) == ([pressure], [1])


def test_face_of_the_intersection_uses_the_free_part_and_the_lagrangian():
    limits = torch.tensor([[2.0, 9.0, 9.0]]).double()
    region = Intersection(L2Ball(3.0), Box(-limits, limits).bind(limits))
    points = torch.tensor([[2.0, 2.0, 1.0]]).double()
    gradients = torch.tensor([[2.5, 2.0, 1.0]]).double()
    face = region.face(points, gradients)
    # μ = (2·2 + 1·1)/(4 + 1) = 1; held: 2.5 - 1·2 = 0.5; ball: √5.
    assert face.multiplier.tolist() == pytest.approx([1.0])
    assert face.pressure.tolist() == pytest.approx([0.5])
    assert face.dimension.tolist() == [1]
    weaker = region.face(points, torch.tensor([[1.5, 2.0, 1.0]]).double())
    assert weaker.pressure.tolist() == pytest.approx([-0.5])


@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_the_tangent_projection_is_orthogonal_onto_the_tangent_space(kind):
    d = 6
    like = torch.zeros(1, d, dtype=torch.float64)
    region = make(kind, like, 1.0)
    gradient = normal(1, d, seed=2)
    for points in (region.linear_maximiser(gradient), region.project(gradient * 0.2)):
        face = region.face(points, gradient)
        matrix = torch.stack(
            [face.project(row[None])[0] for row in torch.eye(d).double()]
        )
        torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-15)
        torch.testing.assert_close(matrix @ matrix, matrix, rtol=0, atol=1e-15)
        assert round(float(matrix.trace())) == int(face.dimension)
        assert (matrix[~face.free[0]] == 0).all()
        # Orthogonal to the free part, or its signs, wherever the ball is active.
        if float(_rows.norm(face.normal)) > 0:
            across = points[0].sign() if region.norm == "l1" else points[0]
            assert (matrix @ across).abs().max() < 1e-15


def plain_residual(region, row, point, gradient, reference):
    """mathematics.md §3, word by word."""
    if isinstance(region, LinfBall | Box):
        _, low, high = limits_of(region, row, len(point))
        gap = np.maximum(gradient * low, gradient * high).sum() - gradient @ point
        scale = ((high - low) * np.maximum(reference, abs(gradient))).sum()
        return gap / scale if scale else 0.0
    radius = limits_of(region, row, len(point))[0]
    largest = max(reference, np.linalg.norm(gradient))
    moved = point + (radius / largest * gradient if largest else 0)
    return np.linalg.norm(nearest(region, row, moved) - point) / radius


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("kind", CONVEX)
def test_residual_is_the_definition(kind, limits):
    like = torch.zeros(20, 7, dtype=torch.float64)
    region = make(kind, like, 0.8, limits)
    points = region.project(points_for(region, like, 0.8))
    gradients = normal(20, 7, seed=4)
    gradients[3:5] = 0
    reference = region.magnitude(normal(20, 7, seed=6)) * 2
    reference[4:6] = 0
    residual = region.residual(points, gradients, reference)
    for row in range(20):
        rows = (x[row].numpy() for x in (points, gradients, reference))
        # A handful of roundings of terms of order one; the oracle's bisection too.
        assert float(residual[row]) == pytest.approx(
            plain_residual(region, row, *rows), abs=1e-13
        )
    assert float(residual[4]) == 0


def kkt(kind, dtype):
    """(region, points, gradients) at which the first-order conditions hold."""
    like = torch.zeros(6, 5, dtype=dtype)
    region = make(kind, like, 0.9, "tight")
    gradients = normal(6, 5, seed=12, dtype=dtype)
    points = region.linear_maximiser(gradients)
    points[1:3] = region.project(normal(6, 5, dtype=dtype) * 0.05)[1:3]
    points[1] = 0
    gradients[1:3] = 0
    if kind in ("linf", "box", "linfbox"):
        # Held by some limits, free with zero gradient elsewhere.
        points[3, :2] *= 0.3
        gradients[3, :2] = 0
    return region, points, gradients


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", CONVEX)
def test_residual_vanishes_at_kkt_points_and_only_there(kind, dtype):
    region, points, gradients = kkt(kind, dtype)
    reference = region.magnitude(gradients)
    # Each of the few terms is rounded once.
    assert region.residual(points, gradients, reference).max() <= 8 * EPS[dtype]
    moving = torch.tensor([0, 4, 5])
    # μ < 0: γ vanishes, the point is to be left inwards.
    inward = region.residual(points, -gradients, reference)[moving]
    assert inward.min() > 0.1
    turned = region.residual(points, gradients.roll(1, 1), reference)[moving]
    assert turned.min() > 0.01


def test_residual_of_the_sphere_vanishes_at_either_sign_of_the_multiplier():
    points = normal(4, 5)
    region = Sphere(2.0).bind(points)
    points = region.project(points)
    gradients = points * torch.tensor([[3.0], [-3.0], [0.0], [1.0]]).double()
    gradients[3] += normal(5, seed=3)
    residual = region.residual(points, gradients, _rows.norm(gradients))
    tangential = gradients[3] - (gradients[3] @ points[3]) * points[3] / 4
    assert residual[:3].max() <= 8 * EPS[torch.float64]
    # Definition: γ/‖g‖, three roundings.
    assert float(residual[3]) == pytest.approx(
        float(tangential.norm() / gradients[3].norm()), abs=1e-14
    )


@pytest.mark.parametrize("radius", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_residual_is_free_of_the_scale_of_the_objective(kind, dtype, radius):
    like = torch.zeros(8, 5, dtype=dtype)
    region = make(kind, like, radius)
    points = region.project(points_for(region, like, radius))
    gradients = normal(8, 5, seed=4, dtype=dtype)
    reference = region.magnitude(normal(8, 5, seed=6, dtype=dtype))
    expected = region.residual(points, gradients, reference)
    for scale in (1e-30, 1e-12, 1e12, 1e30):
        scaled = region.residual(points, gradients * scale, reference * scale)
        # Rounding of g·scale moves terms of order one by an ulp each.
        assert (scaled - expected).abs().max() <= 16 * EPS[dtype]
        floor = region.residual_floor(
            points, gradients * scale, _rows.norm(gradients * scale), reference * scale
        )
        assert (~(floor > scaled + 16 * EPS[dtype])).all()


@pytest.mark.parametrize("kind", [*CONVEX, "sphere"])
def test_no_point_is_stationary_against_a_reference_that_is_not_finite(kind):
    like = torch.zeros(3, 4, dtype=torch.float64)
    region = make(kind, like)
    points, gradients = region.project(normal(3, 4)), normal(3, 4, seed=1)
    reference = region.magnitude(gradients)
    reference[0], reference[1] = torch.nan, torch.inf
    residual = region.residual(points, gradients, reference)
    assert residual.isnan().tolist() == [True, True, False]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(data=st.data())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["l1", "l2", "linf", "l1box"])
def test_the_floor_is_below_the_residual(kind, dtype, data):
    width = 32 if dtype == torch.float32 else 64
    d = data.draw(st.integers(1, 4))
    entry = st.floats(-1, 1, width=width) | st.sampled_from([0.0, 1.0, -1.0, 1e-3])
    rows = [data.draw(st.lists(entry, min_size=d, max_size=d)) for _ in range(3)]
    radius = data.draw(st.sampled_from([1e-6, 0.3, 1.0, 1e9]))
    scale = data.draw(st.sampled_from([1e-30, 1e-9, 1.0, 1e9, 1e30]))
    points, gradients, other = (torch.tensor([row], dtype=dtype) for row in rows)
    region = make(kind, points, radius, data.draw(st.sampled_from(LIMITS)))
    if data.draw(st.booleans()):
        # Near stationary points, where the loop must look closely.
        gradients = points * data.draw(st.sampled_from([1.0, -1.0])) + other * 1e-4
        points = region.linear_maximiser(points)
    points, gradients, other = region.project(points * radius), gradients * scale, other
    reference = region.magnitude(other * scale)
    residual = region.residual(points, gradients, reference)
    floor = region.residual_floor(points, gradients, _rows.norm(gradients), reference)
    # gᵀδ cancels against ε‖g‖ to a few ulp of the reference; NaN goes the exact way.
    assert (~(floor > residual + 8 * EPS[dtype])).all()


def test_the_floor_is_useful():
    gradients = normal(50, 30)
    for kind in ("l2", "linf"):
        region = make(kind, gradients, 0.5)
        reference = region.magnitude(gradients)
        floor = region.residual_floor(
            gradients * 0, gradients, _rows.norm(gradients), reference
        )
        assert floor.min() > 0.2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["l1", "l1box", "l2", "sphere", "l2box"])
def test_projections_of_an_image_net_input_are_not_outside(kind, dtype):
    # Equal entries: torch's own norm is 540 (float32) and 1200 (float64) ulp off.
    points = torch.full((2, 3, 224, 224), 0.1, dtype=dtype)
    points[1] = normal(3, 224, 224, dtype=dtype)
    region = make(kind, points, 3.0, "loose")
    for projected in (region.project(points), region.linear_maximiser(points)):
        assert region.contains(projected).all()
        exact = projected.flatten(1).numpy().astype(np.longdouble)
        length = np.sqrt((exact**2).sum(1))
        if region.norm == "l1":
            length = abs(exact).sum(1)
        # Two or three roundings, and those of one block of 256 squares.
        assert abs(length / 3 - 1).max() <= 4 * EPS[dtype]
