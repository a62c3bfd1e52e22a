"""An attack as a run in a directory: one cell per block, resumed where it stopped."""

import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from summiteer._attack import (
    EVIDENCE_NAMES,
    OUTCOME_NAMES,
    VERDICT_NAMES,
    Settings,
    attack_block,
    blocks_of,
    gather,
    summarise,
)
from summiteer._version import __version__
from summiteer.cells import Cell, digest_arrays
from summiteer.engine import map_cells
from summiteer.errors import SummiteerWarning
from summiteer.problem import Problem
from summiteer.store import Store

#: `progress(done, total)` is called after every block.
Progress = Callable[[int, int], None]


def fingerprint(problem: Problem) -> dict[str, str]:
    """Digests of the model's weights and of the data, for the run's specification.

    Args:
        problem: whose model and data are meant.
    """
    model = problem.model
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    return {
        "weights": digest_arrays(tensors),
        "data": digest_arrays({"inputs": problem.inputs, "targets": problem.targets}),
    }


def run_attack(
    problem: Problem,
    settings: Settings,
    store: Store,
    block_size: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Attack what is not yet in the store and write result.json.

    Args:
        problem: of all examples.
        settings: of the attack.
        store: open for writing; its spec determines the result.
        block_size: examples per cell.
        progress: told after each block.

    Returns:
        The content of result.json.
    """
    blocks = list(blocks_of(len(problem), block_size))
    cells = [
        Cell("attack", {"run": store.run, "first": int(block[0]), "count": len(block)})
        for block in blocks
    ]
    finished = set(store.finished())
    todo = [cell for cell in cells if cell.name not in finished]
    number = {cell.name: index for index, cell in enumerate(cells)}
    if progress:
        progress(len(cells) - len(todo), len(cells))

    def attacked(cell: Cell) -> tuple[Mapping[str, Tensor], list[str], float]:
        began = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SummiteerWarning)
            arrays = attack_block(problem.take(blocks[number[cell.name]]), settings)
        texts = [str(w.message) for w in caught if w.category is SummiteerWarning]
        return arrays, texts, time.monotonic() - began

    tables = {
        "outcome": json.dumps(OUTCOME_NAMES),
        "verdict": json.dumps(VERDICT_NAMES),
        "evidence": json.dumps(EVIDENCE_NAMES),
    }
    for done, (cell, (arrays, texts, seconds)) in enumerate(
        map_cells(attacked, todo), len(cells) - len(todo) + 1
    ):
        record = {"messages": texts, "seconds": seconds}
        store.put(cell, number[cell.name], record, arrays, tables)
        if progress:
            progress(done, len(cells))
    return _result(problem, settings, store, cells)


def _result(
    problem: Problem, settings: Settings, store: Store, cells: list[Cell]
) -> dict[str, Any]:
    """result.json from what is stored: the same whether or not it was interrupted."""
    records = store.finished()
    messages: list[str] = []
    seconds = 0.0
    for cell in cells:
        values: Any = records[cell.name].values
        seconds += float(values["seconds"])
        messages += [text for text in values["messages"] if text not in messages]
    arrays = gather([store.arrays(cell.name) for cell in cells])
    with warnings.catch_warnings():
        # They are findings here, and said once.
        warnings.simplefilter("ignore", SummiteerWarning)
        summary = summarise(arrays, settings, problem, messages)
    files = sorted(path.name for path in (store.directory / "arrays").iterdir())
    result = {
        **{key: summary[key] for key in ("schema", "command")},
        "version": __version__,
        "run": store.run,
        **{key: value for key, value in summary.items() if key != "schema"},
        "seconds": round(seconds, 3),
        "files": ["run.json", "store.sqlite", *(f"arrays/{name}" for name in files)],
    }
    store.write_json("result.json", result)
    return result


def settings_spec(settings: Settings, problem: Problem) -> dict[str, Any]:
    """The part of a run's specification that the settings are."""
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    return {
        "norm": settings.region.norm,
        "radius": radius.tolist(),
        "box": list(settings.box) if settings.box else None,
        "objective": repr(problem.objective),
        "restarts": settings.effort.restarts,
        "max_steps": settings.effort.max_steps,
        "more_steps": settings.effort.more_steps,
        "adversary": repr(settings.adversary),
        "seed": settings.seed,
        "stop_on_success": settings.stop_on_success,
        "within": settings.within,
        "tolerance": settings.tolerance,
        "dtype": str(problem.inputs.dtype),
    }
