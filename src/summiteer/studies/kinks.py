"""ReLU networks against the input scale: a control for homogeneous networks.

relu(ct) = c·relu(t): without biases F(cx; cδ) = c·F(x; δ), so the maxima of F = -yf at
fixed ε/‖x‖ are the same directions at every c. With biases they are not. Maxima are
found by DC ascent, whose end points are exact, at c = 1, carried to the other scales,
and DC ascent is started there: it stays where they are maxima.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from summiteer import _rows
from summiteer._ascend import ascend
from summiteer.adversaries import DCAscent
from summiteer.cells import Cell
from summiteer.data import load_data
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Margin
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import GivenStart, UniformStart

#: Deviations of the biases, those of weights being 1; networks; starts per image.
BIASES, SEEDS, RESTARTS = (0.0, 1.0), 2, 2
#: End points are exact to the root of rounding, in units of ε.
STAYS = 1e-6


@dataclass(frozen=True)
class KinkControl:
    """Whether the maxima of F at c = 1 are maxima at the other scales.

    Attributes:
        bias_std: deviation of the biases.
        maxima: end points of DC ascent at c = 1.
        stay: share of them that are end points at every other scale.
        moved: by how much DC ascent from them moves at most, in units of ε.
    """

    bias_std: float
    maxima: int
    stay: float
    moved: float

    @property
    def as_expected(self) -> bool:
        """Without biases all stay; with biases some do not."""
        if self.bias_std == 0.0:
            return self.maxima > 0 and self.moved <= STAYS
        return self.stay < 1.0

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        share = f"{100 * self.stay:.3g} % of {self.maxima} maxima of F at c = 1"
        if self.bias_std == 0.0:
            judged = "as it must be" if self.as_expected else "NOT SO: a bug"
            return (
                f"ReLU without biases (homogeneous too), by DC ascent: {share} are "
                f"maxima at every c, up to {self.moved:.0e} ε: {judged}."
            )
        judged = "as expected" if self.as_expected else "NOT as expected"
        return (
            f"ReLU with biases (deviation {self.bias_std:g}): {share} are, DC "
            f"ascent leaves the others by up to {self.moved:.2g} ε: {judged}."
        )


def cells(spec: Mapping[str, Any]) -> list[Cell]:
    """One cell per (deviation of the biases, network).

    Args:
        spec: of the study: scales, seeds, width, examples, ratio.
    """
    shared = {name: spec[name] for name in ("scales", "width", "examples", "ratio")}
    return [
        Cell("kinks", {**shared, "bias_std": bias, "seed": seed})
        for bias in BIASES
        for seed in spec["seeds"][:SEEDS]
    ]


def measure(cell: Cell) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Maxima of one network at c = 1, and how far they are from maxima elsewhere.

    Args:
        cell: one of `cells`.

    Returns:
        The record, and `moved` `[scales, maxima]` in units of ε.
    """
    began = time.monotonic()
    spec: Any = cell.spec
    problem = _problem(spec, 1.0)
    start = UniformStart(restarts=RESTARTS, seed=spec["seed"])
    ascent = ascend(problem, DCAscent(), start)
    ended = torch.from_numpy(ascent.outcome != Outcome.STEP_LIMIT).flatten()
    index = torch.arange(len(problem)).repeat(RESTARTS)[ended]
    units = ascent.final.flatten(0, 1)[ended] / spec["ratio"]
    moved = []
    for scale in spec["scales"]:
        there = _problem(spec, scale).take(index)
        radius = spec["ratio"] * scale
        again = ascend(there, DCAscent(approach=0), GivenStart(radius * units))
        moved.append(_rows.norm(again.final[0] / radius - units))
    return {"seconds": time.monotonic() - began}, {"moved": torch.stack(moved)}


def summarise(bias_std: float, moved: Sequence[Tensor]) -> KinkControl:
    """Put networks together.

    Args:
        bias_std: deviation of the biases.
        moved: of every network, as `measure` returns it.
    """
    farthest = torch.cat([each.amax(0) for each in moved])
    return KinkControl(
        bias_std=bias_std,
        maxima=len(farthest),
        stay=float((farthest <= STAYS).double().mean()),
        # What is not a number is no evidence of staying.
        moved=float(farthest.nan_to_num(torch.inf).max()),
    )


def _problem(spec: Any, scale: float) -> Problem:
    """F = -yf on digits of norm c, targets ±1 (label ≥ 5), ε = ratio·c."""
    digits = load_data("digits")
    inputs = digits.inputs[: spec["examples"]].double()
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(digits.targets[: spec["examples"]] >= 5, 1.0, -1.0).double()
    network = TwoLayerNetwork.random(
        inputs.shape[1],
        spec["width"],
        "relu",
        seed=spec["seed"],
        bias_std=spec["bias_std"],
    )
    return Problem(network, inputs, targets, Margin(), L2Ball(spec["ratio"] * scale))
