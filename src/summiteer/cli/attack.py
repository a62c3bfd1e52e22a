"""`summiteer attack`."""

from functools import partial
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.execution import Place, execute
from summiteer.cli.explaining import check_explained, explanations
from summiteer.cli.job import Job
from summiteer.cli.options import (
    check_choice,
    check_least,
    check_seed,
    check_share,
    check_step_size,
)
from summiteer.cli.planning import pilot_of, run_pilot
from summiteer.cli.requirements import enforce, requirement
from summiteer.cli.running import say
from summiteer.cli.source import Network, Source, check_source
from summiteer.cli.workers import Scheduler, Workers, check_workers
from summiteer.errors import UserError


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
    workers: Workers = 1,
    scheduler: Scheduler = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
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
    required = [requirement(text) for text in require or []]
    check_workers(workers, scheduler)
    if claim is not None and (workers > 1 or scheduler is not None):
        raise UserError(
            "--workers, --scheduler: a --property is one example; leave them out."
        )
    from summiteer.searching import effort_of

    job = Job(
        "attack",
        Network(model, weights, mean, std, device),
        tuple(own.items()),
        effort_of(effort, adversary is None).with_runs(restarts, steps, rivals),
        seed,
        within,
        screened=not no_screen,
        skip_bad=skip_bad,
        claim=claim,
        adversary=adversary,
        step_size=step_size,
        until=until is not None,
        neighbours=neighbours,
    )
    prepared = job.prepared()
    source, wanted = prepared.source, explain or ()
    check_explained(source, wanted)
    for note in source.notes:
        say(note, as_json)
    if pilot is not None:
        run_pilot(pilot, source, out, as_json)
        return
    result = execute(
        job,
        prepared,
        Place(out, block_size, workers, scheduler, as_json, no_report),
        partial(_show, source),
        lambda store, _: explanations(source, store, wanted),
    )
    enforce(required, result)


def _show(source: Source, result: dict[str, Any], directory: str) -> None:
    """Print what was found."""
    from summiteer.report.property_text import property_text
    from summiteer.report.terminal import print_attack
    from summiteer.searching import EFFORTS

    print_attack(result, directory)
    if source.judge:
        settings = source.settings
        most = EFFORTS["thorough"].budget
        more = not settings.adversary and settings.effort.budget < most
        print(property_text(result, directory, more))
