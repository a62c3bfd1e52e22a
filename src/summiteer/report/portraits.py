"""Landscapes of one input at several input scales, beside each other."""

import json
from collections.abc import Mapping
from typing import Any

from summiteer.report.cut import Cut
from summiteer.report.document import Block, Prose
from summiteer.report.finished import Finished
from summiteer.report.slice_charts import scale_plots
from summiteer.store import Record, Store
from summiteer.studies.experiments.portrait import PORTRAIT

#: Inputs whose portraits are drawn; a study may have many.
_DRAWN = 4
#: What a heading says of an input, where a study varies it.
_NAMES = ("activation", "data", "seed", "first")


def portraits(run: Finished) -> tuple[Block, ...]:
    """Small multiples over the input scale c of a run's portraits; none if it has none.

    Args:
        run: with a store beside its result.
    """
    if not (run.directory / "store.sqlite").exists():
        return ()
    with Store.read(run.directory) as store:
        inputs: dict[str, dict[float, Record]] = {}
        for record in store.finished().values():
            if record.kind == PORTRAIT.name:
                spec: Any = record.spec
                rest = {name: spec[name] for name in spec if name != "scale"}
                key = json.dumps(rest, sort_keys=True)
                inputs.setdefault(key, {})[float(spec["scale"])] = record
        blocks: list[Block] = []
        for found in [*inputs.values()][:_DRAWN]:
            cuts = {scale: _cuts(store, record) for scale, record in found.items()}
            blocks += [Prose(_told(found)), *scale_plots(cuts)]
    if len(inputs) > _DRAWN:
        blocks.append(Prose(f"Drawn: {_DRAWN} of {len(inputs)} inputs.", "note"))
    return tuple(blocks)


def _cuts(store: Store, record: Record) -> dict[str, Cut]:
    arrays = store.arrays(record.name)
    spec: Any = record.spec
    radius = spec["ratio"] * spec["scale"]
    described = json.loads(store.metadata(record.name)["slices"])
    return {
        kind: Cut.of(kind, each, arrays, "l2", radius)
        for kind, each in described.items()
    }


def _told(found: Mapping[float, Record]) -> str:
    """One input in words: where it is from, and its maxima at each scale."""
    first: Any = next(iter(found.values()))
    what = ", ".join(f"{name} {first.spec[name]}" for name in _NAMES)
    # Different by distance is one number, different by proof another.
    apart, proved = (
        ", ".join(
            f"{record.values[name]} at c = {scale:g}"
            for scale, record in sorted(found.items())
        )
        for name in ("distinct", "at_least")
    )
    return (
        f"One input of one network ({what}), its ball of radius "
        f"{first.spec['ratio']:g} c: of {first.values['runs']} runs the distinct "
        f"maxima, told apart by distance, are {apart}; proved to be there are at least "
        f"{proved} (where u = f - y takes both signs ½u² has a maximum of each, met or "
        "not). Planes and circles go through the highest two that were met; where one "
        "alone was, another direction takes the second's place. An illustration: "
        "nothing is judged by it."
    )
