"""All claims measured into one store, and judged by their rules."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

from summiteer.cells import Cell, as_json
from summiteer.driver import Progress
from summiteer.engine import Engine
from summiteer.environment import environment
from summiteer.store import Store
from summiteer.studies import claims as all_claims
from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Row,
    Standing,
)
from summiteer.studies.experiments import measured
from summiteer.studies.running import measure_missing
from summiteer.studies.study import Study

#: Of result.json.
SCHEMA = 1
#: Experiments that judge end points of two-layer networks.
_TWO_LAYER = ("climb", "losses")


@dataclass
class Plan:
    """What has been asked for so far: it grows while claims name further studies.

    Attributes:
        claims: in order.
        extent: how much of each.
        seed: added to the seeds of all studies.
        studies: name -> study, of each claim.
        named: all of them, in the order in which they were named: the cells of later
            ones come after those that are numbered already.
    """

    claims: Sequence[Claim]
    extent: Extent
    seed: int
    studies: dict[str, dict[str, Study]] = field(default_factory=dict)
    named: list[Study] = field(default_factory=list)

    def grow(self, known: dict[str, dict[str, list[Row]]]) -> bool:
        """Ask every claim for its studies; whether one named a new one.

        One with failed cells is not asked: it might name others once they are done.

        Args:
            known: key of a claim -> name of a study -> rows.
        """
        grown = False
        for claim in self.claims:
            mine = self.studies.setdefault(claim.key, {})
            if self.missing(claim, known.get(claim.key, {})):
                continue
            for study in claim.studies(self.extent, known.get(claim.key, {})):
                if study.name not in mine:
                    seeds = [self.seed + seed for seed in study.seeds]
                    mine[study.name] = study.model_copy(update={"seeds": seeds})
                    self.named.append(mine[study.name])
                    grown = True
        return grown

    def missing(self, claim: Claim, known: dict[str, list[Row]]) -> int:
        """How many cells of the claim's studies have no row.

        Args:
            claim: one of the claims.
            known: name of a study -> rows.
        """
        planned = sum(len(s.cells()) for s in self.studies[claim.key].values())
        return planned - sum(len(rows) for rows in known.values())

    def cells(self) -> list[Cell]:
        """All cells, those that studies share once."""
        return [*dict.fromkeys(c for s in self.named for c in s.cells())]


@dataclass(frozen=True)
class Reproduction:
    """What was found.

    Attributes:
        claims: that were judged.
        judgements: of each claim.
        cells: measured, and failed.
        decided: share of end points of two-layer networks that are not UNDECIDED;
            None if there are none.
        seconds: of computing, per claim; cells of several claims count for the first.
        errors: of failed cells, each text once.
    """

    claims: Sequence[Claim]
    judgements: Sequence[Sequence[Judgement]]
    cells: tuple[int, int]
    decided: float | None
    seconds: dict[str, float]
    errors: Sequence[str]


def specification(
    claims: Sequence[Claim], extent: Extent, seed: int
) -> dict[str, object]:
    """What determines the result.

    Args:
        claims: that are measured.
        extent: how much.
        seed: added to the seeds of all studies.
    """
    plan = Plan(claims, extent, seed)
    plan.grow({})
    return {
        "command": "reproduce",
        "version": environment()["version"],
        "torch": environment()["torch"],
        "extent": extent,
        "seed": seed,
        "studies": {
            key: [as_json(study.model_dump(mode="json")) for study in mine.values()]
            for key, mine in plan.studies.items()
        },
    }


def reproduce(
    store: Store,
    claims: Sequence[Claim],
    extent: Extent,
    seed: int,
    engine: Engine | None = None,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> Reproduction:
    """Measure what the store lacks, and judge.

    Args:
        store: open for writing, with `specification` as its spec.
        claims: to be judged.
        extent: how much is measured.
        seed: added to the seeds of all studies.
        engine: runs the cells; this process if None.
        progress: told after each cell.
        retry_failed: whether cells that failed in an earlier run are run again.
    """
    plan = Plan(claims, extent, seed)
    known: dict[str, dict[str, list[Row]]] = {}
    while plan.grow(known):
        measure_missing(plan.cells(), store, measured, engine, retry_failed, progress)
        known = _rows(plan, store)
    judgements = [_judged(claim, plan, known[claim.key]) for claim in claims]
    failed = store.failed()
    errors = Counter(str(record.values["error"]) for record in failed.values())
    return Reproduction(
        claims,
        judgements,
        (len(store.names()), len(failed)),
        _decided(plan, known),
        _seconds(plan, store),
        [f"{text} ({count} cells)" for text, count in sorted(errors.items())],
    )


def _rows(plan: Plan, store: Store) -> dict[str, dict[str, list[Row]]]:
    """What the store has of every study of every claim."""
    done = store.finished()

    @cache
    def row(cell: Cell) -> Row:
        values: Any = done[cell.name]
        arrays = cache(partial(store.arrays, cell.name))
        return Row(values.spec, values.values, arrays)

    return {
        key: {
            name: [row(cell) for cell in study.cells() if cell.name in done]
            for name, study in mine.items()
        }
        for key, mine in plan.studies.items()
    }


def _judged(
    claim: Claim, plan: Plan, known: dict[str, list[Row]]
) -> Sequence[Judgement]:
    """The verdicts; none where cells failed, for the rule speaks of all of them."""
    failed = plan.missing(claim, known)
    if not failed:
        return claim.judge(known, plan.extent)
    sentence = f"{failed} cells failed"
    return [Judgement("all", "everywhere", Standing.NOT_JUDGED, sentence)]


def _decided(plan: Plan, known: dict[str, dict[str, list[Row]]]) -> float | None:
    """Of all end points that were judged; those of shared cells count once."""
    judged = {
        id(row): row.record
        for key, mine in plan.studies.items()
        for name, study in mine.items()
        if study.experiment in _TWO_LAYER
        for row in known[key][name]
        if "decided" in row.record
    }
    runs = sum(record["runs"] for record in judged.values())
    decided = sum(record["decided"] for record in judged.values())
    return decided / runs if runs else None


def _seconds(plan: Plan, store: Store) -> dict[str, float]:
    done: Any = store.finished()
    met: set[str] = set()
    found = {}
    for key, mine in plan.studies.items():
        names = {cell.name for study in mine.values() for cell in study.cells()} - met
        met |= names
        taken = sum(done[n].environment["seconds"] for n in names if n in done)
        found[key] = round(taken, 1)
    return found


def reproduce_command(spec: Mapping[str, Any]) -> str:
    """The command line that gives a run with this specification.

    Args:
        spec: of the run.
    """
    keys = [*spec["studies"]]
    words = ["summiteer", "reproduce"]
    words += [] if spec["extent"] == "full" else [f"--{spec['extent']}"]
    words += (
        [f"--only={key}" for key in keys] if len(keys) < len(all_claims.CLAIMS) else []
    )
    return shlex.join(words + ([f"--seed={spec['seed']}"] if spec["seed"] else []))


def result(found: Reproduction, store: Store) -> dict[str, Any]:
    """The content of result.json; nothing in it depends on when or where it ran.

    Args:
        found: what was found.
        store: of the run.
    """
    spec = store.spec
    return {
        "schema": SCHEMA,
        "command": "reproduce",
        "version": spec["version"],
        "run": store.run,
        "extent": spec["extent"],
        "seed": spec["seed"],
        "cells": {"done": found.cells[0], "failed": found.cells[1]},
        "errors": list(found.errors),
        "decided": found.decided,
        "claims": [
            {
                "key": claim.key,
                "title": claim.title,
                "statement": claim.statement,
                "rule": claim.rule,
                "judgements": [_plain(each) for each in judgements],
            }
            for claim, judgements in zip(found.claims, found.judgements, strict=True)
        ],
        "files": ["run.json", "store.sqlite", "seconds.json"],
    }


def _plain(judgement: Judgement) -> dict[str, Any]:
    low, high = judgement.low, judgement.high
    half = None if low is None or high is None else (high - low) / 2
    plain = asdict(judgement) | {"standing": judgement.standing.value}
    return plain | {"half_width": half}
