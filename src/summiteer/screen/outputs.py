"""Outputs that do not suit the objective."""

import torch

from summiteer.findings import Finding
from summiteer.objectives import DLR, TargetedDLR, scalar
from summiteer.screen.subject import NotRun, Subject

#: Sums of probabilities agree to this (`croce2020reliable`'s check), or to rounding.
_ONE = 1e-5


def probabilities(subject: Subject) -> Finding | NotRun | None:
    """All outputs in [0, 1] and rows that sum to 1; for one output, all in [0, 1].

    Log-probabilities are no finding: their cross-entropy is that of the logits.
    """
    if not subject.sample.labelled:
        return NotRun("targets are not labels")
    outputs = scalar(subject.outputs)
    slack = max(_ONE, 8 * torch.finfo(outputs.dtype).eps)
    low, high = float(outputs.min()), float(outputs.max())
    if not (low >= -slack and high <= 1 + slack):
        return None
    if outputs.ndim == 1:
        return _one_probability(subject, low, high)
    sums = outputs.double().sum(1)
    if not bool(((sums - 1).abs() <= slack * outputs.shape[1]).all()):
        return None
    return Finding(
        "SOFTMAX_OUTPUTS",
        f"model: its outputs are probabilities ({low:.3g} … {high:.3g}, each row sums "
        "to 1)",
        "the objective takes a softmax of a softmax: flat and saturated, gradients "
        "vanish where the model is sure, and the robust accuracy comes out too high",
        "return the logits, before the softmax",
    )


def _one_probability(subject: Subject, low: float, high: float) -> Finding | None:
    targets = scalar(subject.sample.targets)
    if not bool((targets < 0).any()):
        return None  # one class only: its outputs may well be positive
    return Finding(
        "SOFTMAX_OUTPUTS",
        f"model: its outputs lie in {low:.3g} … {high:.3g}, like probabilities, but "
        "targets -1 and +1 are told apart by the sign",
        "every target -1 counts as misclassified, with or without attack",
        "return the logit, before the sigmoid",
    )


def few_classes(subject: Subject) -> Finding | NotRun | None:
    """The difference of logits ratio with three classes or fewer."""
    if not isinstance(subject.problem.objective, DLR | TargetedDLR):
        return NotRun("the objective is not DLR")
    classes = subject.outputs.shape[-1]
    if classes > 3:
        return None
    return Finding(
        "FEW_CLASSES",
        f"objective: a difference of logits ratio with {classes} classes",
        "z_(1) - z_(3) has no third rival to scale by: the ratio is constant where the "
        "example is misclassified and its gradient vanishes",
        "use CrossEntropy() or Margin()",
    )
