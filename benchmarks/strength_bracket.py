"""What a search finds beside what is proved that nothing exceeds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import summiteer as sm
from summiteer.networks.reference import digits_mlp

EXAMPLES, EXACT_EXAMPLES = 100, 25
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "softplus": nn.Softplus,
    "ReLU": nn.ReLU,
}
REGIONS = (sm.L2Ball(0.25), sm.L2Ball(0.5), sm.LinfBall(0.05), sm.LinfBall(0.1))


@dataclass(frozen=True)
class Bracketed:
    """A two-layer network on one ball: [found by search, proved upper bound].

    Attributes:
        name: of network and ball.
        found: mean cross-entropy at the points that the search found.
        proved: mean upper bound of cross-entropy.
        gap: median over examples of the difference.
        robust: `[found broken, …]` share that the attack did not break.
        certain: share that is proved robust.
        seconds: of search, bound and attack.
    """

    name: str
    found: float
    proved: float
    gap: float
    robust: float
    certain: float | None
    seconds: float


@dataclass(frozen=True)
class Exact:
    """A search beside mixed-integer programs (NUMERICAL).

    Attributes:
        name: of network and ball.
        examples: how many.
        broken: by the search.
        breakable: whose maximal margin is at least 0, as the solver says.
        open: that the solver could not settle.
        short: largest amount by which the search's margin is below the solver's.
        equal: examples where it is below by no more than 1e-4.
        seconds: of the programs.
    """

    name: str
    examples: int
    broken: int
    breakable: int
    open: int
    short: float
    equal: int
    seconds: float


def named(activation: str, region: sm.Region) -> str:
    """Of a network on digits and a ball."""
    norm = {"linf": "L∞", "l2": "L2"}[region.norm]
    return f"digits 64-64-10 {activation}, {norm} {region.size:g}"


def problem_of(
    activation: str,
    region: sm.Region,
    examples: int,
    objective: sm.CrossEntropy | sm.Margin,
) -> sm.Problem:
    """The first digits, pixels in [0, 1], in float64."""
    data = sm.load_data("digits")
    hidden, _, output = digits_mlp(activation=NETWORKS[activation]).double().children()
    assert isinstance(hidden, nn.Linear)
    assert isinstance(output, nn.Linear)
    # torch's own softplus is linear from 20 on, which no proof knows.
    model = sm.TwoLayerNetwork(
        hidden.weight.detach(),
        output.weight.detach(),
        hidden.bias.detach(),
        output.bias.detach(),
        activation=activation.lower(),
    )
    inputs = data.inputs[:examples].double()
    labels = data.targets[:examples]
    return sm.Problem(model, inputs, labels, objective, region, box=(0.0, 1.0))


def bracketed(activation: str, region: sm.Region, examples: int) -> Bracketed:
    """Search at standard effort, bound, and attack."""
    problem = problem_of(activation, region, examples, sm.CrossEntropy())
    began = time.process_time()
    found = sm.search(problem)
    bound = sm.upper_bound(problem, found.best)
    attack = sm.attack(problem.model, problem.inputs, problem.targets, region=region)
    seconds = time.process_time() - began
    certain = attack.result["proved_robust_accuracy"]
    robust = attack.robust_accuracy
    assert robust is not None
    return Bracketed(
        named(activation, region),
        float(found.best_loss.mean()),
        float(bound.upper.mean()),
        float(bound.gap.median()),
        robust,
        certain,
        seconds,
    )


def exact(region: sm.Region, examples: int, time_limit: float = 20.0) -> Exact:
    """Margins found by a search beside those of mixed-integer programs."""
    problem = problem_of("ReLU", region, examples, sm.Margin())
    found = sm.search(problem, "thorough")
    began = time.process_time()
    truth = sm.global_maximum(problem, time_limit=time_limit)
    seconds = time.process_time() - began
    settled = torch.tensor(truth.optimal)
    below = (truth.value - found.best_loss)[settled]
    assert found.misclassified is not None
    return Exact(
        named("ReLU", region),
        examples,
        int(found.misclassified.sum()),
        int((truth.value >= 0).sum()),
        int((~settled).sum()),
        float(below.max()) if len(below) else float("nan"),
        int((below <= 1e-4).sum()),
        seconds,
    )
