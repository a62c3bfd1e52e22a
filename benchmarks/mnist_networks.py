"""Deep piecewise-linear networks on MNIST: what the end points of attacks are.

An MLP 784-256-256-10 and a small convolutional network, each trained normally and
against PGD (L∞ 0.1), and the three networks of VNN-COMP 2021's mnistfc. The first 100
test images (25 for the convolutional ones) that the network classifies rightly, in the
box [0, 1]; end points are `sm.ascend(problem).best` (steepest ascent with backtracking,
5 starts), float32. *Survivors* are the examples that no iterate changed the class of.
Everything that is not PROVED is counted under the reason why there is no proof.
*Polished* end points are what `sm.polish` makes of them, in float64.

The data and the three networks are looked for in $SUMMITEER_DATA (default
../shared/data); trained weights are kept under out/.
"""

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

import summiteer as sm
from summiteer.data import load_onnx

TITLE = "Deep networks on MNIST"
ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("SUMMITEER_DATA", ROOT.parent / "shared" / "data"))
KEPT = ROOT / "out" / "mnist_networks"
VNNCOMP = ("mnist-net_256x2", "mnist-net_256x4", "mnist-net_256x6")
EXAMPLES, CONV_EXAMPLES, QUICK_EXAMPLES, AT_ONCE = 100, 25, 12, 25
REGIONS = (
    sm.LinfBall(0.05),
    sm.LinfBall(0.1),
    sm.L2Ball(0.5),
    sm.L2Ball(1.0),
)
#: A number of things in a reason, which is no other reason than the same with another.
COUNTED = re.compile(r"\b\d+(?= (?:units|kinks|ties|patterns|pieces|constraints)\b)")
OBJECTIVES = (sm.Margin(), sm.CrossEntropy())

HEAD = (
    "| network | region | objective | survive % | proved % | maxima | strict | global "
    "| flat | no maximum | measured % | undecided % | survivors: proved % | undecided "
    "% | polished: proved % | maxima % | s per example |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the whole of it names the file of weights.

    Attributes:
        radius: of PGD during training; 0 for normal training.
    """

    architecture: str
    radius: float
    images: int
    epochs: int
    steps: int = 7
    batch: int = 50
    learning_rate: float = 1e-3
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.architecture}{' (PGD)' if self.radius else ''}"

    @property
    def file(self) -> Path:
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        return KEPT / f"{self.architecture}-{digest}.pt"


RECIPES = (
    Recipe("mlp", 0.0, 20_000, 4),
    Recipe("mlp", 0.1, 20_000, 4),
    Recipe("conv", 0.0, 30_000, 3),
    Recipe("conv", 0.1, 10_000, 3),
)


def architecture(name: str) -> nn.Sequential:
    """The two networks, their weights from torch's global generator."""
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 10),
    )


def trained(recipe: Recipe) -> nn.Module:
    """The network of a recipe, from its file or trained now (a minute or two)."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = architecture(recipe.architecture)
        if not recipe.file.exists():
            began = time.perf_counter()
            _train(model, recipe)
            recipe.file.parent.mkdir(parents=True, exist_ok=True)
            part = recipe.file.with_suffix(".part")
            torch.save(model.state_dict(), part)
            part.rename(recipe.file)
            print(f"trained {recipe.name}: {time.perf_counter() - began:.0f} s")
    model.load_state_dict(torch.load(recipe.file, weights_only=True))
    return model.eval()


def _train(model: nn.Module, recipe: Recipe) -> None:
    data = sm.load_data(f"{DATA / 'mnist'}:train")
    inputs, labels = data.inputs[: recipe.images], data.targets[: recipe.images]
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    for _ in range(recipe.epochs):
        for index in torch.randperm(len(inputs)).split(recipe.batch):
            given, wanted = inputs[index], labels[index]
            if recipe.radius:
                given = _attacked(model, given, wanted, recipe)
            optimiser.zero_grad()
            functional.cross_entropy(model(given), wanted).backward()
            optimiser.step()


def _attacked(
    model: nn.Module, inputs: Tensor, labels: Tensor, recipe: Recipe
) -> Tensor:
    """PGD from a random start (Madry et al. 2018), inside [0, 1]."""
    low = (inputs - recipe.radius).clamp(min=0)
    high = (inputs + recipe.radius).clamp(max=1)
    moved = low + (high - low) * torch.rand_like(inputs)
    size = 2.5 * recipe.radius / recipe.steps
    for _ in range(recipe.steps):
        moved.requires_grad_()
        loss = functional.cross_entropy(model(moved), labels)
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = (moved.detach() + size * gradient.sign()).clamp(low, high)
    return moved


def networks(quick: bool) -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """Name, network and shape of one input."""
    for recipe in RECIPES[: 2 if quick else None]:
        yield recipe.name, trained(recipe), (1, 28, 28)
    for name in VNNCOMP[: 1 if quick else None]:
        file = DATA / "vnncomp2021_mnistfc" / f"{name}.onnx"
        if file.exists():
            model = load_onnx(str(file))
            yield name, model.module, model.input_shape
        else:
            print(f"{name}: not measured, there is no {file}")


@dataclass(frozen=True)
class Row:
    """One network, region and objective; counts over its examples."""

    network: str
    region: str
    objective: str
    survives: list[bool]
    verdicts: list[sm.Verdict]
    proved: list[bool]
    reasons: list[str]
    polished: list[bool]
    polished_maxima: list[bool]
    seconds: float

    def share(self, wanted: list[bool], among: list[bool] | None = None) -> str:
        """Per cent of the examples `among`."""
        kept = [
            w for w, a in zip(wanted, among or [True] * len(wanted), strict=True) if a
        ]
        return f"{100 * sum(kept) / len(kept):.0f}" if kept else "–"

    @property
    def undecided(self) -> list[bool]:
        return [verdict is sm.Verdict.UNDECIDED for verdict in self.verdicts]

    def count(self, *verdicts: sm.Verdict) -> int:
        """How many are proved to be one of these."""
        pairs = zip(self.verdicts, self.proved, strict=True)
        return sum(proved and verdict in verdicts for verdict, proved in pairs)


def certified(
    problem: sm.Problem, points: Tensor
) -> tuple[list[sm.Verdict], list[bool], list[str]]:
    """(verdict, whether proved, why not) of each point, a few at a time."""
    verdicts: list[sm.Verdict] = []
    proved: list[bool] = []
    reasons: list[str] = []
    for index in torch.arange(len(points)).split(AT_ONCE):
        found = sm.local_optimality(problem.take(index), points[index])
        verdicts += found.verdict
        proved += [evidence is sm.Evidence.PROVED for evidence in found.evidence]
        reasons += [a or b for a, b in zip(found.unproved, found.reason, strict=True)]
    return verdicts, proved, reasons


def measure(
    name: str,
    model: nn.Module,
    shape: tuple[int, ...],
    region: sm.Region,
    objective: sm.Margin | sm.CrossEntropy,
    examples: int,
) -> Row:
    """Attack the first images that are classified rightly; judge the end points."""
    data = sm.load_data(str(DATA / "mnist"))
    images = data.inputs[: 2 * examples + 50].reshape(-1, *shape)
    labels = data.targets[: len(images)]
    with torch.no_grad():
        right = (model(images).flatten(1).argmax(1) == labels).nonzero().flatten()
    kept = right[:examples]
    problem = sm.Problem(
        model, images[kept], labels[kept], objective, region, box=(0.0, 1.0)
    )
    ascent = sm.ascend(problem)
    assert ascent.misclassified is not None
    began = time.perf_counter()
    verdicts, proved, reasons = certified(problem, ascent.best)
    seconds = (time.perf_counter() - began) / len(kept)
    after, polished, _ = certified(problem, sm.polish(problem, ascent.best))
    told = zip(after, polished, strict=True)
    maxima = [known and verdict.is_maximum for verdict, known in told]
    return Row(
        name,
        f"{region.norm} {float(region.size):g}",
        type(objective).__name__,
        (~ascent.misclassified).tolist(),
        verdicts,
        proved,
        reasons,
        polished,
        maxima,
        seconds,
    )


def line(row: Row) -> str:
    """One line of the table."""
    open_, proved = row.undecided, row.proved
    measured = [not (p or u) for p, u in zip(proved, open_, strict=True)]
    verdict = sm.Verdict
    cells = (
        row.network,
        row.region,
        row.objective,
        row.share(row.survives),
        f"**{row.share(proved)}**",
        row.count(verdict.LOCAL_MAXIMUM),
        row.count(verdict.STRICT_LOCAL_MAXIMUM),
        row.count(verdict.GLOBAL_MAXIMUM),
        row.count(verdict.FLAT),
        row.count(verdict.NOT_STATIONARY, verdict.SADDLE),
        row.share(measured),
        row.share(open_),
        row.share(proved, row.survives),
        row.share(open_, row.survives),
        row.share(row.polished),
        row.share(row.polished_maxima),
        f"{row.seconds:.2f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def reasons(rows: list[Row]) -> list[str]:
    """Why there is no proof, numbers in it summed up, by network and region."""
    lines = [
        "| network | region | without proof | undecided | reason (N: median, most) |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys((row.network, row.region) for row in rows):
        count: Counter[str] = Counter()
        undecided: Counter[str] = Counter()
        numbers: dict[str, list[float]] = {}
        for row in rows:
            if (row.network, row.region) != name:
                continue
            told = zip(row.reasons, row.proved, row.undecided, strict=True)
            for reason, proved, open_ in told:
                if proved:
                    continue
                plain = COUNTED.sub("N", reason)
                count[plain] += 1
                undecided[plain] += open_
                found = COUNTED.search(reason)
                if found:
                    numbers.setdefault(plain, []).append(float(found[0]))
        for reason, total in count.most_common():
            size = numbers.get(reason)
            told_ = f" ({median(size):g}, {max(size):g})" if size else ""
            lines.append(
                f"| {name[0]} | {name[1]} | {total} | {undecided[reason]} | "
                f"{reason}{told_} |"
            )
    return lines


def section(quick: bool) -> str:
    """Measure, print, and return the section of the page; "" without the data."""
    if not (DATA / "mnist").is_dir():
        print(f"{TITLE}: not measured, there is no {DATA / 'mnist'}")
        return ""
    print(HEAD, flush=True)
    rows = []
    for name, model, shape in networks(quick):
        for region in REGIONS[1:3] if quick else REGIONS:
            for objective in OBJECTIVES[: 1 if quick else None]:
                # Seconds per example: ascent, polishing and proofs are convolutions.
                count = CONV_EXAMPLES if name.startswith("conv") else EXAMPLES
                count = QUICK_EXAMPLES if quick else count
                rows.append(measure(name, model, shape, region, objective, count))
                print(line(rows[-1]), flush=True)
    why = reasons(rows)
    print("\n".join(why))
    proved = sum(sum(row.proved) for row in rows)
    count = sum(len(row.proved) for row in rows)
    text = __doc__.split("\n\n", 1)[1]
    return (
        f"## {TITLE}\n\n{text}\n**{proved} of {count} end points are proved "
        f"({100 * proved / count:.1f} %).**\n\n"
        f"{HEAD}\n"
        + "\n".join(map(line, rows))
        + "\n\nWhy there is no proof:\n\n"
        + "\n".join(why)
        + "\n"
    )
