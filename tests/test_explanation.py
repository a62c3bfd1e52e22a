import re

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.optimality.claims import NUMBERS
from summiteer.optimality.explanation import _ADVICE, explanation

NAN = float("nan")


class Told:
    """A certificate of one example, with what a test states and nothing else."""

    def __init__(self, verdict, evidence=sm.Evidence.PROVED, **stated):
        self.within, self.indices = 1e-3, {}
        self.verdict, self.evidence = (verdict,), (evidence,)
        self.reason, self.subject = ("a reason",), ("0" * 64,)
        self.proposition = (stated.pop("proposition", ""),)
        self.unproved = (stated.pop("unproved", ""),)
        for name in NUMBERS:
            value = stated.pop(name, NAN)
            setattr(self, name, torch.tensor([value], dtype=torch.float64))
        assert not stated


def line(told):
    """The one line with the inequality."""
    text = explanation(told, 0)
    assert "nan" not in text
    (found,) = [row for row in text.split("\n") if row.startswith("  Prop.")]
    return found


STRICT = sm.Verdict.STRICT_LOCAL_MAXIMUM
DOWNWARDS = sm.Verdict.NOT_STATIONARY


def test_prop_9_tells_the_multiplier_of_the_ball():
    told = Told(STRICT, proposition="Prop. 9", multiplier=2.5, tangential=1e-12)
    assert "(μ = 2.5, ‖r‖ ≤ 1e-12)" in line(told)


def test_prop_9_in_a_box_has_no_multiplier_of_a_ball():
    told = Told(sm.Verdict.GLOBAL_MAXIMUM, proposition="Prop. 9", tangential=0.0)
    assert "(no ball holds it, ‖r‖ ≤ 0)" in line(told)


@pytest.mark.parametrize("proposition", ["Prop. 10", "Prop. 11"])
def test_props_10_and_11_tell_what_presses(proposition):
    told = Told(STRICT, proposition=proposition, margin=0.25, tangential=3e-9)
    assert line(told).endswith("presses by at least 0.25 > 0, ‖r‖ ≤ 3e-09")


def test_a_plateau_has_nothing_that_presses():
    told = Told(sm.Verdict.FLAT, proposition="Prop. 10", margin=float("inf"))
    assert "depends on nothing" in line(told)


@pytest.mark.parametrize("gain", [NAN, 1e-5])
@pytest.mark.parametrize("proposition", ["Prop. 7", "Prop. 10"])
def test_ways_uphill_are_told_with_their_gain(proposition, gain):
    # μ and γ of another prover's attempt are no part of this proof.
    told = Told(
        DOWNWARDS,
        proposition=proposition,
        guaranteed_gain=gain,
        multiplier=7.0,
        tangential=3.0,
    )
    found = line(told)
    assert ("at least 1e-05 along" in found) == (gain == gain)
    assert ("no gain is guaranteed" in found) == (gain != gain)
    assert ("vᵀg > 0" in found) == (proposition == "Prop. 10")
    assert "μ" not in found


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        ("3 units have their kinks within the search distance, and no", "sm.polish"),
        ("the maximum of its units' pattern lies further away", "sm.DCAscent"),
        ("7 convex units may be at their kinks, more than 10 apart", "sm.DCAscent"),
        ("no inequality of Props. 3 to 7 holds with this curvature", "larger `within`"),
        ("no inequality of Props. 10 and 11 holds here", "smaller `within`"),
        ("CrossEntropy of several outputs is not one function", "sm.Margin()"),
        ("arithmetic: autocast is on", "autocast off"),
        ("layers.3 (Softmax): is not known", "layers that proofs know"),
    ],
)
def test_undecided_rows_say_why_and_what_to_try(why, advice):
    told = Told(sm.Verdict.UNDECIDED, sm.Evidence.NUMERICAL, unproved=why)
    rows = explanation(told, 0).split("\n")
    place = rows.index(f"  not proved: {why}")
    assert rows[place + 1].startswith("  try: ")
    assert advice in rows[place + 1]


def test_there_is_no_advice_without_a_reason():
    told = Told(sm.Verdict.UNDECIDED, sm.Evidence.NUMERICAL)
    assert "try" not in explanation(told, 0)


def test_every_function_that_advice_names_exists():
    names = set(re.findall(r"sm\.(\w+)", "".join(text for _, text in _ADVICE)))
    assert names >= {"polish", "DCAscent", "Margin"}
    assert all(hasattr(sm, name) for name in names)


class Deep(nn.Module):
    """Two hidden layers, one with a residual."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 12)
        self.last, self.relu = nn.Linear(12, 3), nn.ReLU()

    def forward(self, inputs):
        """Scores."""
        hidden = self.relu(self.first(inputs))
        return self.last(hidden + self.relu(self.second(hidden)))


def deep(objective, region):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model, inputs = Deep().double(), torch.rand(8, 6, dtype=torch.float64)
    targets = torch.arange(8) % 3
    return sm.Problem(model, inputs, targets, objective=objective, region=region)


@pytest.mark.parametrize("region", [sm.L2Ball(0.2), sm.LinfBall(0.1)], ids=repr)
@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy()], ids=repr)
def test_no_verdict_on_a_deep_network_tells_numbers_that_are_none(objective, region):
    problem = deep(objective, region)
    points = sm.ascend(problem, max_steps=100).best
    certificate = sm.local_optimality(problem, points)
    maxima = 0
    for i in range(len(certificate)):
        text = certificate.explain(i)
        assert "nan" not in text
        if certificate.verdict[i].is_maximum:
            maxima += 1
            assert f"{float(certificate.margin[i]):.6g} > 0" in text
    assert maxima


def test_maxima_of_two_layer_relu_networks_tell_prop_9():
    net = sm.TwoLayerNetwork.random(input_dim=5, width=12, activation="relu", seed=1)
    inputs = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5)
    problem = sm.Problem(
        net,
        inputs,
        torch.tensor([1.0, -1.0, 1.0, -1.0]).double(),
        objective=sm.Margin(),
        region=sm.L2Ball(0.3),
    )
    points = sm.ascend(problem, sm.DCAscent()).best
    certificate = sm.local_optimality(problem, points)
    told = [certificate.explain(i) for i in range(4)]
    proved = [text for text in told if "Prop. 9: F is concave" in text]
    assert len(proved) >= 3
    assert not any("nan" in text for text in told)
