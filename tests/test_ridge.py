"""Kinks at a point: their model, its highest point, and the proofs there (§9, Prop. 9).

Concave functions with planted kinks have known maximisers: multipliers in (0, 1) are
chosen, and the slope is made so that they are the ones.
"""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import seeded
from kinked import F64, Kinked, ascending, linear, local, losses, near
from summiteer.optimality.pieces import Enclosure
from summiteer.optimality.relaxation import relaxed_summit
from summiteer.optimality.ridge import along_ridges, ridge_in_box, ridge_on_ball
from summiteer.optimality.stand import Limits
from summiteer.optimality.ties import Ties, heights_gradient, ridges_near, ties_of

RADIUS = 0.5


def model_value(ties, row, steps):
    """g₀ᵀd + Σ a_j relu(h_j + w_jᵀd) at many d `[n, d]`."""
    heights = ties.height[row] + steps @ ties.normal[row].T
    return steps @ ties.rest[row] + heights.clamp(min=0) @ ties.weight[row]


def patches(model, point, radius):
    """(patch, here, problem) of one point with x = 0."""
    shape = point.shape
    problem = ascending(model, torch.zeros(1, *shape, dtype=F64), sm.L2Ball(5.0))
    form = local(problem, point[None])
    flat = point.flatten()[None]
    size = torch.tensor([radius], dtype=F64)
    return form.around(flat, size), form.around(flat, 0 * size), problem


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_the_model_of_one_layer_is_the_function_near_the_point(dim):
    normals, slope = seeded(6, dim, seed=dim), seeded(dim, seed=20)
    point = seeded(dim, seed=21)
    # Four kinks within reach of which one is convex, on its side; two far away.
    away = torch.tensor([0.0, 0.02, -0.03, 0.4, 3.0, -3.0], dtype=F64)
    weights = torch.tensor([-1.0, -2.0, -0.5, 1.5, -1.0, 1.0], dtype=F64)
    model = Kinked(slope, normals, away - normals @ point, weights)
    patch, here, problem = patches(model, point, 0.05)
    ties = ties_of(patch, here)
    assert int(ridges_near(patch, here)) == int(ties.real.sum()) == 3
    order = ties.place[0].argsort()
    assert torch.allclose(ties.normal[0][order], normals[:3], atol=1e-14)
    assert torch.allclose(ties.height[0][order], away[:3], atol=1e-14)
    assert torch.allclose(ties.weight[0][order], weights[:3], atol=1e-14)
    steps = 0.05 * seeded(200, dim, seed=22)
    steps = steps / steps.norm(dim=1, keepdim=True).clamp(min=0.05) * 0.05
    base = model_value(ties, 0, torch.zeros(1, dim, dtype=F64))
    risen = model_value(ties, 0, steps) - base
    truth = losses(problem, 0, point + steps) - losses(problem, 0, point[None])
    assert torch.allclose(risen, truth, atol=1e-13)


class Pooled(nn.Module):
    """-max_k(u_kᵀx + b_k) by max-pooling: concave, kinked where two of them tie."""

    def __init__(self, normals, heights):
        super().__init__()
        self.inner = linear(normals, heights)
        self.shape = nn.Unflatten(1, (1, 1, len(heights)))
        self.pool = nn.MaxPool2d((1, len(heights)))
        self.outer = linear([[-1.0]])

    def forward(self, x):
        return self.outer(self.pool(self.shape(self.inner(x))).flatten(1))


def test_heights_of_pooled_places_are_differences():
    normals, point = seeded(3, 2, seed=1), seeded(2, seed=2)
    patch, here, _ = patches(Pooled(normals, -normals @ point), point, 0.01)
    numbers = list(patch.around.kinks)
    assert len(numbers) == 2
    sides = {n: Enclosure.exact(torch.ones(1, 1, 1, 1, dtype=F64)) for n in numbers}
    zero = torch.zeros(1, dtype=torch.int64)
    first = heights_gradient(here, numbers[0], zero, zero, sides).middle[0]
    second = heights_gradient(here, numbers[1], zero, zero, sides).middle[0]
    assert torch.allclose(first, normals[1] - normals[0], atol=1e-14)
    # With share 1 of the right one the best of the first two is the second.
    assert torch.allclose(second, normals[2] - normals[1], atol=1e-14)


def test_leaky_kinks_and_layers_below_count_in_normals_and_weights():
    torch.manual_seed(0)
    first, second = linear(seeded(3, 2, seed=3)), linear(seeded(2, 3, seed=4))
    point = seeded(2, seed=5)
    leaky = nn.functional.leaky_relu
    inner = leaky(first(point), 0.1)
    with torch.no_grad():
        second.bias.copy_(-second.weight @ inner)
    last = linear([[-1.0, -2.0]])
    layers = first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.2), last
    patch, here, problem = patches(nn.Sequential(*layers), point, 1e-3)
    ties = ties_of(patch, here)
    assert int(ties.real.sum()) == 2
    x = point.clone().requires_grad_()
    heights = second(leaky(first(x), 0.1))
    for place in range(2):
        (truth,) = torch.autograd.grad(heights[place], x, retain_graph=True)
        found = ties.normal[0][ties.place[0] == place][0]
        assert torch.allclose(found, truth, atol=1e-14)
        weight = float(ties.weight[0][ties.place[0] == place])
        assert weight == pytest.approx(-0.8 * (1 + place), abs=1e-14)
    steps = 1e-4 * seeded(50, 2, seed=6)
    risen = model_value(ties, 0, steps) - model_value(ties, 0, 0 * steps[:1])
    truth = losses(problem, 0, point + steps) - losses(problem, 0, point[None])
    assert torch.allclose(risen, truth, atol=1e-14)


def random_ties(rows, count, dim, seed, pull):
    """Concave models with kinks about the points; padded differently in each row."""
    normal = seeded(rows, count, dim, seed=seed)
    height = 0.2 * seeded(rows, count, seed=seed + 1)
    weight = -seeded(rows, count, seed=seed + 2).abs()
    rest = pull * seeded(rows, dim, seed=seed + 3)
    step = torch.zeros(rows, count, dtype=torch.int64)
    unused = torch.arange(count) >= 1 + torch.arange(rows)[:, None] % count
    step[unused] = -1
    weight, height = weight.masked_fill(unused, 0), height.masked_fill(unused, 0)
    normal = normal.masked_fill(unused[:, :, None], 0)
    place = torch.arange(count).expand(rows, -1)
    return Ties(step, place, height, normal, weight, rest)


def region_limits(rows, dim, box, ball=True):
    full = torch.ones(rows, dim, dtype=F64)
    radius = (RADIUS if ball else torch.inf) * full[:, 0]
    return Limits(radius, -box * full, box * full, False)


def feasible_samples(limits, dim, count, seed):
    """Points of the ball ∩ box, many on their boundaries."""
    points = seeded(count, dim, seed=seed)
    size = torch.rand(count, 1, generator=torch.manual_seed(seed)).double() ** (1 / dim)
    size[::2] = 1.0
    points = RADIUS * size * points / points.norm(dim=1, keepdim=True)
    return points.clamp(limits.lower[0], limits.upper[0])


@pytest.mark.parametrize("box", [torch.inf, 0.4])
@pytest.mark.parametrize(("dim", "count"), [(2, 1), (2, 3), (3, 2), (4, 3)])
def test_the_ridge_on_a_ball_is_its_models_maximum(dim, count, box):
    rows = 30
    ties = random_ties(rows, count, dim, seed=dim + 10 * count, pull=3.0)
    limits = region_limits(rows, dim, box)
    start = seeded(rows, dim, seed=1)
    start = RADIUS * start / start.norm(dim=1, keepdim=True)
    start = start.clamp(-box, box)
    found = ridge_on_ball(ties, limits, start)
    share = found.multipliers
    assert bool(((share >= 0) & (share <= 1)).all())
    samples = feasible_samples(limits, dim, 20000, 2)
    on_boundary = 0
    for row in range(rows):
        values = model_value(ties, row, samples - start[row])
        best = samples[values.argmax()]
        # The clamped samples lie within both: only where the ball is active there.
        round_ = float(best.norm()) > 0.995 * RADIUS
        on_boundary += round_
        if not bool(found.solved[row]):
            continue
        made = found.points[row]
        own = model_value(ties, row, (made - start[row])[None])
        assert float(own) >= float(values.max()) - 1e-12
        assert float(made.norm()) == pytest.approx(RADIUS, rel=1e-13)
        assert bool((made.abs() <= box * (1 + 1e-15)).all())
        heights = ties.heights(found.points - start)[row]
        real = ties.real[row]
        assert bool((share[row][real & (heights > 1e-9)] == 1).all())
        assert bool((share[row][real & (heights < -1e-9)] == 0).all())
    # Limits and kinks together may make the guesses cycle.
    most = 0.9 if box == torch.inf else 0.5
    assert int(found.solved.sum()) >= most * on_boundary
    assert on_boundary > 4
    tied = (share > 1e-6) & (share < 1 - 1e-6) & found.solved[:, None]
    assert bool(tied.any()) or box < torch.inf


@pytest.mark.parametrize(("dim", "count"), [(2, 1), (2, 3), (3, 4)])
def test_the_ridge_in_a_box_is_its_models_maximum(dim, count):
    rows = 12
    ties = random_ties(rows, count, dim, seed=dim + 20 * count, pull=1.0)
    limits = region_limits(rows, dim, 0.3, ball=False)
    start = 0.1 * seeded(rows, dim, seed=3).clamp(-3, 3)
    reach = torch.linspace(0.05, 0.5, rows, dtype=F64)
    found = ridge_in_box(ties, limits, start, reach)
    assert bool(found.solved.all())
    share = found.multipliers
    assert bool(((share >= 0) & (share <= 1)).all())
    grid = torch.rand(20000, dim, generator=torch.manual_seed(4)).double() * 2 - 1
    grid[:5000] = grid[:5000].sign()
    grid[5000:10000, 0] = grid[5000:10000, 0].sign()
    for row in range(rows):
        low = torch.maximum(limits.lower[row], start[row] - reach[row])
        high = torch.minimum(limits.upper[row], start[row] + reach[row])
        samples = low + (high - low) * (grid + 1) / 2
        values = model_value(ties, row, samples - start[row])
        made = found.points[row]
        assert bool(((made >= low - 1e-12) & (made <= high + 1e-12)).all())
        own = float(model_value(ties, row, (made - start[row])[None]))
        assert own >= float(values.max()) - 1e-12
        # The slope with these multipliers leads out of the box, in free coordinates 0.
        slope = ties.slope(share)[row]
        assert bool((slope[made < high - 1e-9] <= 1e-6).all())
        assert bool((slope[made > low + 1e-9] >= -1e-6).all())


def test_along_the_ridges_no_tied_kink_changes_its_height():
    ties = random_ties(10, 3, 5, seed=9, pull=1.0)
    share = torch.full((10, 3), 0.5, dtype=F64)
    share[:, 2] = 1.0
    ridge = type("R", (), {"multipliers": share})
    way = seeded(10, 5, seed=8)
    along = along_ridges(ties, ridge, way)
    tied = ties.real & (share < 1)
    change = torch.einsum("rtd,rd->rt", ties.normal, along)
    assert float(change[tied].abs().max()) < 1e-13
    moved = torch.einsum("rtd,rd->rt", ties.normal, way)
    assert float(moved[tied].abs().min()) > 1e-3
    # The nearest such way: what was taken is a sum of the tied normals.
    free = ties.real[:, 2]
    assert float(change[free, 2].abs().min()) > 1e-4


def planted(kind, dim, count, seed, shares):
    """(model, point, region, kinds): concave, with a maximiser iff shares in [0, 1]."""
    normals = seeded(count, dim, seed=seed)
    weights = -0.5 - seeded(count, seed=seed + 1).abs()
    point = seeded(dim, seed=seed + 2)
    point = 0.2 * point / point.norm()
    region, push = sm.LinfBall(RADIUS), torch.zeros(dim, dtype=F64)
    if kind == "sphere":
        point, region = point * (RADIUS / point.norm()), sm.L2Ball(RADIUS)
        push = 2.0 * point
    if kind == "face":
        point[0], push[0] = RADIUS, 0.7
    slope = push - (shares * weights) @ normals
    return Kinked(slope, normals, -normals @ point, weights), point, region


def proof_at(model, point, region, reach=0.1, off=0.0, rows=1):
    """(problem, stand, summit, start) of `relaxed_summit` from points near `point`."""
    dim = len(point)
    problem = ascending(model, torch.zeros(rows, dim, dtype=F64), region)
    moved = point + off * seeded(rows, dim, seed=77)
    start = problem.feasible.project(moved)
    form = local(problem, start)
    size = torch.full((rows,), reach, dtype=F64)
    ball = start.norm(dim=1) >= form.limits.radius - size
    with torch.no_grad():
        standing, summit, _ = relaxed_summit(form, start, size, ball)
    return problem, standing, summit, start


def refuted(problem, standing, summit, row, count=400):
    """What brute force says against a proof, or ''."""
    point, radius = standing.points[row], float(summit.radius[row])
    here = losses(problem, row, point[None])
    room, gain = float(summit.distance[row]), float(summit.gain[row])
    sizes = [s for s in (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3) if s < radius]
    sizes = [*sizes, radius * 0.99]
    seen = near(problem, row, point, sizes, count, seed=row)
    risen = losses(problem, row, seen) - here
    apart = (seen - point).norm(dim=1)
    noise = 1e-14 * (1 + float(here.abs()))
    if bool((risen > gain + noise).any()):
        return f"higher by {float(risen.max())}, not {gain}"
    if bool((risen[apart > room + 1e-12] > noise).any()):
        return "higher beyond the distance of the maximiser"
    # ½μD² must be above the floats' own noise to be seen.
    if bool(summit.strict[row]) and bool((risen[apart > max(room, 1e-6)] >= 0).any()):
        return "not strict"
    return ""


CASES = [
    ("sphere", 2, 1),
    ("sphere", 3, 1),
    ("sphere", 3, 2),
    ("sphere", 4, 2),
    ("face", 2, 1),
    ("face", 3, 2),
    ("box", 2, 2),
    ("box", 3, 3),
]


@pytest.mark.parametrize("off", [0.0, 1e-4])
@pytest.mark.parametrize(("kind", "dim", "count"), CASES)
def test_planted_maxima_on_ridges_are_proved(kind, dim, count, off):
    shares = torch.linspace(0.3, 0.7, count, dtype=F64)
    for seed in range(3):
        made = planted(kind, dim, count, 100 * seed + dim, shares)
        problem, standing, summit, _ = proof_at(*made, reach=0.05, off=off, rows=3)
        assert summit.proved.tolist() == [True] * 3
        for row in range(3):
            apart = float((standing.points[row] - made[1]).norm())
            # p itself is a float: off the kinks by rounding.
            assert apart <= float(summit.distance[row]) + 1e-15
            assert float(summit.distance[row]) < 1e-6
            assert refuted(problem, standing, summit, row) == ""


@pytest.mark.parametrize("share", [-0.05, 1.05, 1.5])
@pytest.mark.parametrize(("kind", "dim", "count"), CASES)
def test_a_multiplier_beyond_its_range_is_no_maximum(kind, dim, count, share):
    """The maximiser has left the kink: what is proved must be another point's."""
    shares = torch.full((count,), 0.5, dtype=F64)
    shares[0] = share
    for seed in range(2):
        made = planted(kind, dim, count, 100 * seed + dim, shares)
        problem, standing, summit, _ = proof_at(*made, reach=0.05)
        if not bool(summit.proved):
            continue
        assert refuted(problem, standing, summit, 0) == ""
        apart = float((standing.points[0] - made[1]).norm())
        assert apart > float(summit.distance[0])


@pytest.mark.parametrize("dim", [2, 3])
def test_a_valley_through_the_point_is_no_maximum_of_a_ball(dim):
    """F = pᵀx + a·relu(wᵀ(x - p)), w tangent: F rises into the valley's other side."""
    point = torch.zeros(dim, dtype=F64)
    point[0] = RADIUS
    normal = torch.zeros(1, dim, dtype=F64)
    normal[0, 1] = 1.0
    for weight in (1e-6, 1.0):
        model = Kinked(4 * point, normal, [0.0], [weight])
        problem, standing, summit, _ = proof_at(model, point, sm.L2Ball(RADIUS))
        if bool(summit.proved):
            assert refuted(problem, standing, summit, 0) == ""
            assert float((standing.points[0] - point).norm()) > 1e-9


def test_a_valley_that_both_sides_press_out_of_a_corner_is_a_maximum():
    point = torch.full((2,), RADIUS, dtype=F64)
    for weight, peak in ((0.9, True), (1.1, False)):
        normal = torch.tensor([[-1.0, 1.0]], dtype=F64)
        model = Kinked([1.0, 1.0], normal, [0.0], [weight])
        problem = ascending(model, torch.zeros(1, 2, dtype=F64), sm.LinfBall(RADIUS))
        verdict = sm.local_optimality(problem, point[None])
        proved = verdict.evidence[0] is sm.Evidence.PROVED
        assert (proved and verdict.verdict[0].is_maximum) == peak


class TwoLayers(nn.Module):
    """gᵀx - a relu(h₁) - b relu(c·relu(h₁) + w₂ᵀx + k): concave, both kinks at p."""

    def __init__(self, slope, normals, heights, weights, below):
        super().__init__()
        self.along = linear(slope[None])
        self.one = linear(normals[:1], heights[:1])
        self.two = linear(normals[1:], heights[1:])
        self.lift = linear([[below]])
        self.first, self.second = linear(weights[:1, None]), linear(weights[1:, None])

    def forward(self, x):
        first = torch.relu(self.one(x))
        second = torch.relu(self.two(x) + self.lift(first))
        return self.along(x) + self.first(first) + self.second(second)


def stacked(seed, inner):
    """(model, point): concave, with kinks of two layers at its maximiser."""
    normals, point = seeded(2, 3, seed=40 + seed), seeded(3, seed=50 + seed)
    point = RADIUS * point / point.norm()
    weights = torch.tensor([-0.8, -1.3], dtype=F64)
    below, shares = 0.7, torch.tensor([0.4, 0.6], dtype=F64)
    pulled = normals.clone()
    pulled[1] += below * inner * normals[0]
    slope = 2 * point - (shares * weights) @ pulled
    return TwoLayers(slope, normals, -normals @ point, weights, below), point


def chained(seed, places, dim):
    """(model, point): all places of one window tie at the maximiser."""
    normals, point = seeded(places, dim, seed=60 + seed), seeded(dim, seed=70 + seed)
    point = RADIUS * point / point.norm()
    share = torch.rand(places, generator=torch.manual_seed(seed)).double() + 0.2
    share = share / share.sum()
    # Σ λ_k u_k = -2p: the ball presses with 2.
    normals = normals - share @ normals - 2 * point
    return Pooled(normals, -normals @ point), point


def proved_of(made):
    """How many are proved, none of them against brute force or the planted point."""
    count = 0
    for model, point in made:
        problem, standing, summit, _ = proof_at(
            model, point, sm.L2Ball(RADIUS), reach=0.02
        )
        if bool(summit.proved):
            count += 1
            assert refuted(problem, standing, summit, 0) == ""
            apart = float((standing.points[0] - point).norm())
            assert apart <= float(summit.distance[0]) + 1e-15
    return count


@pytest.mark.parametrize("inner", [0.0, 0.5, 1.0])
def test_kinks_of_two_layers_at_one_point_hold_it_together(inner):
    assert proved_of(stacked(seed, inner) for seed in range(4)) >= 3


@pytest.mark.parametrize(("places", "dim"), [(2, 2), (3, 3), (3, 4)])
def test_proofs_at_ties_of_pooled_places_are_true(places, dim):
    proved_of(chained(seed, places, dim) for seed in range(8))


@pytest.mark.parametrize(("places", "dim"), [(2, 2), (3, 3), (3, 4)])
def test_ties_of_pooled_places_hold_a_maximum(places, dim):
    assert proved_of(chained(seed, places, dim) for seed in range(4)) >= 3


def test_a_false_ridge_is_seen_by_the_brute_force_of_this_file():
    """A sum of the checks above that cannot fail would say '' here too."""
    shares = torch.tensor([1.4], dtype=F64)
    model, point, region = planted("sphere", 3, 1, 3, shares)
    good = planted("sphere", 3, 1, 3, torch.tensor([0.5], dtype=F64))
    _, standing, summit, _ = proof_at(*good, reach=0.05)
    problem = ascending(model, torch.zeros(1, 3, dtype=F64), region)
    assert torch.allclose(standing.points[0], point, atol=1e-9)
    assert bool(summit.proved)
    assert refuted(problem, standing, summit, 0) != ""
