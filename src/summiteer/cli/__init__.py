"""The command line. Commands import what they need when they run, so --help is fast.

A command is a function in a file of its own and a line in `COMMANDS`.
"""

import sys
from typing import Annotated, NoReturn

import typer

from summiteer._version import __version__
from summiteer.cli.attack import attack
from summiteer.cli.audit import audit
from summiteer.cli.reproduce import reproduce
from summiteer.cli.running import EXIT_CODES, INTERRUPTED, USER_ERROR, InterruptionSaid
from summiteer.errors import UserError

COMMANDS = (attack, audit, reproduce)

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


def main() -> NoReturn:
    """Run the command line; a user's mistake is one sentence and exit code 1."""
    try:
        app()
    except InterruptionSaid:
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer makes an exit of Ctrl-C, without a word.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        print("interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(0)


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
