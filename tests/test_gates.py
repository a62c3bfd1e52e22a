"""Gates ajar: the model's own values, and the gradients of the network that leaks."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

import summiteer as sm
from summiteer.data import load_onnx
from summiteer.networks.activations import LeakyRelu
from summiteer.searching.gates import Ajar

F64 = torch.float64
HALVES = (torch.float16, torch.bfloat16, torch.float32, F64)
SLOPE = 0.25


def seeded(*layers, dtype=F64):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(*layers)
    for weight in model.parameters():
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return model.to(dtype).eval()


def mlp(*activations, dtype=F64):
    first, second = activations
    return seeded(
        nn.Linear(5, 8), first, nn.Linear(8, 8), second, nn.Linear(8, 3), dtype=dtype
    )


def points(dtype=F64, rows=7):
    made = torch.randn(rows, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
    return made.to(dtype)


def both(model, inputs):
    """(outputs, gradient of their sum)."""
    inputs = inputs.clone().requires_grad_()
    outputs = model(inputs)
    return outputs.detach(), torch.autograd.grad(outputs.sum(), inputs)[0]


class Written(nn.Module):
    """Affine maps with σ between them, as a user would write it."""

    def __init__(self, activation, dtype=F64):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.first, _, self.last = seeded(
            self.first, nn.Identity(), self.last, dtype=dtype
        )
        self.activation = activation

    def forward(self, inputs):
        return self.last(self.activation(self.first(inputs)))


def leaky(t):
    return functional.leaky_relu(t, SLOPE)


def forgotten(t):
    """In place, the result not used."""
    functional.relu(t, inplace=True)
    return t


RECTIFIERS = {
    "functional": functional.relu,
    "in place": lambda t: functional.relu(t, inplace=True),
    "in place by position": lambda t: functional.relu(t, True),
    "torch": torch.relu,
    "by name": lambda t: torch.relu(input=t),
    "torch_": torch.relu_,
    "method": lambda t: t.relu(),
    "method_": lambda t: t.relu_(),
    "forgotten": forgotten,
    "threshold": lambda t: functional.threshold(t, 0.0, 0.0),
    "clamp": lambda t: t.clamp(min=0),
    "clamp_": lambda t: t.clamp_(min=0),
    "clamp by position": lambda t: torch.clamp(t, 0),
    "clamp_min": lambda t: t.clamp_min(0),
    "clip": lambda t: torch.clip(t, min=0.0),
    "layer": nn.ReLU(),
    "layer in place": nn.ReLU(inplace=True),
    "threshold layer": nn.Threshold(0.0, 0.0),
}


@pytest.mark.parametrize("activation", RECTIFIERS.values(), ids=RECTIFIERS)
def test_every_form_of_a_rectifier_leaks_backwards_alone(activation):
    model, inputs = Written(activation), points()
    outputs, gradient = both(Ajar(model, SLOPE), inputs)
    assert torch.equal(outputs, both(model, inputs)[0])
    # The leaky network has other values but, one layer deep, the same gates.
    assert torch.equal(gradient, both(Written(leaky), inputs)[1])
    assert not torch.equal(gradient, both(model, inputs)[1])


def test_deep_gradients_are_those_of_the_same_gates_that_leak():
    model, inputs = mlp(nn.ReLU(), nn.ReLU(inplace=True)), points()
    _, gradient = both(Ajar(model, SLOPE), inputs)
    first, _, second, _, last = model
    below = first(inputs)
    above = second(below.relu())
    # Σ over outputs of W₃ D₂ W₂ D₁ W₁, with D = 1 where open and the slope elsewhere.
    wanted = last.weight.sum(0) * torch.where(above > 0, 1.0, SLOPE)
    wanted = (wanted @ second.weight) * torch.where(below > 0, 1.0, SLOPE)
    torch.testing.assert_close(gradient, wanted @ first.weight, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "layer",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid()],
    ids=str,
)
def test_values_are_the_model_s_own_to_the_last_bit(layer, dtype):
    model, inputs = mlp(layer, layer, dtype=dtype), points(dtype)
    # Zeros of both signs, what is infinite and what is no number, too.
    inputs[0], inputs[1], inputs[2, 0], inputs[3, 0] = 0.0, -0.0, torch.inf, torch.nan
    for ajar in (Ajar(model, SLOPE), Ajar(Ajar(model, SLOPE), 0.5)):
        outputs, _ = both(ajar, inputs)
        wanted, _ = both(model, inputs)
        assert outputs.dtype == dtype
        assert torch.equal(outputs.nan_to_num(7.0), wanted.nan_to_num(7.0))
        assert torch.equal(outputs.isnan(), wanted.isnan())
        assert torch.equal(outputs.signbit(), wanted.signbit())


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [
        (functional.relu6, lambda t: ((t > 0) & (t < 6)).to(t)),
        (functional.hardtanh, lambda t: ((t > -1) & (t < 1)).to(t)),
        (lambda t: t.clamp(-1, 2), lambda t: ((t >= -1) & (t <= 2)).to(t)),
        (functional.hardsigmoid, lambda t: (t.abs() < 3).to(t) / 6),
    ],
)
def test_where_the_derivative_is_0_it_is_the_slope(activation, derivative):
    t = torch.linspace(-9, 9, 181, dtype=F64)
    values, found = both(Ajar(activation, 0.05), t)
    assert torch.equal(values, activation(t))
    wanted = derivative(t)
    wanted = torch.where(wanted == 0, 0.05, wanted)
    # torch's hardsigmoid knows 1/6 in float32.
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    "activation",
    [
        torch.tanh,
        torch.sigmoid,
        torch.abs,
        functional.leaky_relu,
        functional.softplus,
        lambda t: torch.where(t > 0, t, 0.0),
        lambda t: torch.clamp(t, min=torch.zeros_like(t)),
        lambda t: t.softmax(1),
    ],
)
def test_what_is_no_gate_of_one_entry_keeps_its_gradient(activation):
    model, inputs = Written(activation), points()
    for ajar, own in zip(both(Ajar(model), inputs), both(model, inputs), strict=True):
        assert torch.equal(ajar, own)


def test_our_own_two_layer_network_and_networks_from_files_are_left_ajar(tmp_path):
    onnx = pytest.importorskip("onnx")
    net = sm.TwoLayerNetwork.random(5, 8, "relu", seed=0)
    leaks = sm.TwoLayerNetwork(
        net.hidden_weights, net.output_weights, activation=LeakyRelu(SLOPE)
    )
    inputs = points(net.hidden_weights.dtype)
    _, gradient = both(Ajar(net, SLOPE), inputs)
    torch.testing.assert_close(gradient, both(leaks, inputs)[1])
    read = from_onnx(onnx, tmp_path / "relu.onnx")
    values, gradient = both(Ajar(read, SLOPE), points(torch.float32))
    assert torch.equal(values, points(torch.float32).relu())
    assert torch.equal(gradient, torch.where(points() > 0, 1.0, SLOPE).float())


def from_onnx(onnx, path):
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 5])
        for name in "xy"
    ]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "one", value[:1], value[1:])
    operators = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=operators), str(path))
    return load_onnx(str(path)).module


def test_the_outer_of_two_slopes_counts_and_other_modes_go_on():
    model, inputs = Written(functional.relu), points()
    for outer, inner in ((0.5, 0.1), (0.1, 0.5)):
        wanted = both(Ajar(model, outer), inputs)[1]
        found = both(Ajar(Ajar(model, inner), outer), inputs)[1]
        assert torch.equal(found, wanted)
    with torch.device("cpu"):
        assert torch.equal(both(Ajar(model, outer), inputs)[1], wanted)


def test_nothing_is_left_behind_after_an_exception():
    def failing(inputs):
        functional.relu(inputs)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Ajar(failing)(points().requires_grad_())
    model, inputs = Written(functional.relu), points()
    before = both(model, inputs)[1]
    Ajar(model, 1.0)(inputs)
    assert torch.equal(both(model, inputs)[1], before)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_other_threads_see_nothing_of_it():
    model, inputs, found = Written(functional.relu), points(), []

    def meanwhile(values):
        thread = threading.Thread(target=lambda: found.append(both(model, inputs)[1]))
        thread.start()
        thread.join()
        return model(values)

    both(Ajar(meanwhile, 1.0), inputs)
    assert torch.equal(found[0], both(model, inputs)[1])


def test_a_model_in_train_mode_is_searched_in_eval_mode_and_put_back():
    model = seeded(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    ).train()
    state = copy.deepcopy(model.state_dict())

    class Held:
        """Neither a module nor the plain holder of one."""

        def __init__(self, module):
            self.module = module

        def __call__(self, inputs):
            return self.module(inputs)

    problem = sm.Problem(
        Held(model),
        points(),
        torch.zeros(7, dtype=torch.int64),
        sm.CrossEntropy(),
        sm.LinfBall(0.1),
    )
    with pytest.warns(sm.SummiteerWarning, match="train mode"):
        sm.search(problem)
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    "made",
    [
        torch.jit.script,
        lambda model: torch.jit.trace(model, points()),
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.func.vmap(model),
        lambda model: lambda x: torch.func.grad(lambda t: model(t).sum())(x) * x,
        copy.deepcopy,
    ],
    ids=["scripted", "traced", "compiled", "vmap", "gradient within", "copied"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_a_model_is_its_values_are_its_own(made):
    model, inputs = made(mlp(nn.ReLU(), nn.ReLU6())), points()
    own, ajar = both(model, inputs), both(copy.deepcopy(Ajar(model)), inputs)
    assert torch.equal(ajar[0], own[0])
    assert ajar[1].isfinite().all()
