"""In which space the runs of a two-layer problem take the least time."""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from summiteer import _rows
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.problem import Problem
from summiteer.spaces.hidden_space import HiddenSpace
from summiteer.spaces.input_space import InputSpace
from summiteer.spaces.row_space import RowSpace

Chosen: TypeAlias = InputSpace | RowSpace | HiddenSpace

#: Dtypes whose rounding is small beside what runs are asked for.
_DTYPES = (torch.float32, torch.float64)
#: What a number of a point costs in a step besides the products, in neurons: both take
#: as long at about m = 50; see `_costs`.
_NEURONS = 50
#: What a step costs more in the hidden space however few its rows: 0.2 ms.
_CALLS = 4_400_000
#: Steps that take this share of the time or less repay what is not counted.
_SHARE = 0.9


def choose(
    problem: Problem,
    methods: Sequence[object],
    runs: int,
    max_steps: int,
    wanted: str,
) -> Chosen | None:
    """The space of a two-layer problem; None for the caller's model and autograd.

    Args:
        problem: the caller's.
        methods: what sees points or gradients in the runs.
        runs: examples × restarts.
        max_steps: of each.
        wanted: "auto" for the one that takes the least time, or its name.

    Raises:
        UserError: it cannot be had but must; the message says why.
    """
    network = _network(problem)
    if isinstance(network, str):
        if wanted in {"row", "hidden"}:
            raise UserError(f'space: "{wanted}" cannot be had: {network}.')
        return None
    costs = _costs(network, runs, max_steps)
    names = sorted(costs, key=costs.__getitem__) if wanted == "auto" else [wanted]
    for name in names:
        unpaid = costs[name] > _SHARE * costs["input"]
        if name == "input" or (wanted == "auto" and unpaid):
            break
        space = _made(problem, network, methods, name)
        if not isinstance(space, str):
            return space
        if wanted == name:
            raise UserError(f'space: "{name}" cannot be had: {space}.')
    return InputSpace(problem, network)


def _network(problem: Problem) -> TwoLayerNetwork | str:
    """The two-layer network that the model is, or why its rows are the caller's."""
    structure = as_two_layer(problem.model)
    if not isinstance(structure, TwoLayer):
        return f"the model is no two-layer network ({structure.reason})"
    if type(problem) is not Problem:
        return f"{type(problem).__name__} may have rows of its own"
    if problem.inputs.dtype not in _DTYPES:
        return f"{problem.inputs.dtype} would not give the same runs"
    return structure.network


def _made(
    problem: Problem, network: TwoLayerNetwork, methods: Sequence[object], name: str
) -> RowSpace | HiddenSpace | str:
    """The space called `name`, or why it cannot be had."""
    region = problem.feasible
    if not region.whole_ball:
        return "the region is not a whole L2 ball or sphere"
    if name == "hidden" and region.norm != "l2":
        return "a sphere's projection does more than scale"
    if not bool(_rows.norm(network.hidden_weights.detach()).isfinite().all()):
        return "the length of a row of W is not finite"
    asked = through_rows if name == "hidden" else rotation_invariant
    for method in methods:
        if not asked(method):
            return f"{method!r} does not say that it is {asked.__name__}"
    if name == "row":
        return RowSpace.of(problem, network)
    space = HiddenSpace.of(problem, network)
    return space if space.faithful() else "lengths of gradients would lose digits there"


def rotation_invariant(method: object) -> bool:
    """Whether an adversary, or a part of one, says that it commutes with rotations.

    Its class must say so itself: a sub-class may do something else.

    Args:
        method: anything with or without an attribute `rotation_invariant`.
    """
    name = "rotation_invariant"
    return name in vars(type(method)) and bool(getattr(method, name))


def through_rows(method: object) -> bool:
    """Whether a method, or a part of one, leaves lengths and sums to `Rows`.

    Its class says so itself, by `through_rows = True`: it adds multiples of points and
    of gradients, and measures neither but by `Rows` and `Evaluation`. Then points need
    not be coordinates.

    Args:
        method: anything with or without an attribute `through_rows`.
    """
    name = "through_rows"
    return name in vars(type(method)) and bool(getattr(method, name))


def _costs(network: TwoLayerNetwork, runs: int, max_steps: int) -> dict[str, float]:
    """What runs cost in each space, in units of four operations.

    As measured at batch 256 on one thread for d = 64 … 3072 and m = 100 … 1024: a step
    with D numbers costs D(m + 50) per run, in the hidden space m(m/2 + 100) and some
    for its calls; to factor W, 8dk² with k = min(m, d), to square it dm²; and to enter,
    lift and confirm, per run, d times the numbers below.
    """
    hidden = network.hidden_weights.detach()
    width, dim = int(hidden.any(1).sum()), hidden.shape[1]
    rank = min(width, dim)
    row_step = (rank + 1) * (width + _NEURONS)
    hidden_step = width * (width / 2 + 2 * _NEURONS)
    return {
        "input": max_steps * runs * dim * (width + _NEURONS),
        "row": max_steps * runs * row_step
        + 8 * dim * rank**2
        + runs * dim * (2 * rank + width + 4 * _NEURONS),
        "hidden": max_steps * (runs * hidden_step + _CALLS)
        + dim * width**2
        + runs * dim * (2 * width + 4 * _NEURONS),
    }
