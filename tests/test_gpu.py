"""The ascent on a GPU: the same answers, few waits of the host, half precision.

What a GPU would do is counted everywhere on a device that is not there (`fake_device`)
and by torch's profiler on the CPU. The tests marked `gpu` need a CUDA device.
"""

from dataclasses import dataclass

import pytest
import torch
from benchmarks import counts
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import summiteer as sm
from fake_device import Elsewhere, somewhere_else
from summiteer import examination, tolerances

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
aten = torch.ops.aten
#: Numbers, and lengths of indices, that the host waits for.
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default}
MOVES = {aten._to_copy.default, aten.copy_.default}
SMALL, LARGE = 16, 1024
FEW, MANY = 10, 30


@dataclass(frozen=True)
class Way:
    """A method and region; the most numbers that the host may wait for in a step.

    None of them is about one example: bounds are those counted, and may only fall.
    """

    region: sm.Region
    adversary: sm.Adversary
    waits: int


WAYS = {
    "l2": Way(
        sm.L2Ball(0.3), sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.02)), 12
    ),
    "linf": Way(
        sm.LinfBall(0.1), sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.01)), 8
    ),
    "apgd": Way(sm.LinfBall(0.1), sm.AutoPGD(MANY), 10),
    "l1": Way(sm.L1Ball(0.5), sm.AutoPGD(MANY), 28),
}


def network(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return model.to(dtype).eval().requires_grad_(False)


def problem(batch, way, device="cpu", dtype=torch.float64):
    inputs = torch.rand(batch, 12, generator=torch.Generator().manual_seed(0))
    inputs = inputs.to(dtype)
    labels = network(dtype)(inputs).argmax(1)
    return sm.Problem(
        network(dtype).to(device),
        inputs.to(device),
        labels.to(device),
        sm.CrossEntropy(),
        way.region,
    )


def climbed(some, way, steps=MANY):
    """All steps are made: what is counted is the same work for every batch."""
    return sm.ascend(
        some,
        way.adversary,
        sm.CentreStart(),
        steps,
        tolerance=None,
        after_cycle="continue",
        rescue=False,
    )


class Waits(TorchDispatchMode):
    """How often the host waits for the device, and how many numbers it brings here."""

    def __init__(self):
        super().__init__()
        self.waits = self.brought = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        away = [x for x in arguments if isinstance(x, Elsewhere)]
        self.waits += operation in WAITS and bool(away)
        result = operation(*arguments, **options)
        if operation in MOVES and not isinstance(result, Elsewhere):
            self.brought += sum(x.numel() for x in away)
        return result


def waited(batch, way, steps, device):
    some = problem(batch, way, device)
    with Waits() as seen:
        climbed(some, way, steps)
    return seen


# On the device that is not there.


@pytest.mark.parametrize("name", WAYS)
def test_the_loop_finds_elsewhere_what_it_finds_here(name):
    way = WAYS[name]
    here = climbed(problem(SMALL, way), way)
    with somewhere_else() as device:
        there = climbed(problem(SMALL, way, device), way)
        assert isinstance(there.best, Elsewhere)
        assert torch.equal(there.best.cpu(), here.best)
        assert torch.equal(there.losses.cpu(), here.losses)
    assert there.gradient_evaluations == here.gradient_evaluations


@pytest.mark.parametrize("name", WAYS)
def test_a_step_brings_no_tensor_to_the_host(name):
    way = WAYS[name]
    with somewhere_else() as device:
        few, many = (waited(SMALL, way, steps, device) for steps in (FEW, MANY))
        large = waited(LARGE, way, MANY, device)
    assert many.brought == few.brought
    assert (many.waits - few.waits) / (MANY - FEW) <= way.waits
    # More rows give more occasions to keep a point, but no wait of their own.
    assert large.waits <= way.waits * (MANY + 5)


def test_what_is_brought_here_is_counted():
    with somewhere_else() as device, Waits() as seen:
        away = torch.ones(7).to(device)
        assert bool(away.any())
        assert len(away.nonzero()) == 7
        assert away.cpu().sum() == 7
    assert (seen.waits, seen.brought) == (2, 7)


# By the profiler, on the CPU.


def each_row(evaluation):
    """A reason to stop as nobody should write it."""
    return torch.tensor([bool(wrong) and False for wrong in evaluation.wrong])


def counted(batch, way, **given):
    def run(steps):
        return sm.ascend(
            problem(batch, way), way.adversary, sm.CentreStart(), steps, **given
        )

    return counts.per_step(run, FEW, MANY)


@pytest.mark.parametrize("name", ["l2", "linf"])
def test_the_profiler_sees_nothing_done_per_example(name):
    way = WAYS[name]
    fixed = {"tolerance": None, "after_cycle": "continue", "rescue": False}
    small, large = (counted(batch, way, **fixed) for batch in (SMALL, LARGE))
    assert large.waits <= way.waits
    # A kept point more or less, of a thousand more rows.
    assert large.calls - small.calls <= 10
    assert large.operations - small.operations <= 10
    bad = counted(SMALL, way, **fixed, until=each_row)
    # Runs that end leave the batch.
    assert bad.waits >= small.waits + SMALL / 2


# With a GPU.


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", WAYS)
def test_the_loop_finds_on_a_gpu_what_it_finds_on_the_cpu(name):
    way = WAYS[name]
    here, there = (climbed(problem(SMALL, way, at), way) for at in ("cpu", "cuda"))
    assert there.best.device.type == "cuda"
    # In float64 sums of another order change no decision of these runs.
    torch.testing.assert_close(there.best.cpu(), here.best, rtol=0, atol=1e-9)
    torch.testing.assert_close(there.losses.cpu(), here.losses, rtol=1e-9, atol=1e-12)
    assert torch.equal(there.misclassified.cpu(), here.misclassified)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", WAYS)
def test_copies_from_a_gpu_per_step_do_not_grow_with_the_batch(name):
    way = WAYS[name]
    for batch in (SMALL, LARGE):
        some = problem(batch, way, "cuda")
        found = counts.per_step(lambda steps, p=some: climbed(p, way, steps), FEW, MANY)
        assert 0 < found.waits <= way.waits
        # Each wait copies one number; a projection may sort, and copies nothing.
        assert found.copies <= way.waits


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore::summiteer.errors.SummiteerWarning")
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_points_of_bfloat16_on_a_gpu_are_examined_in_float64_on_the_cpu(norm):
    way = WAYS[norm]
    some = problem(SMALL, way, "cuda", torch.bfloat16)
    points = climbed(some, way).best
    assert points.dtype == torch.bfloat16
    check_examination(some, points)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_points_of_tf32_on_a_gpu_are_examined_in_float64_on_the_cpu(norm):
    way = WAYS[norm]
    some = problem(SMALL, way, "cuda", torch.float32)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        points = climbed(some, way).best
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    check_examination(some, points)


def check_examination(some, points):
    """What is said of points found elsewhere is what the CPU says of them.

    Residuals are those of float64 copies of the weights: the same as if the points had
    been found here, and not within the precision that they were found in.
    """
    found = examination.examined(some, points, tolerances.WITHIN)
    assert all(value.device.type == "cpu" for value in found.values())
    assert torch.equal(found["perturbations"], points.double().cpu())
    here = examination.on_cpu(some)
    certificate = sm.local_optimality(here, points.cpu())
    assert torch.equal(found["residuals"], certificate.residual)
    exact = here.in_double()
    rows, deltas = exact.rows(), points.cpu().double()
    evaluation = rows.evaluate(deltas)
    reference = exact.region.magnitude(evaluation.gradient)
    own = rows.residual(deltas, evaluation, reference)
    # Against the largest gradient, which is no smaller than the one at the point.
    assert bool((found["residuals"] <= own + 1e-12).all())


@pytest.mark.filterwarnings("ignore::summiteer.errors.SummiteerWarning")
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_points_of_bfloat16_are_examined_in_float64(norm):
    way = WAYS[norm]
    some = problem(SMALL, way, dtype=torch.bfloat16)
    check_examination(some, climbed(some, way).best)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_is_asked_about_all_rows_at_once():
    model = network()
    inputs, labels = torch.rand(6, 12, dtype=torch.float64), torch.arange(6) % 3
    problem = sm.Problem(model, inputs, labels, sm.CrossEntropy(), sm.L2Ball(0.3))
    problem.examine()
    assert problem.rows().width == 16
    device = torch.device("cuda")
    assert problem.on(device, network().to(device)).rows().width == 0
