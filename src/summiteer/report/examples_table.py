"""Examples one by one: what was found for each, with pictures where inputs are some."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from summiteer.report.document import Column, Picture, Section, Table, Value
from summiteer.report.examined_groups import kinds_of
from summiteer.report.pictures import LARGEST, image_of, picture
from summiteer.report.recorded_run import RecordedRun

#: Rows at most; of these at least a quarter are no survivors, where there are some.
ROWS = 200
_OTHERS = ROWS // 4
#: Numbers of all pictures at most: more would make the page slow to open.
_NUMBERS = 2_000_000
_IMAGES = ("input", "perturbation", "sum")

#: A column, and what it says of all examples: one value for each, in order.
Fields = Sequence[tuple[Column, Sequence[Value]]]


def chosen(recorded: RecordedRun) -> list[int]:
    """Places of the examples that are shown, those to look at first in front.

    Survivors that are not at a proved maximum, then undecided points, then other
    survivors, then the rest; where there are too many of a kind, evenly spread.

    Args:
        recorded: of the run.
    """
    kinds = kinds_of(recorded)
    labelled = recorded.run.result["clean_accuracy"] is not None
    left = recorded.numbers["survived"].tolist() if labelled else [True] * len(kinds)
    proved = ["maximum, proved" in kind for kind in kinds]
    ranks = [
        0 if alive and not sure else 1 if kind == "undecided" else 2 if alive else 3
        for alive, sure, kind in zip(left, proved, kinds, strict=True)
    ]
    ordered = [
        [place for place, rank in enumerate(ranks) if rank == wanted]
        for wanted in range(4)
    ]
    others = min(len(ordered[3]), max(_OTHERS, ROWS - sum(map(len, ordered[:3]))))
    room = ROWS - others
    places: list[int] = []
    for part in ordered[:3]:
        places += _spread(part, room - len(places))
    return places + _spread(ordered[3], others)


def _spread(places: list[int], most: int) -> list[int]:
    """At most so many of the places, evenly spread."""
    if len(places) <= most:
        return places
    step = torch.linspace(0, len(places) - 1, max(most, 0)).round().long()
    return [places[number] for number in step.tolist()]


def examples_section(
    recorded: RecordedRun, fields: Fields, made: str = "found"
) -> Section:
    """The table of examples.

    Args:
        recorded: of the run.
        fields: what is said of all examples.
        made: where the perturbations come from, in a word.
    """
    places = chosen(recorded)
    wide = recorded.wide(places)
    shown, scale = _pictures(recorded, wide["inputs"], wide["perturbations"], made)
    targets = [_target(each) for each in wide["targets"]]
    ids = recorded.numbers["ids"].tolist()
    columns = [Column("example", words="its id in the data"), Column("target")]
    if scale:
        columns += [Column(name) for name in _IMAGES]
    columns += [column for column, _ in fields]
    rows = []
    for number, place in enumerate(places):
        row: list[Value] = [ids[place], targets[number]]
        if scale:
            row += shown[number]
        rows.append((*row, *(values[place] for _, values in fields)))
    note = _note(recorded, len(places)) + (f" Pictures: {scale}." if scale else "")
    table = Table("Examples", tuple(columns), tuple(rows), note, filtered=True)
    return Section("Examples, one by one", (table,))


def _note(recorded: RecordedRun, shown: int) -> str:
    if shown == recorded.count:
        return f"All {shown} examples."
    labelled = recorded.run.result["clean_accuracy"] is not None
    order = "survivors that are at no proved maximum, undecided points, other survivors"
    if not labelled:
        order = "points that are at no proved maximum"
    return (
        f"{shown} of {recorded.count} examples: first {order}, then the others, each "
        "evenly spread where there are too many. All are in the arrays of the run."
    )


def _target(target: Tensor) -> Value:
    """A label, or a number; of several numbers the first, with their count."""
    values = target.flatten().tolist()
    if len(values) == 1:
        return int(values[0]) if float(values[0]).is_integer() else float(values[0])
    return f"{values[0]:.4g}, … ({len(values)})"


def _pictures(
    recorded: RecordedRun, inputs: list[Tensor], moves: list[Tensor], made: str
) -> tuple[list[tuple[Picture | None, ...]], str]:
    """Three pictures for each example, and how they are scaled; "" for no images."""
    if not inputs or image_of(inputs[0]) is None:
        return [], ""
    box = recorded.run.result["region"]["box"]
    spread = torch.stack(inputs).double()
    low, high = box or (float(spread.min()), float(spread.max()))
    largest = float(torch.stack(moves).nan_to_num(0.0).abs().max()) or 1.0
    scale = (
        f"inputs from {low:g} (black) to {high:g} (white); perturbations ({made}) from "
        f"{-largest:.3g} (black) through 0 (grey) to {largest:.3g} (white)"
    )
    sides = image_of(inputs[0])
    assert sides is not None
    size = 3 * len(sides) * min(LARGEST, sides.shape[1]) * min(LARGEST, sides.shape[2])
    if max(sides.shape[1:]) > LARGEST:
        scale += f"; averaged down to {LARGEST} pixels along the longer side"
    most = _NUMBERS // size
    if most < len(inputs):
        scale += f"; only of the first {most} rows"
    found: list[tuple[Picture | None, ...]] = []
    for number, (given, move) in enumerate(zip(inputs, moves, strict=True)):
        start, step = image_of(given), image_of(move)
        if number >= most or start is None or step is None:
            found.append((None,) * len(_IMAGES))
            continue
        found.append(
            (
                picture(start, low, high, "input"),
                picture(step, -largest, largest, "perturbation"),
                picture(start.double() + step, low, high, "input with perturbation"),
            )
        )
    return found, scale


def numbers_of_examples(
    recorded: RecordedRun, array: str, shown: Callable[[float], Value] = float
) -> list[Value]:
    """One number per example; nothing where it is not known.

    Args:
        recorded: of the run.
        array: its name.
        shown: what is shown of a number.
    """
    values = recorded.numbers[array].double().tolist()
    return [shown(value) if value == value else None for value in values]
