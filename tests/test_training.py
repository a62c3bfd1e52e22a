"""Adversarial training against loops written by hand and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import summiteer as sm
from summiteer.training.batches import batches, split
from summiteer.training.recipe import renewed

DIGITS = sm.load_data("digits")
INPUTS, LABELS = DIGITS.inputs[:300].float(), DIGITS.targets[:300]
RADIUS = 0.1
TIMES = ("seconds", "evaluation_seconds", "inner_seconds", "inner_cost")


def mlp(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def train(model=None, inputs=INPUTS, targets=LABELS, **changes):
    settings = {
        "region": sm.LinfBall(RADIUS),
        "box": (0.0, 1.0),
        "max_steps": 3,
        "epochs": 2,
        "batch_size": 100,
        "watch": 0,
    }
    return sm.adversarial_training(
        model or mlp(), inputs, targets, **settings | changes
    )


def weights_of(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_it_is_the_loop_that_one_writes_by_hand():
    """PGD from the centre, sign steps, heavy ball: float64, so to its rounding."""
    steps, size, rate, epochs = 3, 0.04, 0.05, 2
    inputs = INPUTS.double()
    model = mlp(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    robust = []
    for epoch in range(epochs):
        total = 0.0
        for index in batches(torch.arange(300), 128, 7, epoch):
            x, y = inputs[index], LABELS[index]
            delta = torch.zeros_like(x)
            for _ in range(steps):
                delta.requires_grad_()
                loss = cross_entropy(model(x + delta), y)
                (slope,) = torch.autograd.grad(loss, delta)
                delta = (delta + size * slope.sign()).detach()
                delta = (x + delta.clamp(-RADIUS, RADIUS)).clamp(0, 1) - x
            optimizer.zero_grad()
            loss = cross_entropy(model(x + delta), y)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(x)
        robust.append(total / 300)
    result = train(
        mlp(torch.float64),
        inputs,
        adversary=sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(size)),
        start=sm.CentreStart(),
        optimizer=lambda weights: torch.optim.SGD(weights, rate, momentum=0.9),
        epochs=epochs,
        batch_size=128,
        seed=7,
    )
    # Six steps, in each of which sums are taken in another order.
    assert torch.allclose(weights_of(result.model), weights_of(model), atol=1e-12)
    assert np.allclose(result.curves["train_robust_loss"], robust, atol=1e-12)
    # Each batch: every step's evaluation and that of the last point.
    assert result.curves["gradient_evaluations"].tolist() == [300 * (steps + 1)] * 2


def test_a_linear_model_has_its_inner_maximum_in_closed_form():
    """max over ‖δ‖ ≤ ε of log(1 + exp(-y w'(x+δ))) = log(1 + exp(-(y w'x - ε‖w‖)))."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    targets = inputs[:, 0].sign()
    epsilon, rate = 0.3, 0.2
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linspace(-1, 1, 5))
    weight = model.weight.detach().clone().requires_grad_()
    values = []
    for _ in range(3):
        margin = targets * (inputs @ weight[0]) - epsilon * weight.norm()
        loss = nn.functional.softplus(-margin).mean()
        (slope,) = torch.autograd.grad(loss, weight)
        weight = (weight - rate * slope).detach().requires_grad_()
        values.append(float(loss.detach()))
    result = train(
        model,
        inputs,
        targets,
        region=sm.L2Ball(epsilon),
        box=None,
        adversary=sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(2 * epsilon)),
        start=sm.CentreStart(),
        max_steps=1,
        optimizer=lambda weights: torch.optim.SGD(weights, rate),
        epochs=3,
        batch_size=50,
        watch=1e4,
        held_out=(inputs, targets),
    )
    # Rounding of sums over 50 examples.
    assert np.allclose(result.curves["train_robust_loss"], values, rtol=1e-13)
    assert torch.allclose(result.model.weight, weight, rtol=1e-12)
    inner = result.records[-1].inner
    # The single step of the training attack is the maximum, and a proved one.
    assert inner.stationary == 1
    assert inner.gap < 1e-14
    assert inner.attacked_loss == pytest.approx(inner.strong_loss, rel=1e-13)
    assert inner.distinct_maxima == 1
    assert inner.distortion == pytest.approx(1, rel=1e-12)
    # The held-out attack finds the maximum of the weights after the epoch.
    weight = weight.detach()
    margin = targets * (inputs @ weight[0]) - epsilon * weight.norm()
    robust = float(nn.functional.softplus(-margin).mean())
    held_out = result.records[-1].held_out_robust_loss
    assert held_out == pytest.approx(robust, rel=1e-6)  # AutoPGD's steps are finite


def test_clean_examples_are_trained_on_without_steps():
    result = train(start=sm.CentreStart(), max_steps=0)
    curves = result.curves
    assert np.allclose(
        curves["train_robust_loss"], curves["train_clean_loss"], rtol=1e-6
    )


def test_another_loss_may_be_minimised_than_is_ascended():
    margin = train(objective=sm.Margin(), loss=sm.CrossEntropy())
    plain = train()
    assert (weights_of(margin.model) != weights_of(plain.model)).any()
    # The loss told is the one minimised: cross-entropy is never negative.
    assert (margin.curves["train_robust_loss"] > 0).all()


@pytest.mark.parametrize("train_on", ["final", "best"])
def test_several_runs_train_on_the_highest(train_on):
    one = train(start=sm.UniformStart(), train_on=train_on, epochs=1, batch_size=300)
    many = train(
        start=sm.UniformStart(restarts=4), train_on=train_on, epochs=1, batch_size=300
    )
    # The same first step from the same weights: more runs can only find more.
    assert many.records[0].train_robust_loss >= one.records[0].train_robust_loss


def test_a_two_layer_network_is_trained_for_regression():
    network = sm.TwoLayerNetwork.random(10, 20, "tanh", weight_std=0.5)
    data = sm.load_data("diabetes")
    result = train(
        network,
        data.inputs[:200],
        data.targets[:200],
        region=sm.L2Ball(0.02),
        box=None,
        learning_rate=0.05,
        epochs=6,
        watch=1e4,
        held_out=(data.inputs[200:], data.targets[200:]),
    )
    curves = result.curves
    assert curves["train_robust_loss"][-1] < 0.95 * curves["train_robust_loss"][0]
    assert np.isnan(curves["train_robust_accuracy"]).all()
    assert (curves["held_out_robust_loss"] >= curves["held_out_clean_loss"]).all()
    last = result.records[-1].inner
    assert last.examined == 64
    assert last.index_global is not None
    assert last.strong_accuracy is None
    assert result.alarms == ()


def test_a_convolutional_network_learns_digits():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    inputs, labels = DIGITS.inputs.float(), DIGITS.targets
    result = train(
        model,
        inputs[:1000],
        labels[:1000],
        optimizer="adam",
        learning_rate=0.01,
        epochs=5,
        held_out=(inputs[1000:], labels[1000:]),
        held_out_every=5,
    )
    curves = result.curves
    # One in ten is right by chance.
    assert curves["train_robust_accuracy"][-1] > 0.5
    assert curves["held_out_robust_accuracy"][-1] > 0.4
    assert np.isnan(curves["held_out_robust_accuracy"][:-1]).all()


def test_the_callers_world_is_as_it_was():
    model = mlp().train()
    model[0].eval()
    model[2].weight.grad = torch.ones_like(model[2].weight)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    result = train(model, held_out=(INPUTS[:50], LABELS[:50]), watch=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert [m.training for m in model] == [False, True, True]
    assert torch.equal(model[2].weight.grad, torch.ones_like(model[2].weight))
    assert model[0].weight.grad is None
    assert not any(m.training for m in result.model.modules())
    assert all(weight.grad is None for weight in result.model.parameters())


def same(one, other):
    """Weights and curves are equal in every bit, measured times aside."""
    assert torch.equal(weights_of(one.model), weights_of(other.model))
    curves, others = one.curves, other.curves
    for name in curves.keys() - set(TIMES):
        assert np.array_equal(curves[name], others[name], equal_nan=True), name


def noisy():
    model = mlp()
    return nn.Sequential(model[0], nn.BatchNorm1d(16), nn.Dropout(0.3), *model[1:])


def test_a_seed_determines_everything_whatever_torchs_own_seed():
    torch.manual_seed(1)
    first = train(noisy(), watch=2)
    torch.manual_seed(2)
    with torch.no_grad():
        again = train(noisy(), watch=2)
    same(first, again)
    other = train(noisy(), seed=1)
    assert (weights_of(first.model) != weights_of(other.model)).any()


def test_the_mode_of_the_maximisation_is_the_recipes():
    """In train mode each pass of the ascent moves the running statistics."""
    passes = {}
    for mode in ("eval", "train"):
        result = train(noisy(), mode=mode, epochs=1)
        passes[mode] = int(result.model[1].num_batches_tracked)
    # Three batches; in train mode four evaluations of each before.
    assert passes == {"eval": 3, "train": 3 * (1 + 4)}


class Descent:
    """No optimiser of torch's, and nothing that could be written down."""

    def __init__(self, weights):
        self.weights = weights

    def zero_grad(self):
        for weight in self.weights:
            weight.grad = None

    def step(self):
        with torch.no_grad():
            for weight in self.weights:
                weight.sub_(0.1 * weight.grad)


def test_an_optimiser_is_what_makes_steps():
    plain = train(optimizer=lambda weights: torch.optim.SGD(weights, 0.1))
    ours = train(optimizer=Descent)
    # The same products and differences, rounded once or twice.
    assert torch.allclose(weights_of(plain.model), weights_of(ours.model), atol=1e-6)


def test_frozen_weights_stay():
    model = mlp()
    model[0].requires_grad_(False)
    result = train(model)
    assert torch.equal(result.model[0].weight, model[0].weight)
    assert (result.model[2].weight != model[2].weight).any()


def test_a_schedule_steps_per_epoch_or_per_batch():
    def halved(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    per_epoch = train(schedule=halved, epochs=3).curves["learning_rate"]
    assert per_epoch.tolist() == [0.1, 0.05, 0.025]
    per_batch = train(schedule=halved, schedule_per="batch").curves["learning_rate"]
    assert per_batch.tolist() == [0.1, 0.1 / 8]


def test_a_plateau_is_told_the_robust_loss():
    def plateau(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)

    rates = train(schedule=plateau, learning_rate=1e-6, epochs=3).curves
    assert rates["learning_rate"][0] == 1e-6


def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_weights():
    result = train(learning_rate=1e30, epochs=3)
    assert "smaller learning rate" in result.stopped
    assert "stopped" in repr(result)
    assert len(result.records) < 3


def test_each_epoch_takes_all_examples_once_in_an_order_of_its_own():
    ids = torch.arange(10, 40)
    orders = [batches(ids, 8, 0, epoch) for epoch in range(3)]
    for parts in orders:
        assert [len(part) for part in parts] == [8, 8, 8, 6]
        assert torch.equal(torch.cat(parts).sort().values, torch.arange(30))
        assert all((part.diff() > 0).all() for part in parts)
    assert not torch.equal(orders[0][0], orders[1][0])


def test_a_split_holds_out_as_many_as_asked():
    kept, held_out = split(torch.arange(100), 0, 20)
    assert len(held_out) == 20
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(100))


def test_every_epoch_has_random_starts_of_its_own():
    problem = sm.Problem(mlp(), INPUTS, LABELS, sm.CrossEntropy(), sm.LinfBall(RADIUS))
    start = sm.CentreStart() + sm.UniformStart(restarts=2, seed=4)
    many = sm.UniformStart(restarts=6, seed=4).points(problem)
    for epoch in range(3):
        points = renewed(start, epoch).points(problem)
        assert torch.equal(points[0], torch.zeros_like(INPUTS))
        assert torch.equal(points[1:], many[2 * epoch : 2 * epoch + 2])


def test_a_radius_per_example_goes_with_its_example():
    radius = torch.full((300,), 1e-6)
    radius[:150] = RADIUS
    uniform = train(region=sm.LinfBall(RADIUS), epochs=1, batch_size=300)
    adversary = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(2.5 * RADIUS / 3))
    mixed = train(
        region=sm.LinfBall(radius), adversary=adversary, epochs=1, batch_size=300
    )
    clean = uniform.records[0].train_clean_loss
    assert clean < mixed.records[0].train_robust_loss
    assert mixed.records[0].train_robust_loss < uniform.records[0].train_robust_loss


def test_watching_changes_nothing_else():
    plain, watched = train(noisy()), train(noisy(), watch=5)
    assert torch.equal(weights_of(plain.model), weights_of(watched.model))
    assert watched.curves["inner_probes"].tolist() == [64, 64]
    assert math.isnan(plain.curves["inner_probes"][0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs: expected an integer ≥ 1, got 0"),
        ({"batch_size": 2.5}, "batch_size: expected an integer"),
        ({"mode": "test"}, "mode: expected 'eval' or 'train'"),
        ({"train_on": "last"}, "train_on: expected"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of sgd, adam, adamw"),
        ({"optimizer": list}, "optimizer: expected a function of the parameters"),
        (
            {"optimizer": torch.optim.SGD(mlp().parameters(), 0.1)},
            "an optimiser, got SGD;",
        ),
        ({"schedule": lambda made: None}, "schedule, it returned NoneType"),
        ({"schedule": "cos"}, "schedule: expected a function of the optimiser"),
        ({"adversary": "pgd"}, "adversary: expected an adversary such as"),
        ({"adversary": sm.Sign}, "got the class Sign"),
        ({"checkpoint": 3}, "checkpoint: expected the path of a directory, got 3"),
        ({"checkpoint": __file__}, "test_training.py is a file; name another."),
        ({"objective": "ce"}, "objective: expected a function of outputs"),
        ({"loss": "ce"}, "loss: expected a function of outputs"),
        ({"loss": nn.CrossEntropyLoss()}, "loss: expected one value per example"),
        ({"learning_rate": -1}, "learning_rate: expected a number > 0"),
        ({"start": sm.GivenStart(INPUTS)}, "start: GivenStart"),
        ({"start": "random"}, "start: expected a start"),
        ({"watch": -1}, "watch: expected a number ≥ 0"),
        ({"held_out": INPUTS}, "held_out: expected two tensors"),
        ({"held_out": (INPUTS, LABELS[:5])}, "held_out: targets: expected one per"),
        ({"targets": LABELS.float()}, "targets: the model has 10 outputs"),
        ({"objective": sm.Logistic()}, "model: Logistic needs one output"),
        ({"loss": sm.Quadratic()}, "targets: Quadratic needs"),
        ({"schedule_per": "step"}, "schedule_per: expected"),
        ({"model": lambda inputs: inputs}, "model: expected an nn.Module"),
        ({"model": mlp().requires_grad_(False)}, "nothing to train"),
    ],
)
def test_mistakes_are_said_in_a_sentence(changes, said):
    with pytest.raises(sm.UserError, match=r"^[^\n]*$") as error:
        train(**changes)
    assert said in str(error.value)
