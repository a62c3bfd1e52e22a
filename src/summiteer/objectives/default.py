"""Which objective is meant where none is named."""

from torch import Tensor

from summiteer.errors import UserError
from summiteer.objectives.cross_entropy import CrossEntropy
from summiteer.objectives.labels import scalar
from summiteer.objectives.logistic import Logistic
from summiteer.objectives.objective import Objective
from summiteer.objectives.quadratic import Quadratic


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
        remedy = "int64: targets.long()" if targets.ndim == 1 else "targets.argmax(1)"
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
