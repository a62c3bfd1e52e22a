"""--neighbours: whose classes show the search the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from summiteer.cli.source import Source
from summiteer.errors import UserError


def shown(source: Source, named: str | None) -> Source:
    """The source with the examples that show every block the way.

    Args:
        source: whose settings lack them.
        named: by the user, as DATA is; those of the source, of many a sample, if None.
    """
    settings = source.settings
    if named is not None and (settings.adversary or not settings.effort.neighbours):
        raise UserError(
            "--neighbours: only the search asks for them; leave out --adversary."
        )
    if named is None:
        known = _own(source)
        return source._replace(settings=replace(settings, neighbours=known))
    import torch

    from summiteer.cells import digest_arrays
    from summiteer.data import load_data
    from summiteer.screen import drawn
    from summiteer.searching.neighbours import most_neighbours, usable_neighbours

    with _naming_the_option():
        dataset = load_data(named)
    inputs, labels = dataset.inputs, torch.as_tensor(dataset.targets)
    if source.classes is not None:
        place = {label: number for number, label in enumerate(source.classes)}
        moved = [place.get(label, -1) for label in labels.flatten().tolist()]
        labels = torch.tensor(moved).reshape(labels.shape)
    most = most_neighbours(tuple(inputs.shape[1:]))
    if most < len(inputs):
        index = drawn(torch.arange(len(inputs)), settings.seed, most)
        inputs, labels = inputs[index], labels[index]
    with _naming_the_option():
        known, note = usable_neighbours(source.problem, inputs, labels)
        if known is None:
            raise UserError(f"{note}; give examples of the model's classes.")
    digest = digest_arrays({"inputs": inputs, "labels": labels})
    return source._replace(
        settings=replace(settings, neighbours=known),
        notes=[*source.notes, *([note] if note else [])],
        names={**source.names, "neighbours": named, "neighbours_digest": digest},
    )


@contextmanager
def _naming_the_option() -> Iterator[None]:
    """Errors about what it names speak of --neighbours."""
    try:
        yield
    except UserError as error:
        _, _, said = str(error).partition(": ")
        raise UserError(f"--neighbours: {said}") from None


def _own(source: Source) -> Any:
    """Of the examples themselves, the same for every block, whatever its size."""
    settings, population = source.settings, source.population
    # Of two classes as ±1 there is one output, and no rival to go towards.
    classes = population.labelled and not source.problem.targets.is_floating_point()
    if not classes or settings.adversary or not settings.effort.neighbours:
        return None
    from summiteer.screen import drawn
    from summiteer.searching.neighbours import most_neighbours

    most = most_neighbours(tuple(source.problem.inputs.shape[1:]))
    part = population.part(drawn(population.ids, settings.seed, most))
    return part.inputs, part.targets
