"""Violations of VNN-COMP 2021's mnistfc properties: `python -m benchmarks.properties`.

Every (network, property) pair of the truth table, as `summiteer attack NET.onnx
--property P.vnnlib.gz` does it. A violation counts where the input, in rational
numbers, lies inside the declared box and some Y_rival ≥ Y_label in rational numbers
too (weights as the fractions that they are).

The data are looked for in $SUMMITEER_DATA (default ../shared/data).
"""

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

import summiteer as sm
from benchmarks.mnist_networks import DATA
from benchmarks.page import machine
from summiteer._attack import attack_block
from summiteer.data import Property, load_onnx, load_property
from summiteer.multi_target import likeliest_rivals
from summiteer.problem import Problem
from summiteer.searching import EFFORTS, SOURCE_NAMES
from summiteer.searching.runs import Runs, made
from summiteer.settings import Settings
from summiteer.starts import UniformStart
from summiteer.violation import property_margins, property_problem

FOLDER = DATA / "vnncomp2021_mnistfc"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-search.md"
#: Claimed violated by verifiers, never hit by projected gradients and many restarts.
HARD = (
    ("256x2", "prop_0_0.05"),
    ("256x2", "prop_9_0.05"),
    ("256x4", "prop_1_0.05"),
    ("256x4", "prop_14_0.05"),
    ("256x6", "prop_3_0.05"),
)
VERDICTS = ("sat-claimed", "conflict", "open", "none", "unsat1", "unsat")
SLOPES, STEPS, STARTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0), (8, 20), 4
#: Margins above minus this are judged in rational numbers, which takes seconds; float64
#: errs by some 1e-13.
_NEAR = 1e-6


@dataclass(frozen=True)
class Pair:
    """A network, a property, and what verifiers said."""

    network: str
    name: str
    verdict: str


@dataclass(frozen=True)
class Found:
    """What an attack on a pair found.

    Attributes:
        margin: the largest Y_rival - Y_label there, in float64.
        violated: whether the property is, in rational numbers.
        source: of the search, that found the point.
        spent: gradient evaluations of search and settling.
        seconds: of processor time, verdict and bound included.
        proved: whether a bound says that nothing violates the property.
    """

    pair: Pair
    effort: str
    margin: float
    violated: bool
    source: str
    spent: int
    seconds: float
    proved: bool


def pairs() -> Iterator[Pair]:
    """Those of the truth table, and the one that it lacks."""
    with (FOLDER / "truth.csv").open() as file:
        for row in csv.DictReader(file):
            network = row["network"].removeprefix("mnist-net_").removesuffix(".onnx")
            name = row["property"].removesuffix(".vnnlib")
            yield Pair(network, name, row["verdict"])
    yield Pair("256x6", "prop_14_0.05", "none")


def read(pair: Pair) -> tuple[nn.Module, Property, Problem]:
    """The network, the property, and the problem of violating it."""
    file = load_onnx(str(FOLDER / f"mnist-net_{pair.network}.onnx"))
    claim = load_property(str(FOLDER / f"{pair.name}.vnnlib.gz"))
    problem = property_problem(file.module, claim, file.input_shape)
    return file.module, claim, problem


def fractions(values: Tensor) -> np.ndarray:
    """The floats of a tensor, exactly."""
    flat = [Fraction(value) for value in values.detach().double().flatten().tolist()]
    made = np.empty(len(flat), dtype=object)
    made[:] = flat
    return made.reshape(tuple(values.shape))


def exact_outputs(model: nn.Module, point: Tensor) -> np.ndarray:
    """Outputs in rational numbers, of Linear, ReLU and Flatten one after the other.

    Args:
        model: a chain of these.
        point: one input.
    """
    values = fractions(point.flatten())
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            values = fractions(layer.weight) @ values
            if layer.bias is not None:
                values = values + fractions(layer.bias)
        elif isinstance(layer, nn.ReLU):
            values = np.where(values > 0, values, Fraction(0))
        elif not isinstance(layer, nn.Sequential | nn.Flatten):
            raise TypeError(f"no exact value of {type(layer).__name__}")
    return values


def exact_margin(model: nn.Module, claim: Property, point: Tensor) -> Fraction | None:
    """The largest Y_rival - Y_label, or None for a point outside the declared box."""
    place = fractions(point.flatten())
    low, high = fractions(claim.lower.flatten()), fractions(claim.upper.flatten())
    if not ((place >= low) & (place <= high)).all():
        return None
    outputs = exact_outputs(model, point)
    margin: Fraction = max(outputs[list(claim.rivals)]) - outputs[claim.label]
    return margin


def attacked(pair: Pair, effort: str) -> Found:
    """Attack a property and evaluate what was found exactly."""
    model, claim, problem = read(pair)
    settings = Settings(
        problem.region,
        objective=problem.objective,
        effort=EFFORTS[effort],
        screened=False,
    )
    began = time.process_time()
    arrays = attack_block(problem, settings)
    seconds = time.process_time() - began
    point = problem.inputs + arrays["perturbations"].to(problem.inputs)
    margin = property_margins(model, claim, point).margin
    violated = False
    if margin > -_NEAR:
        exact = exact_margin(model, claim, point)
        violated = exact is not None and exact >= 0
    return Found(
        pair,
        effort,
        margin,
        violated,
        SOURCE_NAMES[int(arrays["source"])],
        int(arrays["gradient_evaluations"]),
        seconds,
        bool(arrays["proved_robust"] == 1),
    )


def counts(found: list[Found]) -> str:
    """A table: what verifiers said against what was found."""
    lines = [
        "| verifiers say | pairs | violated, standard | violated, thorough too "
        "| proved that none exists | s per pair, standard | thorough |\n"
        "|---|---|---|---|---|---|---|"
    ]
    for verdict in VERDICTS:
        first, second = (
            [o for o in found if o.pair.verdict == verdict and o.effort == effort]
            for effort in ("standard", "thorough")
        )
        hits = sum(one.violated for one in first)
        more = hits + sum(one.violated for one in second)
        proved = sum(one.proved for one in first)
        seconds = " | ".join(_mean_seconds(part) for part in (first, second))
        lines.append(
            f"| {verdict} | {len(first)} | {hits} | {more} | {proved} | {seconds} |"
        )
    return "\n".join(lines)


def _mean_seconds(found: list[Found]) -> str:
    return f"{mean(one.seconds for one in found):.1f}" if found else ""


def hardest(found: list[Found]) -> str:
    """A table of what is not plainly right: misses, news, and the five hard ones."""
    lines = [
        "| network | property | verifiers say | effort | margin | source | gradient "
        "evaluations | seconds |\n|---|---|---|---|---|---|---|---|"
    ]
    for one in found:
        pair = one.pair
        hard = (pair.network, pair.name) in HARD
        odd = one.violated != (pair.verdict == "sat-claimed")
        known = pair.verdict in ("unsat", "unsat1") and not one.violated
        if hard or (odd and not known) or pair.verdict == "open":
            lines.append(
                f"| {pair.network} | {pair.name} | {pair.verdict} | {one.effort} "
                f"| {one.margin:.4f} | {one.source} | {one.spent} "
                f"| {one.seconds:.1f} |"
            )
    return "\n".join(lines)


def slopes() -> str:
    """A table: runs that hit a hard property, by slope and steps."""
    problems = [read(Pair(*hard, "sat-claimed"))[2] for hard in HARD]
    names = " | ".join(f"{network} {name}" for network, name in HARD)
    lines = [f"| steps | slope | {names} |", "|---" * (len(HARD) + 2) + "|"]
    for steps in STEPS:
        for slope in SLOPES:
            hits = " | ".join(_hits(problem, steps, slope) for problem in problems)
            lines.append(f"| {steps} | {slope or 'true gradients'} | {hits} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def _hits(problem: Problem, steps: int, slope: float) -> str:
    """Runs towards each rival, from the centre and from uniform starts: hits, best."""
    rivals = likeliest_rivals(problem, 9)[0]
    uniform = UniformStart(restarts=STARTS, seed=1).points(problem).flatten(0, 1)
    parts = (torch.zeros_like(problem.inputs), uniform)
    texts, best = [], -torch.inf
    for starts in parts:
        runs = Runs(
            torch.zeros(len(starts) * len(rivals), dtype=torch.int64),
            starts.repeat_interleave(len(rivals), 0),
            # As long, with and without the run through closed gates before it.
            steps if slope else 2 * steps + 1,
            rivals.repeat(len(starts)),
            slope,
        )
        ends = made(problem, runs, None)
        texts.append(f"{int(ends.wrong.sum())}/{len(runs.example)}")
        best = max(best, float(ends.loss.max()))
    return f"{' + '.join(texts)}, {best:.2f}"


INTRODUCTION = """## Properties that plain restarts do not violate

`python -m benchmarks.properties --write`, one thread, {machine}; torch {torch}.
The 90 (network, property) pairs of VNN-COMP 2021's mnistfc, attacked
as `summiteer attack NET.onnx --property P.vnnlib.gz` does. *Violated*: the input, in
rational numbers, lies in the declared box and Y_rival ≥ Y_label there, the weights
being the fractions that they are. *Verifiers say*: unsat, at least two complete tools
and none against; unsat1, one tool; sat-claimed; conflict, tools disagree; open, no
tool decided; none, no result was published. Thorough effort is asked where standard
finds no violation. Seconds are of processor time, with verdict and bound.

"""
MIDDLE = """
The five that projected gradients with many restarts never hit, the violations that
verifiers do not claim, and what nobody has decided. The largest margin found is no
proof that there is none above it.

"""
SLOPE_TEXT = """
## The slope of closed gates

Runs of APGD towards each of nine rivals, from the centre (of 9) and from four uniform
points (of 36): how many hit, and the highest margin of all. With a slope: so many
steps through closed gates, and as many with true gradients from where they led; true
gradients alone have as many gradient evaluations.

"""


def section(name: str, text: str) -> None:
    """Write a section of the page in place of the one of this name, or at its end."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Search\n"
    before, found, rest = page.partition(begin)
    after = rest.partition(end)[2] if found else ""
    gap = "" if found else "\n"
    PAGE.write_text(f"{before}{gap}{begin}{text}{end}{after}", encoding="utf-8")


def all_pairs() -> list[Found]:
    """Standard effort; thorough where that found none, as its text advises."""
    found = []
    for pair in pairs():
        for effort in ("standard", "thorough"):
            found.append(attacked(pair, effort))
            print(found[-1], flush=True)
            if found[-1].violated:
                break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.properties")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--only", choices=("pairs", "slopes"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", sm.SummiteerWarning)
    texts = {}
    if options.only != "slopes":
        found = all_pairs()
        head = INTRODUCTION.format(machine=machine(), torch=torch.__version__)
        texts["pairs"] = f"{head}{counts(found)}\n{MIDDLE}{hardest(found)}\n"
    if options.only != "pairs":
        texts["slopes"] = f"{SLOPE_TEXT}{slopes()}\n"
    for name, text in texts.items():
        print(text)
        if options.write:
            section(name, text)


if __name__ == "__main__":
    main()
