"""A study: an experiment, and which parameters it is run with."""

import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from summiteer._version import __version__
from summiteer.cells import JSON, Cell, as_json, canonical_json
from summiteer.environment import environment
from summiteer.errors import UserError
from summiteer.studies import mistakes
from summiteer.studies.experiment import Experiment
from summiteer.studies.named import experiment_named

#: More cells than this are a mistake in the grid rather than a wish.
MOST_CELLS = 10**6

#: What tomllib says of a key, or a table, that is there already.
_TWICE = re.compile(r"Cannot (?:overwrite|declare) .*\(at (?:line (\d+)|end)")

#: Values of some parameters together, and where the study says so.
_Part: TypeAlias = Mapping[str, tuple[Any, str]]


def _counted(value: object) -> object:
    """`{first, count}` written out."""
    if not isinstance(value, Mapping):
        return value
    first, count = value.get("first", 0), value.get("count", 0)
    whole = type(first) is int and type(count) is int
    if not whole or set(value) - {"first", "count"} or count < 1:
        raise ValueError(
            "expected a list of seeds, or { first = 0, count = 5 } with count ≥ 1"
        )
    if count > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} seeds")
    return list(range(first, first + count))


class Study(BaseModel):
    """Which cells are to be measured.

    Every combination of the grid's values, the positions of the zips and the seeds is a
    cell: ∏ |grid values| · ∏ |zip positions| · |seeds| of them. Their order is that of
    the experiment's parameters, the last varies fastest, and seeds faster than all: it
    does not depend on the order in which the study names them.

    Attributes:
        name: of the study; also of a directory, so of letters, digits, `.`, `_`, `-`.
        experiment: of all its cells: a name, or `file.py:name` of one's own.
        fixed: parameters with one value.
        grid: parameter -> values, combined with all others.
        zips: groups of parameters whose values, equally many, are taken together.
        seeds: of the cells; `{first, count}` is understood.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    experiment: str
    fixed: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    zips: list[dict[str, list[Any]]] = []
    seeds: Annotated[
        list[Annotated[int, Field(strict=True, ge=0, lt=2**32)]],
        BeforeValidator(_counted),
    ] = [0]

    def __init__(self, **values: Any) -> None:
        """Check all values, of the cells too.

        Args:
            values: the attributes.

        Raises:
            UserError: some cannot be used; one sentence for each, which names the key.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            told = mistakes.of_the_study(error, Study.model_fields)
            wrong = {str(each["loc"][0]) for each in error.errors()}
            raise UserError("\n".join([told, *_further(values, wrong)])) from None
        self._check()
        self.cells()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a study file.

        Args:
            path: of a TOML file with the attributes above as keys. The file of an
                experiment of one's own is looked for beside it.

        Returns:
            The study; its cells are known to fit the experiment.

        Raises:
            UserError: the file cannot be read, is not TOML, or holds something that
                cannot be used; each sentence names the file, the key, what was
                expected and what came.
        """
        path = Path(path)
        content = _read(path)
        empty = [key for key in ("grid", "zips") if content.get(key) in ({}, [])]
        if empty:
            raise UserError(
                f"{path}: {empty[0]}: expected parameters with lists of values, got "
                "none; give some, or take the table out."
            )
        named = content.get("experiment")
        if isinstance(named, str) and ":" in named:
            content["experiment"] = str(path.parent / named)
        try:
            return cls(**content)
        except UserError as error:
            lines = str(error).splitlines()
            raise UserError("\n".join(f"{path}: {line}" for line in lines)) from None

    def cells(self) -> tuple[Cell, ...]:
        """All cells, in order.

        Raises:
            UserError: values do not fit the experiment, or two cells are equal.
        """
        return tuple(cell for cell, _ in self._planned())

    def specification(self) -> dict[str, JSON]:
        """All that determines the results: the run's specification in a store.

        Returns:
            Name, experiment, versions, and every parameter with the values that it
            takes, defaults included and as the experiment reads them, so that studies
            that say the same in other words are the same. `axes` are what is combined:
            tables of lists, a grid's parameter or a zip's group each, the seeds last;
            `cells` is how many there are.
        """
        specs = [cell.spec for cell in self.cells()]
        axes = []
        for axis in self._axes():
            names = sorted(axis[0])
            rows = _distinct([spec[name] for name in names] for spec in specs)
            columns = zip(*rows, strict=True)
            axes.append(dict(zip(names, columns, strict=True)))
        varied = {*itertools.chain(*axes)}
        fixed = {
            name: value
            for name, value in specs[0].items()
            if name not in varied and all(spec[name] == value for spec in specs)
        }
        study: dict[str, Any] = {
            "experiment": self._experiment().name,
            "cells": len(specs),
        }
        study |= {"fixed": fixed, "axes": axes}
        versions = {"version": __version__, "torch": environment()["torch"]}
        plain = as_json(
            {"command": "study", "name": self.name, **versions, "study": study}
        )
        assert isinstance(plain, dict)
        return plain

    def _experiment(self) -> Experiment:
        return experiment_named(self.experiment)

    def _check(self) -> None:
        """Refuse what no experiment could take."""
        wrong = [
            *mistakes.in_two_places(
                self.fixed, self.grid, self.zips, "seeds" in self.model_fields_set
            )
        ]
        lists = [(f"grid.{name}", values) for name, values in self.grid.items()]
        for number, group in enumerate(self.zips, 1):
            if not group:
                wrong.append(f"zips, group {number}: expected parameters, got none.")
            lengths = {name: len(values) for name, values in group.items()}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{name} has {n}" for name, n in lengths.items())
                wrong.append(
                    f"zips, group {number}: expected as many values of each parameter, "
                    f"for they are taken together, got: {told}; make them equal, or "
                    "put what is to be combined with all others under [grid]."
                )
            lists += [(f"zips, group {number}, {k}", v) for k, v in group.items()]
        for where, values in [*lists, ("seeds", self.seeds)]:
            if not values:
                wrong.append(
                    f"{where}: expected at least one value, got an empty list; give "
                    "values, or take the line out."
                )
        if wrong:
            raise UserError("\n".join(wrong))
        count = math.prod(len(axis) for axis in self._axes())
        if count > MOST_CELLS:
            raise UserError(
                f"grid: expected at most {MOST_CELLS} cells, got {count} combinations; "
                "take fewer values, or several studies."
            )

    def _axes(self) -> list[Sequence[_Part]]:
        """What is combined: parts of cells, each with the places they come from."""
        axes: list[Sequence[_Part]] = [
            [
                {name: (value, f"grid.{name}, entry {i}")}
                for i, value in enumerate(values, 1)
            ]
            for name, values in self.grid.items()
        ]
        for number, group in enumerate(self.zips, 1):
            rows = zip(*group.values(), strict=True)
            axes.append(
                [
                    {
                        name: (value, f"zips, group {number}, {name}, entry {i}")
                        for name, value in zip(group, row, strict=True)
                    }
                    for i, row in enumerate(rows, 1)
                ]
            )
        order = {
            name: i for i, name in enumerate(self._experiment().parameters.model_fields)
        }
        axes.sort(key=lambda axis: min(order.get(name, len(order)) for name in axis[0]))
        seeds = enumerate(self.seeds, 1)
        return [*axes, [{"seed": (seed, f"seeds, entry {i}")} for i, seed in seeds]]

    def _planned(self) -> Iterator[tuple[Cell, dict[str, str]]]:
        """Cells, and where their values come from."""
        experiment = self._experiment()
        fixed = {name: (value, f"fixed.{name}") for name, value in self.fixed.items()}
        wrong = mistakes.Collected(experiment)
        met: dict[Cell, dict[str, str]] = {}
        for parts in itertools.product(*self._axes()):
            found: dict[str, tuple[Any, str]] = dict(fixed)
            for part in parts:
                found |= part
            values = {name: value for name, (value, _) in found.items()}
            places = {name: place for name, (_, place) in found.items()}
            cell = wrong.cell(values, places)
            if cell is not None and cell in met:
                wrong.twice(met[cell], places)
            elif cell is not None:
                met[cell] = places
            if wrong.enough:
                break
        wrong.end()
        yield from met.items()


def _further(values: Mapping[str, Any], wrong: set[str]) -> list[str]:
    """What else is wrong, where that can be known: with the wrong keys left out."""
    extras = wrong - {*Study.model_fields}
    tables = any(isinstance(values[key], Mapping | list) for key in extras)
    if tables or wrong & {"experiment", "fixed", "grid", "zips"}:
        return []
    rest = {key: value for key, value in values.items() if key not in wrong}
    try:
        Study(**{"name": "name", **rest})
    except UserError as error:
        return str(error).splitlines()
    return []


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in their order; lists and tables among them have no hash."""
    return [*{canonical_json(value): value for value in values}.values()]


def _read(path: Path) -> dict[str, Any]:
    """The content of a TOML file."""
    text = ""
    try:
        text = path.read_bytes().decode()
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        text = _in_words(f"{error}".rstrip("."), text.splitlines())
        raise UserError(
            f"{path}: is not TOML: {text}; the keys of a study file are "
            f"{', '.join(Study.model_fields)}."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8, as TOML files are.") from None
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; name a study file (TOML)."
        ) from None


def _in_words(told: str, lines: Sequence[str]) -> str:
    """What tomllib says; where a key is given twice, which."""
    twice = _TWICE.match(told)
    if twice is None:
        return told
    number = int(twice[1] or len(lines))
    key = lines[number - 1].partition("=")[0].strip()
    return f"line {number}: {key} is given twice" if key else told
