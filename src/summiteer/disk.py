"""Files on a disk that may be full, or taken away: written as a whole or not at all."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from summiteer.errors import UserError

_SPACE = "free some space and start again"
_COPY = "put it back from a copy, or delete the directory"
_RIGHTS = (
    "let no other program use it and this user write there, or choose another --out"
)
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_CORRUPT: _COPY,
    sqlite3.SQLITE_NOTADB: _COPY,
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into one sentence with a remedy.

    Args:
        path: of the file.
    """
    try:
        yield
    except OSError as error:
        where, what = error.filename or path, error.strerror
        remedy = _SPACE if error.errno in {errno.ENOSPC, errno.EDQUOT} else _RIGHTS
        raise UserError(f"{where} cannot be used: {what}; {remedy}.") from error
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        remedy = _SQLITE_REMEDIES.get(code, _RIGHTS)
        raise UserError(f"{path} cannot be used: {error}; {remedy}.") from error


def replaced(path: Path, content: bytes) -> None:
    """Write a file so that its name stands for the whole new content or the old.

    Args:
        path: of the file.
        content: all of it.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
