"""ReLU networks of two layers: DC ascent beside projected gradient ascent, and proofs.

Random networks of the paper's kind, inputs of norm 1 in random directions, targets ±1,
an L2 ball of 0.3. Biases, where there are any, are N(0, 1/d): as large as what the
input adds to them. DC ascent and PGA (normalised steps with backtracking, 1000 at most)
start from the same uniform point; PGA stops early only where no step raises the loss.
Two losses are equal within 1e-9, relative. Up to 32 examples share a network.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

import summiteer as sm

TITLE = "ReLU networks of two layers"
DIMENSIONS, WIDTHS = (50, 200, 784), (100, 400, 1000)
EXAMPLES, QUICK_EXAMPLES, PER_NETWORK, PGA_STEPS = 128, 16, 32, 1000
RATIO, SAME, FAR = 0.3, 1e-9, 1e-3

HEAD = (
    "| d | m | biases | DC end points proved % | global | strict local | other | "
    "DC ≥ PGA % | DC higher % (by 10⁻³) | seconds DC / PGA | gradients DC / PGA | "
    "ms per proof | not proved |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """One setting, all its networks together."""

    dim: int
    width: int
    biased: bool
    examples: int
    verdicts: Counter[str]
    reasons: Counter[str]
    not_lower: int
    higher: int
    much_higher: int
    seconds: tuple[float, float]
    gradients: tuple[int, int]
    proof_seconds: float

    @property
    def proved(self) -> int:
        """How many DC end points are proved to be something."""
        return sum(self.verdicts.values())


def problem_of(
    dim: int, width: int, biased: bool, network: int, examples: int
) -> sm.Problem:
    """One network and its share of the examples."""
    bias = dim**-0.5 if biased else 0.0
    model = sm.TwoLayerNetwork.random(dim, width, "relu", seed=network, bias_std=bias)
    generator = torch.Generator().manual_seed(1 + network)
    inputs = torch.randn(examples, dim, generator=generator, dtype=torch.float64)
    inputs = inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(torch.arange(examples) % 2 == 0, 1.0, -1.0).double()
    return sm.Problem(model, inputs, targets, sm.Quadratic(), sm.L2Ball(RATIO))


def measure(dim: int, width: int, biased: bool, examples: int) -> Row:
    """Ascend both ways, and certify what DC ascent returns."""
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    not_lower = higher = much_higher = 0
    seconds, gradients, proof_seconds = [0.0, 0.0], [0, 0], 0.0
    start = sm.UniformStart(restarts=1, seed=2)
    methods: tuple[sm.Adversary, ...] = (
        sm.DCAscent(),
        sm.ProjectedAscent(sm.Normalised()),
    )
    networks = max(1, examples // PER_NETWORK)
    for network in range(networks):
        problem = problem_of(dim, width, biased, network, examples // networks)
        runs = []
        for k, method in enumerate(methods):
            began = time.perf_counter()
            # Neither is stopped by a residual, which zigzags at kinks.
            run = sm.ascend(problem, method, start, PGA_STEPS, tolerance=None)
            seconds[k] += time.perf_counter() - began
            gradients[k] += run.gradient_evaluations
            runs.append(run.best_loss)
            if k == 0:
                ends = run.final[0]
        slack = SAME * runs[1].abs()
        not_lower += int((runs[0] >= runs[1] - slack).sum())
        higher += int((runs[0] > runs[1] + slack).sum())
        much_higher += int((runs[0] > (1 + FAR) * runs[1]).sum())
        began = time.perf_counter()
        found = sm.local_optimality(problem, ends)
        proof_seconds += time.perf_counter() - began
        told = zip(
            found.verdict, found.evidence, found.unproved, found.reason, strict=True
        )
        for verdict, evidence, unproved, reason in told:
            if evidence is sm.Evidence.PROVED:
                verdicts[verdict.name] += 1
            else:
                reasons[unproved or reason] += 1
    return Row(
        dim,
        width,
        biased,
        examples // networks * networks,
        verdicts,
        reasons,
        not_lower,
        higher,
        much_higher,
        (seconds[0], seconds[1]),
        (gradients[0], gradients[1]),
        proof_seconds,
    )


def line(row: Row) -> str:
    """One line of the table."""
    rest = Counter(row.verdicts)
    best = rest.pop("GLOBAL_MAXIMUM", 0)
    strict = rest.pop("STRICT_LOCAL_MAXIMUM", 0)
    other = ", ".join(f"{name} {count}" for name, count in rest.items()) or "–"
    reasons = "; ".join(f"{text} {count}" for text, count in row.reasons.items())

    def share(count: int) -> str:
        return f"{100 * count / row.examples:.1f}"

    return (
        f"| {row.dim} | {row.width} | {'yes' if row.biased else 'no'} | "
        f"{share(row.proved)} | {best} | {strict} | {other} | {share(row.not_lower)} | "
        f"{share(row.higher)} ({share(row.much_higher)}) | "
        f"{row.seconds[0]:.2f} / {row.seconds[1]:.2f} | "
        f"{row.gradients[0]} / {row.gradients[1]} | "
        f"{1000 * row.proof_seconds / row.examples:.1f} | {reasons or '–'} |"
    )


def settings(quick: bool) -> Iterator[tuple[int, int, bool]]:
    """All settings, the cheap ones first."""
    yield from product(
        DIMENSIONS[: 2 if quick else None],
        WIDTHS[: 2 if quick else None],
        (False, True),
    )


def section(quick: bool) -> str:
    """Measure, print, and return the section of the page."""
    print(HEAD, flush=True)
    rows = []
    for setting in settings(quick):
        rows.append(measure(*setting, QUICK_EXAMPLES if quick else EXAMPLES))
        print(line(rows[-1]), flush=True)
    count = sum(row.examples for row in rows)
    proved = sum(row.proved for row in rows)
    not_lower = sum(row.not_lower for row in rows)
    text = __doc__.split("\n\n", 1)[1]
    return (
        f"## {TITLE}\n\n{text}\n"
        f"**{proved} of {count} end points of DC ascent are proved "
        f"({100 * proved / count:.2f} %); {not_lower} ({100 * not_lower / count:.2f} "
        "%) are at least as high as PGA's.**\n\n"
        f"{HEAD}\n" + "\n".join(map(line, rows)) + "\n"
    )
