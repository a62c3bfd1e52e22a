"""What proofs ask of a problem before they begin."""

from contextlib import AbstractContextManager, nullcontext

import torch

from summiteer.optimality.rounding import arithmetic_fault
from summiteer.optimality.scalar_form import known_network
from summiteer.optimality.stand import Limits, limits_of
from summiteer.problem import Problem

#: Why nothing is said where a model's value misses that of its form.
OTHER_MODEL = "the model does not compute what its weights say"


def on_cpu() -> AbstractContextManager[object]:
    """New tensors on the CPU; the mode that sees to it costs as much as the work."""
    if torch.get_default_device().type == "cpu":
        return nullcontext()
    return torch.device("cpu")


def premises(problem: Problem, kinked: bool = False) -> Limits | str:
    """The region's parts, or why nothing can be proved of the problem.

    Args:
        problem: in float64.
        kinked: whether the activation may have a kink (see `known_network`).
    """
    fault = arithmetic_fault()
    if fault:
        return f"arithmetic: {fault}"
    inputs = problem.inputs
    if inputs.device.type != "cpu" or inputs.ndim != 2:
        return "proofs need [batch, d] on the CPU"
    if inputs.dtype != torch.float64:
        return f"proofs need float64, not {inputs.dtype}"
    network = known_network(problem, kinked)
    if isinstance(network, str):
        return network
    if network.hidden_weights.dtype != torch.float64:
        return "the network could not be examined in float64"
    with torch.no_grad():
        limits = limits_of(problem.feasible, inputs)
    kind = type(problem.feasible).__name__
    return f"{kind} is not a region that proofs know" if limits is None else limits
