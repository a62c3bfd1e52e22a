"""Prop. 9 against exact truth: two-layer networks with kinks (mathematics.md §8)."""

import itertools
import random
from fractions import Fraction

import pytest
import torch

import summiteer as sm
from summiteer._caller import undisturbed
from summiteer.networks.activations import Abs, LeakyRelu, Relu
from summiteer.optimality import relu
from summiteer.optimality.relu import ascend_patterns
from summiteer.optimality.relu_form import Kinked
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of

F64 = torch.float64
LEFT = {"relu": Fraction(0), "abs": Fraction(-1)}
KINKED = (Relu(), LeakyRelu(0.3), Abs())


def vector(*entries):
    return torch.tensor(entries, dtype=F64)


def proved(problem, points, within=1e-3):
    """What the prover alone says."""
    with undisturbed(problem.model):
        return relu.prove(problem.in_double(), points.double(), within)


def summits(problem, points):
    """Ends of DC ascent."""
    with torch.no_grad():
        form = scalar_form(problem, points, kinked=True)
        limits = limits_of(problem.feasible, problem.inputs)
        return ascend_patterns(Kinked.of(form.surface), limits, points)[1].points


def problem_of(net, region, rows=1, inputs=None, objective=None, targets=None):
    """At x = 0 by default; a Margin with target -1 ascends the output itself."""
    dim = net.hidden_weights.shape[1]
    x = torch.zeros(rows, dim, dtype=F64) if inputs is None else inputs
    y = torch.full((len(x),), -1.0, dtype=F64) if targets is None else targets
    return sm.Problem(net, x, y, objective or sm.Margin(), region)


def numbers(claims, name):
    return [float(value) for value in claims.numbers[name]]


class Plane:
    """F = max of a few Σ_j a_j σ(w_j·p + b_j) + c with rational numbers, on a box."""

    def __init__(self, net, combinations, low, high):
        sigma = net.activation
        if sigma.name == "leaky_relu":
            self.left = Fraction(sigma.negative_slope)
        else:
            self.left = LEFT[sigma.name]
        self.rows = [[Fraction(v) for v in w] for w in net.hidden_weights.tolist()]
        self.bias = [Fraction(v) for v in net.hidden_bias.tolist()]
        self.outputs = combinations
        self.low, self.high = Fraction(low), Fraction(high)
        self.vertices = self._vertices()
        self.values = {p: self.value(p) for p in self.vertices}
        self.top = max(self.values.values())
        self.strict = [p for p in self.vertices if self._peak(p)]

    def _sigma(self, t):
        return t if t > 0 else self.left * t

    def _inner(self, p):
        return [
            sum(w * x for w, x in zip(row, p, strict=True)) + b
            for row, b in zip(self.rows, self.bias, strict=True)
        ]

    def value(self, p):
        inner = [self._sigma(h) for h in self._inner(p)]
        return max(
            sum(a * s for a, s in zip(out, inner, strict=True)) + shift
            for out, shift in self.outputs
        )

    def _lines(self):
        lines = [
            (*row, b) for row, b in zip(self.rows, self.bias, strict=True) if any(row)
        ]
        units = [(1, 0), (0, 1)] if len(self.rows[0]) == 2 else [(1,)]
        return lines + [
            (*unit, -end) for unit in units for end in (self.low, self.high)
        ]

    def _vertices(self):
        found = set()
        for left, right in itertools.combinations(self._lines(), 2):
            det = left[0] * right[1] - left[1] * right[0]
            if det:
                x = (left[1] * right[2] - right[1] * left[2]) / det
                y = (right[0] * left[2] - left[0] * right[2]) / det
                if self.low <= x <= self.high and self.low <= y <= self.high:
                    found.add((x, y))
        return sorted(found)

    def _peak(self, p):
        """Whether F falls along every edge of the arrangement that leaves p."""
        inner, (out, _) = self._inner(p), self.outputs[0]
        for line in self._lines():
            if line[0] * p[0] + line[1] * p[1] + line[2]:
                continue
            for way in ((line[1], -line[0]), (-line[1], line[0])):
                if any(
                    (x == self.low and v < 0) or (x == self.high and v > 0)
                    for x, v in zip(p, way, strict=True)
                ):
                    continue
                rise = Fraction(0)
                for a, row, h in zip(out, self.rows, inner, strict=True):
                    slope = row[0] * way[0] + row[1] * way[1]
                    if h == 0:
                        rise += a * self._sigma(slope)
                    else:
                        rise += a * (slope if h > 0 else self.left * slope)
                if rise >= 0:
                    return False
        return True


def distance(p, point):
    return sum((x - Fraction(y)) ** 2 for x, y in zip(p, point, strict=True))


def _number(rng, kind):
    if kind == "real":
        return rng.gauss(0, 1)
    near = rng.choice([0, 0, 0, 1, -1]) * 10.0 ** -rng.randint(8, 17)
    return rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0]) + (near if kind == "near" else 0.0)


@pytest.mark.parametrize("kind", ["integer", "near", "real"])
def test_claims_agree_with_every_vertex_of_small_arrangements(kind):
    # Integers make ties, duplicates, zero rows and plateaus; "near" almost makes them.
    rng, count = random.Random(kind), dict.fromkeys(sm.Verdict, 0)
    for _ in range(8):
        width, rows = rng.randint(2, 5), 4
        hidden = [[_number(rng, kind) for _ in range(2)] for _ in range(width)]
        output = [_number(rng, kind) for _ in range(width)]
        bias = [_number(rng, kind) for _ in range(width)]
        if rng.random() < 0.3:
            hidden[1], bias[1] = hidden[0], bias[0]
        net = sm.TwoLayerNetwork(
            torch.tensor(hidden, dtype=F64),
            vector(*output),
            vector(*bias),
            activation=rng.choice(KINKED),
        )
        plane = Plane(net, [([Fraction(a) for a in output], 0)], -1, 1)
        points = []
        for _ in range(rows):
            known = rng.choice(plane.strict or plane.vertices)
            off = rng.choice([0.0, 1e-4, 1e-9, 1e-13])
            moved = [float(x) + off * rng.gauss(0, 1) for x in known]
            points.append([min(max(x, -1.0), 1.0) for x in moved])
        problem = problem_of(net, sm.LinfBall(1.0), rows)
        claims = proved(problem, torch.tensor(points, dtype=F64), within=0.05)
        for i, point in enumerate(points):
            verdict = claims.verdict[i]
            count[verdict] += 1
            assert Fraction(numbers(claims, "upper_bound")[i]) >= plane.top
            if not verdict.is_maximum:
                continue
            way = Fraction(numbers(claims, "distance_bound")[i]) ** 2
            gap = Fraction(numbers(claims, "loss_gap_bound")[i])
            here = plane.value([Fraction(x) for x in point])
            if verdict is sm.Verdict.STRICT_LOCAL_MAXIMUM:
                assert any(distance(p, point) <= way for p in plane.strict)
            if verdict is sm.Verdict.GLOBAL_MAXIMUM:
                assert plane.top <= here + gap
                best = [p for p, v in plane.values.items() if v == plane.top]
                if len(best) == 1:
                    assert distance(best[0], point) <= way
            best_radius = numbers(claims, "best_radius")[i]
            within = Fraction(best_radius if best_radius == best_radius else 0.0) ** 2
            for p, value in plane.values.items():
                assert distance(p, point) > within or value <= here + gap
    assert sum(n for verdict, n in count.items() if verdict.is_maximum) > 3


REGIONS = (
    sm.L2Ball(1.0),
    sm.Sphere(1.0),
    sm.LinfBall(0.2),
    sm.Box(-0.3, 0.1),
    sm.Intersection(sm.L2Ball(1.0), sm.Box(-0.4, 0.3)),
)


@pytest.mark.parametrize("region", REGIONS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_ends_of_dc_ascent_are_proved_and_nothing_near_is_higher(region, bias):
    generator = torch.Generator().manual_seed(3)
    for dim, width in ((2, 6), (12, 25)):
        net = sm.TwoLayerNetwork.random(dim, width, "relu", seed=dim, bias_std=bias)
        x = torch.randn(3, dim, generator=generator, dtype=F64)
        problem = problem_of(net, region, inputs=x)
        points = summits(problem, torch.zeros_like(x))
        claims = proved(problem, points)
        assert all(v.is_maximum for v in claims.verdict), claims.reason
        assert set(claims.proposition) == {"Prop. 9"}
        base = net(x + points).detach()
        for i in range(len(x)):
            radius = numbers(claims, "best_radius")[i]
            gap = numbers(claims, "loss_gap_bound")[i]
            sizes = radius * 10.0 ** -torch.arange(0.0, 8.0, dtype=F64)
            ways = torch.randn(8, 200, dim, generator=generator, dtype=F64)
            ways = ways / ways.norm(dim=2, keepdim=True) * sizes[:, None, None]
            near = points[i] + ways.flatten(0, 1) * 0.999
            one = problem.feasible.take(torch.full((len(near),), i))
            near = one.project(near)
            inside = (near - points[i]).norm(dim=1) <= radius
            values = net(x[i] + near[inside]).detach()
            assert bool((values <= base[i] + gap + 1e-12).all())


def linear(slope, *kinks):
    """slopeᵀδ on |δ| < 100, and neurons (w, b, a)."""
    rows = [slope, *(k[0] for k in kinks)]
    length = float(vector(*slope).norm())
    return sm.TwoLayerNetwork(
        torch.tensor(rows, dtype=F64),
        vector(1.0, *(k[2] for k in kinks)),
        vector(100.0 * length, *(k[1] for k in kinks)),
        activation="relu",
    )


def test_a_convex_kink_across_the_boundary_is_no_maximum():
    # Along ±(0, 1) F grows linearly at (1, 0), and the ball curves quadratically.
    net = linear([1.0, 0.0], ([0.0, 1.0], 0.0, 1e-3), ([0.0, -1.0], 0.0, 1e-3))
    for shift in (0.0, 1e-16, -1e-12, 1e-9):
        problem = problem_of(net, sm.L2Ball(1.0))
        claims = proved(problem, vector(1.0, shift)[None], within=1e-5)
        assert claims.verdict[0] is sm.Verdict.UNDECIDED


@pytest.mark.parametrize("height", [1e-6, 1e-9, 1e-12, 1e-14, 1e-16, 0.0])
def test_a_kink_that_all_but_touches_a_maximum_bounds_what_is_said(height):
    # relu(δ_2 - height) rises from (1, height): the maximum at (1, 0) is that narrow.
    net = linear([1.0, 0.0], ([0.0, 1.0], -height, 0.1))
    problem = problem_of(net, sm.L2Ball(1.0))
    claims = proved(problem, vector(1.0, 0.0)[None], within=1e-2)
    if claims.verdict[0].is_maximum:
        assert numbers(claims, "best_radius")[0] <= height
        assert numbers(claims, "distance_bound")[0] < height
    if height in (0.0, 1e-16, 1e-6):  # else what rounding leaves to be said
        assert claims.verdict[0].is_maximum == (height == 1e-6)
    assert claims.verdict[0] is not sm.Verdict.GLOBAL_MAXIMUM


def test_a_maximum_of_all_completions_is_one_of_f():
    # At the vertex (1, 1) both kinks tie, and whichever side they are on F presses.
    kinks = ([1.0, -1.0], 0.0, 0.25), ([1.0, 2.0], -3.0, 0.5)
    for slope, maximum in (([1.0, 1.0], True), ([1.0, 0.125], False)):
        net = linear(slope, *kinks)
        problem = problem_of(net, sm.LinfBall(1.0))
        claims = proved(problem, vector(1.0, 1.0)[None])
        assert claims.verdict[0].is_maximum == maximum
    assert "2 convex units" in claims.reason[0] or "further" in claims.reason[0]


def test_twins_and_opposites_change_sides_together():
    # Twelve convex units at their kinks, but only two patterns of them occur.
    right, left = ([0.0, 1.0], 0.0, 0.25), ([0.0, -1.0], 0.0, 0.5)
    net = linear([1.0, 0.0], *[right] * 6, *[left] * 6, ([0.0, 1.0], -1.0, 1.0))
    problem = problem_of(net, sm.Box(vector(-1.0, 0.0), vector(1.0, 0.0), radius=1.0))
    claims = proved(problem, vector(1.0, 0.0)[None])
    assert claims.verdict[0].is_maximum, claims.reason
    for j in range(6):
        net.hidden_weights.data[1 + j, 1] += 0.01 * j
        net.hidden_weights.data[7 + j, 1] -= 0.01 * j + 0.001
    claims = proved(problem, vector(1.0, 0.0)[None])
    assert "more than 10 apart" in claims.reason[0]


def test_interior_maxima_are_proved_where_kinks_hold_the_point():
    # F = -|δ_1 - 0.1| - |δ_2 + 0.2|, and with a third unit more than two kinks meet.
    hidden = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=F64)
    bias = vector(-0.1, 0.1, 0.2, -0.2)
    for region in (sm.L2Ball(1.0), sm.LinfBall(1.0)):
        net = sm.TwoLayerNetwork(hidden, -torch.ones(4, dtype=F64), bias, 0.0, "relu")
        claims = proved(problem_of(net, region), vector(0.1, -0.2)[None])
        assert claims.verdict[0] is sm.Verdict.GLOBAL_MAXIMUM
        assert numbers(claims, "distance_bound")[0] < 1e-14


def test_a_plateau_is_never_strict():
    # F = -relu(δ_1) is 0 on half of the region, whatever tiny multiplier is found.
    net = sm.TwoLayerNetwork(vector(1.0, 0.0)[None], vector(-1.0), activation="relu")
    for region in (sm.L2Ball(1.0), sm.LinfBall(1.0)):
        for point in (vector(0.0, 0.0), vector(-1.0, 0.0), vector(-0.5, 0.1)):
            claims = proved(problem_of(net, region), point[None], within=0.5)
            assert claims.verdict[0] is not sm.Verdict.STRICT_LOCAL_MAXIMUM


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e150])
def test_verdicts_do_not_depend_on_the_scale_of_the_weights(scale):
    net = sm.TwoLayerNetwork.random(5, 12, "relu", seed=1, bias_std=1.0)
    scaled = sm.TwoLayerNetwork(
        scale * net.hidden_weights,
        net.output_weights,
        scale * net.hidden_bias,
        activation="relu",
    )
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    points = summits(problem_of(net, sm.L2Ball(1.0), inputs=x), torch.zeros_like(x))
    kinds = [
        proved(problem_of(f, sm.L2Ball(1.0), inputs=x), points).verdict
        for f in (net, scaled)
    ]
    assert kinds[0] == kinds[1]
    assert all(v.is_maximum for v in kinds[0])


def test_dropped_units_change_nothing():
    net = sm.TwoLayerNetwork.random(4, 9, "relu", seed=2, bias_std=1.0)
    zero, one = torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)
    # c_j = 0 with its kink at the point, w_j = 0 with h_j = 0 and with h_j = 1.
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    problem = problem_of(net, sm.L2Ball(1.0), inputs=x)
    points = summits(problem, torch.zeros_like(x))
    row = torch.ones(1, 4, dtype=F64)
    more = sm.TwoLayerNetwork(
        torch.cat([net.hidden_weights, row, 0 * row, 0 * row]),
        torch.cat([net.output_weights, zero, one, one]),
        torch.cat([net.hidden_bias, -(x + points).sum(1), zero, one]),
        activation="relu",
    )
    ours, theirs = (
        proved(problem_of(f, sm.L2Ball(1.0), inputs=x), points) for f in (net, more)
    )
    assert ours.verdict == theirs.verdict
    assert ours.verdict[0].is_maximum
    gap = theirs.numbers["upper_bound"] - ours.numbers["upper_bound"]
    assert float(gap[0]) == pytest.approx(1.0, abs=1e-9)


def test_several_outputs_and_losses_are_proved_through_one_function():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4, 6, generator=generator, dtype=F64)
    weights = torch.randn(3, 15, generator=generator, dtype=F64)
    base = sm.TwoLayerNetwork.random(6, 15, "leaky_relu", seed=4, bias_std=1.0)
    several = sm.TwoLayerNetwork(
        base.hidden_weights, weights, base.hidden_bias, activation="leaky_relu"
    )
    labels = torch.zeros(4, dtype=torch.int64)
    cases = [
        (several, sm.Margin(), labels),
        (base, sm.Logistic(), torch.ones(4, dtype=F64)),
        (base, sm.Quadratic(), torch.full((4,), 0.1, dtype=F64)),
    ]
    for net, loss, targets in cases:
        problem = problem_of(net, sm.L2Ball(0.3), 4, x, loss, targets)
        points = summits(problem, torch.zeros_like(x))
        # Which output leads is asked anew at the end.
        points = summits(problem, points)
        claims = proved(problem, points)
        assert all(v.is_maximum for v in claims.verdict), claims.reason
        gap = claims.numbers["loss_gap_bound"]
        radius = claims.numbers["best_radius"][:, None]
        with torch.no_grad():
            here = loss(net(x + points), targets)
            for _ in range(50):
                way = torch.randn(4, 6, generator=generator, dtype=F64)
                way = (
                    way
                    / way.norm(dim=1, keepdim=True)
                    * torch.rand((), generator=generator, dtype=F64)
                )
                near = problem.feasible.project(points + radius.clamp(max=0.3) * way)
                assert bool((loss(net(x + near), targets) <= here + gap + 1e-12).all())


def test_the_certificate_says_which_proposition_and_why_not():
    net = sm.TwoLayerNetwork.random(3, 8, "relu", seed=7, bias_std=1.0)
    x = torch.ones(2, 3, dtype=F64)
    problem = problem_of(net, sm.L2Ball(1.0), inputs=x)
    points = summits(problem, torch.zeros_like(x))
    points[1] = torch.zeros(3)
    found = sm.local_optimality(problem, points)
    assert found.verdict[0].is_maximum
    assert found.evidence[0] is sm.Evidence.PROVED
    assert found.proposition[0] == "Prop. 9"
    assert not found.verdict[1].is_maximum
    assert "further away" in proved(problem, points).reason[1]


def test_smooth_networks_keep_the_reason_of_their_own_prover():
    net = sm.TwoLayerNetwork.random(3, 8, "tanh", seed=7)
    problem = problem_of(net, sm.L2Ball(1.0), inputs=torch.ones(1, 3, dtype=F64))
    found = sm.local_optimality(problem, torch.zeros(1, 3, dtype=F64), within=1e-9)
    assert found.unproved[0] == "" or "Props. 3 to 7" in found.unproved[0]


def test_nothing_is_proved_of_a_model_that_computes_something_else(monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)
        ).double()
    x = torch.ones(1, 3, dtype=F64)
    problem = problem_of_module(model, x)
    points = summits(problem, torch.zeros_like(x))
    assert proved(problem, points).verdict[0].is_maximum
    plain = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda *given: 1.5 * plain(*given)
    )
    claims = proved(problem, points)
    assert claims.verdict[0] is sm.Verdict.UNDECIDED
    assert bool(claims.numbers["upper_bound"].isnan().all())


def problem_of_module(model, x):
    return sm.Problem(
        model, x, -torch.ones(len(x), dtype=F64), sm.Margin(), sm.L2Ball(1)
    )


def test_more_kinks_than_needed_hold_the_point_too():
    # F = δ_1 - 2|δ_2|, whose two kinks share one line: their multipliers are many.
    for most in (2.0, 2.5):
        kinks = ([0.0, 1.0], 0.0, -most), ([0.0, -1.0], 0.0, -2.0)
        net = linear([1.0, 0.0], *kinks)
        problem = problem_of(net, sm.LinfBall(1.0))
        claims = proved(problem, vector(1.0, 0.0)[None])
        assert claims.verdict[0] is sm.Verdict.GLOBAL_MAXIMUM
