"""`summiteer audit`."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.execution import Place, execute
from summiteer.cli.explaining import check_explained
from summiteer.cli.job import Job
from summiteer.cli.options import check_seed, check_share
from summiteer.cli.requirements import enforce, requirement
from summiteer.cli.running import say
from summiteer.cli.source import Network, Source, check_source
from summiteer.cli.workers import Scheduler, Workers, check_workers


def audit(
    model: options.Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help=options.DATA_HELP)],
    adversarial: Annotated[
        str,
        typer.Argument(
            metavar="ADVERSARIAL",
            help="x.npz, x.npy, x.safetensors or x.pt with one adversarial input per "
            "example of DATA, in the same order; FILE:KEY if it has several tensors",
        ),
    ],
    radius: options.Radius = None,
    norm: options.Norm = None,
    box: options.Box = None,
    mask: options.Mask = None,
    objective: options.Objective = None,
    within: options.Within = 1e-3,
    tolerance: options.Tolerance = None,
    weights: options.Weights = None,
    mean: options.Mean = None,
    std: options.Std = None,
    limit: options.Limit = None,
    skip_bad: options.SkipBad = False,
    block_size: options.BlockSize = None,
    no_screen: options.NoScreen = False,
    device: options.Device = "cpu",
    workers: Workers = 1,
    scheduler: Scheduler = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
    require: options.Require = None,
    explain: options.Explain = None,
) -> None:
    """Examine ADVERSARIAL, made by any tool, and correct its robust accuracy."""
    check_share("--within", within)
    check_seed(seed)
    own = {"DATA": data, "--radius": radius, "--norm": norm, "--box": box}
    own |= {"--mask": mask, "--objective": objective, "--limit": limit}
    own |= {"--tolerance": tolerance}
    check_source(None, own)
    required = [requirement(text) for text in require or []]
    check_workers(workers, scheduler)
    from summiteer._audit import EFFORT
    from summiteer.report.audit_text import print_audit

    network = Network(model, weights, mean, std, device)
    job = Job(
        "audit",
        network,
        tuple(own.items()),
        EFFORT,
        seed,
        within,
        screened=not no_screen,
        skip_bad=skip_bad,
        adversarial=adversarial,
    )
    prepared = job.prepared()
    source, wanted = prepared.source, explain or ()
    check_explained(source, wanted)
    for note in source.notes:
        say(note, as_json)
    result = execute(
        job,
        prepared,
        Place(out, block_size, workers, scheduler, as_json, no_report),
        print_audit,
        lambda store, found: [f"\n{t}" for t in _told(store, source, found, wanted)],
    )
    enforce(required, result)


def _told(
    store: Any, source: Source, result: dict[str, Any], wanted: Sequence[int]
) -> list[str]:
    """What each of the wanted examples is, in a few lines."""
    if not wanted:
        return []
    from summiteer.auditing.words import told
    from summiteer.runs import Blocks, recorded_numbers

    ids = source.population.ids
    arrays = recorded_numbers(store, Blocks.of("audit", store, len(ids)))
    places = [int((ids == example).nonzero()) for example in wanted]
    return [told(arrays, result, place) for place in places]
