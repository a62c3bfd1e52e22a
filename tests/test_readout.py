"""Objectives as functions of outputs, against Arb at the ends of what is enclosed."""

import itertools

import pytest
import torch
from flint import arb, fmpq
from torch import nn

import summiteer as sm
from fakes import seeded
from summiteer.optimality.readout import Difference, Entropy, readout
from summiteer.optimality.rounding import Enclosure

F64 = torch.float64
pytestmark = pytest.mark.usefixtures("arb_precision")

LOGITS = torch.tensor(
    [
        [0.3, -1.2, 2.0, 0.1],
        [1.0, 1.0, 1.0, 1.0],
        [800.0, -800.0, 0.0, 799.0],
        [-800.0, 800.0, 800.0, 800.0],
        [40.0, 0.0, -40.0, 39.999],
        [1e12, -1e12, 0.0, 1.0],
        [-745.5, 0.0, -0.5, -708.0],
        [1e-300, 5e-324, 0.0, -1e-300],
    ],
    dtype=F64,
)
WIDTHS = (0.0, 1e-13, 1e-3, 2.0)


def exactly(number):
    return fmpq(*float(number).as_integer_ratio())


def ends(outputs, row):
    """Exact corners of the enclosure, and its middle."""
    pairs = list(zip(outputs.middle[row], outputs.radius[row], strict=True))
    for signs in [*itertools.product((-1, 1), repeat=len(pairs)), (0,) * len(pairs)]:
        yield [
            arb(exactly(m) + sign * exactly(r))
            for sign, (m, r) in zip(signs, pairs, strict=True)
        ]


def holds(truth, enclosure, *place):
    """Whether an Arb number lies within."""
    middle, radius = enclosure.middle[place], enclosure.radius[place]
    if not bool(middle.isfinite()):
        return bool(radius.isnan() | radius.isinf() | middle.isnan())
    return bool(abs(truth - arb(exactly(middle))) <= arb(exactly(radius)))


def softmax(z):
    top = z[0]
    for entry in z[1:]:
        top = top.max(entry)
    shares = [(entry - top).exp() for entry in z]
    total = sum(shares, arb(0))
    return [s / total for s in shares]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("label", range(4))
def test_the_cross_entropy_and_its_gradient_are_enclosed(width, label):
    outputs = Enclosure(
        LOGITS,
        width * torch.rand(LOGITS.shape, dtype=F64, generator=torch.manual_seed(label)),
    )
    form = Entropy(torch.full((len(LOGITS),), label), 4)
    value, slope = form.value(outputs), form.cotangent(outputs)
    low, high = form.shares(outputs)
    for row in range(len(LOGITS)):
        for z in ends(outputs, row):
            shares = softmax(z)
            truth = sum(((e - z[label]).exp() for e in z), arb(0)).log()
            assert holds(truth, value, row)
            for k, share in enumerate(shares):
                assert share >= arb(exactly(low[row, k]))
                assert share <= arb(exactly(high[row, k]))
                # Not s_y - 1, of which Arb too would lose the digits.
                own = -sum((s for j, s in enumerate(shares) if j != label), arb(0))
                assert holds(own if k == label else share, slope, row, k)


def test_the_enclosures_are_as_narrow_as_rounding():
    outputs = Enclosure.exact(LOGITS[:5])
    form = Entropy(torch.zeros(5, dtype=torch.int64), 4)
    value, slope = form.value(outputs), form.cotangent(outputs)
    assert bool((value.radius <= 1e-13 * (1 + value.middle.abs() + 1600)).all())
    # Relative accuracy, in saturated rows too: down to exp(-745).
    relative = slope.radius / slope.middle.abs().clamp(min=1e-285)
    assert float(relative.max()) < 1e-12
    wide = Enclosure(LOGITS[:1], torch.full((1, 4), 1e-3, dtype=F64))
    assert float((form.take(torch.tensor([0])).cotangent(wide).radius).max()) < 4e-3


def problem(objective, outputs, targets):
    """The identity as a model: its outputs are its inputs."""
    model = nn.Identity()
    return sm.Problem(model, outputs, targets, objective, sm.L2Ball(1.0)).in_double()


def formed(objective, outputs, targets):
    return readout(problem(objective, outputs, targets), outputs)


def loss(objective, outputs, targets):
    rows = problem(objective, outputs, targets).rows()
    return rows.value(torch.zeros_like(outputs)).loss


@pytest.mark.parametrize("objective", [sm.Quadratic(), sm.Logistic(), sm.Margin()])
def test_losses_of_one_output_are_increasing_in_what_is_read_off(objective):
    outputs = torch.tensor([[0.3], [-2.0], [1.5], [1e-9]], dtype=F64)
    targets = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)
    if isinstance(objective, sm.Quadratic):
        targets = torch.tensor([1.0, -3.0, 1.5 - 1e-9, 0.0], dtype=F64)
    form = formed(objective, outputs, targets)
    assert isinstance(form, Difference)
    value = form.value(Enclosure.exact(outputs))
    truth = loss(objective, outputs, targets)
    link = {
        sm.Quadratic: lambda u: u * u / 2,
        sm.Logistic: torch.nn.functional.softplus,
        sm.Margin: lambda u: u,
    }[type(objective)]
    assert torch.allclose(link(value.middle), truth, rtol=1e-14)
    # Up along the cotangent is up in the loss.
    moved = outputs + 1e-10 * form.cotangent(Enclosure.exact(outputs)).middle
    assert bool((loss(objective, moved, targets) > truth).all())


def test_a_square_is_increasing_only_while_its_residual_keeps_its_sign():
    outputs = torch.tensor([[2.0], [2.0], [-2.0], [1.0]], dtype=F64)
    targets = torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=F64)
    form = formed(sm.Quadratic(), outputs, targets)
    vary = torch.tensor([[0.99], [1.01], [0.99], [0.0]], dtype=F64)
    held = form.holds(Enclosure.exact(outputs), vary)
    assert held.tolist() == [True, False, True, False]


@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy()])
def test_the_best_other_class_leads_as_far_as_no_class_can_overtake_it(objective):
    outputs = torch.tensor([[5.0, 1.0, 0.5, 0.0], [0.0, 1.0, 1.0, 9.0]], dtype=F64)
    form = formed(objective, outputs, torch.tensor([0, 0]))
    if isinstance(objective, sm.CrossEntropy):
        assert isinstance(form, Entropy)
        assert bool(form.holds(Enclosure.exact(outputs), outputs.abs()).all())
        return
    assert form.weights.tolist()[0] == [-1, 1, 0, 0]
    assert form.weights.tolist()[1] == [-1, 0, 0, 1]
    # 1.0 and 0.5 meet when both move by 0.25; the label may move as it likes.
    for room, sure in ((0.249, True), (0.25, False)):
        vary = torch.full((2, 4), room, dtype=F64)
        vary[:, 0] = 100.0
        assert form.holds(Enclosure.exact(outputs), vary).tolist() == [sure, True]
    wide = Enclosure(outputs, torch.full((2, 4), 0.26, dtype=F64))
    assert form.holds(wide, torch.zeros(2, 4, dtype=F64)).tolist() == [False, True]


def test_a_tie_of_the_two_best_classes_is_no_single_form():
    outputs = torch.tensor([[0.0, 1.0, 1.0]], dtype=F64)
    form = formed(sm.Margin(), outputs, torch.tensor([0]))
    assert not bool(form.holds(Enclosure.exact(outputs), torch.zeros(1, 3).double()))


def test_wherever_the_form_holds_it_is_the_objective():
    """All corners of what `holds` calls sure have the same best class."""
    outputs = 2 * seeded(200, 4, seed=1)
    targets = (outputs[:, 0] > 0).long()
    form = formed(sm.Margin(), outputs, targets)
    vary = seeded(200, 4, seed=2).abs()
    sure = form.holds(Enclosure.exact(outputs), vary)
    assert 20 < int(sure.sum()) < 180
    for signs in itertools.product((-1.0, 1.0), repeat=4):
        z = (outputs + torch.tensor(signs, dtype=F64) * vary)[sure]
        truth = loss(sm.Margin(), z, targets[sure])
        found = form.take(sure.nonzero().flatten()).value(Enclosure.exact(z))
        assert bool(((found.middle - truth).abs() <= 1e-14 + found.radius).all())


def test_two_classes_make_the_cross_entropy_a_logistic_loss_of_the_margin():
    outputs = torch.tensor([[0.3, 1.0], [-4.0, 2.0]], dtype=F64)
    form = formed(sm.CrossEntropy(), outputs, torch.tensor([0, 1]))
    assert isinstance(form, Difference)
    assert form.weights.tolist() == [[-1, 1], [1, -1]]
    value = form.value(Enclosure.exact(outputs)).middle
    truth = loss(sm.CrossEntropy(), outputs, torch.tensor([0, 1]))
    assert torch.allclose(torch.nn.functional.softplus(value), truth, rtol=1e-14)


def test_losses_that_no_proof_knows_are_named():
    outputs = torch.zeros(1, 3, dtype=F64)
    assert "Quadratic" in formed(sm.Quadratic(), outputs, outputs.clone())
    soft = torch.full((1, 3), 1 / 3, dtype=F64)
    assert "CrossEntropy" in formed(sm.CrossEntropy(), outputs, soft)
