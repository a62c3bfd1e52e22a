"""In which space the runs of a two-layer problem take the least time."""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from summiteer import _rows
from summiteer.errors import UserError
from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.problem import Problem
from summiteer.spaces.input_space import InputSpace
from summiteer.spaces.row_space import RowSpace

Chosen: TypeAlias = InputSpace | RowSpace

#: Dtypes whose rounding is small beside what runs are asked for.
_DTYPES = (torch.float32, torch.float64)
#: What a number of a point costs in a step besides the products, in neurons: both take
#: as long at about m = 50; see `_pays`.
_NEURONS = 50
#: Steps in fewer dimensions than this share of d repay what is not counted.
_SHARE = 0.8


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
        wanted: "input", "row", or "auto" for the one that takes less time.

    Raises:
        UserError: it cannot be had but must; the message says why.
    """
    network = _network(problem)
    reason = network if isinstance(network, str) else _obstacle(problem, methods)
    if wanted == "row" and reason:
        raise UserError(f'space: "row" cannot be had: {reason}.')
    if isinstance(network, str):
        return None
    auto = wanted == "auto" and not reason and _pays(network, runs, max_steps)
    if wanted == "row" or auto:
        return RowSpace.of(problem, network)
    return InputSpace(problem, network)


def _network(problem: Problem) -> TwoLayerNetwork | str:
    """The model as a network with outputs of its shape, or why only it will do."""
    structure = as_two_layer(problem.model)
    if not isinstance(structure, TwoLayer):
        return f"the model is no two-layer network ({structure.reason})"
    if type(problem) is not Problem:
        return f"{type(problem).__name__} may have rows of its own"
    inputs, network = problem.inputs, structure.network
    if inputs.dtype not in _DTYPES:
        return f"{inputs.dtype} would not give the same runs"
    if inputs.ndim != 2:
        return f"inputs {list(inputs.shape)} are not [batch, d]"
    if torch.is_autocast_enabled(inputs.device.type):
        return "autocast changes what the model computes"
    if not bool(_rows.norm(network.hidden_weights.detach()).isfinite().all()):
        return "the length of a row of W is not finite"
    if network is problem.model or network.outputs is not None:
        return network
    # A linear layer with one output has outputs [rows, 1].
    return TwoLayerNetwork(
        network.hidden_weights,
        network.output_weights[None],
        network.hidden_bias,
        network.output_bias[None],
        activation=network.activation,
    )


def _obstacle(problem: Problem, methods: Sequence[object]) -> str:
    """Say why runs of a two-layer problem cannot be had in the row space, or ''."""
    if not problem.feasible.whole_ball:
        return "the region is not a whole L2 ball or sphere"
    for method in methods:
        if not rotation_invariant(method):
            return f"{method!r} does not say that it is rotation_invariant"
    return ""


def _pays(network: TwoLayerNetwork, runs: int, max_steps: int) -> bool:
    """Whether runs of so many steps take less time in the row space.

    In units of four operations, as measured at batch 256 on one thread for d = 64 …
    3072, m = 100 … 1024: a step in D dimensions costs D(m + 50) per run; to factor W,
    8dk² with k = min(m, d); and to enter, lift and confirm, d(2k + m + 200) per run. A
    rank below k is not searched for: to find that there is none would cost steps.
    """
    hidden = network.hidden_weights.detach()
    width, dim = int(hidden.any(1).sum()), hidden.shape[1]
    rank = min(width, dim)
    if rank + 1 > _SHARE * dim:
        return False
    saved = max_steps * runs * (dim - rank - 1) * (width + _NEURONS)
    return saved > 8 * dim * rank**2 + runs * dim * (2 * rank + width + 4 * _NEURONS)


def rotation_invariant(method: object) -> bool:
    """Whether an adversary, or a part of one, says that it commutes with rotations.

    Its class must say so itself: a sub-class may do something else.

    Args:
        method: anything with or without an attribute `rotation_invariant`.
    """
    name = "rotation_invariant"
    return name in vars(type(method)) and bool(getattr(method, name))
