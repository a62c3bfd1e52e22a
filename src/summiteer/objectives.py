"""What is ascended: one value per example of the model's outputs and the targets.

Any callable `objective(outputs, targets) -> [rows]` serves. The classes here also know
what `check` and the two-layer theory need. φ is the loss as a function of one output.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from summiteer.errors import UserError


@runtime_checkable
class Objective(Protocol):
    """One value per example, to be ascended."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`[rows]` or `[rows, K]` outputs and their targets -> `[rows]` values."""


@runtime_checkable
class ScalarLoss(Protocol):
    """A loss φ(f; y) of one output, monotone in f (mathematics.md, Prop. 1)."""

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return s = sign of dφ/df, `[rows]`, in the dtype of the outputs."""

    def slope_bound(self, distance: Tensor) -> Tensor:
        """Return sup |φ'| where |f - y| ≤ distance, `[rows]`."""

    @property
    def curvature_bound(self) -> float:
        """Largest |φ''|."""


@dataclass(frozen=True)
class Quadratic:
    """½(f - y)²; for `[rows, K, …]` outputs ½‖f - y‖², targets of the same shape."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """½(f - y)² `[rows]`."""
        outputs = scalar(outputs)
        if outputs.ndim == 1:
            return 0.5 * (outputs - scalar(targets)).square()
        return 0.5 * (outputs - targets).square().flatten(1).sum(1)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are floats of the outputs' shape."""
        if not targets.is_floating_point():
            raise UserError(
                "targets: Quadratic needs floating-point targets of the outputs' shape "
                f"{list(outputs.shape)}, got {targets.dtype}; for class labels use "
                "CrossEntropy or Margin."
            )
        same = (
            outputs.shape == targets.shape
            or scalar(outputs).shape == scalar(targets).shape
        )
        if not same:
            raise UserError(
                "targets: Quadratic needs targets of the outputs' shape "
                f"{list(outputs.shape)}, got {list(targets.shape)}."
            )

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """sign(f - y)."""
        return (scalar(outputs) - scalar(targets)).sign()

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| = |f - y| ≤ distance."""
        return distance

    @property
    def curvature_bound(self) -> float:
        """φ'' = 1."""
        return 1.0


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(-y·f)) for one output f and targets y = ±1."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log s(y·f) `[rows]`."""
        agreement = scalar(targets) * scalar(outputs)
        return -torch.nn.functional.logsigmoid(agreement)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless there is one output and every target is ±1."""
        _check_signs("Logistic", outputs, targets)

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-y."""
        return -scalar(targets).to(outputs)

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| ≤ 1."""
        return torch.ones_like(distance)

    @property
    def curvature_bound(self) -> float:
        """φ'' ≤ ¼."""
        return 0.25


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(z)_y for `[rows, K]` outputs and integer labels."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log softmax(z)_y `[rows]`."""
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels of the outputs' classes."""
        _check_classes("CrossEntropy", outputs, targets)


@dataclass(frozen=True)
class Margin:
    """max over k ≠ y of z_k - z_y; for one output and targets ±1, -y·f.

    At least 0 exactly where the example is misclassified (ties are errors).
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The margin `[rows]`."""
        return margin(outputs, targets)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels, or ±1 for one output."""
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            _check_classes("Margin", outputs, targets)
        else:
            _check_signs("Margin", outputs, targets)

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-y (one output)."""
        return -scalar(targets).to(outputs)

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| = 1."""
        return torch.ones_like(distance)

    @property
    def curvature_bound(self) -> float:
        """φ'' = 0."""
        return 0.0


@dataclass(frozen=True)
class DLR:
    """(max over k ≠ y of z_k - z_y)/(z_(1) - z_(3)), the difference of logits ratio.

    z_(1) ≥ z_(2) ≥ … are the sorted outputs (`croce2020reliable`).
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The ratio `[rows]`."""
        top = outputs.topk(3, dim=1).values
        return margin(outputs, targets) / (top[:, 0] - top[:, 2] + 1e-12)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels of three or more classes."""
        _check_classes("DLR", outputs, targets)


def scalar(values: Tensor) -> Tensor:
    """Return `[rows]` from `[rows]` or `[rows, 1]`; anything else unchanged."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    return values


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Largest z_k - z_y over k ≠ y, `[rows]`; -y·f for one output."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        label = targets[:, None]
        own = outputs.gather(1, label)[:, 0]
        # Not amax, which would share the gradient among tied classes.
        return outputs.scatter(1, label, -torch.inf).max(1).values - own
    return -scalar(targets) * scalar(outputs)


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
        `[rows]` bool; False where an output is NaN, which is evidence of nothing.
    """
    outputs, targets = scalar(outputs.detach()), scalar(targets)
    if outputs.ndim == 1:
        return targets * outputs <= 0
    if outputs.ndim > 2 or targets.is_floating_point():
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
    label = targets[:, None]
    rival = outputs.scatter(1, label, -torch.inf).amax(1)  # NaN if any output is
    return rival >= outputs.gather(1, label)[:, 0]


def check_labels(outputs: Tensor, targets: Tensor) -> None:
    """Check that targets which `classifies` calls labels fit the outputs.

    Args:
        outputs: `[rows, …]`; only the shape counts.
        targets: `[rows]` or `[rows, 1]`.

    Raises:
        UserError: what was expected, what came, what to do.
    """
    if scalar(outputs).ndim == 1:
        _check_signs("a model with one output", outputs, targets)
    elif outputs.ndim > 2:
        raise UserError(
            f"model: class labels need outputs [{len(outputs)}, K], got "
            f"{list(outputs.shape)}."
        )
    else:
        _check_classes("a model with several outputs", outputs, targets)


def default_objective(outputs: Tensor, targets: Tensor) -> Objective:
    """Choose the objective by outputs and targets (architecture.md, Defaults).

    `[b, K ≥ 2]` with integer labels: CrossEntropy. `[b]` or `[b, 1]` with floats:
    Logistic if they are exactly ±1, else Quadratic. `[b, K]` with floats: Quadratic.

    Args:
        outputs: of the model.
        targets: of the user.

    Raises:
        UserError: integers, or 0 and 1, with one output, with the remedy.
    """
    several = outputs.ndim == 2 and outputs.shape[1] > 1
    if not targets.is_floating_point():
        if several and targets.ndim == 1:
            return CrossEntropy()
        if several:
            raise UserError(
                f"targets: expected class labels [{len(targets)}], got integers "
                f"{list(targets.shape)}; use targets.squeeze() or, for one-hot codes, "
                "targets.argmax(1)."
            )
        raise UserError(
            f"targets: the model has one output, so integer labels ({targets.dtype}) "
            "do not fit; use floats -1 and +1 (2*targets - 1 for 0 and 1), or float "
            "targets for regression."
        )
    coded = bool(((targets == 0) | (targets == 1)).all())
    if several and (targets.ndim == 1 or (coded and bool((targets.sum(1) == 1).all()))):
        remedy = "targets.long()" if targets.ndim == 1 else "targets.argmax(1)"
        raise UserError(
            f"targets: the model has {outputs.shape[1]} outputs and the targets are "
            f"{targets.dtype} {list(targets.shape)}; for class labels use {remedy}, "
            "for regression name the objective (quadratic)."
        )
    one = scalar(targets).ndim == 1 and not several
    if one and bool((targets.abs() == 1).all()):
        return Logistic()
    if one and coded:
        raise UserError(
            "targets: all are 0 or 1; use 2*targets - 1 for labels -1 and +1, or name "
            "the objective (quadratic) if this is regression."
        )
    return Quadratic()


def check_objective(objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    """Check once that objective, outputs and targets fit.

    Args:
        objective: any callable.
        outputs: of one forward pass.
        targets: of the same rows.

    Raises:
        UserError: what was expected, what came, what to do.
    """
    check = getattr(objective, "check", None)
    if check is not None:
        check(outputs, targets)
    try:
        values = objective(outputs, targets)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"objective: failed on outputs {list(outputs.shape)} and targets "
            f"{list(targets.shape)}: {error}."
        ) from error
    if not targets.is_floating_point() and classifies(targets):
        check_labels(outputs, targets)
    if not isinstance(values, Tensor) or values.shape != (len(outputs),):
        got = (
            list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        )
        raise UserError(
            f"objective: expected one value per example [{len(outputs)}], got {got}; "
            "use reduction='none'."
        )
    if not values.is_floating_point():
        raise UserError(
            f"objective: expected floating-point values, got {values.dtype}; what is "
            "ascended must be differentiable."
        )


def _check_signs(name: str, outputs: Tensor, targets: Tensor) -> None:
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
        f"targets: {name} needs targets -1 or +1; not so at indices {wrong}."
    )


def _check_classes(name: str, outputs: Tensor, targets: Tensor) -> None:
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise UserError(
            f"model: {name} needs outputs [{len(outputs)}, K] with K ≥ 2, got "
            f"{list(outputs.shape)}; for one output use Logistic or Quadratic."
        )
    if targets.is_floating_point() or targets.ndim != 1:
        raise UserError(
            f"targets: {name} needs integer class labels [{len(outputs)}], got "
            f"{targets.dtype} {list(targets.shape)}; use targets.long(), or "
            "targets.argmax(1) if they are one-hot."
        )
    classes = outputs.shape[1]
    wrong = ((targets < 0) | (targets >= classes)).nonzero().flatten().tolist()
    if wrong:
        raise UserError(
            f"targets: labels must lie in 0 … {classes - 1} (the model has {classes} "
            f"outputs); not so at indices {wrong}."
        )
