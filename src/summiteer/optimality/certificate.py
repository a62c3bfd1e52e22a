"""Local-optimality certificates: what the given points are, and how that is known."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.loop.working import residual_reference
from summiteer.networks import TwoLayer, recognise
from summiteer.optimality import l1_vertex, numerical, piecewise, relu, smooth
from summiteer.optimality.claims import NUMBERS, Claims
from summiteer.optimality.explanation import explanation
from summiteer.optimality.points import check_budget, checked
from summiteer.optimality.rate import contraction, steps_to
from summiteer.optimality.regularity import measure_of
from summiteer.optimality.rounding import down
from summiteer.optimality.subject import subjects
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem, Rows

#: Radii by which a point may miss the region without a word.
_OUTSIDE = 1e-3

Prover: TypeAlias = Callable[[Problem, Tensor, float, int], Claims]

#: `prove(problem, points, within, budget) -> Claims`, strongest first. Adding a prover
#: is one file and one line here.
PROVERS: tuple[Prover, ...] = (
    l1_vertex.prove,
    smooth.prove,
    relu.prove,
    piecewise.prove,
    numerical.prove,
)


@dataclass(frozen=True, eq=False)
class Certificate:
    """One entry per example; numbers are float64, NaN where nothing is stated.

    A maximum verdict says that a maximiser lies within `within` · radius of the
    *given* point (architecture.md, "What a verdict is about").

    Attributes:
        verdict: tuple of `Verdict`.
        evidence: tuple of `Evidence`; PROVED and NUMERICAL are never mixed.
        reason: tuple of clauses.
        proposition: tuple, the proposition of mathematics.md behind a proof, or "".
        within: search distance in radii.
        residual: first-order residual at the given point (§3).
        distance_bound: proved distance from the given point to the maximiser.
        loss_gap_bound: proved bound of what is to be gained up to that maximiser.
        best_radius: the certified point is proved best within this distance of the
            given one, but for less than `loss_gap_bound`.
        uniqueness_radius: the maximiser is proved unique within this distance of the
            given point; the region's diameter where it is the only one.
        rate: proved contraction per step of projected gradient ascent on F with the
            step 2/L (Prop. 2); `rate_of` for other steps.
        upper_bound: proved upper bound of the objective over the region (Props. 3, 8).
        guaranteed_gain: proved gain along `direction` within the search distance, from
            the given point or the sphere point next to it (Prop. 7).
        measured_gain: measured, not proved: of negative NUMERICAL verdicts, the most
            that the objective was seen to rise from `certified_point` p (from Π(p)) to
            the feasible points Π(p + t·`direction`), t at most the search distance.
        tangential: γ, an upper bound of the tangential gradient of F where the proof
            was found.
        multiplier: μ there.
        curvature: the proved bound of λ_max that μ exceeds (or -α's λ).
        margin: ω or α: what was shown to be positive.
        lipschitz: L, proved.
        majorant: λ⁺(M), proved.
        least_multiplier: proved lower bound of μ at the exact maximiser.
        distance_estimate: measured, not proved: way that ascent made plus Newton step.
        gain: measured: what plain float64 ascent from the point added to the objective.
        indices: "global", "unique", "a_priori" (§6), measured; NaN for other models.
        direction: `[batch, *input]` the way uphill of negative verdicts, a unit vector;
            NaN elsewhere. Proved ones gain `guaranteed_gain` along it, NUMERICAL ones
            `measured_gain`.
        unproved: tuple, why there is no proof, or "".
        certified_point: `[batch, *input]` the polished point that was examined.
        subject: tuple of SHA-256 of model, input, target, region and point.
    """

    verdict: tuple[Verdict, ...]
    evidence: tuple[Evidence, ...]
    reason: tuple[str, ...]
    proposition: tuple[str, ...]
    within: float
    residual: Tensor
    distance_bound: Tensor
    loss_gap_bound: Tensor
    best_radius: Tensor
    uniqueness_radius: Tensor
    rate: Tensor
    upper_bound: Tensor
    distance_estimate: Tensor
    gain: Tensor
    guaranteed_gain: Tensor
    measured_gain: Tensor
    tangential: Tensor
    multiplier: Tensor
    curvature: Tensor
    margin: Tensor
    lipschitz: Tensor
    majorant: Tensor
    least_multiplier: Tensor
    certified_point: Tensor
    direction: Tensor
    unproved: tuple[str, ...]
    subject: tuple[str, ...]
    _curving: Callable[[], Tensor] = field(repr=False)
    _regularity: Callable[[], dict[str, Tensor]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.verdict)

    @property
    def maximum(self) -> Tensor:
        """`[batch]` bool: the verdict is that of a maximum, by whatever evidence."""
        return torch.tensor([v.is_maximum for v in self.verdict])

    @cached_property
    def curvature_ratio(self) -> Tensor:
        """κ = λ_max(tangent)/μ (§4) on the curved boundary, measured when asked for."""
        return self._curving()

    @cached_property
    def indices(self) -> dict[str, Tensor]:
        """The regularity indices, computed when they are first asked for."""
        return self._regularity()

    @property
    def longest_step(self) -> Tensor:
        """2/L, rounded down: the longest step that Prop. 2 admits `[batch]`."""
        return down(2 / self.lipschitz)

    def rate_of(self, step_size: float | Tensor) -> Tensor:
        """ρ of Prop. 2 for projected gradient ascent on F with a constant step.

        Args:
            step_size: η, a number or `[batch]`; at most `longest_step`.

        Returns:
            `[batch]`, NaN where Prop. 2 does not hold or η > 2/L.
        """
        step = torch.as_tensor(step_size, dtype=torch.float64)
        if step.shape not in ((), (len(self),)):
            raise UserError(
                f"step_size: expected a number or one per example [{len(self)}], got "
                f"shape {list(step.shape)}."
            )
        rate = contraction(step, self.least_multiplier, self.majorant)
        usable = (step > 0) & (step <= self.longest_step)
        return torch.where(usable, rate, torch.nan)

    def steps_to(
        self, tolerance: float, step_size: float | Tensor | None = None
    ) -> Tensor:
        """Steps after which projected gradient ascent is proved to be this near.

        Args:
            tolerance: distance to the maximiser, in radii, between 0 and 2.
            step_size: η; 2/L if None.

        Returns:
            `[batch]` from any start in the region; NaN where there is no rate.
        """
        if not 0 < tolerance < 2:
            raise UserError(
                f"tolerance: expected 0 < tolerance < 2 (radii), got {tolerance!r}."
            )
        rate = self.rate if step_size is None else self.rate_of(step_size)
        return steps_to(tolerance, rate)

    def explain(self, example: int) -> str:
        """Return the verdict on one example in words, with its numbers.

        Args:
            example: its index.
        """
        if not -len(self) <= example < len(self):
            raise UserError(
                f"example: expected an index below {len(self)}, got {example}."
            )
        return explanation(self, example % len(self))

    def __repr__(self) -> str:
        counts = Counter(
            f"{v.name} ({e.name})"
            for v, e in zip(self.verdict, self.evidence, strict=True)
        )
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        return f"Certificate of {len(self)} points: {told}; see explain(i)"


def local_optimality(
    problem: Problem,
    points: Tensor,
    within: float = tolerances.WITHIN,
    budget: int = 0,
) -> Certificate:
    """Say what each point is: a maximum, a saddle, not stationary, or undecided.

    Needs nothing of the run that produced the points. Everything is computed in
    float64 on copies of the model's weights.

    Args:
        problem: what was to be maximised.
        points: perturbations `[batch, *input]`, one per example.
        within: how far from the given point a maximiser may lie, in radii.
        budget: parts of the region per example that branch and bound may examine to
            prove a maximum global (`upper_bound` shows what a budget buys).

    Returns:
        One verdict per example.

    Raises:
        UserError: points of the wrong shape or not finite; `within` outside (0, 1); a
            negative budget; a model that does not fit.
    """
    points = checked(problem, points)
    if not 0 < within < 1:
        raise UserError(f"within: expected 0 < within < 1 (radii), got {within!r}.")
    check_budget(budget)
    problem.examine()
    with undisturbed(problem.model):
        exact = problem.in_double()
        given = points.double()
        claims, unproved = Claims.undecided(len(points)), [""] * len(points)
        speaker, reason = _speaker(problem)
        for prove in PROVERS:
            index = claims.open
            if not len(index):
                break
            some = exact if len(index) == len(points) else exact.take(index)
            claims = claims.filled(index, prove(some, given[index], within, budget))
            if prove is speaker:
                for row in claims.open.tolist():
                    unproved[row] = reason or claims.reason[row]
        rows = exact.rows()
        claims = _placed(rows, given, claims)
        reference, _ = residual_reference(rows)
        residual = rows.residual(given, rows.evaluate(given), reference)
        claims = claims.state(numbers={"residual": residual})
        regularity = measure_of(exact, claims)
    return _certificate(problem, points, within, claims, tuple(unproved), regularity)


def _speaker(problem: Problem) -> tuple[Prover, str]:
    """(The prover made for the caller's own model, why there is none or "")."""
    model = recognise(problem.model, tuple(problem.inputs.shape[1:]))
    if problem.feasible.norm == "l1":
        return l1_vertex.prove, getattr(model, "reason", "")
    if isinstance(model, TwoLayer):
        return (smooth if model.network.activation.smooth else relu).prove, ""
    return piecewise.prove, getattr(model, "reason", "")


def _placed(rows: Rows, points: Tensor, claims: Claims) -> Claims:
    """Say of points outside the region that they are: inputs, it may be."""
    away = _rows.norm(rows.region.project(points) - points)
    outside = ~rows.region.contains(points, slack=_OUTSIDE)
    reason = [
        f"{text}; the given point lies {far:.3g} outside the region: it must be a "
        "perturbation, not an input"
        if out
        else text
        for text, far, out in zip(
            claims.reason, away.tolist(), outside.tolist(), strict=True
        )
    ]
    return claims.state(reason=reason)


def _certificate(
    problem: Problem,
    points: Tensor,
    within: float,
    claims: Claims,
    unproved: tuple[str, ...],
    regularity: Callable[[], dict[str, Tensor]],
) -> Certificate:
    nothing = torch.full((len(points),), torch.nan, dtype=torch.float64)
    numbers = {name: claims.numbers.get(name, nothing) for name in NUMBERS}
    known, curving = numbers.pop("curvature_ratio"), claims.curving

    def ratio() -> Tensor:
        return known if curving is None else known.where(~known.isnan(), curving())

    point, way = claims.certified_point, claims.direction
    return Certificate(
        verdict=tuple(claims.verdict),
        evidence=tuple(claims.evidence),
        reason=tuple(claims.reason),
        proposition=tuple(claims.proposition),
        within=within,
        certified_point=points.double() if point is None else point,
        direction=torch.full_like(points.double(), torch.nan) if way is None else way,
        unproved=unproved,
        subject=subjects(problem, points),
        _curving=ratio,
        _regularity=regularity,
        **numbers,
    )


def shares(
    verdicts: Sequence[Verdict],
    evidence: Sequence[Evidence],
    counts: Sequence[int] | None = None,
) -> dict[str, float]:
    """Shares of verdicts: maxima, proved ones, other proofs, measured, undecided.

    Args:
        verdicts: of the examples counted.
        evidence: of the same examples.
        counts: for how many examples each entry stands; for one if None.

    Returns:
        name -> share in [0, 1]; empty for no examples.
    """
    if not verdicts:
        return {}
    times = [1] * len(verdicts) if counts is None else counts
    known = list(zip(verdicts, evidence, times, strict=True))
    proved = [(v, n) for v, e, n in known if e is Evidence.PROVED]
    found = {
        "maximum": sum(n for v, _, n in known if v.is_maximum),
        "proved": sum(n for _, n in proved),
        "proved_maximum": sum(n for v, n in proved if v.is_maximum),
        "proved_global": sum(n for v, n in proved if v is Verdict.GLOBAL_MAXIMUM),
        "numerical": sum(
            n
            for v, e, n in known
            if e is Evidence.NUMERICAL and v is not Verdict.UNDECIDED
        ),
        "undecided": sum(n for v, _, n in known if v is Verdict.UNDECIDED),
    }
    return {name: count / sum(times) for name, count in found.items()}
