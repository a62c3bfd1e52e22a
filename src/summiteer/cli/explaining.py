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
    known = _places(source)
    for example in wanted:
        if example not in known:
            first, last = min(known), max(known)
            raise UserError(
                f"--explain: example {example} is not part of the run, which has "
                f"{len(known)} of {first} … {last} (numbers of the data's rows, from "
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

    problem, places = source.problem, _places(source)
    arrays, row = arrays_of(store)
    told = []
    for example in wanted:
        # Exactly the point that was examined: it came from this dtype.
        point = arrays["perturbations"][[row[example]]].to(problem.inputs)
        part = problem.take(torch.tensor([places[example]]))
        text = local_optimality(part, point, source.settings.within).explain(0)
        told.append("\n" + text.replace("example 0", f"example {example}", 1))
    return [*told, "\nThe words, symbols and propositions: docs/certificates.md"]


def arrays_of(store: Any) -> tuple[dict[str, Any], dict[int, int]]:
    """Return the arrays of a finished run, and where in them each example is.

    Args:
        store: of the run.
    """
    from summiteer.examination import gather

    cells = [r.name for r in store.finished().values() if r.kind != "screen"]
    arrays = gather([store.arrays(name) for name in cells])
    return arrays, {int(example): i for i, example in enumerate(arrays["ids"])}


def _places(source: Source) -> dict[int, int]:
    return {int(example): i for i, example in enumerate(source.problem.ids)}
