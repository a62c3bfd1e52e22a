"""`summiteer audit`."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.explaining import check_explained
from summiteer.cli.options import check_seed, check_share
from summiteer.cli.running import (
    enforce,
    placed,
    progress,
    requirements,
    resumption,
    say,
)
from summiteer.cli.source import Network, Source, check_source, from_data


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
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.AsJson = False,
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
    required = requirements(require)
    from summiteer import runs
    from summiteer._audit import EFFORT
    from summiteer.auditing.given import looked_at
    from summiteer.examination import block_size_of
    from summiteer.report.audit_text import print_audit
    from summiteer.settings import Settings
    from summiteer.store import Store

    def settings_of(**parts: Any) -> Settings:
        fixed: dict[str, Any] = {"effort": EFFORT, "screened": not no_screen}
        fixed |= {"seed": seed, "within": within, "right_within": tolerance}
        return Settings(**fixed | parts)

    network = Network(model, weights, mean, std, device)
    source = from_data(network, own, skip_bad, settings_of)
    check_explained(source, explain or ())
    population, settings = source.population, source.settings
    rows = _rows_of(adversarial, source)
    look = looked_at(
        source.problem, population.part, rows, population.span, population.ids
    )
    for note in source.notes:
        say(note, as_json)
    names = source.names | {
        "adversarial": adversarial,
        "adversarial_digest": rows.digest("adversarial"),
    }
    directory, spec = placed(
        runs.specification("audit", population, settings, names),
        block_size,
        out,
        lambda: block_size_of(source.problem, settings, None),
    )
    with (
        Store.open(directory, spec) as store,
        resumption(store, as_json),
        progress("auditing", as_json) as report,
    ):
        command = runs.audit_command(population, settings, look.given)
        result = runs.run_command(
            command, population, settings, store, report, source.messages
        )
        told = _told(store, source, result, explain or ())
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print_audit(result, str(directory))
    for text in told:
        say(f"\n{text}", as_json)
    enforce(required, result)


def _rows_of(adversarial: str, source: Source) -> Any:
    """The rows of ADVERSARIAL that belong to the chosen examples."""
    from summiteer import data as files

    return files.aligned(
        files.open_adversarial(adversarial),
        source.population.ids,
        source.total,
        source.problem.inputs.shape[1:],
    )


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
