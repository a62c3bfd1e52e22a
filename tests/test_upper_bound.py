"""Upper bounds against dense truth, many starts and their own invariances."""

import itertools

import pytest
import torch

import summiteer as sm
from fakes import classifier, seeded
from summiteer.errors import UserError
from summiteer.optimality.bracket import proved_robust
from summiteer.optimality.branching import best_everywhere, branch, stacked
from summiteer.optimality.ceiling import Ceiling, climb, surface_bound, whole
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.newton import newton
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of, stand
from surfaces import REGIONS, SMOOTH, case, region_of, samples, truth, values

over_smooth = pytest.mark.parametrize("name", SMOOTH)
over_regions = pytest.mark.parametrize("kind", REGIONS)


@over_smooth
@over_regions
def test_bounds_are_above_dense_truth(name, kind):
    scales = [(1.0, 1.0), (1e-3, 1.0), (30.0, 0.1), (1e3, 1.0), (3.0, 1.0)]
    for i, (dim, width) in enumerate([(1, 3), (2, 1), (2, 6), (3, 2), (3, 9)]):
        for turn, (scale, radius) in enumerate((scales[i], scales[i - 1])):
            setting = case(name, kind, dim, width, scale, radius, seed=10 * i)
            surface, limits, region = setting
            best, at = truth(surface, limits, region, 2000)
            room = 1e-9 * best.abs()  # of the plain float values
            # Each size, and each scale, once with a point and once without.
            bound = surface_bound(surface, limits, None if turn else at)
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


@pytest.mark.parametrize(
    ("width", "names"), [(40, ("softplus", "sin")), (6, ("tanh",))]
)
@over_regions
def test_never_below_the_best_of_many_starts(kind, width, names):
    dim = 20
    for seed, name in enumerate(names):
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


def test_nan_lowers_nothing():
    surface, limits, _ = case("tanh", "l2", 2, 3)
    broken = Ceiling(
        torch.full((2,), torch.nan).double(), *torch.zeros(2, 2, 2).double()
    )
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
        return sm.upper_bound(problem, torch.zeros_like(x)).upper

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


@pytest.mark.parametrize(
    ("objective", "outputs"),
    [
        (sm.Margin(), 2),
        (sm.Margin(), 5),
        (sm.CrossEntropy(), 2),
        (sm.CrossEntropy(), 3),
    ],
)
def test_several_outputs(objective, outputs):
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
    bracket = sm.upper_bound(deep, budget=3)
    assert bool(bracket.upper.isnan().all())
    assert all(bracket.reason)
    assert len(bracket) == 2
    assert proved_robust(deep) is None


def test_bad_arguments_are_named():
    net = sm.TwoLayerNetwork.random(3, 4, "tanh")
    zero = torch.zeros(2, dtype=torch.float64)
    problem = sm.Problem(net, seeded(2, 3), zero, sm.Quadratic(), sm.L2Ball(0.1))
    with pytest.raises(UserError, match="budget"):
        sm.upper_bound(problem, budget=-1)
    with pytest.raises(UserError, match="points"):
        sm.upper_bound(problem, torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("kind", "radius", "climbs"),
    [(kind, 0.15, 8) for kind in REGIONS]
    + [("l2", 0.4, 0), ("linf", 0.6, 0), ("box", 0.4, 0), ("cap", 0.6, 0)],
)
def test_proved_robust_is_never_contradicted(kind, radius, climbs, monkeypatch):
    # Without an attack of its own before, only the bounds decide.
    monkeypatch.setattr("summiteer.optimality.bracket._CLIMBS", climbs)
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
        region = region_of(kind, radius, 6)
        problem = sm.Problem(net, inputs, labels, sm.Margin(), region)
        robust = proved_robust(problem)
        assert not bool(robust[0])  # wrong to begin with
        start = sm.UniformStart(restarts=5, seed=0)
        ascent = sm.ascend(problem, sm.ProjectedAscent(), start=start, max_steps=50)
        assert not bool((robust & ascent.misclassified).any())
        proved += int(robust.sum())
    assert proved >= (12 if climbs else 0)


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
