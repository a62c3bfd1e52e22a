"""Regression by every adversary: any outputs, any inputs, masks."""

import pytest
import torch
from torch import Tensor, nn

import summiteer as sm
from fakes import seeded
from summiteer.regions import L1Ball

torch.set_num_threads(1)

ADVERSARIES = {
    "auto": sm.AutoPGD(20),
    "frank-wolfe": sm.FrankWolfe(),
    "momentum": sm.MomentumAscent(sm.ConstantStep(0.1)),
    "normalised": sm.ProjectedAscent(sm.Normalised(), sm.DecayingStep(0.3)),
    "raw": sm.ProjectedAscent(sm.RawGradient(), sm.BacktrackingStep(1.0)),
    "sign": sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.05)),
}
REGIONS = {"l2": sm.L2Ball(0.5), "linf": sm.LinfBall(0.1), "l1": L1Ball(1.0)}
INPUTS = {"vector": (6,), "image": (2, 3, 4), "sequence": (5, 3), "scalar": (1,)}
OUTPUTS = {"[b]": (), "[b, 1]": (1,), "[b, K]": (3,), "[b, K, L]": (2, 3)}


class Regressor(nn.Module):
    """Inputs of any shape, flattened, to outputs of any shape."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = outputs
        size, count = torch.Size(inputs).numel(), torch.Size(outputs).numel()
        self.inner = nn.Linear(size, 7, dtype=torch.float64)
        self.outer = nn.Linear(7, count, dtype=torch.float64)
        with torch.no_grad():
            for i, weights in enumerate(self.parameters()):
                weights.copy_(seeded(*weights.shape, seed=i))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(inputs.flatten(1)))
        return self.outer(hidden).reshape(len(inputs), *self.shape)


def problem_of(inputs="vector", outputs="[b]", region="l2", **more) -> sm.Problem:
    shapes = INPUTS[inputs], OUTPUTS[outputs]
    x = 0.5 + 0.1 * seeded(5, *shapes[0], seed=20)
    y = seeded(5, *shapes[1], seed=21)
    model = Regressor(*shapes)
    return sm.Problem(model, x, y, sm.Quadratic(), REGIONS[region], **more)


def risen(problem: sm.Problem, found: sm.Ascent) -> None:
    """Higher than at the start, inside, and the formula's own value.

    Of five examples one may be a maximum, or a long first step may pass it.
    """
    outputs = problem.model(problem.inputs + found.best).detach()
    loss = 0.5 * (outputs - problem.targets).square().reshape(5, -1).sum(1)
    # Sums of at most six squares.
    torch.testing.assert_close(found.best_loss, loss, rtol=1e-13, atol=1e-13)
    zero = problem.rows().value(torch.zeros_like(problem.inputs)).loss
    assert bool((found.best_loss >= zero).all())
    assert int((found.best_loss > zero).sum()) >= 3
    assert problem.feasible.contains(found.best).all()
    assert found.misclassified is None
    assert found.misclassified_points is None


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_adversary_ascends_any_outputs(name, outputs):
    turn = [*ADVERSARIES].index(name) + [*OUTPUTS].index(outputs)
    problem = problem_of(outputs=outputs, region=[*REGIONS][turn % 3])
    start = sm.CentreStart() + sm.UniformStart(restarts=1)
    risen(problem, sm.ascend(problem, ADVERSARIES[name], start, 20))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("region", REGIONS)
def test_every_region_takes_any_inputs(region, inputs):
    problem = problem_of(inputs, region=region, box=(-1.0, 2.0))
    risen(problem, sm.ascend(problem, ADVERSARIES["auto"], sm.CentreStart(), 20))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_adversary_keeps_to_a_mask(name, region):
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask.view(-1)[::2] = False
    box = None if region == "l1" else (-1.0, 2.0)
    problem = problem_of("image", region=region, mask=mask, box=box)
    found = sm.ascend(problem, ADVERSARIES[name], sm.CentreStart(), 20)
    risen(problem, found)
    assert not found.final[..., ~mask].any()
    assert not found.best[:, ~mask].any()


def test_a_mask_of_each_example():
    mask = seeded(5, 6, seed=3) > 0
    mask[:, 0] = True
    problem = problem_of(mask=mask)
    start = sm.UniformStart(restarts=2, seed=1)
    found = sm.ascend(problem, ADVERSARIES["auto"], start, 20)
    risen(problem, found)
    assert not found.final[:, ~mask].any()
    some = sm.ascend(problem.take(torch.tensor([3])), ADVERSARIES["auto"], start, 20)
    assert not some.final[:, :, ~mask[3]].any()


@pytest.mark.filterwarnings("ignore::summiteer.SummiteerWarning")
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [("image", "[b]"), ("vector", "[b, 1]"), ("sequence", "[b, K, L]")],
)
def test_an_attack_on_a_regression(inputs, outputs):
    problem = problem_of(inputs, outputs)
    found = sm.attack(
        problem.model,
        problem.inputs,
        problem.targets,
        region=sm.LinfBall(0.05),
        box=None,
        objective=sm.Quadratic(),
        block_size=2,
    )
    assert found.robust_accuracy is None
    assert found.clean_accuracy is None
    loss = found.result["loss"]
    assert loss["attacked_mean"] > loss["clean_mean"]
    value = problem.rows().value(found.perturbations).loss
    # The mean of five losses of order 10.
    assert abs(float(value.mean()) - loss["attacked_mean"]) < 1e-9
    assert bool((found.perturbations.abs() <= 0.05).all())


def test_certificates_of_several_outputs_are_measured():
    problem = problem_of(outputs="[b, K]")
    points = sm.ascend(problem, max_steps=300).best
    found = sm.local_optimality(problem, points)
    assert all(v is not sm.Verdict.NOT_STATIONARY for v in found.verdict)
    assert sm.Evidence.PROVED not in found.evidence
