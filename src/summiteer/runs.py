"""A command as a run in a directory: one cell per block, resumed where it stopped."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from summiteer._attack import attack_block
from summiteer._audit import audit_block
from summiteer._typing import Model
from summiteer._version import __version__
from summiteer.attack_summary import attack_result
from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.given import Given
from summiteer.auditing.kinds import KIND_NAMES
from summiteer.auditing.summary import audit_result
from summiteer.cells import Cell, digest_arrays
from summiteer.data import Property
from summiteer.engine import map_cells
from summiteer.errors import collected_warnings
from summiteer.examination import (
    EVIDENCE_NAMES,
    OUTCOME_NAMES,
    VERDICT_NAMES,
    blocks_of,
    gather,
)
from summiteer.problem import Problem
from summiteer.screen import Screening, screen
from summiteer.settings import Settings
from summiteer.store import Store
from summiteer.summary import Work, objective_name
from summiteer.violation import property_margins

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


@dataclass(frozen=True)
class Command:
    """What is done to each block, and what is made of all of them.

    Attributes:
        name: "attack" or "audit", also the kind of its cells.
        block: the indices of a block -> its arrays.
        result: what was done -> result.json's content.
        tables: array -> the names of its codes, beside those that all commands have.
    """

    name: str
    block: Callable[[Tensor], Mapping[str, Tensor]]
    result: Callable[[Work], dict[str, Any]]
    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)


def attack_command(problem: Problem, settings: Settings) -> Command:
    """Attack each block."""

    def block(index: Tensor) -> Mapping[str, Tensor]:
        return attack_block(problem.take(index), settings)

    return Command("attack", block, attack_result)


def audit_command(problem: Problem, settings: Settings, given: Given) -> Command:
    """Examine each block of given examples."""

    def block(index: Tensor) -> Mapping[str, Tensor]:
        return audit_block(problem.take(index), given[index], settings)

    tables = {"kind": KIND_NAMES, "correction": CORRECTIONS}
    return Command("audit", block, audit_result, tables)


def run_command(
    command: Command,
    problem: Problem,
    settings: Settings,
    store: Store,
    block_size: int,
    progress: Progress | None = None,
    messages: Sequence[str] = (),
) -> dict[str, Any]:
    """Do what is not yet in the store and write result.json.

    Args:
        command: what to do.
        problem: of all examples.
        settings: of the command.
        store: open for writing; its spec determines the result.
        block_size: examples per cell.
        progress: told after each block.
        messages: of warnings met before the first block.

    Returns:
        The content of result.json.
    """
    blocks = list(blocks_of(len(problem), block_size))
    cells = [
        Cell(command.name, {"run": store.run, "first": int(b[0]), "count": len(b)})
        for b in blocks
    ]
    finished = set(store.finished())
    todo = [cell for cell in cells if cell.name not in finished]
    number = {cell.name: index for index, cell in enumerate(cells)}
    if progress:
        progress(len(cells) - len(todo), len(cells))

    def done_to(cell: Cell) -> tuple[Mapping[str, Tensor], list[str], float]:
        began = time.monotonic()
        with collected_warnings() as texts:
            arrays = command.block(blocks[number[cell.name]])
        return arrays, texts, time.monotonic() - began

    tables = {
        "outcome": json.dumps(OUTCOME_NAMES),
        "verdict": json.dumps(VERDICT_NAMES),
        "evidence": json.dumps(EVIDENCE_NAMES),
        **{name: json.dumps(names) for name, names in command.tables.items()},
    }
    for done, (cell, (arrays, texts, seconds)) in enumerate(
        map_cells(done_to, todo), len(cells) - len(todo) + 1
    ):
        record = {"messages": texts, "seconds": seconds}
        store.put(cell, number[cell.name], record, arrays, tables)
        if progress:
            progress(done, len(cells))
    screening = _screened(problem, settings, store, len(cells))
    return _result(command, problem, settings, store, cells, screening, list(messages))


def _screened(
    problem: Problem, settings: Settings, store: Store, index: int
) -> Screening:
    """The failure screen, a cell like any other: done once, kept."""
    if not settings.screened:
        return Screening()
    cell = Cell("screen", {"run": store.run})
    known = store.finished().get(cell.name)
    if known is None:
        store.put(cell, index, screen(problem, settings.seed).as_json())
        known = store.finished()[cell.name]
    return Screening.of(known.values)


def _result(
    command: Command,
    problem: Problem,
    settings: Settings,
    store: Store,
    cells: list[Cell],
    screening: Screening,
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
    work = Work(
        problem,
        settings,
        arrays,
        messages,
        screening,
        round(seconds, 3),
        store.run,
        ["run.json", "store.sqlite", *(f"arrays/{name}" for name in files)],
    )
    result = command.result(work)
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
    (cell,) = (r.name for r in store.finished().values() if r.kind == "attack")
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


def _rivals_of(objective: object) -> dict[str, str]:
    """What tells targeted objectives of one class apart."""
    rivals = getattr(objective, "rivals", None)
    if rivals is None:
        return {}
    digest = digest_arrays({"rivals": torch.as_tensor(rivals)})
    return {"towards": digest, "over": str(getattr(objective, "over", ""))}


def specification(
    command: str,
    problem: Problem,
    settings: Settings,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that determines the result, but for the block size.

    The digest of both is the run's id.

    Args:
        command: "attack" or "audit".
        problem: of all examples.
        settings: of the command.
        names: how the user named model and data, and digests of what else was given.
    """
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    mask = {} if settings.mask is None else {"mask": digest_arrays({"": settings.mask})}
    return {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        **names,
        **fingerprint(problem),
        **mask,
        "norm": settings.region.norm,
        "radius": radius.tolist(),
        "box": list(settings.box) if settings.box else None,
        "objective": objective_name(problem.objective),
        **_rivals_of(problem.objective),
        "effort": asdict(settings.effort),
        "adversary": repr(settings.adversary),
        "screened": settings.screened,
        "seed": settings.seed,
        "until": repr(settings.until),
        "within": settings.within,
        "right_within": settings.right_within,
    }
