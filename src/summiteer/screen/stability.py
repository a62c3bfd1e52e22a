"""Do predictions hang together at the scale of one step?"""

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.findings import Finding
from summiteer.screen.slopes import flat
from summiteer.screen.subject import Subject

#: Side of the cube of noise, in widths of the box, and draws (`pintor2022indicators`).
_SIDE = 8 / 255
_DRAWS = 100
#: Draws at an eighth of the side.
_SHORT_DRAWS, _SHORT = 10, 1 / 8
#: The indicator at which its authors call predictions unstable.
_UNSTABLE = 0.1
#: A function that a gradient describes changes by an eighth, noise as much as before.
_ROUGH = 0.5
#: Fresh numbers per example; draws beyond use them shifted.
_NUMBERS = 2**13


def unstable(subject: Subject) -> Finding | None:
    """IoAF indicator 2: mean of min(|L(x) - L(x + u)|/|L(x)|, 1), u ~ U(-r/2, r/2)^d.

    L = 0 counts as 1 (`pintor2022indicators`). Departures: u is put back into the box;
    and the indicator alone (above 0.1) also names steep, smooth models, where it is the
    loss that is small. So it must come with roughness: noise of an eighth of the size
    must change the outputs by more than half as much. Where a gradient describes the
    function, kinks included, that ratio is 1/8.
    """
    clean, still = subject.start.loss.double(), subject.outputs.double()
    total = torch.zeros_like(clean)
    long, short = [], []
    with torch.no_grad():
        for k in range(_DRAWS):
            noise = _noise(subject, k)
            outputs = _outputs(subject, noise)
            loss = subject.sample.objective(outputs, subject.sample.targets).double()
            total += ((loss - clean).abs() / clean.abs()).nan_to_num(1.0).clamp(max=1)
            if k < _SHORT_DRAWS:
                long.append(_change(outputs, still))
                short.append(_change(_outputs(subject, _SHORT * noise), still))
    value = float((total / _DRAWS).mean())
    ratio = torch.stack(short).mean(0) / torch.stack(long).mean(0)
    rough = float(ratio.nan_to_num(0.0).median())
    if not (value > _UNSTABLE and rough > _ROUGH):
        return None
    return Finding(
        "UNSTABLE_PREDICTIONS",
        f"model: noise of ±{_SIDE / 2 * subject.width:.2g} changes the loss by "
        f"{100 * value:.0f} % in the mean of {_DRAWS} draws on {len(clean)} sampled "
        f"examples, and noise an eighth as large moves the outputs {rough:.2f} times "
        "as much (1/8 if gradients described them)",
        "gradients point nowhere beyond a tiny neighbourhood, attacks wander",
        "average gradients over noise, or attack the model without the noisy part",
    )


def _outputs(subject: Subject, noise: Tensor) -> Tensor:
    low, high = subject.limits
    moved = (subject.sample.inputs + noise).clamp(low, high)
    outputs: Tensor = subject.sample.model(moved)
    return outputs


def _change(outputs: Tensor, still: Tensor) -> Tensor:
    return _rows.norm(flat(outputs.double() - still))


def _noise(subject: Subject, k: int) -> Tensor:
    """The k-th draw: each uniform on the cube; far ones share their numbers.

    One number per coordinate and draw would cost more than the forward passes.
    """
    inputs = subject.sample.inputs
    numbers = inputs[0].numel()
    fresh = max(1, min(_DRAWS, _NUMBERS // numbers))
    draws = subject.draws(64 + k % fresh)
    # 7919 is prime: shifts by its multiples differ for as long as they can.
    unit = draws.uniform(numbers).roll(k // fresh * 7919, 1)
    if k // fresh % 2:
        unit = 1 - unit
    noise = (unit - 0.5) * _SIDE * subject.width
    return noise.to(inputs).reshape(inputs.shape)
