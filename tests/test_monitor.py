"""The monitor: what it sees against plain computations, its cost, its alarm."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.adversaries import named_adversary
from summiteer.networks.reference import digits_mlp
from summiteer.training.alarm import alarm_of, catastrophic_overfitting
from summiteer.training.evaluation import Figures, StrongAttack, Total
from summiteer.training.inner_problem import CERTIFICATES, Look, distortion
from summiteer.training.monitor import Cadence
from summiteer.training.record import Epoch, InnerProblem

DIGITS = sm.load_data("digits")
INPUTS, LABELS = DIGITS.inputs[:200].float(), DIGITS.targets[:200]
BALL = sm.LinfBall(0.1)


def mlp():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def monitor(inputs=INPUTS, targets=LABELS, **changes):
    settings = {"region": BALL, "box": (0.0, 1.0), "max_steps": 4}
    return sm.Monitor(inputs, targets, **settings | changes)


@pytest.fixture(scope="module")
def seen():
    """Everything about all 200 examples at once, so that nothing is drawn."""
    watch = monitor(probes=200)
    return watch.epoch(mlp(), examine=True)


def test_it_says_what_plain_calls_say(seen):
    model = mlp()
    problem = sm.Problem(model, INPUTS, LABELS, sm.CrossEntropy(), BALL, box=(0.0, 1.0))
    attack = named_adversary("pgd", BALL, 4)
    run = sm.ascend(problem, attack, sm.UniformStart(), 4, tolerance=None)
    points = run.final[0]
    wrong = model(INPUTS + points).argmax(1) != LABELS
    assert seen.attacked_accuracy == 1 - float(wrong.double().mean())
    assert seen.attacked_loss == pytest.approx(float(run.losses.mean()), rel=1e-6)
    gap = sm.frank_wolfe_gap(problem, points).double().mean()
    assert seen.gap == pytest.approx(float(gap), rel=1e-6)
    cert = sm.local_optimality(problem, points)
    assert seen.maximum == float(cert.maximum.double().mean())
    assert seen.examined == 200
    clean = (model(INPUTS).argmax(1) == LABELS).double().mean()
    assert seen.clean_accuracy == pytest.approx(float(clean), abs=1e-12)
    # 20 steps and two starts against 4 and one.
    assert seen.strong_accuracy <= seen.attacked_accuracy
    assert seen.strong_loss >= seen.attacked_loss
    assert seen.proved_maximum <= seen.maximum
    assert 0 < seen.distortion <= 1 + 1e-6


def test_a_network_with_one_maximum_is_seen_as_such():
    """A linear model on an L2 ball: one step of normalised ascent is the maximum."""
    inputs = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).double()
    model = nn.Linear(5, 1).double()
    targets = torch.where(inputs[:, 0] > 0, 1.0, -1.0).double()
    watch = sm.Monitor(
        inputs,
        targets,
        region=sm.L2Ball(0.5),
        adversary=sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(1.0)),
        start=sm.CentreStart(),
        max_steps=1,
    )
    look = watch.epoch(model, examine=True)
    assert (look.probes, look.stationary, look.distinct_maxima) == (30, 1, 1)
    assert look.residual < 1e-12
    assert look.distortion == pytest.approx(1, abs=1e-12)
    assert look.attacked_loss == pytest.approx(look.strong_loss, rel=1e-12)


def test_nothing_of_the_callers_changes():
    model = nn.Sequential(mlp()[0], nn.BatchNorm1d(16), nn.Dropout(), *mlp()[1:])
    model.train()
    model[0].eval()
    optimizer = torch.optim.Adam(model.parameters(), 0.25)
    (model(INPUTS).sum()).backward()
    optimizer.step()
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    slopes = [weight.grad.clone() for weight in model.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():
        record = monitor().epoch(model, optimizer, examine=True)
    assert record.learning_rate == 0.25
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model] == [False, *[True] * 4]
    after = [model.state_dict(), optimizer.state_dict()]
    assert str(after) == str(before)
    assert all(
        torch.equal(weight.grad, slope)
        for weight, slope in zip(model.parameters(), slopes, strict=True)
    )


def test_a_problem_is_taken_as_it_is():
    problem = sm.Problem(mlp(), INPUTS, LABELS, sm.Margin(), BALL, box=(0.0, 1.0))
    one = sm.Monitor(problem, max_steps=4).epoch(mlp())
    other = monitor(objective=sm.Margin()).epoch(mlp())
    assert replace(one, seconds=0, cost=None) == replace(other, seconds=0, cost=None)
    with pytest.raises(sm.UserError, match="a Problem has its own targets"):
        sm.Monitor(problem, LABELS)


def test_the_probes_are_the_same_in_every_epoch_and_another_seeds_are_not():
    watch, model = monitor(every=1), mlp()
    looks = [watch.epoch(model, examine=False) for _ in range(2)]
    first, second = (replace(look, epoch=0, seconds=0, cost=None) for look in looks)
    assert first == second
    other = monitor(seed=1).epoch(model, examine=False)
    assert other.clean_loss != looks[0].clean_loss


def test_it_looks_as_often_as_it_is_told():
    watch, model = monitor(every=2, probes=16), mlp()
    probes = [watch.epoch(model).probes for _ in range(4)]
    assert probes == [0, 16, 0, 16]
    assert [look.examined for look in watch.records] == probes
    assert "not looked at (one epoch in 2 is)" in repr(watch.records[0])
    assert np.isnan(watch.curves["gap"]).tolist() == [True, False, True, False]


def test_without_credit_it_does_not_look():
    """The first look is on credit; a budget this small never pays it back."""
    watch, model = monitor(budget=1e-9), mlp()
    probes = [watch.epoch(model).probes for _ in range(3)]
    assert probes == [64, 0, 0]
    assert "of which the budget is 1e-09" in repr(watch.records[1])
    assert watch.epoch(model, examine=True).examined == 64


def test_a_budget_without_bound_always_looks():
    watch, model = monitor(budget=1e9), mlp()
    sum(i * i for i in range(10_000))  # some time of the process passes
    looks = [watch.epoch(model) for _ in range(3)]
    assert [look.probes for look in looks] == [64, 64, 64]


LOOK = Look(
    sm.ProjectedAscent(),
    sm.UniformStart(),
    10,
    StrongAttack.beyond(10, sm.UniformStart()),
)


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 100])
@pytest.mark.parametrize("examples", [100, 1437, 60_000, 1_300_000])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_plans_keep_to_their_share(epochs, examples, share):
    evaluations = 12 * examples
    plan = Cadence.planned(epochs, evaluations, LOOK, share, 64)
    looks = [plan.probes_of(epoch, epochs) for epoch in range(1, epochs + 1)]
    spent = sum(
        probes * LOOK.evaluations
        + (CERTIFICATES + examined * LOOK.more_evaluations) * bool(examined)
        for probes, examined in looks
    )
    # The last epoch is looked at whatever it costs: with 8 probes at least.
    assert looks[-1][0] >= 8
    least = 8 * LOOK.evaluations
    assert spent <= max(share * epochs * evaluations, least)
    assert all(probes in (0, plan.probes) for probes, _ in looks)
    assert all(examined <= probes for probes, examined in looks)
    if examples == 1_300_000:
        assert all(look == (64, 64) for look in looks)


def look(epoch, attacked, strong, **more):
    return InnerProblem(
        epoch=epoch,
        probes=64,
        attacked_accuracy=attacked,
        strong_accuracy=strong,
        **more,
    )


HEALTHY = [(0.3, 0.25), (0.5, 0.42), (0.6, 0.5), (0.7, 0.55), (0.75, 0.5)]
ROBUST_OVERFITTING = [(0.5, 0.45), (0.6, 0.5), (0.9, 0.4), (0.95, 0.38)]
FORGETTING = [(0.5, 0.45), (0.6, 0.5), (0.1, 0.05)]
NEVER_ROBUST = [(0.3, 0.02), (0.5, 0.01), (0.9, 0.0)]
COLLAPSE = [(0.4, 0.35), (0.5, 0.45), (0.98, 0.02)]


@pytest.mark.parametrize(
    ("history", "alarmed"),
    [
        (HEALTHY, False),
        (ROBUST_OVERFITTING, False),
        (FORGETTING, False),
        (NEVER_ROBUST, False),
        (COLLAPSE, True),
        (COLLAPSE[2:], False),  # nothing before to compare with
        ([(None, None), (None, None)], False),
    ],
)
def test_the_alarm_is_the_rule(history, alarmed):
    looks = [look(i + 1, *pair) for i, pair in enumerate(history)]
    said = [catastrophic_overfitting(looks[:i], now) for i, now in enumerate(looks)]
    assert said[:-1] == [""] * (len(said) - 1)
    assert bool(said[-1]) == alarmed


def test_a_training_attack_that_overstates_is_told_without_a_collapse():
    assert "overstated robustness in epoch 3" in alarm_of([], look(3, 0.5, 0.25))
    assert alarm_of([], look(3, 0.5, 0.26)) == ""
    before = [look(1, 0.5, 0.45)]
    assert "catastrophic" in alarm_of(before, look(2, 0.98, 0.02))


def test_the_alarm_tells_its_numbers():
    before = [look(1, 0.5, 0.45, distortion=0.9)]
    said = catastrophic_overfitting(before, look(4, 0.98, 0.02, distortion=0.6))
    for part in ("epoch 4", "2% are right", "45% were", "98% are", "0.60 (0.90)"):
        assert part in said


def test_a_planted_collapse_is_alarmed_about():
    """Robust weights, then weights that fit a training attack which hardly moves."""
    inputs, labels, ball = DIGITS.inputs.float(), DIGITS.targets, sm.LinfBall(0.15)
    robust = sm.adversarial_training(
        digits_mlp(steps=30),
        inputs,
        labels,
        region=ball,
        box=(0.0, 1.0),
        max_steps=4,
        epochs=8,
        watch=0,
    ).model
    blind = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(1e-6))
    watch = monitor(inputs, labels, region=ball, adversary=blind, every=1)
    first = watch.epoch(robust, examine=False)
    second = watch.epoch(digits_mlp(), examine=False)
    assert first.strong_accuracy > 0.4
    assert second.strong_accuracy < 0.2
    assert watch.alarms == (first.alarm, second.alarm)
    assert "catastrophic overfitting in epoch 2" in second.alarm
    # An attack that hardly moves overstates what robust weights are worth too.
    assert "overstated robustness in epoch 1" in first.alarm


def test_distortion_is_of_the_coordinates_that_may_move():
    """A gradient that turns in one coordinate: below 1, unless that one is masked."""
    inputs = torch.zeros(2, 3, dtype=torch.float64)
    given = {"targets": torch.ones(2), "objective": sm.Logistic()}
    problem = sm.Problem(
        lambda x: x[:, 0] - x[:, 1] + 5 * (x[:, 2] - 0.01) ** 2,
        inputs,
        **given,
        region=sm.LinfBall(torch.tensor([0.1, 0.2])),
        box=(-0.01, 0.01),
    )
    assert distortion(problem) < 0.99
    held = torch.tensor([True, True, False])
    assert distortion(replace(problem, mask=held)) == pytest.approx(1, abs=1e-12)
    none = replace(problem, mask=torch.stack([held, ~held & held]))
    assert distortion(none) == pytest.approx(0.5, abs=1e-12)


def test_records_come_back_from_json():
    record = Epoch(
        epoch=1,
        learning_rate=0.1,
        train_robust_loss=1 / 3,
        train_robust_accuracy=None,
        train_clean_loss=0.1,
        train_clean_accuracy=None,
        inner=look(1, 0.5, 0.25),
    )
    assert Epoch.of(record.as_json()) == record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probes": 0}, "probes: expected an integer ≥ 1"),
        ({"every": 0}, "every: expected an integer ≥ 1"),
        ({"budget": 0}, "budget: expected a number > 0"),
        ({"adversary": "pgd"}, "adversary: expected an adversary such as"),
        ({"start": "random"}, "start: expected a start such as"),
        ({"objective": "ce"}, "objective: expected a function of outputs"),
        ({"region": None}, "expected a Problem, or inputs and targets"),
        ({"targets": None}, "expected a Problem, or inputs and targets"),
        ({"inputs": INPUTS + 2}, "inputs: "),
    ],
)
def test_mistakes_are_said_in_a_sentence(changes, said):
    with pytest.raises(sm.UserError) as error:
        monitor(**changes)
    assert said in str(error.value)


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(sm.UserError, match="model: a forward pass"):
        monitor().epoch(nn.Linear(3, 10))
    watch = monitor(every=2)
    with pytest.raises(sm.UserError, match=r"model: expected the nn\.Module"):
        watch.epoch("model")  # told though this epoch is not looked at


def test_the_stronger_attack_makes_no_fewer_runs():
    many = sm.UniformStart(restarts=60)
    assert StrongAttack.beyond(40, many).restarts == 60
    assert StrongAttack.beyond(40, sm.CentreStart() + many).restarts == 61
    assert StrongAttack.beyond(40, sm.CentreStart()).restarts == 1


class NotANumberAbove(torch.nn.Module):
    """Two outputs; NaN where the first coordinate exceeds 0.5."""

    def forward(self, x):
        outputs = torch.stack([x.sum(1), -x.sum(1)], 1)
        return torch.where(x[:, :1] > 0.5, torch.nan, outputs)


def test_outputs_that_are_not_numbers_are_not_right():
    inputs = torch.tensor([[0.1, 0.3], [0.2, 0.2], [0.8, 0.1], [0.9, 0.9]])
    problem = sm.Problem(
        NotANumberAbove(), inputs, torch.zeros(4, dtype=torch.long),
        objective=sm.CrossEntropy(), region=sm.L2Ball(radius=0.01),
    )  # fmt: skip
    figures = LOOK(problem, problem.model, 1)
    assert figures.clean_accuracy == 0.5
    assert figures.attacked_accuracy == 0.5
    assert figures.strong_accuracy == 0.5
    total = Total()
    total.add(torch.tensor([1.0, torch.nan]), torch.tensor([False, False]))
    assert total.figures() == Figures(1.0, 0.5)
    nothing = Total()
    nothing.add(torch.tensor([torch.nan]), None)
    assert nothing.figures() == Figures(None, None)
