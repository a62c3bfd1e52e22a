"""Running the checks: on a seeded sample, each at most once, none may stop the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from summiteer._caller import behaves_differently_in_training, undisturbed
from summiteer.errors import collected_warnings
from summiteer.findings import Finding
from summiteer.problem import Problem
from summiteer.screen import (
    accuracy,
    behaviour,
    conventions,
    gradients,
    outputs,
    radius,
    recorded,
    stability,
    unconstrained,
)
from summiteer.screen.subject import SAMPLE, Check, NotRun, Sign, Subject, chosen


def _without(reason: str, subject: Subject) -> NotRun:
    return NotRun(reason)


CHECKS: tuple[Check, ...] = (
    ("TRAIN_MODE", behaviour.train_mode),
    ("RANDOM", behaviour.random),
    ("BATCH_DEPENDENT", behaviour.batch_dependent),
    ("TEST_TIME_GRADIENTS", behaviour.differentiates),
    ("NORMALISATION", conventions.normalisation),
    ("NORMALISED_INPUTS", conventions.normalised),
    ("RADIUS_TOO_LARGE", radius.too_large),
    ("RADIUS_TOO_SMALL", radius.too_small),
    ("CLEAN_ACCURACY", accuracy.clean_accuracy),
    ("SOFTMAX_OUTPUTS", outputs.probabilities),
    ("FEW_CLASSES", outputs.few_classes),
    ("QUANTISED", gradients.quantised),
    ("UNAVAILABLE_GRADIENTS", gradients.unavailable),
    ("UNDERFLOW", gradients.underflow),
    ("GRADIENT_MISMATCH", gradients.mismatch),
    ("UNSTABLE_PREDICTIONS", stability.unstable),
    ("UNCONSTRAINED_FAILS", unconstrained.unconstrained),
    ("TRANSFER_FAILURE", partial(_without, "it needs a second model")),
    ("SQUARE_IS_STRONGER", partial(_without, "it needs a search without gradients")),
)
SIGNS: tuple[Sign, ...] = (
    ("ZERO_GRADIENT", recorded.zero_gradient),
    ("NON_FINITE", recorded.non_finite),
    ("NOT_CONVERGED", recorded.not_converged),
    ("INCOMPLETE", recorded.incomplete),
    ("SILENT_SUCCESS", recorded.silent),
    ("CYCLE", recorded.cycle),
    ("RESCUED", recorded.rescued),
)
#: Code -> codes that explain it. One cause is one finding: where a cause was found, the
#: consequence is told by "found: see CAUSE" among the checks only.
CAUSES: dict[str, tuple[str, ...]] = {
    "BATCH_DEPENDENT": ("RANDOM",),
    "NORMALISED_INPUTS": ("NORMALISATION",),
    "CLEAN_ACCURACY": ("NORMALISATION", "SOFTMAX_OUTPUTS"),
    "QUANTISED": ("RANDOM",),
    "UNAVAILABLE_GRADIENTS": ("QUANTISED",),
    "UNDERFLOW": ("QUANTISED", "SOFTMAX_OUTPUTS", "NORMALISATION"),
    "GRADIENT_MISMATCH": (
        *("RANDOM", "QUANTISED", "UNAVAILABLE_GRADIENTS", "TEST_TIME_GRADIENTS"),
    ),
    "UNSTABLE_PREDICTIONS": ("RANDOM", "QUANTISED"),
    "UNCONSTRAINED_FAILS": (
        *("RANDOM", "QUANTISED", "UNAVAILABLE_GRADIENTS", "TEST_TIME_GRADIENTS"),
        *("UNDERFLOW", "SOFTMAX_OUTPUTS", "FEW_CLASSES", "GRADIENT_MISMATCH"),
        *("UNSTABLE_PREDICTIONS", "NORMALISATION"),
    ),
}


@dataclass(frozen=True)
class Screening:
    """What the checks of model and data came to.

    Attributes:
        findings: those that fired.
        checks: code -> "clear", "found", "found: see CODE" or "not run: reason".
        sample: ids of the examples that costly checks looked at.
    """

    findings: tuple[Finding, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    sample: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a run's record; `Screening.of` reads it."""
        return {
            "findings": [finding.as_json() for finding in self.findings],
            "checks": dict(self.checks),
            "sample": list(self.sample),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Screening":
        """From `as_json`."""
        findings = tuple(Finding.of(entry) for entry in values["findings"])
        return cls(findings, values["checks"], tuple(values["sample"]))


def screen(problem: Problem, seed: int = 0, size: int = SAMPLE) -> Screening:
    """Check model and data once.

    Args:
        problem: of all examples.
        seed: names the sample and every random number.
        size: examples in the sample.

    Returns:
        `Screening`. A check that fails is reported as not run, with its error.
    """
    index = chosen(problem, seed, size)
    # Checks meet the model in eval mode.
    training = behaves_differently_in_training(problem.model)
    subject = Subject(problem, problem.take(index), seed, training)
    found: dict[str, Finding] = {}
    checks: dict[str, str] = {}
    for code, check in CHECKS:
        with undisturbed(problem.model), collected_warnings():
            try:
                said = check(subject)
            # Whatever a model raises, the attack itself goes on.
            except Exception as error:
                text = str(error).splitlines()
                said = NotRun(text[0] if text else type(error).__name__)
        cause = next((c for c in CAUSES.get(code, ()) if c in found), "")
        if isinstance(said, NotRun):
            checks[code] = f"not run: {said.reason}"
        elif said and cause:
            checks[code] = f"found: see {cause}"
        else:
            checks[code] = "found" if said else "clear"
        if isinstance(said, Finding) and not cause:
            found[code] = said
    ids = torch.as_tensor(problem.ids)[index.cpu()].tolist()
    return Screening(tuple(found.values()), checks, tuple(ids))


def signs(arrays: Mapping[str, Tensor]) -> tuple[Sequence[Finding], dict[str, str]]:
    """Read the arrays of a run: findings, and "clear", "found" or "not run" by code.

    Args:
        arrays: of all blocks.
    """
    findings, checks = [], {}
    for code, sign in SIGNS:
        said = sign(arrays)
        if isinstance(said, NotRun):
            checks[code] = f"not run: {said.reason}"
            continue
        checks[code] = "found" if said else "clear"
        findings += [said] if said else []
    return findings, checks
