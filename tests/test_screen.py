"""The failure screen: each planted failure is named, with its numbers, and only it."""

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.data import load_data
from summiteer.networks.reference import digits_mlp
from summiteer.objectives import DLR
from summiteer.screen import Screening, screen
from summiteer.screen._screening import CAUSES, CHECKS

COUNT = 60


@pytest.fixture(scope="module")
def digits():
    data = load_data("digits")
    return data.inputs[:COUNT].float(), data.targets[:COUNT]


@pytest.fixture(scope="module")
def network():
    return digits_mlp(32, 80)


def only(code, model, inputs, targets, objective=None, region=None, box=(0.0, 1.0)):
    """The one finding of the screen, which must have this code."""
    objective, region = objective or sm.CrossEntropy(), region or sm.L2Ball(0.6)
    problem = sm.Problem(model, inputs, targets, objective, region, box=box)
    screening = screen(problem)
    codes = [finding.code for finding in screening.findings]
    assert codes == [code], (codes, dict(screening.checks))
    (finding,) = screening.findings
    assert finding.seen
    assert finding.effect
    assert finding.remedy
    return finding, screening.checks


class Then(nn.Module):
    """A function of the inputs, and one of the outputs, around a network."""

    def __init__(self, model, before=None, after=None) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, inputs):
        moved = self.before(inputs) if self.before else inputs
        outputs = self.model(moved)
        return self.after(outputs) if self.after else outputs


class Own(torch.autograd.Function):
    """x -> forward(x) whose backward pass says the derivative is `slope`."""

    @staticmethod
    def forward(ctx, values, function, slope):
        ctx.slope = slope
        return function(values)

    @staticmethod
    def backward(ctx, gradients):
        return ctx.slope * gradients, None, None


def test_train_mode(digits, network):
    model = nn.Sequential(nn.Dropout(0.5), network).train()
    with pytest.warns(sm.SummiteerWarning):
        sm.ascend(sm.Problem(model, *digits, sm.CrossEntropy(), sm.L2Ball(0.1)), None)
    finding, _ = only("TRAIN_MODE", model, *digits)
    assert "train mode and has Dropout" in finding.seen
    assert model.training


def test_randomness(digits, network):
    model = Then(network, lambda x: x + 0.1 * torch.randn_like(x))
    state = torch.random.get_rng_state()
    finding, checks = only("RANDOM", model, *digits)
    assert torch.equal(torch.random.get_rng_state(), state)
    percent = float(finding.seen.split("up to ")[1].split(" %")[0])
    assert 1 < percent < 100
    assert "5 forward passes" in finding.seen
    assert checks["RANDOM"] == "found"


def test_examples_that_depend_on_their_companions(digits, network):
    model = Then(network, lambda x: x - 0.3 * (x.mean(0) - 0.3))
    finding, _ = only("BATCH_DEPENDENT", model, *digits)
    assert "examples beside it" in finding.seen


def _purify(inputs, network):
    moved = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(network(moved).square().sum(), moved)
    return inputs - 1e-4 * slope.sign()


def _purify_by_backward(inputs, network):
    moved = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        network(moved).square().sum().backward()
    return inputs - 1e-4 * moved.grad.sign()


@pytest.mark.parametrize("purify", [_purify, _purify_by_backward])
def test_test_time_gradients(digits, network, purify):
    before = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
    model = Then(network, lambda x: purify(x, network))
    model.requires_grad_(False)
    finding, _ = only("TEST_TIME_GRADIENTS", model, *digits)
    model.requires_grad_(True)
    assert "forward pass calls automatic differentiation" in finding.seen
    after = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
    assert before == after


def test_softmax_outputs(digits, network):
    model = nn.Sequential(network, nn.Softmax(1))
    finding, _ = only("SOFTMAX_OUTPUTS", model, *digits)
    assert "each row sums to 1" in finding.seen
    assert "softmax of a softmax" in finding.effect


def _two_classes(dtype=torch.float32):
    data = load_data("breast-cancer")
    targets = (2.0 * data.targets - 1).to(dtype)
    inputs = data.inputs.to(dtype)
    # Least squares: good enough, and without training.
    ones = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
    weights = torch.linalg.lstsq(ones, targets.double()[:, None]).solution[:, 0]
    layer = nn.Linear(30, 1).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(weights[None, :-1])
        layer.bias.copy_(weights[-1:])
    return layer, inputs, targets


def test_a_probability_where_a_sign_is_asked_for():
    layer, inputs, targets = _two_classes()
    model = nn.Sequential(layer, nn.Sigmoid())
    finding, checks = only("SOFTMAX_OUTPUTS", model, inputs, targets, sm.Logistic())
    assert "told apart by the sign" in finding.seen
    assert checks["CLEAN_ACCURACY"] in {"clear", "found: see SOFTMAX_OUTPUTS"}


def test_a_ratio_of_three_classes(digits, network):
    inputs, targets = digits
    keep = targets < 3
    model = Then(network, None, lambda z: z[:, :3])

    class OfThree(DLR):
        def check(self, outputs, targets):
            """Accept what `DLR` refuses."""

    finding, _ = only("FEW_CLASSES", model, inputs[keep], targets[keep], OfThree())
    assert "with 3 classes" in finding.seen


def test_a_quantiser_without_gradient(digits, network):
    # Inputs lie on the grid of 16 levels, so the clean answers are the network's.
    model = Then(network, lambda x: torch.round(16 * x) / 16)
    finding, checks = only("QUANTISED", model, *digits)
    assert "uses round" in finding.seen
    assert "32 of 32 sampled examples" in finding.seen
    assert "the gradient is zero" in finding.seen
    assert checks["UNAVAILABLE_GRADIENTS"] == "found: see QUANTISED"


@pytest.mark.parametrize("levels", [2, 16, 255])
def test_a_quantiser_with_a_straight_through_gradient(digits, network, levels):
    def stepped(values):
        return Own.apply(values, lambda v: torch.round(levels * v) / levels, 1.0)

    finding, checks = only("QUANTISED", Then(network, stepped), *digits)
    assert "straight-through" in finding.seen
    assert checks["GRADIENT_MISMATCH"] in {"clear", "found: see QUANTISED"}


def test_quantised_activations(digits, network):
    body = nn.Sequential(network[0], nn.ReLU())

    def stepped(inputs):
        return Own.apply(body(inputs), lambda v: torch.floor(8 * v) / 8, 1.0)

    model = Then(network[2], stepped)
    finding, _ = only("QUANTISED", model, *digits)
    assert "floor" in finding.seen


def test_detached_inputs(digits, network):
    finding, checks = only(
        "UNAVAILABLE_GRADIENTS", Then(network, lambda x: x.detach()), *digits
    )
    assert "no gradient reaches the inputs" in finding.seen
    assert checks["GRADIENT_MISMATCH"].startswith("not run: no gradient")


def test_a_backward_pass_that_raises(digits, network):
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, gradients):
            raise RuntimeError("no derivative of clone")

    finding, _ = only("UNAVAILABLE_GRADIENTS", Then(network, Raises.apply), *digits)
    assert "backward pass fails (no derivative of clone)" in finding.seen


def test_zero_gradients_of_no_known_operation(digits, network):
    def held(values):
        return Own.apply(values, torch.clone, 0.0)

    finding, checks = only("UNAVAILABLE_GRADIENTS", Then(network, held), *digits)
    assert "exactly zero at 32 of 32" in finding.seen
    assert "outputs change farther away for 32 of them" in finding.seen
    assert len(finding.examples) == 32
    assert checks["UNCONSTRAINED_FAILS"] == "found: see UNAVAILABLE_GRADIENTS"


def test_cross_entropy_that_underflows(digits, network):
    model = Then(network, None, lambda z: 60 * z)
    finding, _ = only("UNDERFLOW", model, *digits)
    assert "exactly zero in float32 but up to" in finding.seen
    assert "Margin" in finding.remedy
    only_margin = Then(network, None, lambda z: 1e5 * z)
    finding, _ = only("UNDERFLOW", only_margin, *digits)


@pytest.mark.parametrize("slope", [-1.0, 0.3])
def test_gradients_of_another_function(digits, network, slope):
    model = Then(network, lambda x: Own.apply(x, torch.clone, slope))
    finding, _ = only("GRADIENT_MISMATCH", model, *digits)
    assert f"changes them by {1 / slope:.2f} of what it says" in finding.seen


def test_a_detached_branch(digits, network):
    model = Then(network, lambda x: 0.5 * x + 0.5 * x.detach().square())
    finding, _ = only("GRADIENT_MISMATCH", model, *digits)
    assert "finite differences in float64 are off by" in finding.seen


class Shaken(nn.Module):
    """A network and ripples much shorter than 8/255."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(64, 10, generator=generator))

    def forward(self, inputs):
        return self.model(inputs) + 2 * torch.sin(3e4 * (inputs @ self.weights))


def test_predictions_that_shake(digits, network):
    finding, checks = only("UNSTABLE_PREDICTIONS", Shaken(network), *digits)
    value = float(finding.seen.split("loss by ")[1].split(" %")[0])
    assert value > 10
    assert "32 sampled" in finding.seen
    assert checks["GRADIENT_MISMATCH"] == "clear"
    # In float32 alone no difference settles, so nothing is held against the gradient.
    single = Shaken(network)
    only("UNSTABLE_PREDICTIONS", lambda x: single(x.float()), *digits)


def test_an_objective_of_the_wrong_sign(digits, network):
    def wrong(outputs, targets):
        return -nn.functional.cross_entropy(outputs, targets, reduction="none")

    finding, _ = only("UNCONSTRAINED_FAILS", network, *digits, wrong)
    assert "sampled examples stay correct though any perturbation" in finding.seen
    assert "sign of the objective" in finding.remedy


def _images(count=COUNT):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 6, 6, generator=generator)
    labels = torch.arange(count) % 3
    images[torch.arange(count), labels] *= 0.3
    return (images * 255).round() / 255, labels


class Hue(nn.Module):
    """Which channel is darkest, after a normalisation."""

    def __init__(self, mean=0.0, std=1.0, normalise=True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), mean))
        self.register_buffer("std", torch.full((3, 1, 1), std))
        self.normalise = normalise

    def forward(self, inputs):
        if self.normalise:
            inputs = (inputs - self.mean) / self.std
        return -3 * inputs.mean((2, 3))


def test_normalised_pixels_without_a_box():
    images, labels = _images()
    moved = (images - 0.45) / 0.3
    finding, _ = only(
        "NORMALISED_INPUTS",
        Hue(normalise=False),
        moved,
        labels,
        region=sm.LinfBall(8 / 255),
        box=None,
    )
    # 8/255 there are 0.3 · 8 = 2.4 grey levels.
    assert "is 2.4/255 of the pixels' range" in finding.effect


def test_pixels_normalised_twice():
    images, labels = _images()
    finding, checks = only(
        "NORMALISATION",
        Hue(0.45, 0.3),
        (images - 0.45) / 0.3,
        labels,
        region=sm.LinfBall(0.1),
        box=None,
    )
    assert "look normalised already" in finding.seen
    assert "subtracts 0.45 and divides by 0.3 once more" in finding.seen
    assert checks["NORMALISED_INPUTS"] == "found: see NORMALISATION"


def test_pixels_of_another_range_than_the_model_normalises():
    images, labels = _images()
    grey = (255 * images).round()
    region, box = sm.LinfBall(8.0), (0.0, 255.0)
    finding, _ = only("NORMALISATION", Hue(0.45, 0.3), grey, labels, None, region, box)
    assert "are not in [0, 1]" in finding.seen
    finding, _ = only(
        "NORMALISATION", Hue(120.0, 60.0), images, labels, None, sm.LinfBall(0.1)
    )
    assert "are not in 0..255" in finding.seen


def test_radius_in_grey_levels_on_unit_pixels():
    images, labels = _images()
    finding, _ = only("RADIUS_TOO_LARGE", Hue(), images, labels, None, sm.LinfBall(8.0))
    assert "8/255 = 0.0314" in finding.remedy
    finding, _ = only("RADIUS_TOO_LARGE", Hue(), images, labels, None, sm.L2Ball(30.0))
    assert "reaches the whole box [0, 1]" in finding.seen


def test_radius_beyond_all_data_without_a_box(digits, network):
    finding, _ = only(
        "RADIUS_TOO_LARGE", network, *digits, region=sm.L2Ball(20.0), box=None
    )
    assert "all the other inputs" in finding.seen


@pytest.mark.parametrize("region", [sm.LinfBall(8 / 255), sm.L2Ball(0.5)])
def test_radius_of_unit_pixels_on_grey_levels(region):
    images, labels = _images()
    grey = (255 * images).round()
    finding, _ = only(
        "RADIUS_TOO_SMALL", Hue(127.0, 60.0), grey, labels, None, region, (0.0, 255.0)
    )
    assert f"{255 * region.radius:.3g}" in finding.remedy


def test_radius_that_eight_bits_lose():
    images, labels = _images()
    finding, _ = only(
        "RADIUS_TOO_SMALL", Hue(), images, labels, None, sm.LinfBall(1e-3)
    )
    # 1e-3 · 255 = 0.255 of a step of 1/255.
    assert "is 0.26 of one step" in finding.seen


def test_labels_counted_from_one(digits, network):
    inputs, targets = digits
    finding, _ = only("WRONG_CONVENTION", network, inputs, (targets + 1) % 10)
    assert "with targets one lower" in finding.seen
    right = int(finding.seen.split("right on ")[1].split(" of")[0])
    assert right >= 30


def test_inputs_of_another_convention(digits, network):
    inputs, targets = digits
    model = Then(network, lambda x: x / 255)
    with torch.no_grad():
        model.model = digits_mlp(32, 80)
        model.model[0].bias.mul_(1)
    finding, _ = only("WRONG_CONVENTION", model, inputs, targets)
    assert "with inputs × 255" in finding.seen


def test_signs_the_wrong_way_round():
    layer, inputs, targets = _two_classes()
    finding, _ = only("WRONG_CONVENTION", layer, inputs, -targets, sm.Logistic())
    assert "targets of the other sign" in finding.seen


def test_accuracy_of_guessing(digits, network):
    inputs, targets = digits
    mixed = targets[torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))]
    finding, _ = only("CHANCE_ACCURACY", network, inputs, mixed)
    assert f"of {COUNT} examples are classified correctly" in finding.seen


def test_what_needs_more_is_said_to_be_not_run(digits, network):
    problem = sm.Problem(network, *digits, sm.CrossEntropy(), sm.L2Ball(0.6))
    checks = screen(problem).checks
    assert checks["TRANSFER_FAILURE"] == "not run: it needs a second model"
    assert checks["SQUARE_IS_STRONGER"].startswith("not run")
    assert set(checks) == {code for code, _ in CHECKS}
    assert set(CAUSES) <= set(checks)
    assert {cause for causes in CAUSES.values() for cause in causes} <= set(checks)


def test_a_check_that_fails_stops_nothing(digits, network, monkeypatch):
    from summiteer.screen import _screening

    def fails(subject):
        raise KeyError("nothing of that name")

    monkeypatch.setattr(_screening, "CHECKS", (("BROKEN", fails), *CHECKS[:2]))
    problem = sm.Problem(network, *digits, sm.CrossEntropy(), sm.L2Ball(0.6))
    checks = screen(problem).checks
    assert checks["BROKEN"] == "not run: 'nothing of that name'"
    assert checks["TRAIN_MODE"] == "clear"


def test_the_same_seed_finds_the_same(digits, network):
    problem = sm.Problem(Shaken(network), *digits, sm.CrossEntropy(), sm.L2Ball(0.6))
    first, again, other = (screen(problem, seed) for seed in (0, 0, 1))
    assert first.as_json() == again.as_json()
    assert first.sample != other.sample
    assert len(set(first.sample)) == 32
    assert Screening.of(first.as_json()) == first


def test_nothing_of_the_callers_is_changed(digits):
    model = nn.Sequential(nn.Dropout(0.1), digits_mlp(16, 20)).train()
    inputs, targets = digits
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    screen(sm.Problem(model, inputs, targets, sm.CrossEntropy(), sm.L2Ball(0.6)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in (model, model[0]))
    assert not inputs.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(weight.grad is None for weight in model.parameters())
