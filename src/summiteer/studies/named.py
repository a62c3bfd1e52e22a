"""Experiments by their names: those of this package, and those of users' files."""

import ast
import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from summiteer.cells import Cell, as_json
from summiteer.data.models import named_object
from summiteer.engine import Measurement
from summiteer.errors import UserError
from summiteer.studies.experiment import Experiment, Parameters
from summiteer.studies.experiments import EXPERIMENTS
from summiteer.studies.mistakes import nearest


def experiment_named(name: str) -> Experiment:
    """The experiment of a name.

    Args:
        name: a key of `EXPERIMENTS`; or `file.py:name`, an `Experiment` in a file that
            is run for it. Its own name then ends with a digest of that file, so that
            cells measured by other code have other names; what the file imports is not
            part of it.

    Raises:
        UserError: there is none.
    """
    if ":" not in name:
        if name not in EXPERIMENTS:
            raise UserError(
                f"experiment: expected a known one, or file.py:name, got {name!r}; "
                f"{nearest(name, EXPERIMENTS)}."
            )
        return EXPERIMENTS[name]
    place = Path(name.rpartition(":")[0])
    if place.suffix != ".py":
        raise UserError(f"experiment: expected file.py:name, got {name!r}.")
    try:
        source = place.read_bytes()
    except OSError as error:
        raise UserError(
            f"experiment: {place}: {error.strerror or error}; it is looked for beside "
            "the study file."
        ) from None
    return _from_file(name, hashlib.sha256(source).hexdigest()[:16])


@cache
def _from_file(name: str, digest: str) -> Experiment:
    try:
        found = named_object("experiment", name)
    except UserError as error:
        raise UserError(f"{error}{_hint(name)}") from None
    if not isinstance(found, Experiment):
        raise UserError(
            f"experiment: {name} is of the type {type(found).__name__}; expected a "
            "summiteer.Experiment."
        )
    if not (
        isinstance(found.parameters, type) and issubclass(found.parameters, Parameters)
    ):
        raise UserError(
            f"experiment: {name} has the parameters {found.parameters!r}; expected a "
            "subclass of summiteer.Parameters."
        )
    return replace(found, name=f"{found.name}@{digest}")


def _hint(name: str) -> str:
    """Which experiments a file makes, where it makes none of this name."""
    place, _, wanted = name.rpartition(":")
    try:
        body = ast.parse(Path(place).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    made = [
        target.id
        for each in body
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call)
        for target in each.targets
        if isinstance(target, ast.Name)
        and ast.unparse(each.value.func).rpartition(".")[2] == "Experiment"
    ]
    return (
        f" Among its experiments: {nearest(wanted, made)}."
        if made and wanted not in made
        else ""
    )


@dataclass(frozen=True)
class Measuring:
    """Measures cells of one experiment; picklable, for engines with other processes.

    Attributes:
        experiment: its name, see `experiment_named`.
    """

    experiment: str

    def __post_init__(self) -> None:
        place, colon, name = self.experiment.rpartition(":")
        if colon:  # workers may be at home elsewhere
            path = Path(place).absolute()
            object.__setattr__(self, "experiment", f"{path}:{name}")

    def __call__(self, cell: Cell) -> Measurement:
        """Run the experiment on a cell.

        Args:
            cell: of a study with this experiment.

        Raises:
            UserError: the file of the experiment is not what it was when the cell was
                made.
        """
        experiment = experiment_named(self.experiment)
        if experiment.name != cell.kind:
            raise UserError(
                f"experiment: {self.experiment} has changed since the study began; "
                "begin it anew under another --out."
            )
        return experiment.measure(
            experiment.parameters.model_validate(as_json(cell.spec))
        )
