"""Mistakes that people make with adversarial files, and what an audit says of them."""

import json
import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy

import summiteer as sm
from summiteer.data import load_data
from summiteer.networks.reference import digits_mlp

COUNT = 24
RADIUS = 0.1


@pytest.fixture(scope="module")
def digits():
    data = load_data("digits")
    return digits_mlp(), data.inputs[:COUNT].float(), data.targets[:COUNT]


def attacked(digits, radius=RADIUS, steps=10):
    """A bare PGD in L-infinity, its last iterate; steps of a quarter radius."""
    model, inputs, targets = digits
    delta = torch.zeros_like(inputs)
    for _ in range(steps):
        delta.requires_grad_()
        loss = cross_entropy(model(inputs + delta), targets, reduction="sum")
        (slope,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + radius / 4 * slope.sign()).clamp(-radius, radius)
        delta = (inputs + delta).clamp(0, 1) - inputs
    return inputs + delta


def audited(digits, given, region=None, **changes):
    """An audit whose findings are read, not warned about."""
    model, inputs, targets = digits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sm.SummiteerWarning)
        return sm.audit(
            changes.pop("model", model),
            changes.pop("inputs", inputs),
            targets,
            given,
            region=region or sm.LinfBall(RADIUS),
            screened=False,
            **changes,
        )


def codes(audit):
    return [finding.code for finding in audit.findings]


def finding(audit, code):
    (found,) = (entry for entry in audit.findings if entry.code == code)
    return found


@pytest.mark.parametrize("pixels", [7, 8, 9, 16])
def test_a_cast_without_rounding_is_no_cheating(digits, pixels):
    # Data on the grid and a radius on it: the cast takes exactly one level away.
    model, inputs, targets = digits
    inputs = (inputs * 255).round() / 255
    region = sm.LinfBall(pixels / 255)
    given = attacked((model, inputs, targets), pixels / 255)
    # What was computed a hair below a level falls to the next one.
    cut = (given * 255 - 1e-4).clamp(min=0).to(torch.uint8)
    cut = audited(digits, cut, region, inputs=inputs)
    assert float(cut.arrays["excess"].max()) > 0.999999 / 255
    assert "EIGHT_BITS" in codes(cut)
    assert "OUTSIDE" not in codes(cut)
    # Two levels are no rounding.
    far = ((given - inputs).sign() * (pixels + 2) / 255 + inputs).clamp(0, 1)
    far = audited(digits, (far * 255).round().to(torch.uint8), region, inputs=inputs)
    assert "OUTSIDE" in codes(far)
