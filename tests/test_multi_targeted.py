"""Ascents towards each of the likeliest classes, merged into one."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import summiteer as sm
from fakes import Counting, classifier, seeded
from summiteer.objectives import misclassified

torch.set_num_threads(1)

STEPS = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05))
STARTS = sm.CentreStart() + sm.UniformStart(restarts=2, seed=5)


class Decoy(nn.Module):
    """Class 1 tempts at the centre and stops short; class 2 pays, but only far out.

    z_0 = 0, z_1 = x_1 - 2·softplus(x_1 - 0.3) - 0.2 with its top below 0, z_2 =
    1.5·x_2 - 0.6, which beats 0 from x_2 = 0.4 on; z_3 = -5.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        first, second = inputs[:, 0], inputs[:, 1]
        tempting = 20 * first - 40 * nn.functional.softplus(first - 0.3, beta=20) - 7
        paying = 1.5 * second - 0.6
        flat = torch.zeros_like(first)
        return torch.stack([flat, 0.1 * tempting, paying - 0.3, flat - 5], 1)


def decoy(rows=4) -> sm.Problem:
    inputs = 0.01 * seeded(rows, 2, seed=1)
    labels = torch.zeros(rows, dtype=torch.int64)
    return sm.Problem(Decoy(), inputs, labels, sm.Margin(), sm.L2Ball(0.8))


def problem_of(rows=24, classes=6, radius=0.25, objective=None, dtype=torch.float64):
    model = classifier((8, 12, classes), dtype=dtype)
    inputs = seeded(rows, 8, seed=4, dtype=dtype)
    labels = model(inputs).argmax(1)
    objective = objective or sm.CrossEntropy()
    return sm.Problem(model, inputs, labels, objective, sm.L2Ball(radius))


# -- which rivals ---------------------------------------------------------------------


def test_rivals_are_the_other_classes_by_their_clean_outputs():
    problem = problem_of()
    z = problem.model(problem.inputs).detach()
    for count in (1, 3, 5, 9):
        found = sm.likeliest_rivals(problem, count)
        assert found.shape == (24, min(count, 5))
        for row, label, own in zip(z, problem.targets.tolist(), found, strict=True):
            order = [k for k in np.argsort(-row.numpy()) if k != label]
            assert own.tolist() == order[:count]


def test_ties_and_impossible_classes_never_bring_in_the_label():
    z = torch.tensor(
        [[1.0, 0.0, 0.0, 0.0], [-torch.inf] * 4, [0.0, 2.0, -torch.inf, 2]]
    )
    labels = torch.tensor([0, 1, 1])
    region = sm.L2Ball(1.0)
    problem = sm.Problem(lambda x: x, z.clamp(-9), labels, sm.Margin(), region)
    assert sm.likeliest_rivals(problem, 9).tolist() == [[1, 2, 3], [0, 2, 3], [3, 0, 2]]


@pytest.mark.parametrize(
    ("targets", "outputs", "objective"),
    [
        (torch.tensor([1.0, -1.0, 1.0]), 1, sm.Logistic()),
        (torch.rand(3), 1, sm.Quadratic()),
        (torch.rand(3, 2), 2, sm.Quadratic()),
    ],
)
def test_no_classes_no_rivals(targets, outputs, objective):
    model = nn.Linear(4, outputs)
    problem = sm.Problem(model, torch.rand(3, 4), targets, objective, sm.L2Ball(0.5))
    with pytest.raises(sm.UserError, match="rivals: other classes need outputs"):
        sm.multi_targeted(problem)


@pytest.mark.parametrize("rivals", [0, -1, 2.0, True])
def test_counts_that_are_none(rivals):
    with pytest.raises(sm.UserError, match="rivals: expected an integer ≥ 1"):
        sm.multi_targeted(problem_of(), rivals=rivals)


def test_an_objective_needs_its_classes():
    with pytest.raises(sm.UserError, match="needs at least 4 classes"):
        sm.multi_targeted(problem_of(classes=3), objective=sm.TargetedDLR)


# -- what it is good for --------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, sm.TargetedMargin, sm.TargetedCrossEntropy])
def test_it_finds_what_one_ascent_walks_past(kind):
    problem = decoy()
    start = sm.CentreStart()
    alone = sm.ascend(problem, STEPS, start, 60)
    assert not alone.misclassified.any()
    found = sm.multi_targeted(problem, STEPS, start, 60, objective=kind)
    assert found.misclassified.all()
    assert misclassified(
        problem.model(problem.inputs + found.best), problem.targets
    ).all()
    assert bool((found.best_loss > alone.best_loss).all())
    # The likeliest class is the decoy.
    assert sm.likeliest_rivals(problem, 1).flatten().tolist() == [1, 1, 1, 1]
    assert found.best_restart.tolist() == [1, 1, 1, 1]
    one = sm.multi_targeted(problem, STEPS, start, 60, rivals=1, objective=kind)
    assert not one.misclassified.any()


def test_with_every_rival_the_margin_is_the_largest_of_its_parts():
    """The best over all ranks is at least as good as each rank alone."""
    problem = problem_of(objective=sm.Margin())
    found = sm.multi_targeted(problem, STEPS, STARTS, 30, objective=sm.TargetedMargin)
    ranked = sm.likeliest_rivals(problem, 9)
    for rank in range(5):
        targeted = problem.with_objective(sm.TargetedMargin(ranked[:, rank]))
        alone = sm.ascend(targeted, STEPS, STARTS, 30)
        value = problem.rows().value(alone.best).loss
        # Starts are projected once more.
        assert bool((found.best_loss >= value - 1e-12).all())
        runs = slice(3 * rank, 3 * rank + 3)
        torch.testing.assert_close(found.final[runs], alone.final)
        assert found.outcome[runs].tolist() == alone.outcome.tolist()
        torch.testing.assert_close(found.residual[runs], alone.residual)


# -- what it says ---------------------------------------------------------------------


@pytest.mark.parametrize("until", [None, sm.Misclassified()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_speaks_of_the_problems_own_objective(until, dtype):
    problem = problem_of(dtype=dtype)
    found = sm.multi_targeted(problem, STEPS, STARTS, 20, until=until)
    assert found.final.shape == (15, 24, 8)
    rows = problem.rows()
    torch.testing.assert_close(rows.value(found.best).loss, found.best_loss)
    for run in range(15):
        value = rows.value(found.final[run]).loss
        # Broken examples are evaluated among fewer rows.
        torch.testing.assert_close(value, found.losses[run])
    assert bool((found.best_loss >= found.losses.amax(0) * (1 - 1e-6)).all())
    inside = problem.feasible.contains(found.best)
    assert inside.all()
    assert bool((found.best_restart < 15).all())
    points = found.misclassified_points
    assert torch.equal(points.isfinite().all(1), found.misclassified)
    wrong = rows.value(points.nan_to_num(0.0)).wrong
    assert torch.equal(wrong & found.misclassified, found.misclassified)
    # Whatever is misclassified at a best or last point was counted.
    seen = torch.stack([rows.value(p).wrong for p in (found.best, *found.final)])
    assert not (seen.any(0) & ~found.misclassified).any()


def test_every_field_of_an_ascent_is_merged():
    """Another field needs a rule in `multi_target._beside`."""
    known = {
        "final losses residual steps period zero_gradient outcome",
        "best best_loss best_restart misclassified misclassified_points rescue",
        "gradient_evaluations forward_evaluations trajectory space",
    }
    names = {name for line in known for name in line.split()}
    assert names == {field.name for field in dataclasses.fields(sm.Ascent)}
    found = sm.multi_targeted(problem_of(), STEPS, STARTS, 5)
    for name in ("losses", "residual", "steps", "period", "zero_gradient", "outcome"):
        assert getattr(found, name).shape == (15, 24), name
    for name in ("best_loss", "best_restart", "misclassified", "rescue"):
        assert getattr(found, name).shape == (24,), name


def test_broken_examples_are_left_alone():
    problem = problem_of(radius=0.8)
    found = sm.multi_targeted(
        problem, STEPS, STARTS, 20, until=sm.Misclassified(), rivals=4
    )
    everyone = sm.multi_targeted(problem, STEPS, STARTS, 20, rivals=4)
    assert torch.equal(found.misclassified, everyone.misclassified)
    assert found.gradient_evaluations < 0.5 * everyone.gradient_evaluations
    broken = found.misclassified
    assert 0.2 < float(broken.double().mean()) < 1
    unmade = (found.steps == 0) & found.residual.isnan()
    assert bool(unmade[-1].any())
    assert not unmade[:, ~broken].any()
    assert (found.outcome[unmade.numpy()] == sm.Outcome.SUCCEEDED).all()
    same = found.final == found.misclassified_points
    assert same.all(2)[unmade].all()
    # A rank once left out stays out.
    by_rank = unmade.reshape(4, 3, 24).all(1).int()
    assert bool((by_rank.diff(dim=0) >= 0).all())


def test_all_broken_at_once_still_has_every_rank():
    problem = problem_of(rows=5)
    problem = dataclasses.replace(problem, targets=(problem.targets + 1) % 6)
    found = sm.multi_targeted(problem, STEPS, STARTS, 9, until=sm.Misclassified())
    assert found.final.shape[:2] == (15, 5)
    assert found.misclassified.all()
    assert not found.steps.any()


def test_the_cost_is_counted():
    problem = problem_of()
    model = Counting(problem.model)
    counted = dataclasses.replace(problem, model=model)
    counted.examine()
    model.with_gradient.clear()
    found = sm.multi_targeted(counted, STEPS, STARTS, 10)
    assert sum(model.with_gradient) == found.gradient_evaluations


@pytest.mark.parametrize("until", [None, sm.Misclassified()])
def test_results_do_not_depend_on_the_company(until):
    problem = problem_of(radius=0.5)
    whole = sm.multi_targeted(problem, STEPS, STARTS, 10, until=until)
    for index in (torch.tensor([7]), torch.tensor([20, 3, 11])):
        some = sm.multi_targeted(problem.take(index), STEPS, STARTS, 10, until=until)
        # Ten steps, whose matrix products round by their size (1e-16).
        close = {"rtol": 1e-10, "atol": 1e-10, "equal_nan": True}
        for name in ("best", "best_loss", "misclassified_points"):
            got, expected = getattr(some, name), getattr(whole, name)[index]
            torch.testing.assert_close(got, expected, **close)
        torch.testing.assert_close(some.final, whole.final[:, index], **close)
        assert torch.equal(some.steps, whole.steps[:, index])
        assert torch.equal(some.misclassified, whole.misclassified[index])
        assert some.outcome.tolist() == whole.outcome[:, index.numpy()].tolist()


def test_given_starts_go_with_their_examples():
    problem = problem_of(radius=0.5)
    points = 0.1 * seeded(2, 24, 8, seed=6)
    found = sm.multi_targeted(
        problem, STEPS, sm.GivenStart(points), 0, rivals=2, until=sm.Misclassified()
    )
    made = ~found.misclassified
    for run in range(4):
        assert torch.equal(found.final[run, made], points[run % 2, made])


def test_two_classes_have_one_rival():
    problem = problem_of(classes=2)
    found = sm.multi_targeted(problem, STEPS, STARTS, 30)
    alone = sm.ascend(
        problem.with_objective(sm.Margin()), STEPS, STARTS, 30, space="input"
    )
    assert found.final.shape == (3, 24, 8)
    # With one rival the targeted margin is the margin.
    torch.testing.assert_close(found.final, alone.final)


def test_the_caller_finds_everything_as_it_was():
    problem = problem_of()
    model = problem.model.train()
    before = [p.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    sm.multi_targeted(problem, STEPS, STARTS, 3)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None
