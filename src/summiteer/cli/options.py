"""Options that several commands share, and what is checked about their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.regions import Region

NORMS = ("l2", "linf", "l1")
OBJECTIVES = ("cross-entropy", "margin", "dlr", "logistic", "quadratic")
ADVERSARIES = ("apgd", "pga", "mi-fgsm", "frank-wolfe", "dc")


def _number(text: str) -> float:
    """A number, or a fraction such as 8/255."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is not a number") from None


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="file.py:factory, package.module:factory or x.onnx",
    ),
]
DATA_HELP = (
    "x.npz or x.safetensors with `inputs` and `targets`; a folder of "
    "MNIST's idx files (folder:train for its train split); or digits, "
    "diabetes, breast-cancer"
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
Weights = Annotated[str | None, typer.Option(help="state dict, .safetensors or .pt")]
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
Seed = Annotated[int, typer.Option(help="of the random numbers")]
AsJson = Annotated[
    bool, typer.Option("--json", help="print result.json and nothing else")
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=SHARE",
        help="exit 3 if the share is below; KEY: stationary, maximum, proved, "
        "proved_global, numerical, undecided, or survivors.KEY; repeatable",
    ),
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


def check_choice(
    option: str, value: str | None, choices: tuple[str | None, ...]
) -> None:
    """Refuse what is no choice."""
    if value not in choices:
        names = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UserError(f"{option}: expected one of {names}, got {value!r}.")


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


def at_least(option: str, value: int | None, least: int, usual: int = 0) -> int:
    """The value, or the usual one if none is given."""
    if value is None:
        return usual
    if value < least:
        raise UserError(f"{option}: expected an integer ≥ {least}, got {value}.")
    return value
