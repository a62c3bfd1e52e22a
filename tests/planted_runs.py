"""Runs of attacks and audits with made-up arrays, for what is said of them."""

import json

import torch

from summiteer import LinfBall
from summiteer.attack_summary import attack_result
from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.kinds import KIND_NAMES
from summiteer.auditing.summary import audit_result
from summiteer.examination import (
    EVIDENCE_NAMES,
    OUTCOME_NAMES,
    QUANTILES,
    VERDICT_NAMES,
    numbers_of,
)
from summiteer.objectives import CrossEntropy, Quadratic
from summiteer.problem import Problem
from summiteer.report.finished import Finished
from summiteer.runs import Blocks
from summiteer.screen import Screening
from summiteer.searching import SOURCE_NAMES, STOPPED, effort_of
from summiteer.settings import Settings
from summiteer.store import Store
from summiteer.summary import Work

TABLES = {
    "outcome": OUTCOME_NAMES,
    "verdict": VERDICT_NAMES,
    "evidence": EVIDENCE_NAMES,
    "source": SOURCE_NAMES,
    "stopped": STOPPED,
    "kind": KIND_NAMES,
    "correction": CORRECTIONS,
}
#: (verdict, evidence) that points have in turn.
POINTS = (
    ("STRICT_LOCAL_MAXIMUM", "PROVED"),
    ("GLOBAL_MAXIMUM", "PROVED"),
    ("LOCAL_MAXIMUM", "NUMERICAL"),
    ("NOT_STATIONARY", "PROVED"),
    ("SADDLE", "NUMERICAL"),
    ("UNDECIDED", "NUMERICAL"),
    ("FLAT", "PROVED"),
)


def arrays_of(count, shape=(64,), seed=0, labelled=True, bound=True, survivors=0.4):
    """Arrays of an attack; a share of the examples survives.

    Args:
        count: of examples.
        shape: of one input.
        seed: of all numbers.
        labelled: whether targets are labels.
        bound: whether robustness and the objective are bounded.
        survivors: share that survives.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*size):
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    kind = torch.arange(count) % len(POINTS)
    verdict = torch.tensor([VERDICT_NAMES.index(name) for name, _ in POINTS])[kind]
    evidence = torch.tensor([EVIDENCE_NAMES.index(name) for _, name in POINTS])[kind]
    survived = torch.arange(count) < round(survivors * count)
    # Every verdict is met among the survivors, which do not come first.
    survived = survived[torch.randperm(count, generator=generator)]
    nothing = torch.full((count,), torch.nan, dtype=torch.float64)
    losses = 1 + random(count)
    proved = torch.where(kind < 2, 1e-6 * random(count), nothing)
    robust = (survived & (random(count) < 0.5)).to(torch.int8)
    draws = torch.arange(count, dtype=torch.int32) % 6
    unseen = torch.where(draws > 0, 0.3 * random(count), nothing)
    # The first run and up to five restarts, the best of which is not above the end.
    ends = losses[:, None] - 0.5 * random(count, 6)
    ends[torch.arange(6) > draws[:, None]] = torch.nan
    paths = random(1, 2, 5, QUANTILES).float().sort(3).values
    steps = torch.arange(0, 50, 10, dtype=torch.int32)[None]
    return {
        "ids": 3 * torch.arange(count),
        "inputs": random(count, *shape).float(),
        "targets": torch.arange(count) % 3 if labelled else random(count),
        "perturbations": 0.1 * (2 * random(count, *shape) - 1),
        "losses": losses,
        "clean_losses": losses - 0.9,
        "residuals": 10 ** (-12 * random(count)),
        "verdict": verdict.to(torch.int8),
        "evidence": evidence.to(torch.int8),
        "correct": survived | (random(count) < 0.9),
        "masked": torch.zeros(count, dtype=torch.bool),
        "distance_bounds": proved,
        "loss_gap_bounds": proved,
        "upper_bounds": losses + random(count) if bound else nothing,
        "outcome": torch.zeros(count, dtype=torch.int8),
        "broken": torch.zeros(count, dtype=torch.bool),
        "period": torch.zeros(count, dtype=torch.int64),
        "incomplete": torch.zeros(count, dtype=torch.bool),
        "silent": torch.zeros(count, dtype=torch.bool),
        "rescued": torch.zeros(count, dtype=torch.int8),
        "source": torch.zeros(count, dtype=torch.int8),
        **dict.fromkeys(("draws", "spent", "maxima"), draws),
        "stopped": torch.zeros(count, dtype=torch.int8),
        "restart_losses": ends,
        "unseen": unseen,
        "unseen_bound": unseen + 0.2,
        "path_losses": paths,
        "path_losses_steps": steps,
        "path_residuals": paths,
        "path_residuals_steps": steps,
        "survived": survived,
        "steps": draws,
        "flipped": torch.zeros(count, dtype=torch.bool),
        "proved_robust": robust if bound else robust - 1 - robust,
        "gradient_evaluations": torch.tensor([7 * count]),
    }


def audit_arrays_of(count, **more):
    """Arrays of an audit.

    Args:
        count: of examples.
        more: as for `arrays_of`.
    """
    attacked = arrays_of(count, **more)
    zero = torch.zeros(count, dtype=torch.float64)
    kind = torch.arange(count) % len(KIND_NAMES)
    broken = kind == KIND_NAMES.index("NOT_FINITE")
    undecided = VERDICT_NAMES.index("UNDECIDED")
    numerical = EVIDENCE_NAMES.index("NUMERICAL")
    nan = torch.where(broken, torch.nan, 0.0).double()
    searched = ("source", "draws", "stopped", "spent", "maxima", "unseen")
    kept = {
        name: values
        for name, values in attacked.items()
        if not name.startswith((*searched, "path_"))
    }
    return kept | {
        "verdict": attacked["verdict"].masked_fill(broken, undecided),
        "evidence": attacked["evidence"].masked_fill(broken, numerical),
        "kind": kind.to(torch.int8),
        "length": 0.1 + nan,
        "radii": 1 + nan,
        "norms": torch.ones(count, 3).double(),
        "excess": zero,
        "box_excess": zero,
        "ulps": zero,
        "inside": ~broken,
        "rounded": broken & False,
        "levels": torch.zeros(count, dtype=torch.int64),
        "fits": torch.full((count,), -1),
        "factor": 1 + zero,
        "shift": zero,
        "given_losses": attacked["losses"] - 0.1 + nan,
        "reached_losses": attacked["losses"] + 0.1,
        "centre_losses": attacked["losses"],
        "gained": 0.1 + nan,
        "moved": zero,
        "clean_margins": zero - 1,
        "given_margins": zero - 0.5,
        "reached_margins": zero - 0.4,
        "claimed": attacked["survived"] | (torch.arange(count) % 2 == 0),
        "correction": torch.zeros(count, dtype=torch.int8),
    }


def planted(folder, arrays, command="attack", block=64, spec=(), result=()):
    """A finished run with these arrays.

    Args:
        folder: made.
        arrays: of all examples.
        command: "attack" or "audit".
        block: examples of one block.
        spec: more of it, or other values.
        result: more of it, or other values.
    """
    count, labelled = len(arrays["ids"]), not arrays["targets"].is_floating_point()
    said = {
        "command": command,
        "model": "model.py:build",
        "data": "digits",
        "within": 1e-3,
        "effort": {"budget": 380, "restarts": 4, "max_steps": 20},
        "adversary": "None",
        "block_size": block,
        **dict(spec),
    }
    with Store.open(folder, said) as store:
        blocks = Blocks.of(command, store, count)
        tables = {n: json.dumps(names) for n, names in TABLES.items() if n in arrays}
        for number in range(len(blocks)):
            rows = blocks.rows(number)
            part = {
                name: values[rows] if len(values) == count else values
                for name, values in arrays.items()
            }
            cell = blocks.cell(number)
            store.put(cell, number, {"messages": []}, part, tables)
        names = [blocks.cell(number).name for number in range(len(blocks))]
        numbers = numbers_of(map(store.arrays, names), count)
        radius, box = 0.1, (0.0, 1.0)
        objective = CrossEntropy() if labelled else Quadratic()
        problem = Problem(
            torch.nn.Flatten(),
            arrays["inputs"][:2],
            arrays["targets"][:2],
            objective,
            LinfBall(radius),
            box=box,
        )
        settings = Settings(
            region=LinfBall(radius),
            box=box,
            objective=objective,
            effort=effort_of("standard"),
            right_within=None if labelled else 1.8,
        )
        work = Work(
            problem, labelled, settings, numbers, [], Screening(), 1.5, store.run
        )
        found = attack_result(work) if command == "attack" else audit_result(work)
        store.write_json("result.json", {**found, **dict(result)})
    return Finished.read(folder)
