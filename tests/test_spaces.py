"""Runs in the row space of W are the runs in the input space, lifted."""

from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import seeded
from summiteer import _ascend
from summiteer.errors import UserError
from summiteer.networks.activations import ACTIVATIONS
from summiteer.spaces import choice, choose
from summiteer.spaces.row_space import row_basis

STARTS = sm.CentreStart() + sm.UniformStart(restarts=2) + sm.BoundaryStart(seed=1)
METHODS = {
    "raw, constant": sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(0.2)),
    "unit, constant": sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05)),
    "raw, Lipschitz": sm.ProjectedAscent(sm.RawGradient(), sm.LipschitzStep()),
    "unit, decaying": sm.ProjectedAscent(sm.Normalised(), sm.DecayingStep(0.2)),
    "backtracking": sm.ProjectedAscent(),
}
PLAIN = METHODS["unit, constant"]
DIM = 30


def weights_of(kind: str) -> torch.Tensor:
    """W: more inputs than neurons, fewer, and of a rank below both."""
    wide, tall = seeded(8, DIM) / DIM**0.5, seeded(40, DIM) / DIM**0.5
    low = seeded(40, 6, seed=1) @ seeded(6, DIM, seed=2) / DIM**0.5
    return {
        "d > m": wide,
        "m > d": tall,
        "m = 1": wide[:1],
        "duplicate rows": wide[[0, 1, 1, 2, 0, 3]] * torch.arange(1, 7)[:, None],
        "zero rows": torch.cat([wide[:3], 0 * wide[:2], wide[3:]]),
        "m > d, rank 6": low,
        "rows of all lengths": wide
        * 10.0 ** torch.arange(-160, 0, 20).double()[:, None],
        "all zero": 0 * wide,
    }[kind]


RANKS = {
    "d > m": 8,
    "m > d": DIM,
    "m = 1": 1,
    "duplicate rows": 4,
    "zero rows": 8,
    "m > d, rank 6": 6,
    "rows of all lengths": 8,
    "all zero": 0,
}


def problem_of(
    kind="d > m", activation="softplus", outputs=None, region=None, dtype=torch.float64
):
    """±1 targets and Logistic loss, or labels and CrossEntropy."""
    hidden = weights_of(kind)
    width = len(hidden)
    shape = (width,) if outputs is None else (outputs, width)
    network = sm.TwoLayerNetwork(
        hidden,
        seeded(*shape, seed=3),
        0.3 * seeded(width, seed=4),
        0.1 if outputs is None else 0.1 * seeded(outputs, seed=5),
        activation=activation,
    ).to(dtype)
    inputs = seeded(5, DIM, seed=6).to(dtype)
    with torch.no_grad():
        values = network(inputs)
    targets, objective = values.sign(), sm.Logistic()
    if outputs is not None:
        targets, objective = values.argmax(1), sm.CrossEntropy()
    return sm.Problem(network, inputs, targets, objective, region or sm.L2Ball(0.8))


def both(problem, adversary=None, start=STARTS, max_steps=50, **options):
    return [
        sm.ascend(problem, adversary, start, max_steps, space=space, **options)
        for space in ("input", "row")
    ]


def assert_same(plain, reduced, problem, relative=1e-12):
    scale = float(plain.final.norm(dim=2).max())
    apart = (plain.final - reduced.final).norm(dim=2)
    assert float(apart.max()) <= relative * scale
    # Which of several end points is the best by its last digit, rounding decides.
    size = float(plain.losses.abs().max())
    for name in ("losses", "best_loss"):
        apart = getattr(plain, name) - getattr(reduced, name)
        assert float(apart.abs().max()) <= relative * size, name
    assert torch.equal(plain.steps, reduced.steps)
    assert (plain.outcome == reduced.outcome).all()
    assert plain.gradient_evaluations == reduced.gradient_evaluations
    if plain.misclassified is not None:
        assert torch.equal(plain.misclassified, reduced.misclassified)
        there = plain.misclassified_points - reduced.misclassified_points
        assert float(there.abs().nan_to_num().max()) <= relative * scale
    for points in (*reduced.final, reduced.best):
        assert bool(problem.feasible.contains(points).all())
    assert (plain.space, reduced.space) == ("input", "row")


@pytest.mark.parametrize("kind", RANKS)
def test_the_basis_loses_no_row(kind):
    hidden = weights_of(kind)
    basis = row_basis(hidden)
    assert basis.shape == (DIM, RANKS[kind])
    eye = torch.eye(RANKS[kind], dtype=torch.float64)
    assert torch.allclose(basis.T @ basis, eye, atol=1e-14)
    lost = (hidden - hidden @ basis @ basis.T).norm(dim=1)
    assert bool((lost <= 1e-13 * hidden.norm(dim=1)).all())


def test_a_rank_that_is_not_clear_keeps_every_direction():
    hidden = weights_of("d > m")
    for nudge in (1e-13, 1e-11, 1e-6):
        near = torch.cat([hidden, hidden[:1] + nudge * hidden[1:2] + nudge])
        assert row_basis(near).shape[1] == 9
    # Each of these is near the span of the others, but not of those before it.
    ladder = hidden[:1] + 2e-14 * seeded(6, DIM, seed=9)
    basis = row_basis(ladder)
    units = ladder / ladder.norm(dim=1, keepdim=True)
    assert float((units - units @ basis @ basis.T).norm(dim=1).max()) <= 1e-13


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("name", METHODS)
def test_iterates_are_those_of_the_input_space(name, steps):
    problem = problem_of()
    assert_same(*both(problem, METHODS[name], max_steps=steps), problem)


@pytest.mark.parametrize("name", ["unit, constant", "raw, Lipschitz", "backtracking"])
@pytest.mark.parametrize("kind", sorted({*RANKS} - {"all zero"}))
def test_every_rank_gives_the_same_runs(kind, name):
    problem = problem_of(kind)
    assert_same(*both(problem, METHODS[name], max_steps=30), problem)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_several_outputs(activation):
    problem = problem_of(activation=activation, outputs=3)
    assert_same(*both(problem, PLAIN), problem)
    problem = problem_of(activation=activation)
    assert_same(*both(problem, METHODS["raw, constant"], max_steps=10), problem)


@pytest.mark.parametrize("name", METHODS)
def test_the_sphere_has_its_own_centre(name):
    """Its residual is scaled at (1, …, 1)/√d, which no rotation leaves alone."""
    problem = problem_of(region=sm.Sphere(0.8))
    assert_same(*both(problem, METHODS[name]), problem)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("outputs", [None, 3])
def test_the_closed_form_says_what_the_model_says_to_the_last_bit(activation, outputs):
    """Else a tie could be told as misclassified that the caller's model gets right."""
    problem = problem_of(activation=activation, outputs=outputs)
    plain = sm.ascend(problem, PLAIN, sm.CentreStart(), 5, space="input")
    there = problem.rows().evaluate(plain.final[0])
    assert torch.equal(there.loss, plain.losses[0])
    assert torch.equal(problem.rows().value(plain.final[0]).loss, plain.losses[0])


@pytest.mark.parametrize(
    "middle", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU]
)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("space", ["input", "row"])
def test_modules_of_torch_keep_their_outputs_shape_and_bits(middle, outputs, space):
    """[rows, 1] stays that: an objective may broadcast."""
    model = nn.Sequential(nn.Linear(DIM, 8), middle(), nn.Linear(8, outputs)).double()
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight.copy_(seeded(*weight.shape, seed=number) / 3)
    shapes = set()

    def objective(outputs, targets):
        shapes.add(outputs.shape[1:])
        return -(outputs - targets).square().sum(1)

    inputs, targets = seeded(5, DIM, seed=6), seeded(5, outputs, seed=7)
    problem = sm.Problem(model, inputs, targets, objective, sm.L2Ball(0.5))
    # As many rows as below: torch rounds the last few of a batch otherwise.
    centre = sm.CentreStart()
    found = sm.ascend(problem, PLAIN, centre, 5, space=space, rescue=False)
    assert shapes == {(outputs,)}
    with torch.no_grad():
        expected = objective(model(inputs + found.best), targets)
    if space == "input":
        assert torch.equal(found.best_loss, expected)
    assert torch.allclose(found.best_loss, expected, 1e-13)


def test_inputs_of_other_shapes_are_the_callers_models():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    targets = seeded(3, 5, 2, seed=1)
    problem = sm.Problem(
        model, seeded(3, 5, 4), targets, sm.Quadratic(), sm.L2Ball(0.5)
    )
    assert sm.ascend(problem, max_steps=3).space == "input"
    with pytest.raises(UserError, match=r"are not \[batch, d\]"):
        sm.ascend(problem, space="row")


def test_under_autocast_the_callers_model_is_asked():
    problem = problem_of(outputs=3, dtype=torch.float32)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(UserError, match="autocast"),
    ):
        sm.ascend(problem, space="row")


def test_radii_of_their_own_and_runs_that_end_stationary():
    radii = torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6])
    for region in (sm.L2Ball(radii), sm.Sphere(radii)):
        problem = problem_of(region=region)
        plain, reduced = both(problem, max_steps=400, recorder=sm.Recorder())
        assert {outcome.name for outcome in plain.outcome.flat} == {"STATIONARY"}
        assert_same(plain, reduced, problem, 1e-11)
        apart = (plain.residual - reduced.residual).abs()
        assert float(apart.max()) <= 1e-12
        for field in ("loss", "residual", "norm", "step_size", "displacement"):
            one, other = (getattr(a.trajectory, field) for a in (plain, reduced))
            assert torch.allclose(one, other, 1e-6, 1e-9, equal_nan=True), field


@pytest.mark.parametrize("name", METHODS)
def test_float32_to_rounding(name):
    problem = problem_of(dtype=torch.float32)
    plain, reduced = both(problem, METHODS[name], max_steps=20, tolerance=None)
    assert reduced.final.dtype == torch.float32
    apart = (plain.final - reduced.final).norm(dim=2).max()
    assert float(apart) <= 2e-6
    # What is on the boundary is still there for verdicts.
    edge = plain.final.norm(dim=2) >= 0.8 * (1 - 1e-6)
    assert bool((reduced.final.norm(dim=2)[edge] >= 0.8 * (1 - 1e-6)).all())
    assert bool(problem.feasible.contains(reduced.best).all())


def test_starts_in_the_row_space_have_no_orthogonal_part():
    problem = problem_of()
    basis = row_basis(problem.model.hidden_weights.detach())
    inside = 0.1 * seeded(5, 8, seed=8) @ basis.T
    outside = seeded(5, DIM, seed=8)
    outside = 0.1 * (outside - outside @ basis @ basis.T)
    for points in (inside, outside, 0 * inside):
        runs = both(problem, PLAIN, sm.GivenStart(points))
        assert_same(*runs, problem)
    _, reduced = both(problem, PLAIN, sm.GivenStart(outside), 0)
    assert torch.allclose(reduced.final[0], outside, atol=1e-15)


def test_flat_networks_and_gradients_that_vanish_at_the_centre():
    problem = problem_of("all zero")
    inside = sm.CentreStart() + sm.UniformStart(restarts=2)
    plain, reduced = both(problem, PLAIN, inside)
    assert {o.name for o in reduced.outcome.flat} == {"ZERO_GRADIENT"}
    assert_same(plain, reduced, problem)
    # Dead at the centre, alive at the support point of (1, …, 1).
    hidden = torch.ones(1, DIM, dtype=torch.float64)
    network = sm.TwoLayerNetwork(hidden, torch.ones(1), -hidden[0, :1], 0, "relu")
    inputs, targets = torch.zeros(2, DIM).double(), torch.ones(2).double()
    problem = sm.Problem(network, inputs, targets, sm.Quadratic(), sm.L2Ball(0.8))
    assert_same(*both(problem, PLAIN), problem)


def test_stalls_are_judged_by_the_length_of_the_whole_input():
    problem = problem_of()
    basis = row_basis(problem.model.hidden_weights.detach())
    far = problem.inputs + 1e5 * (torch.ones(DIM) - basis @ (basis.T.sum(1)))
    problem = replace(problem, inputs=far)
    tiny = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(1e-10))
    plain, reduced = both(problem, tiny)
    assert {outcome.name for outcome in plain.outcome.flat} == {"STALLED"}
    assert (plain.outcome == reduced.outcome).all()


def test_auto_reduces_where_it_pays_and_says_so():
    inputs = 0.2 * seeded(20, 200, seed=6)

    def space(width, steps=100, batch=20, adversary=PLAIN, **options):
        network = sm.TwoLayerNetwork.random(200, width)
        targets = torch.ones(batch).double()
        problem = sm.Problem(
            network, inputs[:batch], targets, sm.Logistic(), sm.L2Ball(0.5)
        )
        return sm.ascend(problem, adversary, max_steps=steps, **options).space

    assert space(10) == "row"
    assert space(10, space="input") == "input"
    assert space(10, until=sm.Misclassified()) == "row"
    assert space(170) == "input"  # 171 > 0.8 · 200
    assert space(10, steps=1) == "input"
    assert space(100, steps=20, batch=1) == "input"  # to factor W costs more
    assert space(10, adversary=sm.ProjectedAscent(sm.Sign())) == "input"


@dataclass(frozen=True)
class Own:
    """A direction or a step rule of a user's: it may look at single coordinates."""

    def __call__(self, evaluation):
        return evaluation.gradient


@dataclass(frozen=True)
class Turned(sm.Normalised):
    """Inherits the promise, but not what it was about."""

    def __call__(self, evaluation):
        return evaluation.gradient.abs()


class OwnProblem(sm.Problem):
    pass


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"model": lambda x: x[:, 0]}, {}, "function is not a TwoLayerNetwork"),
        ({"box": (-9.0, 9.0)}, {}, "not a whole L2 ball"),
        ({"mask": torch.ones(DIM, dtype=torch.bool)}, {}, "not a whole L2 ball"),
        ({"region": sm.LinfBall(0.1)}, {}, "not a whole L2 ball"),
        ({}, {"adversary": sm.ProjectedAscent(sm.Sign())}, "Sign.*rotation_invariant"),
        ({}, {"adversary": sm.ProjectedAscent(Own())}, "Own.*rotation_invariant"),
        ({}, {"adversary": sm.ProjectedAscent(Turned())}, "Turned.*rotation_invariant"),
        ({}, {"until": lambda evaluation: evaluation.wrong}, "rotation_invariant"),
    ],
)
def test_what_cannot_be_reduced_is_refused_with_the_reason(
    monkeypatch, changes, options, message
):
    problem = replace(problem_of(), **changes)
    with pytest.raises(UserError, match=f'space: "row" cannot be had: .*{message}'):
        sm.ascend(problem, space="row", **options)
    monkeypatch.setattr(choice, "_pays", lambda *_: True)
    assert sm.ascend(problem_of(), max_steps=2).space == "row"
    ascent = sm.ascend(problem, max_steps=2, **options)
    assert (ascent.space, ascent.forward_evaluations) == ("input", 0)


def test_other_refusals():
    problem = problem_of()
    with pytest.raises(UserError, match=r"expected one of .'auto', "):
        sm.ascend(problem, space="column")
    own = OwnProblem(
        problem.model, problem.inputs, problem.targets, sm.Logistic(), sm.L2Ball(0.8)
    )
    with pytest.raises(UserError, match="OwnProblem may have rows of its own"):
        sm.ascend(own, space="row")
    with pytest.raises(UserError, match="float16"):
        sm.ascend(problem_of(dtype=torch.float16), space="row")
    hook = problem.model.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match="hooks"):
        sm.ascend(problem, space="row")
    hook.remove()
    with torch.no_grad():
        problem.model.hidden_weights[0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        sm.ascend(problem, space="row")


def test_nothing_of_the_callers_is_changed():
    problem = problem_of(outputs=3)
    before = {k: v.clone() for k, v in problem.model.state_dict().items()}
    inputs = problem.inputs.clone()
    problem.model.train()
    attributes = set(vars(problem.model))
    sm.ascend(problem, space="row", max_steps=5)
    assert problem.model.training
    assert set(vars(problem.model)) == attributes
    assert all(torch.equal(before[k], v) for k, v in problem.model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in problem.model.parameters())
    assert torch.equal(problem.inputs, inputs)


def test_losses_and_errors_are_the_callers_models():
    problem = problem_of(outputs=3, region=sm.L2Ball(2.0))
    for until in (None, sm.Misclassified()):
        plain, reduced = both(problem, PLAIN, until=until)
        assert_same(plain, reduced, problem)
        assert bool(reduced.misclassified.any())
        rows = problem.rows()
        for points, losses in zip(reduced.final, reduced.losses, strict=True):
            assert torch.equal(rows.value(points).loss, losses)
        assert torch.equal(rows.value(reduced.best).loss, reduced.best_loss)
        assert bool((reduced.best_loss >= reduced.losses.amax(0)).all())
        found = reduced.misclassified
        assert bool(rows.value(reduced.misclassified_points).wrong[found].all())
        # The last points of four runs, best ones elsewhere, misclassified ones.
        ends = (reduced.final == reduced.best).all(2).any(0)
        asked = 4 * 5 + int((~ends).sum()) + int(found.sum())
        assert reduced.forward_evaluations == asked
        assert plain.forward_evaluations == 0


@pytest.mark.parametrize("shift", [-0.5, 0.5])
@pytest.mark.parametrize("recorder", [None, sm.Recorder(every=4)])
def test_claims_that_the_callers_model_denies_are_run_again(
    monkeypatch, shift, recorder
):
    """As rounding would, but often: the reduced network errs by a half."""

    def erring(*arguments):
        found = choose(*arguments)
        network = deepcopy(found.network).requires_grad_(False)
        network.output_bias += shift
        return replace(found, network=network)

    problem = problem_of(region=sm.L2Ball(0.5))
    options = {"until": sm.Misclassified(), "recorder": recorder, "max_steps": 200}
    network = problem.model
    own = problem.with_model(lambda inputs: network(inputs))
    plain = sm.ascend(own, PLAIN, STARTS, **options)
    monkeypatch.setattr(_ascend, "choose", erring)
    reduced = sm.ascend(problem, PLAIN, STARTS, space="row", **options)
    wrong = problem.rows().value(reduced.misclassified_points).wrong
    assert torch.equal(reduced.misclassified, wrong)
    again = (reduced.final == plain.final).flatten(2).all(2).all(0)
    assert bool(again.any())
    assert bool((~again).any())
    for name in ("losses", "residual", "steps"):
        one, other = getattr(plain, name), getattr(reduced, name)
        assert torch.allclose(one[:, again], other[:, again], equal_nan=True)
    assert (plain.outcome[:, again] == reduced.outcome[:, again]).all()
    if recorder is not None:
        kept = len(plain.trajectory.step)
        assert torch.equal(reduced.trajectory.step[:kept], plain.trajectory.step)
        one, other = (a.trajectory.loss[:kept, :, again] for a in (plain, reduced))
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
        assert bool(reduced.trajectory.loss[kept:, :, again].isnan().all())
