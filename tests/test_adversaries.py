"""Directions, step rules, and every adversary on every problem with a known answer."""

import pytest
import torch

import summiteer as sm
from fakes import Counting, labelled_problem, named, output_problem, seeded
from summiteer.adversaries import default_adversary
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.problem import Evaluation

STARTS = sm.CentreStart() + sm.UniformStart(restarts=3, seed=1)

#: Every adversary. `True`: it converges on each problem of analytic.py.
ADVERSARIES = {
    "default": (None, True),
    "raw, backtracking": (sm.ProjectedAscent(sm.RawGradient()), True),
    "normalised, backtracking": (sm.ProjectedAscent(sm.Normalised()), True),
    # η = 0.1 is below 2/L everywhere: the largest curvature in analytic.py is 4.
    "raw, constant": (
        sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(0.1)),
        True,
    ),
    # Constant and decaying steps of unit length cannot settle inside a region.
    "normalised, constant": (
        sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05)),
        False,
    ),
    "normalised, decaying": (
        sm.ProjectedAscent(sm.Normalised(), sm.DecayingStep(0.1)),
        False,
    ),
    "sign, constant": (sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.01)), False),
    "sign, backtracking": (sm.ProjectedAscent(sm.Sign()), False),
    # Steps halve forever, or are of a fixed length, or zigzag: near, not stationary.
    "AutoPGD": (sm.AutoPGD(30), False),
    "Frank-Wolfe": (sm.FrankWolfe(), False),
    "Frank-Wolfe, open loop": (sm.FrankWolfe(sm.OpenLoopStep()), False),
    "Frank-Wolfe, full": (sm.FrankWolfe(sm.FullStep()), False),
    "momentum": (sm.MomentumAscent(sm.ConstantStep(0.05)), False),
    "momentum, decaying": (
        sm.MomentumAscent(sm.DecayingStep(0.1), sm.Normalised()),
        False,
    ),
}
CONVERGENT = [name for name, (_, convergent) in ADVERSARIES.items() if convergent]


def ids(known):
    return known.name


@pytest.mark.parametrize("known", PROBLEMS, ids=ids)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_adversary_stays_feasible_and_below_the_maximum(name, known):
    adversary, _ = ADVERSARIES[name]
    ascent = sm.ascend(known.problem, adversary, STARTS, max_steps=30)
    for points in (*ascent.final, ascent.best):
        assert bool(known.problem.feasible.contains(points).all())
    # Rounding of a value of order 1 in float64.
    assert float(ascent.best_loss) <= known.value + 1e-14
    first = sm.ascend(known.problem, adversary, STARTS, max_steps=0)
    assert float(ascent.best_loss) >= float(first.best_loss)


@pytest.mark.parametrize("known", PROBLEMS, ids=ids)
@pytest.mark.parametrize("name", CONVERGENT)
def test_known_maxima_are_reached(name, known):
    adversary, _ = ADVERSARIES[name]
    ascent = sm.ascend(known.problem, adversary, STARTS, max_steps=4000)
    stop = {"ZERO_GRADIENT"} if known.constant else {"STATIONARY"}
    assert set(named(ascent.outcome)) == stop
    assert float(ascent.residual.max()) <= 1e-8
    # The value is flat to second order where points are within 1e-6.
    assert float(ascent.best_loss) == pytest.approx(known.value, abs=1e-11)
    if known.constant:
        return
    critical = torch.stack([other.point for other in known.points])
    apart = torch.cdist(ascent.final[:, 0], critical).amin(1)
    # residual·ε·g_ref/|curvature| with the flattest curvature 0.18 and g_ref ≤ 3.
    assert float(apart.max()) <= 1e-6
    # From a random point only maxima are found; the centre may be a saddle itself.
    maxima = torch.cdist(ascent.final[1:, 0], known.local_maximisers).amin(1)
    assert float(maxima.max()) <= 1e-6


@pytest.mark.parametrize("known", PROBLEMS, ids=ids)
@pytest.mark.parametrize("name", ["AutoPGD", "Frank-Wolfe", "Frank-Wolfe, open loop"])
def test_known_maxima_are_nearly_reached(name, known):
    adversary = sm.AutoPGD(300) if name == "AutoPGD" else ADVERSARIES[name][0]
    ascent = sm.ascend(known.problem, adversary, STARTS, max_steps=300)
    # 300 steps; Frank-Wolfe's rate is 2LD²/t with curvatures and diameters of order 1.
    near = 1e-6 if name == "AutoPGD" else 1e-2
    if name == "AutoPGD" and known.problem.feasible.norm == "l1":
        near = 1e-5  # its steps never get shorter than a tenth of the first
    assert float(ascent.best_loss) >= known.value - near


@pytest.mark.parametrize("known", PROBLEMS, ids=ids)
def test_known_maxima_are_reached_in_float32(known):
    problem = known.cast(torch.float32)
    ascent = sm.ascend(problem, None, STARTS, max_steps=2000)
    assert set(named(ascent.outcome)) <= {"STATIONARY", "ZERO_GRADIENT"}
    assert ascent.final.dtype == torch.float32
    # Float32's own statement: residual 1e-4, hence values to 1e-6.
    assert float(ascent.residual.max()) <= 1e-4
    assert float(ascent.best_loss) == pytest.approx(known.value, abs=2e-6)


def test_the_boxes_steepest_direction_reaches_vertices_in_few_steps():
    for known in PROBLEMS:
        if known.name in {"linear on L∞", "linear on box"}:
            adversary = default_adversary(known.problem.feasible)
            assert isinstance(adversary.direction, sm.Sign)
            ascent = sm.ascend(known.problem, adversary, STARTS)
            # From a quarter radius, doubling: at most 5 steps cross a box of 2 radii.
            assert int(ascent.steps.max()) <= 5
            assert torch.equal(ascent.best, known.maximisers)


def evaluation(gradient):
    rows = len(gradient)
    return Evaluation(torch.zeros(rows), gradient, torch.zeros(rows, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions(dtype):
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0], [3e-30, -4e-30]], dtype=dtype)
    given = evaluation(gradient)
    assert sm.RawGradient()(given) is gradient
    unit = sm.Normalised()(given)
    expected = torch.tensor([[0.6, -0.8], [0.0, 0.0], [0.6, -0.8]], dtype=dtype)
    # Two roundings, a root and a reciprocal.
    assert torch.allclose(unit, expected, rtol=8 * torch.finfo(dtype).eps, atol=0)
    signs = torch.tensor([[1.0, -1.0], [0.0, 0.0], [1.0, -1.0]], dtype=dtype)
    assert torch.equal(sm.Sign()(given), signs)


@pytest.mark.parametrize("direction", [sm.RawGradient(), sm.Normalised(), sm.Sign()])
@pytest.mark.parametrize("region", [sm.L2Ball(0.5), sm.LinfBall(0.2)])
def test_constant_steps_are_the_textbook_iteration(direction, region):
    problem = labelled_problem(region=region)
    adversary = sm.ProjectedAscent(direction, sm.ConstantStep(0.15))
    ascent = sm.ascend(problem, adversary, sm.CentreStart(), 7, tolerance=None)
    delta = torch.zeros_like(problem.inputs)
    for _ in range(7):
        moved = (problem.inputs + delta).requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            problem.model(moved), problem.targets, reduction="sum"
        )
        (g,) = torch.autograd.grad(loss, moved)
        if isinstance(direction, sm.Normalised):
            g = g / g.norm(dim=1, keepdim=True)
        elif isinstance(direction, sm.Sign):
            g = g.sign()
        delta = delta + 0.15 * g
        if isinstance(region, sm.L2Ball):
            delta *= (0.5 / delta.norm(dim=1, keepdim=True)).clamp(max=1)
        else:
            delta = delta.clamp(-0.2, 0.2)
    # Seven steps of rounding at 1e-16 through a network of Lipschitz constant ~ 10.
    assert torch.allclose(ascent.final[0], delta, rtol=0, atol=1e-13)


def test_decaying_steps_decay():
    problem = labelled_problem(region=sm.L2Ball(5.0))
    rule = sm.DecayingStep(0.1, power=0.5)
    ascent = sm.ascend(
        problem,
        sm.ProjectedAscent(sm.Normalised(), rule),
        sm.CentreStart(),
        6,
        sm.Recorder(),
        tolerance=None,
    )
    sizes = 0.1 / torch.arange(1, 7) ** 0.5
    assert ascent.trajectory is not None
    recorded = ascent.trajectory.step_size[1:, 0]
    # Recorded in float32; unit directions inside a wide ball: displacement = size.
    assert torch.allclose(recorded, sizes[:, None].expand(6, 6), rtol=1e-6)
    moved = ascent.trajectory.displacement[1:, 0]
    assert torch.allclose(moved, recorded, rtol=1e-6)


def losses_of(problem, adversary, steps=40):
    ascent = sm.ascend(
        problem,
        adversary,
        sm.UniformStart(restarts=2),
        steps,
        sm.Recorder(),
        tolerance=None,
    )
    trajectory = ascent.trajectory
    assert trajectory is not None
    return trajectory.loss.flatten(1), ascent


def climbs(loss):
    """No recorded loss falls, up to float32's half unit of 6e-8; NaN once stopped."""
    falls = (loss.diff(dim=0) < -2e-7 * loss[1:].abs()).any()
    return not bool(falls) and bool((loss.nan_to_num(-1).amax(0) > loss[0]).all())


def two_layer(activation="softplus", objective=None, outputs=False):
    network = sm.TwoLayerNetwork.random(6, 20, activation, seed=3)
    inputs = seeded(4, 6)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    return sm.Problem(
        network, inputs, signs, objective or sm.Quadratic(), sm.L2Ball(0.8)
    )


@pytest.mark.parametrize("activation", ["softplus", "tanh", "sin", "quadratic"])
@pytest.mark.parametrize("share", [1.0, 1.9])
def test_lipschitz_steps_climb_always(activation, share):
    rule = sm.LipschitzStep(share)
    for objective in (sm.Quadratic(), sm.Logistic()):
        problem = two_layer(activation, objective)
        adversary = sm.ProjectedAscent(sm.RawGradient(), rule)
        loss, _ = losses_of(problem, adversary)
        assert climbs(loss)


def test_twice_the_lipschitz_step_is_the_limit_for_a_reason():
    """On a concave quadratic the constant is exact: shares above 2 descend."""
    known = {entry.name: entry for entry in PROBLEMS}["concave, off centre"]
    start = sm.GivenStart(known.maximisers + 0.01 * torch.eye(5).double()[3])
    for step, rises in ((1.9 / 4, True), (2.1 / 4, False)):
        adversary = sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(step))
        before = sm.ascend(known.problem, adversary, start, 0).losses
        after = sm.ascend(known.problem, adversary, start, 1).losses
        assert (float(after) > float(before)) is rises


def test_lipschitz_steps_say_where_they_know_nothing():
    adversary = sm.ProjectedAscent(sm.RawGradient(), sm.LipschitzStep())
    with pytest.raises(UserError, match="LipschitzStep knows Quadratic"):
        sm.ascend(labelled_problem(), adversary)
    with pytest.raises(UserError, match="jumps inside the region"):
        sm.ascend(two_layer("relu"), adversary)
    known = two_layer()
    opaque = sm.Problem(
        lambda x: known.model(x),
        known.inputs,
        known.targets,
        sm.Quadratic(),
        sm.L2Ball(0.8),
    )
    with pytest.raises(UserError, match="TwoLayerNetwork with one output only"):
        sm.ascend(opaque, adversary)


@pytest.mark.parametrize("direction", [sm.RawGradient(), sm.Normalised(), sm.Sign()])
@pytest.mark.parametrize(
    "region", [sm.L2Ball(0.8), sm.LinfBall(0.3), sm.Sphere(0.8)], ids=lambda r: r.norm
)
def test_backtracking_climbs_always(direction, region):
    problem = labelled_problem(region=region)
    loss, _ = losses_of(problem, sm.ProjectedAscent(direction))
    assert climbs(loss)


def test_backtracking_keeps_armijos_promise():
    problem = labelled_problem(region=sm.L2Ball(0.8))
    rows, rule = problem.rows(), sm.BacktrackingStep(first=4.0, slope=0.3)
    points = 0.1 * seeded(6, 8, seed=2)
    before = rows.evaluate(points)
    direction = sm.Normalised()(before)
    step = rule.step(rows, points, before, direction, rule.init(rows, points, before))
    assert step.evaluation is not None
    assert step.spent is not None
    assert step.stuck is None
    fresh = rows.evaluate(step.points)
    # The same numbers, evaluated in a smaller batch: last bits.
    assert torch.allclose(step.evaluation.loss, fresh.loss, rtol=1e-13)
    assert torch.allclose(step.evaluation.gradient, fresh.gradient, atol=1e-14)
    predicted = (before.gradient * (step.points - points)).sum(1)
    assert bool((fresh.loss - before.loss >= 0.3 * predicted).all())
    # One trial per halving, the first one included.
    assert torch.equal(step.spent.double(), torch.log2(0.8 * 4.0 / step.size) + 1)
    expected = torch.where(step.spent == 1, 2 * step.size, step.size)
    assert torch.equal(step.state, expected)


def test_backtracking_says_where_it_found_nothing():
    """At the peak of -|δ| no step climbs, whatever its length."""
    problem = output_problem(
        lambda x: -(x - 0.3).abs().sum(1), seeded(2, 3), sm.LinfBall(5.0)
    )
    peak = sm.GivenStart(0.3 - problem.inputs + 1e-3 * seeded(2, 3, seed=4))
    ascent = sm.ascend(problem, sm.ProjectedAscent(sm.Sign()), peak, 200)
    assert set(named(ascent.outcome)) == {"STALLED"}
    assert float((problem.inputs + ascent.final[0] - 0.3).abs().max()) <= 1e-3


def test_a_row_without_a_step_does_not_search_again():
    """A stuck row leaves at once: forty halvings are spent, not forty per step."""

    def roof(x):
        return torch.where(x < 0, x, -x).sum(1)

    model = Counting(roof)
    problem = output_problem(model, torch.zeros(1, 1).double(), sm.LinfBall(4.0))
    start = sm.GivenStart(-torch.ones(1, 1))
    ascent = sm.ascend(problem, sm.ProjectedAscent(sm.Sign()), start, 200)
    # The first step, a quarter of the radius, ends at the ridge; the second nowhere.
    assert named(ascent.outcome) == ["STALLED"]
    assert float(ascent.final) == 0
    assert int(ascent.steps) == 2
    # The start, two for the residual's scale, one trial, forty trials.
    assert ascent.gradient_evaluations == sum(model.with_gradient) == 1 + 2 + 1 + 40


def test_stationary_rows_do_not_make_the_others_search():
    """A run that is stationary at the start costs its companions nothing."""
    known = {entry.name: entry for entry in PROBLEMS}["concave, centre"]
    alone = sm.ascend(known.problem, start=sm.UniformStart(restarts=3))
    both = sm.ascend(
        known.problem, start=sm.CentreStart() + sm.UniformStart(restarts=3)
    )
    assert both.gradient_evaluations <= alone.gradient_evaluations + 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sm.ConstantStep(0.0), r"size: expected a positive finite number"),
        (lambda: sm.ConstantStep(float("nan")), r"size: .* got nan"),
        (lambda: sm.ConstantStep("big"), r"size: .* got 'big'"),
        (lambda: sm.DecayingStep(0.1, power=-1.0), r"power: expected a positive"),
        (lambda: sm.LipschitzStep(-1.0), r"share: expected a positive"),
        (lambda: sm.BacktrackingStep(first=0.0), r"first: expected a positive"),
        (lambda: sm.BacktrackingStep(slope=1.0), r"slope: expected 0 < slope < 1"),
        (lambda: sm.BacktrackingStep(halvings=0), r"halvings: expected an integer ≥ 1"),
        (lambda: sm.ShortStep(ease=0.0), "ease: expected a positive"),
        (lambda: sm.ShortStep(ease=1.5), "ease: expected 0 < ease ≤ 1"),
        (lambda: sm.ShortStep(halvings=0), "halvings: expected an integer ≥ 1"),
        (lambda: sm.FullStep(halvings=0), "halvings: expected an integer ≥ 1"),
        (lambda: sm.AutoPGD(0), "steps: expected an integer ≥ 1"),
        (lambda: sm.AutoPGD(1.5), "steps: expected an integer ≥ 1"),
        (lambda: sm.AutoPGD(momentum=0.0), "momentum: expected 0 < momentum ≤ 1"),
        (lambda: sm.AutoPGD(rho=1.0), "rho: expected 0 < rho < 1"),
    ],
)
def test_bad_parameters_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_adversaries_are_frozen_values():
    one = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.1))
    assert one == sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.1))
    assert hash(one) == hash(sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.1)))
    with pytest.raises(AttributeError):
        one.direction = sm.Sign()  # type: ignore[misc]
