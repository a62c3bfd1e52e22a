"""Search: leaving saddles, stopping restarts, keeping to its budget and its word."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import Counting, classifier, labelled_problem, seeded
from summiteer import tolerances
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.networks.reference import digits_mlp
from summiteer.searching.sources import SOURCES
from summiteer.starts import UniformStart

KNOWN = {known.name: known for known in PROBLEMS}
ALONE = {
    "escapes": tuple(name for name in SOURCES if name != "escapes"),
    "restarts": tuple(name for name in SOURCES if name != "restarts"),
}
#: Sources whose runs are those of the problem's own objective that are counted.
_OWN = ("objective", "restarts")
#: All sources but the certificates, which take most of a second.
SMALL = sm.Effort(
    restarts=4,
    max_steps=8,
    budget=120,
    rival_steps=4,
    gate_steps=3,
    neighbours=1,
)
REGIONS = {
    "L2": sm.L2Ball(0.5),
    "L∞": sm.LinfBall(0.1),
    "L1": sm.L1Ball(1.0),
    "sphere": sm.Sphere(0.5),
}


def regression(kind="quadratic", batch=4):
    """One output: a real target, or one of ±1. No classes, so no rivals."""
    torch_model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 1))
    for number, weight in enumerate(torch_model.parameters()):
        weight.data = 0.6 * seeded(*weight.shape, seed=number)
    model = nn.Sequential(*torch_model, nn.Flatten(0)).double()
    inputs = 0.4 * seeded(batch, 6, seed=9)
    with torch.no_grad():
        outputs = model(inputs)
    if kind == "quadratic":
        return sm.Problem(model, inputs, outputs + 0.1, sm.Quadratic(), sm.L2Ball(0.4))
    return sm.Problem(model, inputs, outputs.sign(), sm.Logistic(), sm.L2Ball(0.1))


# Escapes.


@pytest.mark.parametrize("name", ["planted saddle", "convex bowl", "double well"])
def test_a_search_leaves_a_saddle_where_ascent_stays(name):
    """All begin at the centre, an exact saddle, whose gradient is zero."""
    known = KNOWN[name]
    effort = sm.Effort(restarts=0, max_steps=60, budget=2000, escapes=1)
    stays = sm.search(known.problem, effort, without=tuple(SOURCES))
    assert not bool(stays.best.any())
    also = sm.search(known.problem, effort, without=(*ALONE["restarts"], "restarts"))
    assert torch.equal(also.best, stays.best)
    left = sm.search(known.problem, effort, without=ALONE["escapes"])
    # 60 steps of APGD come within 1e-5 of the value of an interior maximum.
    assert float(left.best_loss) == pytest.approx(known.value, abs=1e-5)
    assert left.sources[int(left.source)] == "escapes"
    assert float((left.best - known.maximisers).norm(dim=1).min()) < 0.02


def test_no_escape_is_tried_from_a_maximum():
    """The centre is the maximum: the certificate says so, and no run is made."""
    known = KNOWN["concave, centre"]
    effort = sm.Effort(restarts=0, max_steps=20, budget=2000, escapes=3)
    found = sm.search(known.problem, effort, without=ALONE["escapes"])
    assert found.runs.tolist() == [1]


def test_a_saddle_is_left_in_both_directions():
    """From 0 the twin maxima of equal height lie both ways: six runs, three each."""
    known = KNOWN["double well"]
    effort = sm.Effort(restarts=0, max_steps=5, budget=2000, escapes=1)
    found = sm.search(known.problem, effort, without=ALONE["escapes"])
    assert found.runs.tolist() == [1 + 6]


# Restarts that stop.


def test_restarts_end_once_enough_is_seen():
    """One maximum: four restarts end in it, (0 + 1)/(4 + 1) ≤ 0.2, and no fifth."""
    effort = sm.Effort(restarts=64, max_steps=20, budget=10_000, unseen=0.2)
    found = sm.search(KNOWN["linear on L2"].problem, effort, without=ALONE["restarts"])
    assert found.runs.tolist() == [1 + 4]
    assert found.stopped == ("seen enough",)
    assert found.maxima.unseen.tolist() == [0.0]
    assert found.best_maximum.tolist() == [0]


def test_a_lower_limit_makes_more_restarts():
    effort = sm.Effort(restarts=64, max_steps=20, budget=10_000, unseen=0.07)
    found = sm.search(KNOWN["linear on L2"].problem, effort, without=ALONE["restarts"])
    # In turns that double: 1, 2, 4, 8, 16, and 1/17 is the first below 0.07.
    assert found.runs.tolist() == [1 + 16]


def test_all_restarts_are_made_where_every_one_ends_elsewhere():
    """sin(40 δ₁) + sin(40 δ₂) on a ball has dozens of maxima."""

    def waves(inputs):
        return (40 * inputs).sin().sum(1)

    inputs = torch.zeros(1, 2, dtype=torch.float64)
    problem = sm.Problem(
        waves,
        inputs,
        torch.zeros(1).double(),
        lambda outputs, _: outputs,
        sm.L2Ball(1.0),
    )
    effort = sm.Effort(restarts=8, max_steps=60, budget=10_000)
    found = sm.search(problem, effort, without=ALONE["restarts"])
    assert found.runs.tolist() == [1 + 8]
    assert found.stopped == ("nothing left to try",)
    assert int(found.maxima.count) > 4
    assert float(found.maxima.unseen) > 0.5


def test_restarts_are_those_of_one_long_draw():
    """Turns that double draw what one draw of as many would have."""
    effort = sm.Effort(restarts=4, max_steps=0, budget=100, unseen=0.0)
    problem = labelled_problem(batch=1, objective=sm.Margin(), region=sm.LinfBall(0.01))
    from_search = []

    class Watched:
        def __call__(self, inputs):
            if torch.is_grad_enabled():
                from_search.append((inputs - problem.inputs).detach())
            return problem.model(inputs)

    watched = replace(problem, model=Watched())
    sm.search(watched, effort, without=ALONE["restarts"])
    drawn = UniformStart(restarts=4, first=2**20).points(problem)[:, 0]
    # Rounding of x + δ - x.
    met = torch.cat(from_search)[-4:]
    assert torch.allclose(met, drawn, rtol=0, atol=1e-15)


def test_the_reasons_are_told_apart():
    data = sm.load_data("digits")
    problem = sm.Problem(
        digits_mlp(),
        data.inputs[:16].flatten(1).float(),
        data.targets[:16],
        sm.CrossEntropy(),
        sm.L2Ball(0.5),
        box=(0.0, 1.0),
    )
    effort = replace(SMALL, budget=600, max_steps=12)
    found = sm.search(problem, effort)
    assert found.misclassified is not None
    broken = {
        why for why, w in zip(found.stopped, found.misclassified, strict=True) if w
    }
    assert broken == {"broken"}
    others = set(found.stopped) - {"broken"}
    assert others <= {"seen enough", "nothing left to try", "budget"}
    assert "seen enough" in others
    poor = sm.search(problem, effort, budget=30)
    assert set(poor.stopped) <= {"broken", "budget"}
    assert "ended by" in repr(poor)


# Laws of every search.


def two_classes():
    model = classifier((8, 12, 2))
    inputs = 0.5 * seeded(3, 8, seed=3)
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    return sm.Problem(model, inputs, labels, sm.CrossEntropy(), sm.L2Ball(0.3))


MAKERS = {
    **{
        f"classes, {name}": lambda region=region: labelled_problem(region=region)
        for name, region in REGIONS.items()
    },
    "two classes": two_classes,
    "one example": lambda: labelled_problem(batch=1),
    "quadratic": regression,
    "±1": lambda: regression("logistic"),
    "float32": lambda: labelled_problem(dtype=torch.float32),
    "bfloat16": lambda: labelled_problem(dtype=torch.bfloat16),
}


@pytest.mark.parametrize("budget", [1, 2, 10, 120])
@pytest.mark.parametrize("case", MAKERS)
def test_what_is_spent_is_within_the_budget_and_is_what_was_asked_of_the_model(
    case, budget
):
    problem = MAKERS[case]()
    counting = Counting(problem.model)
    found = sm.search(replace(problem, model=counting), SMALL, budget=budget)
    assert int(found.spent.max()) <= budget
    # No rescue is needed here, so that nothing is charged but what was made.
    assert sum(counting.with_gradient) == found.gradient_evaluations
    assert bool(problem.feasible.contains(found.best).all())
    value = problem.rows().value(found.best)
    # The model's own rounding, in batches of another size.
    unit = 8 * torch.finfo(problem.inputs.dtype).eps
    assert torch.allclose(found.best_loss, value.loss, rtol=unit, atol=unit)


class Losses:
    """A model that keeps the problem's objective at every point it is asked at."""

    def __init__(self, problem):
        self.problem, self.met = problem, []

    def __call__(self, inputs):
        outputs = self.problem.model(inputs)
        if torch.is_grad_enabled():
            targets = self.problem.targets.expand(len(inputs))
            self.met += self.problem.objective(outputs, targets).detach().tolist()
        return outputs


@pytest.mark.parametrize("case", ["quadratic", "±1"])
@pytest.mark.parametrize("example", range(3))
def test_the_best_is_the_best_of_all_points_met(case, example):
    """Where every run climbs the problem's own objective; gates have no gradient."""
    problem = MAKERS[case]().take(torch.tensor([example]))
    losses = Losses(problem)
    found = sm.search(replace(problem, model=losses), SMALL, without=("gates",))
    assert len(losses.met) > 40
    assert float(found.best_loss) == pytest.approx(max(losses.met), abs=1e-12)


@pytest.mark.parametrize("case", MAKERS)
def test_more_runs_never_lower_the_best(case):
    """Nor does a misclassified point that is lower take its place."""
    problem = MAKERS[case]()
    found = sm.search(problem, SMALL)
    assert bool((found.best_loss >= found.ascent.best_loss).all())
    if found.misclassified is not None and bool(found.misclassified.any()):
        assert found.misclassified_points is not None
        index = found.misclassified.nonzero().flatten()
        there = problem.rows(index).value(found.misclassified_points[index]).loss
        # The model's rounding, in batches of another size.
        unit = 8 * torch.finfo(problem.inputs.dtype).eps
        assert bool((found.best_loss[index] >= there - unit * there.abs()).all())


@pytest.mark.parametrize("name", SOURCES)
def test_sources_left_out_are_not_used(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("it was asked")

    monkeypatch.setitem(SOURCES, name, refuse)
    problem, effort = labelled_problem(), replace(SMALL, escapes=1)
    with pytest.raises(AssertionError, match="it was asked"):
        sm.search(problem, effort, budget=1000)
    found = sm.search(problem, effort, budget=1000, without=(name, "escapes"))
    number = found.sources.index(name)
    assert number not in found.source.tolist()


def test_a_search_without_sources_is_its_first_run():
    problem = labelled_problem()
    found = sm.search(problem, SMALL, without=tuple(SOURCES))
    assert found.runs.tolist() == [1] * len(problem)
    assert torch.equal(found.best_loss, found.ascent.best_loss)


@pytest.mark.parametrize("case", ["classes, L2", "classes, L∞", "quadratic", "±1"])
def test_an_example_alone_finds_what_it_finds_in_a_batch(case):
    problem = MAKERS[case]()
    # Else the problem's own examples show the way: alone there are none.
    data = (problem.inputs, problem.targets) if "classes" in case else None
    whole = sm.search(problem, SMALL, neighbours=data)
    for i in range(3):
        one = sm.search(problem.take(torch.tensor([i])), SMALL, neighbours=data)
        # Matrix products of another size round another way.
        assert float(one.best_loss) == pytest.approx(
            float(whole.best_loss[i]), abs=1e-9
        )
        assert one.stopped == whole.stopped[i : i + 1]
        assert int(one.spent) == int(whole.spent[i])
        assert torch.allclose(
            one.restart_losses[:, 0],
            whole.restart_losses[:, i],
            rtol=0,
            atol=1e-9,
            equal_nan=True,
        )


@pytest.mark.parametrize("budget", [1, 40, 120])
@pytest.mark.parametrize("case", MAKERS)
def test_the_highest_of_each_restart_is_kept(case, budget):
    problem = MAKERS[case]()
    found = sm.search(problem, SMALL, budget=budget)
    ends = found.restart_losses
    assert ends.shape == (1 + SMALL.restarts, len(problem))
    assert torch.equal(ends[0], found.ascent.best_loss)
    # No run of these was cut short: all that were made are counted.
    made = torch.zeros_like(ends, dtype=torch.bool)
    made[: len(found.maxima.label)] = found.maxima.label >= 0
    assert torch.equal(~ends.isnan(), made)
    top = ends.nan_to_num(-torch.inf).amax(0)
    assert bool((top <= found.best_loss).all())
    own = torch.tensor([found.sources[i] in _OWN for i in found.source.tolist()])
    if found.misclassified is not None:
        own &= ~found.misclassified  # `source` then says who broke it
    # Other sources may have raised it by what no credit is given for.
    noise = tolerances.same_loss(ends.dtype) * found.best_loss.abs()
    assert bool((top >= found.best_loss - 4 * noise)[own].all())


def test_restarts_that_were_not_made_have_no_loss():
    """Four are enough for this one, of 64."""
    effort = sm.Effort(restarts=64, max_steps=20, budget=10_000, unseen=0.2)
    found = sm.search(KNOWN["linear on L2"].problem, effort, without=ALONE["restarts"])
    assert found.restart_losses.isnan()[:, 0].tolist() == [False] * 5 + [True] * 60
    assert float(found.restart_losses[:5].max()) == float(found.best_loss)


def test_equal_seeds_are_equal_bytes_and_others_are_not():
    problem = labelled_problem(region=sm.LinfBall(0.1))
    first, second = (sm.search(problem, SMALL, seed=3) for _ in range(2))
    for name in ("best", "best_loss", "source", "runs", "spent"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert torch.equal(first.maxima.label, second.maxima.label)
    other = sm.search(problem, SMALL, seed=4)
    assert not torch.equal(other.best, first.best)


def test_nothing_of_the_callers_is_changed():
    problem = labelled_problem(model=classifier().train(), batch=2)
    weights = [weight.clone() for weight in problem.model.parameters()]
    inputs, targets = problem.inputs.clone(), problem.targets.clone()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    sm.search(problem, replace(SMALL, escapes=1))
    assert problem.model.training
    for before, after in zip(weights, problem.model.parameters(), strict=True):
        assert torch.equal(before, after)
        assert after.grad is None
    assert torch.equal(problem.inputs, inputs)
    assert torch.equal(problem.targets, targets)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_examples_that_begin_misclassified_are_broken_at_once():
    problem = labelled_problem()
    wrong = replace(problem, targets=(problem.targets + 1) % 3)
    found = sm.search(wrong, SMALL, until=sm.Misclassified())
    assert found.misclassified is not None
    assert bool(found.misclassified.all())
    assert found.spent.tolist() == [1] * len(problem)
    assert set(found.stopped) == {"broken"}
    # Its run was cut short: no maximum was met, and nothing is said of the unseen.
    assert not bool(found.maxima.count.any())
    assert bool(found.maxima.unseen.isnan().all())


def test_a_misclassified_point_is_kept_beside_a_higher_one():
    problem = labelled_problem(region=sm.L2Ball(1.5))
    found = sm.search(problem, SMALL)
    assert found.misclassified is not None
    assert found.misclassified_points is not None
    index = found.misclassified.nonzero().flatten()
    assert len(index)
    rows = problem.rows(index)
    assert bool(rows.value(found.misclassified_points[index]).wrong.all())
    assert bool(found.misclassified_points[~found.misclassified].isnan().all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget: expected an integer ≥ 1, got 0"),
        ({"budget": 2.5}, "budget: .* got 2.5"),
        ({"without": ("gate",)}, r"without: expected some of .*'gates'"),
        ({"without": "gates"}, "without: expected some of .* in a tuple"),
        ({"effort": "much"}, "effort: expected one of"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        sm.search(labelled_problem(), **changes)
