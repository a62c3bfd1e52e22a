"""Blocks of examples, and what is measured at the points of a block."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from summiteer import _rows, memory
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.ascent import Ascent
from summiteer.errors import UserError
from summiteer.networks import Opaque, recognise
from summiteer.objectives import Quadratic, default_objective
from summiteer.optimality import Evidence, Verdict, local_optimality
from summiteer.optimality.bracket import proved_robust
from summiteer.outcome import Outcome
from summiteer.precision import in_double
from summiteer.problem import Problem
from summiteer.settings import Settings

OUTCOME_NAMES = tuple(outcome.name for outcome in Outcome)
VERDICT_NAMES = tuple(verdict.name for verdict in Verdict)
EVIDENCE_NAMES = tuple(evidence.name for evidence in Evidence)

#: More at once is no faster. A power of two, as all automatic sizes are.
_LARGEST_BLOCK = {"cpu": 256, "cuda": 2048}
#: Runs that an example costs at least. A search makes eight at once; its certificates
#: hold what 13 runs do, measured with 784-1000-10 networks, tanh and ReLU, and with a
#: small convolutional one.
_RUNS_AT_ONCE = 16


#: Arrays with as many numbers per example as an input, or as the user likes.
_WIDE = ("inputs", "targets", "perturbations")
#: Arrays with one number per block.
_SUMMED = ("gradient_evaluations",)
#: Quantiles that stand for all examples of a block on a path, and the most steps at
#: which they are kept: as much as three inputs of 28x28, whatever the block.
QUANTILES, _PATH_STEPS = 25, 40


def problem_of(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    settings: Settings,
    ids: Tensor | None = None,
) -> Problem:
    """Return the checked problem of an attack; the default objective if none is given.

    Args:
        model: the caller's.
        inputs: `[n, *input]`.
        targets: `[n, …]`.
        settings: of the attack.
        ids: one integer per example; 0, 1, … if None.

    Raises:
        UserError: an argument cannot be used.
    """
    problem = Problem(
        model,
        inputs,
        torch.as_tensor(targets),
        settings.objective or Quadratic(),
        settings.region,
        box=settings.box,
        mask=settings.mask,
        ids=ids,
    )
    if settings.objective is not None:
        return problem
    with undisturbed(model):
        objective = default_objective(problem.probe(), problem.targets)
    return replace(problem, objective=objective)


def block_size_of(
    problem: Problem, settings: Settings, wanted: int | None, workers: int = 1
) -> int:
    """Examples attacked at once: `wanted`, or what fits into memory.

    That is the largest power of two, from 1 to 256 (2048 on a GPU), whose runs take no
    more than a share of the memory that is free now (`summiteer.memory`). It may differ
    from call to call, and is written down by whoever goes on from it later.

    Args:
        problem: of all examples.
        settings: of the attack.
        wanted: by the user, or None.
        workers: processes that share the memory.

    Raises:
        UserError: `wanted` is below 1.
    """
    if wanted is not None:
        if wanted < 1:
            raise UserError(f"block_size: expected an integer ≥ 1, got {wanted}.")
        return wanted
    device = problem.inputs.device
    runs = max(_RUNS_AT_ONCE, settings.effort.restarts + 1)
    room = memory.SHARE * memory.free_bytes(device) / workers
    fits = int(room // (runs * memory.row_bytes(problem)))
    size = _LARGEST_BLOCK.get(device.type, _LARGEST_BLOCK["cpu"])
    while size > max(1, fits):
        size //= 2
    return size


def blocks_of(count: int, size: int) -> Iterator[Tensor]:
    """The indices of each block of at most `size` examples."""
    for first in range(0, count, size):
        yield torch.arange(first, min(first + size, count))


def examined(problem: Problem, points: Tensor, within: float) -> dict[str, Tensor]:
    """What the points are: certificate, losses, and what the model says there.

    Args:
        problem: of the block's examples.
        points: `[batch, *input]` feasible perturbations.
        within: search distance of verdicts, in radii.

    Returns:
        Arrays with one entry per example: ids, inputs, targets, perturbations
        (float64), losses (at the perturbation), clean_losses, residuals (float64
        examination), verdict, evidence (int8 codes, see the *_NAMES tables), correct
        (clean), masked (gradient exactly zero and no maximum); and, proved, NaN where
        nothing is: distance_bounds and loss_gap_bounds (to the maximum, and what is to
        be gained up to it), upper_bounds (of the objective on the region).
    """
    certificate = local_optimality(on_cpu(problem), points.cpu(), within)
    with undisturbed(problem.model):
        rows = problem.rows()
        clean, after = rows.value(torch.zeros_like(points)), rows.evaluate(points)
    # NaN is evidence of nothing, least of all of a right answer.
    correct = ~clean.wrong & ~clean.loss.isnan()
    return {
        "ids": torch.as_tensor(problem.ids),
        "inputs": problem.inputs.cpu(),
        "targets": problem.targets.cpu(),
        "perturbations": points.double().cpu(),
        "losses": after.loss.double().cpu(),
        "clean_losses": clean.loss.double().cpu(),
        "residuals": certificate.residual.double().cpu(),
        "verdict": _codes(VERDICT_NAMES, [v.name for v in certificate.verdict]),
        "evidence": _codes(EVIDENCE_NAMES, [e.name for e in certificate.evidence]),
        "correct": correct.cpu(),
        "masked": (_rows.norm(after.gradient) == 0).cpu() & ~certificate.maximum.cpu(),
        "distance_bounds": certificate.distance_bound.cpu(),
        "loss_gap_bounds": certificate.loss_gap_bound.cpu(),
        "upper_bounds": certificate.upper_bound.cpu(),
    }


def paths_of(
    ascents: Sequence[Ascent], planned: Sequence[int], survived: Tensor
) -> dict[str, Tensor]:
    """How the runs of a block went: quantiles, not every example's path.

    A run that has stopped stays where it was. Paths of blocks are merged by pooling
    their quantiles with the blocks' weights: each stands for 1/25 of its block, so
    that ranks are right within 2 %.

    Args:
        ascents: of which the first shows how the loss rose, the last how the residual
            fell, each along the best run of an example.
        planned: the most steps of both, the same for all blocks.
        survived: `[batch]` bool.

    Returns:
        path_losses and path_residuals `[1, 2, steps, QUANTILES]` float32, of all
        examples and of the survivors, NaN where there are none; path_losses_steps and
        path_residuals_steps `[1, steps]` int32. What was not recorded is left out.
    """
    paths = {}
    fields = (("losses", "loss", 0), ("residuals", "residual", -1))
    for (name, field, number), most in zip(fields, planned, strict=True):
        ascent = ascents[number]
        values = getattr(ascent.trajectory, field, None)
        if values is None or ascent.trajectory is None:
            continue
        grid = torch.linspace(0, most, min(most, _PATH_STEPS) + 1).round().long()
        at = torch.searchsorted(ascent.trajectory.step, grid, right=True) - 1
        best = ascent.of_best(values).float()
        record = torch.arange(len(best))[:, None]
        last = torch.where(best.isfinite(), record, 0).cummax(0).values
        there = best.gather(0, last)[at]
        parts = [_quantiles(there), _quantiles(there[:, survived])]
        paths[f"path_{name}"] = torch.stack(parts)[None]
        paths[f"path_{name}_steps"] = grid.to(torch.int32)[None]
    return paths


def _quantiles(values: Tensor) -> Tensor:
    """`[rows, QUANTILES]` in the middle of equal parts of the finite values."""
    known = values.isfinite()
    sorted_ = values.masked_fill(~known, torch.inf).sort(1).values
    count = known.sum(1, keepdim=True)
    part = (torch.arange(QUANTILES) + 0.5) / QUANTILES
    index = (part * count).long().clamp(max=max(values.shape[1] - 1, 0))
    if not values.shape[1]:
        return torch.full((len(values), QUANTILES), torch.nan)
    return sorted_.gather(1, index).masked_fill(count == 0, torch.nan)


@dataclass(frozen=True, eq=False)
class _Remote:
    """A model on another device, for rows on the CPU, in their own dtype or float64.

    Attributes:
        module: the caller's.
        exact: the same for float64.
        device: where both are.
    """

    module: Model
    exact: Model
    device: torch.device

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs on `inputs` `[rows, *input]`, on their device."""
        model = self.exact if inputs.dtype == torch.float64 else self.module
        return model(inputs.to(self.device)).to(inputs.device)


def on_cpu(problem: Problem) -> Problem:
    """Return the problem with everything on the CPU, where proofs are made.

    Networks with a structure that proofs speak of are copied; of others each forward
    and backward pass is still made where they are.

    Args:
        problem: on any device; not changed.
    """
    device = problem.inputs.device
    if device.type == "cpu":
        return problem
    model: Model = problem.model
    if isinstance(model, nn.Module) and not isinstance(recognise(model), Opaque):
        model = copy.deepcopy(model).cpu()
    else:
        with undisturbed(model):
            exact = in_double(model, problem.inputs[:2])
        model = _Remote(model, exact, device)
    return problem.on(torch.device("cpu"), model)


def _codes(names: tuple[str, ...], values: list[str]) -> Tensor:
    return torch.tensor([names.index(value) for value in values], dtype=torch.int8)


def proved_robustness(problem: Problem, survived: Tensor) -> Tensor:
    """Which examples are proved correct on the whole region.

    Args:
        problem: of the block's examples.
        survived: `[batch]` bool; what an attack has broken needs no bound.

    Returns:
        `[batch]` int8: 1 proved, 0 not, -1 where no bound is known.
    """
    index = survived.nonzero().flatten()
    # One example, if none survived, tells whether there is a bound at all.
    asked = index if len(index) else torch.zeros(1, dtype=torch.int64)
    with undisturbed(problem.model):
        proved = proved_robust(on_cpu(problem.take(asked)).in_double())
    robust = torch.zeros(len(survived), dtype=torch.int8)
    if proved is None:
        return robust - 1
    return robust.index_copy(0, index.cpu(), proved[: len(index)].to(torch.int8).cpu())


def gather(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the arrays of all blocks together, in order."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def numbers_of(blocks: Iterable[Mapping[str, Tensor]], count: int) -> dict[str, Tensor]:
    """Return what the blocks say in a few numbers per example, in order.

    Args:
        blocks: arrays of each block, taken one after the other.
        count: examples of all blocks.

    Returns:
        The arrays of all examples that all blocks have. Of inputs, targets and
        perturbations only what they are made of, `[0, …]`; of gradient_evaluations the
        sum `[1]`; paths (`paths_of`) are left out.
    """
    whole: dict[str, Tensor] = {}
    first = 0
    for block in blocks:
        rows = len(block["ids"])
        if not first:
            whole = {
                name: _room(name, values, count)
                for name, values in block.items()
                if not name.startswith("path_")
            }
        whole = {name: values for name, values in whole.items() if name in block}
        for name, values in whole.items():
            if name in _SUMMED:
                values += block[name].sum()
            elif name not in _WIDE:
                values[first : first + rows] = block[name]
        first += rows
    return whole


def _room(name: str, values: Tensor, count: int) -> Tensor:
    if name in _SUMMED:
        return torch.zeros_like(values[:1])
    return values.new_empty(0 if name in _WIDE else count, *values.shape[1:])
