"""Does the attack succeed where it must?"""

from dataclasses import replace

import torch

from summiteer._ascend import Misclassified, ascend
from summiteer.findings import Finding
from summiteer.objectives import scalar
from summiteer.regions import Box
from summiteer.screen.subject import NotRun, Subject
from summiteer.starts import CentreStart, UniformStart

_STEPS = 50


def unconstrained(subject: Subject) -> Finding | NotRun | None:
    """IoAF indicator 6: share still correct when δ may be anything that keeps x valid.

    The region is the whole box, or where there is none the range of the data (in every
    coordinate), without the mask (`pintor2022indicators`). It holds every other
    example. So as soon as the model predicts two classes on the sample, an adversarial
    example exists for each one in it, and what is left is the attack's failure. An
    unbounded ball would prove less: models may say anything far from the data.
    Silent successes count as successes.
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
    sample = replace(subject.sample.take(index), mask=None)
    low, high = subject.limits
    free = replace(
        sample, region=Box(low - sample.inputs, high - sample.inputs), box=None
    )
    object.__setattr__(free, "_examined", [True])
    start = CentreStart() + UniformStart(restarts=1, seed=subject.seed)
    ascent = ascend(free, start=start, max_steps=_STEPS, until=Misclassified())
    assert ascent.misclassified is not None
    left = torch.zeros_like(subject.correct)
    left[index] = ~ascent.misclassified
    if not subject.many(left):
        return None
    return Finding(
        "UNCONSTRAINED_FAILS",
        f"attack: {int(left.sum())} of {len(index)} sampled examples stay correct "
        f"though every input from {low:g} to {high:g} is allowed, other examples' "
        f"inputs included ({_STEPS} steps from two starts)",
        "adversarial examples exist there, so the gradient does not lead to them and "
        "the robust accuracy may be too high",
        "look for gradients that vanish or mislead; try another objective",
        subject.ids(left),
    )
