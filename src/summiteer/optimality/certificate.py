"""Local-optimality certificates: what the given points are, and how that is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.optimality import numerical
from summiteer.optimality.claims import INDICES, NUMBERS, Claims
from summiteer.optimality.subject import subjects
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem

#: `prove(problem, points, within) -> Claims`, strongest first. Adding a prover is one
#: file and one line here.
PROVERS: tuple[Callable[[Problem, Tensor, float], Claims], ...] = (numerical.prove,)


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
        curvature_ratio: κ = λ_max(tangent)/μ (§4) on the curved boundary.
        distance_bound: proved distance from the given point to the maximiser.
        loss_gap_bound: proved bound of what is to be gained up to that maximiser.
        best_radius: the point is proved best within this distance.
        uniqueness_radius: the maximiser is proved unique within this distance.
        rate: proved contraction per step (Prop. 2).
        upper_bound: proved upper bound of the objective over the region (Prop. 8).
        distance_estimate: measured, not proved: way that ascent made plus Newton step.
        gain: measured: what plain float64 ascent from the point added to the objective.
        indices: "global", "unique", "a_priori" (§6); NaN for other models.
        certified_point: `[batch, *input]` the polished point that was examined.
        subject: tuple of SHA-256 of model, input, target, region and point.
    """

    verdict: tuple[Verdict, ...]
    evidence: tuple[Evidence, ...]
    reason: tuple[str, ...]
    proposition: tuple[str, ...]
    within: float
    residual: Tensor
    curvature_ratio: Tensor
    distance_bound: Tensor
    loss_gap_bound: Tensor
    best_radius: Tensor
    uniqueness_radius: Tensor
    rate: Tensor
    upper_bound: Tensor
    distance_estimate: Tensor
    gain: Tensor
    indices: dict[str, Tensor]
    certified_point: Tensor
    subject: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.verdict)

    @property
    def maximum(self) -> Tensor:
        """`[batch]` bool: the verdict is that of a maximum, by whatever evidence."""
        return torch.tensor([v.is_maximum for v in self.verdict])

    def explain(self, example: int) -> str:
        """Return the verdict on one example in words, with its numbers.

        Args:
            example: its index.
        """
        verdict, evidence = self.verdict[example], self.evidence[example]
        lines = [
            f"example {example}: {verdict.name} ({evidence.name}): {verdict.value}",
            f"  because {self.reason[example]}",
            f"  search distance {self.within:g} radii",
        ]
        for name in NUMBERS:
            value = float(getattr(self, name)[example])
            if value == value:
                lines.append(f"  {name.replace('_', ' ')} {value:.6g}")
        for name, values in self.indices.items():
            lines.append(f"  index {name} {float(values[example]):.6g}")
        return "\n".join(lines)


def local_optimality(
    problem: Problem, points: Tensor, within: float = tolerances.WITHIN
) -> Certificate:
    """Say what each point is: a maximum, a saddle, not stationary, or undecided.

    Needs nothing of the run that produced the points. Everything is computed in
    float64 on copies of the model's weights.

    Args:
        problem: what was to be maximised.
        points: perturbations `[batch, *input]`, one per example.
        within: how far from the given point a maximiser may lie, in radii.

    Returns:
        One verdict per example.

    Raises:
        UserError: points of the wrong shape or not finite; a model that does not fit.
    """
    points = torch.as_tensor(points).detach()
    if points.shape != problem.inputs.shape:
        raise UserError(
            "points: expected one perturbation per example "
            f"{list(problem.inputs.shape)}, got {list(points.shape)}; for several "
            "restarts call it once for each."
        )
    if not bool(points.isfinite().all()):
        bad = (~points.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        raise UserError(f"points: NaN or infinite at indices {bad}.")
    if not 0 < within < 1:
        raise UserError(f"within: expected 0 < within < 1 (radii), got {within!r}.")
    problem.examine()
    points = points.to(problem.inputs.device)
    with undisturbed(problem.model):
        exact = problem.in_double()
        claims = Claims.undecided(len(points))
        for prove in PROVERS:
            claims = claims.prefer(prove(exact, points.double(), within))
    return _certificate(problem, points, within, claims)


def _certificate(
    problem: Problem, points: Tensor, within: float, claims: Claims
) -> Certificate:
    nothing = torch.full((len(points),), torch.nan, dtype=torch.float64)
    numbers = {name: claims.numbers.get(name, nothing) for name in NUMBERS}
    point = claims.certified_point
    return Certificate(
        verdict=tuple(claims.verdict),
        evidence=tuple(claims.evidence),
        reason=tuple(claims.reason),
        proposition=tuple(claims.proposition),
        within=within,
        indices={name: claims.indices.get(name, nothing) for name in INDICES},
        certified_point=points.double() if point is None else point,
        subject=subjects(problem, points),
        **numbers,
    )


def shares(
    verdicts: Sequence[Verdict], evidence: Sequence[Evidence]
) -> dict[str, float]:
    """Shares of maxima, proved, proved global and undecided among the verdicts.

    Args:
        verdicts: of the examples counted.
        evidence: of the same examples.

    Returns:
        name -> share in [0, 1]; empty for no examples.
    """
    if not verdicts:
        return {}
    pairs = list(zip(verdicts, evidence, strict=True))
    proved = [v for v, e in pairs if e is Evidence.PROVED]
    counts = {
        "maximum": sum(v.is_maximum for v in verdicts),
        "proved": len(proved),
        "proved_global": sum(v is Verdict.GLOBAL_MAXIMUM for v in proved),
        "undecided": sum(v is Verdict.UNDECIDED for v in verdicts),
    }
    return {name: count / len(pairs) for name, count in counts.items()}
