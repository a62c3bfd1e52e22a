"""What certificates of two-layer networks cost, against d and m."""

import cProfile
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import summiteer as sm
from benchmarks.certificates import problem_of, time_of_a_step
from benchmarks.fresh import fresh
from benchmarks.section import Line, Section, table
from summiteer.optimality.definite import _NUMBERS, Weighted

#: (d, m) -> examples; the least of both decides, being the size of what is factorised.
SIZES = {
    (784, 256): 64,
    (784, 1024): 32,
    (784, 4096): 16,
    (3072, 256): 64,
    (3072, 1024): 16,
    (3072, 4096): 4,
}
QUICK = {(64, 100): 16, (200, 100): 16}
#: Activation, region, its name in the tables, norm of the inputs: such that some maxima
#: of softplus are proved by the batch's bounds, some by a factorisation of their own.
KINDS = (
    ("softplus", "l2", "softplus, L2", 3.0),
    ("relu", "l2", "ReLU, L2", 1.0),
    ("relu", "linf", "ReLU, L∞", 1.0),
)
#: Steps of ascent at most, steps that one is timed with.
MOST = 1000
#: d·m up to which boxes are looked at: the slowest by far.
LARGEST_BOX = 784 * 1024
#: Memory is looked at for few and four times as many examples.
WATCHED, FEW, TIMES = (784, 1024), 64, 4
#: Of these it is told how many matrices a block has.
SHOWN = ((64, 100), (784, 256), (784, 1024))
#: Part of the time -> (functions that take it, whether with all that they call).
PARTS = {
    "WᵀDW": (("weighted_gram",), True),
    "factorisations": (("linalg_", "cholesky_"), False),
    "shared by the batch": (("bounds_of", "quick_look"), True),
    "concave maxima": (("maximise",), True),
}


@dataclass(frozen=True)
class Cost:
    """Of the certificates of one batch.

    Attributes:
        examples: how many.
        proved: share of local or global maxima, proved.
        seconds: of processor time, of all certificates.
        step: seconds of a gradient step of one example.
        shares: of the time, by `PARTS`.
        calls: of Cholesky's factorisation.
        blocks: matrices in each of those that prove a curvature.
    """

    examples: int
    proved: float
    seconds: float
    step: float
    shares: dict[str, float]
    calls: int
    blocks: tuple[int, ...]

    @property
    def each(self) -> float:
        """Seconds per example."""
        return self.seconds / self.examples


def ends(problem: sm.Problem) -> Tensor:
    """Where ascent from the centre ends: DC ascent where there are kinks."""
    smooth = problem.model.activation.smooth
    method = sm.ProjectedAscent(sm.Normalised()) if smooth else sm.DCAscent()
    return sm.ascend(problem, method, sm.CentreStart(), MOST).best


def cost(
    activation: str, norm: str, scale: float, size: Sequence[int], examples: int
) -> Cost:
    """Certify the ends of ascent, once timed and once watched."""
    problem = problem_of(
        activation, *size, scale, sm.Quadratic(), examples=examples, norm=norm
    )
    points = ends(problem)
    began = time.process_time()
    sm.local_optimality(problem, points)
    seconds = time.process_time() - began
    blocks: list[int] = []
    top = Weighted._top

    def counted(self: Weighted, *given: Any) -> Tensor:
        blocks.append(len(given[-1]))
        return top(self, *given)

    profile = cProfile.Profile()
    # Not torch's own function: proofs are not given where that is another.
    with mock.patch.object(Weighted, "_top", counted), profile:
        found = sm.local_optimality(problem, points)
    proved = [
        verdict.is_maximum and evidence is sm.Evidence.PROVED
        for verdict, evidence in zip(found.verdict, found.evidence, strict=True)
    ]
    stats, calls = pstats.Stats(profile), 0
    shares = dict.fromkeys(PARTS, 0.0)
    for (_, _, function), (_, times, own, whole, _) in stats.stats.items():
        calls += times * ("linalg_cholesky_ex" in function)
        for part, (names, inclusive) in PARTS.items():
            # Built-in functions have long names: a part of theirs ends in "_".
            if function in names or any(n[-1] == "_" and n in function for n in names):
                shares[part] += (whole if inclusive else own) / stats.total_tt
    return Cost(
        examples,
        sum(proved) / examples,
        seconds,
        time_of_a_step(problem) / len(problem),
        shares,
        calls,
        tuple(blocks),
    )


def certified(
    activation: str, norm: str, scale: float, size: Sequence[int], examples: int
) -> Callable[[], None]:
    """What `fresh` watches."""
    problem = problem_of(
        activation, *size, scale, sm.Quadratic(), examples=examples, norm=norm
    )
    points = ends(problem)
    few = torch.arange(2)
    sm.local_optimality(problem.take(few), points[few])
    return lambda: sm.local_optimality(problem, points) and None


def row(name: str, size: Sequence[int], found: Cost) -> list[object]:
    """Of the table of costs."""
    shares = [f"{100 * found.shares[part]:.0f}" for part in PARTS]
    blocks = f"{len(found.blocks)}: {sum(found.blocks)}" if found.blocks else ""
    return [
        *(name, *size, found.examples, f"{100 * found.proved:.0f}"),
        *(f"{found.each:.3g}", f"{found.each / found.step:.0f}", *shares),
        *(found.calls, blocks),
    ]


HEAD = (
    *("σ, region", "d", "m", "examples", "proved %", "CPU s per example", "in steps"),
    *(f"{part} %" for part in PARTS),
    *("factorisations", "verified"),
)
TEXT = """`sm.local_optimality` on float64 two-layer networks with random weights of the
paper's kind, quadratic loss, targets ±1, radii spread over 0.1 to 0.5 of the inputs'
norm (L∞: divided by √d). The norm is 3 for softplus, where some maxima are proved by
bounds that the batch shares and some need factorisations of their own, 1 for ReLU. The
points are the ends of normalised ascent with backtracking (softplus) and of DC ascent
(ReLU) from the centre. *proved*: as maxima. *in steps*: in gradient steps of one
example in the same batch, in input space.

{costs}

Parts of the time in % are from a second run, under Python's profiler, and overlap:
*WᵀDW* is the forming of curvature matrices, *factorisations* are all that LAPACK does,
*shared by the batch* are bounds that cost the same for one example as for a thousand,
*concave maxima* are the inner problems of ReLU proofs. *factorisations*: calls of
Cholesky's. *verified*: calls that prove a curvature, and how many matrices they were
given: one call for each block of examples that reaches a rung; calls with one matrix
are also the bounds shared by the batch. A block has 8 MiB: {blocks}.
Blocks of 128 MiB, which were here before, took as long or a little longer (LAPACK takes
one matrix after the other, and what is made of it then is still in the cache) and four
times the memory.

Peak memory beyond the problem's, in a fresh process, at d × m = {watched}:

{memory}

What still grows with the examples are vectors of d and m numbers; matrices do not.
"""


def memory(
    kinds: Sequence[tuple[str, str, str, float]], few: int
) -> list[list[object]]:
    """Rows: MiB for few and for more examples."""
    rows = []
    for activation, norm, name, scale in kinds:
        found = [
            fresh(
                __name__,
                "certified",
                activation=activation,
                norm=norm,
                scale=scale,
                size=WATCHED,
                examples=count,
            ).memory
            for count in (few, TIMES * few)
        ]
        rows.append([name, *(f"{each:.0f}" for each in found)])
    return rows


def in_block(dim: int, width: int) -> int:
    """Matrices that are factorised in one call, at most."""
    size = min(dim, width)
    return max(1, _NUMBERS // max(size * size, size * width))


def _by(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


def measure(quick: bool) -> Section:
    """Costs against d and m, and memory."""
    rows, lines = [], []
    for size, examples in (QUICK if quick else SIZES).items():
        for activation, norm, name, scale in KINDS:
            if norm == "linf" and size[0] * size[1] > LARGEST_BOX:
                continue
            found = cost(activation, norm, scale, size, examples)
            rows.append(row(name, size, found))
            if size[0] == 3072 and size[1] >= 1024:
                what = f"certificate, {name}, d × m = {size[0]} × {size[1]}"
                told = f"{found.each:.2g} s, {found.each / found.step:.0f} steps"
                lines.append(Line(what, "", told, None))
    few = 4 if quick else FEW
    kinds = KINDS[:1] if quick else KINDS[:2]
    counts = (f"{few} examples, MiB", f"{TIMES * few} examples, MiB")
    text = TEXT.format(
        costs=table(HEAD, rows),
        memory=table(("σ, region", *counts), memory(kinds, few)),
        watched=_by(WATCHED),
        blocks=", ".join(f"{in_block(*size)} of {_by(size)}" for size in SHOWN),
    )
    return Section("What certificates cost", text, lines)
