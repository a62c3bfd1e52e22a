"""Two-layer networks against plain formulas and automatic differentiation."""

import copy
import io
import math
import pickle
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from summiteer.errors import UserError
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.activations import ACTIVATIONS

torch.set_num_threads(1)

#: σ by its textbook formula, in torch's elementary functions.
PLAIN = {
    "softplus": lambda t: torch.log1p(torch.exp(t)),
    "tanh": lambda t: 2 / (1 + torch.exp(-2 * t)) - 1,
    "sigmoid": lambda t: 1 / (1 + torch.exp(-t)),
    "erf": torch.erf,
    "gelu": lambda t: t * (1 + torch.erf(t / math.sqrt(2))) / 2,
    "silu": lambda t: t / (1 + torch.exp(-t)),
    "sin": torch.sin,
    "quadratic": lambda t: t * t / 2,
    "relu": lambda t: t.clamp(min=0),
    "leaky_relu": lambda t: t.clamp(min=0) + 0.01 * t.clamp(max=0),
    "abs": lambda t: torch.maximum(t, -t),
}
#: Closed form and automatic differentiation both round to about 1e-15; their sums of
#: 11 terms may cancel by a few digits, so 1e-10 is what issue 2 asks for.
RELATIVE = 1e-10

over_activations = pytest.mark.parametrize("name", list(ACTIVATIONS))


def rand(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(
    name: str, outputs: int | None = None, biases: bool = True, width: int = 11
) -> TwoLayerNetwork:
    heads = () if outputs is None else (outputs,)
    return TwoLayerNetwork(
        rand(width, 5, seed=1),
        rand(*heads, width, seed=2),
        rand(width, seed=3) if biases else None,
        rand(*heads, 1, seed=4)[..., 0] if biases else None,
        activation=name,
    )


def each(function, inputs: Tensor) -> Tensor:
    return torch.stack([function(x) for x in inputs])


def slope(function):
    return lambda x: jacobian(function, x, create_graph=True)


def plain(net: TwoLayerNetwork, name: str):
    weights = [p.detach() for p in net.parameters()]

    def function(x: Tensor) -> Tensor:
        hidden, output, bias, shift = weights
        return output @ PLAIN[name](hidden @ x + bias) + shift

    return function


def close(actual: Tensor, expected: Tensor) -> bool:
    assert actual.shape == expected.shape
    error = (actual - expected).detach().norm()
    return bool(error <= RELATIVE * expected.detach().norm())


@over_activations
@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("biases", [False, True])
def test_closed_forms_are_the_derivatives_of_the_formula(name, outputs, biases):
    net = network(name, outputs, biases)
    function = plain(net, name)
    inputs, vectors = rand(7, 5, seed=5), rand(7, 5, seed=6)
    assert close(net(inputs), each(function, inputs))
    assert close(net.gradient(inputs), each(slope(function), inputs))
    if not ACTIVATIONS[name].smooth:
        assert not net.hessian(inputs).any()
    else:
        bend = each(slope(slope(function)), inputs)
        assert close(net.hessian(inputs), bend)
        product = torch.einsum("b...ij,bj->b...i", bend, vectors)
        assert close(net.hessian_product(inputs, vectors), product)


@over_activations
@pytest.mark.parametrize("outputs", [None, 3])
def test_autograd_through_forward_agrees_with_the_closed_forms(name, outputs):
    net = network(name, outputs)
    inputs = rand(6, 5, seed=7)
    pick = None if outputs is None else 1

    def one(x: Tensor) -> Tensor:
        return net(x[None])[0] if pick is None else net(x[None])[0, pick]

    def head(values: Tensor) -> Tensor:
        return values if pick is None else values[:, pick]

    assert close(each(slope(one), inputs), head(net.gradient(inputs)))
    assert close(each(slope(slope(one)), inputs), head(net.hessian(inputs)))


@over_activations
def test_float32_is_close_to_float64(name):
    net = network(name)
    inputs = rand(9, 5, seed=8).float()
    expected = net(inputs.double())
    single = copy.deepcopy(net).to(torch.float32)
    assert single(inputs).dtype == torch.float32
    scale = float((net.output_weights.abs() @ rand(11, seed=9).abs()).detach()) + 10
    # 20 roundings of 6e-8 of numbers below `scale`: this is the looser statement.
    error = (single(inputs).double() - expected).detach().abs().max()
    assert float(error) < 1e-5 * scale
    assert single.gradient(inputs).dtype == torch.float32
    assert single.hessian(inputs).dtype == torch.float32


def test_far_inputs_give_finite_values_and_derivatives():
    for name in ACTIVATIONS:
        net = network(name)
        inputs = 1e4 * rand(4, 5, seed=3)
        for result in (net(inputs), net.gradient(inputs), net.hessian(inputs)):
            assert result.isfinite().all(), name


def test_hessians_in_chunks_equal_those_in_one_piece(monkeypatch):
    net = network("tanh", 3)
    inputs = rand(10, 5)
    whole = net.hessian(inputs)
    monkeypatch.setattr("summiteer.networks.two_layer._CHUNK", 2 * 55)
    # Batched products of other sizes may round differently.
    assert torch.allclose(net.hessian(inputs), whole, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("outputs", [None, 3])
def test_nothing_here_is_deprecated(outputs):
    """`x.T` of a vector warns, once per process: here always."""
    net, inputs = network("tanh", outputs), rand(2, 5)
    torch.set_warn_always(True)
    try:
        results = net(inputs), net.gradient(inputs), net.hessian(inputs)
        assert net.hessian_product(inputs, inputs).shape == results[1].shape
    finally:
        torch.set_warn_always(False)


def test_the_output_bias_is_a_number_or_one_per_output():
    hidden, output = rand(4, 2), rand(3, 4)
    inputs = rand(5, 2)
    base = TwoLayerNetwork(hidden, output)(inputs)
    shifted = TwoLayerNetwork(hidden, output, output_bias=2.0)
    assert shifted.output_bias.shape == (3,)
    assert torch.allclose(shifted(inputs), base + 2.0, rtol=1e-14)
    shifts = torch.tensor([1.0, 2.0, 3.0])
    vector = TwoLayerNetwork(hidden, output, output_bias=shifts)
    assert torch.allclose(vector(inputs), base + shifts, rtol=1e-14)
    one = TwoLayerNetwork(hidden, output[0], output_bias=0.5)
    assert one.output_bias.shape == ()
    assert one(inputs).shape == (5,)
    assert TwoLayerNetwork(hidden, output[:1])(inputs).shape == (5, 1)


def test_weights_are_copied_and_arrays_are_accepted():
    hidden, output = rand(4, 2), rand(4)
    net = TwoLayerNetwork(hidden, output)
    hidden.zero_()
    assert bool(net.hidden_weights.any())
    same = TwoLayerNetwork(net.hidden_weights, net.output_weights)
    assert same.hidden_weights.data_ptr() != net.hidden_weights.data_ptr()
    array = TwoLayerNetwork(np.ones((4, 2)), [1, 2, 3, 0.1], [0.1] * 4, 0.1)
    # Python numbers keep their float64 digits.
    for weight in array.parameters():
        assert weight.dtype == torch.float64
        assert float(weight.detach().flatten()[-1]) in {1.0, 0.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2]], [1.0]), r"hidden_weights: .* matrix \[m, d\], got torch.int64"),
        ((rand(4), rand(4)), r"hidden_weights: .* got torch.float64 \[4\]"),
        ((rand(0, 3), rand(0)), r"hidden_weights: .* got torch.float64 \[0, 3\]"),
        ((rand(4, 2), rand(3)), r"output_weights: expected \[m\] .* got \[3\]"),
        ((rand(4, 2), rand(1, 3, 4)), r"output_weights: .* got \[1, 3, 4\]"),
        ((rand(4, 2), torch.tensor(1.0)), r"output_weights: .* got \[\]"),
        ((rand(4, 2), rand(0, 4)), r"output_weights: .* got \[0, 4\]"),
        ((rand(4, 2), rand(4), rand(2)), r"hidden_bias: expected \[m\] .* got \[2\]"),
        ((rand(4, 2), rand(4), None, rand(1)), r"output_bias: .* number.* got \[1\]"),
        ((rand(4, 2), rand(3, 4), None, rand(4)), r"output_bias: .* got \[4\]"),
        ((rand(4, 2) / 0, rand(4)), "hidden_weights: every entry must be finite"),
        ((rand(4, 2), rand(4) * math.nan), "output_weights: every entry must be"),
        ((rand(4, 2), rand(4), rand(4) / 0), "hidden_bias: every entry must be"),
        ((rand(4, 2), rand(4), None, math.inf), "output_bias: every entry must be"),
        ((rand(4, 2), rand(4), None, 0.0, "elu"), "activation must be one of .*'elu'"),
    ],
)
def test_the_constructor_says_what_is_wrong(arguments, message):
    with pytest.raises(UserError, match=message):
        TwoLayerNetwork(*arguments)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 5, 1), (2, 8, 8)])
def test_inputs_are_rows_of_vectors(shape):
    with pytest.raises(UserError, match=r"inputs: .* \[rows, 5\], got .*flatten\(1\)"):
        network("tanh")(rand(*shape))


def test_state_dict_pickle_and_deepcopy_keep_the_function():
    inputs = rand(3, 5)
    for outputs in (None, 3):
        net = network("gelu", outputs)
        other = TwoLayerNetwork(
            torch.zeros(11, 5, dtype=torch.float64),
            torch.zeros_like(net.output_weights),
            activation="gelu",
        )
        stream = io.BytesIO()
        torch.save(net.state_dict(), stream)
        stream.seek(0)
        other.load_state_dict(torch.load(stream, weights_only=True))
        again = pickle.loads(pickle.dumps(net))
        for copied in (other, again, copy.deepcopy(net)):
            assert torch.equal(copied(inputs), net(inputs))
            assert copied.activation == net.activation
        assert "activation=gelu" in repr(net)


def test_double_of_a_single_network_keeps_its_weights():
    net = TwoLayerNetwork.random(5, 8, dtype=torch.float32)
    twice = copy.deepcopy(net).double()
    assert twice.hidden_weights.dtype == torch.float64
    assert torch.equal(twice.hidden_weights.float(), net.hidden_weights)


# -- random -------------------------------------------------------------------------


def test_random_is_the_papers_initialisation():
    net = TwoLayerNetwork.random(60, 500, weight_std=0.7, seed=3)
    weights = net.hidden_weights.detach()
    # 30000 numbers: standard errors of mean and deviation are 0.004 and 0.0029.
    assert abs(float(weights.mean())) < 5 * 0.7 / 30000**0.5
    assert abs(float(weights.std()) - 0.7) < 5 * 0.7 / 60000**0.5
    assert set(net.output_weights.abs().tolist()) == {1 / 500**0.5}
    # The sum of 500 fair signs has standard deviation 22.4.
    assert abs(int(net.output_weights.detach().sign().sum())) < 5 * 22.4
    assert not net.hidden_bias.any()
    assert not net.output_bias.any()


def test_signs_do_not_depend_on_the_weights():
    net = TwoLayerNetwork.random(1, 4000, bias_std=1.0, seed=5)
    columns = torch.stack(
        [net.hidden_weights[:, 0], net.output_weights, net.hidden_bias]
    ).detach()
    correlation = torch.corrcoef(columns) - torch.eye(3)
    # Standard error 1/√4000 = 0.016.
    assert float(correlation.abs().max()) < 5 * 0.016


def test_random_depends_on_its_seed_alone():
    def state() -> tuple:
        return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].sum()  # noqa: NPY002

    torch.manual_seed(1)
    before = state()
    first = TwoLayerNetwork.random(6, 9, "tanh", seed=7, bias_std=1.0)
    after = state()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(2)
    second = TwoLayerNetwork.random(6, 9, "tanh", seed=7, bias_std=1.0)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    other = TwoLayerNetwork.random(6, 9, "tanh", seed=8, bias_std=1.0)
    assert not torch.equal(other.hidden_weights, first.hidden_weights)
    # A wider network has the narrower one's neurons: numbers have names.
    wider = TwoLayerNetwork.random(6, 12, "tanh", seed=7)
    assert torch.equal(wider.hidden_weights[:9], first.hidden_weights)


def test_random_in_float32_is_the_rounded_network():
    double = TwoLayerNetwork.random(6, 9, seed=7)
    single = TwoLayerNetwork.random(6, 9, seed=7, dtype=torch.float32)
    assert torch.equal(single.hidden_weights, double.hidden_weights.float())
    assert torch.equal(single.output_weights, double.output_weights.float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dim": 0}, "input_dim: expected an integer ≥ 1, got 0"),
        ({"width": -3}, "width: expected an integer ≥ 1, got -3"),
        ({"width": 2.5}, "width: expected an integer ≥ 1, got 2.5"),
        ({"weight_std": -1.0}, "weight_std: expected a finite number ≥ 0, got -1.0"),
        ({"bias_std": math.nan}, "bias_std: expected a finite number ≥ 0, got nan"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"activation": "elu"}, "activation must be one of"),
        ({"dtype": torch.int64}, "hidden_weights: expected a floating-point"),
    ],
)
def test_random_says_what_is_wrong(options, message):
    with pytest.raises(UserError, match=message):
        TwoLayerNetwork.random(**{"input_dim": 3, "width": 4, **options})


# -- from_module --------------------------------------------------------------------


def sequence(middle: nn.Module, outputs: int = 1, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(5, 7, bias=bias), middle, nn.Linear(7, outputs, bias=bias)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(
    "middle",
    [nn.Softplus(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.ReLU()],
    ids=lambda middle: type(middle).__name__,
)
@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_from_module_is_the_same_function(middle, outputs, bias):
    module = sequence(middle, outputs, bias)
    net = TwoLayerNetwork.from_module(module)
    inputs = rand(20, 5)
    expected = module(inputs)
    assert net.outputs == (None if outputs == 1 else outputs)
    expected = expected[:, 0] if outputs == 1 else expected
    # Same sums in another order.
    assert torch.allclose(net(inputs), expected, rtol=1e-12, atol=1e-13)
    assert net.hidden_weights.data_ptr() != module[0].weight.data_ptr()


def test_torch_softplus_differs_from_ours_by_its_threshold_only():
    module = sequence(nn.Softplus())
    inputs = 40 * rand(200, 5)
    net = TwoLayerNetwork.from_module(module)
    difference = (net(inputs) - module(inputs)[:, 0]).abs().max().detach()
    weights = float(module[2].weight.detach().abs().sum())
    # log(1 + e^-20) = 2.07e-9 per neuron at most; values here are below 1e3.
    assert 0 < float(difference) <= 2.07e-9 * weights + 1e-12


class Doubled(nn.Sequential):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Named(nn.Sequential):
    """A sub-class that changes nothing."""


def hooked(module: nn.Sequential, part: int | None) -> nn.Sequential:
    target = module if part is None else module[part]
    target.register_forward_hook(lambda *_: None)
    return module


def overridden(module: nn.Sequential) -> nn.Sequential:
    module[1].forward = torch.sin
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(2, 2), r"module: expected nn.Sequential\(.*got Linear\(\)"),
        (lambda x: x, r"module: expected .* got function\(\)"),
        (nn.Sequential(), r"got Sequential\(\)"),
        (sequence(nn.Tanh())[:2], r"got Sequential\(Linear, Tanh\)"),
        (
            nn.Sequential(*sequence(nn.Tanh()), nn.Softmax(1)),
            r"got Sequential\(Linear, Tanh, Linear, Softmax\)",
        ),
        (nn.Sequential(nn.Tanh(), *sequence(nn.Tanh())[:2]), "Tanh, Linear, Tanh"),
        (Doubled(*sequence(nn.Tanh())), r"got Doubled\(\)"),
        (sequence(nn.ELU()), r"activation ELU\(alpha=1.0\) has no closed form"),
        (sequence(nn.Softplus(beta=2)), r"Softplus\(beta=2.* no closed form"),
        (sequence(nn.Softplus(threshold=1)), "threshold=1.* no closed form"),
        (sequence(nn.GELU("tanh")), "GELU.*tanh.* no closed form"),
        (hooked(sequence(nn.Tanh()), None), "Sequential has more than its weights"),
        (hooked(sequence(nn.Tanh()), 2), "Linear has more .*_forward_hooks"),
        (overridden(sequence(nn.Tanh())), "Tanh has more .*its own forward"),
        (
            nn.utils.parametrizations.weight_norm(sequence(nn.Tanh())[0]),
            r"got ParametrizedLinear\(\)",
        ),
    ],
)
def test_from_module_refuses_other_functions(module, message):
    with pytest.raises(UserError, match=message):
        TwoLayerNetwork.from_module(module)


def test_from_module_accepts_a_subclass_that_changes_nothing():
    module = Named(*sequence(nn.Tanh()))
    net = TwoLayerNetwork.from_module(module)
    assert torch.allclose(net(rand(3, 5)), module(rand(3, 5))[:, 0])


def test_from_module_refuses_weights_that_are_not_finite():
    module = sequence(nn.Tanh())
    with torch.no_grad():
        module[0].weight[0, 0] = math.nan
    with pytest.raises(UserError, match="hidden_weights: every entry must be finite"):
        TwoLayerNetwork.from_module(module)
