"""AutoPGD beside its reference implementation and two that differ from it."""

import sys
import types

import pytest
import torch
from torch.nn import functional

import summiteer as sm
from fakes import classifier, seeded

pytestmark = [
    pytest.mark.peer,
    # torch.jit and numpy, from inside the peers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def double():
    """The reference keeps losses in torch's default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def relu_net(seed=0, widths=(20, 32, 4)):
    net = classifier(widths, seed=seed)
    return torch.nn.Sequential(net[0], torch.nn.ReLU(), net[2]).eval()


def problem_of(model, region, batch=24, width=20):
    inputs = 0.5 + 0.05 * seeded(batch, width, seed=7).clamp(-2, 2)
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    return sm.Problem(model, inputs, labels, sm.CrossEntropy(), region, box=(0.0, 1.0))


def iterates(problem, steps, **options):
    """Every point of AutoPGD from the centre, `[steps + 1, batch, d]`."""
    rows, adversary = problem.rows(), sm.AutoPGD(steps, **options)
    points = torch.zeros_like(problem.inputs)
    evaluation, path = rows.evaluate(points), [points]
    state = adversary.init(rows, points, evaluation)
    for _ in range(steps):
        made = adversary.step(rows, points, evaluation, state)
        points, state = made.points, made.state
        evaluation = rows.evaluate(points)
        path.append(points)
    return torch.stack(path)


def reference(problem, steps, norm, paper):
    """The reference's iterates, best points and losses from the clean inputs.

    Args:
        paper: let a step count as a rise by where it was made from, as ours does: the
            only change to the reference.
    """
    base = pytest.importorskip("pyautoattack.autopgd_base")
    seen = []

    class Rises(base.APGDAttack):
        def check_oscillation(self, x, j, k, y5, k3=0.75):
            if not paper:
                return super().check_oscillation(x, j, k, y5, k3)
            path = x[j - k + 1 : j + 1]
            if j + 1 == k:
                before, self.halved = self.start, torch.ones_like(self.start).bool()
                self.best = self.start
            else:
                before = torch.where(self.halved, self.best, x[j - k])
            count = (path > torch.cat([before[None], path[:-1]])).sum(0)
            few = count <= k * k3
            self.halved = few | (~self.halved & (self.best >= y5))
            self.best = y5.clone()
            return few.to(y5)

    def model(inputs):
        seen.append(inputs.detach().clone())
        return problem.model(inputs)

    attack = Rises(model, steps, norm, eps=float(problem.size[0]), device="cpu")
    attack.init_hyperparam(problem.inputs)
    attack.start = problem.rows().evaluate(torch.zeros_like(problem.inputs)).loss
    best, _, loss, _ = attack.attack_single_run(
        problem.inputs, problem.targets, x_init=problem.inputs.clone()
    )
    return torch.stack(seen) - problem.inputs, best, loss


REGIONS = {"L2": sm.L2Ball(0.35), "Linf": sm.LinfBall(0.08)}


@pytest.mark.parametrize("norm", REGIONS)
@pytest.mark.parametrize("steps", [20, 100])
def test_iterates_are_the_references(norm, steps, double):
    """All of them, once rises are counted from where steps are made."""
    problem = problem_of(relu_net(), REGIONS[norm])
    expected, _, loss = reference(problem, steps, norm, paper=True)
    ours = iterates(problem, steps)
    # Rounding, in coordinates of x there and of δ here. At a maximum it also decides
    # which of two points, √1e-14 apart, is the best: a run returns to that.
    assert torch.allclose(ours, expected, rtol=0, atol=2e-6)
    assert torch.allclose(ours[:20], expected[:20], rtol=0, atol=1e-10)
    best = sm.ascend(problem, sm.AutoPGD(steps), sm.CentreStart(), steps).best_loss
    # A run of ours ends where it is stationary.
    assert torch.allclose(best, loss, rtol=1e-9)


@pytest.mark.parametrize("norm", REGIONS)
def test_the_first_divergence_is_a_rise_counted_otherwise(norm, double):
    """Without that change both agree up to the first checkpoint, where some differ."""
    problem = problem_of(relu_net(), REGIONS[norm])
    expected, _, _ = reference(problem, 100, norm, paper=False)
    apart = (iterates(problem, 100) - expected).abs().flatten(2).amax(2) > 2e-6
    first = torch.where(apart.any(0), apart.byte().argmax(0), 101)
    # 22 steps to the first checkpoint: the 23rd is the first with another size.
    assert int(first.min()) > 22


@pytest.mark.parametrize("norm", REGIONS)
def test_it_reaches_what_the_reference_reaches(norm, double):
    for seed in range(3):
        problem = problem_of(relu_net(seed), REGIONS[norm])
        _, _, theirs = reference(problem, 100, norm, paper=False)
        ours = sm.ascend(problem, sm.AutoPGD(100), sm.CentreStart(), 100).best_loss
        assert float(ours.mean()) >= float(theirs.mean()) * (1 - 1e-3)


class Recording(torch.nn.Module):
    """A model that remembers what it was given."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, inputs):
        self.seen.append(inputs.detach().clone())
        return self.model(inputs)


class Rising(torch.nn.Module):
    """A loss that rises at every call, with a slope that changes its sign each time."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, inputs):
        self.seen.append(inputs.detach().clone())
        sign = (-1.0) ** len(self.seen)
        moved = 1e-3 * sign * (inputs - 0.5).sum(1)
        return torch.stack([-0.01 * len(self.seen) - moved, 0 * moved], 1)

    def longest_late_step(self):
        path = torch.stack(self.seen[-12:])
        return float(path.diff(dim=0).abs().max())


@pytest.fixture
def adv_lib(monkeypatch):
    """adv_lib's APGD without the packages that only its pictures need."""
    pytest.importorskip("adv_lib")
    for name in ("visdom", "torchvision", "torchvision.models"):
        stub = types.ModuleType(name)
        stub.Visdom = stub.models = None
        monkeypatch.setitem(sys.modules, name, stub)
    return pytest.importorskip("adv_lib.attacks.auto_pgd")


def test_adv_lib_halves_whatever_the_progress(adv_lib):
    """Its `loss_best_last_check` is `loss_best` itself: "no progress" at every other.

    The reference never halves where each step rises: it swings between ±3ε/7, where
    a = -a + ¾(ε + a) - ¼·2a. At η = ε/4, after three of eight checkpoints, a swing is
    m = ¾η - ¼m = .15ε.
    """
    base = pytest.importorskip("pyautoattack.autopgd_base")
    inputs, labels = torch.full((1, 3), 0.5), torch.zeros(1, dtype=torch.int64)
    model = Rising()
    attack = base.APGDAttack(model, 100, "Linf", eps=0.1, device="cpu")
    attack.init_hyperparam(inputs)
    attack.attack_single_run(inputs, labels, x_init=inputs.clone())
    assert model.longest_late_step() == pytest.approx(0.1 * 6 / 7, rel=1e-5)
    model = Rising()
    adv_lib._apgd(
        model,
        inputs,
        labels,
        torch.tensor([0.1]),
        float("inf"),
        x_init=inputs.clone(),
        loss_function="ce",
    )
    assert model.longest_late_step() == pytest.approx(0.015, rel=1e-2)


def test_art_begins_with_its_own_step_and_not_with_two_radii():
    art = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    problem = problem_of(relu_net(), sm.LinfBall(0.1), batch=4)
    model = Recording(relu_net().float())
    estimator = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(reduction="sum"),
        input_shape=(20,),
        nb_classes=4,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = art.AutoProjectedGradientDescent(
        estimator,
        eps=0.1,
        eps_step=0.01,
        max_iter=1,
        nb_random_init=1,
        batch_size=4,
        loss_type=None,
        verbose=False,
    )
    labels = functional.one_hot(problem.targets, 4).numpy()
    attack.generate(problem.inputs.float().numpy(), y=labels)
    seen = torch.stack([given for given in model.seen if given.shape == (4, 20)])
    # The clean inputs, the random start, and the one point that the step made.
    start = next(x for x in seen if not torch.equal(x, seen[0]))
    moved = (seen[-1] - start).abs().amax(1)
    # Eight bits of rounding beside 0.5 in float32.
    assert bool((moved <= 0.01 + 1e-5).all())
    ours = iterates(problem, 1)
    assert bool(((ours[1] - ours[0]).abs().amax(1) >= 0.1 - 1e-12).all())
