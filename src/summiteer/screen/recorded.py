"""What a run recorded per example: zero gradients, broken numbers, steps too few."""

from collections.abc import Mapping

from torch import Tensor

from summiteer.findings import Finding


def _ids(arrays: Mapping[str, Tensor], mask: Tensor) -> tuple[int, ...]:
    return tuple(arrays["ids"][mask].tolist())


def zero_gradient(arrays: Mapping[str, Tensor]) -> Finding | None:
    """The gradient is exactly zero at an end point that is no maximum."""
    flat = arrays["masked"]
    if not bool(flat.any()):
        return None
    return Finding(
        "ZERO_GRADIENT",
        "model: the gradient is exactly zero at the end point of "
        f"{int(flat.sum())} examples, and it is no maximum",
        "gradient masking, the robust accuracy says nothing about them",
        "attack a differentiable version",
        _ids(arrays, flat),
    )


def non_finite(arrays: Mapping[str, Tensor]) -> Finding | None:
    """Loss or gradient became NaN or infinite."""
    broken = arrays["broken"]
    if not bool(broken.any()):
        return None
    return Finding(
        "NON_FINITE",
        "model: loss or gradient became NaN or infinite in runs of "
        f"{int(broken.sum())} examples",
        "their last finite points were kept",
        "look for logarithms, roots and divisions at those inputs",
        _ids(arrays, broken),
    )


def not_converged(arrays: Mapping[str, Tensor]) -> Finding | None:
    """Further steps flip survivors (attack only)."""
    flipped = arrays.get("flipped")
    if flipped is None or not bool(flipped.any()):
        return None
    return Finding(
        "NOT_CONVERGED",
        f"attack: more steps flip {int(flipped.sum())} of "
        f"{int(arrays['survived'].sum())} survivors",
        "the attack is not converged and the robust accuracy is too high",
        "give it more steps or more effort",
        _ids(arrays, flipped),
    )
