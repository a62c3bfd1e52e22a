"""Arrays with one row per example, in memory or in a file, read some rows at a time."""

import math
import weakref
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Self

import torch
from torch import Tensor

from summiteer.cells import ArrayDigest
from summiteer.errors import UserError

#: Numbers that are read at once where all rows are looked at.
_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Column(ABC):
    """An array of which some rows at a time are in memory.

    Attributes:
        shape: `[n, *row]`; of a lone number `[]`.
        dtype: of the rows that are read.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @abstractmethod
    def read(self, first: int, last: int) -> Tensor:
        """Return the rows first, …, last - 1 `[last - first, *row]`.

        Args:
            first: place of the first row.
            last: place after the last one.

        Raises:
            UserError: the file is not what its head claims, or was changed.
        """

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.shape[1:]

    @property
    def at_once(self) -> int:
        """How many rows are read at once where all are looked at."""
        return max(1, _AT_ONCE // max(1, math.prod(self.row)))

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """All rows from the first to the last: (place of the first, the rows)."""
        for first in range(0, len(self), self.at_once):
            yield first, self.read(first, min(first + self.at_once, len(self)))

    def digest(self, name: str) -> str:
        """Return `digest_arrays` of it alone under a name.

        Args:
            name: of the array.
        """
        state = ArrayDigest()
        state.begin(name, self.dtype, self.shape)
        for _, rows in self.blocks():
            state.add(rows)
        return state.name()

    def take(self, places: Tensor) -> Tensor:
        """Return the rows at places in ascending order.

        Args:
            places: `[rows]` int64.
        """
        if not len(places):
            return self.read(0, 0)
        breaks = (places.diff() != 1).nonzero().flatten() + 1
        runs = places.tensor_split(breaks)
        parts = [self.read(int(run[0]), int(run[-1]) + 1) for run in runs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def whole(self) -> Tensor:
        """Return all of it, in memory."""
        return self.read(0, len(self))

    def seen_as(self, dtype: torch.dtype, row: tuple[int, ...]) -> "Column":
        """Return these rows in another dtype and shape.

        Args:
            dtype: of the result.
            row: shape of one row, with as many numbers.
        """
        if dtype == self.dtype and row == self.row:
            return self
        return Seen((len(self), *row), dtype, self)

    def chosen(self, places: Tensor) -> "Column":
        """Return these rows alone, as the rows 0, 1, ….

        Args:
            places: `[rows]` in ascending order.
        """
        if len(places) == len(self):
            return self
        return Chosen((len(places), *self.row), self.dtype, self, places)


@dataclass(frozen=True, eq=False)
class Held(Column):
    """In memory."""

    tensor: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        """The column of a tensor."""
        return cls(tuple(tensor.shape), tensor.dtype, tensor)

    def read(self, first: int, last: int) -> Tensor:
        """See `Column.read`."""
        return self.tensor[first:last]

    def whole(self) -> Tensor:
        """The tensor."""
        return self.tensor


@dataclass(frozen=True, eq=False)
class Seen(Column):
    """Another column's rows in another dtype and shape."""

    column: Column

    def read(self, first: int, last: int) -> Tensor:
        """See `Column.read`."""
        rows = self.column.read(first, last)
        return rows.to(self.dtype).reshape(last - first, *self.row)


@dataclass(frozen=True, eq=False)
class Chosen(Column):
    """Some of another column's rows."""

    column: Column
    places: Tensor

    def read(self, first: int, last: int) -> Tensor:
        """See `Column.read`."""
        return self.column.take(self.places[first:last])


@dataclass(frozen=True, eq=False)
class Stretch:
    """Where in a file the rows are, and how they are read.

    Attributes:
        what: the argument that named the file.
        path: of the file.
        start: of the first row, in bytes of what `opened` gives.
        row_bytes: of one row.
        opened: opens the file, unpacked.
        state: of the file when its head was read, see `state_of`.
        decoded: bytes -> the numbers, flat.
        packed: whether its end is yet to be seen by reading on, as in a .gz file.
        check: (CRC-32 of what precedes the rows, that of all), or None.
    """

    what: str
    path: Path
    start: int
    row_bytes: int
    opened: Callable[[], IO[bytes]]
    state: tuple[int, int]
    decoded: Callable[[bytearray], Tensor]
    packed: bool = False
    check: tuple[int, int] | None = None


@dataclass
class _Sum:
    """The CRC-32 of what was read from the first row on without a gap."""

    place: int
    value: int


@dataclass(frozen=True, eq=False)
class Filed(Column):
    """In a file, from which rows are read when they are asked for.

    By seeking and reading, not through a map of the file in memory: pages of a map that
    were read count as the process's own until the system wants them back.
    """

    stretch: Stretch

    @cached_property
    def _file(self) -> IO[bytes]:
        file = self.stretch.opened()
        weakref.finalize(self, file.close)
        return file

    @cached_property
    def _sum(self) -> _Sum:
        return _Sum(0, self.stretch.check[0] if self.stretch.check else 0)

    def read(self, first: int, last: int) -> Tensor:
        """See `Column.read`."""
        size = self.stretch.row_bytes
        content = self._bytes(first * size, (last - first) * size, last == len(self))
        return self._decoded(content).reshape(last - first, *self.row)

    def whole(self) -> Tensor:
        """All of it; a lone number too."""
        size = self.stretch.row_bytes * (len(self) if self.shape else 1)
        return self._decoded(self._bytes(0, size, True)).reshape(self.shape)

    def _decoded(self, content: bytearray) -> Tensor:
        if not content:
            return torch.empty(0, dtype=self.dtype)
        return self.stretch.decoded(content)

    def _bytes(self, first: int, count: int, last: bool) -> bytearray:
        """`count` bytes from `first` on; `last` if they are the file's last rows."""
        stretch = self.stretch
        self._check_unchanged()
        content = bytearray(count)
        try:
            file = self._file
            file.seek(stretch.start + first)
            read = 0
            while read < count and (n := _read_into(file, memoryview(content)[read:])):
                read += n
            more = bool(last and stretch.packed and file.read(1))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(
                f"{stretch.what}: {stretch.path} cannot be read: {error}."
            ) from error
        if read < count:
            raise UserError(
                f"{stretch.what}: {stretch.path} is truncated; get the file again."
            )
        if more:
            raise UserError(
                f"{stretch.what}: {stretch.path} has more than its head claims; get "
                "the file again."
            )
        self._check_sum(first, content, last)
        return content

    def _check_unchanged(self) -> None:
        """The rows that were checked must be those that are used."""
        stretch = self.stretch
        if state_of(stretch.what, stretch.path) != stretch.state:
            raise UserError(
                f"{stretch.what}: {stretch.path} was changed while it was read; start "
                "again."
            )

    def _check_sum(self, first: int, content: bytearray, last: bool) -> None:
        """The archive's own CRC-32, where all rows were read one after the other."""
        stretch, known = self.stretch, self._sum
        if stretch.check is None or first != known.place:
            return
        known.value = zlib.crc32(content, known.value)
        known.place += len(content)
        if last and known.value != stretch.check[1]:
            raise UserError(
                f"{stretch.what}: {stretch.path} is not a readable "
                f"{stretch.path.suffix} file: Bad CRC-32."
            )


def _read_into(file: IO[bytes], place: memoryview) -> int:
    """Bytes read; some files have no `readinto`."""
    readinto = getattr(file, "readinto", None)
    if readinto is not None:
        return int(readinto(place) or 0)
    content = file.read(len(place))
    place[: len(content)] = content
    return len(content)


def state_of(what: str, path: Path) -> tuple[int, int]:
    """Return size and time of change of a file.

    Args:
        what: the argument that named it.
        path: of the file.

    Raises:
        UserError: it is not there any more.
    """
    try:
        now = path.stat()
    except OSError as error:
        raise UserError(f"{what}: {path} cannot be read: {error}.") from error
    return now.st_size, now.st_mtime_ns


def opened_plain(path: Path) -> IO[bytes]:
    """Open a file that is not packed.

    Args:
        path: of the file.
    """
    return path.open("rb")
