"""A study: an experiment, and which parameters it is run with."""

import itertools
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from summiteer.cells import Cell
from summiteer.studies.experiments import EXPERIMENTS


class Study(BaseModel):
    """Which cells are to be measured.

    Every combination of the grid's values, the positions of the zips and the seeds is a
    cell; the same study gives the same cells in the same order.

    Attributes:
        name: of the study.
        experiment: of all its cells.
        fixed: parameters with one value.
        grid: parameter -> values, combined with all others.
        zips: groups of parameters whose values, equally many, are taken together.
        seeds: of the cells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    experiment: str
    fixed: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    zips: list[dict[str, list[Any]]] = []
    seeds: list[int] = [0]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a study file.

        Args:
            path: of a TOML file with the attributes above.
        """
        return cls.model_validate(tomllib.loads(Path(path).read_text()))

    def cells(self) -> tuple[Cell, ...]:
        """All cells, in order."""
        experiment = EXPERIMENTS[self.experiment]
        choices = [
            *(
                [{name: value} for value in values]
                for name, values in self.grid.items()
            ),
            *(
                [
                    dict(zip(group, row, strict=True))
                    for row in zip(*group.values(), strict=True)
                ]
                for group in self.zips
            ),
            [{"seed": seed} for seed in self.seeds],
        ]
        cells = []
        for parts in itertools.product(*choices):
            values = dict(self.fixed)
            for part in parts:
                values |= part
            cells.append(experiment.cell(**values))
        return tuple(cells)
