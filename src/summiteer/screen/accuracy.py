"""Clean accuracy that points to another convention of inputs or labels."""

from collections.abc import Iterator

import torch
from scipy.stats import binom
from torch import Tensor

from summiteer.findings import Finding
from summiteer.objectives import misclassified, scalar
from summiteer.screen.slopes import flat
from summiteer.screen.subject import WIDE_SAMPLE, NotRun, Subject, chosen

#: Chance that another convention looks better by luck, and that guessing does.
_LUCK, _GUESSING = 1e-3, 0.05  # one in a thousand: five conventions are tried
#: With fewer examples nothing can be said.
_FEWEST = 10


def clean_accuracy(subject: Subject) -> Finding | NotRun | None:
    """Another convention is right significantly more often, or guessing is as good.

    Conventions tried on the sample: inputs × 255, / 255, 2x - 1, 1 - x, standardised by
    their own mean and deviation; labels one higher or one lower, or of other sign. One
    is better if, of the examples where both differ, it is right on so many that a fair
    coin would be less than once in a thousand. Guessing is as good if so many right
    answers among up to 256 examples come from guessing evenly more than once in twenty.
    """
    if not subject.sample.labelled:
        return NotRun("targets are not labels")
    if len(subject.sample) < _FEWEST:
        return NotRun(f"fewer than {_FEWEST} examples")
    if bool(subject.drowned.any()):
        return NotRun("the outputs drown in a common offset: their order is rounding")
    if not bool(flat(subject.outputs).isfinite().all()):
        return NotRun("outputs are NaN or infinite")
    right = subject.correct
    for name, other in _conventions(subject):
        won, lost = int((other & ~right).sum()), int((right & ~other).sum())
        if won + lost and binom.sf(won - 1, won + lost, 0.5) < _LUCK:
            return Finding(
                "WRONG_CONVENTION",
                f"{name.split()[0]}: with {name} the model is right on "
                f"{subject.count(other)}, as they are on {int(right.sum())}",
                "clean and robust accuracy are those of another task",
                "give inputs and labels as in training, preprocessing inside the model",
            )
    return _guessing(subject)


def _guessing(subject: Subject) -> Finding | None:
    problem = subject.problem
    wide = problem.take(chosen(problem, subject.seed, WIDE_SAMPLE))
    with torch.no_grad():
        outputs = wide.model(wide.inputs)
    right = ~misclassified(outputs, wide.targets) & flat(outputs).isfinite().all(1)
    classes = max(2, scalar(outputs).shape[-1] if scalar(outputs).ndim > 1 else 2)
    count = int(right.sum())
    if binom.sf(count - 1, len(right), 1 / classes) < _GUESSING:
        return None
    return Finding(
        "CHANCE_ACCURACY",
        f"model: {count} of {len(right)} examples are classified correctly without "
        f"attack, as guessing among {classes} classes would",
        "there is hardly a robust accuracy to measure",
        "check weights, preprocessing, and the order of classes",
    )


def _conventions(subject: Subject) -> Iterator[tuple[str, Tensor]]:
    """(what is changed, which examples of the sample are right then)."""
    problem = subject.sample
    inputs, targets = problem.inputs, problem.targets
    outputs = subject.outputs
    if scalar(outputs).ndim == 1:
        yield "targets of the other sign", misclassified(outputs, targets)
    else:
        classes = outputs.shape[1]
        for shift, name in ((1, "one higher"), (-1, "one lower")):
            moved = (targets + shift) % classes
            yield f"targets {name}", ~misclassified(outputs, moved)
    low, high = float(inputs.min()), float(inputs.max())
    whole = subject.problem.inputs
    std = whole.double().std().clamp(min=torch.finfo(inputs.dtype).tiny)
    others = [
        ("inputs × 255", 255 * inputs, low >= 0 and high <= 1),
        ("inputs / 255", inputs / 255, low >= 0 and 1 < high <= 255),
        ("inputs from [0, 1] to [-1, 1]", 2 * inputs - 1, low >= 0 and high <= 1),
        ("inputs 1 - x", 1 - inputs, low >= 0 and high <= 1),
        (
            "inputs from [-1, 1] to [0, 1]",
            (inputs + 1) / 2,
            -1 <= low < 0 and high <= 1,
        ),
        ("inputs standardised", (inputs - whole.mean()) / std.to(inputs), True),
    ]
    for name, changed, possible in others:
        if possible:
            with torch.no_grad():
                said = problem.model(changed)
            finite = flat(said).isfinite().all(1)
            yield name, ~misclassified(said, targets) & finite
