"""Upper bounds against dense truth, many starts, Arb, and their own invariances."""

import itertools

import pytest
import torch
from flint import arb, arb_mat, ctx

import summiteer as sm
from exact import exact
from fakes import classifier, seeded
from summiteer.errors import UserError
from summiteer.networks.activations import ACTIVATIONS
from summiteer.optimality import dual
from summiteer.optimality.branching import best_everywhere, branch, stacked
from summiteer.optimality.ceiling import Ceiling, climb, surface_bound, whole
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.majorant import tangent_majorant
from summiteer.optimality.polish import newton
from summiteer.optimality.rounding import Enclosure, length
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of, stand
from summiteer.optimality.surface import Surface
from summiteer.optimality.upper_bound import objective_bound, proved_robust

SMOOTH = [name for name, sigma in ACTIVATIONS.items() if sigma.smooth]
REGIONS = ["l2", "linf", "box", "cap"]
over_smooth = pytest.mark.parametrize("name", SMOOTH)
over_regions = pytest.mark.parametrize("kind", REGIONS)


def region_of(kind, radius, dim):
    low = -radius * (0.3 + 0.7 * torch.arange(dim).double() / dim)
    box = sm.Box(low, 0.6 * radius * torch.ones(dim).double())
    return {
        "l2": sm.L2Ball(radius),
        "linf": sm.LinfBall(radius),
        "box": box,
        "cap": sm.Intersection(sm.L2Ball(radius), box),
    }[kind]


def samples(region, dim, count, seed=0):
    """Points of a bound region: random ones, and many on its boundary."""
    points = seeded(count, dim, seed=seed)
    size = torch.linspace(0, 3, count).double()[:, None] * float(
        torch.as_tensor(region.size).max()
    )
    return region.project(points / points.norm(dim=1, keepdim=True) * size)


def case(name, kind, dim, width, scale=1.0, radius=1.0, rows=2, seed=0):
    """(surface, limits, region, copy of the region for n points)."""
    net = sm.TwoLayerNetwork(
        scale * seeded(width, dim, seed=seed),
        seeded(width, seed=seed + 1),
        seeded(width, seed=seed + 2),
        activation=name,
    )
    inputs = seeded(rows, dim, seed=seed + 3)
    output = net.output_weights.detach().expand(rows, -1)
    shift = torch.zeros(rows, dtype=torch.float64)
    surface = Surface.of(net, inputs, Enclosure.exact(output), Enclosure.exact(shift))
    region = region_of(kind, radius, dim)
    limits = limits_of(region.bind(inputs), inputs)
    return surface, limits, region


def values(surface, index, points):
    """F of one row at many points, rounded down."""
    inner = surface.centre.middle[index] + points @ surface.hidden.T
    sigma = surface.activation
    return (
        sigma.value(inner) @ surface.output.middle[index]
        + (surface.shift.middle[index])
    )


def truth(surface, limits, region, count=20000):
    """(best sampled value, point) of each row."""
    dim = limits.lower.shape[1]
    points = samples(region.bind(seeded(count, dim)), dim, count)
    best = [values(surface, i, points) for i in range(len(surface))]
    at = torch.stack([points[v.argmax()] for v in best])
    return torch.stack([v.max() for v in best]), at


@over_smooth
@over_regions
def test_bounds_are_above_dense_truth(name, kind):
    scales = [(1.0, 1.0), (1e-3, 1.0), (30.0, 0.1), (1e3, 1.0), (3.0, 1.0)]
    for i, (dim, width) in enumerate([(1, 3), (2, 1), (2, 6), (3, 2), (3, 9)]):
        for scale, radius in (scales[i], scales[i - 1]):
            setting = case(name, kind, dim, width, scale, radius, seed=10 * i)
            surface, limits, region = setting
            best, at = truth(surface, limits, region, 2000)
            room = 1e-9 * best.abs()  # of the plain float values
            for points in (None, at):
                bound = surface_bound(surface, limits, points)
                assert bool((bound >= best - room).all()), (dim, width, scale, radius)
                assert bool(bound.isfinite().all())


@over_smooth
@over_regions
def test_branching_closes_the_gap_and_only_ever_lowers_the_bound(name, kind):
    surface, limits, region = case(name, kind, 2, 5, seed=3, rows=1)
    best, at = truth(surface, limits, region)
    known = climb(surface, whole(surface, limits), at)
    goal = float(best[0]) + 1e-6 * float(best[0].abs())
    tree = branch(surface, limits, at, known, goal, 200)
    tops = [float(top) for _, top in tree.history]
    assert all(a >= b for a, b in itertools.pairwise(tops))
    assert tops[-1] >= float(best[0]) - 1e-9
    assert tops[-1] <= goal + 0.02 * (abs(goal) + float(known.top[0]) - goal)
    # A smaller budget is a prefix of a larger one.
    for budget in (0, 5, 30):
        less = branch(surface, limits, at, known, goal, budget)
        assert less.spent <= budget
        assert less.history == tree.history[: len(less.history)]


@over_regions
def test_every_patch_is_above_its_own_truth(kind):
    surface, limits, region = case("tanh", kind, 3, 8, scale=1.5, seed=4)
    best, at = truth(surface, limits, region)
    copies = torch.tensor([0, 1])
    # The same piece twice, and in any order: rows must not be mixed up.
    both = stacked([surface, surface.negated()])
    region4 = limits.take(torch.cat([copies, copies]))
    known = climb(both, whole(both, region4), torch.cat([at, at]))
    tree = branch(both, region4, torch.cat([at, at]), known, -torch.inf, 120)
    leaves, points = tree.leaves, samples(region.bind(seeded(9999, 3)), 3, 9999)
    along = leaves.patches.frame.along(points).middle
    covered = torch.zeros(4, len(points), dtype=torch.bool)
    for i in range(len(leaves.top)):
        low, high = leaves.patches.low[i], leaves.patches.high[i]
        inside = ((along >= low) & (along <= high)).all(1)
        piece = int(leaves.piece[i])
        covered[piece] |= inside
        if bool(inside.any()):
            found = values(both, piece, points[inside])
            assert float(found.max()) <= float(leaves.top[i]) + 1e-9
    assert bool(covered.all())
    assert bool((tree.leaves.highest(4)[:2] >= best - 1e-9).all())


@pytest.mark.parametrize("vectors", ["frame", "axes"])
def test_patches_hold_the_preactivations_of_their_points(vectors):
    kind = "l2" if vectors == "frame" else "cap"
    surface, limits, region = case("softplus", kind, 3, 7, rows=1, seed=6)
    # Not orthonormal, not normal: any floats are a frame.
    frame = 0.2 * seeded(3, 2, seed=1) + torch.eye(3, 2).double()
    patches = whole(surface, limits, frame if vectors == "frame" else None)
    points = samples(region.bind(seeded(20000, 3)), 3, 20000)
    along = patches.frame.along(points).middle
    inner = surface.centre.middle + points @ surface.hidden.T
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        axes = torch.randint(patches.frame.size, (len(patches),), generator=generator)
        patches = patches.halves(axes)
    rows = torch.zeros(len(patches), dtype=torch.int64)
    interval, nothing = patches.interval(stacked([surface] * len(rows)))
    for i in range(len(patches)):
        inside = ((along >= patches.low[i]) & (along <= patches.high[i])).all(1)
        if not bool(inside.any()):
            continue
        assert not bool(nothing[i])
        assert bool((inner[inside] <= interval.upper[i] + 1e-12).all())
        assert bool((inner[inside] >= interval.lower[i] - 1e-12).all())


@pytest.mark.parametrize("sizes", [(20, 40), (20, 6)])
@over_regions
def test_never_below_the_best_of_many_starts(kind, sizes):
    dim, width = sizes
    for seed, name in enumerate(["softplus", "tanh", "sin"]):
        net = sm.TwoLayerNetwork.random(dim, width, name, seed=seed, bias_std=0.5)
        inputs = seeded(3, dim, seed=seed)
        region = region_of(kind, 1.5, dim)
        targets = torch.zeros(3, dtype=torch.float64)
        problem = sm.Problem(net, inputs, targets, sm.Quadratic(), region)
        start = sm.UniformStart(restarts=10, seed=0)
        ascent = sm.ascend(problem, sm.ProjectedAscent(), start=start, max_steps=50)
        loss = problem.rows().value(ascent.best).loss
        for points in (None, ascent.best):
            bracket = sm.upper_bound(problem, points, budget=2)
            assert bool((bracket.upper >= loss * (1 - 1e-12)).all())
            assert bool((bracket.lower <= bracket.upper).all())
        assert torch.allclose(bracket.lower, loss, rtol=1e-9)


def exact_dual(surface, place, weights, patches, chosen):
    """The dual about z with A⁻¹ in Arb, for the first row: nothing is estimated."""
    hidden = [[arb(x) for x in r] for r in surface.hidden.tolist()]
    width, dim = len(hidden), len(hidden[0])
    p, z = ([arb(x) for x in v[0].tolist()] for v in (place.points, chosen.at))
    a = [arb(x) for x in surface.output.middle[0].tolist()]
    # Wx + b to rounding; the float is the function's own here.
    h = [
        arb(c) + sum(w * x for w, x in zip(r, p, strict=True))
        for c, r in zip(surface.centre.middle[0].tolist(), hidden, strict=True)
    ]
    name = surface.activation.name
    step = [x - y for x, y in zip(z, p, strict=True)]
    moved = [sum(w * x for w, x in zip(r, step, strict=True)) for r in hidden]
    heavy = [arb(x) for x in weights[0].tolist()]
    value, left = arb(0), [arb(0)] * dim
    for j in range(width):
        s, slope = exact(name, h[j], 2)
        value += a[j] * (s + slope * moved[j]) + heavy[j] * moved[j] ** 2 / 2
        pull = a[j] * slope + heavy[j] * moved[j]
        left = [x + pull * w for x, w in zip(left, hidden[j], strict=True)]
    matrix = arb_mat(
        [
            [-sum(heavy[j] * hidden[j][i] * hidden[j][k] for j in range(width))
             for k in range(dim)]
            for i in range(dim)
        ]
    )  # fmt: skip
    ball = arb(float(chosen.ball[0]))
    if patches.limits.round:
        radius = arb(float(patches.limits.radius[0]))
        value += ball * (radius**2 - sum(x * x for x in z)) / 2
        left = [x - ball * y for x, y in zip(left, z, strict=True)]
    for i in range(dim):
        matrix[i, i] += ball
    if patches.frame.vectors is None:
        for i in range(dim):
            nu = arb(float(chosen.slabs[0, i]))
            lo, hi = arb(float(patches.low[0, i])), arb(float(patches.high[0, i]))
            value += nu * (hi - z[i]) * (z[i] - lo) / 2
            left[i] += nu * ((lo + hi) / 2 - z[i])
            matrix[i, i] += nu
    rest = arb_mat([[x] for x in left])
    assert all(pivot > 0 for pivot in pivots(matrix))
    return value + (rest.transpose() * matrix.solve(rest))[0, 0] / 2


def pivots(matrix):
    """Of Gaussian elimination: all positive where the matrix is positive definite."""
    size = matrix.nrows()
    rows = [[matrix[i, k] for k in range(size)] for i in range(size)]
    found = []
    for i in range(size):
        found.append(rows[i][i])
        for k in range(i + 1, size):
            share = rows[k][i] / rows[i][i]
            rows[k] = [x - share * y for x, y in zip(rows[k], rows[i], strict=True)]
    return found


@over_smooth
@over_regions
def test_the_bound_is_the_formula_in_arb_rounded_up(name, kind):
    before, ctx.prec = ctx.prec, 600
    try:
        for seed, scale in [(0, 1.0), (1, 0.01), (2, 3.0)]:
            surface, limits, region = case(name, kind, 2, 4, scale, rows=1, seed=seed)
            best, at = truth(surface, limits, region, 2000)
            patches = whole(surface, limits)
            interval, _ = patches.interval(surface)
            place = surface.at(at)
            weights = tangent_majorant(place, interval)
            solve = dual.interior_point if patches.frame.size else dual.trust_region
            chosen = solve(place, weights, patches)
            bound = dual.bound(place, weights, patches, chosen)
            formula = exact_dual(surface, place, weights, patches, chosen)
            # Arb starts from the rounded Wx + b: within the enclosure's own radius.
            room = length(surface.output.middle) * surface.centre.radius.amax() * 4
            low = arb(float(bound[0] + 10 * room[0] + 1e-14 * bound.abs()[0]))
            assert formula <= low, (name, kind, float(bound[0]))
            assert float(formula.mid()) >= float(best[0]) - 1e-9
            # And the bound is hardly above it.
            width = abs(float(bound[0])) + float(limits.reach[0])
            assert float(bound[0]) - float(formula.mid()) <= 1e-8 * width
    finally:
        ctx.prec = before


def test_bounds_hold_for_any_multipliers_and_any_centre():
    """Nothing that floats choose can make a bound false."""
    for seed in range(30):
        kind = REGIONS[seed % 4]
        surface, limits, region = case("gelu", kind, 3, 6, rows=2, seed=seed)
        best, _ = truth(surface, limits, region, 3000)
        patches = whole(surface, limits)
        interval, _ = patches.interval(surface)
        place = surface.at(3 * seeded(2, 3, seed=seed))
        weights = tangent_majorant(place, interval)
        ball = 5 * seeded(2, seed=seed).abs() * float(limits.round)
        slabs = 5 * seeded(2, patches.frame.size, seed=seed).abs()
        at = 2 * seeded(2, 3, seed=seed + 1)
        for below in (ball - 0.1, ball - 10, ball + 1):
            chosen = dual.Multipliers(ball, slabs, at, below)
            bound = dual.bound(place, weights, patches, chosen)
            assert bool((bound >= best).all())
        chosen = dual.Multipliers(-ball - 1, slabs, at, ball + 50)
        assert bool(dual.bound(place, weights, patches, chosen).isinf().all())
        curvature = surface.weighted.largest(weights).clamp(min=0)
        bound = dual.separable_bound(place, curvature, patches)
        assert bool((bound >= best).all())


def test_nan_lowers_nothing():
    surface, limits, _ = case("tanh", "l2", 2, 3)
    broken = Ceiling(torch.full((2,), torch.nan).double(), torch.zeros(2, 2).double())
    tree = branch(surface, limits, torch.zeros(2, 2).double(), broken, 0.0, 0)
    assert bool(tree.history[0][1].isnan().all())
    nan = torch.full((2,), torch.nan).double()
    assert bool((surface_bound(surface, limits, None, nan)).isfinite().all())


def test_a_threshold_changes_the_work_not_the_truth():
    for kind in REGIONS:
        surface, limits, region = case("tanh", kind, 4, 12, scale=0.8, rows=6, seed=5)
        best, at = truth(surface, limits, region, 5000)
        full = surface_bound(surface, limits, at)
        for share in (-0.1, 0.0, 0.5, 3.0):
            threshold = best + share * (full - best + 0.1)
            bound = surface_bound(surface, limits, at, threshold)
            assert bool((bound >= best).all())
            assert bool((bound >= full - 1e-9).all())
            assert bool(((bound < threshold) | (bound <= full + 1e-9)).all())


def test_rotation_permutation_sign_and_scale_change_nothing_but_rounding():
    dim, width = 4, 10
    hidden, output = seeded(width, dim, seed=1), seeded(width, seed=2)
    bias, inputs = seeded(width, seed=3), seeded(3, dim, seed=4)
    targets = seeded(3, seed=5)

    def bound(w, a, b, x, y, c=1.0):
        net = sm.TwoLayerNetwork(w, a, b, activation="tanh")
        problem = sm.Problem(net, x, y, sm.Quadratic(), sm.L2Ball(0.4 * c))
        return objective_bound(problem, torch.zeros_like(x))

    plain = bound(hidden, output, bias, inputs, targets)
    turn = torch.linalg.qr(seeded(dim, dim, seed=6))[0]
    order = torch.arange(width).flip(0)
    others = [
        bound(hidden @ turn, output, bias, inputs @ turn, targets),
        bound(hidden[order], output[order], bias[order], inputs, targets),
        bound(hidden, -output, bias, inputs, -targets),
        bound(hidden / 8, output, bias, 8 * inputs, targets, 8.0),
        bound(-hidden, -output, -bias, inputs, targets),  # tanh is odd
        bound(hidden, 1e6 * output, bias, inputs, 1e6 * targets) / 1e12,
    ]
    for other in others:
        assert torch.allclose(other, plain, rtol=1e-6)


def test_both_signs_of_the_quadratic_loss():
    """The far side of y = f bounds the loss where the near side does not."""
    net = sm.TwoLayerNetwork.random(2, 9, "softplus", seed=2, bias_std=1.0)
    inputs = seeded(1, 2)
    outputs = net(inputs).detach()
    for offset in (-0.3, -0.01, 0.01, 0.3):
        region = sm.L2Ball(1.0)
        problem = sm.Problem(net, inputs, outputs + offset, sm.Quadratic(), region)
        points = samples(region.bind(seeded(5000, 2)), 2, 5000)
        moved = net(inputs + points).detach()
        true = float((0.5 * (moved - outputs - offset) ** 2).max())
        bracket = sm.upper_bound(problem, budget=100)
        assert float(bracket.upper) >= true
        assert float(bracket.upper) <= true * 1.01 + 1e-3
        assert float(bracket.lower) <= true + 1e-12


@pytest.mark.parametrize("outputs", [2, 3, 5])
@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy()])
def test_several_outputs(outputs, objective):
    net = sm.TwoLayerNetwork(
        seeded(8, 2), seeded(outputs, 8, seed=1), seeded(8, seed=2), activation="tanh"
    )
    inputs, labels = seeded(4, 2, seed=3), torch.tensor([0, 1, 1, 0])
    region = sm.L2Ball(0.6)
    problem = sm.Problem(net, inputs, labels, objective, region)
    points = samples(region.bind(seeded(4000, 2)), 2, 4000)
    with torch.no_grad():
        true = torch.stack(
            [
                objective(net(x + points), label.expand(len(points))).max()
                for x, label in zip(inputs, labels, strict=True)
            ]
        )
    bracket = sm.upper_bound(problem, budget=40)
    assert bool((bracket.upper >= true - 1e-12).all())
    assert bool((bracket.lower <= true + 1e-12).all())
    single = type(objective) is sm.Margin or outputs == 2
    assert bool((bracket.upper - true <= (0.01 if single else 0.5)).all())
    assert bracket.history[0][0] == 0
    for (n, high), (k, low) in itertools.pairwise(bracket.history):
        assert n < k
        assert bool((high >= low).all())
    assert bool((bracket.gap >= bracket.upper - bracket.lower).all())


def test_logistic_and_margin_of_one_output():
    net = sm.TwoLayerNetwork.random(2, 7, "gelu", seed=4, bias_std=1.0)
    inputs = seeded(2, 2)
    labels = torch.tensor([1.0, -1.0]).double()
    for objective in (sm.Logistic(), sm.Margin()):
        problem = sm.Problem(net, inputs, labels, objective, sm.LinfBall(0.5))
        points = samples(sm.LinfBall(0.5).bind(seeded(4000, 2)), 2, 4000)
        bracket = sm.upper_bound(problem, budget=30)
        for i in range(2):
            target = labels[i].expand(len(points))
            with torch.no_grad():
                true = objective(net(inputs[i] + points), target).max()
            assert true - 1e-12 <= bracket.upper[i] <= true + 0.01


def test_what_is_not_known_has_a_reason_and_no_bound():
    inputs, targets = seeded(2, 8), torch.tensor([0, 1])
    deep = sm.Problem(
        classifier((8, 9, 9, 3)), inputs, targets, sm.Margin(), sm.L2Ball(0.1)
    )
    relu = sm.Problem(
        sm.TwoLayerNetwork.random(8, 5, "relu"),
        inputs,
        targets.double(),
        sm.Quadratic(),
        sm.L2Ball(0.1),
    )
    for problem in (deep, relu):
        bracket = sm.upper_bound(problem, budget=3)
        assert bool(bracket.upper.isnan().all())
        assert all(bracket.reason)
        assert len(bracket) == 2
    assert proved_robust(deep) is None
    assert proved_robust(relu) is None


def test_bad_arguments_are_named():
    net = sm.TwoLayerNetwork.random(3, 4, "tanh")
    zero = torch.zeros(2, dtype=torch.float64)
    problem = sm.Problem(net, seeded(2, 3), zero, sm.Quadratic(), sm.L2Ball(0.1))
    with pytest.raises(UserError, match="budget"):
        sm.upper_bound(problem, budget=-1)
    with pytest.raises(UserError, match="points"):
        sm.upper_bound(problem, torch.zeros(3, 3))


@over_regions
def test_proved_robust_is_never_contradicted(kind):
    proved = 0
    for seed, outputs in itertools.product(range(3), (None, 3)):
        shape = (30,) if outputs is None else (outputs, 30)
        net = sm.TwoLayerNetwork(
            seeded(30, 6, seed=seed), seeded(*shape, seed=seed + 1), activation="tanh"
        )
        inputs = seeded(12, 6, seed=seed + 2)
        values = net(inputs).detach()
        labels = values.sign() if outputs is None else values.argmax(1)
        labels[0] = -labels[0] if outputs is None else (labels[0] + 1) % outputs
        region = region_of(kind, 0.15, 6)
        problem = sm.Problem(net, inputs, labels, sm.Margin(), region)
        robust = proved_robust(problem)
        assert not bool(robust[0])  # wrong to begin with
        start = sm.UniformStart(restarts=5, seed=0)
        ascent = sm.ascend(problem, sm.ProjectedAscent(), start=start, max_steps=50)
        assert not bool((robust & ascent.misclassified).any())
        proved += int(robust.sum())
    assert proved >= 12


def test_proved_robust_on_an_easy_case():
    net = sm.TwoLayerNetwork(
        torch.eye(2).double(), torch.eye(2).double(), activation="softplus"
    )
    inputs = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).double()
    problem = sm.Problem(
        net, inputs, torch.tensor([0, 1]), sm.CrossEntropy(), sm.L2Ball(1.0)
    )
    assert proved_robust(problem).tolist() == [True, True]
    # The decision boundary is at distance 3/√2.
    wide = sm.Problem(
        net, inputs, torch.tensor([0, 1]), sm.CrossEntropy(), sm.L2Ball(2.2)
    )
    assert proved_robust(wide).tolist() == [False, False]


def standing_at(problem, points):
    """(form, first order, limits) where Newton's method ends."""
    form = scalar_form(problem, points)
    limits = limits_of(problem.feasible, points)
    reach = torch.full((len(points),), 0.1).double()
    polished, free, curved = newton(form.surface, limits, points, reach)
    there = stand(limits, polished, free, curved)
    return form, FirstOrder(form.surface.at(there.points, there.slack), there), limits


def test_branching_proves_what_one_patch_does_not():
    """λ < μ holds on the patches where points as good as the maximum may lie."""
    found = 0
    for seed in range(6):
        net = sm.TwoLayerNetwork.random(2, 12, "tanh", 1.5, seed, 0.5)
        zero = torch.zeros(1, dtype=torch.float64)
        region = sm.L2Ball(1.0)
        problem = sm.Problem(net, seeded(1, 2), zero, sm.Quadratic(), region)
        start = sm.UniformStart(restarts=20, seed=0)
        ascent = sm.ascend(problem, sm.ProjectedAscent(), start=start, max_steps=300)
        form, first, limits = standing_at(problem, ascent.best)
        if not bool(first.stand.curved.all()):
            continue
        bent = best_everywhere(form, first, limits, 60)
        points = samples(region.bind(seeded(20000, 2)), 2, 20000)
        if not bool(bent < first.multiplier):
            continue
        found += 1
        far = (points - first.stand.points).norm(dim=1)
        margin = first.multiplier - bent
        allowed = first.place.value.upper + first.leftover * far
        allowed = allowed - 0.5 * margin * far**2
        for surface in (form.surface, *form.rivals):
            seen = values(surface, 0, points)
            low = first.place.value.lower
            assert bool(((seen <= allowed + 1e-9) | (seen < low)).all())
        # From a worse critical point nothing may be proved.
        for other in ascent.final[:4, 0]:
            worse = standing_at(problem, other[None])
            value = worse[1].place.value.upper
            if float(value) < float(first.place.value.lower) - 1e-6:
                assert not bool(best_everywhere(*worse, 20).isfinite().any())
    assert found >= 2
