"""What a run recorded per example: zero gradients, broken numbers, steps too few."""

from collections.abc import Mapping

import torch
from torch import Tensor

from summiteer.findings import Finding
from summiteer.screen.subject import NotRun


def _ids(arrays: Mapping[str, Tensor], mask: Tensor) -> tuple[int, ...]:
    return tuple(arrays["ids"][mask].tolist())


def _examples(mask: Tensor) -> str:
    count = int(mask.sum())
    return f"{count} example" if count == 1 else f"{count} examples"


def zero_gradient(arrays: Mapping[str, Tensor]) -> Finding | None:
    """The gradient is exactly zero at an end point that is no maximum."""
    flat = arrays["masked"]
    if not bool(flat.any()):
        return None
    return Finding(
        "ZERO_GRADIENT",
        "model: the gradient is exactly zero at the end point of "
        f"{_examples(flat)}, and it is no maximum",
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
        f"{_examples(broken)}",
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


def incomplete(arrays: Mapping[str, Tensor]) -> Finding | NotRun | None:
    """IoAF indicator 4 on survivors (see `loss_path`)."""
    rising = arrays.get("incomplete")
    if rising is None:
        return NotRun("no loss path was recorded")
    rising = rising & arrays["survived"]
    if not bool(rising.any()):
        return None
    return Finding(
        "INCOMPLETE",
        f"attack: the best loss of {_examples(rising)} that no attack broke still rose "
        "by more than 5 % of its range in the last 10 steps",
        "the attack stopped on the way up and the robust accuracy may be too high",
        "give it more steps or more effort",
        _ids(arrays, rising),
    )


def silent(arrays: Mapping[str, Tensor]) -> Finding | NotRun | None:
    """IoAF indicator 3: an iterate is misclassified, the best point is not.

    Departure: there the last point is asked (`pintor2022indicators`), here that of
    highest loss.
    """
    passed = arrays.get("silent")
    if passed is None:
        return NotRun("the way to the points is not known")
    if not bool(passed.any()):
        return None
    return Finding(
        "SILENT_SUCCESS",
        f"attack: runs of {_examples(passed)} were misclassified on the way and are "
        "not where their loss is highest",
        "such points are credited here (any misclassified iterate counts); a tool that "
        "keeps the highest loss alone counts these examples as robust",
        "of other tools, keep every misclassified iterate",
        _ids(arrays, passed),
    )


def cycle(arrays: Mapping[str, Tensor]) -> Finding | NotRun | None:
    """Runs of a deterministic step came back to an earlier point exactly."""
    period = arrays.get("period")
    if period is None:
        return NotRun("cycles were not looked for")
    caught = period > 0
    if not bool(caught.any()):
        return None
    lengths, counts = torch.unique(period[caught], return_counts=True)
    usual = int(lengths[counts.argmax()])
    periods = f"period {usual}"
    if len(lengths) > 1:
        span = f"{int(lengths.min())} … {int(lengths.max())}"
        periods = f"periods {span}, most often {usual}"
    return Finding(
        "CYCLE",
        f"attack: runs of {_examples(caught)} repeat the same points with {periods}, "
        "so the step is too large",
        "further steps change nothing; the best point of the cycle was kept, a nearby "
        "maximum may be higher",
        "use a smaller or a searching step (BacktrackingStep, AutoPGD)",
        _ids(arrays, caught),
    )


def rescued(arrays: Mapping[str, Tensor]) -> Finding | NotRun | None:
    """Runs whose gradient rounding hid (`summiteer.loop.rescue`), made again."""
    code = arrays.get("rescued")
    if code is None:
        return NotRun("runs whose gradient rounding hid were not made again")
    again = code > 0
    if not bool(again.any()):
        return None
    double, margin = int((code == 1).sum()), int((code == 2).sum())
    ways = [f"{double} in float64"] * bool(double)
    ways += [f"{margin} with the margin"] * bool(margin)
    return Finding(
        "RESCUED",
        f"objective: rounding hid its gradient in runs of {_examples(again)}, which "
        f"were made again ({', '.join(ways)})",
        "counted here; an attack that trusts this loss in this precision leaves them "
        "unattacked",
        "ascend Margin() or DLR(), or run in float64",
        _ids(arrays, again),
    )
