"""Gradients that saturation, underflow and offsets hide are found again."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import summiteer as sm
from fakes import Fragile, classifier, labelled_problem, named, output_problem, seeded
from summiteer.objectives import margin


class Scaled(nn.Module):
    """factor · net(x) + offset: the same classes, other logits."""

    def __init__(self, factor=1.0, offset=0.0, dtype=torch.float32, only=None):
        super().__init__()
        self.net = classifier((8, 12, 4), seed=4, dtype=dtype)
        self.factor, self.offset, self.only = factor, offset, only

    def forward(self, inputs):
        if self.only is not None and inputs.dtype != self.only:
            raise TypeError("this model knows one dtype")
        return self.factor * self.net(inputs) + self.offset


def problem_of(model, dtype=torch.float32, objective=None, region=None):
    inputs = seeded(12, 8, seed=8, dtype=dtype)
    with torch.no_grad():
        labels = Scaled(dtype=dtype)(inputs).argmax(1)
    objective = objective or sm.CrossEntropy()
    return sm.Problem(model, inputs, labels, objective, region or sm.L2Ball(0.5))


def climb(problem, steps=100, **options):
    return sm.ascend(problem, start=sm.CentreStart(), max_steps=steps, **options)


def reached(problem, ascent):
    """The margin of the unscaled network in float64, at the best points."""
    exact = Scaled(dtype=torch.float64)
    with torch.no_grad():
        outputs = exact(problem.inputs.double() + ascent.best.double())
    return margin(outputs, problem.targets)


def test_ordinary_runs_are_left_alone():
    problem = problem_of(Scaled())
    plain, ascent = climb(problem, rescue=False), climb(problem)
    assert not bool(ascent.rescue.any())
    for name in ("final", "best", "losses", "steps", "residual"):
        assert torch.equal(getattr(plain, name), getattr(ascent, name)), name
    # Not one evaluation more.
    assert plain.gradient_evaluations == ascent.gradient_evaluations
    assert plain.forward_evaluations == ascent.forward_evaluations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saturated_loss_is_not_stationary(dtype):
    """Logits of 200: the residual, scaled by gradients elsewhere, is below 1e-8."""
    problem = problem_of(Scaled(200.0, dtype=dtype), dtype)
    ascent = climb(problem, 0)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    small = (ascent.residual[0] <= tolerance) & ~ascent.zero_gradient[0]
    assert int(small.sum()) >= 3
    assert not bool(ascent.misclassified[small].any())
    # They are climbed nevertheless, and arrive where the margin itself arrives.
    ascent = climb(problem)
    aim = reached(problem, climb(problem_of(Scaled(), objective=sm.Margin())))
    assert bool((ascent.steps[0, small] > 0).all())
    assert float((reached(problem, ascent) - aim).min()) > -0.02
    assert bool(ascent.misclassified[small].any())
    assert int(ascent.misclassified.sum()) == int((aim >= 0).sum())


def test_an_underflow_in_float32_is_climbed_in_float64():
    problem = problem_of(Scaled(300.0))
    plain, ascent = climb(problem, rescue=False), climb(problem)
    flat = plain.zero_gradient[0]
    assert int(flat.sum()) >= 4
    # Where the boundary point that the residual looks at has a gradient, "STATIONARY".
    claimed = {plain.outcome[0, i].name for i in flat.nonzero().flatten().tolist()}
    assert claimed <= {"ZERO_GRADIENT", "STATIONARY"}
    assert torch.equal(ascent.rescue == 1, flat)
    assert not bool(ascent.zero_gradient.any())
    assert "ZERO_GRADIENT" not in named(ascent.outcome)
    assert bool((reached(problem, ascent) > reached(problem, plain) + 1e-3)[flat].all())
    # Judged and returned as the caller has it.
    own = problem.rows().value(ascent.best)
    assert ascent.best.dtype == ascent.final.dtype == torch.float32
    # Logits of 600 in float32, from another batch size: 1e-4 in the exponent.
    assert torch.allclose(own.loss, ascent.best_loss, rtol=1e-3)
    assert bool(problem.feasible.contains(ascent.best).all())
    wrong = problem.rows().value(ascent.misclassified_points.nan_to_num()).wrong
    assert torch.equal(wrong & ascent.misclassified, ascent.misclassified)
    assert int(ascent.misclassified.sum()) > int(plain.misclassified.sum())
    # The others are as they were.
    for name in ("final", "losses", "steps"):
        mine, theirs = (getattr(a, name)[0, ~flat] for a in (ascent, plain))
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_underflow_in_float64_is_climbed_by_the_margin(dtype):
    problem = problem_of(Scaled(1e6, dtype=dtype), dtype)
    plain, ascent = climb(problem, rescue=False), climb(problem)
    deep = ascent.rescue == 2
    assert int(deep.sum()) >= 8
    assert bool(plain.zero_gradient[0, deep].all())
    assert not bool(plain.misclassified.any())
    aim = climb(problem_of(Scaled(1e6, dtype=dtype), dtype, sm.Margin()))
    assert torch.equal(ascent.misclassified[deep], aim.misclassified[deep])
    assert bool(ascent.misclassified.any())
    assert ascent.best.dtype == dtype


def test_one_output_underflows_too():
    weights = 1e5 * seeded(6, seed=1, dtype=torch.float32)
    inputs = 0.5 * seeded(5, 6, seed=2, dtype=torch.float32)

    def model(x):
        return x @ weights.to(x)

    targets = model(inputs).sign()
    problem = sm.Problem(model, inputs, targets, sm.Logistic(), sm.L2Ball(0.3))
    ascent = climb(problem)
    assert set(ascent.rescue.tolist()) == {2}
    # Of a linear model the end is known: -ε·y·w/‖w‖.
    end = -0.3 * targets[:, None] * weights / weights.norm()
    assert torch.allclose(ascent.best, end.expand_as(ascent.best), atol=1e-6)
    expected = (inputs @ weights).abs() <= 0.3 * weights.norm()
    assert torch.equal(ascent.misclassified, expected)


@pytest.mark.parametrize("factor", [1.0, 200.0])
def test_a_common_offset_of_the_logits(factor):
    problem = problem_of(Scaled(factor, 1e8))
    aim = climb(problem_of(Scaled(factor)))
    plain, ascent = climb(problem, rescue=False), climb(problem)
    assert set(ascent.rescue.tolist()) == {1}
    best, lost = reached(problem, ascent), reached(problem, plain)
    assert float((best - reached(problem, aim)).abs().max()) < 2e-2
    assert float((best - lost).min()) > -1e-3
    assert float((best - lost).max()) > 0.02


def test_a_small_offset_hides_nothing():
    assert not bool(climb(problem_of(Scaled(1.0, 100.0))).rescue.any())


@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.zeros(len(x), 4, dtype=x.dtype),
        lambda x: x[:, :4] * 0 + 1e8,
        lambda x: torch.round(x[:, :4]) * 1e4,
        lambda x: torch.relu(x[:, :4] - 50) * 1e4,
    ],
    ids=["zero", "offset", "rounded", "dead ReLU"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_flat_stays_flat(model, dtype):
    ascent = climb(problem_of(model, dtype))
    assert set(named(ascent.outcome)) == {"ZERO_GRADIENT"}
    assert not bool(ascent.rescue.any())
    assert bool(ascent.zero_gradient.all())


def test_a_critical_centre_is_no_underflow():
    """A gradient that is zero by symmetry, in every precision."""
    problem = output_problem(
        lambda x: -x.square().sum(1), torch.zeros(3, 4), sm.L2Ball(0.5)
    )
    ascent = climb(problem)
    assert set(named(ascent.outcome)) == {"STATIONARY"}
    assert bool(ascent.zero_gradient.all())
    assert not bool(ascent.rescue.any())


def test_a_saturated_activation_is_climbed_in_float64():
    """1 - tanh(h)² is 0 in float32 where h > 9, in float64 where h > 19."""
    weights = seeded(5, seed=3, dtype=torch.float32)

    def model(level):
        return lambda x: torch.tanh(x @ weights.to(x) - level) + 0 * x[:, 0]

    for level, kind in ((12.0, 1), (40.0, 0)):
        problem = output_problem(model(level), torch.zeros(2, 5), sm.L2Ball(0.5))
        ascent = climb(problem, 40)
        assert ascent.rescue.tolist() == [kind, kind]
        if kind:
            end = 0.5 * weights / weights.norm()
            assert torch.allclose(ascent.final[0, 0], end, atol=1e-3)


def test_a_model_of_one_dtype_is_asked_for_its_margin():
    problem = problem_of(Scaled(1e5, only=torch.float32))
    ascent = climb(problem)
    assert set(ascent.rescue.tolist()) <= {0, 2}
    assert int((ascent.rescue == 2).sum()) >= 6
    assert int(ascent.misclassified.sum()) > 2


def test_only_the_runs_in_question_are_made_again():
    """Of two runs of one example one sees its gradient and stays what it was."""
    weights = torch.tensor([400.0, 0.0])

    def model(x):
        lead = torch.relu(x @ weights.to(x)) + 300 * (x[:, 1] > 0.5)
        return torch.stack([lead, torch.zeros_like(lead)], 1)

    inputs = torch.tensor([[0.2, 0.0]])
    starts = torch.tensor([[[0.3, 0.0]], [[-0.17, 0.0]]])
    problem = sm.Problem(
        model, inputs, torch.tensor([0]), sm.CrossEntropy(), sm.LinfBall(0.4)
    )
    options = {"start": sm.GivenStart(starts), "max_steps": 50}
    plain = sm.ascend(problem, rescue=False, **options)
    ascent = sm.ascend(problem, **options)
    assert plain.zero_gradient[:, 0].tolist()[0] is True
    assert ascent.rescue.tolist() == [1]
    assert torch.equal(ascent.final[1], plain.final[1])
    assert float(ascent.final[0, 0, 0]) < float(plain.final[0, 0, 0])
    assert ascent.gradient_evaluations > plain.gradient_evaluations


def test_until_and_recorder_go_with_it():
    problem = problem_of(Scaled(2000.0))
    ascent = climb(problem, until=sm.Misclassified(), recorder=sm.Recorder())
    rescued = ascent.rescue > 0
    assert bool(rescued.any())
    ended = [ascent.outcome[0, i] is sm.Outcome.SUCCEEDED for i in range(12)]
    assert torch.equal(torch.tensor(ended), ascent.misclassified)
    final = problem.rows().value(ascent.final[0]).wrong
    assert torch.equal(final, ascent.misclassified)
    # What was recorded is the first attempt.
    assert ascent.trajectory.loss.shape[1:] == (1, 12)


def test_a_broken_run_is_not_rescued():
    model = Fragile(torch.tensor([1.0, 0.5]), 0.3)
    problem = output_problem(model, torch.zeros(2, 2), sm.L2Ball(1.0))
    method = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05))
    ascent = climb(problem, adversary=method)
    assert set(named(ascent.outcome)) == {"NON_FINITE"}
    assert not bool(ascent.rescue.any())


def test_the_callers_model_is_not_changed():
    model = Scaled(2000.0).train()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    problem = problem_of(model)
    state = torch.random.get_rng_state()
    ascent = climb(problem)
    assert bool(ascent.rescue.any())
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(w.grad is None for w in model.parameters())
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
        assert weight.dtype == torch.float32


def test_results_do_not_depend_on_the_batch():
    problem = problem_of(Scaled(2000.0))
    whole = climb(problem)
    for i in (0, 3, 7):
        alone = climb(problem.take(torch.tensor([i])))
        assert int(alone.rescue) == int(whole.rescue[i])
        # Float32 points of float64 runs, or of the same float32 run: last bits.
        assert torch.allclose(alone.best[0], whole.best[i], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confident_digits_are_climbed_and_not_rescued(dtype):
    """A healthy network, sure of its training data: nothing underflows."""
    data = load_digits()
    inputs = torch.tensor(data.data[:200] / 16, dtype=dtype)
    labels = torch.tensor(data.target[:200])
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)).to(dtype)
    with torch.no_grad():
        model[0].weight.copy_(seeded(48, 64, seed=1) / 8)
        model[2].weight.copy_(seeded(10, 48, seed=2) / 7)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    problem = sm.Problem(
        model, inputs[:60], labels[:60], sm.CrossEntropy(), sm.LinfBall(0.1), (0.0, 1.0)
    )
    assert float(climb(problem, 0).losses.detach().median()) < 1e-2
    ascent = climb(problem)
    assert not bool(ascent.rescue.any())
    assert f"misclassified {int(ascent.misclassified.sum())}" in repr(ascent)
    # As high as runs that nothing stops on the way.
    free = climb(problem, tolerance=None)
    assert torch.equal(ascent.misclassified, free.misclassified)
    # Runs part at kinks by rounding; losses go up to 4.
    assert float((free.best_loss - ascent.best_loss).max()) < 5e-2


def test_a_custom_end_is_not_asked_about_margins():
    """It may compare the objective with a level, which means nothing of margins."""
    problem = problem_of(Scaled(1e6))
    ascent = climb(problem, until=lambda evaluation: evaluation.loss > 1e9)
    assert not bool((ascent.rescue == 2).any())


def test_labelled_problem_of_the_other_tests_is_not_saturated():
    ascent = climb(labelled_problem(dtype=torch.float32))
    assert not bool(ascent.rescue.any())
