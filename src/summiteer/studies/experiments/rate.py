"""How many steps ascent takes, and how fast each of them was proved to be (Prop. 2)."""

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._constants import lipschitz_of_gradient
from summiteer.engine import Measurement
from summiteer.errors import UserError
from summiteer.networks import TwoLayerNetwork
from summiteer.optimality import Certificate, Evidence, local_optimality, polish
from summiteer.problem import Problem
from summiteer.starts import UniformStart
from summiteer.studies.experiment import Experiment
from summiteer.studies.experiments.climb import (
    METHODS,
    Method,
    PaperParameters,
    paper_problem,
)
from summiteer.trajectory import Recorder

#: Below this distance from the maximiser, in radii, a step is rounding: points are
#: known to 1e-16 and maximisers to 1e-13, so that ratios are off by 1e-5 at most.
RESOLVED = 1e-8
#: Relative error of the step and of the ratio of two distances: rounding, see above.
ROUNDING = 1e-5
#: Of the points on the way: every step is wanted.
_MOST_BYTES = 2**28
#: Steps at the end over which the rate next to the maximum is measured.
_LAST = 10


class RateParameters(PaperParameters):
    """How it is climbed: one run per example from a uniform start.

    Attributes:
        method: one of `METHODS`.
        max_steps: the longest run.
        tolerances: residuals to which steps are counted, falling.
    """

    method: Method = "paper"
    max_steps: PositiveInt = 2000
    tolerances: tuple[PositiveFloat, ...] = (1e-2, 1e-4, 1e-6, 1e-8)


@dataclass(frozen=True, eq=False)
class Way:
    """Runs of the paper's step, seen from the maximisers they approach.

    Attributes:
        steps: η|u_t| `[steps, runs]`: the step on F that was made.
        ratio: ‖δ_{t+1} - δ*‖/‖δ_t - δ*‖ `[steps, runs]`; NaN where it is not resolved.
        rate: ρ of Prop. 2 `[steps, runs]`; NaN where it does not apply.
        last: geometric mean of the last ratios `[runs]`.
    """

    steps: Tensor
    ratio: Tensor
    rate: Tensor
    last: Tensor

    @property
    def applies(self) -> Tensor:
        """`[runs]` bool: Prop. 2 speaks of every step of the run that is resolved."""
        seen = ~self.ratio.isnan()
        return seen.any(0) & (~self.rate.isnan() | ~seen).all(0)

    @property
    def worst(self) -> Tensor:
        """The largest ratio in units of its ρ `[runs]`; NaN where ρ does not apply."""
        share = (self.ratio / self.rate).nan_to_num(0.0).amax(0)
        return torch.where(self.applies, share, torch.nan)


def measure(parameters: RateParameters) -> Measurement:
    """Steps to each tolerance, and for the paper's step its rates.

    Args:
        parameters: of the cell.

    Returns:
        Arrays: steps `[tolerances, examples]`, -1 where it was not reached; rates
        `[examples]`.
    """
    problem = paper_problem(parameters)
    paper = parameters.method == "paper"
    fields = ("residual", "point") if paper else ("residual",)
    recorder = Recorder(max_bytes=_MOST_BYTES, fields=fields)
    radius = parameters.ratio * parameters.scale
    ascent = ascend(
        problem,
        METHODS[parameters.method](radius),
        UniformStart(restarts=1, seed=parameters.seed),
        max_steps=parameters.max_steps,
        tolerance=min(parameters.tolerances),
        recorder=recorder,
    )
    trajectory = ascent.trajectory
    assert trajectory is not None
    assert trajectory.residual is not None
    if not torch.equal(trajectory.step, torch.arange(len(trajectory.step))):
        raise UserError(
            "examples: the points of so many runs of so many steps do not fit in "
            f"{_MOST_BYTES} bytes; take fewer examples or max_steps."
        )
    reached = steps_to(trajectory.step, trajectory.residual[:, 0], parameters)
    arrays = {"steps": reached}
    record = {"runs": len(problem), "unreached": int((reached[-1] < 0).sum())}
    if paper and trajectory.point is not None:
        best = polish(problem, ascent.final[0])
        certificate = local_optimality(problem, best)
        way = followed(problem, trajectory.point[:, 0], certificate)
        arrays |= {
            "applies": way.applies,
            "worst": way.worst,
            "rate": way.rate.nan_to_num(-torch.inf).amax(0),
            "ratio": way.ratio.nan_to_num(-torch.inf).amax(0),
            "last": way.last,
            **local_rates(problem, certificate, way),
        }
        known = way.worst[way.applies]
        record |= {
            "applies": int(way.applies.sum()),
            "violations": int((known > 1 + ROUNDING).sum()),
        }
    return Measurement(record, arrays)


def steps_to(step: Tensor, residual: Tensor, parameters: RateParameters) -> Tensor:
    """The first recorded step at which the residual is small enough, -1 for none.

    Args:
        step: `[records]`.
        residual: `[records, examples]`, NaN after the end.
        parameters: with the tolerances.
    """
    found = []
    for tolerance in parameters.tolerances:
        # The residual is kept in float32: the run that stopped at it has reached it.
        small = residual <= tolerance * (1 + 1e-6)
        first = step[small.int().argmax(0)]
        found.append(torch.where(small.any(0), first, -1))
    return torch.stack(found)


def followed(problem: Problem, points: Tensor, certificate: Certificate) -> Way:
    """Compare every step with what Prop. 2 says of it.

    Args:
        problem: that was climbed by the paper's step η = 1/Lip(∇ℓ).
        points: δ_t `[steps + 1, runs, d]`, NaN after the end.
        certificate: of the maximisers, one per run.
    """
    best = certificate.certified_point
    size = 1 / lipschitz_of_gradient(problem.rows())
    with torch.no_grad():
        excess = torch.stack(
            [problem.model(problem.inputs + point) for point in points]
        )
        excess = excess - problem.targets
        sign = (problem.model(problem.inputs + best) - problem.targets).sign()
    distance = (points - best).norm(dim=2)
    resolved = distance > RESOLVED * problem.size
    ratio = torch.where(resolved[:-1], distance[1:] / distance[:-1], torch.nan)
    steps = size * excess[:-1].abs()
    rate = torch.stack([certificate.rate_of(step) for step in steps])
    proved = torch.tensor([e is Evidence.PROVED for e in certificate.evidence])
    # Of runs that have ended excess is NaN, which is no change of sign.
    same = ((excess.sign() == sign) | excess.isnan()).all(0)
    usable = proved & certificate.maximum & same
    rate = rate.masked_fill(~usable, torch.nan)
    return Way(steps, ratio, rate, _last(ratio))


def _last(ratio: Tensor) -> Tensor:
    """Geometric mean of the last resolved ratios of each run."""
    found = []
    for values in ratio.T:
        known = values[~values.isnan()][-_LAST:]
        found.append(
            known.log().mean().exp() if len(known) else values.new_tensor(torch.nan)
        )
    return torch.stack(found)


def local_rates(
    problem: Problem, certificate: Certificate, way: Way
) -> dict[str, Tensor]:
    """The rates of mathematics.md §4 next to the maximisers, `[examples]` each.

    With λ_i the tangent eigenvalues of ∇²F and η the run's last step on F: of projected
    gradient ascent max|1+ηλ_i|/(1+ημ), of the fixed-point map T max|λ_i|/μ.

    Args:
        problem: of one two-layer network.
        certificate: of the maximisers.
        way: there.
    """
    network = problem.model
    assert isinstance(network, TwoLayerNetwork)
    best, radius = certificate.certified_point, problem.size.double()
    with torch.no_grad():
        sign = (network(problem.inputs + best) - problem.targets).sign()
        hessian = network.hessian(problem.inputs + best) * sign[:, None, None]
        gradient = network.gradient(problem.inputs + best) * sign[:, None]
    multiplier = (gradient * best).sum(1) / radius.square()
    # The columns of Q but the first are a basis of the tangent space.
    basis = torch.linalg.qr(best[:, :, None], mode="complete").Q[:, :, 1:]
    values = torch.linalg.eigvalsh(basis.mT @ hessian @ basis)
    ended = (~way.steps.isnan()).sum(0).clamp(min=1) - 1
    step = way.steps.gather(0, ended[None])[0]
    climbed = (1 + step[:, None] * values).abs().amax(1) / (1 + step * multiplier)
    return {"local": climbed, "local_map": values.abs().amax(1) / multiplier}


RATE = Experiment(
    "rate",
    RateParameters,
    measure,
    "steps to tolerances, and rates",
    {
        "runs": "how many there were: one per example",
        "unreached": "of them, those that did not reach the smallest tolerance",
        "applies": "those of whose every resolved step Prop. 2 speaks (method paper)",
        "violations": "of these, those with a step slower than the rate ρ proved there",
    },
)
