"""Options that several commands share, and what is checked about their values."""

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.regions import Region

NORMS = ("l2", "linf", "l1")
OBJECTIVES = ("cross-entropy", "margin", "dlr", "logistic", "quadratic")
ADVERSARIES = ("apgd", "pga", "pgd", "mi-fgsm", "frank-wolfe", "dc")
#: Those whose steps have one size, which may be given.
SIZED = ("pgd", "mi-fgsm")
#: Other names of theirs.
_ALSO = {"autopgd": "apgd", "mim": "mi-fgsm", "fw": "frank-wolfe"}


def _fraction(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / (float(below) if slash else 1.0)


def _number(text: str) -> float:
    """A number, or a fraction such as 8/255."""
    try:
        return _fraction(text)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is not a number") from None


def numbers(option: str, text: str | None) -> list[float] | None:
    """Numbers or fractions between commas, finite; None for None."""
    if text is None:
        return None
    try:
        values = [_fraction(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        values = []
    if not values or not all(math.isfinite(value) for value in values):
        raise UserError(
            f"{option}: expected a number, or numbers with commas between them such "
            f"as 0.485,0.456,0.406, got {text!r}."
        )
    return values


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="file.py:factory, package.module:factory or x.onnx",
    ),
]
DATA_HELP = (
    "x.npz or x.safetensors with `inputs` and `targets` (or `labels`); a folder of "
    "MNIST's idx files (folder:train for its train split); or digits, "
    "diabetes, breast-cancer"
)
RIVALS_HELP = (
    "classification: attack towards each of so many likely classes; 9, thorough all; "
    "none with --adversary"
)
EFFORT_HELP = (
    "how much the search spends on each example: standard (380 gradient evaluations "
    "at most) or thorough (5000)"
)
STEPS_HELP = (
    "of each run on the objective: 20, thorough 100; the search's other runs keep "
    "theirs; with --adversary of every run: 100, thorough 500"
)
RESTARTS_HELP = (
    "such runs from random points: 4, thorough up to 9; with --adversary 4, thorough 19"
)
Radius = Annotated[
    float | None,
    typer.Option(
        "--radius",
        "--eps",
        parser=_number,
        metavar="R",
        help="of the ball, in input units; 8/255 is understood",
    ),
]
Norm = Annotated[str | None, typer.Option(help="l2 (usual), linf or l1")]
Box = Annotated[
    str | None,
    typer.Option(help="LO,HI in input units, or none; 0,1 if the data lie there"),
]
Objective = Annotated[
    str | None,
    typer.Option(help="cross-entropy, margin, dlr, logistic or quadratic"),
]
Within = Annotated[float, typer.Option(help="search distance of verdicts, in radii")]
Tolerance = Annotated[
    float | None, typer.Option(help="regression: |f - y| that counts as right")
]
Adversary = Annotated[
    str | None,
    typer.Option(
        help="in place of the search: apgd, pga: projected gradient ascent with line "
        "search, pgd: with constant steps, mi-fgsm, frank-wolfe, or dc: two-layer "
        "ReLU networks on L2 balls"
    ),
]
StepSize = Annotated[
    float | None,
    typer.Option(
        parser=_number,
        metavar="SIZE",
        help="of pgd (2.5 R/steps if not given) and mi-fgsm (R/steps), in input units",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="which coordinates may move: bool [*input], or one row per example of "
        "DATA, in .npy, .npz, .safetensors or .pt",
    ),
]
Rivals = Annotated[
    int | None,
    typer.Option(
        help=RIVALS_HELP,
    ),
]
Neighbours = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="examples whose classes show the way, such as training data; as DATA is "
        "given; DATA itself if not given",
    ),
]
NoScreen = Annotated[
    bool,
    typer.Option("--no-screen", help="leave out the failure screen of model and data"),
]
Explain = Annotated[
    list[int] | None,
    typer.Option(
        metavar="ID",
        help="say why example ID has its verdict, with the numbers; repeatable",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="state dict, .safetensors or .pt; nothing in it is run"
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="normalise inside the model: a number or one per channel, "
        "0.485,0.456,0.406; the radius stays in the units of the data"
    ),
]
Std = Annotated[str | None, typer.Option(help="divides after --mean was subtracted")]
Limit = Annotated[int | None, typer.Option(help="first so many examples")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="leave out examples with NaN or Inf")
]
BlockSize = Annotated[
    int | None, typer.Option(help="examples at once; by memory if not given")
]
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda or cuda:1: where the model runs; proofs are made on the CPU"
    ),
]
Seed = Annotated[int, typer.Option(help="of the random numbers")]
AsJson = Annotated[
    bool, typer.Option("--json", help="print result.json and nothing else")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="do not write report.html")]
Require = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=SHARE",
        help="exit 3 if the share is below; KEY: stationary, maximum, proved, "
        "proved_maximum, proved_global, numerical, undecided, or survivors.KEY; "
        "repeatable",
    ),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="attack nothing: try methods, steps (up to --steps; 200) and restarts (up "
        "to --restarts; 9) on a sample, say what each reaches and costs, and write the "
        "command line of the cheapest that reaches --plan-share",
    ),
]
PlanShare = Annotated[
    float | None,
    typer.Option(help="of the highest gain in loss that is known; 0.99"),
]
PlanExamples = Annotated[
    int | None, typer.Option(help="of the plan's sample, rightly classified ones; 64")
]
Out = Annotated[
    Path | None, typer.Option(help="directory of the run; runs/COMMAND-ID if absent")
]


def region_of(norm: str, radius: float) -> "Region":
    """The region of a norm and a radius."""
    from summiteer.regions import L1Ball, L2Ball, LinfBall

    kinds: dict[str, type[Any]] = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
    region: Region = kinds[norm](radius)
    return region


def objective_of(name: str | None) -> Any:
    """The objective of a name, or None."""
    from summiteer import objectives

    check_choice("--objective", name, (None, *OBJECTIVES))
    kinds = (
        objectives.CrossEntropy,
        objectives.Margin,
        objectives.DLR,
        objectives.Logistic,
        objectives.Quadratic,
    )
    return None if name is None else dict(zip(OBJECTIVES, kinds, strict=True))[name]()


def adversary_of(
    name: str | None, region: "Region", steps: int, step_size: float | None = None
) -> Any:
    """The adversary of a name; None for the search.

    Args:
        name: one of `ADVERSARIES`, or None.
        region: a ball.
        steps: of each run.
        step_size: of one in `SIZED`, or None.
    """
    from summiteer.adversaries import named_adversary

    if name is None:
        return None
    return named_adversary(name, region, steps, step_size)


def check_step_size(step_size: float | None, adversary: str | None) -> None:
    """Refuse a size of steps that have none, or many."""
    if step_size is None:
        return
    check_positive("--step-size", step_size)
    if adversary not in SIZED:
        said = "the search" if adversary is None else adversary
        raise UserError(
            f"--step-size: {said} chooses its own; it goes with --adversary "
            f"{' or '.join(SIZED)}."
        )


def check_choice(
    option: str, value: str | None, choices: tuple[str | None, ...]
) -> None:
    """Refuse what is no choice."""
    if value not in choices:
        names = ", ".join(str(choice) for choice in choices if choice is not None)
        known = [choice for choice in choices if choice is not None]
        near = difflib.get_close_matches(_ALSO.get(str(value), str(value)), known, 1)
        remedy = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"{option}: expected one of {names}, got {value!r}{remedy}")


def box_of(text: str | None) -> tuple[float, float] | None:
    """The box LO,HI; None for none, and where it is left to the data."""
    if text is None or text.strip().lower() == "none":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box: expected LO,HI or none, got {text!r}.") from None
    if not low < high:
        raise UserError(f"--box: expected LO,HI with LO < HI, got {text!r}.")
    return low, high


def check_device(name: str) -> None:
    """Refuse what is no device, or is not there."""
    if name == "cpu":
        return
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdigit() or name == "cuda"):
        raise UserError(f"--device: expected cpu, cuda or cuda:N, got {name!r}.")
    import torch

    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        there = f"the last is cuda:{count - 1}" if count else "it has no CUDA device"
        raise UserError(
            f"--device: this machine has no {name} ({there}); leave --device out for "
            "the CPU."
        )


def check_positive(option: str, value: float) -> None:
    """Refuse what is not positive and finite."""
    if not 0 < value < float("inf"):
        raise UserError(f"{option}: expected a positive finite number, got {value:g}.")


def check_share(option: str, value: float) -> None:
    """Refuse what does not lie between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"{option}: expected a number between 0 and 1, got {value:g}.")


def check_seed(seed: int) -> None:
    """Refuse what the generator does not take."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed: expected an integer from 0 to 2**32 - 1, got {seed}.")


def check_least(option: str, value: int | None, least: int) -> None:
    """Refuse what is given and smaller."""
    if value is not None and value < least:
        raise UserError(f"{option}: expected an integer ≥ {least}, got {value}.")
