"""Plans: their numbers, on problems whose answers are known."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import nn

import summiteer as sm
from fakes import seeded
from summiteer.adversaries import named_adversary
from summiteer.analytic import Output
from summiteer.confidence import CONFIDENCE
from summiteer.planning.interval import Weights
from summiteer.planning.trial import expected_best

#: The plan of the waves is made once.
pytestmark = pytest.mark.xdist_group("plan")
#: Losses are of order one and float64; a run ends within its residual's tolerance.
ROUNDING = 1e-9


def linear(count=40):
    """wᵀ(x + δ) on an L2 ball of radius ½: the maximum is wᵀx + ½‖w‖."""
    weights, inputs = seeded(6), seeded(count, 6, seed=1)
    problem = sm.Problem(
        lambda points: points @ weights,
        inputs,
        torch.zeros(count, dtype=torch.float64),
        Output(),
        sm.L2Ball(0.5),
    )
    return problem, inputs @ weights + 0.5 * weights.norm()


def rugged(count=64):
    """Waves in the plane on a square: many maxima, and a grid that sees them all."""
    slopes, heights = 4 * seeded(12, 2), seeded(12, seed=2) / 4
    phases, inputs = seeded(12, seed=3), 3 * seeded(count, 2, seed=4)

    def model(points):
        return torch.cos(points @ slopes.T + phases) @ heights

    problem = sm.Problem(
        model,
        inputs,
        torch.zeros(count, dtype=torch.float64),
        Output(),
        sm.LinfBall(1.0),
    )
    axis = torch.linspace(-1, 1, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    return problem, torch.stack([model(x + grid).max() for x in inputs])


def gain_of(plan, problem, setting, seed):
    """What the setting comes to when it is run by hand, from other starts."""
    places = [problem.ids.tolist().index(example) for example in plan.examples]
    start = sm.CentreStart()
    if setting.restarts:
        start += sm.UniformStart(restarts=setting.restarts, seed=seed)
    ascent = sm.ascend(
        problem.take(torch.tensor(places)),
        named_adversary(setting.method, problem.region, setting.steps),
        start,
        setting.steps,
    )
    clean, best = (torch.tensor(v) for v in (plan.clean_losses, plan.best_losses))
    gains = (ascent.best_loss.double() - clean) / (best - clean)
    return float(gains.clamp(0, 1).mean())


def test_one_step_is_enough_for_a_linear_model():
    problem, maximum = linear()
    plan = sm.plan(problem, 0.99)
    assert plan.reached
    assert (plan.choice.steps, plan.choice.restarts) == (1, 0)
    assert plan.choice.gain == pytest.approx(1, abs=ROUNDING)
    # At the start, after the step, and for the residual's scale.
    assert plan.choice.gradient_evaluations == 3
    assert plan.checked.gradient_evaluations == 3
    assert plan.best_losses == pytest.approx(maximum.tolist(), abs=ROUNDING)
    assert all(plan.cheapest(method).restarts == 0 for method in ("apgd", "pgd"))
    assert plan.choice.robust_accuracy is None


WAVES = ("apgd", "pga")


@pytest.fixture(scope="module")
def waves():
    problem, maximum = rugged()
    return problem, maximum, sm.plan(problem, 0.95, methods=WAVES, max_steps=20)


def test_many_maxima_need_restarts_and_these_are_enough(waves):
    problem, maximum, plan = waves
    best = torch.tensor(plan.best_losses)
    # The grid is at most 0.005 from the maximiser in each coordinate.
    assert bool((best <= maximum + 0.01).all())
    assert float((best - maximum).mean()) > -0.01
    assert plan.reached
    assert plan.choice.restarts >= 1
    alone = [s for s in plan.settings if s.restarts == 0]
    assert all(s.gain < 0.95 for s in alone)
    gains = [gain_of(plan, problem, plan.choice, seed) for seed in range(50, 58)]
    low, high = plan.checked.gain_interval
    assert all(low <= gain <= high for gain in gains)
    # On the average over other starts it is what the pilot said.
    assert np.mean(gains) == pytest.approx(plan.choice.gain, abs=0.02)
    assert gain_of(plan, problem, plan.choice, plan.seed) == pytest.approx(
        plan.checked.gain, abs=1e-6
    )


def test_the_choice_is_the_cheapest_that_reaches_the_share(waves):
    _, _, plan = waves
    reaching = [s for s in plan.settings if s.gain >= plan.share]
    cheaper = [
        s for s in reaching if s.gradient_evaluations < plan.choice.gradient_evaluations
    ]
    # Each that is cheaper was checked with other starts, and fell short.
    assert len(cheaper) < 3
    for method in plan.methods:
        mine = [s for s in reaching if s.method == method]
        cheapest = plan.cheapest(method)
        assert (cheapest is None) == (not mine)
        assert not mine or cheapest.gradient_evaluations == min(
            s.gradient_evaluations for s in mine
        )
        points = (1, 2, 5, 10, 50, 100, 1000, 10000)
        known = [gain for gain in plan.curve(method, points) if gain is not None]
        assert all(a <= b for a, b in pairwise(known))
        assert known[-1] == pytest.approx(plan.strongest(method).gain)


def test_the_same_again_is_the_same_and_another_seed_is_not(waves):
    problem, _, _ = waves
    few = {"methods": ("pga",), "examples": 16, "max_steps": 5, "restarts": 2}
    one, again, other = (sm.plan(problem, 0.5, seed=s, **few) for s in (0, 0, 1))
    assert one == again
    assert one.examples != other.examples


def test_a_share_that_nothing_reaches_is_told():
    problem, _ = rugged(24)
    plan = sm.plan(problem, 0.999, methods=("pgd",), max_steps=2, restarts=1)
    assert not plan.reached
    assert plan.cheapest("pgd") is None
    assert plan.choice == plan.strongest("pgd")
    assert "does not reach 0.999" in repr(plan)


def test_nothing_to_gain_is_gained_by_anything():
    problem, _ = linear(8)
    constant = sm.Problem(
        lambda points: 0 * points.sum(1) + 3,
        problem.inputs,
        problem.targets,
        Output(),
        sm.LinfBall(0.1),
    )
    plan = sm.plan(constant, methods=("apgd",))
    assert (plan.gainless, plan.choice.gain, plan.reached) == (8, 1.0, True)


@pytest.mark.parametrize("ball", [sm.L1Ball, sm.L2Ball, sm.LinfBall])
def test_classifiers_are_sampled_where_they_are_right(ball):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    for weight in model.parameters():
        nn.init.normal_(weight, generator=generator)
    inputs = seeded(60, 5)
    labels = model(inputs).argmax(1)
    labels[:30] = (labels[:30] + 1) % 3  # wrong from the start
    ids = torch.arange(100, 160)
    problem = sm.Problem(model, inputs, labels, sm.CrossEntropy(), ball(0.8), ids=ids)
    plan = sm.plan(problem, 0.9, examples=20, max_steps=20, restarts=2)
    assert (plan.candidates, plan.total, len(plan.examples)) == (30, 60, 20)
    assert min(plan.examples) >= 130
    assert ("mi-fgsm" in plan.methods) == (ball is sm.LinfBall)
    low, high = plan.checked.robust_interval
    assert low <= plan.checked.robust_accuracy <= high
    # A thorough search breaks what any setting breaks, one of the sample at most aside.
    accuracies = [setting.robust_accuracy for setting in plan.settings]
    assert plan.strongest("thorough").robust_accuracy <= min(accuracies) + 1 / 20
    assert plan.checked.robust_accuracy < 1


def test_any_so_many_restarts_are_counted_alike():
    values = seeded(6, 4)
    for count in range(1, 6):
        each = [
            values[[0, *chosen]].amax(0) for chosen in combinations(range(1, 6), count)
        ]
        assert torch.allclose(expected_best(values, count), torch.stack(each).mean(0))
    assert torch.equal(expected_best(values, 0), values[0])


def test_intervals_are_exact_for_shares_and_cover_means():
    tail = (1 - CONFIDENCE) / 2
    weights = Weights.drawn(20, 0)
    for count in (0, 1, 7, 20):
        values = np.repeat([1.0, 0.0], [count, 20 - count])
        low, high = weights.interval(values)
        exact = (
            beta.ppf(tail, count, 21 - count),
            beta.ppf(1 - tail, count + 1, 20 - count),
        )
        # 10 000 draws: quantiles of a beta are known to about 0.004.
        assert (low, high) == pytest.approx(
            np.nan_to_num(exact, nan=1.0) if count else (0, exact[1]), abs=0.015
        )
    generator = np.random.default_rng(1)
    for shape in ((0.3, 0.1), (2, 2), (20, 0.2)):
        covered = 0
        for _ in range(300):
            low, high = weights.interval(generator.beta(*shape, 20))
            covered += low <= shape[0] / sum(shape) <= high
        # Three standard errors of 300 trials below the level.
        error = (CONFIDENCE * (1 - CONFIDENCE) / 300) ** 0.5
        assert covered / 300 > CONFIDENCE - 3 * error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 1.0}, "share: expected a number between 0 and 1"),
        ({"methods": ("cw",)}, r"methods: expected names out of \['apgd'"),
        ({"methods": "apgd"}, "methods: expected names"),
        ({"examples": 1}, "examples: expected an integer ≥ 2"),
        ({"max_steps": 0}, "max_steps: expected an integer ≥ 1"),
        ({"restarts": -1}, "restarts: expected an integer ≥ 0"),
    ],
)
def test_mistakes_are_told(options, said):
    with pytest.raises(sm.UserError, match=said):
        sm.plan(linear(4)[0], **options)


def test_step_sizes_need_one_radius():
    problem, _ = linear(4)
    radii = problem.with_region(sm.L2Ball(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    with pytest.raises(sm.UserError, match="the step size of pgd follows from"):
        sm.plan(radii)
    assert sm.plan(radii, methods=("apgd",)).reached
