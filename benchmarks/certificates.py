"""How many end points of ascent are proved, by which rung, and what a proof costs.

Run `python -m benchmarks.certificates` on a quiet machine, with OMP_NUM_THREADS=1.
`--part smooth`, `relu` or `deep` measures only that.
Random two-layer networks of the paper's kind (w ~ N(0, 1), a = ±1/√m), inputs of norm c
in random directions, targets ±1, radii from 0.1 to 0.5 of the inputs' norm, spread over
the examples of each setting. Only end points that the engine calls STATIONARY count.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import summiteer as sm
from benchmarks import mnist_networks, relu_networks
from benchmarks.page import machine

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-certificates.md"
DIMENSIONS, WIDTHS = (20, 64, 200, 784), (100, 1000)
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
ACTIVATIONS = ("softplus", "tanh")
EXAMPLES, MAX_STEPS, STEPS_TIMED = 256, 5_000, 20


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
    activation: str,
    dim: int,
    width: int,
    scale: float,
    objective: sm.Quadratic | sm.Margin,
    ratio: float | None = None,
    examples: int = EXAMPLES,
    norm: str = "l2",
) -> sm.Problem:
    """Random weights of the paper's kind; a ratio of radius to norm, or 0.1 to 0.5."""
    network = sm.TwoLayerNetwork.random(dim, width, activation, seed=0)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(examples, dim, generator=generator, dtype=torch.float64)
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(torch.arange(examples) % 2 == 0, 1.0, -1.0).double()
    ratios = torch.linspace(0.1, 0.5, examples, dtype=torch.float64)
    radii = scale * (ratios if ratio is None else torch.full_like(ratios, ratio))
    region = sm.L2Ball(radii) if norm == "l2" else sm.LinfBall(radii / dim**0.5)
    return sm.Problem(network, inputs, targets, objective, region)


def time_of_a_step(problem: sm.Problem) -> float:
    """Seconds of processor time of one step of all examples, in input space."""
    direction = sm.Normalised() if problem.feasible.norm == "l2" else sm.Sign()
    method = sm.ProjectedAscent(direction, sm.ConstantStep(1e-3))
    start = sm.CentreStart()

    def run(steps: int) -> float:
        began = time.process_time()
        sm.ascend(problem, method, start, steps, tolerance=None, space="input")
        return time.process_time() - began

    run(2)
    times = [run(STEPS_TIMED + 2) - run(2) for _ in range(3)]
    return statistics.median(times) / STEPS_TIMED


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
        f"{row.stationary} | {100 * row.proved:.1f} | {100 * row.best:.1f} | "
        f"{shared} | {tangent} | {local} | {other} | {row.distance:.1e} | "
        f"{row.seconds:.2f} | {row.steps:.0f} |"
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
            problem = problem_of(activation, 50, 400, scale, sm.Margin(), 0.3)
            ascent = sm.ascend(problem, max_steps=MAX_STEPS)
            certificate = sm.local_optimality(problem, ascent.best)
            best = [v is sm.Verdict.GLOBAL_MAXIMUM for v in certificate.verdict]
            cells.append(f"{100 * sum(best) / len(best):.0f}")
        lines.append(f"| {activation} | " + " | ".join(cells) + " |")
    return lines


def rates() -> list[str]:
    """Prop. 2 beside projected gradient ascent: d = 50, m = 400, ratio 0.3."""
    lines = [
        "| σ | c | proved rate | measured per step | steps promised to 1e-6 ε | "
        "taken |",
        "|---|---|---|---|---|---|",
    ]
    for activation in ACTIVATIONS:
        for scale in SCALES[:3]:
            problem = problem_of(activation, 50, 400, scale, sm.Margin(), 0.3)
            problem = problem.take(torch.arange(32))
            best = sm.polish(problem, sm.ascend(problem, max_steps=MAX_STEPS).best)
            certificate = sm.local_optimality(problem, best)
            known = ~certificate.rate.isnan()
            if not bool(known.any()):
                lines.append(f"| {activation} | {scale:g} | none | – | – | – |")
                continue
            worst, steps = contraction_of(problem, best, certificate, known)
            promised = certificate.steps_to(1e-6)[known]
            rate = certificate.rate[known].median()
            lines.append(
                f"| {activation} | {scale:g} | {rate:.3f} | {worst:.3f} | "
                f"{promised.median():.0f} | {steps:.0f} |"
            )
    return lines


def contraction_of(
    problem: sm.Problem, best: Tensor, certificate: sm.Certificate, known: Tensor
) -> tuple[float, float]:
    """Medians over examples: the worst step's ratio, and the steps to 1e-6 radii."""
    rows, size = problem.rows(), 2 / certificate.lipschitz
    points = sm.BoundaryStart(seed=3).points(problem)[0]
    apart = (points - best).norm(dim=1)
    worst, steps = torch.zeros_like(apart), torch.zeros_like(apart)
    for _ in range(200):
        with torch.no_grad():
            slope = -problem.targets[:, None] * problem.model.gradient(
                problem.inputs + points
            )
            points = rows.region.project(points + size[:, None] * slope)
        now = (points - best).norm(dim=1)
        # Nearer than this the maximiser's own rounding is what is measured.
        far = now > 1e-9 * problem.size
        worst = torch.where(far, torch.maximum(worst, now / apart), worst)
        steps += apart > 1e-6 * problem.size
        apart = now
    return float(worst[known].median()), float(steps[known].median())


def brackets() -> list[str]:
    """The gap of the bracket against the budget of branch and bound."""
    budgets = (0, 10, 50, 200)
    lines = [
        "| σ | d | m | c | " + " | ".join(f"budget {b}" for b in budgets) + " |",
        "|---" * (4 + len(budgets)) + "|",
    ]
    cases = (("tanh", 2, 20, 5.0), ("tanh", 4, 50, 3.0), ("softplus", 50, 100, 10.0))
    for activation, dim, width, scale in cases:
        problem = problem_of(activation, dim, width, scale, sm.Quadratic(), 0.3)
        problem = problem.take(torch.arange(4))
        best = sm.ascend(problem, max_steps=MAX_STEPS).best
        cells = []
        for budget in budgets:
            if budget * dim > 1000:  # minutes each
                cells.append("–")
                continue
            bracket = sm.upper_bound(problem, best, budget=budget)
            gap = (bracket.gap / bracket.upper).median()
            cells.append(f"{100 * float(gap):.2g} %")
        lines.append(
            f"| {activation} | {dim} | {width} | {scale:g} | {' | '.join(cells)} |"
        )
    return lines


def page(rows: list[Row], shares: list[str], speeds: list[str], gaps: list[str]) -> str:
    """The whole page."""
    count = sum(row.stationary for row in rows)
    proved = sum(round(row.proved * row.stationary) for row in rows)
    worst = min(row.proved for row in rows)
    text = __doc__.split("\n\n", 1)[1]
    return (
        "# Benchmarks of the proofs\n\nWritten by `python -m benchmarks.certificates "
        f"--write`: {machine()}.\n\n{text}\n"
        f"**{proved} of {count} stationary end points are proved "
        f"({100 * proved / count:.2f} %); the worst setting has {100 * worst:.1f} %.**"
        "\n\n*Prop. 3*, *M_p*, *Prop. 6*: end points settled by the shared majorant, "
        "by the tangent majorant\n(one factorisation each) and as strict local maxima "
        "(one or two). *in steps*: the time of all\ncertificates of the setting in "
        "steps of ascent on the same 256 examples.\n\n"
        f"{HEAD}\n" + "\n".join(line(row) for row in rows) + "\n\n"
        "Share of end points (%) proved to be the global maximum of F = -yf (d = 50, "
        "m = 400, ratio 0.3):\n\n" + "\n".join(shares) + "\n\n"
        "Projected gradient ascent on F = -yf with the constant step 2/L from the "
        "boundary: the rate\nthat Prop. 2 proves, and the slowest step seen (medians "
        "over the examples that have a rate):\n\n" + "\n".join(speeds) + "\n\n"
        "Median gap of the bracket [best found, upper bound] of ½u², relative to the "
        "upper bound, against\nthe parts of the region that branch and bound may "
        "examine:\n\n" + "\n".join(gaps) + "\n"
    )


def smooth(quick: bool) -> str:
    """Measure, print, and return the first part of the page."""
    print(HEAD, flush=True)
    rows = []
    for setting in settings(quick):
        rows.append(measure(*setting, sm.Quadratic()))
        print(line(rows[-1]), flush=True)
    shares = prototype((0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0))
    speeds, gaps = rates(), brackets()
    print("\n".join([*shares, *speeds, *gaps]))
    return page(rows, shares, speeds, gaps)


#: In the order of the page, whose first part has no heading of its own.
PARTS = {
    "smooth": smooth,
    "relu": relu_networks.section,
    "deep": mnist_networks.section,
}
TITLES = {"relu": relu_networks.TITLE, "deep": mnist_networks.TITLE}


def put(old: str, new: dict[str, str]) -> str:
    """Return the page `old` with the parts that were measured again in place.

    Args:
        old: the page as it is.
        new: part -> its text.
    """
    first, *rest = old.split("\n## ")
    kept = {"smooth": first.rstrip() + "\n"}
    for text in rest:
        for part, title in TITLES.items():
            if text.startswith(title):
                kept[part] = f"## {text.rstrip()}\n"
    kept |= {part: text for part, text in new.items() if text}
    return "\n".join(kept[part] for part in PARTS if part in kept)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificates")
    parser.add_argument("--quick", action="store_true", help="small and few cases only")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; repeatable"
    )
    options = parser.parse_args()
    found = {part: PARTS[part](options.quick) for part in options.part or PARTS}
    if options.write:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
