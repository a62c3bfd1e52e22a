"""Whatever could make a module compute something else than its trace is seen."""

import math

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations

from summiteer.networks.piecewise_linear import Rectifier
from traced import Calls, assert_same_function, reason, small, steps_of

torch.set_num_threads(1)
# Layers and settings that are other functions.

OTHERS = [
    (nn.MaxPool2d(4, ceil_mode=True), "ceil_mode"),
    (nn.MaxPool2d(2, return_indices=True), "return_indices"),
    (nn.AvgPool2d(4, ceil_mode=True), "ceil_mode"),
    (nn.AvgPool2d(2, divisor_override=3), "divisor_override"),
    (nn.AvgPool2d(3, padding=1, count_include_pad=False), "count_include_pad"),
    (nn.AdaptiveAvgPool2d(4), "windows of several sizes"),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode"),
    (nn.Conv2d(2, 2, 2, padding="same"), "one side"),
    (nn.Conv2d(3, 2, 1), "a kernel"),
    (nn.Linear(5, 2), "a weight"),
    (nn.BatchNorm2d(2, track_running_stats=False), "no running statistics"),
    (nn.LeakyReLU(1.5), "negative_slope"),
    (nn.LeakyReLU(-0.1), "negative_slope"),
    (nn.ReLU(inplace=True), "the input in place"),
    (nn.Flatten(0), "dimension 0"),
    (nn.Flatten(1, 4), "dimension 4"),
    (nn.Softplus(), "Softplus"),
    (nn.Hardtanh(), "Hardtanh"),
    (nn.Conv1d(2, 2, 1), "Conv1d"),
    (nn.MaxPool2d(2, padding=2), "padding"),
    (nn.Sequential(nn.AvgPool2d(6), nn.MaxPool2d(2, 1, 1, 2)), "lies in the padding"),
]


@pytest.mark.parametrize(("layer", "text"), OTHERS, ids=lambda x: str(x))
def test_other_settings_are_opaque_by_name(layer, text):
    assert text in reason(layer)
    assert text in reason(nn.Sequential(nn.Dropout(), layer))


def relu_of_a_used_value(m, x):
    h = m.first(x)
    return m.bend(h) + h


def relu_of_a_view(m, x):
    h = m.first(x)
    return m.bend(h.view(-1, 2, 6, 6)) + h


def relu_of_an_alias(m, x):
    h = m.first(x)
    same = m.drop(h)
    m.bend(same)
    return h


def added_to_a_used_value(m, x):
    h = m.first(x)
    g = h
    g += m.other(x)
    return g + h


def caught(m, x):
    try:
        return x if x.mean((2, 3)) > 0 else -x
    except Exception:
        return m.first(x)


def with_block(m, x):
    with m.first:
        return m.first(x)


def stored(m, x):
    m.calls = 1
    return m.first(x)


def appended(m, x):
    m.list.append(1)
    return m.first(x)


def list_changed(m, x):
    held = m.list
    held += [1]
    return m.first(x)


def tensor_changed(m, x):
    held = m.plain
    held += 1
    return m.first(x) * m.plain


STRANGE = {
    "a sum": (lambda m, x: x.sum(), "sum"),
    "an unknown function": (lambda m, x: torch.sin(x), "sin"),
    "a stand-in": (lambda m, x: x if isinstance(x, fx.Proxy) else -x, "isinstance"),
    "a type": (lambda m, x: x if type(x) is Tensor else -x, "type"),
    "a tensor": (lambda m, x: x if torch.is_tensor(x) else -x, "is_tensor"),
    "a flag of torch": (
        lambda m, x: x if torch.is_grad_enabled() else -x,
        "is_grad_enabled",
    ),
    "an identity": (lambda m, x: x if m.drop(x) is x else -x, "`is`"),
    "text": (lambda m, x: x if f"{x}" == "x" else -x, "FORMAT"),
    "old text": (lambda m, x: x if "%s" % x == "x" else -x, "%"),  # noqa: UP031
    "data": (lambda m, x: x if x.mean((2, 3)) > 0 else -x, "cannot trace"),
    "random numbers": (lambda m, x: x + torch.rand(6), "rand"),
    "an import": (lambda m, x: __import__("math").pi * x, "__import__"),
    "an error caught": (caught, "PUSH_EXC_INFO"),
    "a context": (with_block, "WITH"),
    "a state": (stored, "STORE_ATTR"),
    "a longer list": (appended, "append"),
    "a list in place": (list_changed, "in place"),
    "a tensor in place": (tensor_changed, "in place"),
    "a global tensor": (lambda m, x: x + SHIFT, "no attribute of the model"),
    "a cast": (lambda m, x: m.first(x.half().double()), "half"),
    "a device": (lambda m, x: m.first(x).to("cpu"), "to"),
    "a detour": (lambda m, x: m.first(x).detach(), "detach"),
    "a product": (lambda m, x: x * m.first(x), "a product of two values"),
    "a quotient": (lambda m, x: 1 / m.first(x), "division"),
    "a division by zero": (lambda m, x: m.first(x) / 0, "division by zero"),
    "infinity": (lambda m, x: m.first(x) + math.inf, "inf"),
    "alpha": (lambda m, x: torch.add(x, m.first(x), alpha=2), "alpha"),
    "a broadcast sum": (lambda m, x: m.first(x) + x.mean((2, 3), True), "rows"),
    "a wider constant": (lambda m, x: x.flatten(1) + m.mean, "a constant"),
    "mixed rows": (lambda m, x: m.first(x).view(-1, 36), "in the shape"),
    "rows in the features": (lambda m, x: x.view(2, -1), "keep the rows first"),
    "a transposition": (lambda m, x: x.transpose(0, 1), "transpose"),
    "an entry": (lambda m, x: x[0], "an indexed value"),
    "two outputs": (lambda m, x: (x, x), "not one computed value"),
    "no output": (lambda m, x: None, "not one computed value"),
    "an error": (lambda m, x: m.missing(x), "missing"),
    "a bend reused": (relu_of_a_used_value, "first in place"),
    "a bend of a view": (relu_of_a_view, "first in place"),
    "a bend of an alias": (relu_of_an_alias, "first in place"),
    "a sum reused": (added_to_a_used_value, "first in place"),
    "the input in place": (lambda m, x: m.bend(x.view(-1, 72)), "the input in place"),
    "training": (lambda m, x: functional.dropout(x), "training"),
    "another output": (lambda m, x: torch.abs(x, out=x), "an unknown argument"),
    "limits": (lambda m, x: x.clamp(0, 1), "limits"),
    "a new layer": (lambda m, x: nn.ReLU()(x), "ReLU"),
    "a hidden layer": (lambda m, x: m.list[0](x), "cannot trace"),
}
SHIFT = torch.ones(6)


@pytest.mark.parametrize("name", STRANGE)
def test_other_code_is_opaque_with_the_reason(name):
    forward, text = STRANGE[name]
    model = Calls(
        forward,
        bend=nn.ReLU(inplace=True),
        drop=nn.Dropout(),
        list=[nn.Conv2d(2, 2, 1)],
    )
    plain = model.plain.clone()
    assert text in reason(model)
    assert len(model.list) == 1
    assert torch.equal(model.plain, plain)


# Tampering.


@pytest.mark.parametrize("place", [lambda m: m, lambda m: m[0], lambda m: m[0][1]])
@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_hide_a_network_while_they_hang_anywhere(register, place):
    model = small()
    handle = getattr(place(model), register)(lambda *_: None)
    assert "hooks in" in reason(model, (3,))
    handle.remove()
    steps_of(model, (3,))


@pytest.mark.parametrize(
    "register", ["register_module_forward_hook", "register_module_forward_pre_hook"]
)
def test_global_hooks_hide_every_network(register):
    handle = getattr(torch_module, register)(lambda *_: None)
    try:
        assert "global module hooks" in reason(small(), (3,))
    finally:
        handle.remove()
    steps_of(small(), (3,))


@pytest.mark.parametrize("place", [lambda m: m, lambda m: m[0], lambda m: m[1]])
@pytest.mark.parametrize("name", ["forward", "_call_impl", "_compiled_call_impl"])
def test_methods_on_an_instance_are_seen(place, name):
    model = small()
    vars(place(model))[name] = lambda x: x
    assert f"its own {name}" in reason(model, (3,))


class MyLinear(nn.Linear):
    pass


class CallsItself(nn.Module):
    def __call__(self, x):
        return 2 * x

    def forward(self, x):
        return x


class Looks(nn.Module):
    def __getattr__(self, name):
        return super().__getattr__(name)

    def forward(self, x):
        return x


class Stays(nn.Sequential):
    def train(self, mode=True):
        return self

    def eval(self):
        return self


class Hides(nn.Module):
    def __init__(self):
        super().__init__()
        self.bend = nn.Softplus()

    def named_modules(self, *args, **options):
        return iter(())

    def forward(self, x):
        return self.bend(x)


def test_other_classes_are_seen():
    assert "sub-class of Linear" in reason(nn.Sequential(MyLinear(3, 2)), (3,))
    assert "its own __call__" in reason(nn.Sequential(CallsItself()), (3,))
    assert "its own __getattr__" in reason(Looks(), (3,))
    assert "its own " in reason(Stays(nn.Linear(3, 2)), (3,))
    assert "its own named_modules" in reason(Hides(), (3,))
    assert reason(nn.DataParallel(small()), (3,))
    assert reason(fx.symbolic_trace(small()), (3,))
    assert reason(nn.Module(), (3,))
    assert reason(torch.compile(small(), backend="eager"), (3,))


class Odd(torch.Tensor):
    pass


def test_other_weights_are_seen():
    model = small()
    parametrizations.weight_norm(model[1], "weight")
    assert "ParametrizedLinear" in reason(model, (3,))
    model = small()
    del model[1].weight
    model[1].weight = torch.zeros(4, 4).as_subclass(Odd)
    assert "Odd" in reason(model, (3,))
    model = small()
    model[1].extra = nn.ReLU()
    assert "sub-modules" in reason(model, (3,))
    for value in (math.nan, math.inf):
        model = small()
        with torch.no_grad():
            model[1].bias[0] = value
        assert "not finite" in reason(model, (3,))
    model = small()
    model[1].bias = nn.Parameter(torch.zeros(4, dtype=torch.complex64))
    assert "complex64" in reason(model, (3,))
    assert reason(small().to("meta"), (3,))
    norm = nn.BatchNorm1d(3)
    norm.running_var[0] = -1
    assert "variance" in reason(norm, (3,))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (nn.Linear, "forward"),
        (nn.Sequential, "forward"),
        (nn.Module, "__call__"),
        (nn.Module, "_call_impl"),
        (nn.ReLU, "__init__"),
    ],
)
def test_patched_classes_are_seen_until_restored(monkeypatch, owner, name):
    original = getattr(owner, name)
    model = small()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *args, **kw: original(*args, **kw))
        assert "was changed after import" in reason(model, (3,))
    steps_of(model, (3,))


@pytest.mark.parametrize("name", ["relu", "linear", "max_pool2d", "batch_norm"])
def test_replaced_functions_are_seen_until_restored(monkeypatch, name):
    original = getattr(functional, name)
    with monkeypatch.context() as patch:
        patch.setattr(functional, name, lambda *args, **kw: original(*args, **kw))
        assert f"{name} was replaced" in reason(small(), (3,))
    steps_of(small(), (3,))


def test_recognition_is_asked_anew_each_time():
    model = small()
    first = steps_of(model, (3,))
    model[0][1] = nn.LeakyReLU(0.5)
    again = assert_same_function(model, (3,))
    slopes = [
        [s.operation.slope for s in n.steps if isinstance(s.operation, Rectifier)]
        for n in (first, again)
    ]
    assert slopes == [[0.0, 0.0], [0.5, 0.0]]
    model[2] = nn.Softplus()
    assert "Softplus" in reason(model, (3,))


class Refuses(nn.Module):
    def forward(self, x):
        raise KeyboardInterrupt if x is None else ValueError("no\nthank you")


def test_no_error_of_the_forward_escapes():
    assert reason(Refuses(), (3,))
    assert reason(small(), (4,))
    assert reason(small(), ())
    assert reason(small(), (0,))
