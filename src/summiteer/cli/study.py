"""`summiteer study run`, `status`, `export`, `experiments`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from summiteer.cli import options
from summiteer.cli.running import BELOW, EXIT_CODES, finish, progress, say
from summiteer.cli.workers import Scheduler, Workers, check_workers
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.studies.study import Study

study = typer.Typer(
    name="study",
    help="Measure an experiment over grids of parameters and seeds: run, status, "
    "export, experiments.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
)

Spec = Annotated[
    Path, typer.Argument(metavar="SPEC", help="study file, such as study.toml")
]


@study.command(epilog=EXIT_CODES)
def run(
    spec: Spec,
    out: Annotated[
        Path | None, typer.Option(help="directory of the run; runs/study-NAME")
    ] = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="run failed cells again")
    ] = False,
    fork: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="run in DIR instead, and take over what --out has of the same cells: "
            "for a study that was changed",
        ),
    ] = None,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
) -> None:
    """Measure what is missing of the study in SPEC; failed cells do not stop others."""
    check_workers(workers, scheduler)
    from summiteer.report.study_text import begun_text, failures_text
    from summiteer.store import Store
    from summiteer.studies.running import run_study
    from summiteer.studies.status import study_status
    from summiteer.studies.study import Study

    planned = Study.load(spec)
    directory = out or _usual(planned)
    target = fork or directory
    begun = False
    with progress("measuring", as_json) as report:

        def told(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                begun = True
                with Store.read(target) as store:
                    failed = len(store.failed())
                state = begun_text(total, done, failed, retry_failed)
                say(f"study {planned.name}: {state}; {target}", as_json)
            if report:
                report(done, total)

        result = run_study(
            planned,
            directory,
            workers,
            scheduler=scheduler,
            retry_failed=retry_failed,
            fork=fork,
            progress=told,
        )
    text = (target / "result.json").read_text()
    if as_json:
        print(text, end="")
    else:
        print(f"{len(result.records)} done, {len(result.failures)} failed")
    if result.failures:
        with Store.read(target) as store:
            failures = study_status(store)["failures"]
        print(failures_text(failures, target), file=sys.stderr)
    finish(target, json.loads(text), no_report, as_json)
    if result.failures:
        sys.exit(BELOW)


@study.command(epilog=EXIT_CODES)
def status(
    place: Annotated[
        Path,
        typer.Argument(metavar="SPEC|DIR", help="study file, or directory of its run"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="directory of the run of SPEC; runs/study-NAME"),
    ] = None,
    tracebacks: Annotated[
        bool, typer.Option("--tracebacks", help="show those of failed cells, too")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one document and nothing else")
    ] = False,
) -> None:
    """Say how far a study is, while it runs too, and what failed."""
    from summiteer.report.study_text import status_text
    from summiteer.store import Store
    from summiteer.studies.status import study_status
    from summiteer.studies.study import Study

    planned = None if place.is_dir() else Study.load(place)
    directory = place if planned is None else out or _usual(planned)
    if planned is not None and not (directory / "run.json").is_file():
        raise UserError(
            f"{place}: is not begun in {directory}; `summiteer study run {place}` "
            "begins it, --out names another directory."
        )
    with Store.read(directory) as store:
        found = study_status(store, planned)
    print(json.dumps(found, indent=2) if as_json else status_text(found, tracebacks))


@study.command(epilog=EXIT_CODES)
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="of the run")],
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="to write to; stdout if absent")
    ] = None,
) -> None:
    """Write the finished cells as CSV: a row each, parameters and measured values."""
    from summiteer.disk import explained, replaced
    from summiteer.store import Store
    from summiteer.studies.result import StudyResult, csv_text

    with Store.read(directory) as store:
        result = StudyResult.of(store)
    text = csv_text(result.table())
    if csv is None:
        sys.stdout.write(text)
    else:
        with explained(csv):
            replaced(csv, text.encode())
    left = result.cells - len(result.records)
    if left:
        print(
            f"{len(result.records)} of {result.cells} cells; {len(result.failures)} "
            f"failed and {left - len(result.failures)} missing ones are left out.",
            file=sys.stderr,
        )


@study.command(epilog=EXIT_CODES)
def experiments(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="or file.py:NAME")
    ] = None,
) -> None:
    """List the experiments, or the parameters of one, for study files."""
    from summiteer.report.study_text import experiments_text, parameters_text
    from summiteer.studies.experiments import EXPERIMENTS
    from summiteer.studies.named import experiment_named

    if name is None:
        print(experiments_text(EXPERIMENTS.values()))
    else:
        print(parameters_text(experiment_named(name)))


def _usual(planned: "Study") -> Path:
    """The directory of a study's run where --out names none."""
    return Path("runs") / f"study-{planned.name}"
