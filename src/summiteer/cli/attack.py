"""`summiteer attack`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.explaining import check_explained, explanations
from summiteer.cli.options import (
    adversary_of,
    check_choice,
    check_least,
    check_seed,
    check_share,
    check_step_size,
)
from summiteer.cli.planning import pilot_of, run_pilot
from summiteer.cli.running import (
    enforce,
    placed,
    progress,
    requirements,
    resumption,
    say,
)
from summiteer.cli.showing import shown
from summiteer.cli.source import (
    Network,
    Source,
    check_fits,
    check_source,
    from_data,
    from_property,
)


def attack(
    context: typer.Context,
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
            help="x.vnnlib[.gz]: look for a violation in its box, instead of DATA; "
            "exit code 0 whether or not one is found",
        ),
    ] = None,
    box: options.Box = None,
    mask: options.Mask = None,
    objective: options.Objective = None,
    adversary: options.Adversary = None,
    step_size: options.StepSize = None,
    rivals: options.Rivals = None,
    neighbours: options.Neighbours = None,
    effort: Annotated[str, typer.Option(help=options.EFFORT_HELP)] = "standard",
    steps: Annotated[int | None, typer.Option(help=options.STEPS_HELP)] = None,
    restarts: Annotated[
        int | None,
        typer.Option(help=options.RESTARTS_HELP),
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
    no_screen: options.NoScreen = False,
    explain: options.Explain = None,
    block_size: options.BlockSize = None,
    plan: options.Plan = False,
    plan_share: options.PlanShare = None,
    plan_examples: options.PlanExamples = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    require: options.Require = None,
) -> None:
    """Attack MODEL on DATA and say what its robust accuracy is worth."""
    check_choice("--until", until, (None, "misclassified"))
    check_choice("--adversary", adversary, (None, *options.ADVERSARIES))
    check_step_size(step_size, adversary)
    check_choice("--effort", effort, ("standard", "thorough"))
    for option, value, least in (
        *(("--steps", steps, 1 - bool(adversary)), ("--restarts", restarts, 0)),
        *(("--block-size", block_size, 1), ("--rivals", rivals, 0)),
    ):
        check_least(option, value, least)
    check_share("--within", within)
    check_seed(seed)
    pilot = pilot_of(context)
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--mask": mask, "--objective": objective, "--limit": limit}
    own |= {"--tolerance": tolerance, "--rivals": rivals}
    check_source(claim, own, ", or --property FILE")
    network = Network(model, weights, mean, std, device)
    required = requirements(require)
    from summiteer.searching import effort_of
    from summiteer.settings import Settings
    from summiteer.until import Misclassified

    work = effort_of(effort, adversary is None).with_runs(restarts, steps, rivals)

    def settings_of(**parts: Any) -> Settings:
        fixed = {"screened": not no_screen} | parts
        return Settings(
            effort=work,
            adversary=adversary_of(
                adversary, parts["region"], work.max_steps, step_size
            ),
            seed=seed,
            until=None if until is None else Misclassified(),
            within=within,
            right_within=tolerance,
            **fixed,
        )

    if claim is None:
        source = from_data(network, own, skip_bad, settings_of)
    else:
        source = from_property(network, claim, settings_of)
    check_fits(source.problem, tolerance, rivals or 0)
    check_explained(source, explain or ())
    source = shown(source, neighbours)
    for note in source.notes:
        say(note, as_json)
    if pilot is not None:
        run_pilot(pilot, source, out, as_json)
        return
    result = _run(source, block_size, out, as_json, explain or ())
    enforce(required, result)


def _run(
    source: Source,
    block_size: int | None,
    out: Path | None,
    as_json: bool,
    explained: Sequence[int],
) -> dict[str, Any]:
    """Attack in a directory of its own, print what was found, return result.json."""
    from summiteer import runs
    from summiteer.examination import block_size_of
    from summiteer.report.property_text import property_text
    from summiteer.report.terminal import print_attack
    from summiteer.searching import EFFORTS
    from summiteer.store import Store

    population, settings = source.population, source.settings
    most = EFFORTS["thorough"].budget
    directory, spec = placed(
        runs.specification("attack", population, settings, source.names),
        block_size,
        out,
        lambda: block_size_of(population.head, settings, None),
    )
    with (
        Store.open(directory, spec) as store,
        resumption(store, as_json),
        progress("attacking", as_json) as report,
    ):
        command = runs.attack_command(population, settings)
        result = runs.run_command(
            command, population, settings, store, report, source.messages
        )
        if source.judge:
            result = source.judge(result, store)
        told = explanations(source, store, explained)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_attack(result, str(directory))
        if source.judge:
            more = not settings.adversary and settings.effort.budget < most
            print(property_text(result, str(directory), more))
    for text in told:
        say(text, as_json)
    return result
