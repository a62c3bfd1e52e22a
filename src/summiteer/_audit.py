"""Other tools' adversarial examples, examined: what are they, and what is left?"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.audit_summary import audit_result
from summiteer.errors import SummiteerWarning, UserError, collected_warnings
from summiteer.examination import (
    block_size_of,
    blocks_of,
    examined,
    gather,
    problem_of,
    proved_robustness,
)
from summiteer.objectives import Objective
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.screen import Screening, screen
from summiteer.settings import Effort, Settings
from summiteer.starts import GivenStart

#: One run from the point that is examined.
EFFORT = Effort(restarts=0, max_steps=100, more_steps=0)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        arrays: per example, see `audit_block`.
        result: the content of result.json (architecture.md), without run and files.
    """

    arrays: Mapping[str, Tensor]
    result: Mapping[str, Any]

    @property
    def claimed_robust_accuracy(self) -> float | None:
        """Share correct at the given examples as they are; None for regression."""
        claimed: float | None = self.result["claimed_robust_accuracy"]
        return claimed

    @property
    def corrected_robust_accuracy(self) -> float | None:
        """Share that no allowed point found here breaks; None for regression."""
        corrected: float | None = self.result["corrected_robust_accuracy"]
        return corrected

    def explain(self, i: int) -> str:
        """Say in a few lines what the i-th given example is and what is left."""
        raise NotImplementedError


def audit(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    adversarial_inputs: Tensor,
    *,
    region: Region,
    box: tuple[float, float] | None = (0.0, 1.0),
    objective: Objective | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    within: float = tolerances.WITHIN,
    block_size: int | None = None,
    screened: bool = True,
) -> Audit:
    """Examine adversarial examples that any tool made.

    Args:
        model: an nn.Module or callable; run in eval mode, left as it was.
        inputs: `[n, *input]` the clean inputs, in the model's dtype.
        targets: labels, ±1 or floats; see `default_objective`.
        adversarial_inputs: `[n, *input]` in any dtype, in the units of `inputs`.
        region: the set of perturbations that the tool was to keep to.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended.
        mask: bool, which coordinates may move.
        seed: of the failure screen's sample.
        within: search distance of verdicts, in radii.
        block_size: examples at once; chosen by memory if None.
        screened: whether the failure screen looks at model and data.

    Returns:
        `Audit`.

    Raises:
        UserError: an argument cannot be used.

    Warns:
        SummiteerWarning: what makes the claimed accuracy mean less than it seems to.
    """
    settings = Settings(
        region=region,
        box=box,
        objective=objective,
        effort=EFFORT,
        seed=seed,
        within=within,
        mask=mask,
        screened=screened,
    )
    began = time.monotonic()
    with collected_warnings() as messages:
        problem = problem_of(model, inputs, targets, settings)
        given = check_given(problem, adversarial_inputs)
        problem.examine()
        size = block_size_of(problem, settings, block_size)
        screening = screen(problem, seed) if screened else Screening()
        blocks = [
            audit_block(problem.take(index), given[index], settings)
            for index in blocks_of(len(problem), size)
        ]
    arrays = gather(blocks)
    seconds = round(time.monotonic() - began, 3)
    result = audit_result(
        arrays, settings, problem, messages, screening, seconds=seconds
    )
    for finding in result["findings"]:
        warnings.warn(finding["text"], SummiteerWarning, stacklevel=2)
    return Audit(arrays, result)


def check_given(problem: Problem, given: Tensor) -> Tensor:
    """Return the given examples, or say why they cannot be examined.

    Args:
        problem: of all examples.
        given: `[n, *input]`.

    Raises:
        UserError: another shape.
    """
    if not isinstance(given, Tensor) or given.shape != problem.inputs.shape:
        got = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise UserError(
            "adversarial_inputs: expected a tensor of the inputs' shape "
            f"{list(problem.inputs.shape)}, got {got}."
        )
    return given.detach()


def audit_block(
    problem: Problem, given: Tensor, settings: Settings
) -> dict[str, Tensor]:
    """Examine one block of given examples, and ascend from them.

    Args:
        problem: of the block's examples.
        given: `[batch, *input]` adversarial inputs as they came.
        settings: of the audit.

    Returns:
        The arrays of `examined` at the given points (projected where outside) and, with
        one entry per example: claimed (correct at the given input as it is), survived
        (no allowed point found here breaks it), outcome, broken, gained (objective), …
    """
    perturbations = given.to(problem.inputs.device).double() - problem.inputs.double()
    points = problem.feasible.project(perturbations.to(problem.inputs))
    arrays = examined(problem, points, settings.within)
    with undisturbed(problem.model):
        rows = problem.rows()
        claimed = ~rows.value(perturbations.to(points)).wrong
        inside = ~rows.value(points).wrong
    ascent = ascend(
        problem, settings.adversary, GivenStart(points), settings.effort.max_steps
    )
    survived = arrays["correct"] & inside.cpu()
    if ascent.misclassified is not None:
        survived = survived & ~ascent.misclassified.cpu()
    codes = np.vectorize(lambda outcome: outcome.code, otypes=[np.int8])
    return arrays | {
        "claimed": claimed.cpu(),
        "survived": survived,
        "gained": ascent.best_loss.double().cpu() - arrays["losses"],
        "outcome": torch.from_numpy(codes(ascent.outcome))[0],
        "broken": torch.from_numpy((ascent.outcome == Outcome.NON_FINITE).any(0)),
        "proved_robust": proved_robustness(problem, survived),
        "gradient_evaluations": torch.tensor([ascent.gradient_evaluations]),
    }
