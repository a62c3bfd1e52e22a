"""Models whose outputs are no function of the input alone, or defend themselves."""

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer.findings import Finding
from summiteer.screen.subject import NotRun, Subject

#: Forward passes compared with the first (`croce2020reliable`'s check has five).
_PASSES = 5
#: Outputs that depend on the batch differ by far more than sums in another order.
_BATCH = 1e3


def train_mode(subject: Subject) -> Finding | None:
    """A module in train mode whose outputs depend on the mode."""
    name = subject.training
    if not name:
        return None
    return Finding(
        "TRAIN_MODE",
        f"model: is in train mode and has {name}",
        "it was attacked in eval mode and put back; if it is used in train mode, these "
        "are the numbers of another model",
        "call model.eval() before; a factory: return model.eval()",
    )


def random(subject: Subject) -> Finding | None:
    """The most that |f - f'| comes to over the passes, relative to the largest |f|."""
    inputs, first = subject.sample.inputs, subject.outputs
    with torch.no_grad():
        others = [subject.sample.model(inputs) for _ in range(_PASSES - 1)]
    apart = max(_apart(first, other) for other in others)
    if not apart > tolerances.DETERMINISTIC:
        return None
    return Finding(
        "RANDOM",
        f"model: {_PASSES} forward passes on the same inputs differ by up to "
        f"{100 * apart:.3g} % of the largest output",
        "single gradients and single predictions mean little, accuracy depends on luck",
        "fix its randomness, or attack the average of many passes",
    )


def batch_dependent(subject: Subject) -> Finding | NotRun | None:
    """|f(batch) - f(parts of it)|, relative to the largest |f|."""
    inputs, whole = subject.sample.inputs, subject.outputs
    if len(inputs) < 2:
        return NotRun("one example")
    half = len(inputs) // 2
    with torch.no_grad():
        parts = [subject.sample.model(part) for part in (inputs[:half], inputs[half:])]
    apart = _apart(whole, torch.cat(parts))
    rounding = torch.finfo(subject.exact.precision()).eps
    rounding = max(rounding, torch.finfo(whole.dtype).eps)
    if not apart > _BATCH * rounding:
        return None
    return Finding(
        "BATCH_DEPENDENT",
        "model: the outputs of an example change by up to "
        f"{100 * apart:.3g} % of the largest output with the examples beside it",
        "results depend on the batch, and gradients mix examples",
        "use running statistics (BatchNorm in eval mode, track_running_stats=True)",
    )


def differentiates(subject: Subject) -> Finding | None:
    """Automatic differentiation is called inside the forward pass."""
    if not subject.forward_pass.differentiates:
        return None
    return Finding(
        "TEST_TIME_GRADIENTS",
        "model: its forward pass calls automatic differentiation itself (test-time "
        "adaptation or purification)",
        "gradients that do not run through that inner optimisation are not the "
        "model's, and robust accuracy is easily too high",
        "attack the static model as well, with gradients through the inner steps",
    )


def _apart(first: Tensor, second: Tensor) -> float:
    scale = first.abs().max().clamp(min=torch.finfo(first.dtype).tiny)
    return float((first - second).abs().max() / scale)
