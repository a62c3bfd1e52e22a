"""`--explain`: why an example of a run has its verdict."""

from collections.abc import Sequence
from typing import Any

from summiteer.cli.source import Source
from summiteer.errors import UserError


def check_explained(source: Source, wanted: Sequence[int]) -> None:
    """Refuse examples that are not among those of the run.

    Args:
        source: of the run.
        wanted: their ids.
    """
    if not wanted:
        return
    ids = source.population.ids
    for example in wanted:
        if not bool((ids == example).any()):
            first, last = int(ids[0]), int(ids[-1])
            raise UserError(
                f"--explain: example {example} is not part of the run, which has "
                f"{len(ids)} of {first} … {last} (numbers of the data's rows, from "
                "0)."
            )


def explanations(source: Source, store: Any, wanted: Sequence[int]) -> list[str]:
    """Return why each example's strongest point has its verdict.

    Args:
        source: of the run.
        store: of the run, finished.
        wanted: ids of examples.
    """
    if not wanted:
        return []
    import torch

    from summiteer.optimality import local_optimality
    from summiteer.runs import Blocks

    population, told = source.population, []
    blocks = Blocks.of("attack", store, len(population))
    for example in wanted:
        place = int((population.ids == example).nonzero())
        number, row = divmod(place, blocks.size)
        found = store.arrays(blocks.cell(number).name)["perturbations"]
        part = population.part(torch.tensor([place]))
        # Exactly the point that was examined: it came from this dtype.
        point = found[row : row + 1].to(part.inputs)
        text = local_optimality(part, point, source.settings.within).explain(0)
        told.append("\n" + text.replace("example 0", f"example {example}", 1))
    return [*told, "\nThe words, symbols and propositions: docs/certificates.md"]
