"""Ascent on two-layer networks at the paper's initialisation, judged at its end."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.adversaries import (
    Adversary,
    ConstantStep,
    DCAscent,
    LipschitzStep,
    Normalised,
    ProjectedAscent,
    RawGradient,
)
from summiteer.ascent import Ascent
from summiteer.engine import Measurement
from summiteer.landscape import unseen_mass
from summiteer.landscape.grouping import grouped
from summiteer.landscape.separation import Separation
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Quadratic, ScalarLoss
from summiteer.optimality import Certificate, Evidence, Verdict, local_optimality
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import UniformStart
from summiteer.studies.experiment import Experiment, Parameters
from summiteer.studies.inputs import signed_examples

Method: TypeAlias = Literal["paper", "normalised", "backtracking", "dc"]

#: radius -> the method. "paper": δ ← Π(δ + η∇ℓ), η = 1/Lip(∇ℓ) on the ball, the
#: longest step of round size that is provably monotone.
METHODS: dict[str, Callable[[float], Adversary]] = {
    "paper": lambda _: ProjectedAscent(RawGradient(), LipschitzStep()),
    "normalised": lambda radius: ProjectedAscent(
        Normalised(), ConstantStep(0.1 * radius)
    ),
    "backtracking": lambda _: ProjectedAscent(),
    "dc": lambda _: DCAscent(),
}


class PaperParameters(Parameters):
    """Network, data and region as in the paper; the seed is the network's.

    Attributes:
        activation: σ; "quadratic" is t²/2.
        data: see `signed_examples`; network s looks at examples of its own.
        digest: of the data, where they come from files.
        dimension: d of Gaussian inputs.
        width: m.
        weight_std: τ_w.
        scale: c.
        ratio: ε/‖x‖.
        examples: of this cell.
        first: of the network's examples.
    """

    activation: Literal["softplus", "tanh", "quadratic", "relu"] = "softplus"
    data: Literal["digits", "gaussian", "mnist"] = "digits"
    digest: str = ""
    dimension: PositiveInt = 64
    width: PositiveInt = 256
    weight_std: PositiveFloat = 1.0
    scale: PositiveFloat = 1.0
    ratio: PositiveFloat = 0.3
    examples: PositiveInt = 16
    first: int = Field(0, ge=0)


class RunParameters(Parameters):
    """How something is climbed.

    Attributes:
        method: one of `METHODS`.
        restarts: runs per example, from uniform starts.
        max_steps: the longest run.
        tolerance: residual called stationary.
        judged: whether the end points are.
    """

    method: Method = "paper"
    restarts: PositiveInt = 1
    max_steps: PositiveInt = 2000
    tolerance: PositiveFloat = 1e-8
    judged: bool = True


class ClimbParameters(RunParameters, PaperParameters):
    """What is climbed, and how."""


def paper_problem(parameters: PaperParameters) -> Problem:
    """ℓ = ½(f - y)² of a random two-layer network on balls around inputs of norm c.

    Args:
        parameters: of the problem.
    """
    count, scale = parameters.examples, parameters.scale
    index = torch.arange(count) + parameters.seed * count + parameters.first
    inputs, targets = signed_examples(
        parameters.data, index, parameters.dimension, parameters.digest
    )
    network = TwoLayerNetwork.random(
        inputs.shape[1],
        parameters.width,
        parameters.activation,
        parameters.weight_std,
        parameters.seed,
    )
    region = L2Ball(parameters.ratio * scale)
    return Problem(network, scale * inputs, targets, Quadratic(), region, ids=index)


def measure(parameters: ClimbParameters) -> Measurement:
    """One network at one scale: ascent from random starts, verdicts at the ends.

    Args:
        parameters: of the cell.

    Returns:
        Arrays `[restarts, examples]` and their counts.
    """
    radius = parameters.ratio * parameters.scale
    return climbed(paper_problem(parameters), radius, parameters)


def climbed(problem: Problem, radius: float, parameters: RunParameters) -> Measurement:
    """Ascent on a problem from random starts, verdicts at the ends.

    Args:
        problem: any.
        radius: of its region.
        parameters: of the runs.

    Returns:
        See `measure`.
    """
    ascent = ascend(
        problem,
        METHODS[parameters.method](radius),
        UniformStart(restarts=parameters.restarts, seed=parameters.seed),
        max_steps=parameters.max_steps,
        tolerance=parameters.tolerance,
    )
    stationary = torch.from_numpy(ascent.outcome == Outcome.STATIONARY)
    arrays = {
        "steps": ascent.steps,
        "stationary": stationary,
        "limit": torch.from_numpy(ascent.outcome == Outcome.STEP_LIMIT),
        "loss": ascent.losses,
        "residual": ascent.residual,
    }
    if parameters.judged:
        arrays |= judged(problem, ascent)
    record = {
        name: int(values.sum())
        for name, values in arrays.items()
        if values.dtype == torch.bool
    }
    return Measurement({"runs": stationary.numel(), **record}, arrays)


def judged(problem: Problem, ascent: Ascent) -> dict[str, Tensor]:
    """What the runs' own end points are, and how regular it is there.

    Args:
        problem: that was climbed.
        ascent: the runs.

    Returns:
        `[restarts, examples]` each; unseen and proved_distinct, the number of maxima
        proved apart from each other: `[examples]`.
    """
    restarts, count = ascent.steps.shape
    ends = problem.take(torch.arange(count).repeat(restarts))
    certificate = local_optimality(ends, ascent.final.flatten(0, 1))
    flat = {
        **verdicts(certificate),
        "sign": _sign(ends, ascent.final.flatten(0, 1)),
        "kappa": certificate.curvature_ratio,
        "gain": _gain(certificate),
        **certificate.indices,
    }
    arrays = {
        name: value.reshape(restarts, count).contiguous()
        for name, value in flat.items()
    }
    counted = arrays["maximum"]
    separation = Separation.of(ascent.final, certificate)
    level = torch.zeros_like(counted)  # where no maximum is proved to be isolated
    label = grouped(problem, ascent.final, counted, level, separation)
    return {
        **arrays,
        "label": label,
        "unseen": unseen_mass(label, counted)[0],
        "proved_distinct": torch.tensor(separation.least()),
    }


def _sign(problem: Problem, points: Tensor) -> Tensor:
    """The sign of dℓ/df at the points, int8; 0 for losses of several outputs."""
    loss = problem.objective
    if not isinstance(loss, ScalarLoss):
        return torch.zeros(len(points), dtype=torch.int8)
    with torch.no_grad():
        outputs = problem.model(problem.inputs + points)
    return loss.slope_sign(outputs, problem.targets).to(torch.int8)


def verdicts(certificate: Certificate) -> dict[str, Tensor]:
    """Kinds of verdicts as masks `[rows]`.

    Args:
        certificate: of end points.
    """
    maximum = certificate.maximum
    proved = torch.tensor([e is Evidence.PROVED for e in certificate.evidence])
    known = torch.tensor([v is not Verdict.UNDECIDED for v in certificate.verdict])
    best = torch.tensor([v is Verdict.GLOBAL_MAXIMUM for v in certificate.verdict])
    return {
        "maximum": maximum,
        "proved": maximum & proved,
        "best": best & proved,
        "decided": known,
        "decided_by_proof": known & proved,
    }


def _gain(certificate: Certificate) -> Tensor:
    """What the way uphill is worth where there is one, NaN elsewhere."""
    proved, seen = certificate.guaranteed_gain, certificate.measured_gain
    return torch.where(proved.isnan(), seen, proved)


#: Counts of runs, by the end points that they reached themselves; from `maximum` on
#: only where they are judged.
CLIMBED = {
    "runs": "how many there were: examples × restarts",
    "stationary": "of them, those that ended at a residual below the tolerance",
    "limit": "those that met max_steps before",
    "maximum": "those that ended within 1e-3 ε of a local maximum (judged = true)",
    "proved": "those of `maximum` for which that is proved, not only numerical",
    "best": "those for which a global maximum is proved to be so near",
    "decided": "those about whose end point a verdict is known: maximum or none",
    "decided_by_proof": "those of `decided` for which that is proved",
}
CLIMB = Experiment(
    "climb",
    ClimbParameters,
    measure,
    "ascent on two-layer networks at the paper's initialisation, judged at its end",
    CLIMBED,
)
