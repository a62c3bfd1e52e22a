"""What an attack or an audit left in its store, as its page needs it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from summiteer.errors import UserError
from summiteer.examination import numbers_of
from summiteer.report.finished import Finished
from summiteer.report.wording import verdict_words
from summiteer.runs import Blocks
from summiteer.store import Store

#: Arrays as large as inputs, read for few examples.
_WIDE = ("inputs", "targets", "perturbations")


@dataclass(frozen=True, eq=False)
class Paths:
    """How a number went along the runs of all examples.

    Attributes:
        steps: `[steps]`.
        values: of each block `[steps, quantiles]`, with what its examples count.
    """

    steps: Tensor
    values: tuple[tuple[Tensor, int], ...]

    def quantile(self, share: float) -> tuple[float | None, ...]:
        """The quantile of all examples at each step; None where there is none.

        Args:
            share: which, between 0 and 1.
        """
        pooled = torch.cat([values for values, _ in self.values], 1)
        weights = torch.cat(
            [torch.full_like(values[0], count) for values, count in self.values]
        )
        order = pooled.argsort(dim=1, stable=True)
        values, mass = pooled.gather(1, order), weights[order]
        mass = mass.masked_fill(values.isnan(), 0.0).cumsum(1)
        place = (mass < share * mass[:, -1:]).sum(1).clamp(max=mass.shape[1] - 1)
        found = values.gather(1, place[:, None])[:, 0]
        return tuple(v if v == v else None for v in found.tolist())


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """The arrays of a run.

    Attributes:
        run: whose they are.
        numbers: a few numbers of every example, in order; see `numbers_of`.
        names: array of codes -> their names.
        paths: (array, "all" or "survivors") -> how it went, as far as recorded.
        environments: where the blocks were computed, each once.
    """

    run: Finished
    numbers: Mapping[str, Tensor]
    names: Mapping[str, Sequence[str]]
    paths: Mapping[tuple[str, str], Paths]
    environments: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, run: Finished) -> Self:
        """Read a run's arrays, block by block.

        Args:
            run: of an attack or an audit.

        Raises:
            UserError: they are missing or damaged.
        """
        found: dict[tuple[str, str], list[tuple[Tensor, Tensor, int]]] = {}
        with Store.read(run.directory) as store:
            blocks = _blocks(run, store)
            cells = [blocks.cell(number).name for number in range(len(blocks))]
            missing = len(set(cells) - store.names())
            if missing:
                raise UserError(
                    f"{run.directory}: {missing} of {len(cells)} blocks are not in its "
                    "store; its command, given again, computes them."
                )
            numbers = numbers_of(_noted(store, cells, found), blocks.count)
            metadata = store.metadata(cells[0])
            records = [store.record(name).environment for name in cells]
        names = {name: json.loads(text) for name, text in metadata.items()}
        paths = {
            key: Paths(parts[0][0], tuple((values, n) for _, values, n in parts))
            for key, parts in found.items()
        }
        return cls(run, numbers, names, paths, _different(records))

    @property
    def count(self) -> int:
        """How many examples there are."""
        return len(self.numbers["ids"])

    def named(self, array: str) -> list[str]:
        """The names of an array's codes, per example.

        Args:
            array: of codes.
        """
        names = self.names[array]
        return [names[code] for code in self.numbers[array].tolist()]

    def verdicts(self) -> list[str]:
        """Verdict and evidence, in words, per example."""
        pairs = zip(self.named("verdict"), self.named("evidence"), strict=True)
        return [verdict_words(*pair) for pair in pairs]

    def wide(self, places: Sequence[int]) -> dict[str, list[Tensor]]:
        """Inputs, targets and perturbations of some examples.

        Args:
            places: of these, in any order.

        Returns:
            Name -> one tensor per place.
        """
        found: dict[str, dict[int, Tensor]] = {name: {} for name in _WIDE}
        with Store.read(self.run.directory) as store:
            blocks = _blocks(self.run, store)
            for number in sorted({place // blocks.size for place in places}):
                arrays = store.arrays(blocks.cell(number).name)
                first = number * blocks.size
                for place in places:
                    if place // blocks.size == number:
                        for name in _WIDE:
                            found[name][place] = arrays[name][place - first].clone()
        return {name: [rows[place] for place in places] for name, rows in found.items()}


def _blocks(run: Finished, store: Store) -> Blocks:
    return Blocks.of(str(run.spec["command"]), store, int(run.result["examples"]))


def _noted(
    store: Store,
    cells: Sequence[str],
    found: dict[tuple[str, str], list[tuple[Tensor, Tensor, int]]],
) -> Iterator[dict[str, Tensor]]:
    """The arrays of each block; the paths among them are kept on the way."""
    for name in cells:
        arrays = store.arrays(name)
        counts = len(arrays["ids"]), int(arrays["survived"].sum())
        for array in [key for key in arrays if f"{key}_steps" in arrays]:
            steps, values = arrays[f"{array}_steps"][0], arrays[array][0]
            groups = zip(("all", "survivors"), values, counts, strict=True)
            for group, part, count in groups:
                if count:
                    found.setdefault((array, group), []).append((steps, part, count))
        yield arrays


def _different(records: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The environments that differ in more than seconds."""
    known: dict[str, Mapping[str, Any]] = {}
    for record in records:
        kept = {name: value for name, value in record.items() if name != "seconds"}
        known.setdefault(json.dumps(kept, sort_keys=True, default=str), kept)
    return tuple(known.values())
