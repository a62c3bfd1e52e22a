"""An attack as a run in a directory: one cell per block, resumed where it stopped."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from summiteer._attack import attack_block, blocks_of, gather, property_margins
from summiteer._typing import Model
from summiteer._version import __version__
from summiteer.attack_summary import (
    EVIDENCE_NAMES,
    OUTCOME_NAMES,
    VERDICT_NAMES,
    Settings,
    objective_name,
    summarise,
)
from summiteer.cells import Cell, digest_arrays
from summiteer.data import Property
from summiteer.engine import map_cells
from summiteer.errors import collected_warnings
from summiteer.problem import Problem
from summiteer.store import Store

#: `progress(done, total)` is called after every block.
Progress = Callable[[int, int], None]


def fingerprint(problem: Problem) -> dict[str, str]:
    """Digests of the model and of the data, for the run's specification.

    Args:
        problem: whose model and data are meant.

    Returns:
        "weights" and "digest" (of the data) as digests, "layers": the text of the
        module, or the name of a callable that is none.
    """
    model, ids = problem.model, torch.as_tensor(problem.ids)
    module = isinstance(model, nn.Module)
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    name = getattr(model, "__qualname__", type(model).__qualname__)
    return {
        "layers": repr(model) if module else name,
        "weights": digest_arrays(tensors),
        "digest": digest_arrays(
            {"inputs": problem.inputs, "targets": problem.targets, "ids": ids}
        ),
    }


def run_attack(
    problem: Problem,
    settings: Settings,
    store: Store,
    block_size: int,
    progress: Progress | None = None,
    messages: Sequence[str] = (),
) -> dict[str, Any]:
    """Attack what is not yet in the store and write result.json.

    Args:
        problem: of all examples.
        settings: of the attack.
        store: open for writing; its spec determines the result.
        block_size: examples per cell.
        progress: told after each block.
        messages: of warnings met before the first block.

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
        with collected_warnings() as texts:
            arrays = attack_block(problem.take(blocks[number[cell.name]]), settings)
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
    return _result(problem, settings, store, cells, list(messages))


def _result(
    problem: Problem,
    settings: Settings,
    store: Store,
    cells: list[Cell],
    messages: list[str],
) -> dict[str, Any]:
    """result.json from what is stored: the same whether or not it was interrupted."""
    records = store.finished()
    seconds = 0.0
    for cell in cells:
        values: Any = records[cell.name].values
        seconds += float(values["seconds"])
        messages += [text for text in values["messages"] if text not in messages]
    arrays = gather([store.arrays(cell.name) for cell in cells])
    files = sorted(path.name for path in (store.directory / "arrays").iterdir())
    result = summarise(
        arrays,
        settings,
        problem,
        messages,
        run=store.run,
        seconds=round(seconds, 3),
        files=["run.json", "store.sqlite", *(f"arrays/{name}" for name in files)],
    )
    store.write_json("result.json", result)
    return result


def property_names(claim: Property) -> dict[str, str]:
    """The property's file and a digest of what it says, for the specification.

    Args:
        claim: the property.
    """
    said = {
        "lower": claim.lower,
        "upper": claim.upper,
        "outputs": torch.tensor([claim.outputs, claim.label, *claim.rivals]),
    }
    return {"property": claim.name, "property_digest": digest_arrays(said)}


def judge_property(
    result: dict[str, Any],
    model: Model,
    claim: Property,
    problem: Problem,
    store: Store,
) -> dict[str, Any]:
    """Return result.json's content with what the attack says about the property.

    The strongest point is evaluated afresh in float64, and `robust_accuracy` is 0
    exactly where the property is violated there. The input is then written to
    counterexample.txt, in the form of the VNN competitions.

    Args:
        result: content of result.json.
        model: the caller's.
        claim: the property.
        problem: of the attack, see `property_problem`.
        store: of the run, finished.
    """
    (cell,) = store.finished()
    point = problem.inputs.double() + store.arrays(cell)["perturbations"]
    found = property_margins(model, claim, point)
    files = list(result["files"])
    if found.violated:
        files.append("counterexample.txt")
        values = {"X": point.flatten().tolist(), "Y": found.outputs}
        lines = [
            f"({kind}_{index} {value!r})"
            for kind, numbers in values.items()
            for index, value in enumerate(numbers)
        ]
        store.write_text("counterexample.txt", "(" + "\n ".join(lines) + ")\n")
    judged = {
        **result,
        "robust_accuracy": 0.0 if found.violated else 1.0,
        "property": {
            "name": claim.name,
            "violated": found.violated,
            "label": claim.label,
            "rival": found.rival,
            "margin": _finite(found.margin),
            "margin_in_model_dtype": _finite(found.own),
        },
        "files": files,
    }
    store.write_json("result.json", judged)
    return judged


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def specification(
    problem: Problem, settings: Settings, block_size: int, names: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that determines the result; its digest is the run's id.

    Args:
        problem: of all examples.
        settings: of the attack.
        block_size: examples per cell.
        names: how the user named model and data.
    """
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    return {
        "command": "attack",
        "version": __version__,
        "torch": torch.__version__,
        **names,
        **fingerprint(problem),
        "norm": settings.region.norm,
        "radius": radius.tolist(),
        "box": list(settings.box) if settings.box else None,
        "objective": objective_name(problem.objective),
        "restarts": settings.effort.restarts,
        "max_steps": settings.effort.max_steps,
        "more_steps": settings.effort.more_steps,
        "adversary": repr(settings.adversary),
        "seed": settings.seed,
        "until": repr(settings.until),
        "within": settings.within,
        "right_within": settings.right_within,
        "block_size": block_size,
    }
