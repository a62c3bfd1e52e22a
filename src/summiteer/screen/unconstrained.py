"""Does the attack succeed where it must?"""

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.adversaries import default_attack
from summiteer.findings import Finding
from summiteer.objectives import scalar
from summiteer.problem import Problem
from summiteer.regions import Box, L2Ball, Region
from summiteer.screen.subject import NotRun, Subject
from summiteer.starts import CentreStart
from summiteer.until import Misclassified

_STEPS = 50
#: The ball's radius in diameters of the range.
_FAR = 10


def unconstrained(subject: Subject) -> Finding | NotRun | None:
    """IoAF indicator 6: share still correct when δ may be anything.

    First anything that keeps x valid: the region is the box, or where there is none the
    range of the data in every coordinate, without the mask (`pintor2022indicators`). It
    holds every other example; so as soon as the model predicts two classes on the
    sample, an adversarial example exists in it for each one, and what is left is the
    attack's failure, not robustness. But ascent may meet a local maximum at the box; so
    what is left tries once more in a ball that is far larger. Runs start at the input:
    a random point of the box may be misclassified without any gradient. Silent
    successes count as successes.
    """
    if not subject.sample.labelled:
        return NotRun("targets are not labels")
    outputs = scalar(subject.outputs)
    said = outputs.sign() if outputs.ndim == 1 else outputs.argmax(1)
    if len(torch.unique(said)) < 2:
        return NotRun("the model predicts one class on the whole sample")
    index = subject.correct.nonzero().flatten()
    if not len(index):
        return NotRun("no sampled example is classified correctly")
    sample = subject.sample.take(index)
    low, high = _range(subject, sample.inputs)
    inside = Box(low - sample.inputs, high - sample.inputs)
    numbers = sample.inputs[0].numel()
    beyond = L2Ball(_FAR * subject.width * numbers**0.5)
    left = _still_correct(sample, inside)
    left = left[_still_correct(sample.take(left), beyond)] if len(left) else left
    failed = torch.zeros_like(subject.correct)
    failed[index[left]] = True
    if not subject.many(failed):
        return None
    return Finding(
        "UNCONSTRAINED_FAILS",
        f"attack: {len(left)} of {len(index)} sampled examples stay correct though any "
        f"perturbation is allowed ({_STEPS} steps within {subject.limits[0]:.3g} … "
        f"{subject.limits[1]:.3g}, as many without limits)",
        "adversarial examples exist there (other examples are some), so the gradient "
        "does not lead to them and the robust accuracy may be too high",
        "check the sign of the objective, look for gradients that vanish or mislead, "
        "try another objective",
        subject.ids(failed),
    )


def _range(subject: Subject, inputs: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """The box, or the least and the largest value of each coordinate."""
    if subject.problem.box is not None:
        return subject.limits
    # The sample's own predictions show two classes: its range is enough.
    every = subject.sample.inputs
    return every.amin(0).expand_as(inputs), every.amax(0).expand_as(inputs)


def _still_correct(problem: Problem, region: Region) -> Tensor:
    """Indices of examples that no iterate from the input breaks."""
    ascent = ascend(
        problem.with_region(region),
        default_attack(region, _STEPS),
        CentreStart(),
        _STEPS,
        until=Misclassified(),
        # Residuals are relative to the far boundary: coarse dtypes would stop at once.
        tolerance=None,
    )
    assert ascent.misclassified is not None
    return (~ascent.misclassified).nonzero().flatten()
