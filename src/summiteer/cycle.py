"""The cycle that a run fell into, made once more to be looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.adversaries import Adversary
from summiteer.ascent import Ascent
from summiteer.errors import UserError
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.recurrence import memoryless
from summiteer.starts import GivenStart


@dataclass(frozen=True, eq=False)
class Cycle:
    """The iterates that a run goes through again and again.

    Attributes:
        members: `[period, *input]` perturbations, the run's final one first.
        losses: `[period]` objective there.
        oscillating: `[*input]` bool, coordinates that are not the same in all members.
        apart: largest difference of any coordinate between the first member and what
            the step from the last one makes. 0 where the cycle closes here too, bit by
            bit. It may not where the run was computed in the row space or in the
            batch of others, whose rounding differs from that of one row.
    """

    members: Tensor
    losses: Tensor
    oscillating: Tensor
    apart: float


def cycle_members(
    problem: Problem,
    adversary: Adversary,
    ascent: Ascent,
    restart: int,
    example: int,
) -> Cycle:
    """Make the steps of a run's cycle once more: δ, T(δ), T(T(δ)) and so on.

    Args:
        problem: the one that was ascended.
        adversary: the method that did.
        ascent: what came of it.
        restart: number of the run.
        example: number of the example.

    Returns:
        The cycle; two gradient evaluations per member.

    Raises:
        UserError: that run did not end in a cycle, or the method is not one that can.
    """
    try:
        outcome = ascent.outcome[restart, example]
    except IndexError:
        raise UserError(
            f"restart, example: expected numbers within {list(ascent.outcome.shape)}, "
            f"got {restart}, {example}."
        ) from None
    if outcome is not Outcome.CYCLE:
        raise UserError(
            f"restart, example: run {restart} of example {example} did not end in a "
            f"cycle but as {outcome.name}; those that did are where "
            "ascent.outcome == Outcome.CYCLE."
        )
    if not memoryless(adversary):
        raise UserError(
            f"adversary: {adversary!r} has a memory; give the one whose run it was."
        )
    index = torch.tensor([example], device=ascent.final.device)
    alone, points = problem.take(index), ascent.final[restart, example][None]
    members, losses = [], []
    for _ in range(int(ascent.period[restart, example])):
        step = ascend(
            alone,
            adversary,
            GivenStart(points),
            max_steps=1,
            tolerance=None,
            space="input",
            rescue=False,
        )
        members.append(points[0])
        losses.append(problem.rows(index).value(points).loss[0])
        points = step.final[0]
    found = torch.stack(members)
    return Cycle(
        members=found,
        losses=torch.stack(losses),
        oscillating=(found != found[0]).any(0),
        apart=float((points[0] - found[0]).abs().max()),
    )
