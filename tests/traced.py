"""Modules to be read as piecewise-linear networks, and how they are compared."""

import copy

import torch
from torch import Tensor, nn

from summiteer.networks import Opaque, PiecewiseLinear, as_piecewise_linear

IMAGE = (2, 6, 6)


def steps_of(model, shape=IMAGE) -> PiecewiseLinear:
    found = as_piecewise_linear(model, shape)
    assert isinstance(found, PiecewiseLinear), found.reason
    return found


def reason(model, shape=IMAGE) -> str:
    found = as_piecewise_linear(model, shape)
    assert isinstance(found, Opaque)
    assert found.reason
    return found.reason


def assert_same_function(model: nn.Module, shape=IMAGE) -> PiecewiseLinear:
    network = steps_of(model, shape)
    inputs = 2 * torch.randn(4, *shape, dtype=torch.float64)
    expected = copy.deepcopy(model).double().eval()(inputs.clone()).detach()
    found = network.evaluate(inputs)
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    size = 1 + float(expected.abs().max())
    assert float((found - expected).abs().max()) <= 1e-12 * size
    for step, value in zip(network.steps, values_of(network, inputs), strict=True):
        assert value.shape[1:] == step.shape
    return network


def values_of(network: PiecewiseLinear, inputs: Tensor) -> list[Tensor]:
    return [
        PiecewiseLinear(network.steps[: i + 1], network.shape).evaluate(inputs)
        for i in range(len(network.steps))
    ]


class Calls(nn.Module):
    """A forward of one expression."""

    def __init__(self, function, **held):
        super().__init__()
        self.function = function
        self.first, self.other = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.register_buffer("mean", torch.rand(2, 1, 1))
        self.register_buffer("deviation", 0.5 + torch.rand(1, 2, 1, 1))
        self.plain = torch.rand(6)
        self.width = 3
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def small() -> nn.Sequential:
    body = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    return nn.Sequential(body, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
