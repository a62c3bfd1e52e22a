"""Global maxima of small networks by mixed-integer programs, against enumeration."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import summiteer as sm
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.piecewise_linear import Addition, Maximum, Rectifier
from summiteer.optimality.mixed_integer import _network

SOLVER = 1e-7  # the polished point solves linear programs to 1e-9; room for big weights


class _Patterns:
    """Every activation pattern of a program, as linear programs over δ.

    Nothing of the encoding is used: a pattern makes the network affine.
    """

    def __init__(self, program, inputs, lower, upper):
        self.program, self.best = program, {}
        self.box = np.stack([lower, upper], 1)
        self.first = (np.eye(len(inputs)), inputs)

    def maximum(self, weights):
        """Largest weightsᵀz over the box."""
        self.weights, self.top = np.asarray(weights, float), -np.inf
        self._visit([self.first], [], [])
        return self.top

    def _visit(self, values, rows, sides):
        for step in self.program.steps[len(values) - 1 :]:
            given = [values[i] for i in step.sources]
            kink = self._kink(step, given)
            if kink is None:
                values = [*values, self._affine(step, given)]
                continue
            left, right = kink
            count = len(left[1])
            for signs in itertools.product([True, False], repeat=count):
                on = np.array(signs)
                sign = np.where(on, 1.0, -1.0)
                # left ≥ right where on: -(left - right)·sign ≤ 0
                matrix = -sign[:, None] * (left[0] - right[0])
                shift = sign * (left[1] - right[1])
                new = [*rows, (matrix, shift)]
                if self._possible(new):
                    chosen = (
                        np.where(on[:, None], left[0], right[0]),
                        np.where(on, left[1], right[1]),
                    )
                    self._visit([*values, chosen], new, sides)
            return
        slope = self.weights @ values[-1][0]
        found = self._solve(-slope, rows)
        if found is not None:
            self.top = max(self.top, -found + self.weights @ values[-1][1])

    def _kink(self, step, given):
        operation = step.operation
        if isinstance(operation, Rectifier):
            matrix, shift = given[0]
            return given[0], (operation.slope * matrix, operation.slope * shift)
        if isinstance(operation, Maximum):
            absent = operation.absent.flatten().numpy()
            left, right = given
            return left, (
                np.where(absent[:, None], left[0], right[0]),
                np.where(absent, left[1], right[1]),
            )
        return None

    def _affine(self, step, given):
        if isinstance(step.operation, Addition):
            return given[0][0] + given[1][0], given[0][1] + given[1][1]
        matrix, shift = given[0]
        source = (self.program.shape, *(s.shape for s in self.program.steps))
        shape = source[step.sources[0]]
        rows = torch.from_numpy(np.concatenate([matrix.T, np.zeros((1, len(shift)))]))
        made = step.operation.apply(rows.reshape(-1, *shape)).flatten(1).numpy()
        moved = step.operation.apply(torch.from_numpy(shift).reshape(1, *shape))
        return (made[:-1] - made[-1]).T, moved.flatten().numpy()

    def _possible(self, rows):
        return self._solve(np.zeros(len(self.box)), rows) is not None

    def _solve(self, cost, rows):
        matrix = np.concatenate([row[0] for row in rows]) if rows else None
        shift = np.concatenate([row[1] for row in rows]) if rows else None
        found = linprog(cost, matrix, shift, bounds=self.box)
        return float(found.fun) if found.status == 0 else None


def _weights(objective, target, outputs):
    """(weights of the linear pieces, what the largest of them makes)."""
    unit = np.eye(outputs)
    if isinstance(objective, sm.Quadratic):
        y = float(target)
        return [(unit[0], -y), (-unit[0], y)], lambda t: 0.5 * t**2
    link = (lambda t: t) if isinstance(objective, sm.Margin) else np.logaddexp
    if outputs == 1:
        rows = [(-float(target) * unit[0], 0.0)]
    else:
        y = int(target)
        rows = [(unit[k] - unit[y], 0.0) for k in range(outputs) if k != y]
    return rows, (lambda t: t) if link is not np.logaddexp else lambda t: link(0, t)


def _enumerated(problem):
    program = _network(problem)
    points = problem.inputs.flatten(1)
    lower, upper = (
        limit.expand(problem.inputs.shape).flatten(1).numpy()
        for limit in problem.feasible.limits(problem.inputs)
    )
    tops = []
    for i, target in enumerate(problem.targets):
        outputs = program.steps[-1].shape[-1]
        rows, link = _weights(problem.objective, target, outputs)
        patterns = _Patterns(program, points[i].numpy(), lower[i], upper[i])
        tops.append(link(max(patterns.maximum(a) + b for a, b in rows)))
    return torch.tensor(tops, dtype=torch.float64)


class _Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 3)
        self.inner, self.act = nn.Linear(3, 3), nn.ReLU()

    def forward(self, x):
        x = self.act(self.first(x))
        return self.last(x + self.inner(x))


def _model(name, seed=0):
    generator = torch.Generator().manual_seed(seed)
    linear, relu = nn.Linear, nn.ReLU
    model = {
        "deep": lambda: nn.Sequential(
            linear(2, 3), relu(), linear(3, 4), relu(), linear(4, 3)
        ),
        "two classes": lambda: nn.Sequential(
            linear(3, 4), relu(), linear(4, 3), relu(), linear(3, 2)
        ),
        "leaky": lambda: nn.Sequential(
            linear(2, 4), nn.LeakyReLU(0.2), linear(4, 3), relu(), linear(3, 1)
        ),
        "residual": _Residual,
        "pooled": lambda: nn.Sequential(
            nn.Conv2d(1, 2, 2), relu(), nn.MaxPool2d((1, 2)), nn.Flatten(),
            linear(2, 3),
        ),
        "normalised": lambda: nn.Sequential(
            linear(2, 4), nn.BatchNorm1d(4), relu(), linear(4, 1)
        ),
    }[name]().double().eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            draw = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.copy_(draw)
    return model


SHAPES = {"two classes": (3,), "pooled": (1, 2, 3)}
OUTPUTS = {"leaky": 1, "normalised": 1, "two classes": 2}


def _problem(name, objective, region, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed + 7)
    shape = (count, *SHAPES.get(name, (2,)))
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    outputs = OUTPUTS.get(name, 3)
    if isinstance(objective, sm.Quadratic):
        targets = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    elif outputs == 1:
        targets = torch.tensor([[1.0], [-1.0]] * count, dtype=torch.float64)[:count]
    else:
        targets = torch.arange(count) % outputs
    return sm.Problem(_model(name, seed), inputs, targets, objective, region)


BALL, BOX = sm.LinfBall(0.8), sm.Box(-0.4, 1.1)
CASES = [
    ("deep", sm.Margin(), BALL),
    ("two classes", sm.CrossEntropy(), BOX),
    ("leaky", sm.Quadratic(), BALL),
    ("leaky", sm.Logistic(), BOX),
    ("residual", sm.Margin(), BALL),
    ("residual", sm.Margin(), BOX),
    ("pooled", sm.Margin(), BALL),
    ("normalised", sm.Margin(), BOX),
]
NAMES = [f"{n}-{type(o).__name__}-{type(r).__name__}" for n, o, r in CASES]


@pytest.mark.parametrize(("name", "objective", "region"), CASES, ids=NAMES)
def test_it_is_the_best_of_all_activation_patterns(name, objective, region):
    problem = _problem(name, objective, region, count=2)
    found = sm.global_maximum(problem)
    assert found.optimal == (True, True), found.reason
    expected = _enumerated(problem)
    torch.testing.assert_close(found.value, expected, rtol=SOLVER, atol=SOLVER)
    # The dual bound is known to the solver's gap and feasibility only.
    torch.testing.assert_close(found.bound, expected, rtol=1e-5, atol=1e-5)
    assert bool((found.bound >= found.value).all())


@pytest.mark.parametrize("objective", [sm.Quadratic(), sm.Logistic(), sm.Margin()])
def test_no_sample_and_no_ascent_is_higher(objective):
    net = sm.TwoLayerNetwork.random(2, 30, "relu", seed=3, bias_std=1.0)
    inputs = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64)
    targets = torch.tensor([1.0, -1.0], dtype=torch.float64)
    problem = sm.Problem(net, inputs, targets, objective, sm.LinfBall(1.0))
    found = sm.global_maximum(problem)
    assert found.optimal == (True, True)
    line = torch.linspace(-1, 1, 201, dtype=torch.float64)
    net.requires_grad_(False)
    for point in torch.cartesian_prod(line, line).split(20000):
        for i in range(2):
            outputs = net(inputs[i] + point)
            values = objective(outputs, targets[i].expand(len(point)))
            assert float(values.max()) <= float(found.value[i]) + 1e-12
    ascent = sm.ascend(
        problem, sm.ProjectedAscent(), sm.UniformStart(restarts=8, seed=0), 50
    )
    best = problem.rows().value(ascent.best).loss
    assert bool((best <= found.value + 1e-12).all())


def test_points_lie_in_the_region_and_have_the_value():
    problem = _problem("deep", sm.Margin(), sm.LinfBall(torch.tensor([0.3, 0.9, 2.0])))
    found = sm.global_maximum(problem)
    assert bool(problem.feasible.contains(found.points, 0.0).all())
    assert found.points.shape == problem.inputs.shape
    torch.testing.assert_close(
        problem.rows().value(found.points).loss, found.value, rtol=0, atol=0
    )


def test_boxes_in_input_coordinates_and_masks_hold():
    plain = _problem("deep", sm.Margin(), sm.LinfBall(0.8))
    inputs = plain.inputs.clamp(0, 1)
    problem = sm.Problem(
        plain.model,
        inputs,
        plain.targets,
        sm.Margin(),
        plain.region,
        box=(0.0, 1.0),
        mask=torch.tensor([True, False]),
    )
    found = sm.global_maximum(problem)
    moved = inputs + found.points
    assert bool((found.points[:, 1] == 0).all())
    assert bool(((moved >= 0) & (moved <= 1)).all())
    torch.testing.assert_close(found.value, _enumerated(problem), rtol=0, atol=SOLVER)


def test_where_no_kink_can_turn_there_is_nothing_to_search():
    problem = _problem("deep", sm.Margin(), sm.LinfBall(1e-6))
    found = sm.global_maximum(problem)
    assert found.nodes == (0, 0, 0)
    assert found.optimal == (True, True, True)
    # Of an affine function: a vertex.
    assert bool((found.points.abs() == 1e-6).all())


def test_time_that_runs_out_is_admitted():
    net = sm.TwoLayerNetwork.random(40, 200, "relu", seed=1, bias_std=0.5)
    inputs = torch.zeros(1, 40, dtype=torch.float64)
    problem = sm.Problem(
        net, inputs, torch.ones(1, dtype=torch.float64), sm.Margin(), sm.LinfBall(0.5)
    )
    found = sm.global_maximum(problem, time_limit=0.5)
    assert found.optimal == (False,)
    assert "time limit" in found.reason[0]
    assert float(found.bound) > float(found.value)
    assert float(found.value) >= float(problem.rows().value(0 * inputs).loss)
    # What no solver had to say: Σ of the positive parts at the corners.
    net.requires_grad_(False)
    sizes = net.hidden_weights.abs().sum(1) * 0.5 + net.hidden_bias.abs()
    assert float(found.bound) <= float((net.output_weights.abs() * sizes).sum())


def test_single_precision_networks_are_examined_in_double():
    problem = _problem("deep", sm.Margin(), sm.LinfBall(0.8))
    model = _model("deep").float()
    small = sm.Problem(
        model, problem.inputs.float(), problem.targets, sm.Margin(), sm.LinfBall(0.8)
    )
    found = sm.global_maximum(small)
    assert found.optimal == (True, True, True), found.reason
    assert found.value.dtype == torch.float64
    assert next(model.parameters()).dtype == torch.float32
    twin = sm.Problem(
        _model("deep").float().double(),
        small.inputs.double(),
        problem.targets,
        sm.Margin(),
        sm.LinfBall(float(torch.tensor(0.8))),
    )
    expected = sm.global_maximum(twin).value
    torch.testing.assert_close(found.value, expected, rtol=1e-6, atol=1e-6)


def test_no_traces_are_left():
    problem = _problem("normalised", sm.Margin(), sm.LinfBall(0.3))
    problem.model.train()
    state = torch.get_rng_state()
    with pytest.warns(sm.SummiteerWarning, match="train mode"):
        sm.global_maximum(problem)
    assert torch.equal(torch.get_rng_state(), state)
    assert problem.model.training
    assert all(w.requires_grad and w.grad is None for w in problem.model.parameters())


def _refused(match, *given, problem=None, **named):
    problem = problem or _problem("deep", sm.Margin(), sm.LinfBall(0.3))
    with pytest.raises(sm.UserError, match=match):
        sm.global_maximum(problem, *given, **named)


def test_what_cannot_be_done_is_said():
    _refused('method: expected "milp"', "exact")
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        _refused("time_limit: expected seconds", time_limit=seconds)
    three = _problem("deep", sm.CrossEntropy(), sm.LinfBall(0.3))
    _refused("objective: CrossEntropy of 3 output", problem=three)
    round_ = _problem("deep", sm.Margin(), sm.L2Ball(0.3))
    _refused("region: a mixed-integer linear program needs", problem=round_)
    net = TwoLayerNetwork.random(3, 4, "softplus")
    inputs = torch.zeros(1, 3, dtype=torch.float64)
    target = torch.ones(1, dtype=torch.float64)
    smooth = sm.Problem(net, inputs, target, sm.Margin(), sm.LinfBall(0.3))
    _refused("recognised piecewise-linear network: softplus", problem=smooth)
    opaque = sm.Problem(lambda x: x.sum(1), inputs, target, sm.Margin(), sm.LinfBall(1))
    _refused("model: a mixed-integer program needs a recognised", problem=opaque)
    wide = TwoLayerNetwork.random(3, 20001, "relu")
    large = sm.Problem(wide, inputs, target, sm.Margin(), sm.LinfBall(0.3))
    _refused("20001 kinks are too many", problem=large)
