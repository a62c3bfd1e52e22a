"""Frank-Wolfe: laws of the gap, rates on concave problems, its step rules."""

import pytest
import torch

import summiteer as sm
from fakes import labelled_problem, named, output_problem, seeded
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.regions import L1Ball
from summiteer.spaces import rotation_invariant

RULES = {
    "short": sm.ShortStep(),
    "open loop": sm.OpenLoopStep(),
    "full": sm.FullStep(),
    "halving": sm.FullStep(halvings=40),
}
CONVEX = [known for known in PROBLEMS if known.problem.region.norm != "sphere"]
REGIONS = [sm.L2Ball(0.5), sm.LinfBall(0.2), sm.Box(-0.1, 0.3), L1Ball(0.7)]


def linear(region, batch=4, **changes):
    """gᵀx with a slope g, in a box far away or near."""
    slope = seeded(6, seed=5)
    inputs = 0.5 + 0.1 * seeded(batch, 6, seed=6).clamp(-3, 3)
    problem = output_problem(lambda x: x @ slope, inputs, region, **changes)
    return problem, slope


def inside(problem, count=6):
    return sm.UniformStart(restarts=count, seed=4).points(problem)


@pytest.mark.parametrize("box", [None, (0.0, 1.0)], ids=["ball", "ball ∩ box"])
@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.norm)
def test_the_gap_is_positive_inside_and_zero_at_the_maximiser(region, box):
    problem, slope = linear(region, box=box)
    for points in inside(problem):
        gap = sm.frank_wolfe_gap(problem, points)
        assert bool((gap > 0).all())
        best = problem.feasible.linear_maximiser(slope.expand(4, 6))
        # Of a linear function the gap is what is missing, up to rounding.
        missing = (best - points) @ slope
        assert torch.allclose(gap, missing, rtol=1e-12)
    # A few roundings of terms of order 1.
    assert float(sm.frank_wolfe_gap(problem, best).abs().max()) <= 1e-15


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.norm)
def test_the_gap_is_the_closed_form(region):
    problem = labelled_problem(region=region)
    points = inside(problem)[0]
    gradient = problem.rows().evaluate(points).gradient
    radius = float(problem.size[0])
    largest = {
        "l2": radius * gradient.norm(dim=1),
        "linf": radius * gradient.abs().sum(1),
        "box": (0.3 * gradient.clamp(min=0) - 0.1 * gradient.clamp(max=0)).sum(1),
        "l1": radius * gradient.abs().amax(1),
    }[region.norm]
    expected = largest - (gradient * points).sum(1)
    # A sum of eight products of order 1.
    assert torch.allclose(sm.frank_wolfe_gap(problem, points), expected, atol=1e-14)


@pytest.mark.parametrize("known", CONVEX, ids=lambda known: known.name)
def test_the_gap_is_zero_at_maxima_and_bounds_what_concave_functions_miss(known):
    for maximiser in known.local_maximisers:
        gap = sm.frank_wolfe_gap(known.problem, maximiser[None])
        # gᵀv of numbers of order 1, at points known to 1e-16 and √ of that.
        assert abs(float(gap)) <= 1e-14
    if known.name.startswith(("linear", "concave")):
        for points in inside(known.problem):
            gap = sm.frank_wolfe_gap(known.problem, points)
            value = known.problem.rows().evaluate(points).loss
            assert float(known.value - value) <= float(gap) + 1e-14


def quadratic(region, inner):
    """-½Σ a_i (x - m)_i², its peak m inside or outside of the region around 0."""
    weights = torch.linspace(0.5, 2, 6).double()
    peak = seeded(6, seed=8)
    peak *= (0.3 if inner else 3.0) * float(region.size) / float(peak.abs().sum())
    return output_problem(
        lambda x: -0.5 * (weights * (x - peak).square()).sum(1),
        torch.zeros(1, 6).double(),
        region,
    )


@pytest.mark.parametrize("inner", [False, True], ids=["boundary", "interior"])
@pytest.mark.parametrize("rule", ["short", "open loop", "halving"])
@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.norm)
def test_concave_quadratics_are_climbed_at_the_rate_of_the_theorem(rule, region, inner):
    """ℓ* - ℓ_t ≤ 2LD²/(t + 2), L = 2 the curvature, D the region's diameter."""
    problem = quadratic(region, inner)
    # Size 1/L on a strongly concave function: linear convergence at least.
    exact = sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(0.5))
    best = float(sm.ascend(problem, exact, sm.CentreStart(), 150).best_loss)
    diameter = (
        2 * float(region.size) * (6**0.5 if region.norm in ("linf", "box") else 1)
    )
    vertex = problem.feasible.linear_maximiser(seeded(1, 6, seed=2))
    for steps in (1, 5, 60):
        ascent = sm.ascend(
            problem, sm.FrankWolfe(RULES[rule]), sm.GivenStart(vertex), steps
        )
        missing = best - float(ascent.losses)
        assert missing <= 2 * 2 * diameter**2 / (steps + 2) + 1e-14
    # Far less than the bound where the peak is inside and steps are short.
    if inner and rule == "short":
        assert missing <= 1e-3 * 4 * diameter**2 / 62


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("region", [*REGIONS, sm.Sphere(0.5)], ids=lambda r: r.norm)
def test_points_stay_inside(rule, region):
    box = None if region.norm == "sphere" else (-1.0, 1.0)
    problem = labelled_problem(region=region)
    if box:
        problem = sm.Problem(
            problem.model,
            problem.inputs.clamp(*box),
            problem.targets,
            problem.objective,
            region,
            box,
        )
    start = sm.CentreStart() + sm.UniformStart(restarts=2)
    for steps in (1, 2, 7, 40):
        ascent = sm.ascend(problem, sm.FrankWolfe(RULES[rule]), start, steps)
        for points in (*ascent.final, ascent.best):
            assert bool(problem.feasible.contains(points).all())


def test_open_loop_steps_are_the_textbooks():
    problem = labelled_problem(region=sm.L2Ball(0.5))
    ascent = sm.ascend(
        problem, sm.FrankWolfe(sm.OpenLoopStep()), sm.CentreStart(), 6, tolerance=None
    )
    delta = torch.zeros_like(problem.inputs)
    for t in range(6):
        moved = (problem.inputs + delta).requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            problem.model(moved), problem.targets, reduction="sum"
        )
        (g,) = torch.autograd.grad(loss, moved)
        vertex = 0.5 * g / g.norm(dim=1, keepdim=True)
        delta = delta + 2 / (t + 2) * (vertex - delta)
    # Six steps of rounding at 1e-16.
    assert torch.allclose(ascent.final[0], delta, rtol=0, atol=1e-13)


def test_short_steps_climb_as_promised():
    """Each gains ½γG at least."""
    problem = labelled_problem(region=sm.LinfBall(0.3))
    rows, rule = problem.rows(), sm.ShortStep()
    points = torch.zeros_like(problem.inputs)
    evaluation = rows.evaluate(points)
    method = sm.FrankWolfe(rule)
    state = method.init(rows, points, evaluation)
    gained = torch.zeros_like(evaluation.loss)
    for _ in range(20):
        made = method.step(rows, points, evaluation, state)
        towards = rows.region.linear_maximiser(evaluation.gradient) - points
        gap = (evaluation.gradient * towards).sum(1)
        moved = torch.ones_like(gap) if made.stuck is None else (~made.stuck).double()
        assert made.evaluation is not None
        gain = made.evaluation.loss - evaluation.loss
        # Where the gain drowns in the rounding of the loss it is not asked for.
        promised = 0.5 * made.size * gap * moved
        assert bool((gain >= promised - 1e-12).all())
        gained += gain
        points, evaluation, state = made.points, made.evaluation, made.state
    assert bool((gained > 0).all())


def test_the_curvature_is_found_on_a_quadratic():
    """-½·L‖x - m‖²: γ = G/(M‖d‖²) with L ≤ M where a search was needed, M ≤ 2L/0.9."""
    peak = 0.1 * seeded(1, 6, seed=3)
    problem = output_problem(
        lambda x: -1.5 * (x - peak).square().sum(1),
        torch.zeros(1, 6).double(),
        sm.L2Ball(1.0),
    )
    rows, method = problem.rows(), sm.FrankWolfe()
    points = rows.region.linear_maximiser(seeded(1, 6, seed=4))
    evaluation = rows.evaluate(points)
    state, seen = method.init(rows, points, evaluation), []
    for _ in range(30):
        made = method.step(rows, points, evaluation, state)
        if made.stuck is not None:
            break  # at the peak, to rounding
        points, evaluation, state = made.points, made.evaluation, made.state
        seen.append(float(state))
    assert len(seen) >= 10
    # Armijo with ½ holds exactly up to γ = G/(L‖d‖²): found from above by halving, and
    # eased by 0.9 a step until one more halving is due.
    assert min(seen[1:]) >= 3.0 * (1 - 1e-9)
    assert max(seen) <= 2 * 3.0 / 0.9


def test_full_steps_go_to_vertices_as_long_as_the_loss_rises():
    problem = labelled_problem(region=sm.LinfBall(0.3))
    ascent = sm.ascend(problem, sm.FrankWolfe(sm.FullStep()), sm.CentreStart(), 50)
    assert set(named(ascent.outcome)) <= {"STALLED", "STATIONARY"}
    # The centre itself where the first vertex is lower.
    vertex = (ascent.final[0].abs() == 0.3).all(1) | (ascent.final[0] == 0).all(1)
    assert bool(vertex.all())
    # One trial a step, none twice.
    begun = sm.ascend(problem, sm.FrankWolfe(), sm.CentreStart(), 0)
    assert torch.equal(ascent.best_loss, ascent.losses[0])
    assert bool((ascent.best_loss > begun.best_loss).all())


def test_a_full_step_is_made_only_upwards():
    """-x² from -0.3: the vertex at 1 is lower, so nothing moves and the run stalls."""
    problem = output_problem(
        lambda x: -x.square().sum(1), torch.zeros(1, 1).double(), sm.LinfBall(1.0)
    )
    start = sm.GivenStart(-0.3 * torch.ones(1, 1).double())
    ascent = sm.ascend(problem, sm.FrankWolfe(sm.FullStep()), start, 50)
    assert named(ascent.outcome) == ["STALLED"]
    assert float(ascent.final) == -0.3
    halved = sm.ascend(problem, sm.FrankWolfe(sm.FullStep(halvings=40)), start, 200)
    # -0.3 + γ·1.3 with γ = ½ is 0.35, lower; ¼ is 0.025.
    assert float(halved.losses) > -1e-6


def test_it_commutes_with_rotations_of_an_l2_ball():
    for rule in RULES.values():
        assert rotation_invariant(sm.FrankWolfe(rule))
    network = sm.TwoLayerNetwork.random(60, 6, "tanh", seed=3)
    targets = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    problem = sm.Problem(
        network, 0.3 * seeded(3, 60), targets, sm.Quadratic(), sm.L2Ball(0.8)
    )
    start = sm.UniformStart(restarts=3)
    runs = [
        sm.ascend(problem, sm.FrankWolfe(), start, 30, space=space)
        for space in ("input", "row")
    ]
    # The same numbers but for rounding, in 60 and in 7 dimensions.
    assert torch.allclose(runs[0].best_loss, runs[1].best_loss, rtol=1e-9)


def test_the_gap_says_what_points_it_needs():
    problem = labelled_problem()
    with pytest.raises(UserError, match=r"points: expected perturbations \[6, 8\]"):
        sm.frank_wolfe_gap(problem, torch.zeros(2, 6, 8))
