"""Time of `ascend` beside a bare autograd PGD loop and other attack libraries.

Run it on a quiet machine as `python -m benchmarks.engine`, with OMP_NUM_THREADS=1. All
contestants make the same 50 constant steps from the same point on the same float32
784-256-10 network; that their end points agree is checked before anything is timed.
They take turns, so that a slow minute of the machine hits all of them.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import summiteer as sm

STEPS = 50
AGREE = 1e-5
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
#: The heading from which on the page is `benchmarks.strength`'s.
STRENGTH = "## Strength"
PEERS = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
}


@dataclass(frozen=True)
class Case:
    """One problem that every contestant solves.

    The radius is that of peers' usual demonstrations, the step 2.5 · radius / steps
    (Madry et al. 2018); no iterate meets the box [0, 1] that some peers insist on.
    """

    norm: str
    batch: int
    model: nn.Module
    inputs: Tensor
    labels: Tensor

    @property
    def radius(self) -> float:
        return 1.0 if self.norm == "l2" else 0.05

    @property
    def step(self) -> float:
        return 2.5 * self.radius / STEPS


@dataclass(frozen=True)
class Row:
    """What was measured of one contestant on one case; times in milliseconds."""

    norm: str
    batch: int
    name: str
    median: float
    ratio: float
    lowest: float
    highest: float
    ratio_of_minima: float
    evaluations_per_second: float
    relative_per_evaluation: float
    evaluations: int


Attack = Callable[[Case], Tensor]


def make_case(norm: str, batch: int) -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)).eval()
    model.requires_grad_(False)
    inputs = 0.3 + 0.4 * torch.rand(batch, 784)
    return Case(norm, batch, model, inputs, model(inputs).argmax(1))


def bare(case: Case) -> Tensor:
    """The loop one would write by hand for speed, and nothing that it does not need."""
    delta = torch.zeros_like(case.inputs)
    for _ in range(STEPS):
        moved = (case.inputs + delta).requires_grad_()
        loss = functional.cross_entropy(case.model(moved), case.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        if case.norm == "l2":
            norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            delta.addcmul_(gradient, case.step / norms)
            norms = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
            delta.mul_((case.radius / norms).clamp_(max=1.0))
        else:
            delta.add_(gradient.sign_(), alpha=case.step)
            delta.clamp_(-case.radius, case.radius)
    return case.inputs + delta


def ours(case: Case, tolerance: float | None) -> sm.Ascent:
    region = (sm.L2Ball if case.norm == "l2" else sm.LinfBall)(case.radius)
    direction = sm.Normalised() if case.norm == "l2" else sm.Sign()
    problem = sm.Problem(
        case.model, case.inputs, case.labels, sm.CrossEntropy(), region
    )
    adversary = sm.ProjectedAscent(direction, sm.ConstantStep(case.step))
    start = sm.CentreStart()
    # The same work is all steps, whatever repeats.
    follows = "continue" if tolerance is None else "stop"
    return sm.ascend(
        problem, adversary, start, STEPS, tolerance=tolerance, after_cycle=follows
    )


def summiteer_same_work(case: Case) -> Tensor:
    return case.inputs + ours(case, None).final[0]


def summiteer_stopping(case: Case) -> Tensor:
    return case.inputs + ours(case, -1.0).final[0]


def foolbox(case: Case) -> Tensor:
    import foolbox as fb

    attacks = fb.attacks
    l2 = case.norm == "l2"
    kind = (
        attacks.L2ProjectedGradientDescentAttack
        if l2
        else attacks.LinfProjectedGradientDescentAttack
    )
    attack = kind(abs_stepsize=case.step, steps=STEPS, random_start=False)
    model = fb.PyTorchModel(case.model, bounds=(0.0, 1.0))
    criterion = fb.criteria.Misclassification(case.labels)
    return attack.run(model, case.inputs, criterion, epsilon=case.radius)


def torchattacks(case: Case) -> Tensor:
    import torchattacks as ta

    given = {
        "eps": case.radius,
        "alpha": case.step,
        "steps": STEPS,
        "random_start": False,
    }
    if case.norm == "linf":
        return ta.PGD(case.model, **given)(case.inputs, case.labels)
    # Its L2 attack takes images only.
    model = nn.Sequential(nn.Flatten(), case.model).eval()
    images = case.inputs.reshape(-1, 1, 28, 28)
    return ta.PGDL2(model, **given)(images, case.labels).reshape(case.inputs.shape)


def art(case: Case) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        case.model,
        loss=nn.CrossEntropyLoss(reduction="sum"),
        input_shape=(784,),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        norm=2 if case.norm == "l2" else float("inf"),
        eps=case.radius,
        eps_step=case.step,
        max_iter=STEPS,
        num_random_init=0,
        batch_size=case.batch,
        verbose=False,
    )
    labels = functional.one_hot(case.labels, 10).numpy()
    return torch.from_numpy(attack.generate(case.inputs.numpy(), y=labels))


CONTESTANTS: dict[str, Attack] = {
    "bare loop": bare,
    "summiteer, same work": summiteer_same_work,
    "summiteer, stopping test": summiteer_stopping,
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "ART": art,
}


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(PEERS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return None


def present() -> dict[str, Attack]:
    return {k: f for k, f in CONTESTANTS.items() if k not in PEERS or version(k)}


def evaluations(name: str, case: Case) -> int:
    """Gradient evaluations of rows, all together."""
    if name == "summiteer, same work":
        return ours(case, None).gradient_evaluations
    if name == "summiteer, stopping test":
        return ours(case, -1.0).gradient_evaluations
    return STEPS * case.batch


def check_agreement(case: Case, attacks: dict[str, Attack]) -> None:
    """End points must be the bare loop's up to rounding; this warms up, too.

    One row in fifty may differ: where an iterate grazes a kink of a ReLU, or a
    gradient entry is nearly 0, the last bit decides where the step goes.
    """
    expected = bare(case)
    for name, attack in attacks.items():
        apart = (attack(case).detach() - expected).abs().amax(1) > AGREE
        if int(apart.sum()) > max(1, case.batch // 50):
            raise SystemExit(
                f"{name}, {case.norm}, batch {case.batch}: {int(apart.sum())} end "
                "points are not the bare loop's; times would not compare."
            )


def measure(case: Case, repeats: int) -> list[Row]:
    """Time all contestants in turn, `repeats` rounds."""
    attacks = present()
    check_agreement(case, attacks)
    times: dict[str, list[float]] = {name: [] for name in attacks}
    for _ in range(repeats):
        for name, attack in attacks.items():
            begin = time.perf_counter()
            attack(case)
            times[name].append(1e3 * (time.perf_counter() - begin))
    base = times["bare loop"]
    rows = []
    for name, taken in times.items():
        median, count = statistics.median(taken), evaluations(name, case)
        ratio = median / statistics.median(base)
        rounds = [a / b for a, b in zip(taken, base, strict=True)]
        rows.append(
            Row(
                norm=case.norm,
                batch=case.batch,
                name=name,
                median=median,
                ratio=ratio,
                lowest=min(rounds),
                highest=max(rounds),
                ratio_of_minima=min(taken) / min(base),
                evaluations_per_second=1e3 * count / median,
                relative_per_evaluation=ratio * STEPS * case.batch / count,
                evaluations=count,
            )
        )
    return rows


HEAD = (
    "norm",
    "batch",
    "contestant",
    "median ms",
    "ratio",
    "min-max per round",
    "ratio of minima",
    "gradients/s",
    "time per gradient",
)


def cells(rows: list[Row]) -> list[tuple[str, ...]]:
    """The table, with a line for each peer that is not installed."""
    lines = []
    for row in rows:
        lines.append(
            (
                row.norm,
                str(row.batch),
                row.name,
                f"{row.median:.1f}",
                f"{row.ratio:.2f}",
                f"{row.lowest:.2f}-{row.highest:.2f}",
                f"{row.ratio_of_minima:.2f}",
                f"{row.evaluations_per_second:,.0f}",
                f"{row.relative_per_evaluation:.2f}",
            )
        )
    for name in PEERS:
        if not version(name):
            lines.append(("", "", name, "not installed", "", "", "", "", ""))
    return lines


def table(rows: list[Row]) -> str:
    """A Markdown table with aligned columns."""
    lines = [HEAD, *cells(rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]])


INTRODUCTION = """# Benchmarks

Written by `{command}`.

Time of {steps} constant steps (L2: normalised, L∞: sign; from the centre; no early
stop) on a 784-256-10 ReLU network, float32, one thread: {machine}; {versions}.
Contestants take turns, {repeats} rounds; before that, their end points are compared.

The bare loop keeps one perturbation, updates it in place and does nothing else.
*ratio*: of median times to the bare loop's; the spread is that of single rounds. On a
shared machine the ratio of the fastest times is the steadier number.
*time per gradient*: relative to the bare loop's, per example and gradient evaluation.
`ascend` evaluates more than {steps} points per example: the last one too and, with its
default stopping test ("stopping test"; no run meets it here), the boundary point that
the residual is measured against. Without (`tolerance=None`, "same work") it still keeps
the best point and the first misclassified one, notes broken and stalled runs and
projects with norms that neither over- nor underflow. The other libraries also clip to
their box [0, 1], which no iterate reaches; ART converts from and to NumPy once.

The aim for "same work" is a ratio of at most 1.10 at batch ≥ 64; what is missing, and
why, is in [performance.md](performance.md).

"""


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return f"{cpu}, {platform.system()}, Python {platform.python_version()}"


def page(rows: list[Row], repeats: int) -> str:
    names = ["summiteer", "torch", *PEERS]
    versions = ", ".join(f"{n} {version(n) or 'not installed'}" for n in names)
    head = INTRODUCTION.format(
        command=f"python -m benchmarks.engine --write --repeats {repeats}",
        steps=STEPS,
        machine=machine(),
        versions=versions,
        repeats=repeats,
    )
    return head + table(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--repeats", type=int, default=21, help="rounds (≥ 15)")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--write", action="store_true", help="docs/benchmarks.md anew")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of peers' imports
    torch.set_num_threads(1)
    rows: list[Row] = []
    for norm in ("l2", "linf"):
        for batch in options.batches:
            rows += measure(make_case(norm, batch), options.repeats)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if options.write:
        PAGE.parent.mkdir(exist_ok=True)
        old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        rest = "".join(old.partition(STRENGTH)[1:])
        text = page(rows, options.repeats) + (f"\n{rest}" if rest else "")
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
