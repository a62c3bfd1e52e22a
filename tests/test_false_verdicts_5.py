"""False words of audits, L1 proofs and runs: each is a case that was once wrong."""

import warnings

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.auditing.kinds import Kind
from summiteer.errors import SummiteerWarning
from summiteer.regions import Box, L1Ball, L2Ball, LinfBall, intersect
from summiteer.screen import screen

EPS = 0.01


def audited(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SummiteerWarning)
        return sm.audit(*args, **kwargs)


class Second(nn.Module):
    """z = (x₂ - ½, ½ - x₂): the other features do not matter."""

    def forward(self, inputs):
        """`[rows, 2]`."""
        z = inputs[:, 1] - 0.5
        return torch.stack([z, -z], 1)


def features(first):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(64, 6, generator=generator)
    inputs[:, 0] *= first
    inputs[:, 1] = 0.5 + torch.linspace(1e-5, 0.02, 64)
    return inputs, torch.zeros(64, dtype=torch.long)


@pytest.mark.parametrize("region", [LinfBall(EPS), L2Ball(EPS), L1Ball(EPS)])
@pytest.mark.parametrize("first", [1.0, 1e4, 1e5])
def test_a_feature_of_another_scale_excuses_no_excess_in_the_others(region, first):
    """Rounding was that of the largest feature: 15 % too far counted as inside."""
    inputs, labels = features(first)
    delta = torch.zeros_like(inputs)
    delta[:, 1] = -1.15 * EPS
    audit = audited(Second(), inputs, labels, inputs + delta, region=region, box=None)
    assert not bool(audit.arrays["inside"].any())
    true = float((inputs[:, 1].double() - 0.5 > EPS).double().mean())
    assert audit.corrected_robust_accuracy == true
    assert audit.claimed_robust_accuracy < true
    delta[:, 1] = -EPS
    # As any tool adds it: off by the rounding of the sum.
    audit = audited(Second(), inputs, labels, inputs + delta, region=region, box=None)
    assert bool(audit.arrays["inside"].all())


@pytest.mark.parametrize("ball", [L1Ball(1.0), L2Ball(1.0)])
def test_the_box_of_an_intersection_counts(ball):
    """The box of an L1 intersection had not been looked at."""
    inputs, labels = features(1.0)
    delta = torch.zeros_like(inputs)
    delta[:, 1] = -0.015
    region = intersect(ball, Box(-EPS, EPS))
    audit = audited(Second(), inputs, labels, inputs + delta, region=region, box=None)
    assert not bool(audit.arrays["inside"].any())
    assert audit.arrays["excess"].tolist() == pytest.approx([0.005] * 64, abs=1e-7)
    true = float((inputs[:, 1].double() - 0.5 > EPS).double().mean())
    assert audit.corrected_robust_accuracy == true


class Peak(nn.Module):
    """z = (0, -|x - 0.3|): sign steps jump over the peak for ever."""

    def forward(self, inputs):
        """`[rows, 2]`."""
        apart = (inputs[:, 0] - 0.3).abs()
        return torch.stack([0 * apart, -apart], 1)


@pytest.mark.parametrize("steps", [3, 6, 9, 12])
def test_a_refined_run_does_not_end_in_a_cycle_of_smaller_steps(steps):
    """CYCLE at the last step was one of halved steps: T of the method is another."""
    inputs = torch.zeros(1, 1, dtype=torch.float64)
    problem = sm.Problem(
        Peak(), inputs, torch.zeros(1, dtype=torch.long), sm.Margin(), LinfBall(1.0)
    )
    method = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.25))
    ascent = sm.ascend(
        problem, method, sm.CentreStart(), steps, after_cycle="refine", tolerance=None
    )
    assert ascent.outcome[0, 0] is sm.Outcome.STEP_LIMIT
    assert ascent.period.tolist() == [[2]]
    stopped = sm.ascend(problem, method, sm.CentreStart(), steps, tolerance=None)
    assert stopped.outcome[0, 0] is sm.Outcome.CYCLE
    cycle = sm.cycle_members(problem, method, stopped, 0, 0)
    assert sorted(cycle.members.flatten().tolist()) == [0.25, 0.5]


def four_classes(offset=0.0):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(64, 8, generator=generator)
    layer = nn.Linear(8, 4)
    with torch.no_grad():
        layer.weight.copy_(3 * torch.randn(4, 8, generator=generator))
        layer.bias.copy_(layer.weight.sum(1) / -2)
        labels = layer(inputs).argmax(1)
        layer.bias += offset
    return layer, inputs, labels


def test_a_ratio_that_is_constant_by_definition_is_not_called_saturated():
    """DLR of a wrong example whose label comes third was UNDERFLOW: "ascend DLR()"."""
    layer, inputs, labels = four_classes()
    third = layer(inputs).topk(3, dim=1).indices[:, 2]
    few = torch.arange(64) < 6
    problem = sm.Problem(
        layer, inputs, torch.where(few, third, labels), sm.DLR(), LinfBall(0.05)
    )
    assert screen(problem, 0).findings == ()
    gradient = problem.rows().evaluate(torch.zeros_like(inputs)).gradient
    assert not bool(gradient[few].any())


def test_outputs_that_drown_are_not_taken_for_another_convention():
    """With logits + 1e8 in float32 "inputs × 255" was right more often."""
    layer, inputs, labels = four_classes(1e8)
    problem = sm.Problem(
        layer, inputs, labels, sm.CrossEntropy(), LinfBall(0.05), box=(0.0, 1.0)
    )
    screening = screen(problem, 0)
    assert [finding.code for finding in screening.findings] == ["UNDERFLOW"]
    assert "few units of rounding of float32" in screening.findings[0].text
    assert "drown" in screening.checks["CLEAN_ACCURACY"]
    layer, inputs, labels = four_classes()
    problem = sm.Problem(
        layer, inputs, labels, sm.CrossEntropy(), LinfBall(0.05), box=(0.0, 1.0)
    )
    assert screen(problem, 0).findings == ()


@pytest.mark.parametrize(
    ("dtype", "radius"), [(torch.bfloat16, 0.0145), (torch.float32, 2e-7)]
)
def test_a_step_of_few_units_of_rounding_is_not_the_clean_input(dtype, radius):
    """One honest step of twice the rounding was "the clean input itself"."""
    layer, inputs, labels = four_classes()
    inputs = 0.3 + 0.2 * inputs
    layer, inputs = layer.to(dtype), inputs.to(dtype)
    problem = sm.Problem(layer, inputs, labels, sm.CrossEntropy(), LinfBall(radius))
    slope = problem.rows().evaluate(torch.zeros_like(inputs)).gradient
    moved = inputs.double() + radius * slope.double().sign()
    options = {"region": LinfBall(radius), "box": None, "screened": False}
    audit = audited(layer, inputs, labels, moved.to(dtype), **options)
    assert Kind.CLEAN.code not in audit.arrays["kind"].tolist()
    # What a cast leaves of the clean input is the clean input still.
    cast = inputs.double() * (1 + 0.4 * torch.finfo(dtype).eps)
    audit = audited(layer, inputs, labels, cast, **options)
    assert set(audit.arrays["kind"].tolist()) == {Kind.CLEAN.code}
