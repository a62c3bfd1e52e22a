"""Gradients: available, above rounding, and those of the function itself."""

from dataclasses import replace

import torch

from summiteer import _rows
from summiteer.findings import Finding
from summiteer.objectives import DLR, Margin
from summiteer.screen.slopes import MISMATCH
from summiteer.screen.subject import NotRun, Subject


def unavailable(subject: Subject) -> Finding | None:
    """IoAF indicator 1: backward fails, or ‖∇L‖ = 0 exactly (`pintor2022indicators`).

    Departures: a gradient that only underflows is another finding, with another remedy;
    one example in ten must have it, since single inputs at which all units of a healthy
    ReLU network are off are told per example (ZERO_GRADIENT);
    and it must be zero at a random point nearby as well, for at the minimum of a loss
    (a regression that fits its data) it is zero for the best of reasons.
    """
    remedy = (
        "remove detach, no_grad, numpy and operations without derivative, or "
        "attack a differentiable version"
    )
    if subject.slopes.refused:
        return Finding(
            "UNAVAILABLE_GRADIENTS",
            f"model: {subject.slopes.refused}",
            "no gradient attack can move, the robust accuracy is the clean one",
            remedy,
        )
    zero = _zero(subject) & ~_saturated(subject)
    if not subject.many(zero):
        return None
    moves = subject.slopes.moves[zero]
    how = (
        f"though the outputs change farther away for {int(moves.sum())} of them"
        if bool(moves.any())
        else "and the outputs do not change farther away either"
    )
    return Finding(
        "UNAVAILABLE_GRADIENTS",
        f"model: the gradient is exactly zero at {subject.count(zero)}, {how}",
        "an attack from there cannot move and what survives says nothing",
        remedy,
        subject.ids(zero),
    )


def underflow(subject: Subject) -> Finding | None:
    """∇L = 0 in the model's dtype, but not in float64 or not for the margin.

    Or outputs that differ by rounding alone in the model's dtype, not in float64.
    """
    if bool(subject.drowned.any()):
        return _drowned(subject)
    hidden = _saturated(subject)
    if not bool(hidden.any()):
        return None
    dtype = str(subject.sample.inputs.dtype).removeprefix("torch.")
    exact = _gradient_in_double(subject)
    fine = hidden & (exact > 0)
    if bool(fine.any()):
        largest = float(exact[fine].max())
        seen = (
            f"is exactly zero in {dtype} but up to {largest:.1e} in float64 at "
            f"{subject.count(fine)}"
        )
    else:
        seen = f"is exactly zero at {subject.count(hidden)}, that of the margin is not"
    return Finding(
        "UNDERFLOW",
        f"objective: its gradient {seen}",
        "the loss is saturated and steps in its direction do not move",
        "ascend Margin() or DLR(), or run in float64",
        subject.ids(fine if bool(fine.any()) else hidden),
    )


def _drowned(subject: Subject) -> Finding:
    dtype = str(subject.outputs.dtype).removeprefix("torch.")
    rows = subject.outputs[subject.drowned].double()
    apart = rows.amax(1) - rows.amin(1)
    return Finding(
        "UNDERFLOW",
        f"model: its outputs at {subject.count(subject.drowned)} are as large as "
        f"{float(rows.abs().max()):.3g} and differ by {float(apart.median()):.3g}, "
        f"few units of rounding of {dtype}; in float64 they differ by more",
        "which class leads is rounding, and so are the gradients",
        "leave out what is added to all outputs alike, or run in float64",
        subject.ids(subject.drowned),
    )


def quantised(subject: Subject) -> Finding | None:
    """f(x + hd) = f(x - hd) exactly for small h, not for larger: steps, no slopes."""
    measured = subject.slopes
    names = subject.forward_pass.flat
    # A plateau of a ReLU network looks the same, but has no such operation.
    stepped = (measured.still > 0) & ((measured.norm > 0) | bool(names))
    if not subject.many(stepped):
        return None
    straight = measured.norm[stepped] > 0
    gradient = (
        "though a gradient comes back (straight-through)"
        if bool(straight.any())
        else "and the gradient is zero"
    )
    ways = f"; the forward pass uses {', '.join(names)}" if names else ""
    return Finding(
        "QUANTISED",
        f"model: the outputs at {subject.count(stepped)} do not change at all for "
        f"input changes of {float(measured.still[stepped].median()):g} box widths, "
        f"only for larger ones, {gradient}{ways}",
        "gradients do not describe this model, the robust accuracy may be too high",
        "attack the model without the quantiser, or a smooth stand-in for it, and "
        "evaluate those examples here",
        subject.ids(stepped),
    )


def mismatch(subject: Subject) -> Finding | NotRun | None:
    """The smallest over h of the median over d of |D - ∇φᵀd| (`slopes`) is too big."""
    measured = subject.slopes
    if measured.refused:
        return NotRun(measured.refused)
    if bool(measured.error.isnan().all()):
        return NotRun("rounding or chance hides every difference")
    wrong = measured.error > MISMATCH
    if not subject.many(wrong):
        return None
    error = float(measured.error[wrong].median())
    along = measured.along[wrong & (measured.norm > 0)]
    ratio = (
        f"a step along it changes them by {float(along.median()):.2f} of what it says"
        if len(along)
        else "it is zero, they are not flat"
    )
    return Finding(
        "GRADIENT_MISMATCH",
        f"model: the gradient is not that of the outputs at {subject.count(wrong)}: "
        f"finite differences in float64 are off by {100 * error:.0f} %, {ratio}",
        "attacks follow a stand-in (custom backward, a detached branch) and may stop "
        "far from a maximum",
        "check the backward pass with torch.autograd.gradcheck",
        subject.ids(wrong),
    )


def _saturated(subject: Subject) -> torch.Tensor:
    """`[sample]` bool: ∇L is zero though ∇L in float64 or the margin's is not."""
    zero = _zero(subject)
    if not bool(zero.any()):
        return zero
    shown = _gradient_in_double(subject) > 0
    if subject.sample.labelled and not subject.slopes.refused:
        margin = replace(subject.exact, objective=Margin()).rows()
        still = torch.zeros_like(subject.exact.inputs)
        shown = shown | (_rows.norm(margin.evaluate(still).gradient) > 0)
    return zero & shown


def _zero(subject: Subject) -> torch.Tensor:
    zero = (subject.start.gradient_norm == 0) & (subject.nearby.gradient_norm == 0)
    if isinstance(subject.problem.objective, DLR):
        # Where the label comes third the ratio is constant by its definition.
        zero = zero & ~subject.start.wrong
    return zero


def _gradient_in_double(subject: Subject) -> torch.Tensor:
    still = torch.zeros_like(subject.exact.inputs)
    return subject.exact.rows().evaluate(still).gradient_norm
