"""A radius in the units of the inputs?"""

import torch

from summiteer.findings import Finding
from summiteer.regions._region import order_of
from summiteer.screen.conventions import pixels
from summiteer.screen.subject import NotRun, Subject

#: A radius whose mean change per coordinate is below this share of an 8-bit step is in
#: other units. In use are, in steps: L2 radius 0.5 on 224 × 224 × 3 numbers 0.33, and
#: L1 radius 12 on 32 × 32 × 3 numbers 1.0; 1/255 of them where 0..255 is meant.
_SHARES = {"linf": 0.5, "l2": 0.05, "sphere": 0.05, "l1": 0.01}


def too_large(subject: Subject) -> Finding | NotRun | None:
    """The ball holds the whole box, or without a box all other inputs.

    On L∞, half of the box's width is enough: every input then reaches its middle.
    """
    problem = subject.problem
    order = order_of(problem.region)
    if problem.region.norm not in _SHARES:
        return NotRun(f"a region of norm {problem.region.norm} has no radius")
    sample = subject.sample.inputs.double().flatten(1)
    radius = subject.sample.size.double()
    low, high = subject.limits
    if problem.box is None:
        if len(sample) < 2 or subject.width == 0:
            return NotRun("one input and no box")
        reach = torch.cdist(sample, sample, p=order).amax(1)
        what = f"all the other inputs ({low:.3g} … {high:.3g})"
    elif order == torch.inf:
        reach = torch.full_like(radius, subject.width / 2)
        what = f"the middle of the box [{low:g}, {high:g}], from every input"
    else:
        corner = torch.maximum(sample - low, high - sample)
        reach = torch.linalg.vector_norm(corner, ord=order, dim=1)
        what = f"the whole box [{low:g}, {high:g}]"
    large = radius >= reach
    if not bool(large.double().mean() > 0.5):
        return None
    most = float(radius.max())
    pixel = most >= 1 and high <= 1
    return Finding(
        "RADIUS_TOO_LARGE",
        f"radius: {problem.region.norm} {most:g} reaches {what}, for "
        f"{subject.count(large)}",
        "no model can be right on all of it, the robust accuracy says nothing",
        "give the radius in the units of the inputs"
        + (f" (8/255, not 8: here {most:g}/255 = {most / 255:.3g})" if pixel else ""),
    )


def too_small(subject: Subject) -> Finding | NotRun | None:
    """radius·d^(-1/p) below a share of the step of inputs from an 8-bit file."""
    problem = subject.problem
    norm = problem.region.norm
    if norm not in _SHARES:
        return NotRun(f"a region of norm {norm} has no radius")
    step = pixels(problem.inputs).step
    if step is None:
        return NotRun("the inputs are not of an 8-bit file")
    numbers = problem.inputs[0].numel()
    radius = float(problem.size.double().max())
    mean = radius / numbers ** (1 / order_of(problem.region))
    # Less than half a step in every coordinate is lost when stored in 8 bits.
    if mean >= _SHARES[norm] * step and radius >= step / 2:
        return None
    high = float(problem.inputs.max())
    remedy = "give the radius in the units of the inputs"
    if high > 1 and radius < 1:
        remedy += f" (here 0..255: {255 * radius:.3g}), or divide inputs by 255"
    return Finding(
        "RADIUS_TOO_SMALL",
        f"radius: {norm} {radius:.3g} is {mean / step:.2g} of one step of the 8-bit "
        f"inputs ({step:.3g}) per coordinate",
        "no such perturbation survives storage in 8 bits, and hardly any model "
        "changes its answer: the robust accuracy is the clean one",
        remedy,
    )
