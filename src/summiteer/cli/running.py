"""What every command does while it runs: notes, progress, interruption, exit codes."""

import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from summiteer.errors import SummiteerWarning, UserError
from summiteer.interruption import check, interrupted

#: Commands whose specification leaves out how far they go: the latest tells that.
_GOING_FURTHER = ("train", "study")
#: Exit codes (architecture.md): 0 done, 1 user error, 2 usage, 3 below --require, or
#: failed cells.
USER_ERROR, BELOW, INTERRUPTED = 1, 3, 130
EXIT_CODES = (
    f"Exit codes: 0 done, {USER_ERROR} an argument or file that cannot be used, 2 a "
    f"command line that cannot be read, {BELOW} below --require, or cells of a study "
    f"failed, {INTERRUPTED} interrupted."
)


class InterruptionSaid(SystemExit):
    """The end after Ctrl-C, of which the reader has been told."""


def say(text: str, quiet: bool) -> None:
    """A note for the reader; with --json, stdout is the document's alone."""
    print(text, file=sys.stderr if quiet else sys.stdout)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Our own warnings are notes for the reader, without the line of code they name."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], *place: Any, **more: Any
        ) -> None:
            if issubclass(category, SummiteerWarning):
                print(f"! {message}", file=sys.stderr)
            else:
                before(message, category, *place, **more)

        warnings.showwarning = show
        yield


def placed(
    spec: Mapping[str, Any],
    block_size: int | None,
    out: Path | None,
    fitted: Callable[[], int],
) -> tuple[Path, dict[str, Any]]:
    """The directory of a run, and its specification with the block size.

    The size that memory decided when the run was begun is part of it, and stays: the
    same command finds its directory without it, and takes it from run.json.

    Args:
        spec: all but the block size.
        block_size: the user's, or None.
        out: --out.
        fitted: chooses a size where there is none.
    """
    from summiteer.cells import as_json, digest
    from summiteer.store import begun_spec

    named = dict(spec) if block_size is None else {**spec, "block_size": block_size}
    directory = out or Path("runs") / f"{spec['command']}-{digest(named)}"
    if block_size is None:
        there = begun_spec(directory)
        size = there.pop("block_size", None)
        named["block_size"] = fitted() if there != as_json(spec) else size
    return directory, named


def note_command(directory: Path, anew: bool = False) -> None:
    """Write the command line beside a run, unless a former one is noted there.

    It is for readers: unlike the specification it has the names of files as they were
    given, and what changes no number.

    Args:
        directory: of the run.
        anew: whether in place of a former one, too.
    """
    from summiteer.disk import explained, replaced

    place = directory / "command.json"
    if place.exists() and not anew:
        return
    words = shlex.join(["summiteer", *sys.argv[1:]])
    with explained(place):
        replaced(place, (json.dumps({"command": words}) + "\n").encode())


def finish(
    directory: Path,
    result: Mapping[str, Any],
    no_report: bool,
    quiet: bool,
    advice: str = "",
) -> None:
    """Write the page of a finished run; say at last where it is and what to do next.

    Args:
        directory: of the run.
        result: content of result.json.
        no_report: --no-report.
        quiet: --json.
        advice: what to do next; by what was found if it is "".
    """
    from summiteer.report.closing_text import closing_text
    from summiteer.report.pages import DOCUMENTS

    wanted = result["command"] in DOCUMENTS and not no_report
    page = _page(directory, wanted, result["command"] in _GOING_FURTHER)
    say(closing_text(result, str(directory), page, advice), quiet)


def _page(directory: Path, wanted: bool, anew: bool) -> Path | None:
    """The page, written if it is wanted; None, and a warning, if that fails."""
    from summiteer.report.pages import write_page

    try:
        note_command(directory, anew)  # if not when it began
        return write_page(directory) if wanted else None
    except Exception as error:
        # Whatever it is: the run has come to its end, and its result stands.
        # Not its repr, which may hold the whole page.
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        print(
            f"! report: the result stands, its page does not: {name}{error}",
            file=sys.stderr,
        )
        return None


@contextmanager
def progress(
    verb: str, quiet: bool, kept: bool = True
) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing in a pipe.

    Args:
        verb: what goes on.
        quiet: no bar.
        kept: whether what is done is kept where it is interrupted.
    """
    with _interruptible(kept):
        if quiet or not sys.stdout.isatty():
            yield None
        else:
            with _bars(verb) as update:
                yield update


@contextmanager
def resumption(store: Any, quiet: bool) -> Iterator[None]:
    """Note the command, or say that this is a run that was begun before."""
    note_command(store.directory)
    done = len(store.names())
    if done:
        parts = "1 part is" if done == 1 else f"{done} parts are"
        say(f"taking up the run in {store.directory}: {parts} done already", quiet)
    yield


@contextmanager
def _interruptible(kept: bool) -> Iterator[None]:
    """Say what Ctrl-C leaves behind."""
    try:
        yield
        check()
    except (Exception, KeyboardInterrupt) as error:
        if not (isinstance(error, KeyboardInterrupt) or interrupted()):
            raise
        left = (
            "what is finished is kept; the same command goes on from it."
            if kept
            else "nothing is kept."
        )
        print(f"interrupted: {left}", file=sys.stderr)
        raise InterruptionSaid(INTERRUPTED) from None


@contextmanager
def _bars(verb: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bars:
        task = bars.add_task(verb, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
