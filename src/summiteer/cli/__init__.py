"""The command line. Commands import what they need when they run, so --help is fast.

A command is a function in a file of its own and a line in `COMMANDS`.
"""

import sys
from typing import Annotated, NoReturn

import typer

from summiteer._version import __version__
from summiteer.cli.attack import attack
from summiteer.cli.audit import audit
from summiteer.cli.cite import cite
from summiteer.cli.landscape import landscape
from summiteer.cli.report import report
from summiteer.cli.reproduce import reproduce
from summiteer.cli.running import (
    EXIT_CODES,
    INTERRUPTED,
    USER_ERROR,
    InterruptionSaid,
    told_plainly,
)
from summiteer.cli.study import study
from summiteer.cli.train import train
from summiteer.errors import UserError
from summiteer.interruption import interrupted, watched

COMMANDS = (attack, audit, landscape, train, reproduce, report, cite)
#: Commands with commands of their own.
GROUPS = (study,)

app = typer.Typer(
    name="summiteer",
    help="Did your adversary reach the summit? Run first-order attacks and be told, "
    "per example, what the point they returned is.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in COMMANDS:
    app.command(epilog=EXIT_CODES)(_command)
for _group in GROUPS:
    app.add_typer(_group)


def main() -> NoReturn:
    """Run the command line; a user's mistake is one sentence and exit code 1."""
    try:
        with watched(), told_plainly():
            app()
    except InterruptionSaid:
        raise
    except (Exception, KeyboardInterrupt, SystemExit) as stop:
        # Typer makes an exit of Ctrl-C, without a word; others make an error of it.
        ended = isinstance(stop, SystemExit)
        silent = isinstance(stop, SystemExit) and stop.code == INTERRUPTED
        noted = interrupted() and not ended
        if isinstance(stop, KeyboardInterrupt) or silent or noted:
            print("interrupted.", file=sys.stderr)
            sys.exit(INTERRUPTED)
        _explain(stop)
    sys.exit(0)


def _explain(stop: BaseException) -> NoReturn:
    """End with one sentence for a user's mistake, and as it is otherwise."""
    if isinstance(stop, UserError):
        print(f"error: {stop}", file=sys.stderr)
        sys.exit(USER_ERROR)
    if isinstance(stop, OSError):
        place = f"{stop.filename}: " if stop.filename else ""
        print(f"error: {place}{stop.strerror or stop}", file=sys.stderr)
        sys.exit(USER_ERROR)
    raise stop


def _version(value: bool) -> None:
    if value:
        print(f"summiteer {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Did your adversary reach the summit?"""
