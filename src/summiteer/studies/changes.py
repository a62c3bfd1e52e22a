"""A study that was changed after it was begun: what changed, and what can be kept."""

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from summiteer.cells import Cell, canonical_json
from summiteer.environment import environment
from summiteer.errors import SummiteerWarning, UserError
from summiteer.store import Record, Store, begun_spec

#: Up to so many values of one parameter are listed.
_LISTED = 6


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two specifications of studies.

    Args:
        old: see `Study.specification`.
        new: likewise.

    Returns:
        A few words for each change; none if they are equal.
    """
    told = [
        f"{key}: {_text(old.get(key))} → {_text(new.get(key))}"
        for key in ("name", "version", "torch")
        if old.get(key) != new.get(key)
    ]
    before, after = old["study"], new["study"]
    other = before["experiment"] != after["experiment"]
    if other:
        told.append(f"experiment: {before['experiment']} → {after['experiment']}")
    values_before, values_after = _values(before), _values(after)
    for name in dict.fromkeys([*values_before, *values_after]):
        one, another = values_before.get(name, []), values_after.get(name, [])
        # What only one of two experiments has is no change of the study.
        change = "" if other and not (one and another) else _change(one, another)
        if change:
            told.append(f"{name}: {change}")
    if not told and canonical_json(before) != canonical_json(after):
        told.append("the same values are combined otherwise (grid and zips)")
    return told


def refuse_changed(
    directory: Path, spec: Mapping[str, Any], cells: Sequence[Cell]
) -> None:
    """Refuse a store that holds the study as it was before it was changed.

    Args:
        directory: of the store; nothing is refused if it holds none, or no study.
        spec: of the study as it is.
        cells: of it.

    Raises:
        UserError: tells the changes and the way on.
    """
    old = _specification(directory)
    changed = [] if old is None else differences(old, spec)
    if not changed:
        return
    assert old is not None
    with Store.read(directory) as store:
        kept = len(reusable(store, spec, cells))
    experiments = [each["study"]["experiment"] for each in (old, spec)]
    if old["name"] != spec["name"] and experiments[0] != experiments[1]:
        held = (
            f"another study ({old['name']}, of the experiment {experiments[0]}; this "
            f"is {spec['name']}, of {experiments[1]})"
        )
    else:
        told = "; ".join(changed)
        held = f"another study, or this one before it was changed ({told})"
    fork = (
        f"--fork DIR begins a new store with {kept} of its {len(cells)} cells taken "
        "over from it and measures the rest, another --out begins anew."
    )
    none = (
        f"none of the {len(cells)} cells can be taken over from it; another --out "
        "begins anew."
    )
    raise UserError(
        f"--out {directory} holds {held}, and what is in it stays as it is; "
        f"{fork if kept else none}"
    )


def reusable(
    store: Store, spec: Mapping[str, Any], cells: Sequence[Cell]
) -> dict[str, Record]:
    """The finished cells of a store that belong to a study too.

    Args:
        store: of another study.
        spec: of the study; cells measured by other versions, or other code, are left
            out.
        cells: of the study.
    """
    finished = store.finished()
    versions = {key: spec[key] for key in ("version", "torch")}
    return {
        cell.name: finished[cell.name]
        for cell in cells
        if cell.name in finished
        and versions.items() <= finished[cell.name].environment.items()
        and same_code(finished[cell.name])
    }


def same_code(record: Record) -> bool:
    """Whether this process has the code that measured a cell, as far as is known.

    Args:
        record: of the cell.
    """
    return record.environment.get("code") == environment()["code"]


def warn_of_other_code(store: Store) -> None:
    """Say where a store has cells that were not measured by the code that is here.

    Args:
        store: open.
    """
    others = [each for each in store.finished().values() if not same_code(each)]
    if others:
        warnings.warn(
            f"{len(others)} cells in {store.directory} were measured by other code of "
            "summiteer than this; they are kept. To measure all by one, choose another "
            "directory.",
            SummiteerWarning,
            stacklevel=2,
        )


def take_over(source: Path, store: Store, cells: Sequence[Cell]) -> tuple[int, int]:
    """Copy what another store has of a study's cells, arrays checked.

    Args:
        source: directory of the other store; it is only read.
        store: open for writing.
        cells: of the study.

    Returns:
        How many were copied, and how many were damaged and left out.
    """
    present = store.names()
    copied = damaged = 0
    with Store.read(source) as other:
        found = reusable(other, store.spec, cells)
        for number, cell in enumerate(cells):
            if cell.name not in found or cell.name in present:
                continue
            record = found[cell.name]
            try:
                arrays = other.arrays(cell.name) if record.arrays else None
                metadata = other.metadata(cell.name) or None
            except UserError:  # the file is not as it was written: measured anew
                damaged += 1
                continue
            where = {**record.environment, "taken_from": other.run}
            store.put(cell, number, record.values, arrays, metadata, where)
            copied += 1
    return copied, damaged


def _specification(directory: Path) -> Mapping[str, Any] | None:
    """That of a study in a directory; None where the store says what is there."""
    spec = begun_spec(directory)
    if spec.get("command") != "study":
        return None
    with suppress(UserError), Store.read(directory):
        return spec
    return None


def _values(study: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Every parameter with all values that it takes."""
    values = {name: [value] for name, value in study["fixed"].items()}
    for axis in study["axes"]:
        values |= {name: list(column) for name, column in axis.items()}
    return {("seeds" if name == "seed" else name): v for name, v in values.items()}


def _change(before: list[Any], after: list[Any]) -> str:
    """What became of one parameter's values; empty if nothing did."""
    old, new = (
        {canonical_json(value): value for value in values} for values in (before, after)
    )
    gone = [value for key, value in old.items() if key not in new]
    added = [value for key, value in new.items() if key not in old]
    if not before or not after:
        return f"now given, {_list(after)}" if after else "no longer given"
    if gone and added and len(before) == len(after) == 1:
        return f"{_text(gone[0])} → {_text(added[0])}"
    parts = [f"{_list(added)} added"] * bool(added) + [f"{_list(gone)} removed"] * bool(
        gone
    )
    if not parts and [*old] != [*new]:
        parts = ["the same values in another order"]
    return ", ".join(parts)


def _list(values: Sequence[Any]) -> str:
    told = [_text(value) for value in values[:_LISTED]]
    more = len(values) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
