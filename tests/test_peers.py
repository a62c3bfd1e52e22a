"""Our iterates and those of another attack library are the same numbers."""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import seeded

foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
pytestmark = pytest.mark.peer

#: Far from every input, so that the peer's box never binds.
NO_BOX = (-1e6, 1e6)
CASES = {
    "L2": (sm.L2Ball, sm.Normalised(), "L2PGD", 1.0, 0.25),
    "L∞": (sm.LinfBall, sm.Sign(), "LinfPGD", 0.05, 0.0125),
}


def mlp():
    """784-64-10 with ReLU in float32: kinks, as in the field."""
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight.copy_(seeded(*weight.shape, seed=i) / 28)
            weight.requires_grad_(False)
    return model.eval()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_the_iterates_are_those_of_foolbox(case, steps):
    ball, direction, name, radius, size = CASES[case]
    model, inputs = mlp(), 0.5 + 0.2 * seeded(16, 784, dtype=torch.float32)
    labels = model(inputs).argmax(1)
    problem = sm.Problem(model, inputs, labels, sm.CrossEntropy(), ball(radius))
    adversary = sm.ProjectedAscent(direction, sm.ConstantStep(size))
    ours = sm.ascend(
        problem,
        adversary,
        sm.CentreStart(),
        steps,
        tolerance=None,
        after_cycle="continue",
    )

    peer = getattr(foolbox.attacks, name)(
        abs_stepsize=size, steps=steps, random_start=False
    )
    theirs = peer.run(
        foolbox.PyTorchModel(model, bounds=NO_BOX, device="cpu"),
        inputs,
        foolbox.criteria.Misclassification(labels),
        epsilon=radius,
    )
    apart = (inputs + ours.final[0] - theirs).abs().amax()
    # Float32 around 0.5: x + δ is kept by them, δ by us; a unit of rounding is 6e-8.
    assert float(apart) <= 1e-6
    # A run at a vertex, which no further step moves, is let go early.
    assert steps - 8 <= int(ours.steps.min()) <= int(ours.steps.max()) == steps
    # and something happened: the points have left the centre
    assert float(ours.final.abs().max()) > 0.9 * size / 28
