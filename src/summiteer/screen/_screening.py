"""Running the checks: on a seeded sample, each at most once, none may stop the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.draws import SCREEN, Draws
from summiteer.findings import Finding
from summiteer.problem import Problem
from summiteer.screen import recorded

#: Examples that the costly checks look at (field.md §5).
SAMPLE = 32


@dataclass(frozen=True)
class NotRun:
    """A check that could not be made, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Subject:
    """What the checks look at.

    Attributes:
        problem: of all examples.
        sample: the problem of the seeded sample.
        seed: of the run.
    """

    problem: Problem
    sample: Problem
    seed: int


#: (code, check): a check returns what it found, None where all is well, or `NotRun`.
Check: TypeAlias = tuple[str, Callable[[Subject], Finding | NotRun | None]]
#: (code, sign): reads arrays per example (see `attack_block`, `audit_block`).
Sign: TypeAlias = tuple[str, Callable[[Mapping[str, Tensor]], Finding | None]]

CHECKS: tuple[Check, ...] = ()
SIGNS: tuple[Sign, ...] = (
    ("ZERO_GRADIENT", recorded.zero_gradient),
    ("NON_FINITE", recorded.non_finite),
    ("NOT_CONVERGED", recorded.not_converged),
)


@dataclass(frozen=True)
class Screening:
    """What the checks of model and data came to.

    Attributes:
        findings: those that fired.
        checks: code -> "clear", "found" or "not run: reason".
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
        findings = []
        for entry in values["findings"]:
            ids = entry["examples"]
            findings.append(
                Finding(
                    entry["code"],
                    entry["seen"],
                    entry["effect"],
                    entry["remedy"],
                    None if ids is None else tuple(ids),
                )
            )
        return cls(tuple(findings), values["checks"], tuple(values["sample"]))


def screen(problem: Problem, seed: int = 0, size: int = SAMPLE) -> Screening:
    """Check model and data once.

    Args:
        problem: of all examples.
        seed: names the sample and every random number.
        size: examples in the sample.

    Returns:
        `Screening`. A check that fails is reported as not run, with its error.
    """
    chosen = _sample(problem, seed, size)
    subject = Subject(problem, problem.take(chosen), seed)
    findings, checks = [], {}
    for code, check in CHECKS:
        with undisturbed(problem.model):
            try:
                found = check(subject)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                found = NotRun(str(error).splitlines()[0] if str(error) else "failed")
        if isinstance(found, NotRun):
            checks[code] = f"not run: {found.reason}"
        else:
            checks[code] = "found" if found else "clear"
            findings += [found] if found else []
    ids = torch.as_tensor(problem.ids)[chosen].tolist()
    return Screening(tuple(findings), checks, tuple(ids))


def signs(arrays: Mapping[str, Tensor]) -> tuple[Sequence[Finding], dict[str, str]]:
    """Read the arrays of a run: findings, and "clear" or "found" by code.

    Args:
        arrays: of all blocks.
    """
    findings, checks = [], {}
    for code, sign in SIGNS:
        found = sign(arrays)
        checks[code] = "found" if found else "clear"
        findings += [found] if found else []
    return findings, checks


def _sample(problem: Problem, seed: int, size: int) -> Tensor:
    """Indices of the `size` examples with the smallest random numbers, in order."""
    ids = torch.as_tensor(problem.ids)
    draws = Draws(seed, ids, torch.zeros_like(ids)).on(SCREEN)
    order = draws.uniform(1)[:, 0].argsort(stable=True)
    return order[:size].sort().values
