"""What the checks look at, and what several of them need, computed once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from summiteer.draws import SCREEN, Draws
from summiteer.findings import Finding
from summiteer.loop.rescue import coarse
from summiteer.objectives import misclassified
from summiteer.problem import Evaluation, Problem
from summiteer.screen.forward_pass import ForwardPass, watch
from summiteer.screen.slopes import Slopes, flat, generic, slopes

#: Examples that the costly checks look at (field.md §5).
SAMPLE = 32
#: Examples whose clean accuracy is looked at.
WIDE_SAMPLE = 256
#: A finding about the model needs at least this share of the sample: one example may
#: sit on a plateau of a healthy network.
SHARE = 0.1


#: Random numbers of so many examples are made at once.
_DRAWN_AT_ONCE = 2**12


@dataclass(frozen=True)
class NotRun:
    """A check that could not be made, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Subject:
    """What the checks look at.

    Attributes:
        problem: of all examples, or of a random part of very many.
        sample: the problem of the seeded sample.
        seed: of the run.
        training: a module in train mode whose outputs depend on the mode, or "".
    """

    problem: Problem
    sample: Problem
    seed: int
    training: str = ""

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The box, or where there is none the range of all inputs."""
        if self.problem.box is not None:
            low, high = self.problem.box
            return float(low), float(high)
        inputs = self.problem.inputs
        return float(inputs.min()), float(inputs.max())

    @property
    def width(self) -> float:
        """Of `limits`."""
        return self.limits[1] - self.limits[0]

    @cached_property
    def outputs(self) -> Tensor:
        """The model's outputs on the sample."""
        with torch.no_grad():
            outputs: Tensor = self.sample.model(self.sample.inputs)
        return outputs

    @cached_property
    def correct(self) -> Tensor:
        """Which examples of the sample are classified correctly."""
        wrong = misclassified(self.outputs, self.sample.targets)
        return ~wrong & flat(self.outputs).isfinite().all(1)

    @cached_property
    def drowned(self) -> Tensor:
        """Examples whose outputs differ by rounding alone, but not in float64."""
        own = coarse(self.outputs)
        if not bool(own.any()):
            return own
        with torch.no_grad():
            return own & ~coarse(self.exact.model(self.exact.inputs))

    @cached_property
    def start(self) -> Evaluation:
        """Loss and gradient at the sample itself."""
        return self.sample.rows().evaluate(torch.zeros_like(self.sample.inputs))

    @cached_property
    def nearby(self) -> Evaluation:
        """Loss and gradient at random points nearby."""
        inputs = self.sample.inputs
        points = generic(inputs, self.limits, self.draws(16))
        return self.sample.rows().evaluate(points - inputs)

    @cached_property
    def forward_pass(self) -> ForwardPass:
        """What the model did with a few inputs."""
        return watch(self.sample.model, self.sample.inputs[:2])

    @cached_property
    def exact(self) -> Problem:
        """The sample in float64."""
        return self.sample.in_double()

    @cached_property
    def slopes(self) -> Slopes:
        """Gradient and differences of the outputs, in float64."""
        eps = torch.finfo(self.exact.precision()).eps
        return slopes(self.exact, self.limits, self.draws(16), eps)

    def draws(self, stream: int) -> Draws:
        """Random numbers of the sample's examples.

        Args:
            stream: below 2**20; 0 is the sample's own choice.
        """
        ids = torch.as_tensor(self.sample.ids).cpu()
        return Draws(self.seed, ids, torch.zeros_like(ids)).on(SCREEN + stream)

    def ids(self, mask: Tensor) -> tuple[int, ...]:
        """Ids of the sample's examples in `mask` `[sample]`."""
        return tuple(torch.as_tensor(self.sample.ids).cpu()[mask.cpu()].tolist())

    def count(self, mask: Tensor) -> str:
        """How many of the sample are in `mask`, in words."""
        return f"{int(mask.sum())} of {len(self.sample)} sampled examples"

    def many(self, mask: Tensor) -> bool:
        """Whether `mask` holds enough of the sample for a finding about the model."""
        return int(mask.sum()) >= max(1.0, SHARE * len(self.sample))


def chosen(problem: Problem, seed: int, size: int) -> Tensor:
    """Indices of the `size` examples with the smallest random numbers, in order.

    Args:
        problem: of all examples.
        seed: of the run.
        size: how many; fewer if there are fewer.
    """
    ids = torch.as_tensor(problem.ids).cpu()
    return drawn(ids, seed, size).to(problem.inputs.device)


def drawn(ids: Tensor, seed: int, size: int) -> Tensor:
    """Places of the `size` ids with the smallest random numbers, in order.

    Of fewer ids drawn so from more, the same ids are drawn: `drawn` of the 8192 that
    were drawn from all are those that would be drawn from all.

    Args:
        ids: `[n]` int64 of all examples.
        seed: of the run.
        size: how many; fewer if there are fewer.
    """
    # In parts: making one number takes the room of fifty.
    parts = [
        Draws(seed, some, torch.zeros_like(some)).on(SCREEN).uniform(1)[:, 0]
        for some in torch.split(ids, _DRAWN_AT_ONCE)
    ]
    order = torch.cat(parts).argsort(stable=True)
    return order[:size].sort().values


#: (code, check): a check returns what it found, None where all is well, or `NotRun`.
Check: TypeAlias = tuple[str, Callable[[Subject], Finding | NotRun | None]]
#: (code, sign): reads arrays per example (see `attack_block`, `audit_block`).
Sign: TypeAlias = tuple[str, Callable[[Mapping[str, Tensor]], Finding | NotRun | None]]
