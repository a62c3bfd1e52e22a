"""A module of known layers is read as the piecewise-linear network that it is, or not.

Whatever could make the module compute something else must be seen.
"""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from summiteer.networks import (
    Opaque,
    PiecewiseLinear,
    TwoLayer,
    TwoLayerNetwork,
    as_piecewise_linear,
    as_two_layer,
    recognise,
)
from summiteer.networks.activations import LeakyRelu
from summiteer.networks.piecewise_linear import Maximum, Rectifier
from traced import IMAGE, Calls, assert_same_function, reason, steps_of

torch.set_num_threads(1)


def with_statistics(layer):
    """A BatchNorm as training leaves it."""
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.1, 2)
        if layer.affine:
            layer.weight.normal_()
            layer.bias.normal_()
    return layer


LAYERS = [
    nn.Conv2d(2, 3, 3),
    nn.Conv2d(2, 3, 3, padding="same", dilation=2),
    nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False),
    nn.Conv2d(2, 3, 5, padding="valid"),
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=1, padding=1),
    nn.MaxPool2d((3, 2), stride=(1, 2), dilation=(2, 1)),
    nn.MaxPool2d(2, padding=1, dilation=2),
    nn.AvgPool2d(2),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.AvgPool2d(2, count_include_pad=False),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((3, None)),
    nn.Flatten(),
    nn.Flatten(2),
    nn.Flatten(-2, -1),
    nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, -1))),
    nn.Linear(6, 3),
    with_statistics(nn.BatchNorm2d(2)),
    with_statistics(nn.BatchNorm2d(2, affine=False, eps=0.1)),
    nn.Sequential(nn.Flatten(2), with_statistics(nn.BatchNorm1d(2))),
    nn.Sequential(nn.Flatten(), with_statistics(nn.BatchNorm1d(72))),
    nn.Dropout(0.5),
    nn.Dropout2d(),
    nn.Identity(),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_layer_is_read_exactly(layer):
    for model in (layer, nn.Sequential(nn.Sequential(layer), nn.Identity()).double()):
        assert_same_function(model.train())


def normalised(m, x):
    return m.first((x - m.mean) / m.deviation)


def residual_in_place(m, x):
    h = m.first(x)
    h += m.other(x)
    return torch.relu(h)


def by_sizes(m, x):
    rows, channels, height, width = x.shape
    return x.reshape(rows, channels // 2, -1, width * height)


FORWARDS = {
    "functional": lambda m, x: functional.relu(m.first(x)),
    "torch": lambda m, x: torch.relu(m.first(x)),
    "method": lambda m, x: m.first(x).relu(),
    "in place": lambda m, x: functional.relu(m.first(x), inplace=True),
    "method in place": lambda m, x: m.first(x).relu_(),
    "leaky": lambda m, x: functional.leaky_relu(m.first(x), 0.1),
    "absolute": lambda m, x: m.first(x).abs(),
    "clamp": lambda m, x: m.first(x).clamp(min=0),
    "pool": lambda m, x: functional.max_pool2d(m.first(x), 2),
    "pool keywords": lambda m, x: functional.max_pool2d(x, 3, padding=1, stride=2),
    "average": lambda m, x: functional.avg_pool2d(m.first(x), (2, 3)),
    "adaptive": lambda m, x: functional.adaptive_avg_pool2d(x, (1, 1)),
    "mean": lambda m, x: m.first(x).mean((2, 3)),
    "mean kept": lambda m, x: torch.mean(x, dim=[-1, -2], keepdim=True),
    "flatten": lambda m, x: torch.flatten(m.first(x), 1),
    "flatten method": lambda m, x: x.flatten(1),
    "view": lambda m, x: m.first(x).view(x.size(0), -1),
    "view tuple": lambda m, x: x.view((-1, 72)),
    "reshape": lambda m, x: x.reshape(x.shape[0], 4, -1),
    "sizes": by_sizes,
    "squeeze": lambda m, x: x.flatten(1).unsqueeze(1).squeeze(1),
    "residual": lambda m, x: m.first(x) + m.other(x),
    "residual of the input": lambda m, x: torch.add(x, m.other(x).relu()),
    "residual in place": residual_in_place,
    "difference": lambda m, x: m.first(x) - m.other(x),
    "maximum": lambda m, x: torch.maximum(m.first(x), m.other(x)),
    "numbers": lambda m, x: 1 - 2 * (x + 1) / 3 - 0.1,
    "negative": lambda m, x: -m.first(x),
    "buffers": normalised,
    "tensor attribute": lambda m, x: x * m.plain,
    "weights": lambda m, x: functional.conv2d(x, m.other.weight, m.other.bias),
    "a loop": lambda m, x: [m.first(x) for _ in range(m.width)][-1],
    "a branch on settings": lambda m, x: m.first(x) if m.width is not None else x,
    "dropout": lambda m, x: functional.dropout(m.first(x), training=m.training),
    "twice": lambda m, x: m.other(m.other(x).relu()).relu(),
    "dead code": lambda m, x: (m.first(x), x.relu())[0],
    "the input": lambda m, x: x,
}


@pytest.mark.parametrize("name", FORWARDS)
def test_every_known_operation_is_read_exactly(name):
    assert_same_function(Calls(FORWARDS[name]))


class Block(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.norm = with_statistics(nn.BatchNorm2d(channels))
        self.second = nn.Conv2d(channels, channels, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.relu(self.norm(self.first(x)))
        h = self.second(h)
        h += x
        return self.relu(h)


class Net(nn.Module):
    def __init__(self, layers, features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.heads = nn.ModuleDict({"drop": nn.Dropout(), "last": nn.LazyLinear(3)})
        self.features = features

    def embed(self, x):
        for layer in self.layers:
            x = layer(x)
        return torch.flatten(x, 1)

    def forward(self, x):
        return self.heads["last"](self.heads["drop"](self.embed(x)))


POOLS = [
    nn.Identity(),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.AvgPool2d(3, 1, 1),
]
BENDS = [nn.ReLU(), nn.LeakyReLU(0.3), nn.ReLU(inplace=True)]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from(POOLS)), max_size=3),
    st.sampled_from(BENDS),
    st.integers(0, 2**20),
)
def test_random_residual_networks_are_read_exactly(parts, bend, seed):
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 3, padding=1), copy.deepcopy(bend)]
    for groups, pool in parts:
        layers += [Block(4, groups), copy.deepcopy(pool)]
        layers += [nn.Conv2d(4, 4, 1), copy.deepcopy(bend)]
    net = Net(layers, 4)
    net.eval()(torch.zeros(1, 2, 9, 8))  # lazy layers take their size
    assert_same_function(net, (2, 9, 8))


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(BENDS),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_random_sequences_are_read_exactly(widths, bend, norm, seed):
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip([5, *widths], widths, strict=False):
        layers += [nn.Linear(inputs, outputs), copy.deepcopy(bend)]
        layers += [with_statistics(nn.BatchNorm1d(outputs))] if norm else []
    model = nn.Sequential(nn.Sequential(*layers), nn.Linear(widths[-1], 2))
    network = assert_same_function(model, (5,))
    rectifiers = [s for s in network.steps if isinstance(s.operation, Rectifier)]
    assert len(rectifiers) == len(widths)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", LeakyRelu(0.3), "abs"])
@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_two_layer_networks_with_kinks_are_programs_too(name, outputs):
    net = TwoLayerNetwork.random(4, 5, activation=name, bias_std=1)
    if outputs is not None:
        net = TwoLayerNetwork(
            net.hidden_weights,
            torch.randn(outputs, 5, dtype=torch.float64),
            net.hidden_bias,
            torch.randn(outputs, dtype=torch.float64),
            activation=name,
        )
    assert isinstance(recognise(net, (4,)), TwoLayer)
    assert_same_function(net, (4,))
    assert "[5]" in reason(net, (5,))
    smooth = TwoLayerNetwork.random(4, 5, activation="tanh")
    assert reason(smooth, (4,)) == "tanh is not max(t, slope·t)"


def test_what_recognise_returns():
    two = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    deep = nn.Sequential(two, nn.ReLU(), nn.Linear(2, 2))
    assert isinstance(recognise(two, (3,)), TwoLayer)
    assert isinstance(recognise(deep, (3,)), PiecewiseLinear)
    assert isinstance(recognise(deep), Opaque)
    assert isinstance(as_two_layer(deep), Opaque)
    assert isinstance(as_piecewise_linear(two, (3,)), PiecewiseLinear)
    assert recognise(lambda x: x, (3,)) == Opaque("function is not an nn.Module")
    assert recognise(deep, (3,)).scalar is None


def test_weights_of_every_precision_are_read_exactly():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).to(dtype)
        network = assert_same_function(model)
        dense = network.steps[-1].operation
        assert torch.equal(dense.weight, model[1].weight.detach().double())
        with torch.no_grad():
            model[1].weight.zero_()
        assert not torch.equal(dense.weight, model[1].weight.double())
        assert torch.equal(steps_of(model).steps[-1].operation.weight, 0 * dense.weight)


def pooled(*before: nn.Module) -> list[type]:
    network = steps_of(nn.Sequential(*before, nn.MaxPool2d(2)))
    return [type(step.operation) for step in network.steps]


def test_a_rectifier_before_a_pool_comes_after_it():
    conv = nn.Conv2d(2, 2, 1)
    for between in ((), (nn.Dropout(),), (nn.Flatten(2), nn.Unflatten(2, (6, 6)))):
        for bend in (nn.ReLU(), nn.LeakyReLU(0.5)):
            kinds = pooled(conv, bend, *between)
            assert kinds[-1] is Rectifier
            assert kinds.count(Rectifier) == 1
            assert kinds.count(Maximum) == 3
            assert_same_function(nn.Sequential(conv, bend, *between, nn.MaxPool2d(2)))
    assert pooled(conv, nn.ReLU(), nn.Conv2d(2, 2, 1))[-1] is Maximum


def pooled_and_added(m, x):
    h = m.first(x).relu()
    return functional.max_pool2d(h, 3, 1, 1) + h


def pooled_and_added_under_another_name(m, x):
    h = m.first(x).relu()
    return functional.max_pool2d(h, 3, 1, 1) + m.drop(h)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: functional.max_pool2d(m.first(x).abs(), 2),
        pooled_and_added,
        pooled_and_added_under_another_name,
    ],
)
def test_other_rectifiers_before_a_pool_stay_there(forward):
    network = assert_same_function(Calls(forward, drop=nn.Dropout()))
    kinds = [type(step.operation) for step in network.steps]
    assert kinds.count(Rectifier) == 1
    assert kinds.index(Rectifier) < kinds.index(Maximum)


def test_nothing_is_left_behind():
    model = Net([Block(2, 1), nn.MaxPool2d(2)], 1)
    model.eval()(torch.zeros(1, *IMAGE))
    model.train()
    model.layers[0].norm.eval()
    call, attribute = nn.Module.__call__, nn.Module.__getattr__
    before = [sorted(vars(m)) for m in model.modules()]
    flags = [m.training for m in model.modules()]
    tensors = {name: t.clone() for name, t in model.state_dict().items()}
    strange = Calls(lambda m, x: x.view(1, -1))
    generator = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps_of(model)
        reason(strange)
    assert nn.Module.__call__ is call
    assert nn.Module.__getattr__ is attribute
    assert [sorted(vars(m)) for m in model.modules()] == before
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(t, tensors[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_affine_steps_know_their_transposes_and_sizes(layer):
    network = steps_of(layer)
    shapes = [network.shape, *(step.shape for step in network.steps)]
    for step in network.steps:
        if isinstance(step.operation, Rectifier | Maximum):
            continue
        check_affine(step.operation, shapes[step.sources[0]], step.shape)


def test_elementwise_maps_know_their_transposes_and_sizes():
    for step in steps_of(Calls(normalised)).steps:
        check_affine(step.operation, IMAGE, step.shape)


def check_affine(operation, source, shape):
    """<y, Av> = <Aᵀy, v>; |A| is the matrix of the magnitudes of A."""
    count, size = math.prod(source), math.prod(shape)
    ones = torch.eye(count, dtype=torch.float64).reshape(count, *source)
    zero = operation.apply(0 * ones[:1])
    matrix = (operation.apply(ones) - zero).reshape(count, size)
    duals = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    assert torch.allclose(operation.transpose(duals).reshape(size, count).T, matrix)
    sizes = operation.spread(ones).reshape(count, size)
    assert torch.allclose(sizes, matrix.abs(), atol=1e-14)
    back = operation.spread_back(duals).reshape(size, count)
    assert torch.allclose(back, sizes.T)
    offset = operation.magnify(0 * ones[:1])
    assert bool((offset >= zero.abs() - 1e-14).all())
    assert torch.allclose(operation.magnify(ones), operation.spread(ones) + offset)
    assert operation.terms >= int((matrix != 0).sum(0).max()) - (size == count)
