"""All examples of a run, of which some at a time are in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.cells import digest_arrays
from summiteer.data import Column, Examples
from summiteer.examination import problem_of
from summiteer.inputs import usable_targets
from summiteer.objectives import Quadratic, classifies, default_objective
from summiteer.problem import Problem
from summiteer.settings import Settings

#: Examples of the head.
_HEAD = 256


@dataclass(frozen=True, eq=False)
class Population:
    """All examples of a run.

    Per example it holds id and target, 16 bytes for a label; inputs are read when they
    are asked for.

    Attributes:
        head: problem of the first of them, up to 256: its model, objective, dtype and
            device are those of all.
        ids: `[n]` int64.
        labelled: whether all targets are labels; see `Problem.labelled`.
        span: the least and the largest number of all inputs.
        digests: name -> digest of what they are, for a run's specification.
        part: indices in ascending order `[rows]` -> the problem of these examples.
    """

    head: Problem
    ids: Tensor
    labelled: bool
    span: tuple[float, float]
    digests: Mapping[str, str]
    part: Callable[[Tensor], Problem]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, problem: Problem) -> "Population":
        """All examples of a problem that is in memory.

        Args:
            problem: of all examples.
        """
        ids, inputs = torch.as_tensor(problem.ids), problem.inputs
        arrays = {"inputs": inputs, "targets": problem.targets, "ids": ids}
        digests = {"digest": digest_arrays(arrays)}
        if problem.mask is not None:
            digests["mask"] = digest_arrays({"": problem.mask})
        span = float(inputs.min()), float(inputs.max())
        return cls(problem, ids, problem.labelled, span, digests, problem.take)


def population_of(
    model: Model,
    found: Examples,
    settings: Settings,
    mask: Column | Tensor | None,
    device: str = "cpu",
) -> Population:
    """Return the checked population of a command.

    Args:
        model: the caller's.
        found: the examples, looked at.
        settings: of the command; its mask does not count.
        mask: which coordinates may move: bool `[*input]`, or rows `[n, *input]`.
        device: where the model is, and where the examples of a block are brought.

    Raises:
        UserError: an argument cannot be used.
    """

    def moves(index: Tensor) -> Tensor | None:
        return mask.take(index) if isinstance(mask, Column) else mask

    few = torch.arange(len(found.ids))[:_HEAD]
    plain = replace(
        settings, mask=moves(few), objective=settings.objective or Quadratic()
    )
    head = problem_of(
        model,
        found.inputs.take(few).to(device),
        found.targets[few],
        plain,
        found.ids[few],
    )
    targets = usable_targets(found.targets, head.inputs, len(found.ids))
    if settings.objective is None:
        with undisturbed(model):
            objective = default_objective(head.probe(), targets)
        head = head.with_objective(objective)
    head.examine_targets(targets)

    def part(index: Tensor) -> Problem:
        return head.with_examples(
            found.inputs.take(index),
            targets[index],
            found.ids[index],
            settings.region,
            moves(index),
        )

    digests = {"digest": found.digest}
    if isinstance(mask, Column):
        digests["mask"] = mask.digest("")
    elif mask is not None:
        digests["mask"] = digest_arrays({"": mask})
    span = found.low, found.high
    return Population(head, found.ids, classifies(targets), span, digests, part)
