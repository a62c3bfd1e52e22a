"""`summiteer train`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.options import (
    adversary_of,
    check_choice,
    check_least,
    check_positive,
    check_seed,
    check_share,
    check_step_size,
)
from summiteer.cli.running import finish, progress, say
from summiteer.cli.source import Network, Source, check_source, from_data
from summiteer.errors import UserError

_OPTIMIZERS = ("sgd", "adam", "adamw")
_SCHEDULES = ("constant", "cosine")
_MODES = ("eval", "train")
#: Numbers of examples held out by --hold-out-share that are written to a file.
_KEPT = 2**26


def train(
    model: options.Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help=options.DATA_HELP + "; trained on")
    ],
    radius: options.Radius = None,
    norm: options.Norm = None,
    box: options.Box = None,
    objective: options.Objective = None,
    epochs: Annotated[
        int,
        typer.Option(
            help="in all; a larger number later goes on, where nothing else depends on "
            "it (a cosine does)"
        ),
    ] = 10,
    batch_size: Annotated[int, typer.Option(help="examples of a step")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw")] = "sgd",
    lr: Annotated[float, typer.Option("--lr", help="learning rate")] = 0.1,
    momentum: Annotated[float, typer.Option(help="of sgd")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="of the optimizer")] = 0.0,
    schedule: Annotated[
        str, typer.Option(help="of the learning rate: constant, or cosine to 0")
    ] = "constant",
    attack_steps: Annotated[
        int, typer.Option(help="of the training attack on each batch")
    ] = 10,
    adversary: Annotated[
        str, typer.Option(help="of the training attack: pgd, or as in attack")
    ] = "pgd",
    step_size: options.StepSize = None,
    random_starts: Annotated[
        int, typer.Option(help="runs from random points; 0: one from the centre")
    ] = 1,
    attack_mode: Annotated[
        str, typer.Option(help="of the model during the training attack: eval or train")
    ] = "eval",
    held_out: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="attacked after each epoch, not trained on"),
    ] = None,
    hold_out_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="of DATA, held out at random"),
    ] = None,
    held_out_every: Annotated[
        int, typer.Option(help="epochs from one attack on it to the next")
    ] = 1,
    watch: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="of the training that watching the inner problem may take; 0: none",
        ),
    ] = 0.05,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    limit: options.Limit = None,
    skip_bad: options.SkipBad = False,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
) -> None:
    """Train MODEL adversarially on DATA and watch the inner maximisation."""
    check_choice("--optimizer", optimizer, _OPTIMIZERS)
    check_choice("--schedule", schedule, _SCHEDULES)
    check_choice("--attack-mode", attack_mode, _MODES)
    check_choice("--adversary", adversary, options.ADVERSARIES)
    check_step_size(step_size, adversary)
    check_positive("--lr", lr)
    for option, value, least in (
        *(("--epochs", epochs, 1), ("--batch-size", batch_size, 1)),
        *(("--attack-steps", attack_steps, 0), ("--random-starts", random_starts, 0)),
        ("--held-out-every", held_out_every, 1),
    ):
        check_least(option, value, least)
    for option, number in (("--momentum", momentum), ("--weight-decay", weight_decay)):
        if not 0 <= number < float("inf"):
            raise UserError(f"{option}: expected a number ≥ 0, got {number:g}.")
    if not 0 <= watch < float("inf"):
        raise UserError(f"--watch: expected a number ≥ 0, got {watch:g}.")
    if hold_out_share is not None:
        check_share("--hold-out-share", hold_out_share)
        if held_out is not None:
            raise UserError("--held-out, --hold-out-share: give one of the two.")
    check_seed(seed)
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--objective": objective, "--limit": limit, "--tolerance": None}
    check_source(None, own)
    network = Network(model, weights, mean, std, device)
    import torch

    from summiteer.settings import Settings
    from summiteer.starts import CentreStart, UniformStart
    from summiteer.training import NamedOptimizer, Recipe

    with torch.random.fork_rng(devices=[]):
        # A factory may draw its weights: the same ones when it goes on.
        torch.manual_seed(seed)
        source = from_data(network, own, skip_bad, lambda **parts: Settings(**parts))
    for note in source.notes:
        say(note, as_json)
    start: Any = CentreStart()
    if random_starts:
        start = UniformStart(restarts=random_starts, seed=seed)
    recipe = Recipe(
        adversary=adversary_of(
            adversary, source.settings.region, attack_steps, step_size
        ),
        start=start,
        loss=source.problem.objective,
        optimizer=NamedOptimizer(optimizer, lr, momentum, weight_decay),
        schedule=_schedule(schedule, epochs),
        max_steps=attack_steps,
        mode="train" if attack_mode == "train" else "eval",
        epochs=epochs,
        batch_size=batch_size,
        held_out_every=held_out_every,
        seed=seed,
    )
    aside = held_out or (data if hold_out_share else None), hold_out_share, skip_bad
    # Without them an attack on the weights would be on another problem.
    given = {"--objective": objective, "--mean": mean, "--std": std}
    _run(source, recipe, aside, watch, given, out, as_json, no_report)


def _schedule(name: str, epochs: int) -> Any:
    """A function of the optimiser; None for a constant learning rate."""
    import torch

    if name == "constant":
        return None
    return lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(made, epochs)


def _run(
    source: Source,
    recipe: Any,
    aside: tuple[str | None, float | None, bool],
    watch: float,
    given: Mapping[str, str | None],
    out: Path | None,
    as_json: bool,
    no_report: bool,
) -> None:
    """Train in a directory of its own, print as it goes, write what came of it."""
    from summiteer.cells import digest
    from summiteer.report.training_text import (
        attack_text,
        table_head,
        table_row,
        trained_text,
    )
    from summiteer.training import Training, epochs_done, part_of, split, watcher

    named, share, skip_bad = aside
    examples, others = source.population, None
    if share is not None:
        count = round(share * len(examples))
        kept, rest = split(examples.ids, recipe.seed, count)
        examples, others = part_of(examples, kept), part_of(examples, rest)
    elif named is not None:
        others = _other_data(source, named, skip_bad)
    training = Training(
        model=examples.head.model,
        examples=examples,
        held_out=others,
        recipe=recipe,
        monitor=watcher(examples, recipe, watch),
        share=watch,
        names={**source.names, "held_out": named or ""},
        messages=list(source.messages),
    )
    run = digest(training.spec())
    directory = out or Path("runs") / f"train-{run}"
    shape = examples.labelled, others is not None
    done = epochs_done(directory, run)
    if done:
        say(f"taking up the training in {directory}: {done} epochs are done", as_json)
    if not as_json:
        print(table_head(*shape))

    def tell(record: Any) -> None:
        if not as_json:
            print(table_row(record, *shape), flush=True)

    with progress("training", True):
        result = replace(training, directory=directory).run(tell)
    wrapped = given["--mean"] is not None or given["--std"] is not None
    told = _written(source, training, result, directory, watch, (named, share), wrapped)
    if as_json:
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        print(trained_text(told, str(directory)))
    more = {**given, "--skip-bad": skip_bad}
    advice = attack_text(told, str(directory), source.names["model"], more)
    finish(directory, told, no_report, as_json, advice)


def _aside(held_out: Any) -> dict[str, Any] | None:
    """The examples held out, to be attacked later; None if there are too many."""
    import torch

    if len(held_out) * held_out.head.inputs[0].numel() > _KEPT:
        return None
    problem = held_out.part(torch.arange(len(held_out)))
    parts = {"inputs": problem.inputs, "targets": problem.targets}
    return {name: value.cpu().contiguous() for name, value in parts.items()}


def _other_data(source: Source, named: str, skip_bad: bool) -> Any:
    """The examples of --held-out, for the same model and region."""
    from summiteer import data as files
    from summiteer.inputs import refuse_bad, refuse_outside
    from summiteer.population import population_of

    head = source.problem
    try:
        streamed = files.open_data(named)
        shape = tuple(head.inputs.shape[1:])
        box = source.settings.box
        found = files.examples(streamed, head.inputs.dtype, None, skip_bad, shape, box)
        refuse_bad(found.bad)
        if box is not None:
            refuse_outside(found.outside, box, (found.low, found.high))
        settings = replace(source.settings, objective=head.objective)
        device = str(head.inputs.device)
        return population_of(head.model, found, settings, None, device)
    except UserError as error:
        _, _, said = str(error).partition(": ")
        raise UserError(f"--held-out: {said or error}") from None


def _written(
    source: Source,
    training: Any,
    result: Any,
    directory: Path,
    watch: float,
    aside: tuple[str | None, float | None],
    wrapped: bool,
) -> Mapping[str, Any]:
    """result.json and weights.safetensors; the content of the first."""
    from safetensors.torch import save
    from torch import nn

    from summiteer._version import __version__
    from summiteer.cells import as_tensor
    from summiteer.disk import explained, replaced
    from summiteer.summary import objective_name, region_record

    recipe, (named, share) = training.recipe, aside
    told: dict[str, Any] = {
        "schema": 1,
        "command": "train",
        "version": __version__,
        "run": result.run,
        "seed": recipe.seed,
        "examples": len(training.examples),
        "held_out_examples": len(training.held_out or ()),
        "region": region_record(source.settings, source.problem),
        "objective": objective_name(training.examples.head.objective),
        "watch": watch,
        "epochs": [record.as_json() for record in result.records],
        "alarms": list(result.alarms),
        "messages": list(result.messages),
        "stopped": result.stopped,
        "seconds": round(sum(record.all_seconds for record in result.records), 3),
        "attack_data": named or source.names["data"],
        "files": ["run.json", "weights.safetensors"],
    }
    files: dict[str, bytes] = {}
    if share is not None and (kept := _aside(training.held_out)):
        files["held-out.safetensors"] = save(kept)
        told["attack_data"] = str(directory / "held-out.safetensors")
        told["files"] += files
    # Without the layer that --mean and --std put before it: what --weights takes.
    standardised = isinstance(result.model, nn.Sequential) and wrapped
    state = (result.model[1] if standardised else result.model).state_dict()
    copies = {name: as_tensor(value).clone() for name, value in state.items()}
    text = json.dumps(told, indent=2, allow_nan=False) + "\n"
    files |= {"weights.safetensors": save(copies), "result.json": text.encode()}
    for name, content in files.items():
        with explained(directory / name):
            replaced(directory / name, content)
    return told
