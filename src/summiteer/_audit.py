"""Other tools' adversarial examples, examined: what are they, and what is left?"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.adversaries import default_adversary, default_attack
from summiteer.ascent import Ascent
from summiteer.auditing.excess import (
    Excess,
    displaced,
    excess_of,
    length_of,
    norms_of,
    size_of,
)
from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.given import Given, given_of
from summiteer.auditing.kinds import kinds_of
from summiteer.auditing.summary import audit_result
from summiteer.auditing.words import account, told
from summiteer.errors import SummiteerWarning, UserError, collected_warnings
from summiteer.examination import (
    EVIDENCE_NAMES,
    VERDICT_NAMES,
    block_size_of,
    blocks_of,
    examined,
    gather,
    problem_of,
    proved_robustness,
)
from summiteer.findings import Finding
from summiteer.memory import enough
from summiteer.objectives import Margin, Objective
from summiteer.optimality import Verdict
from summiteer.outcome import Outcome, codes
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.screen import Screening, screen
from summiteer.searching import Effort
from summiteer.settings import Settings
from summiteer.starts import CentreStart, GivenStart
from summiteer.summary import Work

#: One run from the point that is examined, one from the centre.
EFFORT = Effort(restarts=0, max_steps=100, more_steps=0)


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit found.

    Attributes:
        arrays: per example, see `audit_block`.
        result: the content of result.json (architecture.md), without run and files.
    """

    arrays: Mapping[str, Tensor]
    result: Mapping[str, Any]

    @property
    def claimed_robust_accuracy(self) -> float | None:
        """Share correct at the given examples as they are; None for regression."""
        claimed: float | None = self.result["claimed_robust_accuracy"]
        return claimed

    @property
    def corrected_robust_accuracy(self) -> float | None:
        """Share that no allowed point found here breaks; None for regression."""
        corrected: float | None = self.result["corrected_robust_accuracy"]
        return corrected

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What makes the claimed accuracy mean less than it seems to."""
        return tuple(Finding.of(entry) for entry in self.result["findings"])

    def explain(self, i: int) -> str:
        """Say in a few lines what the i-th given example is and what is left.

        Args:
            i: its place among the examples.

        Raises:
            UserError: there is no such example.
        """
        if not -len(self) <= i < len(self):
            raise UserError(f"i: expected an index below {len(self)}, got {i}.")
        return told(self.arrays, self.result, i % len(self))

    def __len__(self) -> int:
        return len(self.arrays["ids"])

    def __repr__(self) -> str:
        return account(self.result)


def audit(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    adversarial_inputs: Tensor,
    *,
    region: Region,
    box: tuple[float, float] | None = (0.0, 1.0),
    objective: Objective | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    within: float = tolerances.WITHIN,
    block_size: int | None = None,
    screened: bool = True,
) -> Audit:
    """Examine adversarial examples that any tool made.

    Args:
        model: an nn.Module or callable; run in eval mode, left as it was.
        inputs: `[n, *input]` the clean inputs, in the model's dtype.
        targets: labels, ±1 or floats; see `default_objective`.
        adversarial_inputs: `[n, *input]` in any dtype, in the units of `inputs`; what
            attack libraries return is turned into it by `summiteer.adapters`.
        region: the set of perturbations that the tool was to keep to.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended.
        mask: bool, which coordinates may move.
        seed: of the failure screen's sample.
        within: search distance of verdicts, in radii.
        block_size: examples at once; chosen by memory if None.
        screened: whether the failure screen looks at model and data.

    Returns:
        `Audit`.

    Raises:
        UserError: an argument cannot be used.

    Warns:
        SummiteerWarning: what makes the claimed accuracy mean less than it seems to.
    """
    settings = Settings(
        region=region,
        box=box,
        objective=objective,
        effort=EFFORT,
        seed=seed,
        within=within,
        mask=mask,
        screened=screened,
    )
    began = time.monotonic()
    with collected_warnings() as messages:
        problem = problem_of(model, inputs, targets, settings)
        given = given_of(problem, adversarial_inputs)
        problem.examine(warn=not screened)
        size = block_size_of(problem, settings, block_size)
        screening = screen(problem, seed) if screened else Screening()
        blocks = [
            audit_block(problem.take(index), given[index], settings)
            for index in blocks_of(len(problem), size)
        ]
    arrays = gather(blocks)
    seconds = round(time.monotonic() - began, 3)
    work = Work(
        problem,
        problem.labelled,
        settings,
        arrays,
        messages,
        screening,
        seconds,
    )
    result = audit_result(work)
    for finding in result["findings"]:
        warnings.warn(finding["text"], SummiteerWarning, stacklevel=2)
    return Audit(arrays, result)


def audit_block(
    problem: Problem, given: Given, settings: Settings
) -> dict[str, Tensor]:
    """Examine one block of given examples, and ascend from them.

    Args:
        problem: of the block's examples.
        given: what the tool left of them.
        settings: of the audit.

    Returns:
        The arrays of `examined` at the given points (projected where outside; at the
        centre, and undecided, where not finite) and, with one entry per example:
        what was given: kind (code of `Kind`), length, excess, box_excess (in units of
        inputs), radii (length in radii), norms (L∞, L2 and L1 in radii), ulps, inside,
        rounded (see `Excess`), levels, fits, factor, shift (see `Given`),
        given_losses; what is left: reached_losses, centre_losses, gained,
        moved (radii), steps, outcome, broken; for labels clean_margins, given_margins,
        reached_margins; and claimed (right at the given input as it is), survived (no
        allowed point found here breaks it), correction (code in `CORRECTIONS`),
        proved_robust, gradient_evaluations.

    Raises:
        UserError: the block does not fit into memory.
    """
    with enough(len(problem)):
        return _audited(problem, given, settings)


def _audited(problem: Problem, given: Given, settings: Settings) -> dict[str, Tensor]:
    """See `audit_block`."""
    excess = excess_of(problem, given.inputs, given.rounding, given.step)
    points = _allowed(problem, given)
    arrays = examined(problem, points, settings.within)
    near = _onwards(problem, points, arrays, settings)
    # No tolerance: where a cross-entropy is saturated, every point looks stationary.
    most = settings.effort.max_steps
    method = default_attack(problem.feasible, most)
    far = ascend(problem, method, CentreStart(), most, tolerance=None)
    with undisturbed(problem.model):
        arrays |= _seen(problem, given, excess, settings)
        arrays |= _gains(problem, points, arrays, near, far)
        arrays |= _judged(problem, given, excess, points, arrays, near, far)
    spent = near.gradient_evaluations + far.gradient_evaluations
    arrays |= {
        "proved_robust": proved_robustness(problem, arrays["survived"]),
        "gradient_evaluations": torch.tensor([spent]),
    }
    return _without_nonsense(arrays, excess.length.isnan().cpu())


def _onwards(
    problem: Problem,
    points: Tensor,
    arrays: Mapping[str, Tensor],
    settings: Settings,
) -> Ascent:
    """Backtracking ascent from the very points.

    Where a cross-entropy is saturated, its gradient is small beside that elsewhere in
    the region, and the run does not begin. If the certificate does not find a maximum
    there, it does so without a tolerance.
    """
    method, most = default_adversary(problem.feasible), settings.effort.max_steps
    near = ascend(problem, method, GivenStart(points), most)
    maximum = torch.tensor([Verdict[name].is_maximum for name in VERDICT_NAMES])
    still = torch.from_numpy((near.outcome == Outcome.STATIONARY)[0])
    still = still & (near.steps[0] == 0).cpu() & ~maximum[arrays["verdict"].long()]
    again = still.nonzero().flatten()
    if not (problem.labelled and len(again)):
        return near
    some = problem.take(again)
    start = GivenStart(points[again])
    return near.with_examples(
        again.to(points.device), ascend(some, method, start, most, tolerance=None)
    )


def _allowed(problem: Problem, given: Given) -> Tensor:
    """The perturbations in the model's dtype, projected; 0 where not finite."""
    delta = given.inputs.double() - problem.inputs.double()
    delta = delta.to(problem.inputs)
    finite = delta.flatten(1).isfinite().all(1)
    delta = delta.masked_fill(~_rows.expand(finite, delta), 0.0)
    return problem.feasible.project(delta)


def _seen(
    problem: Problem, given: Given, excess: Excess, settings: Settings
) -> dict[str, Tensor]:
    """What was given, as it is."""
    clean = problem.rows().evaluate(torch.zeros_like(problem.inputs))
    kind = kinds_of(problem, given, excess, clean.gradient, settings.seed)
    size = size_of(problem)
    norms = norms_of(displaced(problem.inputs, given.inputs))
    arrays = {
        "kind": kind,
        "length": excess.length,
        "radii": _rows.ratio(excess.length, size),
        "norms": _rows.ratio(norms, size[:, None].expand(norms.shape)),
        "excess": excess.radius,
        "box_excess": excess.box,
        "ulps": excess.ulps,
        "inside": excess.inside,
        "rounded": excess.rounded,
        "levels": given.levels,
        "fits": given.fits,
        "factor": given.factor,
        "shift": given.shift,
    }
    return {name: values.cpu() for name, values in arrays.items()}


def _gains(
    problem: Problem,
    points: Tensor,
    arrays: Mapping[str, Tensor],
    near: Ascent,
    far: Ascent,
) -> dict[str, Tensor]:
    """What ascent from the very point, and from the centre, still adds."""
    way = length_of(problem.region, (near.best - points).double())
    # A best point that is the given one again, evaluated among other rows.
    gained = (near.best_loss.double().cpu() - arrays["losses"]).clamp(min=0)
    gains = {
        "reached_losses": near.best_loss.double(),
        "centre_losses": far.best_loss.double(),
        "gained": gained.nan_to_num(0.0, 0.0),
        "moved": way / size_of(problem),
        "steps": near.steps[0],
        "outcome": codes(near.outcome)[0],
        "broken": torch.from_numpy((near.outcome == Outcome.NON_FINITE).any(0)),
    }
    if problem.labelled:
        rows = replace(problem.rows(), objective=Margin())
        places = {"clean": torch.zeros_like(points), "given": points}
        for name, place in (places | {"reached": near.best}).items():
            gains[f"{name}_margins"] = rows.value(place).loss.double()
    return {name: values.cpu() for name, values in gains.items()}


def _judged(
    problem: Problem,
    given: Given,
    excess: Excess,
    points: Tensor,
    arrays: Mapping[str, Tensor],
    near: Ascent,
    far: Ascent,
) -> dict[str, Tensor]:
    """Right as claimed, right as corrected, and why the two differ."""
    rows = problem.rows()
    # The given inputs themselves: x + (x' - x) would be rounded once more.
    own = replace(rows, inputs=given.inputs.to(problem.inputs))
    value = own.value(torch.zeros_like(points))
    finite = (~value.loss.isnan() & ~excess.length.isnan()).cpu()
    wrong = value.wrong.cpu()
    claimed, clean = ~wrong & finite, arrays["correct"]
    judged = {"claimed": claimed, "given_losses": value.loss.double().cpu()}
    if near.misclassified is None or far.misclassified is None:
        nothing = torch.zeros(len(points), dtype=torch.int8)
        return judged | {"survived": clean, "correction": nothing}
    reasons = (
        ("CLEAN_WRONG", ~clean),
        ("PROJECTED", rows.value(points).wrong.cpu()),
        ("ASCENT", near.misclassified.cpu()),
        ("CENTRE", far.misclassified.cpu()),
    )
    found = torch.stack([mask for _, mask in reasons]).any(0)
    survived = ~found & ~(wrong & excess.inside.cpu())
    correction = torch.zeros(len(points), dtype=torch.int8)
    for name, mask in reversed(reasons):
        lost = claimed & mask
        correction = correction.masked_fill(lost, CORRECTIONS.index(name))
    regained = survived & ~claimed
    for name, mask in (("OUTSIDE_ONLY", regained), ("NOT_FINITE", regained & ~finite)):
        correction = correction.masked_fill(mask, CORRECTIONS.index(name))
    return judged | {"survived": survived, "correction": correction}


def _without_nonsense(arrays: dict[str, Tensor], broken: Tensor) -> dict[str, Tensor]:
    """Nothing is said of points that were never given."""
    nothing = ("distance_bounds", "loss_gap_bounds", "residuals", "losses")
    gains = ("given_losses", "gained", "moved", "reached_losses")
    margins = {"given_margins", "reached_margins"} & arrays.keys()
    for name in (*nothing, *gains, *margins):
        arrays[name] = arrays[name].masked_fill(broken, torch.nan)
    undecided = VERDICT_NAMES.index("UNDECIDED")
    arrays["verdict"] = arrays["verdict"].masked_fill(broken, undecided)
    numerical = EVIDENCE_NAMES.index("NUMERICAL")
    arrays["evidence"] = arrays["evidence"].masked_fill(broken, numerical)
    arrays["masked"] = arrays["masked"] & ~broken
    return arrays
