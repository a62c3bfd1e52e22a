"""The prover of deep piecewise-linear networks through `sm.local_optimality` (§9)."""

import copy

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import seeded
from kinked import F64, REGIONS, ascending, linear, losses, near, perceptron
from summiteer import Evidence, Verdict
from summiteer.optimality import piecewise

ROWS = 6
WITHIN = 1e-3


class Residual(nn.Module):
    """Convolution, BatchNorm, a residual branch, max-pooling, a linear head."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x)))
        h = torch.relu(h + self.second(h))
        return self.head(torch.flatten(self.pool(h), 1))


def seeded_weights(model, seed):
    """All tensors of a model from a seed, as training might leave them."""
    model = model.double().eval()
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if "num_batches" in name:
            continue
        size = seeded(*tensor.shape, seed=seed + number)
        fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
        value = 1.5 * size / fan**0.5
        if "running_var" in name or name == "norm.weight":
            value = 0.5 + size.abs()
        tensor.copy_(value)
    return model


def residual(classes=3, seed=1):
    return seeded_weights(Residual(classes), seed)


MODELS = {
    "perceptron": lambda classes: perceptron((4, 10, 8, classes), seed=2),
    "residual": residual,
}
SHAPES = {"perceptron": (4,), "residual": (1, 4, 4)}
OBJECTIVES = {
    "margin": (sm.Margin(), 3),
    "entropy": (sm.CrossEntropy(), 3),
    "quadratic": (sm.Quadratic(), 1),
    "logistic": (sm.Logistic(), 1),
}


def problem_of(model, objective, region, rows=ROWS, dtype=F64):
    network = MODELS[model](OBJECTIVES[objective][1])
    inputs = seeded(rows, *SHAPES[model], seed=3)
    with torch.no_grad():
        outputs = network(inputs)
    if outputs.shape[1] > 1:
        targets = outputs.argmax(1)
    else:
        targets = torch.where(seeded(rows, seed=4) > 0, 1.0, -1.0).to(dtype)
    return sm.Problem(
        network.to(dtype), inputs.to(dtype), targets, OBJECTIVES[objective][0], region
    )


def ends(problem, steps=60):
    """Where a short ascent ends: maxima, ridges and points in between."""
    adversary = sm.ProjectedAscent(sm.Normalised(), sm.BacktrackingStep())
    start = sm.UniformStart(restarts=1, seed=5)
    return sm.ascend(problem, adversary, start, max_steps=steps).final[0]


def speak(problem, points, within=WITHIN):
    """What the prover alone says."""
    with torch.no_grad():
        return piecewise.prove(problem.in_double(), points.double(), within)


def check_maximum(problem, claims, row, given, within):
    """A claimed maximum against points at many scales around it."""
    numbers = {name: float(value[row]) for name, value in claims.numbers.items()}
    found = claims.certified_point[row]
    here = losses(problem, row, given[None])
    top = losses(problem, row, found[None])
    size = float(problem.size[row])
    assert numbers["distance_bound"] <= within * size
    assert float((found - given).norm()) <= numbers["distance_bound"] + 1e-15
    noise = 4e-15 * (1 + float(here.abs()))
    assert float(top - here) <= numbers["loss_gap_bound"] + noise
    best = numbers["best_radius"]
    scales = [s for s in torch.logspace(-7, 0, 8).tolist() if s < 0.9 * best]
    seen = near(problem, row, given, [*scales, 0.9 * best], 60, seed=row)
    apart = (seen - given).flatten(1).norm(dim=1)
    risen = losses(problem, row, seen)[apart <= best] - here
    assert bool((risen <= numbers["loss_gap_bound"] + noise).all())
    if claims.verdict[row] is Verdict.FLAT:
        assert bool((risen.abs() <= noise).all())
    # Where the maximiser itself is said to be, nothing near it is higher.
    close = near(problem, row, found, (1e-8, 1e-6), 60, seed=row)
    gap = numbers["loss_gap_bound"] + noise
    assert float((losses(problem, row, close) - here).max()) <= gap


def check_uphill(problem, claims, row, given, within):
    """A claimed way uphill, from points near the given one."""
    way, size = claims.direction[row], float(problem.size[row])
    seen = near(problem, row, given, (within * size, 0.1 * within * size), 20, seed=row)
    index = torch.full((len(seen),), row)
    slope = problem.rows(index).evaluate(seen).gradient
    assert bool(((slope * way).flatten(1).sum(1) > 0).all())
    gain = float(claims.numbers["guaranteed_gain"][row])
    if gain > 0:
        steps = torch.linspace(0, 1, 200, dtype=F64).reshape(-1, *([1] * way.ndim))
        line = given + within * size * steps * way
        risen = losses(problem, row, line) - losses(problem, row, given[None])
        assert float(risen.max()) >= 0.99 * gain - 1e-14


CASES = [
    ("perceptron", objective, name) for objective in OBJECTIVES for name in REGIONS
]
CASES += [("residual", "margin", "ball"), ("residual", "entropy", "both")]
CASES += [("residual", "quadratic", "cube")]


@pytest.mark.parametrize(("model", "objective", "name"), CASES)
def test_verdicts_agree_with_brute_force(model, objective, name):
    problem = problem_of(model, objective, REGIONS[name])
    points = ends(problem)
    points[::4] = problem.feasible.project(0.4 * seeded(*points.shape, seed=6))[::4]
    decided = 0
    for within in (WITHIN, 1e-2) if name == "ball" else (WITHIN,):
        claims = speak(problem, points, within)
        for row, verdict in enumerate(claims.verdict):
            proved = claims.evidence[row] is Evidence.PROVED
            assert proved == (verdict is not Verdict.UNDECIDED)
            if verdict.is_maximum or verdict is Verdict.FLAT:
                check_maximum(problem, claims, row, points[row], within)
            elif proved:
                assert verdict is Verdict.NOT_STATIONARY
                check_uphill(problem, claims, row, points[row], within)
            else:
                assert claims.reason[row]
        decided += sum(e is Evidence.PROVED for e in claims.evidence)
    assert decided >= ROWS // 2


def test_a_deep_network_is_proved_through_the_front_door():
    problem = problem_of("perceptron", "margin", REGIONS["cube"])
    points = ends(problem)
    certificate = sm.local_optimality(problem, points)
    proved = [e is Evidence.PROVED for e in certificate.evidence]
    assert sum(proved) >= ROWS // 2
    for row, sure in enumerate(proved):
        assert (certificate.proposition[row] in ("Prop. 10", "Prop. 11")) == sure
        assert (certificate.unproved[row] == "") == sure
        assert certificate.explain(row)


def same(one, other, row, place):
    """Whether two claims say the same of a row each."""
    assert one.verdict[row] is other.verdict[place]
    assert one.evidence[row] is other.evidence[place]
    assert one.reason[row] == other.reason[place]
    for name, value in one.numbers.items():
        left = value[row]
        right = other.numbers.get(name, torch.full_like(value, torch.nan))[place]
        # Distances are roots of rounding, which differs from one GEMM to the next.
        assert torch.allclose(left, right, rtol=1e-6, atol=1e-7, equal_nan=True), name


@pytest.mark.parametrize("objective", ["margin", "entropy"])
def test_a_row_is_judged_the_same_alone_and_in_company(objective):
    problem = problem_of("perceptron", objective, REGIONS["ball"])
    points = ends(problem)
    whole = speak(problem, points)
    order = torch.tensor([5, 2, 3, 0])
    some = speak(problem.take(order), points[order])
    for place, row in enumerate(order.tolist()):
        same(whole, some, row, place)
    for row in range(2):
        index = torch.tensor([row])
        same(whole, speak(problem.take(index), points[index]), row, 0)


def test_nothing_of_the_caller_is_touched():
    problem = problem_of("residual", "entropy", REGIONS["both"])
    model = problem.model.train()
    model.head.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    points = seeded(ROWS, 1, 4, 4, seed=7) * 0.05
    kept, inputs = points.clone(), problem.inputs.clone()
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    model.eval()
    certificate = sm.local_optimality(problem, points)
    assert not any(m.training for m in model.modules())
    assert any(modes)
    assert any(e is Evidence.PROVED for e in certificate.evidence)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(points, kept)
    assert torch.equal(problem.inputs, inputs)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not model.head.weight.requires_grad
    assert model.first.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_model_left_in_training_mode_is_put_back_as_it_was():
    problem = problem_of("residual", "margin", REGIONS["ball"])
    zero = torch.zeros_like(problem.inputs)
    judged = sm.local_optimality(problem, zero)
    problem.model.train()
    buffers = {n: b.clone() for n, b in problem.model.named_buffers()}
    again = sm.local_optimality(problem, zero)
    assert again.verdict == judged.verdict
    assert problem.model.training
    assert problem.model.norm.training
    for name, buffer in problem.model.named_buffers():
        assert torch.equal(buffer, buffers[name])


class Odd(nn.Module):
    """A ReLU network with one thing in it that is not piecewise linear."""

    def __init__(self, function):
        super().__init__()
        self.one, self.two = linear(seeded(5, 4, seed=1)), linear(seeded(3, 5, seed=2))
        self.odd = function

    def forward(self, x):
        return self.two(self.odd(torch.relu(self.one(x))))


@pytest.mark.parametrize(
    ("layer", "name"), [(nn.Sigmoid(), "Sigmoid"), (nn.LayerNorm(5), "LayerNorm")]
)
def test_what_is_not_known_is_named_and_never_proved(layer, name):
    model = Odd(layer.double()).eval()
    inputs = seeded(4, 4, seed=3)
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    problem = sm.Problem(model, inputs, targets, sm.Margin(), sm.LinfBall(0.1))
    certificate = sm.local_optimality(problem, torch.zeros_like(inputs))
    for row in range(4):
        assert certificate.evidence[row] is not Evidence.PROVED
        assert name in certificate.unproved[row] or "odd" in certificate.unproved[row]


def test_a_dead_network_is_flat_and_a_dead_coordinate_makes_no_maximum_strict():
    dead = nn.Sequential(
        linear(seeded(4, 3, seed=1), torch.full((4,), -9.0)),
        nn.ReLU(),
        linear(seeded(4, 4, seed=2)),
        nn.ReLU(),
        linear(seeded(1, 4, seed=3)),
    )
    inputs = torch.zeros(3, 3, dtype=F64)
    points = torch.tensor([[0.0, 0, 0], [0.1, 0.2, -0.1], [0.4, 0.4, 0.4]]).double()
    for region in (sm.L2Ball(1.0), sm.LinfBall(0.5)):
        claims = speak(ascending(dead, inputs, region), points)
        assert claims.verdict == [Verdict.FLAT] * 3
        assert claims.evidence == [Evidence.PROVED] * 3
    half = nn.Sequential(
        linear([[1.0, 0.0, 2.0], [0.5, 0.0, 1.0]]), nn.ReLU(), linear([[1.0, 1.0]])
    )
    problem = ascending(half, inputs + 1.0, sm.LinfBall(0.5))
    corner = torch.tensor([[0.5, 0.0, 0.5], [0.5, 0.3, 0.5], [0.5, -0.2, 0.5]]).double()
    claims = speak(problem, corner)
    assert claims.verdict == [Verdict.LOCAL_MAXIMUM] * 3
    whole = nn.Sequential(
        linear([[1.0, 1.0, 2.0], [0.5, 0.0, 1.0]]), nn.ReLU(), linear([[1.0, 1.0]])
    )
    full = torch.full((3, 3), 0.5, dtype=F64)
    claims = speak(ascending(whole, inputs + 1.0, sm.LinfBall(0.5)), full)
    assert claims.verdict == [Verdict.STRICT_LOCAL_MAXIMUM] * 3


def test_float32_models_are_proved_as_the_function_that_their_weights_define():
    problem = problem_of("perceptron", "margin", REGIONS["cube"], dtype=torch.float32)
    points = ends(problem)
    certificate = sm.local_optimality(problem, points)
    proved = [r for r, e in enumerate(certificate.evidence) if e is Evidence.PROVED]
    assert len(proved) >= ROWS // 2
    double = problem.in_double()
    for row in proved:
        if not certificate.verdict[row].is_maximum:
            continue
        found = certificate.certified_point[row]
        seen = near(double, row, found, (1e-6, 1e-4), 100, seed=row)
        here = losses(double, row, found[None])
        gap = float(certificate.loss_gap_bound[row]) + 1e-14
        assert float((losses(double, row, seen) - here).max()) <= gap
    assert problem.inputs.dtype == torch.float32
    assert next(problem.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("model", ["residual"])
def test_polished_points_are_higher_and_proved(model):
    problem = problem_of(model, "margin", REGIONS["ball"])
    start = problem.feasible.project(0.5 * seeded(*problem.inputs.shape, seed=8))
    polished = sm.polish(problem, start)
    assert polished.dtype == F64
    assert polished.shape == start.shape
    before, after = (problem.rows().value(x).loss for x in (start, polished))
    assert bool((after >= before - 1e-14 * (1 + before.abs())).all())
    norms = polished.flatten(1).norm(dim=1)
    assert bool((norms <= problem.size * (1 + 1e-14)).all())
    claims = speak(problem, polished)
    maxima = [v.is_maximum or v is Verdict.FLAT for v in claims.verdict]
    assert sum(maxima) >= ROWS - 2
    # Once more changes nothing: they are where ascent ends.
    again = problem.rows().value(sm.polish(problem, polished)).loss
    assert bool(((again - after)[torch.tensor(maxima)].abs() <= 1e-9).all())


def test_parts_of_a_batch_are_told_what_the_whole_is_told(monkeypatch):
    problem = problem_of("residual", "margin", sm.LinfBall(0.1))
    points = sm.ascend(problem, start=sm.CentreStart(), max_steps=100).best
    points[::3] = 0.0  # no maxima
    whole = sm.local_optimality(problem, points)
    monkeypatch.setattr(piecewise, "_PART", 4)
    parts = sm.local_optimality(problem, points)
    assert len(set(whole.verdict)) > 1
    for name in ("verdict", "evidence", "reason", "proposition"):
        assert getattr(whole, name) == getattr(parts, name), name
    for name in ("distance_bound", "best_radius", "residual"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert torch.allclose(one, other, 1e-6, 1e-12, equal_nan=True), name
