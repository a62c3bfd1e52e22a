"""Ways uphill from everywhere near: feasible for each point, and rising there (§9)."""

import itertools

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import seeded
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
from summiteer.optimality.stand import Limits
from summiteer.optimality.uphill import feasible, pinned, steepest, uphill

DIM, ROWS = 3, 40


def limits_for(name, rows):
    """The region's parts, written down once more."""
    low, high, radius = {
        "ball": (-torch.inf, torch.inf, 0.5),
        "cube": (-0.4, 0.4, torch.inf),
        "box": (-0.3, 0.45, torch.inf),
        "both": (-0.35, 0.4, 0.5),
        "aside": (0.1, 0.4, 0.5),
    }[name]
    full = torch.ones(rows, DIM, dtype=F64)
    return Limits(radius * full[:, 0], low * full, high * full, False)


def inside(limits, row, points):
    """Those of C, to the last bit of the box and 1e-15 of the ball."""
    box = ((points <= limits.upper[row]) & (points >= limits.lower[row])).all(1)
    return box & (points.norm(dim=1) <= limits.radius[row] * (1 + 1e-15))


def clipped(limits, row, points):
    """Into C (not the projection: the ball's scaling may leave a box far from 0)."""
    points = points.clamp(limits.lower[row], limits.upper[row])
    size = limits.radius[row] / points.norm(dim=1).clamp(min=1e-300)
    points = points * size.clamp(max=1.0)[:, None]
    return points[inside(limits, row, points)]


def around(limits, row, point, radius, seed):
    """Feasible points within R of p: inside, on every face, on the sphere."""
    ways = seeded(400, DIM, seed=seed)
    ways = ways / ways.norm(dim=1, keepdim=True)
    ways = ways * torch.rand(400, 1, generator=torch.manual_seed(seed)) ** 0.2
    corners = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=DIM)))
    corners = corners.double() / DIM**0.5
    moved = point + radius * torch.cat([ways, corners])
    onto = moved * (limits.radius[row] / moved.norm(dim=1, keepdim=True))
    moved = torch.cat([moved, onto]) if bool(limits.round) else moved
    made = clipped(limits, row, moved)
    return made[(made - point).norm(dim=1) <= radius]


def places(limits, seed):
    """Points in the middle, on faces, in corners, on the sphere."""
    rows = len(limits.radius)
    points = seeded(rows, DIM, seed=seed) * torch.linspace(0.05, 2.0, rows)[:, None]
    kept = []
    for row in range(rows):
        made = clipped(limits, row, points[row : row + 1])
        middle = 0.5 * (limits.lower[row] + limits.upper[row]).clamp(-9, 9).nan_to_num()
        kept.append(made[0] if len(made) else middle)
    return torch.stack(kept)


@pytest.mark.parametrize("radius", [1e-9, 1e-3, 0.1, 0.3])
@pytest.mark.parametrize("name", ["ball", "cube", "box", "both", "aside"])
def test_a_feasible_way_may_be_gone_from_every_point_near(name, radius):
    limits = limits_for(name, ROWS)
    points = places(limits, 1)
    size = torch.full((ROWS,), radius, dtype=F64)
    wanted = seeded(ROWS, DIM, seed=2)
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    way = feasible(limits, points, size, wanted)
    known = way.isfinite().all(1)
    for row in known.nonzero().flatten().tolist():
        v = way[row]
        seen = around(limits, row, points[row], radius, row)
        at_upper = (seen >= limits.upper[row]) & (v > 0)
        at_lower = (seen <= limits.lower[row]) & (v < 0)
        assert not bool((at_upper | at_lower).any())
        on_sphere = seen.norm(dim=1) >= limits.radius[row] * (1 - 1e-14)
        assert bool((seen[on_sphere] @ v < 0).all())
    if radius <= 1e-3:
        # Not bought by never answering, nor by answering 0.
        # Where no way towards 0 is within the limits, some sphere points have none.
        assert int(known.sum()) >= (ROWS if name != "aside" else 0.9 * ROWS)
        assert int((way.norm(dim=1) > 0.1).sum()) > 0.7 * ROWS


def test_far_from_all_limits_the_way_is_the_one_asked_for():
    limits = limits_for("both", 4)
    points = torch.full((4, DIM), 0.01, dtype=F64)
    wanted = seeded(4, DIM, seed=3)
    way = feasible(limits, points, torch.full((4,), 0.1, dtype=F64), wanted)
    assert torch.equal(way, wanted)


def test_on_the_sphere_itself_no_straight_way_is_feasible():
    limits = limits_for("ball", 2)
    limits = Limits(limits.radius, limits.lower, limits.upper, sphere=True)
    points = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.3, 0.4]], dtype=F64)
    size = torch.full((2,), 1e-3, dtype=F64)
    assert bool(feasible(limits, points, size, -points).isnan().all())


def gradients(problem, row, points):
    index = torch.full((len(points),), row)
    return problem.rows(index).evaluate(points).gradient


CASES = [
    (sm.Margin(), (DIM, 12, 8, 1)),
    (sm.Quadratic(), (DIM, 12, 8, 1)),
    (sm.Logistic(), (DIM, 12, 8, 1)),
    (sm.Margin(), (DIM, 10, 8, 4)),
    (sm.CrossEntropy(), (DIM, 10, 8, 4)),
]


def problem_of(objective, dims, region, rows=ROWS):
    inputs = seeded(rows, dims[0], seed=5)
    model = perceptron(dims, seed=7)
    targets = torch.where(seeded(rows, seed=6) > 0, 1.0, -1.0).double()
    if dims[-1] > 1:
        with torch.no_grad():
            targets = model(inputs).argmax(1)
    return sm.Problem(model, inputs, targets, objective, region)


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize(("objective", "dims"), CASES)
def test_from_everywhere_near_the_way_found_leads_uphill(objective, dims, name):
    problem = problem_of(objective, dims, REGIONS[name])
    points = problem.feasible.project(0.4 * seeded(ROWS, DIM, seed=8))
    form, decided = local(problem, points), 0
    for radius in (1e-3, 0.03):
        size = torch.full((ROWS,), radius, dtype=F64)
        with torch.no_grad():
            found = uphill(form.around(points, size))
        decided += int(found.proved.sum())
        here = problem.rows().value(points).loss
        for row in found.proved.nonzero().flatten().tolist():
            v = found.direction[row]
            assert abs(float(v.norm()) - 1) < 1e-12
            seen = near(problem, row, points[row], (radius, 0.5 * radius), 30, row)
            assert bool((gradients(problem, row, seen) @ v > 0).all())
            steps = radius * torch.linspace(1e-3, 1, 300, dtype=F64)[:, None]
            ends = points[row] + steps * v
            legal = inside(form.limits, row, ends)
            risen = losses(problem, row, ends[legal]) - here[row]
            assert bool((risen[:1] > 0).all())
            gain = form.readout.link.climb(
                found.low[row : row + 1], found.gain[row : row + 1]
            )
            if bool(gain > 0):
                assert float(risen.max()) >= 0.99 * float(gain) - 1e-13
    # Random points are no maxima.
    assert decided > ROWS


@pytest.mark.parametrize("name", REGIONS)
def test_no_way_is_found_next_to_a_maximum(name):
    """Of a linear function the maximiser is known: g's own in each region."""
    slopes = seeded(ROWS, DIM, seed=9)
    problem = ascending(
        linear(slopes[:1]), torch.zeros(ROWS, DIM, dtype=F64), REGIONS[name]
    )
    top = problem.feasible.linear_maximiser(slopes[:1].expand(ROWS, -1))
    size = torch.full((ROWS,), 1e-4, dtype=F64)
    ways = seeded(ROWS, DIM, seed=10)
    ways = ways / ways.norm(dim=1, keepdim=True)
    for off, some in ((0.0, False), (0.99e-4, False), (3e-3, True)):
        moved = problem.feasible.project(top + off * ways)
        apart = (moved - top).norm(dim=1)
        with torch.no_grad():
            found = uphill(local(problem, moved).around(moved, size)).proved
        assert not bool((found & (apart <= size)).any())
        assert bool(found.any()) == some


def kinked_patch(model, point, radius, region):
    problem = ascending(model, torch.zeros(1, len(point), dtype=F64), region)
    points = torch.tensor([point], dtype=F64)
    form = local(problem, points)
    return form.around(points, torch.tensor([radius], dtype=F64))


def test_the_steepest_way_serves_the_worst_gradient():
    """F = 5|x₁| + x₂: on the kink no gradient of ±5e₁ + e₂ is a way, but e₂ is."""
    model = Kinked([0.0, 1.0], [[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0], [5.0, 5.0])
    patch = kinked_patch(model, [0.0, 0.0], 0.1, sm.L2Ball(1.0))
    way = steepest(patch)
    assert float(way[0, 0]) == 0
    assert float(way[0, 1]) == pytest.approx(1.0)
    found = uphill(patch)
    assert found.proved.tolist() == [True]
    # On the kink F rises by 1 per unit: nothing more may be promised.
    assert 0.0999 <= float(found.gain) <= 0.1
    one_sided = uphill(patch, torch.tensor([[1.0, 0.1]], dtype=F64))
    assert one_sided.proved.tolist() == [False]


@pytest.mark.parametrize("height", [0.0, 0.05, -0.05])
def test_a_ridge_within_reach_is_not_called_uphill(height):
    """F = -|x₁ - h|: its maximisers lie within 0.1 of 0."""
    slope = [[1.0, 0.0], [-1.0, 0.0]]
    model = Kinked([0.0, 0.0], slope, [-height, height], [-1.0, -1.0])
    patch = kinked_patch(model, [0.0, 0.0], 0.1, sm.L2Ball(1.0))
    assert not bool(uphill(patch).proved)
    closer = kinked_patch(model, [height + 0.11, 0.0], 0.1, sm.L2Ball(1.0))
    assert bool(uphill(closer).proved)


def test_a_square_whose_residual_may_change_sign_leads_nowhere():
    """½(z - y)² at z = y is a minimum, but z itself rises: no proof may use that."""
    model = nn.Sequential(nn.Linear(2, 1, dtype=F64))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
        model[0].bias.zero_()
    inputs = torch.zeros(2, 2, dtype=F64)
    targets = torch.tensor([0.001, -10.0], dtype=F64)
    problem = sm.Problem(model, inputs, targets, sm.Quadratic(), sm.L2Ball(1.0))
    points = torch.zeros(2, 2, dtype=F64)
    size = torch.full((2,), 0.01, dtype=F64)
    found = uphill(local(problem, points).around(points, size))
    assert found.proved.tolist() == [False, True]


def test_a_cross_entropy_that_curves_upwards_has_no_maximum_near():
    """F = log(1 + eˣ + e⁻ˣ) is lowest at x = 0, where its gradient is zero."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    inputs, label = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([2])
    problem = sm.Problem(model, inputs, label, sm.CrossEntropy(), sm.LinfBall(1.0))
    found = sm.local_optimality(problem, inputs)
    assert found.verdict[0] is sm.Verdict.SADDLE
    assert found.evidence[0] is sm.Evidence.PROVED
    assert found.direction[0].abs().tolist() == [1.0, 0.0]
    end = torch.tensor(1e-3, dtype=torch.float64)
    rise = torch.log(1 + 2 * torch.cosh(end)) - torch.log(torch.tensor(3.0).double())
    assert 0 < float(found.guaranteed_gain[0]) <= float(rise) + 1e-15
    # At the limits it is highest.
    corner = torch.ones_like(inputs)
    assert bool(sm.local_optimality(problem, corner).maximum[0])


def test_coordinates_that_all_gradients_hold_are_pinned():
    """F = x₁ + 0.5|x₂| with x₂ free: what x₁ does near its limit plays no part."""
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)
    ).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.copy_(torch.tensor([5.0, 5.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.5]]))
    inputs, sign = torch.zeros(1, 2).double(), -torch.ones(1).double()
    problem = sm.Problem(model, inputs, sign, sm.Margin(), sm.LinfBall(1.0))
    point = torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    form = local(problem, point)
    with torch.no_grad():
        face = pinned(form.around(point, torch.tensor([0.1], dtype=torch.float64)))
    limits = face.form.limits
    assert (limits.lower[0, 0], limits.upper[0, 0]) == (1.0, 1.0)
    assert (limits.lower[0, 1], limits.upper[0, 1]) == (-1.0, 1.0)
    # 0.5 times what x₂ may do, nothing of x₁.
    assert face.around.vary[0].tolist() == pytest.approx([0.05], abs=1e-15)
