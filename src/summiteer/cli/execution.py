"""What an attack and an audit have in common once their job is prepared."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summiteer.cli.job import Job, Prepared, Remote
from summiteer.cli.running import finish, placed, progress, resumption, say
from summiteer.cli.workers import engine_for

if TYPE_CHECKING:
    from summiteer.engine import Engine


@dataclass(frozen=True)
class Place:
    """Where a run is done and kept, and how it is told.

    Attributes:
        out: --out.
        block_size: --block-size.
        workers: --workers.
        scheduler: --scheduler.
        as_json: --json.
        no_report: --no-report.
    """

    out: Path | None
    block_size: int | None
    workers: int
    scheduler: str | None
    as_json: bool
    no_report: bool


def execute(
    job: Job,
    prepared: Prepared,
    place: Place,
    show: Callable[[dict[str, Any], str], None],
    tell: Callable[[Any, dict[str, Any]], Sequence[str]],
) -> dict[str, Any]:
    """Do what is missing of a run, print what was found, return result.json.

    Args:
        job: what the user named.
        prepared: the same, found.
        place: where.
        show: prints (result, directory).
        tell: (store, result) -> more texts to be printed.
    """
    from summiteer import runs
    from summiteer.examination import block_size_of
    from summiteer.store import Store

    source, quiet = prepared.source, place.as_json
    population, settings = source.population, source.settings
    directory, spec = placed(
        prepared.spec,
        place.block_size,
        place.out,
        lambda: block_size_of(population.head, settings, None, place.workers),
    )
    with (
        Store.open(directory, spec) as store,
        resumption(store, quiet),
        progress(f"{job.command}ing", quiet) as report,
        _engine(job, prepared, place, store) as (engine, function),
    ):
        result = runs.run_command(
            prepared.command,
            population,
            settings,
            store,
            report,
            source.messages,
            engine,
            function,
        )
        if source.judge:
            result = source.judge(result, store)
        told = tell(store, result)
    if quiet:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        show(result, str(directory))
    for text in told:
        say(text, quiet)
    finish(directory, result, place.no_report, quiet)
    return result


@contextmanager
def _engine(
    job: Job, prepared: Prepared, place: Place, store: Any
) -> Iterator[tuple["Engine | None", Any]]:
    """The engine and the function for its workers, where there is work for any."""
    from summiteer.runs import Blocks

    blocks = Blocks.of(job.command, store, len(prepared.source.population))
    missing = len(blocks) - len(store.names())
    alone = place.workers == 1 and place.scheduler is None
    if alone or missing < 1:
        yield None, None
        return
    if missing < place.workers:
        say(
            f"{missing} blocks for {place.workers} workers: --block-size N, less than "
            f"{blocks.size}, gives each of them some",
            place.as_json,
        )
    remote = Remote(job, str(Path.cwd()), store.run, blocks.size)
    with engine_for(place.workers, place.scheduler, job.network.device) as engine:
        yield engine, remote
