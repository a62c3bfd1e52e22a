"""Ascent with momentum, and the attacks that are settings of projected ascent."""

import pytest
import torch
from torch.nn import functional

import summiteer as sm
from fakes import labelled_problem, named, output_problem
from summiteer.errors import UserError


def gradient(problem, delta):
    moved = (problem.inputs + delta).requires_grad_()
    loss = functional.cross_entropy(
        problem.model(moved), problem.targets, reduction="sum"
    )
    return torch.autograd.grad(loss, moved)[0]


@pytest.fixture
def problem():
    return labelled_problem(region=sm.LinfBall(0.2))


def run(problem, adversary, steps, **options):
    options = {"tolerance": None, **options}
    return sm.ascend(problem, adversary, sm.CentreStart(), steps, **options).final[0]


def test_fgsm_is_one_sign_step_of_the_radius(problem):
    fgsm = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.2))
    expected = 0.2 * gradient(problem, torch.zeros_like(problem.inputs)).sign()
    assert torch.equal(run(problem, fgsm, 1), expected)


def test_bim_is_a_few_shorter_ones(problem):
    bim = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.2 / 4))
    delta = torch.zeros_like(problem.inputs)
    for _ in range(7):
        delta = (delta + 0.05 * gradient(problem, delta).sign()).clamp(-0.2, 0.2)
    # Sums of ±0.05 in the same order, once fused with the product.
    assert torch.allclose(run(problem, bim, 7), delta, rtol=0, atol=1e-15)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("decaying", [False, True])
def test_mi_fgsm_is_the_papers(problem, decay, decaying):
    rule = sm.DecayingStep(0.05) if decaying else sm.ConstantStep(0.05)
    ours = run(problem, sm.MomentumAscent(rule, decay=decay), 9)
    delta = velocity = torch.zeros_like(problem.inputs)
    for t in range(9):
        g = gradient(problem, delta)
        velocity = decay * velocity + g / g.abs().sum(1, keepdim=True)
        size = 0.05 / (1 + t) ** 0.5 if decaying else 0.05
        delta = (delta + size * velocity.sign()).clamp(-0.2, 0.2)
    assert torch.allclose(ours, delta, rtol=0, atol=1e-15)


def test_without_decay_it_is_the_plain_method(problem):
    """Signs do not see a positive factor; unit vectors only by rounding."""
    for direction in (sm.Sign(), sm.Normalised()):
        rule = sm.ConstantStep(0.03)
        plain = run(problem, sm.ProjectedAscent(direction, rule), 9)
        ours = run(problem, sm.MomentumAscent(rule, direction, decay=0.0), 9)
        assert torch.allclose(ours, plain, rtol=0, atol=1e-12)


def test_momentum_carries_over_a_dip():
    """Up to 0.5, down to 0.6, up again: signs alone stay before the dip."""

    def ridge(x):
        x = x.sum(1)
        return x - 4 * torch.relu(x - 0.5) + 6 * torch.relu(x - 0.6)

    problem = output_problem(ridge, torch.zeros(1, 1).double(), sm.LinfBall(1.0))
    rule = sm.ConstantStep(0.04)
    plain = run(problem, sm.ProjectedAscent(sm.Sign(), rule), 60)
    ours = run(problem, sm.MomentumAscent(rule), 60)
    assert float(plain.abs()) < 0.6
    assert float(ours) == 1


def test_a_run_that_waits_for_its_momentum_has_not_stalled():
    """At the corner u still points outwards while g no longer does, for some steps."""

    def roof(x):
        x = x.sum(1)
        return x - 2 * torch.relu(x - 0.9)

    problem = output_problem(roof, torch.zeros(1, 1).double(), sm.LinfBall(1.0))
    method = sm.MomentumAscent(sm.ConstantStep(0.125))
    ascent = sm.ascend(problem, method, sm.CentreStart(), 40)
    assert named(ascent.outcome) == ["STEP_LIMIT"]
    points = [float(run(problem, method, steps)) for steps in range(19)]
    # u grows to 8 on the way, and falls by 1 a step once beyond 0.9.
    assert points[8:17] == 9 * [1]
    assert points[17] == 0.875


def test_the_scale_of_a_gradient_does_not_matter(problem):
    for factor in (1e-30, 1e30):
        flat = sm.Problem(
            problem.model,
            problem.inputs,
            problem.targets,
            lambda outputs, targets, factor=factor: (
                factor * sm.CrossEntropy()(outputs, targets)
            ),
            problem.region,
        )
        method = sm.MomentumAscent(sm.ConstantStep(0.03))
        assert torch.equal(run(flat, method, 9), run(problem, method, 9))


def test_no_gradient_is_no_momentum():
    problem = output_problem(
        lambda x: 0 * x.sum(1), torch.zeros(2, 3).double(), sm.LinfBall(1.0)
    )
    final = run(problem, sm.MomentumAscent(sm.ConstantStep(0.1)), 5)
    assert torch.equal(final, torch.zeros(2, 3).double())


@pytest.mark.parametrize("decay", [-0.1, float("inf"), float("nan"), "high"])
def test_bad_decay_is_refused(decay):
    with pytest.raises(UserError, match="decay: expected a number ≥ 0"):
        sm.MomentumAscent(sm.ConstantStep(0.1), decay=decay)
