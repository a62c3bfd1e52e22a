"""A bare attack on a few digits, and its audit."""

import warnings

import torch
from torch.nn.functional import cross_entropy

import summiteer as sm

RADIUS = 0.1
COUNT = 24


def ascent(digits, radius=RADIUS, step=None, steps=10, norm="linf"):
    """A bare PGD: signed or normalised steps from the clean input, its last iterate."""
    model, inputs, targets = digits
    step = radius / 4 if step is None else step
    delta = torch.zeros_like(inputs)
    for _ in range(steps):
        delta.requires_grad_()
        loss = cross_entropy(model(inputs + delta), targets, reduction="sum")
        (slope,) = torch.autograd.grad(loss, delta)
        delta = delta.detach()
        if norm == "linf":
            delta = (delta + step * slope.sign()).clamp(-radius, radius)
        else:
            delta = delta + step * slope / slope.norm(dim=1, keepdim=True)
            delta = delta * (radius / delta.norm(dim=1, keepdim=True)).clamp(max=1)
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
            changes.pop("targets", targets),
            given,
            region=region or sm.LinfBall(RADIUS),
            screened=False,
            **changes,
        )


def codes(audit):
    return [finding.code for finding in audit.findings]
