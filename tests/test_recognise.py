"""Recognition is exact or nothing: whatever could change the function is Opaque."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations, parametrize, prune

from summiteer.networks import Opaque, TwoLayer, TwoLayerNetwork, recognise
from summiteer.networks.activations import ACTIVATIONS, Activation
from summiteer.networks.activations.logistic import Softplus

torch.set_num_threads(1)


def network(**options) -> TwoLayerNetwork:
    return TwoLayerNetwork.random(3, 4, **options)


def reason(model) -> str:
    structure = recognise(model)
    assert isinstance(structure, Opaque)
    assert structure.reason
    return structure.reason


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_network_of_ours_is_recognised(name):
    net = network(activation=name)
    structure = recognise(net)
    assert isinstance(structure, TwoLayer)
    assert structure.network is net
    rebuilt = TwoLayerNetwork(*net.state_dict().values(), activation=ACTIVATIONS[name])
    copies = copy.deepcopy(net), pickle.loads(pickle.dumps(net)), rebuilt
    changed = net.float().eval().requires_grad_(False), net.double().train()
    for same in (*copies, *changed):
        assert isinstance(recognise(same), TwoLayer)


def test_use_and_training_do_not_hide_a_network():
    net = network()
    net(torch.randn(2, 3, dtype=torch.float64)).sum().backward()
    net.load_state_dict(net.state_dict())
    net.note = "a harmless attribute"
    assert isinstance(recognise(net), TwoLayer)


class Child(TwoLayerNetwork):
    pass


def test_other_types_are_opaque_by_name():
    net = network()
    assert reason(Child.random(3, 4)) == "Child is a sub-class of TwoLayerNetwork"
    strange = "the sequence is not Linear, a known activation, Linear"
    assert reason(nn.Sequential(net)) == strange
    assert reason(nn.Sequential(nn.Linear(3, 1), nn.Softplus())) == strange
    assert reason(nn.DataParallel(net)) == "DataParallel is not a TwoLayerNetwork"
    assert reason(lambda x: net(x)) == "function is not a TwoLayerNetwork"
    assert reason(net.forward) == "method is not a TwoLayerNetwork"
    assert reason(nn.Linear(3, 1)) == "Linear is not a TwoLayerNetwork"


def sequence(layer):
    return nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 2)).double()


SAME = [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(), nn.ReLU(), nn.LeakyReLU()]
# Softplus is the identity above its threshold (mathematics.md §10.2).
OTHER = [nn.Softplus(), nn.GELU("tanh"), nn.ELU(), nn.Identity()]


@pytest.mark.parametrize("layer", SAME, ids=repr)
def test_sequences_of_torch_are_the_networks_that_they_are(layer):
    model, inputs = sequence(layer), torch.randn(4, 3, dtype=torch.float64)
    found = recognise(model)
    assert isinstance(found, TwoLayer)
    assert torch.allclose(found.network(inputs), model(inputs), rtol=1e-14, atol=1e-15)
    model[0].register_forward_hook(lambda *_: None)
    assert not isinstance(recognise(model), TwoLayer)


@pytest.mark.parametrize("layer", OTHER, ids=repr)
def test_sequences_of_other_functions_are_opaque(layer):
    assert not isinstance(recognise(sequence(layer)), TwoLayer)


@pytest.mark.parametrize(
    ("register", "name"),
    [
        ("register_forward_hook", "_forward_hooks"),
        ("register_forward_pre_hook", "_forward_pre_hooks"),
        ("register_full_backward_hook", "_backward_hooks"),
        ("register_full_backward_pre_hook", "_backward_pre_hooks"),
    ],
)
def test_hooks_hide_a_network_while_they_hang_on_it(register, name):
    net = network()
    handle = getattr(net, register)(lambda *_: None)
    assert reason(net) == f"the network has hooks in {name}"
    handle.remove()
    assert isinstance(recognise(net), TwoLayer)


@pytest.mark.parametrize(
    "register",
    [
        "register_module_forward_hook",
        "register_module_forward_pre_hook",
        "register_module_full_backward_hook",
        "register_module_full_backward_pre_hook",
    ],
)
def test_global_hooks_hide_every_network(register):
    net = network()
    handle = getattr(torch_module, register)(lambda *_: None)
    try:
        assert "global module hooks" in reason(net)
    finally:
        handle.remove()
    assert isinstance(recognise(net), TwoLayer)


@pytest.mark.parametrize(
    "name", ["forward", "preactivations", "gradient", "hessian_product", "_call_impl"]
)
def test_a_method_on_the_instance_is_seen(name):
    net = network()
    vars(net)[name] = lambda inputs: inputs.sum(1)
    assert reason(net) == f"the network has its own {name}"


def test_a_compiled_network_is_another_program():
    net = network()
    net._compiled_call_impl = lambda inputs: inputs.sum(1)  # what net.compile() sets
    assert reason(net) == "the network has its own _compiled_call_impl"


def test_reparametrised_and_pruned_networks_are_opaque():
    net = network()
    parametrizations.weight_norm(net, "hidden_weights")
    assert (
        reason(net) == "ParametrizedTwoLayerNetwork is a sub-class of TwoLayerNetwork"
    )
    parametrize.remove_parametrizations(net, "hidden_weights")
    assert isinstance(recognise(net), TwoLayer)
    prune.l1_unstructured(net, "hidden_weights", 0.5)
    assert "_forward_pre_hooks" in reason(net)
    prune.remove(net, "hidden_weights")
    assert isinstance(recognise(net), TwoLayer)


def test_sub_modules_are_seen():
    net = network()
    net.extra = nn.Linear(1, 1)
    assert reason(net) == "the network has sub-modules"


class Mine(Activation):
    name = "mine"

    def value(self, t):
        return torch.sin(3 * t)

    first = second = third = value

    def _rounding(self, order, t, value):
        return t


class Steeper(Softplus):
    def value(self, t):
        return 2 * super().value(t)


@pytest.mark.parametrize("sigma", [Mine(), Steeper()])
def test_an_activation_of_the_users_is_not_trusted(sigma):
    net = network(activation=sigma)
    assert net(torch.zeros(1, 3, dtype=torch.float64)).shape == (1,)
    assert reason(net) == "the activation is not one of the package's own"


class Odd(torch.Tensor):
    pass


def test_weights_of_another_tensor_type_are_seen():
    net = network()
    del net.hidden_weights
    net.hidden_weights = torch.zeros(4, 3, dtype=torch.float64).as_subclass(Odd)
    assert reason(net) == "a weight is a Odd, not a plain tensor"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (TwoLayerNetwork, "forward"),
        (TwoLayerNetwork, "preactivations"),
        (TwoLayerNetwork, "gradient"),
        (TwoLayerNetwork, "outputs"),
        (TwoLayerNetwork, "__call__"),
        (TwoLayerNetwork, "__getattribute__"),
        (nn.Module, "__call__"),
        (Softplus, "value"),
        (Softplus, "sup_second"),
        (Activation, "sup_abs_second"),
    ],
)
def test_patched_classes_are_seen_until_restored(monkeypatch, owner, name):
    net = network()
    original = getattr(owner, name)
    with monkeypatch.context() as patch:
        if name == "outputs":
            patch.setattr(owner, name, property(lambda self: None))
        else:
            patch.setattr(owner, name, lambda *args, **kw: original(*args, **kw))
        assert reason(net) == f"the class {owner.__name__} was changed after import"
    assert isinstance(recognise(net), TwoLayer)


def test_other_changes_to_torch_do_not_matter(monkeypatch):
    monkeypatch.setattr(nn.Module, "to", nn.Module.to.__get__(None, nn.Module))
    assert isinstance(recognise(network()), TwoLayer)
