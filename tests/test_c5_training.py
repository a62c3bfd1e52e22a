"""Adversarial training at an input scale: laws, ground truths, other ways."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize

from fakes import seeded
from summiteer.errors import UserError
from summiteer.objectives import with_slopes
from summiteer.studies import tasks
from summiteer.studies.descent.ensemble import Ensemble, MemberLoss
from summiteer.studies.descent.training import Adversarial, Descent, train
from summiteer.studies.experiments import EXPERIMENTS
from summiteer.studies.experiments.scaled_training import (
    ScaledTrainingParameters,
    measure,
)
from summiteer.studies.inputs import mnist_digest

DATA = Path(os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared/data"))
SMALL = {
    "examples": 16,
    "width": 32,
    "steps": 8,
    "inner_steps": 4,
    "evaluation_seeds": 2,
    "tuning_seeds": 2,
    "strong_starts": 2,
    "strong_steps": 6,
    "looked_into": 1,
    "points": 2,
    "precision": "float64",
}


def small(**values):
    return ScaledTrainingParameters(**{**SMALL, **values})


@pytest.mark.parametrize("activation", ["softplus", "tanh", "relu"])
@pytest.mark.parametrize(
    ("optimiser", "power"), [("gd", 2), ("adam", 1)], ids=["gd", "adam"]
)
def test_the_input_scale_is_the_scale_of_the_first_layer(activation, optimiser, power):
    # f(cx; W) = f(x; cW): the same run, step by step, at a rate times c² (Adam: c).
    c, std, rate = 3.0, 0.5, 0.05
    shared = {"activation": activation, "optimiser": optimiser, "unit": "plain"}
    there = measure(small(scale=c, weight_std=std, rates=(rate,), **shared))
    here = measure(
        small(scale=1.0, weight_std=c * std, rates=(rate * c**power,), **shared)
    )
    curve = there.arrays["training"]
    assert not torch.equal(curve[:, 0], curve[:, -1])  # it was trained
    for name in ("training", "strong", "clean", "safe", "leverage"):
        # Rounding alone; with Adam what it adds to √v, 1e-8, does not scale with c.
        tolerance = 1e-12 if optimiser == "gd" else 1e-4
        torch.testing.assert_close(
            there.arrays[name], here.arrays[name], rtol=tolerance, atol=0.0
        )


def test_with_biases_the_scale_is_something_else():
    shared = {"trained": "W+b", "activation": "relu", "unit": "plain"}
    there = measure(small(scale=3.0, rates=(0.05,), **shared)).arrays["training"]
    here = measure(small(weight_std=3.0, rates=(0.45,), **shared)).arrays["training"]
    assert float((there / here - 1).abs().max()) > 0.01


def test_members_do_not_know_of_each_other():
    both = measure(small(rates=(0.7,))).arrays
    second = measure(small(rates=(0.7,), seed=1, evaluation_seeds=1)).arrays
    for name in ("training", "strong", "leverage"):
        # Sums over a batch may be taken in another order.
        torch.testing.assert_close(both[name][1:], second[name], rtol=1e-10, atol=0.0)


def test_an_ensemble_is_its_networks():
    ensemble = Ensemble.random([3, 4], 6, 10, "tanh", 0.7, bias_std=1.0)
    inputs = torch.randn(2, 5, 6, dtype=torch.float64)
    outputs, gradients = ensemble.outputs(inputs), ensemble.input_gradients(inputs)
    for member in range(2):
        network = ensemble.network(member)
        found = network(inputs[member]).detach()
        torch.testing.assert_close(outputs[member], found)
        slopes = network.gradient(inputs[member]).detach()
        torch.testing.assert_close(gradients[member], slopes)


@pytest.mark.parametrize("activation", ["softplus", "tanh", "relu"])
def test_doubled_networks_are_zero_and_have_the_same_weights(activation):
    ensemble = Ensemble.random([0], 8, 64, activation, 2.0, doubled=True)
    assert ensemble.weights[0].shape == (1, 64, 8)
    torch.testing.assert_close(
        ensemble.weights[1].abs(), torch.full((1, 1, 64), 64**-0.5).double()
    )
    inputs = torch.randn(1, 20, 8, dtype=torch.float64)
    # Sums of pairs that cancel, up to rounding.
    assert float(ensemble.outputs(inputs).abs().max()) < 1e-13
    assert float(ensemble.input_gradients(inputs).abs().max()) < 1e-13


def test_rows_may_leave_the_batch():
    ensemble = Ensemble.random([0, 1, 2], 4, 8, "softplus")
    points = torch.randn(15, 4, dtype=torch.float64)
    targets = torch.stack([torch.randn(15).double(), torch.arange(15.0).double()], 1)
    loss = MemberLoss(ensemble, 15)
    some = torch.tensor([14, 0, 7, 3])
    torch.testing.assert_close(
        loss(points[some], targets[some]), loss(points, targets)[some]
    )


@pytest.mark.parametrize("trained", ["W", "W+b", "W+a"])
def test_the_tangent_kernel_is_that_of_autograd(trained):
    bias = 1.0 if trained == "W+b" else None
    ensemble = Ensemble.random([0], 5, 12, "softplus", bias_std=bias)
    inputs = torch.randn(7, 5, dtype=torch.float64)
    network = ensemble.network(0)
    kept = {"W": [], "W+b": [network.hidden_bias], "W+a": [network.output_weights]}
    values = [network.hidden_weights, *kept[trained]]
    rows = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(network(x[None])[0], values)]
        )
        for x in inputs
    ]
    jacobian = torch.stack(rows)
    top = torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1] / 7
    torch.testing.assert_close(ensemble.kernel_top(inputs, trained)[0], top)


@pytest.mark.parametrize("kind", ["gd", "adam"])
def test_descent_is_torch_s(kind):
    inputs, targets = tasks.examples("digits 0v1", 16)
    ensemble = Ensemble.random([0], 64, 16, "tanh")
    inner = Adversarial(inputs, targets, 0.1)
    units = torch.zeros(1, 16, 64, dtype=torch.float64)
    curve = train(
        inner, ensemble, Descent(kind, torch.tensor([0.05])), "W", lambda _: units, 5, 0
    )
    network = ensemble.network(0)
    optimisers = {"gd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimiser = optimisers[kind]([network.hidden_weights], lr=0.05)
    for step in range(6):
        loss = 0.5 * (network(inputs) - targets).square().mean()
        # Rates are float32 numbers here and there.
        assert float(curve[0, step]) == pytest.approx(loss.item(), rel=1e-6)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_a_rate_that_is_too_large_diverges_alone():
    inputs, targets = tasks.examples("digits 0v1", 16)
    ensemble = Ensemble.random([0, 0], 64, 16, "softplus")
    rates = 1.0 / ensemble.kernel_top(inputs, "W") * torch.tensor([0.5, 1e4])
    units = torch.zeros(2, 16, 64, dtype=torch.float64)
    curve = train(
        Adversarial(inputs, targets, 0.1), ensemble, Descent("gd", rates), "W",
        lambda _: units, 20, 2,
    )  # fmt: skip
    assert bool(curve[0].isfinite().all())
    assert float(curve[0, -1]) < float(curve[0, 0])
    assert float(curve[1, -1]) == torch.inf


def test_the_strong_adversary_finds_more():
    arrays = measure(small(scale=10.0, activation="tanh", rates=(0.7,))).arrays
    at = torch.tensor([0, 1, 2, 3, 5, 8])
    assert bool((arrays["strong"] > arrays["training"][:, at]).any())
    # More steps from other starts: less is possible, but not much.
    assert bool((arrays["strong"] > 0.9 * arrays["training"][:, at]).all())


def test_the_best_rate_is_found_and_the_grid_grows():
    one = [measure(small(rates=(rate,))).record["steps"][1] for rate in (0.1, 0.7)]
    assert one[1] < one[0]  # the law that tuning is to find
    found = measure(small(rates=(0.01, 0.02))).record
    assert found["rate"] > 0.02
    assert len(found["tuning"]) > 2
    assert not found["edge"] or found["rate"] == max(r for r, _ in found["tuning"])


def test_giving_up_changes_no_choice():
    grid = (0.05, 0.2, 0.7, 1.4, 30.0)
    found = measure(small(rates=grid)).record
    alone = {}
    for rate in grid:
        # Two equal rates but for rounding: the first two are never given up.
        scores = measure(small(rates=(rate, rate * (1 + 1e-9)))).record["tuning"]
        alone[rate] = min(score for r, score in scores if abs(r / rate - 1) < 1e-6)
    assert found["rate"] == min(alone, key=lambda rate: alone[rate])


@pytest.mark.parametrize(
    ("name", "count", "ratio"),
    [("digits 0v1", 16, 0.1), ("digits 3v8", 32, 0.1), ("digits 3v8", 32, 0.15)],
)
def test_floors_are_those_of_another_solver(name, count, ratio):
    floor = tasks.linear_floor(name, count, ratio)
    inputs, targets = (each.numpy() for each in tasks.examples(name, count))
    # The same as a smooth problem: t ≥ ±(vᵀx - y) + εs, s² ≥ ‖v‖², minimise ½ mean t².
    dim = inputs.shape[1]

    def parts(z):
        return z[:dim], z[dim : dim + count], z[-1]

    def gradient(z):
        return np.concatenate([np.zeros(dim), parts(z)[1] / count, [0.0]])

    inside = [
        {
            "type": "ineq",
            "fun": lambda z, sign=sign: (
                parts(z)[1]
                - sign * (inputs @ parts(z)[0] - targets)
                - ratio * parts(z)[2]
            ),
            "jac": lambda z, sign=sign: np.hstack(
                [-sign * inputs, np.eye(count), np.full((count, 1), -ratio)]
            ),
        }
        for sign in (-1, 1)
    ]
    cone = {
        "type": "ineq",
        "fun": lambda z: parts(z)[2] - np.sqrt(parts(z)[0] @ parts(z)[0] + 1e-16),
        "jac": lambda z: np.concatenate(
            [
                -parts(z)[0] / np.sqrt(parts(z)[0] @ parts(z)[0] + 1e-16),
                np.zeros(count),
                [1.0],
            ]
        ),
    }
    first = inputs.T @ targets / count
    begin = np.concatenate([first, np.full(count, 3.0), [np.linalg.norm(first) + 1]])
    other = minimize(
        lambda z: 0.5 * np.mean(parts(z)[1] ** 2),
        begin,
        jac=gradient,
        constraints=[*inside, cone],
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-10},
    )
    assert other.success, other.message
    # What `linear_floor` promises, and no less than another solver's minimum.
    assert other.fun - 1e-6 <= floor <= other.fun + 1e-4
    assert floor < 0.5


def test_no_linear_predictor_is_below_the_floor():
    inputs, targets = (each.numpy() for each in tasks.examples("digits 3v8", 64))
    floor = tasks.linear_floor("digits 3v8", 64, 0.1)
    generator = np.random.default_rng(0)
    least = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    for scale in (0.0, 0.1, 0.3, 1.0):
        for _ in range(200):
            tried = scale * least + 0.1 * generator.standard_normal(len(least))
            loss = tasks.robust_linear_loss(tried, inputs, targets, 0.1)
            assert loss >= floor


def test_the_robust_linear_loss_is_the_maximum_over_the_ball():
    inputs, targets = tasks.examples("digits 0v1", 16)
    weights = torch.randn(64, dtype=torch.float64)
    unit = weights / weights.norm()
    apart = inputs @ weights - targets
    moved = inputs + 0.1 * apart.sign()[:, None] * unit
    worst = 0.5 * (moved @ weights - targets).square().mean()
    found = tasks.robust_linear_loss(
        weights.numpy(), inputs.numpy(), targets.numpy(), 0.1
    )
    assert found == pytest.approx(float(worst), rel=1e-12)


def test_examples_are_balanced_and_of_length_one():
    inputs, targets = tasks.examples("digits ≥5", 128)
    assert float(targets.sum()) == 0.0
    torch.testing.assert_close(inputs.norm(dim=1), torch.ones(128).double())


def test_mnist_is_the_one_that_was_named(monkeypatch):
    if not (DATA / "mnist").is_dir():
        pytest.skip("no MNIST in $SUMMITEER_DATA")
    monkeypatch.setenv("SUMMITEER_DATA", str(DATA))
    with pytest.raises(UserError, match="digest: expected"):
        tasks.examples("MNIST 3v7", 16, "another")
    inputs, targets = tasks.examples("MNIST 3v7", 16, mnist_digest() or "")
    assert inputs.shape == (16, 196)
    assert targets.tolist() == [-1.0, 1.0] * 8


@pytest.mark.parametrize(
    "values",
    [
        {"task": "cats"},
        {"rates": ()},
        {"rates": (1.0, 0.5)},
        {"rates": (0.0,)},
        {"network": "default"},
        {"network": "default", "trained": "all", "unit": "kernel"},
        {"scale": 0.0},
    ],
)
def test_what_cannot_be_is_refused(values):
    with pytest.raises(ValidationError):
        ScaledTrainingParameters(**values)


def test_torch_s_own_network_is_torch_s():
    ensemble = Ensemble.default(range(40), (30, 20, 20), "relu")
    layers = [torch.nn.Linear(30, 20), torch.nn.Linear(20, 20), torch.nn.Linear(20, 1)]
    for layer, weight, bias in zip(
        layers, ensemble.weights, ensemble.biases, strict=True
    ):
        assert weight.shape[1:] == layer.weight.shape
        reach = layer.in_features**-0.5
        assert float(weight.abs().max()) < reach
        # The deviation of a uniform number, from 800 or more of them.
        assert float(weight.std()) == pytest.approx(reach / 3**0.5, rel=0.1)
        assert bias is not None
        assert bias.shape[1:] == layer.bias.shape
        assert float(bias.abs().max()) < reach


def test_it_is_an_experiment():
    cell = EXPERIMENTS["scaled-training"].cell(scale=0.3)
    assert cell.spec["precision"] == "float32"


@pytest.mark.parametrize("name", ["softplus", "relu", "tanh"])
@pytest.mark.parametrize("depth", [2, 3])
def test_gradients_by_the_inputs_are_those_of_autograd(name, depth):
    members = Ensemble.default([0, 1, 2], (5, 7, 6)[:depth], name).to(torch.float64)
    points = seeded(3, 4, 5, seed=depth)
    moved = points.clone().requires_grad_()
    (expected,) = torch.autograd.grad(members.outputs(moved).sum(), moved)
    values, gradients = members.with_gradients(points)
    assert torch.allclose(values, members.outputs(points), 1e-14, 1e-14)
    assert torch.allclose(gradients, expected, 1e-12, 1e-14)
    # As an objective, all rows at once and a few of them.
    targets = torch.stack([seeded(12, seed=9), torch.arange(12).double()], 1)
    loss, few = MemberLoss(members, 12), torch.tensor([0, 5, 6, 11])
    for index in (torch.arange(12), few):
        rows = points.flatten(0, 1)[index].requires_grad_()
        expected = loss(rows, targets[index])
        (slope,) = torch.autograd.grad(expected.sum(), rows)
        closed = with_slopes(loss, rows.detach(), targets[index])
        assert torch.allclose(closed[0], expected.detach(), 1e-13, 1e-14)
        assert torch.allclose(closed[1], slope, 1e-12, 1e-13)
