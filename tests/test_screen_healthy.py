"""Healthy models on which the failure screen must find nothing, with any seed."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.data import load_data
from summiteer.networks.reference import digits_mlp
from summiteer.objectives import DLR
from summiteer.regions import L1Ball
from summiteer.screen import screen

DATA = Path(os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared/data"))
SEEDS = range(2)


def fit(model, inputs, targets, steps=60, rate=0.1, loss=None, radius=0.0):
    """Heavy-ball descent; on one-step adversarial examples where a radius is given."""
    loss = loss or nn.functional.cross_entropy
    weights = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim > 1:
                fan = weight[0].numel()
                weight.copy_(torch.randn(weight.shape, generator=generator) / fan**0.5)
    speeds = [torch.zeros_like(weight) for weight in weights]
    model.train()
    for _ in range(steps):
        moved = inputs
        if radius:
            moved = inputs.clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss(model(moved), targets), moved)
            moved = (moved + radius * slope.sign()).clamp(0, 1).detach()
        slopes = torch.autograd.grad(loss(model(moved), targets), weights)
        with torch.no_grad():
            for weight, slope, speed in zip(weights, slopes, speeds, strict=True):
                speed.mul_(0.9).sub_(slope, alpha=rate)
                weight.add_(speed)
    return model.eval()


def digits(dtype=torch.float32):
    data = load_data("digits")
    return data.inputs.to(dtype), data.targets


def image_like(count=200, side=12, seed=0):
    """Smooth random 8-bit colour images of three classes, told apart by their hue."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    labels = torch.arange(count) % 3
    coarse[torch.arange(count), labels] += 0.3
    images = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (images.clamp(0, 1) * 255).round() / 255, labels


def nothing_found(model, inputs, targets, objective, region, box=(0.0, 1.0), **more):
    problem = sm.Problem(model, inputs, targets, objective, region, box=box, **more)
    for seed in SEEDS:
        screening = screen(problem, seed)
        assert not screening.findings, [finding.text for finding in screening.findings]
        broken = [text for text in screening.checks.values() if "rror" in text]
        assert not broken
    return screening.checks


REGIONS = [
    sm.L2Ball(0.6),
    sm.L2Ball(0.05),
    sm.LinfBall(0.03),
    sm.LinfBall(0.3),
    L1Ball(2.0),
    sm.Sphere(0.5),
]


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: repr(region))
def test_digits_on_usual_radii(region):
    inputs, targets = digits()
    box = None if region.norm == "sphere" else (0.0, 1.0)
    model = digits_mlp(32, 80)
    nothing_found(model, inputs[:300], targets[:300], sm.CrossEntropy(), region, box)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Softplus])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_and_dtypes(activation, dtype):
    inputs, targets = digits(dtype)
    model = digits_mlp(32, 80, activation=activation).to(dtype)
    checks = nothing_found(
        model, inputs[:200], targets[:200], sm.CrossEntropy(), sm.L2Ball(0.5)
    )
    ran = {"GRADIENT_MISMATCH", "UNSTABLE_PREDICTIONS", "UNCONSTRAINED_FAILS"}
    assert {checks[code] for code in ran} == {"clear"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    inputs, targets = digits(dtype)
    model = digits_mlp(32, 80).to(dtype)
    checks = nothing_found(
        model, inputs[:200], targets[:200], sm.CrossEntropy(), sm.L2Ball(0.5)
    )
    assert checks["GRADIENT_MISMATCH"] == "clear"


class CastDown(nn.Module):
    """Computes in a coarser dtype, whatever comes in."""

    def __init__(self, model, dtype) -> None:
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype

    def forward(self, inputs):
        return self.model(inputs.to(self.dtype)).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_models_that_cast_down_are_not_quantised(dtype):
    inputs, targets = digits()
    model = CastDown(digits_mlp(32, 80), dtype)
    problem = sm.Problem(
        model, inputs[:200].to(dtype), targets[:200], sm.CrossEntropy(), sm.L2Ball(0.5)
    )
    assert not screen(problem).findings


@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy(), DLR()], ids=repr)
def test_objectives_and_log_probabilities(objective):
    inputs, targets = digits()
    model = nn.Sequential(digits_mlp(32, 80), nn.LogSoftmax(1)).eval()
    nothing_found(model, inputs[:200], targets[:200], objective, sm.LinfBall(0.1))


def test_an_overconfident_network():
    inputs, targets = digits()
    model = digits_mlp(64, 300)
    with torch.no_grad():
        model[-1].weight.mul_(4)
        model[-1].bias.mul_(4)
    nothing_found(
        model, inputs[:200], targets[:200], sm.CrossEntropy(), sm.LinfBall(0.1)
    )


class HandMade(nn.Module):
    """ReLU as x·(x > 0), leaky by where, the class looked up by argmax on the side."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs):
        hidden = self.model[0](inputs)
        hidden = hidden * (hidden > 0)
        outputs = self.model[2](hidden)
        self.said = outputs.argmax(1)
        return torch.where(outputs > 0, outputs, 0.5 * outputs)


def test_comparisons_that_do_no_harm():
    inputs, targets = digits()
    model = HandMade(digits_mlp(32, 80))
    nothing_found(model, inputs[:200], targets[:200], sm.CrossEntropy(), sm.L2Ball(0.5))


def conv(channels, classes, bias=True):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, bias=bias),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes, bias=bias),
    )


@pytest.mark.parametrize("region", [sm.LinfBall(8 / 255), sm.L2Ball(0.5)])
def test_convolutions_on_images_of_eight_bits(region):
    inputs, targets = image_like()
    model = fit(conv(3, 3), inputs, targets)
    nothing_found(model, inputs, targets, sm.CrossEntropy(), region)


def test_convolutions_without_bias_on_black_backgrounds():
    inputs, targets = digits()
    inputs = inputs.reshape(-1, 1, 8, 8)[:400]
    model = fit(conv(1, 10, bias=False), inputs, targets[:400])
    nothing_found(model, inputs, targets[:400], sm.CrossEntropy(), sm.LinfBall(0.1))


class Normalised(nn.Module):
    def __init__(self, model, mean, std) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, inputs):
        return self.model((inputs - self.mean) / self.std)


def test_normalisation_inside_the_model():
    inputs, targets = image_like()
    means, stds = inputs.mean((0, 2, 3)).tolist(), inputs.std((0, 2, 3)).tolist()
    model = fit(Normalised(conv(3, 3), means, stds), inputs, targets)
    checks = nothing_found(
        model, inputs, targets, sm.CrossEntropy(), sm.LinfBall(8 / 255)
    )
    assert checks["NORMALISATION"] == "clear"


def test_pixels_up_to_255_with_a_radius_to_match():
    inputs, targets = image_like()
    model = fit(Normalised(conv(3, 3), [127.0] * 3, [60.0] * 3), 255 * inputs, targets)
    grey = (255 * inputs).round()
    for region in (sm.LinfBall(8.0), sm.L2Ball(128.0)):
        nothing_found(model, grey, targets, sm.CrossEntropy(), region, (0.0, 255.0))


def test_one_step_adversarially_trained():
    inputs, targets = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model = fit(model, inputs, targets, 150, 0.2, radius=0.1)
    nothing_found(
        model, inputs[:300], targets[:300], sm.CrossEntropy(), sm.LinfBall(0.1)
    )


def test_two_classes_by_sign():
    data = load_data("breast-cancer")
    inputs, targets = data.inputs, 2.0 * data.targets.double() - 1
    model = nn.Sequential(nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def loss(outputs, signs):
        return nn.functional.softplus(-outputs[:, 0] * signs).mean()

    model = fit(model, inputs, targets, 150, 0.2, loss)
    network = sm.TwoLayerNetwork.from_module(model)
    for each in (model, network):
        checks = nothing_found(each, inputs, targets, sm.Logistic(), sm.LinfBall(0.05))
        assert checks["UNCONSTRAINED_FAILS"] == "clear"


@pytest.mark.parametrize("shape", [(10,), (1, 10), (2, 5)])
def test_regression(shape):
    data = load_data("diabetes")
    inputs = data.inputs.reshape(-1, *shape)
    body = [nn.Flatten(), nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1)]
    model = nn.Sequential(*body).double()

    def loss(outputs, values):
        return (outputs[:, 0] - values).square().mean()

    model = fit(model, inputs, data.targets, 150, 0.05, loss)
    checks = nothing_found(
        model, inputs, data.targets, sm.Quadratic(), sm.L2Ball(0.05), None
    )
    assert checks["UNCONSTRAINED_FAILS"].startswith("not run: targets are not labels")
    assert checks["CLEAN_ACCURACY"].startswith("not run")
    assert checks["GRADIENT_MISMATCH"] == checks["UNSTABLE_PREDICTIONS"] == "clear"


def test_interpolated_regression_whose_loss_is_nothing():
    network = sm.TwoLayerNetwork.random(20, 64, "softplus")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 20, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        targets = network(inputs)
    nothing_found(network, inputs, targets, sm.Quadratic(), sm.L2Ball(0.5), None)
    nothing_found(network, inputs, targets + 0.1, sm.Quadratic(), sm.Sphere(0.5), None)


def test_functions_without_parameters_and_few_examples():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    inputs = torch.rand(5, 6, generator=generator, dtype=torch.float64)

    def linear(rows):
        return rows @ weights

    labels = linear(inputs).argmax(1)
    for count in (1, 5):
        nothing_found(
            linear, inputs[:count], labels[:count], sm.CrossEntropy(), sm.L2Ball(0.1)
        )


def test_standardised_tables_without_a_box():
    data = load_data("breast-cancer")
    inputs = (data.inputs - data.inputs.mean(0)) / data.inputs.std(0)
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)).double()
    model = fit(model, inputs, data.targets, 100)
    for region in (sm.L2Ball(0.5), sm.LinfBall(0.1), L1Ball(1.0)):
        nothing_found(model, inputs, data.targets, sm.CrossEntropy(), region, None)


def test_a_mask_and_radii_per_example():
    inputs, targets = digits()
    mask = torch.zeros(64, dtype=torch.bool)
    mask[20:40] = True
    region = sm.L2Ball(torch.linspace(0.1, 0.6, 200))
    model = digits_mlp(32, 80)
    nothing_found(
        model, inputs[:200], targets[:200], sm.CrossEntropy(), region, mask=mask
    )


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="no MNIST files here")
@pytest.mark.parametrize("robust", [0.0, 0.1])
def test_mnist(robust):
    data = load_data(str(DATA / "mnist"))
    inputs, targets = data.inputs[:500].float(), data.targets[:500]
    body = [nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)]
    model = fit(nn.Sequential(*body), inputs, targets, 150, 0.02, radius=robust)
    for region in (sm.LinfBall(0.3), L1Ball(10.0)):
        nothing_found(model, inputs, targets, sm.CrossEntropy(), region)


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="no MNIST files here")
@pytest.mark.parametrize("name", ["256x2", "256x4", "256x6"])
def test_networks_of_the_verification_competition(name):
    pytest.importorskip("onnx")
    file = DATA / "vnncomp2021_mnistfc" / f"mnist-net_{name}.onnx"
    if not file.exists():
        pytest.skip("no such network here")
    from summiteer.data import load_onnx

    data = load_data(str(DATA / "mnist"))
    model = load_onnx(str(file))
    shape = getattr(model, "input_shape", None)
    inputs, targets = data.inputs[:200].float(), data.targets[:200]
    if shape:
        inputs = inputs.reshape(len(inputs), *shape)
    nothing_found(model, inputs, targets, sm.CrossEntropy(), sm.LinfBall(0.03))
