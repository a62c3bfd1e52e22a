"""The input scale on digits: claims C1, C3 and C4 in quick form (mathematics.md §11).

Two-layer networks at the paper's random initialisation, unit-norm digits times c,
targets ±1 (label ≥ 5), quadratic loss, ε/‖x‖ fixed. `quadratic` (t²/2) is the
homogeneous control: its indices and κ must not move with c at a fixed sign of u. The
maxima of ReLU networks are another (`studies.kinks`).
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._version import __version__
from summiteer.cells import Cell
from summiteer.data import load_data
from summiteer.driver import work_through
from summiteer.engine import Completion, Measurement
from summiteer.landscape import distinct_maxima
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Quadratic
from summiteer.optimality import Evidence, Verdict, local_optimality
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import UniformStart
from summiteer.store import Store
from summiteer.studies import kinks

ACTIVATIONS = ("softplus", "tanh", "quadratic")
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
SEEDS = 5
WIDTH, EXAMPLES, RESTARTS, RATIO, MAX_STEPS = 256, 16, 12, 0.3, 400
#: The control may move by rounding amplified by the end points' own residual.
CONTROL_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Condition:
    """One activation at one input scale; medians over end points unless said.

    Attributes:
        activation: σ.
        scale: c.
        runs: end points.
        maxima: share of runs that end in a local maximum, judged at their end point.
        low: lower end of its 95 % Clopper-Pearson interval, from one run per
            (network, image); images on one network are taken as independent.
        high: upper end of it.
        proved: share of runs whose end point is proved to be next to a maximum.
        best: share of runs proved to end in the global maximum of ½u².
        stationary: share of runs that reached the residual within the step limit.
        steps: to the residual (the step limit where it was not reached).
        steps_quartiles: lower and upper quartile.
        kappa: κ.
        index_global: λ⁺(M)/μ, measured.
        index_unique: 2λ⁺/(μ + g_min/ε).
        index_a_priori: q of Prop. 5, per image; None for ∞.
        distinct: mean number of distinct maxima per image.
        distinct_per_sign: the same counted within one sign of u.
        unseen: mean Good-Turing estimate of the chance of a new maximum.
        spread: (max - min)/max of the loss over the maxima of an image.
    """

    activation: str
    scale: float
    runs: int
    maxima: float
    low: float
    high: float
    proved: float
    best: float
    stationary: float
    steps: float
    steps_quartiles: tuple[float, float]
    kappa: float | None
    index_global: float | None
    index_unique: float | None
    index_a_priori: float | None
    distinct: float
    distinct_per_sign: float
    unseen: float | None
    spread: float | None


@dataclass(frozen=True)
class ScaleSummary:
    """What the study found.

    Attributes:
        rows: one per (activation, scale).
        control_drift: largest relative change over c of κ and the indices of the
            homogeneous control, at the same network, image and sign of u.
        control_pairs: how many (network, image, sign) were seen at two scales or more.
        seconds: of computing, all cells.
        protocol: the study's settings.
        relu: maxima of ReLU networks without and with biases, carried over c.
    """

    rows: tuple[Condition, ...]
    control_drift: float
    control_pairs: int
    seconds: float
    protocol: Mapping[str, Any]
    relu: tuple[kinks.KinkControl, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether the control did not move with c, as it must not."""
        return self.control_pairs > 0 and self.control_drift <= CONTROL_TOLERANCE


def specification(seed: int) -> dict[str, Any]:
    """What determines the result.

    Args:
        seed: the first of `SEEDS` consecutive ones.
    """
    return {
        "command": "reproduce --quick",
        "version": __version__,
        "torch": torch.__version__,
        "activations": list(ACTIVATIONS),
        "scales": list(SCALES),
        "seeds": list(range(seed, seed + SEEDS)),
        "width": WIDTH,
        "examples": EXAMPLES,
        "restarts": RESTARTS,
        "ratio": RATIO,
        "max_steps": MAX_STEPS,
        "relu": {
            "bias_std": list(kinks.BIASES),
            "networks": kinks.SEEDS,
            "restarts": kinks.RESTARTS,
        },
    }


def run(
    store: Store, progress: Callable[[int, int], None] | None = None
) -> ScaleSummary:
    """Measure the cells that are not in the store yet, and summarise all.

    Args:
        store: open, with `specification` as its spec.
        progress: told (done, total) after each cell.
    """
    spec: Any = store.spec
    curves = [
        Cell("scale", {"activation": activation, "scale": scale, "seed": seed})
        for activation in spec["activations"]
        for scale in spec["scales"]
        for seed in spec["seeds"]
    ]
    cells = [*curves, *kinks.cells(spec)]
    finished = store.finished()
    todo = [(n, cell) for n, cell in enumerate(cells) if cell.name not in finished]
    count = [len(cells) - len(todo)]

    def report(_: Completion) -> None:
        count[0] += 1
        if progress:
            progress(count[0], len(cells))

    work_through(store, todo, measured, None, report, keep_failures=False)
    records = store.finished()
    where: list[Any] = [records[cell.name].environment for cell in cells]
    seconds = sum(each["seconds"] for each in where)
    found: dict[tuple[Any, Any, Any], Mapping[str, Tensor]] = {}
    moved: dict[Any, list[Tensor]] = {}
    for cell in cells:
        arrays = store.arrays(cell.name)
        if cell.kind == "kinks":
            moved.setdefault(cell.spec["bias_std"], []).append(arrays["moved"])
        else:
            key = (cell.spec["activation"], cell.spec["scale"], cell.spec["seed"])
            found[key] = arrays
    relu = tuple(kinks.summarise(bias, each) for bias, each in moved.items())
    return replace(summarise(found, seconds, spec), relu=relu)


def measured(cell: Cell) -> Measurement:
    """A cell of either kind, measured."""
    _, arrays = kinks.measure(cell) if cell.kind == "kinks" else measure(cell)
    return Measurement({}, arrays)


def measure(cell: Cell) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One network at one scale: ascent from random starts, verdicts at the ends.

    Args:
        cell: activation, scale and seed.

    Returns:
        The record, and arrays `[restarts, examples]` (q: `[examples]`).
    """
    began = time.monotonic()
    scale, seed = float(cell.spec["scale"]), int(cell.spec["seed"])  # type: ignore[arg-type]
    problem = digits_problem(str(cell.spec["activation"]), scale, seed)
    ascent = ascend(
        problem,
        start=UniformStart(restarts=RESTARTS, seed=seed),
        max_steps=MAX_STEPS,
    )
    index = torch.arange(len(problem)).repeat(RESTARTS)
    runs = problem.take(index)
    certificate = local_optimality(runs, ascent.final.flatten(0, 1))
    shape = (RESTARTS, len(problem))
    maximum = certificate.maximum.reshape(shape)
    proved = torch.tensor([e is Evidence.PROVED for e in certificate.evidence])
    best = torch.tensor([v is Verdict.GLOBAL_MAXIMUM for v in certificate.verdict])
    found = distinct_maxima(ascent.final, problem.size, maximum)
    network = problem.model
    with torch.no_grad():
        excess = network(runs.inputs + ascent.final.flatten(0, 1)) - runs.targets
    stationary = torch.from_numpy(
        np.asarray(ascent.outcome == Outcome.STATIONARY, dtype=bool)
    )
    arrays = {
        "maximum": maximum,
        "proved": maximum & proved.reshape(shape),
        "best": best.reshape(shape),
        "stationary": stationary,
        "steps": ascent.steps,
        "loss": ascent.losses,
        "residual": ascent.residual,
        "sign": excess.sign().reshape(shape).to(torch.int8),
        "label": found.label,
        "unseen": found.unseen,
        "kappa": certificate.curvature_ratio.reshape(shape),
        **{
            name: values.reshape(shape).contiguous()
            for name, values in certificate.indices.items()
        },
    }
    return {"seconds": time.monotonic() - began}, arrays


def digits_problem(activation: str, scale: float, seed: int) -> Problem:
    """The paper's problem on digits.

    Args:
        activation: σ.
        scale: c.
        seed: of the network.

    Returns:
        `EXAMPLES` images of unit norm times c, targets ±1, quadratic loss, ε = 0.3·c.
    """
    digits = load_data("digits")
    inputs = digits.inputs[:EXAMPLES].double()
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(digits.targets[:EXAMPLES] >= 5, 1.0, -1.0).double()
    network = TwoLayerNetwork.random(inputs.shape[1], WIDTH, activation, seed=seed)
    return Problem(network, inputs, targets, Quadratic(), L2Ball(RATIO * scale))


def summarise(
    arrays: Mapping[tuple[Any, Any, Any], Mapping[str, Tensor]],
    seconds: float,
    protocol: Mapping[str, Any],
) -> ScaleSummary:
    """Numbers of the table from the cells' arrays.

    Args:
        arrays: (activation, scale, seed) -> arrays of `measure`.
        seconds: spent on all cells.
        protocol: the specification.
    """
    rows = []
    for activation in ACTIVATIONS:
        for scale in SCALES:
            cells = [
                cell for key, cell in arrays.items() if key[:2] == (activation, scale)
            ]
            rows.append(_row(activation, scale, cells))
    control = {key[1:]: cell for key, cell in arrays.items() if key[0] == "quadratic"}
    drift, pairs = control_drift(control)
    return ScaleSummary(tuple(rows), drift, pairs, round(seconds, 1), dict(protocol))


def _row(activation: str, scale: float, cells: list[Mapping[str, Tensor]]) -> Condition:
    def joined(name: str) -> Tensor:
        return torch.cat([cell[name] for cell in cells], dim=-1)

    maximum, steps = joined("maximum"), joined("steps").double()
    stationary = joined("stationary")
    one_run = maximum[0]  # the first restart of every (network, image)
    low, high = clopper_pearson(int(one_run.sum()), len(one_run))
    quartiles = steps.flatten().quantile(torch.tensor([0.25, 0.75]).double())
    label, loss, sign = joined("label"), joined("loss"), joined("sign")
    counts, per_sign = _counts(label, sign)
    counted = torch.where(maximum, loss, torch.nan)
    most = counted.nan_to_num(-torch.inf).amax(0)
    least = counted.nan_to_num(torch.inf).amin(0)
    spread = ((most - least) / most)[maximum.any(0)]
    return Condition(
        activation=activation,
        scale=scale,
        runs=maximum.numel(),
        maxima=float(maximum.double().mean()),
        low=low,
        high=high,
        proved=float(joined("proved").double().mean()),
        best=float(joined("best").double().mean()),
        stationary=float(stationary.double().mean()),
        steps=float(steps.median()),
        steps_quartiles=(float(quartiles[0]), float(quartiles[1])),
        kappa=_median(joined("kappa")[maximum]),
        index_global=_median(joined("global")[maximum]),
        index_unique=_median(joined("unique")[maximum]),
        index_a_priori=_median(joined("a_priori")[0]),
        distinct=counts,
        distinct_per_sign=per_sign,
        unseen=_mean(joined("unseen")),
        spread=_median(spread),
    )


def _counts(label: Tensor, sign: Tensor) -> tuple[float, float]:
    """Mean number of distinct maxima per image, and per (image, sign of u)."""
    per_image, per_sign = [], []
    for i in range(label.shape[1]):
        seen = {
            (int(s), int(k))
            for s, k in zip(sign[:, i], label[:, i], strict=True)
            if k >= 0
        }
        per_image.append(len({k for _, k in seen}))
        signs = {s for s, _ in seen}
        per_sign += [len({k for t, k in seen if t == s}) for s in signs]
    return float(np.mean(per_image)), float(np.mean(per_sign)) if per_sign else 0.0


def control_drift(
    cells: Mapping[tuple[Any, Any], Mapping[str, Tensor]],
) -> tuple[float, int]:
    """How much κ and the indices of the homogeneous control move with c.

    Args:
        cells: (scale, seed) -> arrays of `measure`.

    Returns:
        The largest relative change at the same (network, image, sign of u), taken at
        the highest maximum of that sign, and how many such triples were compared.
    """
    seen: dict[tuple[Any, int, int], list[Tensor]] = {}
    for (_, seed), cell in cells.items():
        for i in range(cell["loss"].shape[1]):
            for sign in (-1, 1):
                usable = cell["maximum"][:, i] & (cell["sign"][:, i] == sign)
                if not bool(usable.any()):
                    continue
                losses = torch.where(usable, cell["loss"][:, i], -torch.inf)
                best = int(losses.argmax())
                values = [cell[name][best, i] for name in ("kappa", "global", "unique")]
                seen.setdefault((seed, i, sign), []).append(torch.stack(values))
    drift, pairs = 0.0, 0
    for values in seen.values():
        if len(values) > 1:
            stacked = torch.stack(values)
            middle = stacked.median(0).values
            change = ((stacked - middle) / middle).abs()
            # What is not a number is no evidence of being flat.
            drift = max(drift, float(change.nan_to_num(torch.inf).max()))
            pairs += 1
    return drift, pairs


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (`clopper1934use`).

    Args:
        successes: k.
        trials: n > 0.
    """
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    rest = trials - successes
    high = beta.ppf(0.975, successes + 1, rest) if rest else 1.0
    return float(low), float(high)


def result(summary: ScaleSummary, run_id: str) -> dict[str, Any]:
    """The content of result.json; infinite indices are null.

    Args:
        summary: what was found.
        run_id: of the store.
    """
    return {
        "schema": 1,
        "command": "reproduce",
        "version": __version__,
        "run": run_id,
        "protocol": dict(summary.protocol),
        "rows": [asdict(row) for row in summary.rows],
        "control": {
            "drift": summary.control_drift,
            "pairs": summary.control_pairs,
            "flat": summary.flat,
            "relu": [
                {**asdict(each), "as_expected": each.as_expected}
                for each in summary.relu
            ],
        },
        "seconds": summary.seconds,
        "files": ["run.json", "store.sqlite", "report.html"],
    }


def _median(values: Tensor) -> float | None:
    known = values[~values.isnan()]
    middle = float(known.double().median()) if len(known) else math.inf
    return middle if math.isfinite(middle) else None


def _mean(values: Tensor) -> float | None:
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None
