"""How many end points of ascent are proved, by which rung, and what a proof costs.

Run it on a quiet machine as `python -m benchmarks.certificates`, with OMP_NUM_THREADS=1.
Random two-layer networks of the paper's kind (w ~ N(0, 1), a = ±1/√m), inputs of norm c
in random directions, targets ±1, radii from 0.1 to 0.5 of the inputs' norm, spread over
the examples of each setting. Only end points that the engine calls STATIONARY count.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import summiteer as sm
from benchmarks.engine import machine

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-certificates.md"
DIMENSIONS, WIDTHS = (20, 64, 200, 784), (100, 1000)
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
ACTIVATIONS = ("softplus", "tanh")
EXAMPLES, MAX_STEPS, STEPS_TIMED = 256, 10_000, 20


@dataclass(frozen=True)
class Row:
    """One setting; shares are of the stationary end points."""

    activation: str
    dim: int
    width: int
    scale: float
    stationary: int
    proved: float
    best: float
    rungs: dict[str, int]
    distance: float
    seconds: float
    step: float
    subjects: tuple[str, ...]

    @property
    def steps(self) -> float:
        """Cost of the certificates of all end points in steps of ascent on them."""
        return self.seconds / self.step


def problem_of(
    activation: str, dim: int, width: int, scale: float, objective: sm.Quadratic
) -> sm.Problem:
    """One network, `EXAMPLES` inputs, ratios 0.1 to 0.5."""
    network = sm.TwoLayerNetwork.random(dim, width, activation, seed=0)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, dim, generator=generator, dtype=torch.float64)
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(torch.arange(EXAMPLES) % 2 == 0, 1.0, -1.0).double()
    ratio = torch.linspace(0.1, 0.5, EXAMPLES, dtype=torch.float64)
    region = sm.L2Ball(scale * ratio)
    return sm.Problem(network, inputs, targets, objective, region)


def time_of_a_step(problem: sm.Problem) -> float:
    """Seconds of one normalised step of all examples, in input space."""
    method = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(1e-3))
    start = sm.CentreStart()

    def run(steps: int) -> float:
        began = time.perf_counter()
        sm.ascend(problem, method, start, steps, tolerance=None, space="input")
        return time.perf_counter() - began

    run(2)
    return (run(STEPS_TIMED + 2) - run(2)) / STEPS_TIMED


def measure(
    activation: str, dim: int, width: int, scale: float, objective: sm.Quadratic
) -> Row:
    """Ascend, and certify what is stationary."""
    problem = problem_of(activation, dim, width, scale, objective)
    ascent = sm.ascend(
        problem, start=sm.UniformStart(restarts=1, seed=2), max_steps=MAX_STEPS
    )
    still = [outcome is sm.Outcome.STATIONARY for outcome in ascent.outcome[0]]
    index = torch.tensor(still).nonzero().flatten()
    some, points = problem.take(index), ascent.final[0][index]
    began = time.perf_counter()
    certificate = sm.local_optimality(some, points)
    seconds = time.perf_counter() - began
    proved = [e is sm.Evidence.PROVED for e in certificate.evidence]
    best = [v is sm.Verdict.GLOBAL_MAXIMUM for v in certificate.verdict]
    far: Tensor = certificate.distance_bound / some.size
    names = zip(certificate.verdict, certificate.proposition, proved, strict=True)
    return Row(
        activation,
        dim,
        width,
        scale,
        len(index),
        sum(proved) / max(1, len(index)),
        sum(a and b for a, b in zip(best, proved, strict=True)) / max(1, len(index)),
        dict(Counter(f"{v.name} {p}" if done else v.name for v, p, done in names)),
        float(far.nan_to_num(0).max()),
        seconds,
        time_of_a_step(problem),
        certificate.subject[:1],
    )


def settings(quick: bool) -> Iterator[tuple[str, int, int, float]]:
    """All settings, the cheap ones first."""
    for dim in DIMENSIONS[: 2 if quick else None]:
        for width in WIDTHS:
            for activation in ACTIVATIONS:
                for scale in SCALES:
                    yield activation, dim, width, scale


HEAD = (
    "| σ | d | m | c | stationary | proved % | global % | Prop. 3 | M_p | Prop. 6 | "
    "other | largest distance/ε | seconds | in steps |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One line of the table."""
    rungs = dict(row.rungs)
    shared = rungs.pop("GLOBAL_MAXIMUM Prop. 3", 0)
    tangent = rungs.pop("GLOBAL_MAXIMUM Prop. 3 with M_p", 0)
    local = rungs.pop("STRICT_LOCAL_MAXIMUM Prop. 6", 0)
    other = ", ".join(f"{name} {count}" for name, count in rungs.items()) or "–"
    return (
        f"| {row.activation} | {row.dim} | {row.width} | {row.scale:g} | "
        f"{row.stationary} | {100 * row.proved:.1f} | {100 * row.best:.1f} | {shared} | "
        f"{tangent} | {local} | {other} | {row.distance:.1e} | {row.seconds:.2f} | "
        f"{row.steps:.0f} |"
    )


def prototype(scales: tuple[float, ...]) -> list[str]:
    """Share of F proved global against c: d = 50, m = 400, ratio 0.3 (Prop. 3)."""
    lines = [
        "| σ | " + " | ".join(f"c = {scale:g}" for scale in scales) + " |",
        "|---" * (len(scales) + 1) + "|",
    ]
    for activation in ACTIVATIONS:
        cells = []
        for scale in scales:
            problem = problem_of(activation, 50, 400, scale, sm.Margin())
            problem = sm.Problem(
                problem.model,
                problem.inputs,
                problem.targets,
                sm.Margin(),
                sm.L2Ball(0.3 * scale),
            )
            ascent = sm.ascend(problem, max_steps=MAX_STEPS)
            certificate = sm.local_optimality(problem, ascent.best)
            best = [v is sm.Verdict.GLOBAL_MAXIMUM for v in certificate.verdict]
            cells.append(f"{100 * sum(best) / len(best):.0f}")
        lines.append(f"| {activation} | " + " | ".join(cells) + " |")
    return lines


def page(rows: list[Row], shares: list[str]) -> str:
    """The whole page."""
    count = sum(row.stationary for row in rows)
    proved = sum(round(row.proved * row.stationary) for row in rows)
    worst = min(row.proved for row in rows)
    text = __doc__.split("\n\n", 1)[1]
    return (
        "# Benchmarks of the proofs\n\nWritten by `python -m benchmarks.certificates "
        f"--write`: {machine()}.\n\n{text}\n"
        f"**{proved} of {count} stationary end points are proved "
        f"({100 * proved / count:.2f} %); the worst setting has {100 * worst:.1f} %.**\n"
        "\n*Prop. 3*, *M_p*, *Prop. 6*: end points settled by the shared majorant, by the "
        "tangent majorant\n(one factorisation each) and as strict local maxima (one or "
        "two). *in steps*: the time of all\ncertificates of the setting in steps of "
        "ascent on the same 256 examples.\n\n"
        f"{HEAD}\n" + "\n".join(line(row) for row in rows) + "\n\n"
        "Share of end points (%) proved to be the global maximum of F = -yf (d = 50, "
        "m = 400, ratio 0.3):\n\n" + "\n".join(shares) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificates")
    parser.add_argument("--quick", action="store_true", help="d ≤ 64 only")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    for setting in settings(options.quick):
        rows.append(measure(*setting, sm.Quadratic()))
        print(line(rows[-1]), flush=True)
    shares = prototype((0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0))
    print("\n".join(shares))
    if options.write:
        PAGE.write_text(page(rows, shares), encoding="utf-8")


if __name__ == "__main__":
    main()
