"""A command as a run in a directory: one cell per block, resumed where it stopped."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self

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
from summiteer.cells import JSON, Cell, digest_arrays, finite
from summiteer.data import Property
from summiteer.driver import Progress, counting, work_through
from summiteer.engine import Engine, Measurement
from summiteer.errors import collected_warnings
from summiteer.examination import (
    EVIDENCE_NAMES,
    OUTCOME_NAMES,
    VERDICT_NAMES,
    numbers_of,
)
from summiteer.interruption import check
from summiteer.population import Population
from summiteer.problem import Problem
from summiteer.screen import Screening, drawn, screen
from summiteer.searching import SOURCE_NAMES, STOPPED
from summiteer.settings import Settings
from summiteer.store import Store
from summiteer.summary import Work, objective_name
from summiteer.violation import property_margins

#: The failure screen is given at least so many examples, or inputs of so many numbers
#: in all, if there are as many.
_SCREENED_EXAMPLES, _SCREENED_NUMBERS = 256, 2**23


def fingerprint(model: Model) -> dict[str, str]:
    """Digest and text of the model, for the run's specification.

    Args:
        model: the caller's.

    Returns:
        "weights" as a digest, "layers": the text of the module, or the name of a
        callable that is none.
    """
    module = isinstance(model, nn.Module)
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    name = getattr(model, "__qualname__", type(model).__qualname__)
    return {
        "layers": repr(model) if module else name,
        "weights": digest_arrays(tensors),
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


def attack_command(population: Population, settings: Settings) -> Command:
    """Attack each block."""

    def block(index: Tensor) -> Mapping[str, Tensor]:
        return attack_block(population.part(index), settings)

    tables = {} if settings.adversary else {"source": SOURCE_NAMES, "stopped": STOPPED}
    return Command("attack", block, attack_result, tables)


def audit_command(
    population: Population,
    settings: Settings,
    given: Callable[[Problem, Tensor], Given],
) -> Command:
    """Examine each block of given examples.

    Args:
        population: of all examples.
        settings: of the audit.
        given: a block's problem and indices -> what the tool left of it.
    """

    def block(index: Tensor) -> Mapping[str, Tensor]:
        problem = population.part(index)
        return audit_block(problem, given(problem, index), settings)

    tables = {"kind": KIND_NAMES, "correction": CORRECTIONS}
    return Command("audit", block, audit_result, tables)


@dataclass(frozen=True)
class Blocks:
    """The cells of a run, made when they are asked for: there may be very many.

    Attributes:
        kind: the command.
        run: the run's id.
        count: examples of all blocks.
        size: examples of one.
    """

    kind: str
    run: str
    count: int
    size: int

    @classmethod
    def of(cls, kind: str, store: Store, count: int) -> Self:
        """The cells of a run in a store.

        Args:
            kind: the command.
            store: whose spec says how many examples a cell has.
            count: examples of all blocks.
        """
        return cls(kind, store.run, count, int(str(store.spec["block_size"])))

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def rows(self, number: int) -> Tensor:
        """Return the indices of a block's examples.

        Args:
            number: of the block.
        """
        first = number * self.size
        return torch.arange(first, min(first + self.size, self.count))

    def cell(self, number: int) -> Cell:
        """Return the cell of a block.

        Args:
            number: of the block.
        """
        rows = self.rows(number)
        spec: dict[str, JSON] = {"run": self.run, "first": int(rows[0])}
        spec["count"] = len(rows)
        return Cell(self.kind, spec)


def run_command(
    command: Command,
    population: Population,
    settings: Settings,
    store: Store,
    progress: Progress | None = None,
    messages: Sequence[str] = (),
    engine: Engine | None = None,
    function: Callable[[Cell], Measurement] | None = None,
) -> dict[str, Any]:
    """Do what is not yet in the store and write result.json.

    Args:
        command: what to do.
        population: all examples.
        settings: of the command.
        store: open for writing; its spec determines the result, and says how many
            examples a cell has.
        progress: told after each block.
        messages: of warnings met before the first block.
        engine: runs the blocks; this process if None.
        function: does the command's block where the engine's workers are; picklable.
            The command itself if None.

    Returns:
        The content of result.json.
    """
    blocks = Blocks.of(command.name, store, len(population))
    finished = store.names()
    todo = [n for n in range(len(blocks)) if blocks.cell(n).name not in finished]
    report = counting(progress, len(blocks) - len(todo), len(blocks))
    work_through(
        store,
        ((n, blocks.cell(n)) for n in todo),
        function or partial(measured_block, command),
        engine,
        report,
        keep_failures=False,
    )
    screening = _screened(population, settings, store, len(blocks))
    return _result(
        command, population, settings, store, blocks, screening, list(messages)
    )


def measured_block(command: Command, cell: Cell) -> Measurement:
    """What is recorded of a block.

    Args:
        command: what is done to it.
        cell: one of `Blocks`.
    """
    spec: Any = cell.spec
    rows = torch.arange(spec["first"], spec["first"] + spec["count"])
    with collected_warnings() as texts:
        arrays = command.block(rows)
    tables = {
        "outcome": json.dumps(OUTCOME_NAMES),
        "verdict": json.dumps(VERDICT_NAMES),
        "evidence": json.dumps(EVIDENCE_NAMES),
        **{name: json.dumps(names) for name, names in command.tables.items()},
    }
    return Measurement({"messages": texts}, arrays, tables)


def _screened(
    population: Population, settings: Settings, store: Store, index: int
) -> Screening:
    """The failure screen, a cell like any other: done once, kept."""
    if not settings.screened:
        return Screening()
    cell = Cell("screen", {"run": store.run})
    if cell.name not in store.names():
        # Of many examples those that it draws its samples from, and more.
        numbers = population.head.inputs[0].numel()
        most = max(_SCREENED_EXAMPLES, _SCREENED_NUMBERS // numbers)
        part = population.part(drawn(population.ids, settings.seed, most))
        found = screen(part, settings.seed).as_json()
        check()
        store.put(cell, index, found)
    return Screening.of(store.record(cell.name).values)


def _result(
    command: Command,
    population: Population,
    settings: Settings,
    store: Store,
    blocks: Blocks,
    screening: Screening,
    messages: list[str],
) -> dict[str, Any]:
    """result.json from what is stored: the same whether or not it was interrupted."""
    names = [blocks.cell(number).name for number in range(len(blocks))]
    seconds = 0.0
    for name in names:
        record: Any = store.record(name)
        values, seconds = record.values, seconds + record.environment["seconds"]
        messages += [text for text in values["messages"] if text not in messages]
    files = sorted(path.name for path in (store.directory / "arrays").iterdir())
    work = Work(
        population.head,
        population.labelled,
        settings,
        recorded_numbers(store, blocks),
        messages,
        screening,
        round(seconds, 3),
        store.run,
        ["run.json", "store.sqlite", *(f"arrays/{name}" for name in files)],
    )
    result = command.result(work)
    store.write_json("result.json", result)
    return result


def recorded_numbers(store: Store, blocks: Blocks) -> dict[str, Tensor]:
    """Return what a finished run recorded in a few numbers per example.

    Args:
        store: of the run.
        blocks: its blocks.
    """
    names = (blocks.cell(number).name for number in range(len(blocks)))
    return numbers_of((store.arrays(name) for name in names), blocks.count)


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
    arrays = store.arrays(cell)
    point = problem.inputs.double() + arrays["perturbations"]
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
            "margin": finite(found.margin),
            "margin_in_model_dtype": finite(found.own),
            "source": SOURCE_NAMES[int(arrays["source"])]
            if "source" in arrays
            else None,
        },
        "files": files,
    }
    store.write_json("result.json", judged)
    return judged


def _rivals_of(objective: object) -> dict[str, str]:
    """What tells targeted objectives of one class apart."""
    rivals = getattr(objective, "rivals", None)
    if rivals is None:
        return {}
    digest = digest_arrays({"rivals": torch.as_tensor(rivals)})
    return {"towards": digest, "over": str(getattr(objective, "over", ""))}


def specification(
    command: str,
    population: Population,
    settings: Settings,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that determines the result, but for the block size.

    The digest of both is the run's id.

    Args:
        command: "attack" or "audit".
        population: all examples.
        settings: of the command.
        names: how the user named model and data, and digests of what else was given.
    """
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    objective = population.head.objective
    return {
        "command": command,
        "version": __version__,
        "torch": torch.__version__,
        **names,
        **fingerprint(population.head.model),
        **population.digests,
        "norm": settings.region.norm,
        "radius": radius.tolist(),
        "box": list(settings.box) if settings.box else None,
        "objective": objective_name(objective),
        **_rivals_of(objective),
        "effort": asdict(settings.effort),
        "adversary": repr(settings.adversary),
        "screened": settings.screened,
        "device": population.head.inputs.device.type,
        "seed": settings.seed,
        "until": repr(settings.until),
        "within": settings.within,
        "right_within": settings.right_within,
    }
