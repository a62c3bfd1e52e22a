"""An experiment: named parameters in, a measurement out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from summiteer.cells import Cell
from summiteer.engine import Measurement


class Parameters(BaseModel):
    """All that determines a measurement, the seed included; subclasses add fields.

    Every field has a type and a default, or must be given; unknown names are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = 0


@dataclass(frozen=True)
class Experiment:
    """One kind of cell.

    Attributes:
        name: how study files and records call it.
        parameters: their names, types, defaults and limits.
        measure: parameters -> what was measured; it is determined by them.
        summary: what it measures, in a line.
        columns: what the values of its records mean, in a line each.
    """

    name: str
    parameters: type[Parameters]
    measure: Callable[[Any], Measurement]
    summary: str
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def cell(self, **values: object) -> Cell:
        """One piece of work, named by its full specification, defaults included.

        Args:
            values: of the parameters.

        Raises:
            ValidationError: of pydantic; a value does not fit.
        """
        parameters = self.parameters.model_validate(values)
        return Cell(self.name, parameters.model_dump(mode="json"))
