"""The command line. Commands import what they need when they run, so --help is fast."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

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
            metavar="MODEL",
            help="file.py:factory, package.module:factory or x.onnx",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="x.npz or x.safetensors with `inputs` and `targets`; a folder of "
            "MNIST's idx files (folder:train for its train split); or digits, "
            "diabetes, breast-cancer; none with --property",
        ),
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            "--radius",
            "--eps",
            parser=_number,
            metavar="R",
            help="of the ball, in input units; 8/255 is understood",
        ),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="l2 (usual) or linf")] = None,
    claim: Annotated[
        str | None,
        typer.Option(
            "--property",
            metavar="FILE",
            help="x.vnnlib[.gz]: look for a violation in its box, instead of DATA",
        ),
    ] = None,
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
    _check_choice("--until", until, (None, "misclassified"))
    _check_share("--within", within)
    _check_seed(seed)
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--objective": objective, "--limit": limit, "--tolerance": tolerance}
    _check_source(claim, own)
    from summiteer import _attack, attack_summary
    from summiteer._ascend import Misclassified
    from summiteer.report.requirements import requirement

    required = [requirement(text) for text in require or []]
    _check_choice("--effort", effort, tuple(attack_summary.EFFORTS))
    usual = attack_summary.EFFORTS[effort]

    def settings_of(**parts: Any) -> Any:
        return attack_summary.Settings(
            effort=attack_summary.Effort(
                _at_least("--restarts", restarts, 0, usual.restarts),
                _at_least("--steps", steps, 0, usual.max_steps),
                usual.more_steps,
            ),
            seed=seed,
            until=None if until is None else Misclassified(),
            within=within,
            right_within=tolerance,
            **parts,
        )

    if claim is None:
        source = _from_data(model, weights, own, skip_bad, settings_of)
    else:
        source = _from_property(model, weights, claim, settings_of)
    if tolerance is not None and type(source.problem.objective).__name__ != "Quadratic":
        raise UserError("--tolerance: only for regression (objective quadratic).")
    size = _attack.block_size_of(source.problem, source.settings, block_size)
    for note in source.notes:
        _say(note, as_json)
    result = _run(source, size, out, as_json)
    _enforce(required, result)


class _Source(NamedTuple):
    """What is attacked, and how the user named it."""

    problem: Any
    settings: Any
    messages: list[str]
    notes: list[str]
    names: dict[str, str]
    #: result.json's content and the store -> what is added for a property.
    judge: Callable[[dict[str, Any], Any], dict[str, Any]] | None = None


def _check_source(claim: str | None, own: dict[str, Any]) -> None:
    """DATA with its options, or --property, which has its own region."""
    if claim is None:
        for name, metavar in (("DATA", "DATA"), ("--radius", "--radius R")):
            if own[name] is None:
                raise typer.BadParameter(
                    f"give {metavar}, or --property FILE.", param_hint=name
                )
        _check_positive("--radius", own["--radius"])
        own["--norm"] = (own["--norm"] or _NORMS[0]).lower()
        _check_choice("--norm", own["--norm"], _NORMS)
        return
    given = [name for name, value in own.items() if value is not None]
    if given:
        raise UserError(
            f"--property: says itself what {given[0]} would say; give one of the two."
        )


def _load_model(model: str, weights: str | None) -> tuple[Any, tuple[int, ...] | None]:
    """The model, and the shape of its inputs where its file says so."""
    from summiteer import data as files

    if model.endswith(".onnx") and weights is None:
        read = files.load_onnx(model)
        return read.module, read.input_shape
    return files.load_model(model, weights), None


def _from_data(
    model: str,
    weights: str | None,
    own: dict[str, Any],
    skip_bad: bool,
    settings_of: Callable[..., Any],
) -> _Source:
    """The problem of DATA in a ball."""
    import torch

    from summiteer import _attack
    from summiteer import data as files
    from summiteer.problem import model_dtype

    region = _region(own["--norm"], own["--radius"])
    loss = _objective(own["--objective"])
    network, shape = _load_model(model, weights)
    dataset = files.load_data(own["DATA"])
    dtype = model_dtype(network) or torch.float32
    inputs, targets, ids, notes = files.examples(
        dataset, dtype, own["--limit"], skip_bad, shape
    )
    limits = files.box_of(own["--box"], inputs)
    if own["--box"] is None:
        notes.append(files.box_note(limits, inputs))
    settings = settings_of(region=region, box=limits, objective=loss)
    with collected_warnings() as messages:
        problem = _attack.problem_of(network, inputs, targets, settings, ids)
        problem.examine()
    names = {"model": model, "data": own["DATA"]}
    return _Source(problem, settings, messages, notes, names)


def _from_property(
    model: str, weights: str | None, claim: str, settings_of: Callable[..., Any]
) -> _Source:
    """The problem of violating a property."""
    from summiteer import _attack, runs
    from summiteer.data import load_property

    read = load_property(claim)
    network, shape = _load_model(model, weights)
    with collected_warnings() as messages:
        problem = _attack.property_problem(network, read, shape)
        problem.examine()
    settings = settings_of(region=problem.region, objective=problem.objective)
    names = {"model": model, **runs.property_names(read)}

    def judge(result: dict[str, Any], store: Any) -> dict[str, Any]:
        return runs.judge_property(result, network, read, problem, store)

    return _Source(problem, settings, messages, [], names, judge)


def _run(source: _Source, size: int, out: Path | None, as_json: bool) -> dict[str, Any]:
    """Attack in a directory of its own, print what was found, return result.json."""
    from summiteer import runs
    from summiteer.cells import digest
    from summiteer.report.property_text import property_text
    from summiteer.report.terminal import print_attack
    from summiteer.store import Store

    problem, settings = source.problem, source.settings
    spec = runs.specification(problem, settings, size, source.names)
    directory = out or Path("runs") / f"attack-{digest(spec)}"
    with (
        Store.open(directory, spec) as store,
        _resumption(store, as_json),
        _progress("attacking", as_json) as report,
    ):
        result = runs.run_attack(
            problem, settings, store, size, report, source.messages
        )
        if source.judge:
            result = source.judge(result, store)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_attack(result, str(directory))
        if source.judge:
            print(property_text(result, str(directory)))
    return result


def _enforce(required: list[tuple[str, float]], result: dict[str, Any]) -> None:
    """Exit with 3 if a share is below what is required."""
    from summiteer.report.requirements import shares_below

    below = shares_below(required, result)
    if below:
        print("below --require: " + "; ".join(below), file=sys.stderr)
        sys.exit(_BELOW)


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
