"""Whatever happens while a model is examined, the caller finds it as it was."""

import functools
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer._caller import behaves_differently_in_training, undisturbed
from summiteer.networks import TwoLayerNetwork

torch.set_num_threads(1)


class Net(nn.Module):
    """Three levels, batch norm and dropout; optionally draws and misbehaves."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(6, 3)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(inputs))

    def eval(self) -> "Net":
        raise AssertionError("eval() may be overridden, and is not called")


def mixed() -> Net:
    net = Net()
    net.body[1].training = False
    net.head.training = False
    return net


def flags(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_every_module_is_in_eval_mode_inside_and_as_before_outside():
    net = mixed()
    before = flags(net)
    assert len(set(before)) == 2
    with undisturbed(net):
        assert not any(flags(net))
    assert flags(net) == before


def test_an_exception_restores_everything():
    net = mixed()
    before, state = flags(net), torch.get_rng_state()

    def interrupted() -> None:
        with undisturbed(net):
            torch.randn(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert flags(net) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_switches_its_own_modes_is_restored_too():
    net = mixed()
    before = flags(net)
    with undisturbed(net):
        net.train()
    assert flags(net) == before
    with undisturbed(net):
        net.body[1].training = True
        net.body[0].training = True
    assert flags(net) == before


def test_it_nests():
    net = mixed()
    before = flags(net)
    with undisturbed(net):
        with undisturbed(net):
            pass
        assert not any(flags(net))
    assert flags(net) == before


@dataclass
class Holder:
    module: nn.Module

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.module(inputs)


def scaled(net: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return 2 * net(inputs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net.forward,
        lambda net: functools.partial(net.forward),
        lambda net: functools.partial(functools.partial(net)),
        lambda net: Holder(net.forward),
        Holder,
    ],
)
def test_the_module_behind_a_callable_is_found(wrap):
    net = mixed()
    before, model = flags(net), wrap(net)
    assert behaves_differently_in_training(model) == "Dropout"
    with undisturbed(model):
        assert not any(flags(net))
    assert flags(net) == before


@pytest.mark.parametrize("model", [lambda x: x, len, torch.sin, scaled, int])
def test_any_callable_will_do(model):
    with undisturbed(model):
        pass
    assert behaves_differently_in_training(model) == ""


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad]
)
def test_gradients_are_on_inside_and_as_before_outside(mode):
    net, inputs = Net(), torch.randn(2, 4)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with undisturbed(net):
            assert torch.is_grad_enabled()
            moved = inputs.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(net(moved).sum(), moved)
            assert gradient.shape == (2, 4)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        with pytest.raises(ValueError, match="x"), undisturbed(net):
            raise ValueError("x")
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


def test_random_numbers_drawn_inside_do_not_count():
    net = Net()
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    with undisturbed(net):
        torch.randn(7)
        torch.manual_seed(5)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad]
)
def test_an_attack_leaves_the_model_as_it_was(mode):
    net = mixed()
    net.body[1].training = True  # would update its statistics in every pass
    net.requires_grad_(True)
    net.head[0][1].weight.grad = torch.ones(3, 6)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    was, state = flags(net), torch.get_rng_state()
    inputs, targets = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    after_draw = torch.get_rng_state()
    problem = sm.Problem(
        net, inputs, targets, objective=sm.CrossEntropy(), region=sm.L2Ball(radius=0.5)
    )
    with mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", sm.SummiteerWarning)
        sm.ascend(problem, sm.ProjectedAscent(), max_steps=3)
    assert flags(net) == was
    assert not torch.equal(state, after_draw)
    assert torch.equal(torch.get_rng_state(), after_draw)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert int(net.body[1].num_batches_tracked) == 0
    assert all(weight.requires_grad for weight in net.parameters())
    assert torch.equal(net.head[0][1].weight.grad, torch.ones(3, 6))
    assert net.body[0].weight.grad is None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.BatchNorm2d(3), "BatchNorm2d"),
        (nn.BatchNorm2d(3, track_running_stats=False), ""),
        (nn.InstanceNorm2d(3), ""),
        (nn.InstanceNorm2d(3, track_running_stats=True), "InstanceNorm2d"),
        (nn.Dropout(0.5), "Dropout"),
        (nn.Dropout(0.0), ""),
        (nn.AlphaDropout(0.2), "AlphaDropout"),
        (nn.RReLU(), "RReLU"),
        (nn.LSTM(2, 3, num_layers=2, dropout=0.5), "LSTM"),
        (nn.LSTM(2, 3), ""),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "MultiheadAttention"),
        (nn.LayerNorm(4), ""),
        (nn.Linear(2, 2), ""),
        (TwoLayerNetwork.random(2, 3), ""),
    ],
)
def test_which_modules_depend_on_their_mode(module, name):
    assert behaves_differently_in_training(nn.Sequential(module)) == name
    assert behaves_differently_in_training(nn.Sequential(module).eval()) == ""


def test_frozen_script_modules_have_no_mode():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
        frozen = torch.jit.freeze(scripted.eval())
        scripted.train()
    with undisturbed(scripted):
        assert not any(module.training for module in scripted.modules())
        inputs = torch.randn(3, 2)
        assert torch.equal(scripted(inputs), scripted(inputs))
    assert all(module.training for module in scripted.modules())
    with undisturbed(frozen):
        assert frozen(inputs).shape == (3, 2)
    assert behaves_differently_in_training(frozen) == ""
