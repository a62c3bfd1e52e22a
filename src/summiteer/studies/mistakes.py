"""What is wrong with a study, in sentences: where, what was expected, what came."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from summiteer.cells import Cell
from summiteer.errors import UserError
from summiteer.studies.experiment import Experiment

#: So many sentences are enough for a reader.
_ENOUGH = 5
#: How pydantic calls what TOML calls otherwise.
_TOML_WORDS = {
    "a valid dictionary": "a table",
    "a valid list": "a list of values",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "a text",
    "a valid boolean": "true or false",
}
#: Why pydantic could not read a text as a number; what came says it.
_WHY = re.compile(r", unable to (parse|interpret) .*|, got a number with .*")


def nearest(name: str, known: Iterable[str]) -> str:
    """What was meant, if something is near, and what there is.

    Args:
        name: that is not known.
        known: those that are.
    """
    near = difflib.get_close_matches(name, [*known], 1, 0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}known: {', '.join(known)}"


def of_the_study(error: ValidationError, keys: Iterable[str]) -> str:
    """What pydantic found in a study, a sentence a line.

    Args:
        error: of `Study`.
        keys: that a study has.
    """
    return "\n".join(dict.fromkeys(_of_a_key(each, keys) for each in error.errors()))


def _of_a_key(error: ErrorDetails, keys: Iterable[str]) -> str:
    first = str(error["loc"][0])
    where, kind = _place(error["loc"]), error["type"]
    if kind == "extra_forbidden":
        return (
            f"{where}: is no key of a study; {nearest(first, keys)}; parameters of the "
            "experiment go under [fixed], [grid] or [[zips]]."
        )
    if kind == "missing":
        return f"{where}: is missing; a study has a name and an experiment."
    if first == "name" and kind == "string_pattern_mismatch":
        return (
            f"{where}: expected letters, digits, '.', '_' and '-', a letter or digit "
            f"first, for it names a directory, got {shown(error['input'])}."
        )
    remedy = ""
    if where == "zips" and isinstance(error["input"], Mapping):
        return (
            "zips: expected groups, got one table; write [[zips]], with two brackets, "
            "above each group (in Python: a list of mappings)."
        )
    if first in {"grid", "zips"} and kind == "list_type":
        one = shown(error["input"])
        remedy = f"; write [{one}], or give one value under [fixed]"
    return f"{where}: {_expected(error)}{remedy}."


def _place(location: Sequence[str | int]) -> str:
    """Where in a study, as all messages call it; entries are counted from 1."""
    first, *rest = location
    if first in {"fixed", "grid"} and rest:
        first, rest = f"{first}.{rest[0]}", rest[1:]
    told = [str(first)]
    for i, part in enumerate(rest):
        word = "group" if first == "zips" and i == 0 else "entry"
        told.append(f"{word} {part + 1}" if isinstance(part, int) else part)
    return ", ".join(told)


def shown(value: object) -> str:
    """A value as it is written in TOML.

    Args:
        value: of a study file.
    """
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {shown(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)


def _expected(error: ErrorDetails) -> str:
    """What pydantic says of a value, in the words of all messages here."""
    cause = error.get("ctx", {}).get("error")
    text = str(cause) if cause is not None else _WHY.sub("", error["msg"])
    text = text.replace("Input should be ", "expected ")
    for comparison in ("greater", "less"):
        text = text.replace(f"expected {comparison}", f"expected a number {comparison}")
    for theirs, ours in _TOML_WORDS.items():
        text = text.replace(theirs, ours)
    text = text.rstrip(".")
    return text if "got" in text.split() else f"{text}, got {shown(error['input'])}"


def in_two_places(
    fixed: Iterable[str],
    grid: Iterable[str],
    zips: Sequence[Iterable[str]],
    seeded: bool,
) -> Iterator[str]:
    """A sentence for each parameter that a study gives twice, or in a wrong place.

    Args:
        fixed: the parameters under it.
        grid: likewise.
        zips: likewise, for each group.
        seeded: whether the study gives seeds.
    """
    places: dict[str, list[str]] = {"seed": ["seeds"] * seeded}
    groups = [(f"zips, group {i}", group) for i, group in enumerate(zips, 1)]
    for place, names in [("fixed", fixed), ("grid", grid), *groups]:
        for name in names:
            places.setdefault(name, []).append(place)
    for name, found in places.items():
        if name == "seed" and found[seeded:]:
            also = ", and are given there already" if seeded else ""
            yield (
                f"seed: is given under {' and '.join(found[seeded:])}; seeds "
                f"are a key of their own, seeds = [0, 1], above all tables{also}."
            )
        elif len(found) > 1:
            yield (
                f"{name}: is given in two places, {' and '.join(found)}; keep it in "
                "one of them."
            )


class Collected:
    """What is wrong with the cells, each thing once though many cells have it.

    Args:
        experiment: of the cells.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._sentences: dict[str, None] = {}

    @property
    def enough(self) -> bool:
        """Whether a reader has enough to correct."""
        return len(self._sentences) >= _ENOUGH

    def end(self) -> None:
        """Raise what was found, if anything was."""
        if self._sentences:
            raise UserError("\n".join(self._sentences))

    def cell(self, values: Mapping[str, Any], places: Mapping[str, str]) -> Cell | None:
        """The cell of these values, or None and a sentence.

        Args:
            values: of the parameters.
            places: where each is given.
        """
        try:
            return self._experiment.cell(**values)
        except ValidationError as error:
            for each in error.errors():
                self._sentences[self._of_a_value(each, places)] = None
        except Exception as error:  # of a validator that the user wrote
            self._sentences[
                f"experiment {self._experiment.name}: its parameters refuse "
                f"{shown(values)} with {type(error).__name__}: {error}."
            ] = None
        return None

    def twice(self, one: Mapping[str, str], other: Mapping[str, str]) -> None:
        """Note that two cells are equal.

        Args:
            one: where the values of the first come from.
            other: likewise, of the second.
        """
        pairs = [(one[name], other[name]) for name in one if one[name] != other[name]]
        told = " and ".join(f"{first} and {second}" for first, second in pairs)
        self._sentences[
            f"{told}: stand for the same, so that cells would be measured twice; take "
            "one of them out."
        ] = None

    def _of_a_value(self, error: ErrorDetails, places: Mapping[str, str]) -> str:
        kind, experiment = error["type"], self._experiment
        if not error["loc"]:
            given = shown({name: error["input"][name] for name in places})
            return f"the values {given} do not go together: {_expected(error)}."
        name, *inner = (str(part) for part in error["loc"])
        where = ", ".join([places.get(name, name), *inner])
        if kind == "extra_forbidden" and not inner:
            known = [*experiment.parameters.model_fields]
            return (
                f"{where}: the experiment {experiment.name} has no parameter {name!r}; "
                f"{nearest(name, known)}."
            )
        if kind == "missing":
            return (
                f"{name}: the experiment {experiment.name} needs this parameter; give "
                "it under [fixed], [grid] or [[zips]]."
            )
        return f"{where}: {_expected(error)}."
