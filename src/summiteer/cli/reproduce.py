"""`summiteer reproduce`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from summiteer.cli import options
from summiteer.cli.options import check_seed
from summiteer.cli.running import BELOW, finish, progress, resumption, say
from summiteer.cli.workers import Scheduler, Workers, engine_for
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.studies.claims.claim import Claim, Extent


def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="small studies on digits, two minutes")
    ] = False,
    full_mnist: Annotated[
        bool, typer.Option("--full-mnist", help="all of MNIST's test images")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="folder that holds MNIST's idx files in mnist/")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="a claim, such as C3; repeatable")
    ] = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="run cells again that failed")
    ] = False,
    out: Annotated[Path, typer.Option(help="directory of the run")] = Path("out"),
    seed: Annotated[int, typer.Option(help="first of the seeds")] = 0,
    as_json: options.AsJson = False,
    no_report: options.NoReport = False,
) -> None:
    """Measure the paper's claims C1 to C7 and judge each by a rule fixed beforehand."""
    check_seed(seed)
    extent = _extent(quick, full_mnist)
    from summiteer.report.claims_text import print_claims
    from summiteer.store import Store
    from summiteer.studies import reproduction

    claims = _chosen(only or [])
    _look_for_data(data, extent, as_json)
    spec = reproduction.specification(claims, extent, seed)
    _refuse_another(out, spec)
    with (
        engine_for(workers, scheduler) as engine,
        Store.open(out, spec) as store,
        resumption(store, as_json),
        progress("measuring", as_json) as report,
    ):
        found = reproduction.reproduce(
            store, claims, extent, seed, engine, report, retry_failed
        )
        result = reproduction.result(found, store)
        store.write_json("result.json", result)
        store.write_json("seconds.json", found.seconds)
    if as_json:
        print((out / "result.json").read_text())
    else:
        print_claims(result, str(out))
        print(f"{sum(found.seconds.values()):.0f} s of computing")
    finish(out, result, no_report, as_json)
    if result["cells"]["failed"]:
        sys.exit(BELOW)


def _extent(quick: bool, full_mnist: bool) -> "Extent":
    if quick and full_mnist:
        raise UserError("--quick, --full-mnist: give one of the two.")
    return "quick" if quick else "full-mnist" if full_mnist else "full"


def _chosen(only: list[str]) -> "list[Claim]":
    """The claims asked for, in their order."""
    from summiteer.studies.claims import CLAIMS

    known = [claim.key for claim in CLAIMS]
    wanted = {name.upper() for name in only}
    wrong = sorted(wanted - set(known))
    if wrong:
        raise UserError(
            f"--only: expected one of {', '.join(known)}, got {', '.join(wrong)}."
        )
    return [claim for claim in CLAIMS if claim.key in wanted or not wanted]


def _look_for_data(folder: Path | None, extent: "Extent", quiet: bool) -> None:
    """Where studies and workers find MNIST, and a word if it is nowhere."""
    from summiteer.studies.inputs import VARIABLE, mnist_folder

    if folder is not None:
        inside = folder if (folder / "mnist").is_dir() else folder.parent
        if not (inside / "mnist").is_dir():
            raise UserError(f"--data: {folder} holds no folder mnist of idx files.")
        os.environ[VARIABLE] = str(inside.resolve())
    there = mnist_folder()
    if extent == "full-mnist" and not there.is_dir():
        raise UserError(f"--full-mnist: {there} is not there; say where by --data.")
    if extent == "full" and not there.is_dir():
        say("MNIST is not there (--data says where): digits only", quiet)


def _refuse_another(out: Path, spec: Mapping[str, Any]) -> None:
    """Say what a directory holds that holds the run of other options."""
    from summiteer.store import begun_spec
    from summiteer.studies.reproduction import reproduce_command

    held = begun_spec(out)
    if held.get("command") != "reproduce" or not {*spec} <= {*held}:
        return
    there, here = map(reproduce_command, (held, spec))
    if there != here:
        raise UserError(
            f"--out {out} holds the run of `{there}`; this one, `{here}`, is another, "
            "for --only, --seed and how much is measured are part of a run; choose "
            "another --out."
        )
