"""The ascent loop: how runs stop, what is kept of them, and what they cost."""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import (
    Fragile,
    NanGradient,
    classifier,
    labelled_problem,
    named,
    output_problem,
    seeded,
)
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError

KNOWN = {known.name: known for known in PROBLEMS}
PLAIN = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05))
FEW = sm.CentreStart() + sm.UniformStart(restarts=2, seed=3)


def test_every_example_stops_by_itself():
    problem = labelled_problem(batch=8, region=sm.L2Ball(0.3))
    ascent = sm.ascend(problem, start=FEW, max_steps=3000)
    assert set(named(ascent.outcome)) == {"STATIONARY"}
    assert len(set(ascent.steps.flatten().tolist())) > 3
    assert float(ascent.residual.max()) <= 1e-8
    # and no earlier: one step less and the residual is above the tolerance
    steps = int(ascent.steps[1, 4])
    before = sm.ascend(problem, start=FEW, max_steps=steps - 1)
    assert before.outcome[1, 4] is sm.Outcome.STEP_LIMIT
    assert float(before.residual[1, 4]) > 1e-8


def test_the_tolerance_is_the_callers():
    problem = labelled_problem(batch=8, region=sm.L2Ball(0.3))
    rough = sm.ascend(problem, start=FEW, tolerance=1e-2)
    assert set(named(rough.outcome)) == {"STATIONARY"}
    assert 1e-8 < float(rough.residual.max()) <= 1e-2
    none = sm.ascend(problem, PLAIN, FEW, 20, tolerance=None)
    assert set(named(none.outcome)) == {"STEP_LIMIT"}
    assert set(none.steps.flatten().tolist()) == {20}


def test_no_steps_evaluates_the_start():
    problem = labelled_problem()
    ascent = sm.ascend(problem, start=FEW, max_steps=0)
    points = FEW.points(problem)
    assert torch.equal(ascent.final, points)
    loss = torch.stack([problem.rows().value(p).loss for p in points])
    # The same numbers from another batch size: last bits.
    assert torch.allclose(ascent.losses, loss, rtol=1e-13)
    assert set(named(ascent.outcome)) == {"STEP_LIMIT"}
    assert not bool(ascent.steps.any())
    assert torch.equal(ascent.best_restart, loss.argmax(0))


def test_the_point_made_by_the_last_step_is_evaluated():
    """The one that adv-lib and secml leave out (field.md §2, defect 4)."""
    problem = labelled_problem(region=sm.L2Ball(2.0))
    for steps in (1, 2, 5):
        ascent = sm.ascend(problem, PLAIN, sm.CentreStart(), steps, tolerance=None)
        loss = problem.rows().value(ascent.final[0]).loss
        assert torch.allclose(ascent.losses[0], loss, rtol=1e-13)
        # Still climbing, so the last point is the best one.
        assert torch.equal(ascent.best, ascent.final[0])
        assert torch.equal(ascent.best_loss, ascent.losses[0])


class Walk(nn.Module):
    """Outputs (hump, 0, δ₁): ascending δ₁ crosses a short misclassified stretch."""

    def forward(self, inputs):
        hump = 0.06 - (inputs[:, 0] - 0.5).abs()
        return torch.stack([hump, torch.zeros_like(hump), inputs[:, 0] - 9], 1)


def walk(targets=(1, 1, 2), starts=None):
    """Examples of label 1 are misclassified on 0.44 ≤ δ₁ ≤ 0.56; label 2 always."""
    inputs = torch.zeros(len(targets), 2, dtype=torch.float64)
    problem = sm.Problem(
        Walk(),
        inputs,
        torch.tensor(targets),
        lambda outputs, labels: outputs[:, 2],
        sm.L2Ball(2.0),
    )
    adversary = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.1))
    start = sm.GivenStart(starts) if starts is not None else sm.CentreStart()
    return problem, adversary, start


def test_an_iterate_met_on_the_way_counts_though_it_is_lost_later():
    problem, adversary, start = walk()
    ascent = sm.ascend(problem, adversary, start, 12)
    assert ascent.misclassified is not None
    assert ascent.misclassified_points is not None
    assert ascent.misclassified.tolist() == [True, True, True]
    final = problem.rows().value(ascent.final[0])
    assert final.wrong.tolist() == [False, False, True]
    # The first such iterate: the fifth step of 0.1; for label 2 the start.
    first = ascent.misclassified_points[:, 0]
    assert torch.allclose(first, torch.tensor([0.5, 0.5, 0.0]).double(), atol=1e-15)
    assert bool(problem.rows().value(ascent.misclassified_points).wrong.all())


def test_success_stops_all_restarts_of_the_example():
    starts = torch.zeros(2, 3, 2, dtype=torch.float64)
    starts[1, :, 0] = torch.tensor([0.2, -1.9, 0.0])
    starts[1, :, 1] = 0.1
    problem, adversary, start = walk((1, 1, 1), starts)
    ascent = sm.ascend(problem, adversary, start, 12, until=sm.Misclassified())
    assert named(ascent.outcome) == ["SUCCEEDED"] * 6
    # Example 0: its second run is there first, after 3 steps; example 1: its first.
    assert ascent.steps.tolist() == [[3, 5, 5], [3, 5, 5]]
    assert ascent.misclassified_points is not None
    assert ascent.misclassified_points[0].tolist() == ascent.final[1, 0].tolist()


def test_success_at_the_start_costs_no_step():
    problem, adversary, start = walk((2, 1))
    ascent = sm.ascend(problem, adversary, start, 3, until=sm.Misclassified())
    assert named(ascent.outcome) == ["SUCCEEDED", "STEP_LIMIT"]
    assert ascent.steps.tolist() == [[0, 3]]
    assert ascent.misclassified is not None
    assert ascent.misclassified_points is not None
    assert ascent.misclassified.tolist() == [True, False]
    assert bool(ascent.misclassified_points[1].isnan().all())


def test_ties_are_errors():
    # 0.06 - |0.44 - 0.5| is a tie up to rounding; 0 against 0 is one exactly.
    tied = sm.Problem(
        lambda x: torch.stack([x[:, 0], x[:, 0]], 1),
        torch.zeros(2, 2, dtype=torch.float64),
        torch.tensor([0, 1]),
        sm.CrossEntropy(),
        sm.L2Ball(0.5),
    )
    ascent = sm.ascend(tied, PLAIN, sm.CentreStart(), 1, until=sm.Misclassified())
    assert named(ascent.outcome) == ["SUCCEEDED"] * 2


def test_regression_has_no_errors():
    problem = KNOWN["concave, off centre"].problem
    ascent = sm.ascend(problem, max_steps=2)
    assert ascent.misclassified is None
    assert ascent.misclassified_points is None
    with pytest.raises(UserError, match=r"until: Misclassified\(\) needs labels"):
        sm.ascend(problem, until=sm.Misclassified())


def test_one_output_with_signs_has_errors():
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    problem = sm.Problem(
        lambda x: x.sum(1),
        torch.full((2, 2), 0.1, dtype=torch.float64),
        signs,
        sm.Logistic(),
        sm.L2Ball(0.5),
    )
    ascent = sm.ascend(problem, until=sm.Misclassified())
    assert ascent.misclassified is not None
    assert ascent.misclassified.tolist() == [True, True]
    assert set(named(ascent.outcome[:, 1])) == {"SUCCEEDED"}


def test_a_run_that_breaks_keeps_its_last_finite_point():
    inputs = torch.zeros(3, 2, dtype=torch.float64)
    inputs[2, 0] = -9.0  # this example is far below the level
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    for broken in (torch.nan, torch.inf, -torch.inf):
        model = Fragile(weights, 0.3, broken)
        problem = output_problem(model, inputs, sm.L2Ball(1.0))
        ascent = sm.ascend(problem, PLAIN, sm.CentreStart(), 100)
        names = named(ascent.outcome)
        assert names == ["NON_FINITE", "NON_FINITE", "STATIONARY"]
        # Unit steps of 0.05 along w gain 0.05·‖w‖ = 0.0559: five fit below 0.3.
        assert ascent.steps[0, :2].tolist() == [5, 5]
        assert torch.allclose(ascent.losses[0, :2], torch.tensor(0.2795).double(), 1e-3)
        assert torch.equal(model(problem.inputs + ascent.final[0]), ascent.losses[0])
        assert bool(ascent.best.isfinite().all())
        assert torch.equal(ascent.best_loss, ascent.losses[0])


def test_broken_runs_do_not_touch_the_others():
    """The healthy rows of a batch with broken ones: the same bits as without them."""
    inputs = 0.1 * seeded(5, 3)
    weights = seeded(3, seed=1)

    def climb(level):
        problem = output_problem(Fragile(weights, level), inputs, sm.L2Ball(1.0))
        return sm.ascend(problem, PLAIN, sm.CentreStart(), 30)

    whole, partly = climb(1e9), climb(float((inputs @ weights).sort().values[1]) + 0.3)
    sound = torch.tensor([o is not sm.Outcome.NON_FINITE for o in partly.outcome[0]])
    top = (inputs + whole.best) @ weights
    assert not bool(sound.all())
    # Points below the level on the whole way are those that end below it.
    assert torch.equal(sound, top <= float((inputs @ weights).sort().values[1]) + 0.3)
    assert torch.equal(partly.final[0, sound], whole.final[0, sound])


def test_a_start_that_is_not_finite():
    inputs = torch.zeros(2, 2, dtype=torch.float64)
    inputs[0, 0] = 5.0
    model = Fragile(torch.ones(2, dtype=torch.float64), 2.0)
    problem = output_problem(model, inputs, sm.L2Ball(0.5))
    ascent = sm.ascend(problem, PLAIN, FEW, 200)
    assert set(named(ascent.outcome[:, 0])) == {"NON_FINITE"}
    assert set(named(ascent.outcome[:, 1])) == {"STATIONARY"}
    assert torch.equal(ascent.final[:, 0], FEW.points(problem)[:, 0])
    assert not bool(ascent.steps[:, 0].any())
    assert bool(ascent.losses[:, 0].isnan().all())
    # No iterate of it had an objective at all.
    assert bool(ascent.best_loss[0].isnan())
    assert float(ascent.best_loss[1]) == pytest.approx(0.5 * 2**0.5, abs=1e-12)


def test_a_gradient_that_is_not_finite():
    def model(inputs):
        return NanGradient.apply(inputs.sum(1), 0.3)

    inputs = torch.zeros(2, 2, dtype=torch.float64)
    inputs[1] = -9.0
    problem = output_problem(model, inputs, sm.L2Ball(0.5))
    ascent = sm.ascend(problem, PLAIN, sm.CentreStart(), 100)
    assert named(ascent.outcome) == ["NON_FINITE", "STATIONARY"]
    assert bool(ascent.final.isfinite().all())
    # 0.05·√2 per step: the fifth point, 0.354, is the first with such a gradient.
    assert ascent.steps.tolist()[0][0] == 5
    assert float(ascent.losses[0, 0]) == pytest.approx(0.25 * 2**0.5)


def test_a_break_at_the_reference_points_only_is_no_break():
    """NaN at the centre does not condemn runs that never go there."""

    def model(inputs):
        length = inputs.norm(dim=1)
        return torch.where(length < 1e-3, torch.nan, inputs[:, 0])

    problem = output_problem(model, torch.zeros(2, 2).double(), sm.L2Ball(0.5))
    ascent = sm.ascend(problem, start=sm.BoundaryStart(restarts=3))
    assert set(named(ascent.outcome)) == {"STATIONARY"}
    assert torch.allclose(ascent.best_loss, torch.tensor(0.5).double(), atol=1e-14)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.zeros(len(x), 3, dtype=x.dtype),
        lambda x: x.detach()[:, :3],
        lambda x: torch.round(x[:, :3]),
        lambda x: x[:, :3] * 0 + 1,
    ],
    ids=["constant", "disconnected", "rounded", "times zero"],
)
def test_a_gradient_that_is_zero_everywhere_is_named(model):
    ascent = sm.ascend(labelled_problem(model=model), max_steps=5)
    assert set(named(ascent.outcome)) == {"ZERO_GRADIENT"}
    assert not bool(ascent.steps.any())
    assert "masking" in sm.Outcome.ZERO_GRADIENT.value


@pytest.mark.parametrize("name", ["concave, centre", "planted saddle", "double well"])
def test_a_critical_centre_is_stationary_and_not_masked(name):
    ascent = sm.ascend(KNOWN[name].problem, start=sm.CentreStart())
    assert named(ascent.outcome) == ["STATIONARY"]
    assert float(ascent.residual) == 0


def test_a_step_too_small_to_move_has_stalled():
    problem = KNOWN["linear on L2"].problem
    adversary = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(1e-17))
    ascent = sm.ascend(problem, adversary, sm.UniformStart(restarts=2), 100)
    assert set(named(ascent.outcome)) == {"STALLED"}
    assert int(ascent.steps.max()) <= 8
    still = sm.ascend(
        output_problem(lambda x: x.sum(1) * 0, torch.zeros(1, 2), sm.L2Ball(0.5)),
        PLAIN,
        sm.CentreStart(),
        max_steps=100,
        tolerance=None,
    )
    # Even around 0, where a unit of rounding of x + δ is 0 too.
    assert still.outcome[0, 0] is sm.Outcome.STALLED


def test_float32_stops_at_its_own_tolerance():
    problem = labelled_problem(dtype=torch.float32, region=sm.L2Ball(0.3))
    ascent = sm.ascend(problem, start=FEW, max_steps=1000)
    assert set(named(ascent.outcome)) == {"STATIONARY"}
    assert 1e-8 < float(ascent.residual.max()) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs(dtype):
    problem = labelled_problem(dtype=dtype, region=sm.L2Ball(0.3))
    ascent = sm.ascend(problem, start=FEW, max_steps=20)
    assert ascent.final.dtype == dtype
    assert bool(ascent.final.isfinite().all())
    assert bool((ascent.best_loss >= ascent.losses.amax(0)).all())


def test_a_model_may_answer_in_another_dtype():
    weights = seeded(8)
    inputs = seeded(3, 8, dtype=torch.float32)
    problem = output_problem(lambda x: x.double() @ weights, inputs, sm.L2Ball(0.5))
    ascent = sm.ascend(problem, start=FEW)
    assert ascent.final.dtype == torch.float32
    assert ascent.losses.dtype == torch.float64
    assert set(named(ascent.outcome)) == {"STATIONARY"}


@pytest.mark.parametrize("max_steps", [-1, 1.5, "ten"])
def test_bad_step_limits_are_refused(max_steps):
    with pytest.raises(UserError, match=r"max_steps: expected an integer ≥ 0"):
        sm.ascend(labelled_problem(), max_steps=max_steps)


def test_images_and_columns():
    inputs = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    net = classifier((64, 10, 3))
    problem = sm.Problem(
        nn.Sequential(nn.Flatten(), net),
        inputs,
        torch.tensor([0, 1, 2]),
        sm.CrossEntropy(),
        sm.LinfBall(0.05),
        box=(0.0, 1.0),
    )
    ascent = sm.ascend(problem, start=FEW, max_steps=15)
    assert ascent.final.shape == (3, 3, 1, 8, 8)
    flat = sm.Problem(
        net,
        inputs.flatten(1),
        problem.targets,
        sm.CrossEntropy(),
        sm.LinfBall(0.05),
        box=(0.0, 1.0),
    )
    same = sm.ascend(flat, start=FEW, max_steps=15)
    assert torch.equal(ascent.final.flatten(2), same.final)
    column = sm.Problem(
        nn.Sequential(classifier((8, 5, 1))),
        seeded(4, 8),
        torch.zeros(4, 1, dtype=torch.float64),
        sm.Quadratic(),
        sm.L2Ball(0.2),
    )
    assert sm.ascend(column, max_steps=5).losses.shape == (5, 4)


def test_radius_per_example():
    radius = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    problem = labelled_problem(region=sm.L2Ball(radius))
    ascent = sm.ascend(problem, start=FEW)
    # All of these maxima lie on the boundary: rounding of a projection.
    assert torch.allclose(ascent.best.norm(dim=1), radius, rtol=1e-14)
    for i in (0, 5):
        alone = sm.ascend(problem.take(torch.tensor([i])), start=FEW)
        assert torch.allclose(alone.best[0], ascent.best[i], atol=1e-7)


class RootOfOne(nn.Module):
    """Outputs that do not know of the coordinate whose gradient is not a number."""

    def forward(self, inputs):
        root = torch.sqrt(0.0 * inputs[:, :1])
        return torch.cat([inputs[:, 1:4], root], 1)


@pytest.mark.parametrize("tolerance", [None, -1.0])
def test_a_gradient_that_is_no_number_ends_a_run_though_the_loss_is_finite(tolerance):
    inputs = torch.full((3, 5), 0.6, dtype=torch.float64)
    problem = sm.Problem(
        RootOfOne(),
        inputs,
        torch.tensor([0, 1, 2]),
        sm.TargetedMargin(torch.tensor([1, 2, 0])),
        sm.L2Ball(0.1),
    )
    ascent = sm.ascend(problem, sm.AutoPGD(5), max_steps=5, tolerance=tolerance)
    assert bool(ascent.final.isfinite().all())
    assert bool(ascent.best.isfinite().all())
    assert set(named(ascent.outcome)) == {"NON_FINITE"}
