"""One run in one directory: records in SQLite, arrays in safetensors.

A cell's arrays are on the disk before its record is committed, and a record counts only
while its arrays file has the recorded SHA-256. So a process may be killed at any
instant: a cell is there as a whole or not at all.
"""

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import numpy as np
import safetensors.torch
from torch import Tensor

from summiteer._version import __version__
from summiteer.cells import JSON, Cell, as_json, as_tensor, canonical_json, digest
from summiteer.disk import explained, replaced
from summiteer.environment import environment
from summiteer.errors import SummiteerWarning, UserError

#: Of `run.json` and of the table below; to be raised when either changes.
SCHEMA = 1

_TABLE = f"""
BEGIN;
CREATE TABLE cells (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'failed')), record TEXT NOT NULL,
    arrays TEXT UNIQUE, sha256 TEXT, created TEXT NOT NULL, environment TEXT NOT NULL
);
PRAGMA user_version = {SCHEMA};
COMMIT;
"""

#: What a run that was killed before it had a run.json may have left in its directory.
_BEGINNINGS = {"run.lock", ".run.json.partial"}
_OUR_ARRAYS = re.compile(r"\d{5,}\.safetensors|\.\d{5,}\.safetensors\.partial")


class _Damaged(UserError):
    """An arrays file is missing, truncated or altered."""


@dataclass(frozen=True)
class Record:
    """What the store knows of one cell.

    Attributes:
        name: The cell's name; `kind` and `spec` are the cell's too.
        status: "done", or "failed" (then `values` is `{"error": text}`).
        values: The record that `put` was given.
        arrays: The name of the file in `arrays/`, or None; `sha256` belongs to it.
        created: When it was recorded, UTC, ISO 8601.
        environment: Of the process that ran it, see `environment.environment`; and the
            seconds that it took.
    """

    name: str
    kind: str
    spec: Mapping[str, JSON]
    status: Literal["done", "failed"]
    values: Mapping[str, JSON]
    arrays: str | None
    sha256: str | None
    created: str
    environment: Mapping[str, JSON]


class Store:
    """A directory that holds one run; made by `Store.open` or `Store.read`.

    Every method raises `UserError` when the disk is full, a file may not be accessed or
    is damaged; then nothing half-written is left. Methods that write raise `ValueError`
    when the store is closed or was opened by `Store.read`.

    Attributes:
        directory: Where it is.
        run: The run's id, the digest of its specification.
        spec: The run's specification.
    """

    def __init__(
        self,
        directory: Path,
        header: Mapping[str, Any],
        connection: sqlite3.Connection,
        lock: int | None,
    ) -> None:
        self.directory = directory
        self.run: str = header["run"]
        self.spec: Mapping[str, JSON] = header["spec"]
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, directory: str | Path, spec: Mapping[str, object]) -> Self:
        """Create a run's directory, or take up the run that was interrupted in it.

        Cells whose arrays file is missing or altered are forgotten, with a
        `SummiteerWarning` that names the file; leftovers of killed processes are
        removed. Until `close`, no other process can open the directory for writing.

        Args:
            directory: Made if it does not exist. It must be empty or hold this run.
            spec: All that determines the run's result; its digest is the run's id.

        Returns:
            The store, to be used in a `with` statement.

        Raises:
            UserError: The directory holds another run or other files, is in use, is not
                writable, was written by a newer version, or is damaged.
        """
        directory = Path(directory)
        run = digest(spec)
        environment()  # asks git: now, while no child could keep the lock
        with explained(directory), ExitStack() as undo:
            if directory.exists() and not directory.is_dir():
                raise UserError(f"--out {directory} is a file; name a directory.")
            directory.mkdir(parents=True, exist_ok=True)
            _header(directory, run)
            lock = os.open(directory / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
            undo.callback(os.close, lock)
            _take(lock, directory)
            # Once more: another process may have come between the look and the lock.
            header = _header(directory, run)
            if header is None:
                header = {"schema": SCHEMA, "run": run, "spec": as_json(spec)}
                header |= {"version": __version__, "created": _now()}
                replaced(directory / "run.json", _indented(header).encode())
            (directory / "arrays").mkdir(exist_ok=True)
            connection = _connected(directory, "rwc")
            undo.callback(connection.close)
            store = cls(directory, header, connection, lock)
            store._forget_damaged()
            store._remove_leftovers()
            undo.pop_all()
        return store

    @classmethod
    def read(cls, directory: str | Path) -> Self:
        """Look into a run, finished or going on, without changing its content.

        Args:
            directory: The run's directory.

        Returns:
            A store that refuses to be written to.

        Raises:
            UserError: There is no run, a newer version wrote it, or it is damaged.
        """
        directory = Path(directory)
        with explained(directory):
            header = _header(directory, None) if directory.is_dir() else None
            if header is None:
                raise UserError(
                    f"{directory} is not a run of Summiteer: it has no run.json; "
                    "name a directory that was given as --out."
                )
            return cls(directory, header, _connected(directory, "ro"), None)

    def close(self) -> None:
        """Close the files and free the directory for others."""
        with suppress(sqlite3.Error):
            # Then it can be read from read-only media too; a present reader forbids it.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def finished(self) -> dict[str, Record]:
        """Give the finished cells' records, by name and in the order of the names."""
        return self._select("status = 'done'")

    def names(self) -> set[str]:
        """Give the names of the finished cells."""
        query = "SELECT name FROM cells WHERE status = 'done'"
        with explained(self.directory / "store.sqlite"):
            return {row["name"] for row in self._connection.execute(query)}

    def failed(self) -> dict[str, Record]:
        """Give the failed cells' records, by name and in the order of the names."""
        return self._select("status = 'failed'")

    def record(self, name: str) -> Record:
        """Give the record of the cell of this name; KeyError if there is none."""
        return self._select("name = ?", name)[name]

    def arrays(self, name: str) -> dict[str, Tensor]:
        """Load a cell's arrays after checking them against their SHA-256.

        Args:
            name: The cell's name; KeyError if it has no record.

        Returns:
            Tensors by name; none if the cell was put without arrays.
        """
        content = self._content(self.record(name))
        return safetensors.torch.load(content) if content else {}

    def metadata(self, name: str) -> dict[str, str]:
        """Load the strings that were put beside a cell's arrays, checked likewise."""
        content = self._content(self.record(name))
        if not content:
            return {}
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return dict(json.loads(header.get("__metadata__", {}).get("metadata", "{}")))

    def put(
        self,
        cell: Cell,
        index: int,
        record: Mapping[str, object],
        arrays: Mapping[str, np.ndarray | Tensor] | None = None,
        metadata: Mapping[str, str] | None = None,
        environment: Mapping[str, object] | None = None,
    ) -> None:
        """Record a finished cell; a failed one may be put, a finished one not again.

        Args:
            cell: The cell.
            index: Numbers the arrays file, `arrays/00000.safetensors`; each cell of a
                run has its own.
            record: The result, without arrays: see `cells.as_json`.
            arrays: Arrays or tensors by name.
            metadata: Strings to be kept in the arrays file.
            environment: Where it was computed; this process if None.

        Raises:
            ValueError: The cell, or another one with this index, is finished.
        """
        file = None if arrays is None else f"{index:05d}.safetensors"
        self._refuse(cell, file)
        values = canonical_json(record)
        if arrays is None or file is None:
            self._insert(cell, "done", values, environment)
            return
        content = _encoded(arrays, metadata)
        path = self.directory / "arrays" / file
        try:
            with explained(path):
                replaced(path, content)
            sha256 = hashlib.sha256(content).hexdigest()
            self._insert(cell, "done", values, environment, file, sha256)
        except Exception:
            with suppress(OSError):
                path.unlink()
            raise

    def fail(
        self,
        cell: Cell,
        error_text: str,
        trace: str = "",
        environment: Mapping[str, object] | None = None,
    ) -> None:
        """Record why a cell failed; it may be put, or fail, again.

        Args:
            cell: The cell.
            error_text: What was the matter, in a line.
            trace: The traceback, if there is one.
            environment: Where it failed; this process if None.

        Raises:
            ValueError: The cell is finished.
        """
        self._refuse(cell, None)
        values = {"error": error_text} | ({"trace": trace} if trace else {})
        self._insert(cell, "failed", canonical_json(values), environment)

    def write_text(self, name: str, text: str) -> None:
        """Write a file in the directory as a whole, or not at all, as UTF-8."""
        self._refuse(None, None)
        with explained(self.directory / name):
            replaced(self.directory / name, text.encode())

    def write_json(self, name: str, value: object) -> None:
        """Write a value (see `cells.as_json`) like `write_text`, keys as they come."""
        self.write_text(name, _indented(value))

    def _refuse(self, cell: Cell | None, file: str | None) -> None:
        """Refuse to write into a store that is not open, or over finished work."""
        if self._lock is None:
            raise ValueError("this store is closed, or was opened by Store.read")
        if cell is None:
            return
        done = "status = 'done' AND (name = ? OR arrays = ?)"
        for name, other in self._select(done, cell.name, file).items():
            text = "it" if name == cell.name else f"{other.arrays}, of cell {name},"
            raise ValueError(f"cell {cell.name} is refused: {text} is finished")

    def _select(self, condition: str, *values: str | None) -> dict[str, Record]:
        query = f"SELECT * FROM cells WHERE {condition} ORDER BY name"
        with explained(self.directory / "store.sqlite"):
            rows = self._connection.execute(query, values).fetchall()
        return {row["name"]: _record(row) for row in rows}

    def _insert(
        self,
        cell: Cell,
        status: str,
        values: str,
        where: Mapping[str, object] | None,
        file: str | None = None,
        sha256: str | None = None,
    ) -> None:
        subject = (cell.name, cell.kind, canonical_json(cell.spec))
        described = canonical_json(environment() if where is None else where)
        row = (*subject, status, values, file, sha256, _now(), described)
        marks = ", ".join("?" * len(row))
        with explained(self.directory / "store.sqlite"), self._connection:
            self._connection.execute(f"REPLACE INTO cells VALUES ({marks})", row)

    def _content(self, record: Record) -> bytes:
        """The bytes of a cell's arrays file, checked; none if it has no such file."""
        if record.arrays is None:
            return b""
        path = self.directory / "arrays" / record.arrays
        with explained(path):
            content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise _Damaged(
                f"{path} is missing or not as it was written, so its cell counts as "
                "not finished; the same command, given again, computes it anew."
            )
        return content

    def _forget_damaged(self) -> None:
        for name in sorted(self.names()):
            record = self.record(name)
            try:
                self._content(record)
            except _Damaged as error:
                delete = "DELETE FROM cells WHERE name = ?"
                with self._connection:
                    self._connection.execute(delete, (record.name,))
                warnings.warn(str(error), SummiteerWarning, stacklevel=3)

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left: half-written files, unrecorded arrays."""
        query = "SELECT arrays FROM cells WHERE status = 'done'"
        recorded = {row["arrays"] for row in self._connection.execute(query)}
        for path in (self.directory / "arrays").iterdir():
            if _OUR_ARRAYS.fullmatch(path.name) and path.name not in recorded:
                path.unlink()
        for path in self.directory.glob(".*.partial"):
            path.unlink()


def begun_spec(directory: Path) -> dict[str, Any]:
    """The specification of the run in a directory; empty where none can be read.

    Whoever opens the store then says what is the matter with it.

    Args:
        directory: Of a run, perhaps.
    """
    try:
        return dict(json.loads((directory / "run.json").read_bytes())["spec"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _header(directory: Path, run: str | None) -> dict[str, Any] | None:
    """Read run.json, None if there is none; refuse what run `run` may not write to."""
    path = directory / "run.json"
    names = set(os.listdir(directory))
    if path.name not in names:
        if run is None or names <= _BEGINNINGS:
            return None
        raise UserError(
            f"--out {directory} holds files but no run.json, so it is not a run of "
            "Summiteer and is left alone; choose another --out, or empty it."
        )
    try:
        header: dict[str, Any] = json.loads(path.read_bytes())
        found, version, spec = header["run"], header["version"], dict(header["spec"])
        newer = header["schema"] > SCHEMA
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not readable as the head of a run ({error!r}); "
            "choose another --out, or delete the directory."
        ) from error
    if newer:
        raise _newer(path, header["schema"], f" by summiteer {version}")
    if run not in {None, found}:
        raise UserError(
            f"--out {directory} belongs to another run (id {found}, command "
            f"{spec.get('command', 'unknown')}) than this one (id {run}); "
            "choose another --out, or delete it."
        )
    return header


def _newer(path: Path, schema: int, by: str = "") -> UserError:
    return UserError(
        f"{path} was written in schema {schema}{by}, but summiteer {__version__} "
        f"knows schema {SCHEMA}; upgrade it, or choose another --out."
    )


def _take(lock: int, directory: Path) -> None:
    """Take the directory for this process; the lock ends with it, however it ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 1000, 0).decode() or "another process"
        text = f"{holder}; wait until that ends, or choose another --out."
        raise UserError(f"--out {directory} is in use by {text}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)


def _connected(directory: Path, mode: Literal["ro", "rwc"]) -> sqlite3.Connection:
    """Open the records; for writing, make the table where there is none."""
    path = directory / "store.sqlite"
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    with explained(path), ExitStack() as undo:
        connection = sqlite3.connect(address, uri=True)
        undo.callback(connection.close)
        connection.row_factory = sqlite3.Row
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise _newer(path, schema)
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its pages do not fit together")
        if schema == 0 and any(directory.glob("arrays/[0-9]*.safetensors")):
            raise UserError(
                f"{path} is missing or empty, though arrays/ holds finished work; "
                "put it back from a copy, or delete the directory to begin anew."
            )
        if mode == "rwc":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if schema == 0:
                connection.executescript(_TABLE)
        elif schema == 0:
            raise UserError(f"{directory} holds no records yet; run its command again.")
        undo.pop_all()
    return connection


def _record(row: sqlite3.Row) -> Record:
    decoded = {key: json.loads(row[key]) for key in ("spec", "record", "environment")}
    fields: dict[str, Any] = dict(row) | decoded
    return Record(values=fields.pop("record"), **fields)


def _encoded(
    arrays: Mapping[str, np.ndarray | Tensor], metadata: Mapping[str, str] | None
) -> bytes:
    # Clones, for safetensors refuses tensors that share memory.
    tensors = {name: as_tensor(array).clone() for name, array in arrays.items()}
    # One key: safetensors writes several in an order that changes between processes.
    note = {"metadata": canonical_json(metadata)} if metadata else None
    return bytes(safetensors.torch.save(tensors, note))


def _indented(value: object) -> str:
    return json.dumps(as_json(value), indent=2) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
