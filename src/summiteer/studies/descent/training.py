"""Full-batch adversarial training of an ensemble: ascent inside, descent outside."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.adversaries import ConstantStep, Normalised, ProjectedAscent
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import GivenStart
from summiteer.studies.descent.ensemble import Ensemble, MemberLoss, itself

#: A member whose robust loss is above this, or is no number, has diverged.
DIVERGED = 1e6
#: Adam's usual settings: torch's defaults.
_BETAS, _STABILISER = (0.9, 0.999), 1e-8


@dataclass(frozen=True, eq=False)
class Adversarial:
    """The inner problem of all members: the same examples, each member's own loss.

    Attributes:
        inputs: `[n, d]`.
        targets: `[n]`.
        radius: ε.
    """

    inputs: Tensor
    targets: Tensor
    radius: float

    def best(self, ensemble: Ensemble, units: Tensor, steps: int) -> Tensor:
        """Highest loss over all starts and steps, `[members, n]`.

        Args:
            ensemble: the networks.
            units: `[members, starts, n, d]` in the unit ball.
            steps: of length ε along the normalised gradient.
        """
        ascent = self._ascend(ensemble, units, steps)
        return ascent[1].reshape(units.shape[:3]).nan_to_num(nan=torch.inf).amax(1)

    def last(
        self, ensemble: Ensemble, units: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Where the last step leads, and the loss there: what training uses.

        Args:
            ensemble: the networks.
            units: `[members, n, d]` in the unit ball.
            steps: of length ε along the normalised gradient; 0 for clean training.

        Returns:
            δ `[members, n, d]` and the losses `[members, n]`.
        """
        if not steps:
            units = torch.zeros_like(units)
        final, _, losses = self._ascend(ensemble, units[:, None], steps)
        return final.reshape(units.shape), losses.reshape(units.shape[:2])

    def _ascend(
        self, ensemble: Ensemble, units: Tensor, steps: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final points, best and last losses `[members · starts · n]`."""
        members, starts, count = units.shape[:3]
        rows = members * starts * count
        place = torch.arange(rows).to(self.inputs)
        labels = self.targets.repeat(members * starts)
        problem = Problem(
            itself,
            self.inputs.repeat(members * starts, 1),
            torch.stack([labels, place], 1),
            MemberLoss(ensemble, rows),
            L2Ball(self.radius),
        )
        ascent = ascend(
            problem,
            ProjectedAscent(Normalised(), ConstantStep(self.radius)),
            GivenStart(self.radius * units.flatten(0, 2)),
            max_steps=steps,
            tolerance=None,
            space="input",
            after_cycle="continue",
            rescue=False,
        )
        return ascent.final[0], ascent.best_loss, ascent.losses[0]


@dataclass(frozen=True, eq=False)
class Descent:
    """W ← W - η∇, or Adam, with one rate per member.

    Attributes:
        kind: "gd" or "adam".
        rates: η `[members]`.
        moments: Adam's first and second moments of each trained tensor.
        made: steps made.
    """

    kind: Literal["gd", "adam"]
    rates: Tensor
    moments: tuple[tuple[Tensor, Tensor], ...] = ()
    made: int = 0

    def take(self, index: Tensor) -> "Descent":
        """Return the members `index`."""
        moments = tuple((m[index], v[index]) for m, v in self.moments)
        return replace(self, rates=self.rates[index], moments=moments)

    def step(
        self, values: list[Tensor], gradients: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], "Descent"]:
        """Return the next values and the next state.

        Args:
            values: trained tensors, `[members, …]`.
            gradients: of the same shapes.
        """
        moments = self.moments
        if self.kind == "adam":
            moments = moments or tuple(
                (torch.zeros_like(g), torch.zeros_like(g)) for g in gradients
            )
            first, second = _BETAS
            moments = tuple(
                (m.lerp(g, 1 - first), v.lerp(g.square(), 1 - second))
                for (m, v), g in zip(moments, gradients, strict=True)
            )
            done = self.made + 1
            gradients = tuple(
                m / (1 - first**done) / ((v / (1 - second**done)).sqrt() + _STABILISER)
                for m, v in moments
            )
        moved = [
            value - self.rates.reshape(-1, *[1] * (value.ndim - 1)) * gradient
            for value, gradient in zip(values, gradients, strict=True)
        ]
        return moved, replace(self, moments=moments, made=self.made + 1)


def train(
    inner: Adversarial,
    ensemble: Ensemble,
    descent: Descent,
    trained: str,
    units: Callable[[int], Tensor],
    steps: int,
    inner_steps: int,
    watch: Callable[[int, Ensemble, Tensor], None] | None = None,
    hopeless: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Train every member, and return what the training adversary found on the way.

    Args:
        inner: examples and radius.
        ensemble: the networks at first.
        descent: the method and its rates.
        trained: "W", "W+b", "W+a" or "all".
        units: step -> `[members, n, d]` in the unit ball, where the ascent begins.
        steps: K.
        inner_steps: of the training adversary.
        watch: told the step, the members that go on, and which they are.
        hopeless: step, curves so far -> which members need not go on `[members]`.

    Returns:
        Mean loss at the adversary's last points, `[members, steps + 1]`; ∞ from where a
        member diverged, or was given up.
    """
    curve = torch.full((len(ensemble), steps + 1), torch.inf, dtype=torch.float64)
    alive = torch.arange(len(ensemble))
    for step in range(steps + 1):
        moved, losses = inner.last(ensemble, units(step)[alive], inner_steps)
        mean = losses.double().mean(1)
        going = mean <= DIVERGED
        curve[alive, step] = torch.where(going, mean, torch.inf)
        if hopeless is not None:
            going = going & ~hopeless(step, curve)[alive]
        good = going.nonzero().flatten()
        if len(good) < len(alive):
            alive, moved = alive[good], moved[good]
            ensemble, descent = ensemble.take(good), descent.take(good)
        if not len(alive):
            break
        if watch is not None:
            watch(step, ensemble, alive)
        if step < steps:
            ensemble, descent = _descended(inner, ensemble, descent, trained, moved)
    return curve


def _descended(
    inner: Adversarial, ensemble: Ensemble, descent: Descent, trained: str, at: Tensor
) -> tuple[Ensemble, Descent]:
    """One step of the outer minimisation at the perturbations `at`."""
    slots = _slots(ensemble, trained)
    values = [getattr(ensemble, kind)[layer].detach() for kind, layer in slots]
    values = [value.requires_grad_() for value in values]
    loss = _with(ensemble, slots, values).outputs(inner.inputs + at) - inner.targets
    total = 0.5 * loss.square().mean(1).sum()
    gradients = torch.autograd.grad(total, values)
    with torch.no_grad():
        values, descent = descent.step([v.detach() for v in values], gradients)
    return _with(ensemble, slots, values), descent


def _slots(ensemble: Ensemble, trained: str) -> list[tuple[str, int]]:
    """Which tensors of the ensemble are trained."""
    if trained == "all":
        layers = range(len(ensemble.weights))
        known = [("biases", n) for n in layers if ensemble.biases[n] is not None]
        return [*(("weights", n) for n in layers), *known]
    more = {"W": [], "W+b": [("biases", 0)], "W+a": [("weights", 1)]}
    return [("weights", 0), *more[trained]]


def _with(
    ensemble: Ensemble, slots: list[tuple[str, int]], values: list[Tensor]
) -> Ensemble:
    """The ensemble with other tensors in these places."""
    weights, biases = list(ensemble.weights), list(ensemble.biases)
    for (kind, layer), value in zip(slots, values, strict=True):
        if kind == "weights":
            weights[layer] = value
        else:
            biases[layer] = value
    return replace(ensemble, weights=tuple(weights), biases=tuple(biases))
