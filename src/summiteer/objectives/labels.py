"""Class labels: integers `[rows]`, or ±1 for a model with one output."""

import torch
from torch import Tensor

from summiteer.errors import UserError, listed


def scalar(values: Tensor) -> Tensor:
    """Return `[rows]` from `[rows]` or `[rows, 1]`; anything else unchanged."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    return values


def classifies(targets: Tensor) -> bool:
    """Whether targets can be labels, one per row: integers, or floats exactly ±1."""
    if scalar(targets).ndim != 1:
        return False
    if not targets.is_floating_point():
        return True
    return targets.numel() > 0 and bool((targets.abs() == 1).all())


def misclassified(outputs: Tensor, targets: Tensor) -> Tensor:
    """Which rows are misclassified, ties counting as errors.

    Args:
        outputs: `[rows, K]` with integer labels, or `[rows]` with targets ±1 (see
            `check_labels`).
        targets: the labels.

    Returns:
        `[rows]` bool; False where an output is NaN, which is evidence of nothing, and
        where the largest rival and the label's own output are the same infinity, whose
        difference is NaN.
    """
    outputs, targets = scalar(outputs.detach()), scalar(targets)
    if outputs.ndim == 1:
        return targets * outputs <= 0
    if outputs.ndim > 2 or targets.is_floating_point():
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
    label = targets[:, None]
    rival = outputs.scatter(1, label, -torch.inf).amax(1)  # NaN if any output is
    # Of the same infinity twice it is NaN, which compares false.
    return rival - outputs.gather(1, label)[:, 0] >= 0


def check_labels(outputs: Tensor, targets: Tensor) -> None:
    """Check that targets which `classifies` calls labels fit the outputs.

    Args:
        outputs: `[rows, …]`; only the shape counts.
        targets: `[rows]` or `[rows, 1]`.

    Raises:
        UserError: what was expected, what came, what to do.
    """
    if scalar(outputs).ndim == 1:
        check_signs("a model with one output", outputs, targets)
    elif outputs.ndim > 2:
        raise UserError(
            f"model: class labels need outputs [{len(outputs)}, K], got "
            f"{list(outputs.shape)}."
        )
    else:
        check_classes("a model with several outputs", outputs, targets)


def check_signs(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Raise UserError unless there is one output and every target is ±1.

    Args:
        name: of what needs it.
        outputs: `[rows]` or `[rows, 1]`; only the shape counts.
        targets: of the same rows.
    """
    if scalar(outputs).ndim != 1:
        raise UserError(
            f"model: {name} needs one output per example [{len(outputs)}], got "
            f"{list(outputs.shape)}; for several classes use CrossEntropy or Margin."
        )
    if scalar(targets).shape != scalar(outputs).shape:
        raise UserError(
            f"targets: {name} needs one target -1 or +1 per example "
            f"[{len(outputs)}], got shape {list(targets.shape)}."
        )
    values = scalar(targets).double()
    wrong = (values.abs() != 1).nonzero().flatten().tolist()
    if not wrong:
        return
    if bool(((values == 0) | (values == 1)).all()):
        raise UserError(
            f"targets: {name} needs targets -1 or +1, got 0 and 1; use 2*targets - 1."
        )
    raise UserError(
        f"targets: {name} needs targets -1 or +1; not so at indices {listed(wrong)}."
    )


def check_classes(name: str, outputs: Tensor, targets: Tensor, least: int = 2) -> None:
    """Raise UserError unless targets are labels of enough classes.

    Args:
        name: of what needs it.
        outputs: `[rows, K]`; only the shape counts.
        targets: `[rows]` integers.
        least: how many classes there must be.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise UserError(
            f"model: {name} needs outputs [{len(outputs)}, K] with K ≥ 2, got "
            f"{list(outputs.shape)}; for one output use Logistic or Quadratic."
        )
    if outputs.shape[1] < least:
        raise UserError(
            f"objective: {name} needs at least {least} classes, the model has "
            f"{outputs.shape[1]}; use Margin or CrossEntropy, or TargetedMargin for "
            "one other class."
        )
    if targets.is_floating_point() or targets.ndim != 1:
        raise UserError(
            f"targets: {name} needs integer class labels [{len(outputs)}], got "
            f"{targets.dtype} {list(targets.shape)}; use int64: targets.long(), or "
            "targets.argmax(1) if they are one-hot."
        )
    classes = outputs.shape[1]
    wrong = ((targets < 0) | (targets >= classes)).nonzero().flatten().tolist()
    if wrong:
        raise UserError(
            f"targets: labels must lie in 0 … {classes - 1} (the model has {classes} "
            f"outputs); not so at indices {listed(wrong)}: the first of them is "
            f"{int(targets[wrong[0]])}."
        )
