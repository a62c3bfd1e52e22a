"""One look at the inner maximisation: the probes attacked, examined, counted."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.adversaries import Adversary, FrankWolfe, OpenLoopStep
from summiteer.ascent import Ascent
from summiteer.cells import finite
from summiteer.landscape import distinct_maxima
from summiteer.loop.working import residual_reference
from summiteer.optimality import local_optimality, shares
from summiteer.problem import Problem
from summiteer.starts import CentreStart, Start, UniformStart
from summiteer.training.evaluation import StrongAttack
from summiteer.training.record import InnerProblem

#: Of Frank-Wolfe, from the centre, for its distortion.
_FRANK_WOLFE_STEPS = 5
#: More random starts whose ends are counted where certificates are made.
MORE_STARTS = 8
_SHARES = ("maximum", "proved", "proved_maximum", "undecided")
_INDICES = ("global", "unique", "a_priori")
#: Gradient evaluations that certificates are reckoned as when looks are planned: some
#: however few they are, and some for each. Of five small networks on digits (ReLU,
#: tanh, GELU, two and three layers, convolutions) 8 points took as long as 6 000 to
#: 16 000, 64 as long as 8 000 to 38 000.
CERTIFICATES, CERTIFICATE = 10_000, 450


@dataclass(frozen=True, eq=False)
class Look:
    """How the inner problem is looked at.

    Attributes:
        adversary: the training attack.
        start: its start.
        max_steps: its steps.
        strong: the stronger attack.
    """

    adversary: Adversary
    start: Start
    max_steps: int
    strong: StrongAttack

    @property
    def evaluations(self) -> int:
        """Gradient evaluations per probe, the extra ones of `examined` aside."""
        # Besides both attacks: the residual with its scale, the clean loss.
        runs = self.max_steps + 1 + self.strong.evaluations
        return runs + _FRANK_WOLFE_STEPS + 1 + 4

    @property
    def more_evaluations(self) -> int:
        """What a certificate and the runs that are counted beside it come to, nearly.

        `CERTIFICATES` for all of them together come on top.
        """
        return CERTIFICATE + MORE_STARTS * (self.strong.max_steps + 1)

    def __call__(
        self, problem: Problem, model: Model, epoch: int, examined: int = 0
    ) -> InnerProblem:
        """Measure; nothing of the caller's is changed.

        Args:
            problem: of the probes.
            model: at the weights that are looked at.
            epoch: whose these are.
            examined: of how many probes to make certificates.
        """
        began, size = time.process_time(), len(problem)
        problem = problem.with_model(model)
        with undisturbed(model):
            attacked = ascend(
                problem,
                self.adversary,
                self.start,
                self.max_steps,
                tolerance=None,
                after_cycle="continue",
                rescue=False,
            )
            points = last_points(attacked.losses, attacked.final)
            strong = self.strong(problem)
            values = self._first_order(problem, points, strong)
            values["distortion"] = distortion(problem)
            if examined:
                chosen = torch.arange(min(examined, size))
                values |= self._examined(problem.take(chosen), points[chosen], strong)
        seconds = time.process_time() - began
        return InnerProblem(epoch=epoch, probes=size, seconds=seconds, **values)

    def _first_order(
        self, problem: Problem, points: Tensor, strong: Ascent
    ) -> dict[str, Any]:
        """Losses and accuracies; residual and gap of the training attack's end points.

        Where the training attack got further than the stronger one, that is what the
        stronger one is taken to have met.
        """
        rows = problem.rows()
        clean = rows.value(torch.zeros_like(points))
        here = rows.evaluate(points)
        reference, _ = residual_reference(rows)
        residual = rows.residual(points, here, reference)
        met = torch.fmax(strong.best_loss, here.loss)
        broken = strong.misclassified
        if broken is not None and here.wrong is not None:
            broken = broken | here.wrong
        known = problem.labelled
        still = residual <= tolerances.stationary(points.dtype)
        return {
            "clean_loss": _mean(clean.loss),
            "clean_accuracy": _right(clean.wrong if known else None, clean.loss),
            "attacked_loss": _mean(here.loss),
            "attacked_accuracy": _right(here.wrong if known else None, here.loss),
            "strong_loss": _mean(met),
            "strong_accuracy": _right(broken, met),
            "stationary": float(still.double().mean()),
            "residual": _median(residual),
            "gap": _mean(rows.region.gap(points, here.gradient)),
        }

    def _examined(
        self, problem: Problem, points: Tensor, strong: Ascent
    ) -> dict[str, Any]:
        """What the end points are, and how many maxima there are to end in."""
        cert = local_optimality(problem, points)
        found = shares(cert.verdict, cert.evidence)
        values: dict[str, Any] = {name: found[name] for name in _SHARES}
        values["curvature_ratio"] = _median(cert.curvature_ratio)
        for name in _INDICES:
            values[f"index_{name}"] = _median(cert.indices[name])
        seed, first = self.strong.seed, self.strong.restarts
        more = UniformStart(restarts=MORE_STARTS, seed=seed, first=first)
        runs = self.strong(problem, more).final
        # The run from the centre is no independent draw; it may end anywhere too.
        ends = torch.cat([runs, strong.final[1:, : len(problem)]])
        maxima = distinct_maxima(ends, problem.size, problem=problem)
        values["distinct_maxima"] = _mean(maxima.count)
        values["unseen"] = _mean(maxima.unseen)
        return {"examined": len(problem), **values}


def last_points(losses: Tensor, final: Tensor) -> Tensor:
    """The last point of each example's run; of several, where the loss is highest.

    Args:
        losses: `[restarts, batch]` at the last points.
        final: `[restarts, batch, *input]`.
    """
    highest = losses.nan_to_num(-torch.inf, torch.inf, -torch.inf).argmax(0)
    return final[highest, torch.arange(final.shape[1], device=final.device)]


def distortion(problem: Problem) -> float | None:
    """Mean ‖δ_K‖₂ / max{‖v‖₂ : v in the ball} of Frank-Wolfe from the centre.

    On an L∞ ball the denominator is √d·ε (`tsiligkaridis2022understanding`): it is 1
    where the signs of the gradient are the same at all iterates; d are the coordinates
    that the mask lets move. The box does not count, so that the ratio speaks of the
    model alone. K = 5, γ_t = 2/(t + 2).

    Args:
        problem: of the probes.
    """
    ball = problem.with_region(problem.region)
    if ball.region.norm not in ("linf", "l2", "l1"):
        return None
    moves = torch.ones_like(problem.inputs, dtype=torch.bool)
    if problem.mask is not None:
        ball = replace(ball, mask=problem.mask)
        moves = moves & problem.mask.to(moves.device)
    method = FrankWolfe(OpenLoopStep())
    steps = _FRANK_WOLFE_STEPS
    run = ascend(ball, method, CentreStart(), steps, tolerance=None, rescue=False)
    longest = ball.size.double()
    if ball.region.norm == "linf":
        # Where nothing may move the numerator is 0.
        longest = longest * moves.flatten(1).sum(1).clamp(min=1).double().sqrt()
    return _mean(run.final[0].double().flatten(1).norm(dim=1) / longest)


def _mean(values: Tensor) -> float | None:
    """None where nothing finite is there."""
    return finite(float(values.double().mean()))


def _median(values: Tensor) -> float | None:
    """Of those that are not NaN."""
    return finite(float(values.double().nanmedian()))


def _right(wrong: Tensor | None, losses: Tensor) -> float | None:
    """The share that is right; NaN is evidence of nothing, least of all of that."""
    if wrong is None:
        return None
    return 1 - float((wrong | losses.isnan()).double().mean())
