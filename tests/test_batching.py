"""What one example's runs owe to the others: nothing, except to leave when done."""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import Counting, classifier, labelled_problem, named, output_problem, seeded
from summiteer.analytic import Form

PLAIN = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05))
STARTS = sm.CentreStart() + sm.UniformStart(restarts=2, seed=3)
#: Adversaries that work row by row, each with its own state.
METHODS = {
    "constant": PLAIN,
    "decaying": sm.ProjectedAscent(sm.Normalised(), sm.DecayingStep(0.1)),
    "backtracking": sm.ProjectedAscent(sm.Normalised()),
    "sign": sm.ProjectedAscent(sm.Sign()),
}
REGIONS = {
    "L2": {"region": sm.L2Ball(0.4)},
    "L∞": {"region": sm.LinfBall(0.1)},
    "L2 ∩ box": {"region": sm.L2Ball(0.4), "box": (-3.0, 3.0)},
}


def mixed():
    """Easy examples (done at once) and hard ones (a flat direction) in turn."""
    curvature = torch.tensor([-1.0, -0.02], dtype=torch.float64)
    form = Form(
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
        torch.diag(curvature),
        torch.zeros(2, dtype=torch.float64),
    )
    inputs = torch.zeros(8, 2, dtype=torch.float64)
    inputs[::2, 0], inputs[1::2, 1] = 0.1, 0.1
    model = Counting(form)
    return model, output_problem(model, inputs, sm.L2Ball(0.5))


def test_finished_rows_leave_the_batch():
    model, problem = mixed()
    adversary = sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(0.9))
    ascent = sm.ascend(problem, adversary, sm.CentreStart(), 400)
    easy, hard = ascent.steps[0, ::2], ascent.steps[0, 1::2]
    assert int(easy.max()) < 20
    assert int(hard.min()) > 200
    # Two passes of 8 for the residual's scale, one for the start, then the loop.
    sizes = model.with_gradient
    assert sizes[:3] == [8, 8, 8] or sizes[:2] == [8, 8]
    assert set(sizes) == {8, 4}
    assert sizes == sorted(sizes, reverse=True)
    # Cost follows the work left: not 8 × the longest run.
    assert sum(sizes) < 0.6 * 8 * int(hard.max())
    assert ascent.gradient_evaluations == sum(sizes)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("start", [STARTS, sm.CentreStart(), sm.BoundaryStart()])
def test_gradient_evaluations_are_those_that_happened(name, start):
    model = Counting(classifier())
    problem = labelled_problem(model=model)
    ascent = sm.ascend(problem, METHODS[name], start, 40)
    assert ascent.gradient_evaluations == sum(model.with_gradient)
    # Two probes of the examination, nothing else without gradient.
    assert model.without == [6, 6]


def test_examples_run_as_if_alone():
    _, problem = mixed()
    together = sm.ascend(problem, start=STARTS, max_steps=60)
    for i in range(8):
        alone = sm.ascend(problem.take(torch.tensor([i])), start=STARTS, max_steps=60)
        assert torch.equal(alone.steps[:, 0], together.steps[:, i])
        assert named(alone.outcome) == named(together.outcome[:, i])
        # Elementwise arithmetic: the same bits whatever the batch.
        assert torch.equal(alone.final[:, 0], together.final[:, i])
        assert torch.equal(alone.best[0], together.best[i])


@pytest.mark.parametrize("case", REGIONS)
@pytest.mark.parametrize("name", METHODS)
def test_blocks_agree_to_the_last_digits(name, case):
    """architecture.md: ≤ 1e-12 relative after 10 float64 steps across block sizes."""
    problem = labelled_problem(batch=7, **REGIONS[case])
    whole = sm.ascend(problem, METHODS[name], STARTS, 10)
    for blocks in ([0, 1, 2], [3, 4], [5], [6]), ([6, 5, 4, 3], [2, 1, 0]):
        for block in blocks:
            part = sm.ascend(
                problem.take(torch.tensor(block)), METHODS[name], STARTS, 10
            )
            scale = float(whole.final[:, block].norm())
            assert float((part.final - whole.final[:, block]).norm()) <= 1e-12 * scale
            assert torch.allclose(part.losses, whole.losses[:, block], rtol=1e-12)
            assert named(part.outcome) == named(whole.outcome[:, block])


def test_the_same_call_gives_the_same_bits():
    problem = labelled_problem()
    first, second = (sm.ascend(problem, start=STARTS, max_steps=50) for _ in range(2))
    assert torch.equal(first.final, second.final)
    assert torch.equal(first.best, second.best)
    assert first.gradient_evaluations == second.gradient_evaluations


def test_best_is_the_best_of_all_iterates_and_runs():
    problem = labelled_problem(region=sm.L2Ball(0.4))
    # Long constant steps overshoot: the last point is not the best.
    adversary = sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(8.0))
    ascent = sm.ascend(problem, adversary, STARTS, 30, sm.Recorder(), tolerance=None)
    assert ascent.trajectory is not None
    highest = ascent.trajectory.loss.nan_to_num(-torch.inf).amax(0)
    assert bool((ascent.best_loss > ascent.losses.amax(0)).any())
    # The trajectory is float32: half a unit of 6e-8.
    assert torch.allclose(ascent.best_loss, highest.amax(0).double(), rtol=1e-7)
    there = highest.gather(0, ascent.best_restart[None])[0]
    assert torch.equal(there, highest.amax(0))
    value = problem.rows().value(ascent.best).loss
    assert torch.allclose(ascent.best_loss, value, rtol=1e-13)


class Fussy(nn.Module):
    """Notes the modes it was run in; draws random numbers it does not need."""

    def __init__(self):
        super().__init__()
        self.net = classifier()
        self.drop = nn.Dropout(0.0)
        self.modes = set()

    def forward(self, inputs):
        torch.rand(3)
        self.modes.add(self.training)
        return self.drop(self.net(inputs))


@pytest.mark.parametrize("work", ["ascend", "local_optimality"])
def test_nothing_of_the_callers_is_changed(work):
    model = Fussy().train()
    model.net[0].weight.requires_grad_(False)
    weights = {k: v.detach().clone() for k, v in model.named_parameters()}
    frozen = {k: v.requires_grad for k, v in model.named_parameters()}
    inputs, targets = seeded(5, 8).requires_grad_(), torch.tensor([0, 1, 2, 0, 1])
    given, points = inputs.detach().clone(), 0.1 * seeded(5, 8, seed=4)
    before, state = points.clone(), torch.random.get_rng_state()
    threads = torch.get_num_threads()
    problem = sm.Problem(model, inputs, targets, sm.CrossEntropy(), sm.L2Ball(0.3))
    if work == "ascend":
        sm.ascend(problem, start=sm.GivenStart(points), max_steps=9)
    else:
        sm.local_optimality(problem, points)
    assert model.training
    assert model.drop.training
    assert model.modes == {False}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.equal(inputs, given)
    assert inputs.requires_grad
    assert inputs.grad is None
    assert torch.equal(points, before)
    assert targets.tolist() == [0, 1, 2, 0, 1]
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name])
        assert weight.requires_grad is frozen[name]
        assert weight.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(mode):
    problem = labelled_problem()
    outside = sm.ascend(problem, start=STARTS, max_steps=10)
    verdicts = sm.local_optimality(problem, outside.best).verdict
    with mode():
        inside = sm.ascend(problem, start=STARTS, max_steps=10)
        assert sm.local_optimality(problem, outside.best).verdict == verdicts
        assert not torch.is_grad_enabled()
    assert torch.equal(inside.final, outside.final)


def test_tensors_made_in_inference_mode_can_be_attacked():
    plain, net = labelled_problem(), classifier()
    with torch.inference_mode():
        problem = labelled_problem(model=net)
        ascent = sm.ascend(problem, start=STARTS, max_steps=5)
    again = sm.ascend(problem, start=STARTS, max_steps=5)
    expected = sm.ascend(plain, start=STARTS, max_steps=5).final
    assert torch.equal(ascent.final, expected)
    assert torch.equal(again.final, expected)


def test_plain_functions_are_models_too():
    # Known as a two-layer network it would be computed otherwise, to rounding.
    net = torch.nn.Sequential(classifier(), torch.nn.Identity())
    function = sm.ascend(
        labelled_problem(model=lambda x: net(x)), start=STARTS, max_steps=10
    )
    module = sm.ascend(labelled_problem(model=net), start=STARTS, max_steps=10)
    assert torch.equal(function.final, module.final)
