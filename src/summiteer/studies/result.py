"""What a study found: records, failures, and all of it as one flat table."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from summiteer.cells import JSON, as_json, canonical_json
from summiteer.errors import UserError
from summiteer.store import Record, Store

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class StudyResult:
    """What is recorded of a study's cells.

    Attributes:
        name: of the study.
        directory: of its store.
        cells: how many the study has.
        records: of the finished ones, in the study's order; `spec` holds a cell's
            parameters, `values` what was measured.
        failures: of those that failed, likewise; `values["error"]` says why.
        varied: the parameters that are not the same in all cells.
    """

    name: str
    directory: Path
    cells: int
    records: Sequence[Record]
    failures: Sequence[Record]
    varied: Sequence[str] = ()

    @classmethod
    def of(cls, store: Store) -> Self:
        """What a store has of its study.

        Args:
            store: open, of a study.

        Raises:
            UserError: it is of something else.
        """
        if store.spec["command"] != "study":
            raise UserError(
                f"{store.directory} holds the run of `summiteer "
                f"{store.spec['command']}`; expected one of `summiteer study run`."
            )
        study: Any = store.spec["study"]
        place = _Places(study["axes"])
        done, failed = store.finished().values(), store.failed().values()
        return cls(
            str(store.spec["name"]),
            store.directory,
            study["cells"],
            sorted(done, key=place),
            sorted(failed, key=place),
            place.varied,
        )

    def __repr__(self) -> str:
        missing = self.cells - len(self.records) - len(self.failures)
        return (
            f"StudyResult({self.name!r}: {len(self.records)} of {self.cells} cells "
            f"done, {len(self.failures)} failed, {missing} missing; {self.directory})"
        )

    def arrays(self, record: Record) -> dict[str, Tensor]:
        """Load the arrays of a finished cell, checked against their SHA-256.

        Args:
            record: one of `records`.
        """
        with Store.read(self.directory) as store:
            return store.arrays(record.name)

    def table(self) -> list[dict[str, Any]]:
        """One flat row per finished cell, in the study's order.

        Returns:
            `cell` (its name), every parameter, those that vary first, every value that
            was measured; what lies in a table of the record is called `outer.inner`,
            and a value with the name of a parameter `record.NAME`.
        """
        return table(self.records, self.varied)

    def to_pandas(self) -> "pandas.DataFrame":
        """`table` as a data frame.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise UserError(
                "to_pandas: expected pandas, which is not installed; "
                "pip install 'summiteer[pandas]', or use table()."
            ) from None
        return pandas.DataFrame(self.table())

    def summary(self) -> dict[str, Any]:
        """The content of result.json: nothing in it depends on when or where it ran.

        Returns:
            Counts of cells, every failure with its parameters, every row of `table`.
        """
        return {
            "cells": {
                "planned": self.cells,
                "done": len(self.records),
                "failed": len(self.failures),
            },
            "failures": [
                {
                    "cell": record.name,
                    "parameters": as_json(record.spec),
                    "error": record.values["error"],
                }
                for record in self.failures
            ],
            "table": [as_json(row) for row in self.table()],
        }


def table(
    records: Iterable[Record], varied: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """See `StudyResult.table`.

    Args:
        records: of finished cells.
        varied: parameters to be put first.
    """
    rows = []
    for record in records:
        first = {name: record.spec[name] for name in varied}
        row: dict[str, Any] = {"cell": record.name, **_flat({**first, **record.spec})}
        for key, value in _flat(record.values).items():
            row[f"record.{key}" if key in row else key] = value
        rows.append(row)
    return rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write a table: floats so that they are read back exactly, nothing for None.

    Args:
        rows: see `table`; columns in the order in which they are met. Lists are written
            as JSON.
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*columns], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: json.dumps(value) if isinstance(value, list) else value
                for key, value in row.items()
            }
        )
    return stream.getvalue()


class _Places:
    """Where a record stands in the order of a study's cells.

    Args:
        axes: what is combined, see `Study.specification`; the last varies fastest.
    """

    def __init__(self, axes: Sequence[Mapping[str, Sequence[JSON]]]) -> None:
        self._axes = [
            (
                [*axis],
                {
                    canonical_json(row): i
                    for i, row in enumerate(zip(*axis.values(), strict=True))
                },
            )
            for axis in axes
        ]
        self.varied = [
            name for names, rows in self._axes if len(rows) > 1 for name in names
        ]

    def __call__(self, record: Record) -> tuple[int, ...]:
        """Its positions on all axes."""
        return tuple(
            rows[canonical_json([record.spec[name] for name in names])]
            for names, rows in self._axes
        )


def _flat(values: Mapping[str, JSON], before: str = "") -> dict[str, Any]:
    """Tables within become `outer.inner`; lists stay."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        else:
            listed = isinstance(value, Sequence) and not isinstance(value, str)
            flat[before + key] = as_json(value) if listed else value
    return flat
