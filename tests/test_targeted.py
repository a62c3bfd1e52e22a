"""DLR and the targeted objectives: formulas in numpy, laws, refusals, proofs."""

import numpy as np
import pytest
import torch
from torch import Tensor

import summiteer as sm
from fakes import classifier, seeded, slopes
from kinked import perceptron
from summiteer.objectives import misclassified, taken
from summiteer.optimality.readout import Difference, readout

torch.set_num_threads(1)
TARGETED = (sm.TargetedCrossEntropy, sm.TargetedMargin, sm.TargetedDLR)


def scores(rows: int = 60, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, labels, rivals."""
    z = 3 * seeded(rows, classes, seed=rows + classes)
    y = torch.arange(rows) % classes
    return z, y, (y + 1 + torch.arange(rows) // classes % (classes - 1)) % classes


# -- the formulas ---------------------------------------------------------------------


def ratio(z, y):
    """DLR as croce2020reliable writes it: -(z_y - max_{i≠y} z_i)/(z_π1 - z_π3)."""
    best = max(z[i] for i in range(len(z)) if i != y)
    ordered = sorted(z, reverse=True)
    return -(z[y] - best) / (ordered[0] - ordered[2])


def targeted_ratio(z, y, t):
    """-(z_y - z_t)/(z_π1 - (z_π3 + z_π4)/2)."""
    ordered = sorted(z, reverse=True)
    return -(z[y] - z[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


FORMULAS = {
    sm.TargetedCrossEntropy: lambda z, y, t: z[t] - np.log(np.exp(z).sum()),
    sm.TargetedMargin: lambda z, y, t: z[t] - z[y],
    sm.TargetedDLR: targeted_ratio,
}


@pytest.mark.parametrize("classes", [3, 4, 10])
def test_dlr_is_the_papers_ratio(classes):
    z, y, _ = scores(60, classes)
    expected = [ratio(row, k) for row, k in zip(z.numpy(), y.tolist(), strict=True)]
    found = sm.DLR()(z, y)
    # Three subtractions and a division.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13)
    wrong = misclassified(z, y)
    assert torch.equal(found >= 0, wrong)
    assert bool((found[~wrong] >= -1).all())


@pytest.mark.parametrize("kind", TARGETED)
def test_targeted_forms_are_their_formulas(kind):
    z, y, t = scores()
    rows = zip(z.numpy(), y.tolist(), t.tolist(), strict=True)
    expected = np.array([FORMULAS[kind](*row) for row in rows])
    objective = kind(t)
    objective.check(z, y)
    # Logarithms of sums of order 1, or three subtractions and a division.
    np.testing.assert_allclose(objective(z, y).numpy(), expected, rtol=1e-12)
    few = y != 2
    one = kind(2)
    one.check(z[few], y[few])
    for dtype in (torch.int32, torch.uint8):
        same = kind(torch.full((int(few.sum()),), 2, dtype=dtype))
        assert torch.equal(one(z[few], y[few]), same(z[few], y[few]))


@pytest.mark.parametrize("kind", [*TARGETED, lambda t: sm.TargetedMargin(t, "all")])
def test_gradients_are_difference_quotients(kind):
    z, y, t = scores()
    objective = kind(t)
    gradient, step = slopes(objective, z, y), 1e-6
    for k in range(z.shape[1]):
        aside = step * torch.eye(z.shape[1], dtype=z.dtype)[k]
        quotient = (objective(z + aside, y) - objective(z - aside, y)) / (2 * step)
        # Rounding 1e-16/1e-6 and curvature times 1e-12, of ratios below 1e3.
        torch.testing.assert_close(gradient[:, k], quotient, rtol=1e-6, atol=1e-7)


def test_a_margin_over_all_others_is_at_least_0_where_the_class_is_chosen():
    z, y, t = scores()
    every = [sm.TargetedMargin(t, over="all")(z, y), sm.TargetedMargin(t)(z, y)]
    assert torch.equal(every[0] >= 0, z.argmax(1) == t)
    assert bool((every[0] <= every[1]).all())
    # The label overtaken is not yet the class chosen.
    assert bool(((every[1] > 0) & (every[0] < 0)).any())
    chance = sm.TargetedCrossEntropy(t)(z, y).exp()
    assert bool((every[0][chance > 0.5] >= 0).all())
    assert bool(misclassified(z, y)[every[1] > 0].all())
    tied = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0])
    assert float(sm.TargetedMargin(1, over="all")(*tied)) == 0


@pytest.mark.parametrize("kind", [lambda t: sm.DLR(), sm.TargetedDLR])
def test_ratios_know_neither_scale_nor_origin(kind):
    z, y, t = scores()
    objective = kind(t)
    own = objective(z, y)
    for factor in (2.0**-40, 0.25, 2.0**60):  # powers of two do not round
        assert torch.equal(objective(factor * z, y), own)
    steps = (64 * z).round() / 64  # whose sums with integers do not round
    assert torch.equal(objective(steps + 1024, y), objective(steps, y))
    torch.testing.assert_close(objective(3 * z - 7, y), own, rtol=1e-12, atol=1e-12)


TIES = torch.tensor(
    [
        [1.0, 1.0, 1.0, 0.0, 0.0],  # three rivals tied ahead of the label 4
        [1.0, 1.0, 1.0, 1.0, 0.0],  # four
        [1.0, 1.0, 1.0, 0.0, 1.0],  # the label among them
        [2.0, 2.0, 2.0, 2.0, 2.0],  # all
        [0.0, 0.0, 0.0, 0.0, 1.0],  # the label ahead of four
        [0.0, -1.0, -1.0, -1.0, 0.0],  # tied with one
    ]
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_ties_do_not_blow_up(dtype):
    z, y = TIES.to(dtype), torch.full((len(TIES),), 4)
    unit = torch.finfo(dtype).eps
    found = sm.DLR()(z, y).double()
    expected = torch.tensor([1 / unit, 1 / unit, 0.0, 0.0, -1.0, 0.0])
    assert torch.equal(found, expected.double())
    targeted = sm.TargetedDLR(0)(z, y).double()
    expected = torch.tensor([2.0, 1 / unit, 0.0, 0.0, -1.0, 0.0])
    assert torch.equal(targeted, expected.double())
    for objective in (sm.DLR(), sm.TargetedDLR(0)):
        gradient = slopes(objective, z, y)
        assert gradient.isfinite().all()
        # The label's output below, where it is not the largest, leads up.
        assert bool((gradient[:, 4] < 0)[[0, 1, 2, 3, 5]].all())
        # Next to a tie the same cap holds.
        near = z.clone()
        near[0, 0] += unit * near[0, 0]
        assert bool((objective(near, y).abs() <= 1 / unit).all())


def test_dlr_tells_how_far_a_broken_example_is_behind():
    """Above 1 where the label is behind the third: no upper bound but the cap."""
    z = torch.tensor([[3.0, 2.0, 1.0, -5.0]])
    assert float(sm.DLR()(z, torch.tensor([3]))) == 4.0
    assert float(sm.DLR()(z, torch.tensor([1]))) == 0.5


# -- rivals of each example -----------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETED)
def test_rows_keep_their_rivals(kind):
    z, y, t = scores(20)
    index = torch.tensor([7, 3, 3, 19])
    objective = kind(t)
    assert torch.equal(
        taken(objective, index)(z[index], y[index]), objective(z, y)[index]
    )
    assert taken(kind(2), index).rivals == 2
    assert taken(kind(torch.tensor(2)), index)(z[:1], y[:1]).shape == (1,)
    plain = torch.nn.CrossEntropyLoss(reduction="none")
    assert taken(plain, index) is plain


def test_over_survives_being_taken():
    objective = sm.TargetedMargin(torch.tensor([1, 2, 3]), over="all")
    some = taken(objective, torch.tensor([2]))
    assert (some.rivals.tolist(), some.over) == ([3], "all")


def problem_of(kind=sm.TargetedMargin, rows=20, radius=0.3):
    model, inputs = classifier((8, 12, 5)), seeded(rows, 8, seed=4)
    labels = model(inputs).argmax(1)
    rivals = (labels + 1 + torch.arange(rows) % 4) % 5
    region = sm.LinfBall(radius)
    return sm.Problem(model, inputs, labels, kind(rivals), region)


@pytest.mark.parametrize("kind", TARGETED)
def test_results_do_not_depend_on_the_company(kind):
    problem = problem_of(kind)
    start = sm.CentreStart() + sm.UniformStart(restarts=2, seed=3)
    adversary = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.05))
    whole = sm.ascend(problem, adversary, start, 8)
    index = torch.tensor([11, 2, 17])
    some = sm.ascend(problem.take(index), adversary, start, 8)
    # Matrix products of other sizes round differently; sign steps keep few of it.
    torch.testing.assert_close(some.best, whole.best[index], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(some.losses, whole.losses[:, index])
    rows = problem.rows(index.repeat(2)).take(torch.tensor([4, 0]))
    assert rows.objective.rivals.tolist() == problem.objective.rivals[[2, 11]].tolist()


def test_certificates_name_their_own_rival():
    problem = problem_of()
    points = torch.zeros_like(problem.inputs)
    whole = sm.local_optimality(problem, points)
    index = torch.tensor([5, 6])
    some = sm.local_optimality(problem.take(index), points[index])
    assert some.subject == tuple(whole.subject[i] for i in index.tolist())
    rivals = problem.objective.rivals.clone()
    rivals[5] = (rivals[5] + 1) % 5
    if rivals[5] == problem.targets[5]:
        rivals[5] = (rivals[5] + 1) % 5
    other = problem.with_objective(sm.TargetedMargin(rivals))
    moved = sm.local_optimality(other, points).subject
    assert moved[5] != whole.subject[5]
    assert moved[6] == whole.subject[6]


def test_make_it_a_three():
    problem = problem_of(lambda t: sm.TargetedMargin(t, over="all"), radius=0.8)
    rivals = problem.objective.rivals
    found = sm.ascend(problem, until=sm.Reached(0.0), max_steps=100)
    chosen = problem.model(problem.inputs + found.best).argmax(1)
    hit = found.best_loss >= 0
    assert torch.equal(hit, chosen == rivals)
    assert int(hit.sum()) > 0
    ended = (found.outcome == sm.Outcome.SUCCEEDED).any(0)
    assert hit.tolist() == ended.tolist()
    with pytest.raises(sm.UserError, match="level: expected a number, got nan"):
        sm.Reached(float("nan"))


# -- refusals -------------------------------------------------------------------------

Z, Y, T = scores(6, 5)


@pytest.mark.parametrize(
    ("make", "outputs", "message"),
    [
        (lambda: sm.DLR(), Z[:, :2], r"DLR needs at least 3 classes, the model has 2"),
        (lambda: sm.TargetedDLR(T), Z[:, :3], "at least 4 classes, the model has 3"),
        (lambda: sm.TargetedMargin(T[:4]), Z, r"per example \[6\], got \[4\]"),
        (lambda: sm.TargetedMargin(7), Z, r"0 … 4 .* indices \[0, 1, 2, 3, 4, 5\]"),
        (lambda: sm.TargetedMargin(T - 2), Z, r"not so at indices \["),
        (
            lambda: sm.TargetedCrossEntropy(0),
            Z,
            r"own label; it is at indices \[0, 5\]",
        ),
        (lambda: sm.TargetedMargin(T), Z[:, 0], r"model: TargetedMargin needs outputs"),
    ],
)
def test_rivals_that_do_not_fit_are_named(make, outputs, message):
    labels = Y.clamp(max=outputs.shape[1] - 1) if outputs.ndim == 2 else Y
    with pytest.raises(sm.UserError, match=message):
        make().check(outputs, labels)


@pytest.mark.parametrize(
    "rivals", [0.5, True, torch.rand(3), torch.ones(2, 2).long(), "3", None]
)
def test_rivals_that_are_no_classes(rivals):
    with pytest.raises(sm.UserError, match="rivals: TargetedMargin needs one class"):
        sm.TargetedMargin(rivals)


def test_refusals_come_before_the_ascent():
    model, inputs = classifier((8, 12, 5)), seeded(12, 8, seed=4)
    labels = model(inputs).argmax(1)
    own = sm.TargetedMargin(labels)
    problem = sm.Problem(model, inputs, labels, own, sm.L2Ball(0.5))
    with pytest.raises(sm.UserError, match="own label; it"):
        sm.ascend(problem, max_steps=1)
    few = sm.TargetedMargin((labels[:3] + 1) % 5)
    problem = sm.Problem(model, inputs, labels, few, sm.L2Ball(0.5))
    with pytest.raises(sm.UserError, match=r"per example \[12\], got \[3\]"):
        sm.ascend(problem, max_steps=1)
    with pytest.raises(sm.UserError, match="rivals of 3 examples"):
        problem.take(torch.tensor([5]))
    with pytest.raises(sm.UserError, match='over: expected "label" or "all"'):
        sm.TargetedMargin(1, over="none")


# -- proofs ---------------------------------------------------------------------------


def test_one_difference_is_a_readout_and_nothing_else_is():
    problem = problem_of()
    z = problem.model(problem.inputs).detach()
    form = readout(problem, z)
    assert isinstance(form, Difference)
    assert not form.leads
    value = (form.weights * z).sum(1)
    # Two products with 0 and ±1.
    torch.testing.assert_close(value, problem.objective(z, problem.targets))
    rivals = problem.objective.rivals
    for other in (
        sm.TargetedMargin(rivals, over="all"),
        sm.TargetedDLR(rivals),
        sm.TargetedCrossEntropy(rivals),
        sm.DLR(),
    ):
        told = readout(problem.with_objective(other), z)
        assert isinstance(told, str)
        assert type(other).__name__ in told


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_a_targeted_margin_is_proved_as_one_network(activation):
    """As the network of one output with the weights A_t - A_y."""
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(12, 6, generator=generator, dtype=torch.float64) / 3
    outer = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    bias = torch.randn(12, generator=generator, dtype=torch.float64)
    net = sm.TwoLayerNetwork(hidden, outer, bias, torch.zeros(3), activation)
    inputs, labels = seeded(6, 6, seed=9), torch.zeros(6, dtype=torch.int64)
    rivals = torch.tensor([1, 1, 1, 2, 2, 2])
    region = sm.L2Ball(0.2)
    problem = sm.Problem(net, inputs, labels, sm.TargetedMargin(rivals), region)
    points = sm.ascend(problem, max_steps=300).best
    found = sm.local_optimality(problem, points)
    proved = [e is sm.Evidence.PROVED for e in found.evidence]
    assert all(proved)
    for i, t in enumerate(rivals.tolist()):
        row = slice(i, i + 1)
        single = sm.TwoLayerNetwork(hidden, outer[t] - outer[0], bias, 0.0, activation)
        alone = sm.Problem(
            single, inputs[row], -torch.ones(1).double(), sm.Margin(), region
        )
        same = sm.local_optimality(alone, points[row])
        assert same.verdict[0] is found.verdict[i]
        # Weights subtracted by torch or enclosed: a few units of rounding.
        bounds = same.upper_bound[0], found.upper_bound[i]
        torch.testing.assert_close(*bounds, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("depth", [(6, 10, 8, 4), (6, 12, 4)])
def test_proved_bounds_of_targeted_margins_hold(depth):
    net = perceptron(depth, seed=3)
    inputs = seeded(8, 6, seed=12)
    labels = net(inputs).argmax(1)
    rivals = (labels + 1 + torch.arange(8) % 3) % 4
    objective = sm.TargetedMargin(rivals)
    problem = sm.Problem(net, inputs, labels, objective, sm.LinfBall(0.1))
    best = sm.ascend(problem, max_steps=200)
    cert = sm.local_optimality(problem, best.best)
    truth = sm.global_maximum(problem)
    # The solver's tolerance, on values of order 1.
    assert bool((truth.value >= best.best_loss - 1e-6).all())
    proved = 0
    for i, verdict in enumerate(cert.verdict):
        if cert.evidence[i] is not sm.Evidence.PROVED:
            continue
        proved += 1
        if verdict is sm.Verdict.GLOBAL_MAXIMUM:
            assert float(truth.value[i] - best.best_loss[i]) < 1e-6
    assert proved
    with pytest.raises(sm.UserError, match="TargetedMargin of 4 output"):
        sm.global_maximum(problem.with_objective(sm.TargetedMargin(rivals, over="all")))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        lambda t: sm.DLR(),
        sm.TargetedDLR,
        sm.TargetedCrossEntropy,
        lambda t: sm.TargetedMargin(t, over="all"),
    ],
)
def test_nothing_is_proved_of_the_others(kind, smooth):
    inputs = seeded(6, 6, seed=13)
    if smooth:
        outer = seeded(5, 9, seed=3)
        net = sm.TwoLayerNetwork(seeded(9, 6, seed=2), outer, activation="softplus")
    else:
        net = perceptron((6, 9, 5), seed=6)
    labels = net(inputs).argmax(1)
    objective = kind((labels + 2) % 5)
    problem = sm.Problem(net, inputs, labels, objective, sm.L2Ball(0.1))
    points = sm.ascend(problem, max_steps=100).best
    found = sm.local_optimality(problem, points)
    assert sm.Evidence.PROVED not in found.evidence
    assert bool(sm.upper_bound(problem, points).upper.isnan().all())
