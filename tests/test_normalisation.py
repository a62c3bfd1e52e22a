"""A normalisation inside the model: its numbers, proofs behind it, misuse."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.networks import PiecewiseLinear
from summiteer.networks.reference import digits_mlp
from summiteer.networks.standardise import Standardise

MAXIMA = ("GLOBAL_MAXIMUM", "STRICT_LOCAL_MAXIMUM", "LOCAL_MAXIMUM")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(count=4, channels=3, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    shape = (count, channels, 5, 4)
    return torch.rand(shape, generator=draws, dtype=torch.float64).to(dtype)


def test_channels_are_normalised_by_their_own_numbers():
    layer = Standardise(MEAN, STD, torch.float64)
    inputs = images()
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        wanted = (inputs[:, channel] - mean) / std
        # Numbers of Python keep all of their digits.
        assert torch.equal(layer(inputs)[:, channel], wanted)
    assert torch.equal(Standardise(0.5, 2)(torch.ones(2, 3)), torch.full((2, 3), 0.25))
    rows = torch.rand(2, 3)
    assert torch.equal(
        Standardise([1, 2, 3], [1, 2, 4])(rows),
        (rows - torch.tensor([1.0, 2, 3])) / torch.tensor([1.0, 2, 4]),
    )
    mixed = Standardise(0.0, STD, torch.float64)
    assert torch.equal(mixed(inputs)[:, 2], inputs[:, 2] / STD[2])


def test_it_follows_the_model_to_other_dtypes_and_state_dicts():
    model = nn.Sequential(Standardise(MEAN, STD), nn.Flatten(), nn.Linear(60, 2))
    assert {"0.mean", "0.std"} <= set(model.state_dict())
    assert not [name for name, _ in model.named_parameters() if name[0] == "0"]
    assert model.double()(images()).dtype == torch.float64
    assert "0.485" in repr(model)
    assert "60 numbers" in repr(Standardise(torch.zeros(60), torch.ones(60)))


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.0, 0.0, "std: expected numbers > 0"),
        (0.0, -1.0, "std: expected numbers > 0"),
        (0.0, (1.0, 0.0), "std: expected numbers > 0"),
        (float("nan"), 1.0, "mean: expected finite"),
        (0.0, float("inf"), "std: expected finite"),
        (0.0, 1e-60, "std: expected numbers > 0"),  # zero in float32
        ("grey", 1.0, "mean: expected numbers"),
        ((), 1.0, "mean: expected finite"),
        ((1.0, 2.0), (1.0, 2.0, 3.0), "2 and 3 numbers"),
    ],
)
def test_numbers_that_normalise_nothing_are_refused(mean, std, text):
    with pytest.raises(sm.UserError, match=text):
        Standardise(mean, std)


def test_a_wrong_count_of_channels_is_refused_and_not_broadcast():
    for channels in (1, 2, 4):
        with pytest.raises(sm.UserError, match="3 numbers for inputs"):
            Standardise(MEAN, STD, torch.float64)(images(channels=channels))


def test_it_is_recognised_as_two_exact_steps():
    draws = torch.Generator().manual_seed(0)
    conv = nn.Sequential(
        Standardise(MEAN, STD), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()
    )
    found = sm.recognise(conv, (3, 5, 4))
    assert isinstance(found, PiecewiseLinear)
    moved, divided = found.steps[:2]
    inputs = torch.rand(2, 3, 5, 4, generator=draws, dtype=torch.float64)
    # (x - m)/s with the float32 numbers that the layer holds, in rationals: the bound
    # of two roundings of numbers of the size (|x| + |m|)/s.
    got = divided.operation.apply(moved.operation.apply(inputs))
    layer = conv[0]
    for index in ((0, 0, 0, 0), (1, 1, 2, 3), (1, 2, 4, 1)):
        m, s = (Fraction(float(t[index[1]])) for t in (layer.mean, layer.std))
        x = Fraction(float(inputs[index]))
        error = abs((x - m) / s - Fraction(float(got[index])))
        assert error <= 3 * Fraction(2) ** -53 * (abs(x) + abs(m)) / s
        sizes = inputs[[index[0]]]
        size = divided.operation.magnify(moved.operation.magnify(sizes))
        assert float((abs(x) + abs(m)) / s) <= float(size[0][index[1:]]) * (1 + 1e-14)


class _Altered(Standardise):
    def forward(self, inputs):
        return super().forward(inputs) ** 2


def test_what_is_not_exactly_it_is_not_recognised():
    rest = (nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert not isinstance(
        sm.recognise(nn.Sequential(_Altered(0.5, 2.0), *rest), (3,)), PiecewiseLinear
    )
    hidden = Standardise(0.5, 2.0)
    hidden.forward = lambda inputs: inputs**2
    hooked = Standardise(0.5, 2.0)
    hooked.register_forward_hook(lambda module, args, output: output**2)
    parameter = Standardise(0.5, 2.0)
    parameter.mean = torch.tensor([float("nan")])
    for first in (hidden, hooked, parameter):
        found = sm.recognise(nn.Sequential(first, *rest), (3,))
        assert not isinstance(found, PiecewiseLinear), first
    assert isinstance(
        sm.recognise(nn.Sequential(Standardise(0.5, 2.0), *rest), (3,)), PiecewiseLinear
    )


def test_verdicts_behind_it_are_those_of_the_normalised_problem():
    """Scaling by a power of two is exact: the same network, the same points."""
    net = digits_mlp().double()
    data = sm.load_data("digits")
    inputs, labels = data.inputs[:6], data.targets[:6]
    # x -> (x - 0)/½ has the inputs x and the radius r where the other has 2x and 2r.
    behind = nn.Sequential(Standardise(0.0, 0.5, torch.float64), net).eval()
    found = sm.attack(
        behind, inputs, labels, region=sm.LinfBall(0.05), objective=sm.Margin()
    )
    direct = sm.attack(
        net,
        2 * inputs,
        labels,
        region=sm.LinfBall(0.1),
        box=(0.0, 2.0),
        objective=sm.Margin(),
    )
    assert torch.equal(2 * found.perturbations, direct.perturbations)
    assert found.robust_accuracy == direct.robust_accuracy
    proved = [(attack.arrays["evidence"] == 0).sum() for attack in (found, direct)]
    assert proved[0] == proved[1] > 4
    # Closed forms of two-layer networks, which prove some maxima global, are not used.
    maxima = {sm.Verdict[name] for name in MAXIMA}
    for name, kinds in found.result["verdicts"].items():
        if sm.Verdict[name] not in maxima:
            assert kinds == direct.result["verdicts"][name]


def test_smooth_networks_behind_it_are_measured_not_proved():
    net = nn.Sequential(Standardise(0.5, 0.25), *digits_mlp(activation=nn.Tanh))
    data = sm.load_data("digits")
    found = sm.attack(
        net.eval(),
        data.inputs[:4].float(),
        data.targets[:4],
        region=sm.L2Ball(0.1),
        effort="standard",
    )
    assert all("PROVED" not in kinds for kinds in found.result["verdicts"].values())
