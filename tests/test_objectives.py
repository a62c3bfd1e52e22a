"""Objectives against plain formulas, and every refusal by its message."""

import math

import pytest
import torch
from torch import Tensor

from fakes import slopes
from summiteer import objectives
from summiteer.errors import UserError
from summiteer.objectives import (
    CrossEntropy,
    Logistic,
    Margin,
    Quadratic,
    ScalarLoss,
    check_labels,
    check_objective,
    classifies,
    misclassified,
    with_slopes,
)

torch.set_num_threads(1)
NAN, INF = math.nan, math.inf


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scores(rows: int = 50, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows + classes)
    z = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return z, torch.randint(0, classes, (rows,), generator=generator)


# -- values and slopes ----------------------------------------------------------------
# Plain formulas of numbers of order 1, below 20 terms: 1e-12 is thousands of roundings.


def test_quadratic_is_half_the_square():
    f, y = doubles(1.0, -2.0, 0.5), doubles(0.0, 1.0, 0.5)
    assert torch.equal(Quadratic()(f, y), doubles(0.5, 4.5, 0.0))
    assert torch.equal(slopes(Quadratic(), f, y), f - y)
    for outputs, targets in (
        (f[:, None], y),
        (f, y[:, None]),
        (f[:, None], y[:, None]),
    ):
        Quadratic().check(outputs, targets)
        assert torch.equal(Quadratic()(outputs, targets), doubles(0.5, 4.5, 0.0))
    assert torch.equal(Quadratic().slope_sign(f, y), doubles(1.0, -1.0, 0.0))


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3), (5, 1, 3)])
def test_quadratic_of_several_outputs_sums_their_squares(shape):
    outputs, targets = torch.randn(2, *shape, dtype=torch.float64)
    Quadratic().check(outputs, targets)
    expected = torch.stack([0.5 * (row**2).sum() for row in outputs - targets])
    assert torch.allclose(Quadratic()(outputs, targets), expected, rtol=1e-12)
    assert torch.allclose(slopes(Quadratic(), outputs, targets), outputs - targets)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_logistic_is_the_log_of_one_plus_exp(dtype):
    f, y = doubles(1.0, -2.0, 0.5, 3.0), torch.tensor([1, 1, -1, -1]).to(dtype)
    expected = torch.log(1 + torch.exp(-y * f))
    assert torch.allclose(Logistic()(f, y), expected, rtol=1e-12)
    assert torch.allclose(Logistic()(f[:, None], y[:, None]), expected, rtol=1e-12)
    slope = -y / (1 + torch.exp(y * f))
    assert torch.allclose(slopes(Logistic(), f, y), slope, rtol=1e-12)
    assert torch.equal(Logistic().slope_sign(f, y), -y.double())


def test_logistic_and_its_slope_are_finite_far_away():
    for dtype in (torch.float64, torch.float32):
        f = torch.tensor([1e4, -1e4, 800.0, -800.0], dtype=dtype)
        assert torch.equal(
            Logistic()(f, torch.ones(4, dtype=dtype)),
            torch.tensor([0.0, 1e4, 0.0, 800.0], dtype=dtype),
        )
        assert slopes(Logistic(), f, torch.ones(4)).isfinite().all()


def test_cross_entropy_is_minus_log_softmax():
    z, y = scores()
    rows = range(len(y))
    expected = torch.exp(z).sum(1).log() - z[rows, y]
    assert torch.allclose(CrossEntropy()(z, y), expected, rtol=1e-12)
    chance = torch.exp(z) / torch.exp(z).sum(1, keepdim=True)
    chance[rows, y] -= 1
    assert torch.allclose(slopes(CrossEntropy(), z, y), chance, rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_margin_is_the_best_rival_minus_the_label(classes):
    z, y = scores(40, classes)
    best = [
        max((float(value), k) for k, value in enumerate(row) if k != label)
        for row, label in zip(z, y.tolist(), strict=True)
    ]
    expected = doubles(*(value for value, _ in best)) - z[range(40), y]
    assert torch.equal(Margin()(z, y), expected)
    slope = torch.zeros_like(z)
    slope[range(40), [k for _, k in best]] = 1.0
    slope[range(40), y] = -1.0
    assert torch.equal(slopes(Margin(), z, y), slope)
    assert torch.equal(misclassified(z, y), expected >= 0)
    # Right is what argmax says, where there are no ties.
    assert torch.equal(misclassified(z, y), z.argmax(1) != y)


def test_a_margin_of_tied_rivals_follows_one_of_them():
    z = doubles(1.0, 2.0, 2.0, 0.0)[None]
    gradient = slopes(Margin(), z, torch.tensor([0]))[0]
    assert torch.equal(Margin()(z, torch.tensor([0])), doubles(1.0))
    assert gradient[0] == -1.0
    assert sorted(gradient[1:].tolist()) == [0.0, 0.0, 1.0]


def test_margin_of_one_output():
    f, y = doubles(1.0, -2.0, 0.0), doubles(1.0, 1.0, -1.0)
    assert torch.equal(Margin()(f, y), doubles(-1.0, 2.0, 0.0))
    assert torch.equal(Margin()(f[:, None], y), doubles(-1.0, 2.0, 0.0))
    assert torch.equal(slopes(Margin(), f, y), -y)
    assert torch.equal(Margin().slope_sign(f, y.long()), -y)


@pytest.mark.parametrize("loss", [Quadratic(), Logistic(), Margin()])
def test_bounds_of_scalar_losses_hold_and_are_attained_nearly(loss):
    assert isinstance(loss, ScalarLoss)
    f = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    y = torch.ones_like(f)
    slope = slopes(loss, f, y)
    assert torch.equal(slope.sign(), loss.slope_sign(f, y))
    bound = loss.slope_bound((f - y).abs().max())
    assert float(slope.abs().max()) <= float(bound)
    # The logistic slope reaches 1/(1 + e^-3) = 0.95 of its bound here.
    assert float(slope.abs().max()) >= 0.95 * float(bound)
    curvature = slope.diff() / f.diff()
    # Difference quotients of slopes rounded to 1e-16 over steps of 3e-3.
    assert float(curvature.abs().max()) <= loss.curvature_bound + 1e-12
    assert float(curvature.abs().max()) >= 0.999 * loss.curvature_bound - 1e-12


@pytest.mark.parametrize(
    "objective", [Quadratic(), Logistic(), CrossEntropy(), Margin()]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_keep_the_dtype_of_the_outputs(objective, dtype):
    z, y = scores(6)
    labelled = isinstance(objective, CrossEntropy)
    outputs = (z if labelled else z[:, 0]).to(dtype)
    targets = y if labelled else z[:, 1].sign().to(dtype)
    assert objective(outputs, targets).dtype == dtype
    check_objective(objective, outputs, targets)


# -- misclassification ----------------------------------------------------------------


def test_ties_are_errors_and_nan_is_not_evidence():
    z = torch.tensor(
        [
            [2.0, 1.0, 0.0],  # right
            [1.0, 2.0, 0.0],  # wrong
            [2.0, 2.0, 0.0],  # tie with the label
            [2.0, 1.0, 1.0],  # tie of two others
            [NAN, 3.0, 0.0],  # the label's own score unknown
            [1.0, NAN, 2.0],  # a rival's score unknown, another wins
            [1.0, NAN, 0.0],
            [INF, INF, 0.0],  # infinities: their difference is NaN
            [INF, 1.0, 0.0],
            [-INF, 1.0, 0.0],
            [-INF, -INF, -INF],
        ]
    )
    wrong = [1, 2, 9]
    y = torch.zeros(len(z), dtype=torch.int64)
    assert misclassified(z, y).nonzero().flatten().tolist() == wrong
    assert misclassified(z.requires_grad_(), y).dtype == torch.bool


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_one_output_is_wrong_where_its_sign_is(column, dtype):
    f = torch.tensor([1.0, -1.0, 0.0, -0.0, NAN, 1.0, -1.0, -INF])
    y = torch.tensor([1, 1, 1, -1, 1, -1, -1, 1]).to(dtype)
    if column:
        f, y = f[:, None], y[:, None]
    expected = [False, True, True, True, False, True, False, True]
    assert misclassified(f, y).tolist() == expected


def test_what_counts_as_labels():
    assert classifies(torch.tensor([0, 3, 2]))
    assert classifies(torch.tensor([[0], [1]]))
    assert classifies(doubles(1.0, -1.0))
    assert classifies(doubles(1.0, -1.0)[:, None])
    assert not classifies(doubles(1.0, 0.0))
    assert not classifies(doubles(0.5, -1.0))
    assert not classifies(torch.ones(4, 3))
    assert not classifies(torch.ones(4, 3, dtype=torch.int64))


def test_codes_of_plus_and_minus_one_are_no_labels():
    """[rows, K] targets of ±1 are regression codes: nothing to misclassify."""
    codes = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    check_objective(Quadratic(), torch.randn(2, 2), codes)
    assert not classifies(codes)
    assert not misclassified(torch.randn(2, 2), codes[:, 0]).any()
    assert not misclassified(torch.randn(2, 2, 2), torch.tensor([0, 1])).any()


# -- refusals -------------------------------------------------------------------------


Z, Y = scores(5, 3)
F, S = Z[:, 0], doubles(1.0, -1.0, 1.0, 1.0, -1.0)

REFUSALS = [
    (Logistic(), F, doubles(0, 1, 1, 0, 1), r"got 0 and 1; use 2\*targets - 1"),
    (Logistic(), F, torch.tensor([0, 1, 1, 0, 1]), r"got 0 and 1; use 2\*targets - 1"),
    (
        Logistic(),
        F,
        doubles(1, 2, -1, 0.5, 1),
        r"-1 or \+1; not so at indices \[1, 3\]",
    ),
    (Logistic(), F[:, None], doubles(1, 2, -1, 3, 1)[:, None], r"indices \[1, 3\]"),
    (
        Logistic(),
        Z,
        S,
        r"model: Logistic needs one output per example \[5\], got \[5, 3\]",
    ),
    (
        Logistic(),
        F,
        torch.ones(5, 3),
        r"targets: Logistic needs one target .* \[5, 3\]",
    ),
    (Margin(), F, doubles(0, 1, 1, 0, 1), r"targets: Margin .*use 2\*targets - 1"),
    (
        Margin(),
        Z,
        S,
        r"targets: Margin needs integer class labels \[5\], got torch.float64",
    ),
    (Margin(), Z, torch.tensor([0, 3, -1, 2, 9]), r"0 … 2 .*indices \[1, 2, 4\]"),
    (Margin(), Z[:, None], Y, r"model: Margin needs one output .* got \[5, 1, 3\]"),
    (CrossEntropy(), Z, torch.tensor([0, 3, -1, 2, 9]), r"0 … 2 .*indices \[1, 2, 4\]"),
    (CrossEntropy(), Z, S, r"integer class labels \[5\], got torch.float64.*long\(\)"),
    (
        CrossEntropy(),
        Z,
        torch.eye(5)[:, :3].long(),
        r"got torch.int64 \[5, 3\].*argmax",
    ),
    (CrossEntropy(), F, Y, r"model: CrossEntropy needs outputs \[5, K\] .*got \[5\]"),
    (
        CrossEntropy(),
        F[:, None],
        Y,
        r"K ≥ 2, got \[5, 1\]; for one output use Logistic",
    ),
    (
        Quadratic(),
        F,
        Y,
        "targets: Quadratic needs floating-point .*torch.int64.*CrossEn",
    ),
    (
        Quadratic(),
        F,
        Z,
        r"Quadratic needs targets of the outputs' shape \[5\], got \[5, 3",
    ),
    (Quadratic(), Z, F, r"outputs' shape \[5, 3\], got \[5\]"),
    (
        lambda z, y: z.mean(),
        Z,
        Y,
        r"one value per example \[5\], got \[\]; use reduction",
    ),
    (lambda z, y: z, Z, Y, r"one value per example \[5\], got \[5, 3\]"),
    (lambda z, y: 1.0, Z, Y, r"one value per example \[5\], got float"),
    (
        lambda z, y: z @ y,
        Z,
        Y,
        r"objective: failed on outputs \[5, 3\] and targets \[5\]",
    ),
    (lambda z, y: z.argmax(1), Z, Y, "expected floating-point values, got torch.int64"),
    (lambda z, y: z * y, F, torch.tensor([0, 1, 1, 0, 1]), r"use 2\*targets - 1"),
    (lambda z, y: z[:, 0], Z, Y + 1, r"labels must lie in 0 … 2"),
    (lambda z, y: z[:, 0, 0], Z[:, None], Y, r"model: class labels need .*\[5, 1, 3\]"),
    (torch.nn.CrossEntropyLoss(), Z, Y, "use reduction='none'"),
]


@pytest.mark.parametrize(("objective", "outputs", "targets", "message"), REFUSALS)
def test_refusals_say_what_to_do(objective, outputs, targets, message):
    with pytest.raises(UserError, match=message):
        check_objective(objective, outputs, targets)


def test_labels_beyond_those_probed_can_be_checked_alone():
    check_labels(F, S)
    check_labels(Z, Y)
    with pytest.raises(UserError, match=r"targets: a model with one output needs"):
        check_labels(F, torch.tensor([1, 1, -1, 3, 1]))
    with pytest.raises(UserError, match="needs integer class labels"):
        check_labels(Z, S)


@pytest.mark.parametrize(
    ("objective", "outputs", "targets"),
    [
        (lambda z, y: (z - y).abs(), F, S),
        (lambda z, y: z.logsumexp(1) - z[range(len(y)), y], Z, Y),
        (lambda z, y: (z - y[:, None]).square().sum(1), Z, F),
        (torch.nn.CrossEntropyLoss(reduction="none"), Z, Y),
        (torch.nn.MSELoss(reduction="none"), F, S),
        (lambda z, y: z[:, 0], Z, torch.ones(5, 4, dtype=torch.int64)),
    ],
)
def test_any_callable_of_one_value_per_example_works(objective, outputs, targets):
    check_objective(objective, outputs, targets)
    if classifies(targets):
        assert misclassified(outputs, targets).shape == (5,)


def test_objectives_leave_their_arguments_alone():
    z, y = scores()
    before = z.clone(), y.clone()
    for objective in (CrossEntropy(), Margin()):
        check_objective(objective, z, y)
        misclassified(z, y)
    assert torch.equal(z, before[0])
    assert torch.equal(y, before[1])
    assert objectives.scalar(z) is z


# -- slopes in closed form ------------------------------------------------------------


class Doubled(CrossEntropy):
    """A user's own: it inherits a closed form that is not its."""

    def __call__(self, outputs, targets):
        return 2 * super().__call__(outputs, targets)


def test_a_sub_class_has_the_slopes_of_its_own_values():
    z, y = scores()
    values, slope = with_slopes(Doubled(), z, y)
    assert torch.equal(values, Doubled()(z, y))
    assert torch.allclose(slope, 2 * with_slopes(CrossEntropy(), z, y)[1], 1e-14)


def test_an_objective_may_change_what_it_is_given():
    z, y = scores()
    given = z.clone()
    values, slope = with_slopes(lambda z, y: z.sub_(1.0)[:, 0], z, y)
    assert torch.equal(values, given[:, 0] - 1)
    assert torch.equal(z, given)
    assert bool((slope[:, 0] == 1).all())


def test_what_does_not_depend_on_the_outputs_has_slopes_of_zero():
    z, y = scores()
    for objective in (lambda z, y: y.double(), lambda z, y: 0 * z.detach().sum(1)):
        values, slope = with_slopes(objective, z, y)
        assert torch.equal(slope, torch.zeros_like(z))
        assert values.shape == (len(z),)
    with torch.no_grad():
        assert with_slopes(lambda z, y: z[:, 0], z, y)[1][:, 0].eq(1).all()


@pytest.mark.parametrize("margin", [-200.0, -90.0, 90.0, 200.0])
def test_cross_entropy_beyond_the_range_of_exp(margin):
    """Slopes underflow to 0 or are 1; never NaN."""
    z, y = torch.tensor([[margin, 0.0, -1.0]]), torch.tensor([0])
    values, slope = with_slopes(CrossEntropy(), z, y)
    assert bool(slope.isfinite().all())
    assert float(values) == pytest.approx(max(-margin, 0.0), abs=1.0)
    assert float(slope.sum()) == pytest.approx(0.0, abs=1e-6)
    assert float(-slope[0, 0]) == pytest.approx(float(margin < 0), abs=1e-6)


def test_impossible_classes_have_no_slope():
    z, y = doubles(0.0, -INF, 1.0)[None], torch.tensor([0])
    values, slope = with_slopes(CrossEntropy(), z, y)
    assert float(values) == pytest.approx(math.log1p(math.e))
    assert slope[0, 1] == 0
    assert float(slope[0, 2]) == pytest.approx(math.e / (1 + math.e))
    alone = with_slopes(CrossEntropy(), doubles(0.0, -INF)[None], y)
    assert (float(alone[0]), alone[1].tolist()) == (0.0, [[0.0, 0.0]])
