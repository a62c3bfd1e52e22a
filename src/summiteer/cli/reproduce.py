"""`summiteer reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from summiteer.cli import options
from summiteer.cli.options import check_seed
from summiteer.cli.running import progress, resumption
from summiteer.errors import UserError


def reproduce(
    quick: Annotated[
        bool, typer.Option("--quick", help="digits only, under two minutes")
    ] = False,
    out: Annotated[Path, typer.Option(help="directory of the run")] = Path("out"),
    seed: Annotated[int, typer.Option(help="first of the seeds")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure what the input scale does to the landscape (paper, claims C1, C3, C4)."""
    check_seed(seed)
    if not quick:
        raise UserError(
            "reproduce: only --quick exists so far (claims C1, C3 and C4 on digits)."
        )
    from summiteer.report.page import scale_page
    from summiteer.report.terminal import print_scale
    from summiteer.store import Store
    from summiteer.studies import scale

    spec = scale.specification(seed)
    with (
        Store.open(out, spec) as store,
        resumption(store, as_json),
        progress("measuring", as_json) as report,
    ):
        summary = scale.run(store, report)
        store.write_json("result.json", scale.result(summary, store.run))
        store.write_text("report.html", scale_page(summary, store.run))
    if as_json:
        print((out / "result.json").read_text())
    else:
        print_scale(summary, str(out))
