"""Points are opaque to the loop: another form of them needs no second loop."""

from dataclasses import dataclass

import torch
from torch import Tensor

import summiteer as sm
from summiteer.problem import Problem, Rows


@dataclass(frozen=True)
class Half:
    """A perturbation kept as half of itself, in a record instead of a tensor."""

    half: Tensor


class HalfRows(Rows):
    def enter(self, perturbations):
        return Half(perturbations / 2)

    def lift(self, points):
        return points.half * 2

    def evaluate(self, points):
        return super().evaluate(self.lift(points))

    def advance(self, points, direction, size):
        return self.enter(super().advance(self.lift(points), direction, size))

    def distance(self, points, others):
        return super().distance(self.lift(points), self.lift(others))

    def length(self, points):
        return super().length(self.lift(points))

    def magnitude(self, points):
        return super().magnitude(self.lift(points))

    def residual(self, points, evaluation, reference):
        return super().residual(self.lift(points), evaluation, reference)

    def residual_floor(self, points, evaluation, reference):
        return super().residual_floor(self.lift(points), evaluation, reference)


class HalfProblem(Problem):
    """Its rows are halved only where the loop asks for them, run by run."""

    def rows(self, index=None):
        rows = super().rows(index)
        if index is None:
            return rows
        return HalfRows(**vars(rows))


def test_points_of_another_form_give_the_same_runs():
    network = sm.TwoLayerNetwork.random(12, 20, "tanh", weight_std=2.0)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    targets = torch.where(torch.arange(7) % 2 == 0, 1.0, -1.0).double()
    model = lambda x: network(x)  # noqa: E731 - a model of which nothing is known
    arguments = (model, inputs, targets, sm.Logistic(), sm.L2Ball(0.8))
    adversary = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.1))
    options = {
        "start": sm.UniformStart(restarts=3),
        "max_steps": 60,
        "recorder": sm.Recorder(),
        "until": sm.Misclassified(),
    }
    plain = sm.ascend(Problem(*arguments), adversary, **options)
    halved = sm.ascend(HalfProblem(*arguments), adversary, **options)
    assert (plain.outcome == halved.outcome).all()
    assert len({outcome for outcome in plain.outcome.flat}) > 1
    # Halving and doubling are exact in binary.
    for name in ("final", "best", "losses", "residual", "steps", "misclassified"):
        assert torch.equal(getattr(plain, name), getattr(halved, name)), name
    assert torch.equal(
        plain.trajectory.norm.nan_to_num(), halved.trajectory.norm.nan_to_num()
    )
