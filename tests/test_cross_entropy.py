"""The cross-entropy where softmax saturates, against sums of positive numbers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import summiteer as sm
from fakes import seeded, slopes

torch.set_num_threads(1)
INF = math.inf


def plain(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient in float64, by sums of positive numbers alone."""
    z = outputs.double().numpy()
    value, gradient = np.zeros(len(z)), np.zeros_like(z)
    for i, y in enumerate(targets.tolist()):
        others = np.exp(z[i] - z[i, y])
        others[y] = 0
        value[i] = np.log1p(others.sum())
        gradient[i] = others / (1 + others.sum())
        gradient[i, y] = -gradient[i].sum()
    return torch.from_numpy(value), torch.from_numpy(gradient)


def excess(found: Tensor, truth: Tensor) -> float:
    """Largest relative error."""
    return float(((found.double() - truth).abs() / truth.abs()).max())


def leading(margin: float, classes: int, dtype) -> tuple[Tensor, Tensor]:
    """Outputs of which class 0 leads the next by about `margin`, rounded to dtype."""
    z = torch.linspace(0, -2, classes, dtype=torch.float64)[None] - margin
    z[0, 0] = 0.0
    return z.to(dtype), torch.tensor([0])


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("margin", [-80, -17, -1, 0, 1, 5, 10, 17, 40, 80])
@pytest.mark.parametrize(
    # Half a dozen roundings; e^-t multiplies those of t ≤ 80, which are differences of
    # outputs, by t. Sums of 1000 shares round a little more.
    ("dtype", "close"),
    [(torch.float64, 1e-13), (torch.float32, 3e-5)],
)
def test_value_and_gradient_are_relatively_accurate(classes, margin, dtype, close):
    z, y = leading(margin, classes, dtype)
    for offset in (0.0, 64.0, -512.0):
        moved = z + offset
        value, gradient = plain(moved, y)
        assert excess(sm.CrossEntropy()(moved, y), value) < close
        assert excess(slopes(sm.CrossEntropy(), moved, y), gradient) < close


def test_the_usual_formula_is_not():
    """What this one is for: the direction is wrong long before it is zero."""

    def usual(z: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(z, y, reduction="none")

    z, y = leading(16.0, 3, torch.float32)
    truth = plain(z, y)[1]
    assert excess(slopes(usual, z, y), truth) > 0.01
    z, y = leading(30.0, 3, torch.float32)
    assert not slopes(usual, z, y)[0, 0]


def test_gradients_underflow_only_where_the_dtype_does():
    z, y = leading(87.0, 3, torch.float32)
    assert excess(slopes(sm.CrossEntropy(), z, y), plain(z, y)[1]) < 1e-5
    z, y = leading(110.0, 3, torch.float32)
    assert not slopes(sm.CrossEntropy(), z, y).any()
    assert excess(slopes(sm.CrossEntropy(), z.double(), y), plain(z, y)[1]) < 1e-13


@pytest.mark.parametrize(
    # Half a unit of the result's own rounding and a little for the arithmetic.
    ("dtype", "unit"),
    [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)],
)
def test_outputs_of_16_bits_lose_only_their_own_rounding(dtype, unit):
    for margin in (-20, 0, 1, 5, 9):
        z, y = leading(margin, 5, dtype)
        value, gradient = plain(z, y)
        found = sm.CrossEntropy()(z, y)
        assert found.dtype == dtype
        assert excess(found, value) < 1.01 * unit
        assert excess(slopes(sm.CrossEntropy(), z, y), gradient) < 2.01 * unit


def test_a_constant_added_to_the_outputs_changes_nothing():
    # Multiples of 1/8 below 2^20 add without rounding in float32.
    z = (8 * seeded(40, 6, seed=3)).round() / 8
    y = torch.arange(40) % 6
    for dtype in (torch.float32, torch.float64):
        own = sm.CrossEntropy()(z.to(dtype), y)
        for constant in (1.0, -300.0, 65536.0):
            assert torch.equal(sm.CrossEntropy()(z.to(dtype) + constant, y), own)
            moved = slopes(sm.CrossEntropy(), z.to(dtype) + constant, y)
            assert torch.equal(moved, slopes(sm.CrossEntropy(), z.to(dtype), y))


def test_two_classes_are_a_logistic_loss_of_the_difference():
    z = torch.cat([40 * seeded(50, 2, seed=4), seeded(50, 2, seed=5)])
    y = torch.arange(100) % 2
    gap = torch.where(y == 0, z[:, 0] - z[:, 1], z[:, 1] - z[:, 0])
    logistic = sm.Logistic()(gap, torch.ones(100).double())
    # A few roundings of gaps below 200, in which the losses are exponential.
    torch.testing.assert_close(sm.CrossEntropy()(z, y), logistic, rtol=1e-13, atol=0)


def test_classes_that_cannot_be():
    """-∞ is an output: a class that is masked out."""
    y = torch.tensor([0, 0, 1, 0, 2])
    z = torch.tensor(
        [
            [1.0, -INF, 0.0],
            [1.0, -INF, -INF],
            [0.0, 2.0, -INF],
            [-INF, 0.0, 1.0],  # the label itself cannot be
            [-INF, -INF, 5.0],
        ]
    )
    value, gradient = sm.CrossEntropy()(z, y), slopes(sm.CrossEntropy(), z, y)
    expected = torch.tensor([math.log1p(math.exp(-1)), 0, math.log1p(math.exp(-2))])
    torch.testing.assert_close(value[:3], expected)
    assert value[3] == INF
    assert value[4] == 0
    assert gradient[[0, 1, 2, 4]].isfinite().all()
    assert not gradient[[1, 4]].any()
    assert not gradient[[0, 1, 2, 4]][z[[0, 1, 2, 4]] == -INF].any()
    # The same for two classes, where no rival is left.
    z, y = torch.tensor([[1.0, -INF], [-INF, 1.0]]), torch.tensor([0, 1])
    assert not sm.CrossEntropy()(z, y).any()
    assert not slopes(sm.CrossEntropy(), z, y).any()


def test_undefined_outputs_stay_in_their_row():
    z, y = seeded(4, 3), torch.tensor([0, 1, 2, 0])
    z[1, 0], z[2, 1] = math.nan, INF
    value, gradient = sm.CrossEntropy()(z, y), slopes(sm.CrossEntropy(), z, y)
    assert value.isfinite().tolist() == [True, False, False, True]
    assert gradient[[0, 3]].isfinite().all()
    alone = sm.CrossEntropy()(z[[0, 3]], y[[0, 3]])
    assert torch.equal(value[[0, 3]], alone)


def dense(z: Tensor, y: int) -> Tensor:
    """diag(p) - ppᵀ, its row and column of the label by sums of the others'."""
    p = torch.softmax(z, 0)
    matrix = torch.diag(p) - torch.outer(p, p)
    others = [k for k in range(len(z)) if k != y]
    rest = p[others].sum()
    matrix[y, y] = p[y] * rest
    return matrix


@pytest.mark.parametrize("margin", [-60.0, 0.0, 3.0, 60.0])
def test_curvature_by_every_way_of_autograd(margin):
    z, y = leading(margin, 4, torch.float64)
    truth = dense(z[0], 0)

    def loss(row: Tensor) -> Tensor:
        return sm.CrossEntropy()(row[None], y)[0]

    ways = [
        torch.autograd.functional.hessian(loss, z[0]),
        torch.func.jacrev(torch.func.jacrev(loss))(z[0]),
        torch.func.vmap(torch.func.jacrev(torch.func.jacrev(loss)))(z)[0],
    ]
    for found in ways:
        # Relative where the label leads (entries of e^-60), absolute where a rival
        # does and p(1 - p) is a difference.
        size = truth.abs().max() if margin > 0 else 1.0
        assert float((found - truth).abs().max()) <= 1e-14 * float(size)
    ours = sm.CrossEntropy()
    assert torch.autograd.gradgradcheck(lambda v: ours(v, y), z.requires_grad_())


def test_a_saturated_float32_model_is_attacked_all_the_same():
    """Only the label's own output moves: the usual loss has no gradient at all."""

    def model(inputs: Tensor) -> Tensor:
        own = 40 + 10 * inputs.sum(1)
        return torch.stack([own, torch.zeros_like(own)], 1)

    inputs = seeded(20, 4, seed=8, dtype=torch.float32).clamp(-0.3, 0.3)
    labels = torch.zeros(20, dtype=torch.int64)
    assert bool((-sm.Margin()(model(inputs), labels) > 20).all())

    def broken(objective) -> Tensor:
        problem = sm.Problem(model, inputs, labels, objective, sm.LinfBall(2.0))
        adversary = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.5))
        start = sm.CentreStart()
        # Neither the residual, tiny next to that at the far end, nor a rescue.
        found = sm.ascend(problem, adversary, start, 20, tolerance=None, rescue=False)
        assert found.misclassified is not None
        return found.misclassified

    assert bool(broken(sm.CrossEntropy()).all())
    assert not bool(broken(torch.nn.CrossEntropyLoss(reduction="none")).any())
