"""The command line. Commands import what they need when they run, so --help is fast."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from summiteer._version import __version__
from summiteer.errors import UserError, collected_warnings

if TYPE_CHECKING:
    from summiteer.regions import Region

app = typer.Typer(
    name="summiteer",
    help="Did your adversary reach the summit? Run first-order attacks and be told, "
    "per example, what the point they returned is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

#: Exit codes (architecture.md): 0 done, 1 user error, 2 usage, 3 below --require.
_NORMS = ("l2", "linf")
_USER_ERROR, _BELOW, _INTERRUPTED = 1, 3, 130


def main() -> NoReturn:
    """Run the command line; a user's mistake is one sentence and exit code 1."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_USER_ERROR)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(_USER_ERROR)
    sys.exit(0)


def _number(text: str) -> float:
    """A number, or a fraction such as 8/255."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"{text!r} is not a number") from None


def _version(value: bool) -> None:
    if value:
        print(f"summiteer {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Did your adversary reach the summit?"""


@app.command()
def attack(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="file.py:factory or package.module:factory"
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="x.npz or x.safetensors with `inputs` and `targets`; or digits, "
            "diabetes, breast-cancer",
        ),
    ],
    radius: Annotated[
        float,
        typer.Option(
            "--radius",
            "--eps",
            parser=_number,
            metavar="R",
            help="of the ball, in input units; 8/255 is understood",
        ),
    ],
    norm: Annotated[str, typer.Option(help="l2 or linf")] = "l2",
    box: Annotated[
        str | None,
        typer.Option(help="LO,HI in input units, or none; 0,1 if the data lie there"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="cross-entropy, margin, logistic or quadratic"),
    ] = None,
    effort: Annotated[str, typer.Option(help="standard or thorough")] = "standard",
    steps: Annotated[
        int | None, typer.Option(help="longest run; 100, thorough 500")
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(help="random starts besides the centre; 4, thorough 19"),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="misclassified: stop an example on success")
    ] = None,
    within: Annotated[
        float, typer.Option(help="search distance of verdicts, in radii")
    ] = 1e-3,
    tolerance: Annotated[
        float | None, typer.Option(help="regression: |f - y| that counts as right")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="state dict, .safetensors or .pt")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="first so many examples")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="leave out examples with NaN or Inf")
    ] = False,
    block_size: Annotated[
        int | None, typer.Option(help="examples at once; by memory if not given")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the random starts")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="directory of the run; runs/attack-ID if absent")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print result.json and nothing else")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=SHARE",
            help="exit 3 if the share is below; KEY: stationary, maximum, proved, "
            "proved_global, numerical, undecided, or survivors.KEY; repeatable",
        ),
    ] = None,
) -> None:
    """Attack MODEL on DATA and say what its robust accuracy is worth."""
    norm = norm.lower()
    required = [_requirement(text) for text in require or []]
    _check_choice("--norm", norm, _NORMS)
    _check_choice("--until", until, (None, "misclassified"))
    _check_positive("--radius", radius)
    _check_share("--within", within)
    _check_seed(seed)
    from summiteer import _attack, attack_summary
    from summiteer import data as files
    from summiteer._ascend import Misclassified

    _check_choice("--effort", effort, tuple(attack_summary.EFFORTS))
    region, loss = _region(norm, radius), _objective(objective)
    network, dataset = files.load_model(model, weights), files.load_data(data)
    inputs, targets, ids, notes = _examples(network, dataset, limit, skip_bad)
    limits = _box(box, inputs)
    if box is None:
        notes.append(_box_note(limits, inputs))
    usual = attack_summary.EFFORTS[effort]
    settings = attack_summary.Settings(
        region=region,
        box=limits,
        objective=loss,
        effort=attack_summary.Effort(
            _at_least("--restarts", restarts, 0, usual.restarts),
            _at_least("--steps", steps, 0, usual.max_steps),
            usual.more_steps,
        ),
        seed=seed,
        until=None if until is None else Misclassified(),
        within=within,
        right_within=tolerance,
    )
    with collected_warnings() as messages:
        problem = _attack.problem_of(network, inputs, targets, settings, ids)
        problem.examine()
    if tolerance is not None and type(problem.objective).__name__ != "Quadratic":
        raise UserError("--tolerance: only for regression (objective quadratic).")
    size = _attack.block_size_of(problem, settings, block_size)
    for note in notes:
        _say(note, as_json)
    names = {"model": model, "data": data}
    result = _run(problem, settings, size, names, messages, out, as_json)
    _enforce(required, result)


def _run(
    problem: Any,
    settings: Any,
    size: int,
    names: dict[str, str],
    messages: list[str],
    out: Path | None,
    as_json: bool,
) -> dict[str, Any]:
    """Attack in a directory of its own, print what was found, return result.json."""
    from summiteer import runs
    from summiteer.cells import digest
    from summiteer.report.terminal import print_attack
    from summiteer.store import Store

    spec = runs.specification(problem, settings, size, names)
    directory = out or Path("runs") / f"attack-{digest(spec)}"
    with (
        Store.open(directory, spec) as store,
        _resumption(store, as_json),
        _progress("attacking", as_json) as report,
    ):
        result = runs.run_attack(problem, settings, store, size, report, messages)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_attack(result, str(directory))
    return result


@app.command()
def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="digits only, under two minutes")
    ] = False,
    out: Annotated[Path, typer.Option(help="directory of the run")] = Path("out"),
    seed: Annotated[int, typer.Option(help="first of the seeds")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="print result.json and nothing else")
    ] = False,
) -> None:
    """Measure what the input scale does to the landscape (paper, claims C1, C3, C4)."""
    _check_seed(seed)
    if not quick:
        raise UserError(
            "reproduce: only --quick exists so far (claims C1, C3 and C4 on digits)."
        )
    from summiteer.report.page import scale_page
    from summiteer.report.terminal import print_scale
    from summiteer.store import Store
    from summiteer.studies import scale

    spec = scale.specification(seed)
    with (
        Store.open(out, spec) as store,
        _resumption(store, as_json),
        _progress("measuring", as_json) as report,
    ):
        summary = scale.run(store, report)
        store.write_json("result.json", scale.result(summary, store.run))
        store.write_text("report.html", scale_page(summary, store.run))
    if as_json:
        print((out / "result.json").read_text())
    else:
        print_scale(summary, str(out))


def _region(norm: str, radius: float) -> "Region":
    from summiteer.regions import L2Ball, LinfBall

    return {"l2": L2Ball, "linf": LinfBall}[norm](radius)


def _objective(name: str | None) -> Any:
    from summiteer import objectives

    kinds = {
        "cross-entropy": objectives.CrossEntropy,
        "margin": objectives.Margin,
        "logistic": objectives.Logistic,
        "quadratic": objectives.Quadratic,
    }
    _check_choice("--objective", name, (None, *kinds))
    return None if name is None else kinds[name]()


def _examples(
    network: Any, dataset: Any, limit: int | None, skip_bad: bool
) -> tuple[Any, Any, Any, list[str]]:
    """Inputs in the model's dtype, targets, ids and notes about what was left out."""
    import torch

    from summiteer.problem import bad_examples, model_dtype

    inputs, targets = dataset.inputs, dataset.targets
    if inputs.ndim < 2 or targets.ndim < 1:
        raise UserError(
            "DATA: expected inputs [n, *input] and targets [n, ...], got "
            f"{list(inputs.shape)} and {list(targets.shape)} in {dataset.name}."
        )
    if inputs.is_complex():
        raise UserError(f"DATA: expected real inputs, got {inputs.dtype}.")
    if len(inputs) != len(targets):
        raise UserError(
            f"DATA: {len(inputs)} inputs but {len(targets)} targets in {dataset.name}."
        )
    ids = torch.arange(len(inputs))
    if limit is not None:
        inputs, targets, ids = (
            part[: _at_least("--limit", limit, 1)] for part in (inputs, targets, ids)
        )
    dtype = model_dtype(network) or torch.float32
    inputs = inputs.to(dtype)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    notes = []
    bad = bad_examples(inputs)
    if bad and skip_bad:
        keep = torch.tensor([i for i in range(len(inputs)) if i not in set(bad)])
        inputs, targets, ids = inputs[keep], targets[keep], ids[keep]
        notes.append(f"skipped {len(bad)} examples with NaN or Inf: {bad}")
    return inputs, targets, ids, notes


def _box(text: str | None, inputs: Any) -> tuple[float, float] | None:
    if text is None:
        inside = bool(((inputs >= 0) & (inputs <= 1)).all())
        return (0.0, 1.0) if inside else None
    if text.strip().lower() == "none":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box: expected LO,HI or none, got {text!r}.") from None
    return low, high


def _box_note(limits: tuple[float, float] | None, inputs: Any) -> str:
    if limits:
        return "box 0,1 (the data lie there)"
    low, high = float(inputs.min()), float(inputs.max())
    note = f"box none (the data span {low:g} … {high:g}); --box LO,HI keeps them inside"
    if low >= 0 and 2 < high <= 255:
        note += "\nthese look like pixels 0..255: is --radius in the same units?"
    return note


def _requirement(text: str) -> tuple[str, float]:
    key, equals, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    name = key.removeprefix("survivors.")
    known = (
        "stationary",
        "maximum",
        "proved",
        "proved_global",
        "numerical",
        "undecided",
    )
    if not equals or name not in known or not 0 <= value <= 1:
        raise UserError(
            f"--require: expected KEY=SHARE with KEY one of {', '.join(known)} (or "
            f"survivors.KEY) and SHARE from 0 to 1, got {text!r}."
        )
    return key, value


def _enforce(required: list[tuple[str, float]], result: dict[str, Any]) -> None:
    """Exit with 3 if a share is below what is required."""
    below = []
    for key, least in required:
        home, name = result["shares"], key
        if key.startswith("survivors."):
            home, name = result["survivors"]["shares"] or {}, key.split(".", 1)[1]
        share = home.get(name)
        if share is None or share < least:
            shown = "undefined" if share is None else f"{share:.4g}"
            below.append(f"{key} is {shown}, required {least:g}")
    if below:
        print("below --require: " + "; ".join(below), file=sys.stderr)
        sys.exit(_BELOW)


def _check_choice(
    option: str, value: str | None, choices: tuple[str | None, ...]
) -> None:
    if value not in choices:
        names = ", ".join(str(choice) for choice in choices if choice is not None)
        raise UserError(f"{option}: expected one of {names}, got {value!r}.")


def _check_positive(option: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise UserError(f"{option}: expected a positive finite number, got {value:g}.")


def _check_share(option: str, value: float) -> None:
    if not 0 < value < 1:
        raise UserError(f"{option}: expected a number between 0 and 1, got {value:g}.")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed: expected an integer from 0 to 2**32 - 1, got {seed}.")


def _at_least(option: str, value: int | None, least: int, usual: int = 0) -> int:
    if value is None:
        return usual
    if value < least:
        raise UserError(f"{option}: expected an integer ≥ {least}, got {value}.")
    return value


def _say(text: str, quiet: bool) -> None:
    """A note for the reader; with --json, stdout is the document's alone."""
    print(text, file=sys.stderr if quiet else sys.stdout)


@contextmanager
def _progress(verb: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing in a pipe."""
    with _interruptible():
        if quiet or not sys.stdout.isatty():
            yield None
        else:
            with _bars(verb) as update:
                yield update


@contextmanager
def _resumption(store: Any, quiet: bool) -> Iterator[None]:
    """Say that this is a run that was begun before."""
    done = len(store.finished())
    if done:
        _say(f"taking up run {store.run}: {done} parts are done already", quiet)
    yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say what Ctrl-C leaves behind (typer would exit without a word)."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is kept; the same command goes on from it.",
            file=sys.stderr,
        )
        sys.exit(_INTERRUPTED)


@contextmanager
def _bars(verb: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bars:
        task = bars.add_task(verb, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


if __name__ == "__main__":
    main()
