"""`summiteer attack`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.options import at_least, check_choice, check_seed, check_share
from summiteer.cli.running import enforce, progress, resumption, say
from summiteer.cli.source import (
    Network,
    Source,
    check_source,
    from_data,
    from_property,
)
from summiteer.errors import UserError


def attack(
    model: options.Model,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help=options.DATA_HELP + "; none with --property"
        ),
    ] = None,
    radius: options.Radius = None,
    norm: options.Norm = None,
    claim: Annotated[
        str | None,
        typer.Option(
            "--property",
            metavar="FILE",
            help="x.vnnlib[.gz]: look for a violation in its box, instead of DATA",
        ),
    ] = None,
    box: options.Box = None,
    objective: options.Objective = None,
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
    within: options.Within = 1e-3,
    tolerance: options.Tolerance = None,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    limit: options.Limit = None,
    skip_bad: options.SkipBad = False,
    block_size: options.BlockSize = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    require: options.Require = None,
) -> None:
    """Attack MODEL on DATA and say what its robust accuracy is worth."""
    check_choice("--until", until, (None, "misclassified"))
    check_share("--within", within)
    check_seed(seed)
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--objective": objective, "--limit": limit, "--tolerance": tolerance}
    check_source(claim, own)
    from summiteer._ascend import Misclassified
    from summiteer.examination import block_size_of
    from summiteer.report.requirements import requirement
    from summiteer.settings import EFFORTS, Effort, Settings

    required = [requirement(text) for text in require or []]
    check_choice("--effort", effort, tuple(EFFORTS))
    usual = EFFORTS[effort]

    def settings_of(**parts: Any) -> Settings:
        return Settings(
            effort=Effort(
                at_least("--restarts", restarts, 0, usual.restarts),
                at_least("--steps", steps, 0, usual.max_steps),
                usual.more_steps,
            ),
            seed=seed,
            until=None if until is None else Misclassified(),
            within=within,
            right_within=tolerance,
            **parts,
        )

    network = Network(model, weights, mean, std)
    if claim is None:
        source = from_data(network, own, skip_bad, settings_of)
    else:
        source = from_property(network, claim, settings_of)
    if tolerance is not None and type(source.problem.objective).__name__ != "Quadratic":
        raise UserError("--tolerance: only for regression (objective quadratic).")
    size = block_size_of(source.problem, source.settings, block_size)
    for note in source.notes:
        say(note, as_json)
    result = _run(source, size, out, as_json)
    enforce(required, result)


def _run(source: Source, size: int, out: Path | None, as_json: bool) -> dict[str, Any]:
    """Attack in a directory of its own, print what was found, return result.json."""
    from summiteer import runs
    from summiteer.cells import digest
    from summiteer.report.property_text import property_text
    from summiteer.report.terminal import print_attack
    from summiteer.store import Store

    problem, settings = source.problem, source.settings
    spec = runs.specification("attack", problem, settings, size, source.names)
    directory = out or Path("runs") / f"attack-{digest(spec)}"
    with (
        Store.open(directory, spec) as store,
        resumption(store, as_json),
        progress("attacking", as_json) as report,
    ):
        command = runs.attack_command(problem, settings)
        result = runs.run_command(
            command, problem, settings, store, size, report, source.messages
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
