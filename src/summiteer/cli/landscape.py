"""`summiteer landscape`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.options import (
    adversary_of,
    check_choice,
    check_least,
    check_seed,
    check_share,
    check_step_size,
)
from summiteer.cli.running import finish, progress, resumption, say
from summiteer.cli.source import Network, Source, check_source, from_data
from summiteer.errors import UserError

KINDS = ("line", "plane", "circle")


def landscape(
    model: options.Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help=options.DATA_HELP)],
    example: Annotated[
        list[int] | None,
        typer.Option(metavar="ID", help="number of the data's row, from 0; repeatable"),
    ] = None,
    radius: options.Radius = None,
    norm: options.Norm = None,
    box: options.Box = None,
    mask: options.Mask = None,
    objective: options.Objective = None,
    restarts: Annotated[int, typer.Option(help="runs from uniform starts")] = 64,
    steps: Annotated[int, typer.Option(help="of each run, at most")] = 500,
    adversary: options.Adversary = None,
    step_size: options.StepSize = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            metavar="KIND",
            help="line, plane, circle (L2) or none; repeatable; all that can be had",
        ),
    ] = None,
    resolution: Annotated[int, typer.Option(help="ticks per axis of a plane")] = 41,
    within: options.Within = 1e-3,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
) -> None:
    """Say which maxima the inner problem of single examples has, and how that is known.

    Runs from many uniform starts; maxima told apart by proof where there is one.
    """
    check_share("--within", within)
    check_seed(seed)
    for option, value, least in (
        ("--restarts", restarts, 1),
        ("--steps", steps, 1),
        ("--resolution", resolution, 2),
    ):
        check_least(option, value, least)
    check_choice("--adversary", adversary, (None, *options.ADVERSARIES))
    check_step_size(step_size, adversary)
    kinds = _kinds(slices)
    if not example:
        raise typer.BadParameter("give --example ID.", param_hint="--example")
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--mask": mask, "--objective": objective}
    own |= {"--limit": None, "--tolerance": None}
    check_source(None, own)
    from summiteer import exploring, runs
    from summiteer.cells import digest
    from summiteer.report.landscape_text import print_landscapes
    from summiteer.settings import Settings
    from summiteer.store import Store

    def settings_of(**parts: Any) -> Settings:
        chosen = adversary_of(adversary, parts["region"], steps, step_size)
        fixed: dict[str, Any] = {"adversary": chosen, "seed": seed, "within": within}
        return Settings(**fixed | {"screened": False} | parts)

    network = Network(model, weights, mean, std, device)
    source = from_data(network, own, False, settings_of)
    _check_examples(source, example)
    if slices is None and source.settings.region.norm != "l2":
        kinds = tuple(kind for kind in kinds if kind != "circle")
    view = exploring.View(
        tuple(dict.fromkeys(example)), restarts, steps, kinds, resolution
    )
    for note in source.notes:
        say(note, as_json)
    population, settings = source.population, source.settings
    names: dict[str, Any] = {**source.names, **view.names()}
    spec = runs.specification("landscape", population, settings, names)
    directory = out or Path("runs") / f"landscape-{digest(spec)}"
    with (
        Store.open(directory, spec) as store,
        resumption(store, as_json),
        progress("exploring", as_json) as report,
    ):
        result = exploring.run_landscapes(
            population, settings, view, store, report, tuple(source.messages)
        )
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_landscapes(result, str(directory))
    finish(directory, result, no_report, as_json)


def _kinds(given: list[str] | None) -> tuple[Any, ...]:
    """The kinds of slices asked for."""
    if given is None:
        return KINDS
    for kind in given:
        check_choice("--slice", kind, (*KINDS, "none"))
    if "none" in given and len(given) > 1:
        raise UserError("--slice: none goes with no other kind.")
    return tuple(dict.fromkeys(kind for kind in given if kind != "none"))


def _check_examples(source: Source, wanted: list[int]) -> None:
    """Refuse examples that the data do not have."""
    ids = source.population.ids
    for example in wanted:
        if not bool((ids == example).any()):
            raise UserError(
                f"--example: {example} is not a row of DATA, which has {len(ids)}, "
                f"{int(ids[0])} … {int(ids[-1])}."
            )
