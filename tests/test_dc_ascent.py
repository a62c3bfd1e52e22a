"""DC ascent: monotone, exact at its end, and refused where it makes no sense."""

import pytest
import torch
from torch import Tensor

import summiteer as sm
from summiteer.networks.activations import LeakyRelu

REGIONS = {
    "ball": (sm.L2Ball(0.5), None),
    "cube": (sm.LinfBall(0.3), None),
    "box": (sm.LinfBall(0.3), (-0.9, 0.9)),
    "both": (sm.L2Ball(0.5), (-0.9, 0.9)),
}
settings = pytest.mark.parametrize(
    ("kind", "activation"),
    [*((kind, "relu") for kind in REGIONS), ("ball", "abs"), ("both", "leaky_relu")],
)


def rand(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def problem(
    dim: int,
    width: int,
    kind: str = "ball",
    activation: str = "relu",
    biases: float = 1.0,
    objective=None,
    outputs: int | None = None,
    seed: int = 0,
) -> sm.Problem:
    heads = () if outputs is None else (outputs,)
    network = sm.TwoLayerNetwork(
        rand(width, dim, seed=seed),
        rand(*heads, width, seed=seed + 1) / width**0.5,
        biases * rand(width, seed=seed + 2),
        activation=activation,
    )
    inputs = 0.9 * torch.nn.functional.normalize(rand(8, dim, seed=seed + 3), dim=1)
    targets = rand(8, seed=seed + 4).sign()
    if outputs is not None:
        targets = torch.arange(8) % outputs
    region, box = REGIONS[kind]
    return sm.Problem(
        network, inputs, targets, objective or sm.Quadratic(), region, box=box
    )


def run(setting: sm.Problem, restarts: int = 3, **options) -> sm.Ascent:
    start = sm.UniformStart(restarts=restarts)
    return sm.ascend(setting, sm.DCAscent(**options), start, max_steps=200)


@settings
def test_it_rises_and_stops(kind, activation):
    setting = problem(6, 30, kind, activation)
    recorder = sm.Recorder(every=1)
    start = sm.UniformStart(restarts=2)
    ascent = sm.ascend(setting, sm.DCAscent(), start, 200, recorder)
    loss = ascent.trajectory.loss
    rise = loss.diff(dim=0)
    assert (rise[rise.isfinite()] >= -1e-15 * loss[loss.isfinite()].max()).all()
    assert not (ascent.outcome == sm.Outcome.STEP_LIMIT).any()
    assert setting.feasible.contains(ascent.final[0]).all()


@settings
@pytest.mark.parametrize("approach", [0, 30])
def test_ends_are_local_maxima_on_a_fine_grid(kind, activation, approach):
    setting = problem(2, 12, kind, activation, seed=10)
    ascent = run(setting, approach=approach)
    network, losses = setting.model, ascent.losses
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    patch = torch.cartesian_prod(axis, axis)
    index = torch.arange(8)
    for restart in range(3):
        for size in (1e-3, 1e-5):
            points = ascent.final[restart][:, None] + size * patch
            # Row by row, for the box is the example's own.
            near = torch.stack(
                [
                    setting.feasible.take(index[i].expand(len(patch))).project(
                        points[i]
                    )
                    for i in range(8)
                ]
            )
            with torch.no_grad():
                outputs = network((setting.inputs[:, None] + near).flatten(0, 1))
            around = 0.5 * (outputs.reshape(8, -1) - setting.targets[:, None]).square()
            assert (around.amax(1) <= losses[restart] + 1e-12).all()


@pytest.mark.parametrize(
    ("kind", "biases"), [("ball", 0.0), ("ball", 1.0), ("cube", 1.0), ("both", 0.0)]
)
def test_it_is_never_below_long_projected_ascent(kind, biases):
    setting = problem(6, 24, kind, biases=biases, seed=20)
    start = sm.UniformStart(restarts=2)
    exact = sm.ascend(setting, sm.DCAscent(), start)
    zigzag = sm.ascend(setting, None, start, max_steps=300)
    worse = exact.losses < zigzag.losses - 1e-12
    assert worse.double().mean() <= 0.01
    assert exact.gradient_evaluations < zigzag.gradient_evaluations


@pytest.mark.parametrize(("objective", "outputs"), [("Margin", 5), ("CrossEntropy", 2)])
def test_several_outputs(objective, outputs):
    setting = problem(
        6, 24, objective=getattr(sm, objective)(), outputs=outputs, seed=30
    )
    start = sm.UniformStart(restarts=2)
    exact = sm.ascend(setting, sm.DCAscent(), start)
    zigzag = sm.ascend(setting, None, start, max_steps=300)
    assert (exact.losses >= zigzag.losses - 1e-12).double().mean() >= 0.9
    # Carried on from there projected ascent finds nothing.
    again = sm.ascend(setting, None, sm.GivenStart(exact.best), max_steps=50)
    assert (again.best_loss <= exact.best_loss + 1e-10).all()


def test_interior_maxima_are_reached_exactly():
    # f = -|x_1| - |x_2|, whose top is inside the ball.
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=torch.float64), -torch.ones(2).double(), activation="abs"
    )
    inputs = torch.tensor([[0.2, -0.1], [0.05, 0.3]]).double()
    targets = torch.full((2,), -1.0, dtype=torch.float64)  # Margin: +f
    setting = sm.Problem(network, inputs, -targets * -1, sm.Margin(), sm.L2Ball(0.5))
    ascent = sm.ascend(setting, sm.DCAscent(), sm.CentreStart())
    torch.testing.assert_close(ascent.final[0], -inputs, rtol=0, atol=1e-14)


def test_a_tie_at_the_start_is_left():
    # relu(x) at x = 0: the pattern "off" sees a flat function.
    network = sm.TwoLayerNetwork(
        torch.tensor([[1.0, 0.0]]).double(), torch.ones(1).double(), activation="relu"
    )
    inputs, targets = torch.zeros(1, 2).double(), -torch.ones(1).double()
    setting = sm.Problem(network, inputs, targets, sm.Margin(), sm.L2Ball(0.5))
    ascent = sm.ascend(
        setting, sm.DCAscent(approach=0), sm.CentreStart(), tolerance=None
    )
    assert ascent.best_loss.item() == pytest.approx(0.5, rel=1e-14)


def test_slopes_of_leaky_relu_interpolate():
    base = problem(5, 20)
    network = base.model
    weights = [
        weight.detach()
        for weight in (
            network.hidden_weights,
            network.output_weights,
            network.hidden_bias,
        )
    ]
    leaky = sm.TwoLayerNetwork(*weights, activation=LeakyRelu(0.0))
    assert torch.equal(leaky(base.inputs), network(base.inputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "activation relu, leaky_relu or abs"),
        ({"outputs": 3, "objective": sm.CrossEntropy()}, "scalar loss"),
    ],
)
def test_it_says_what_it_needs(change, message):
    with pytest.raises(sm.UserError, match=message):
        run(problem(3, 5, **change))


def test_spheres_and_unknown_models_are_refused():
    setting = problem(3, 5)
    sphere = sm.Problem(
        setting.model, setting.inputs, setting.targets, sm.Quadratic(), sm.Sphere(0.5)
    )
    with pytest.raises(sm.UserError, match="convex region"):
        sm.ascend(sphere, sm.DCAscent())
    other = sm.Problem(
        lambda x: x.sum(1),
        setting.inputs,
        setting.targets,
        sm.Quadratic(),
        sm.L2Ball(1),
    )
    with pytest.raises(sm.UserError, match="two-layer network"):
        sm.ascend(other, sm.DCAscent())
    with pytest.raises(sm.UserError, match="approach"):
        sm.DCAscent(approach=-1)


def test_float32_runs_in_its_own_dtype():
    setting = problem(6, 30)
    network = setting.model.float()
    single = sm.Problem(
        network,
        setting.inputs.float(),
        setting.targets.float(),
        sm.Quadratic(),
        sm.L2Ball(0.5),
    )
    ascent = run(single)
    assert ascent.final.dtype == torch.float32
    assert sm.L2Ball(0.5).contains(ascent.final.flatten(0, 1)).all()
