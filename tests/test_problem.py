"""The problem: what is refused and how, feasible sets, float64 copies."""

import warnings

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import (
    CastsDown,
    Counting,
    classifier,
    labelled_problem,
    output_problem,
    seeded,
)
from summiteer.analytic import Output
from summiteer.errors import SummiteerWarning, UserError
from summiteer.inputs import bad_examples
from summiteer.precision import (
    AsItIs,
    DoubleModel,
    double,
    in_double,
    lowest_precision,
    model_dtype,
)


def make(**changes):
    """A correct problem with some arguments replaced."""
    arguments = {
        "model": classifier(),
        "inputs": 0.5 + 0.1 * seeded(4, 8).clamp(-2, 2),
        "targets": torch.tensor([0, 1, 2, 0]),
        "objective": sm.CrossEntropy(),
        "region": sm.L2Ball(0.5),
    }
    return sm.Problem(**{**arguments, **changes})


def broken(row, value):
    inputs = seeded(4, 8)
    inputs[row, 3] = value
    return inputs


REFUSED = {
    "list": ({"inputs": [[0.0]]}, r"inputs: expected a torch tensor .* got list"),
    "one dimension": ({"inputs": seeded(8)}, r"inputs: expected \[batch, \*input\]"),
    "no examples": ({"inputs": seeded(0, 8)}, r"at least one example"),
    "integers": (
        {"inputs": torch.ones(4, 8, dtype=torch.int64)},
        r"inputs: expected torch.float64 .* got torch.int64; use inputs.to",
    ),
    "other dtype": (
        {"inputs": seeded(4, 8).float()},
        r"inputs: expected torch.float64 \(the model's own\), got torch.float32",
    ),
    "NaN": (
        {"inputs": broken(slice(1, 4, 2), torch.nan)},
        r"inputs: NaN or infinite values in examples \[1, 3\].*--skip-bad",
    ),
    "infinite": ({"inputs": broken(2, torch.inf)}, r"examples \[2\]"),
    "outside the box": (
        {"inputs": broken(0, 1.5).clamp(min=0), "box": (0.0, 1.0)},
        r"inputs: examples \[.*\] lie outside the box \[0, 1\] \(seen .*\); give the",
    ),
    "empty box": ({"box": (1.0, 0.0)}, r"box: expected two finite numbers lo < hi"),
    "endless box": ({"box": (0.0, torch.inf)}, r"box: expected two finite numbers"),
    "not a box": ({"box": 1.0}, r"box: expected two finite numbers"),
    "targets' length": (
        {"targets": torch.tensor([0, 1])},
        r"targets: expected one per example \[4, …\], got shape \[2\]",
    ),
    "one target": ({"targets": torch.tensor(1)}, r"targets: expected one per example"),
    "NaN target": (
        {
            "targets": torch.tensor([0.0, torch.nan, 1.0, torch.inf]),
            "objective": sm.Quadratic(),
        },
        r"targets: NaN or infinite at indices \[1, 3\]",
    ),
    "ids' length": ({"ids": [1, 2]}, r"ids: expected one integer per example \[4\]"),
    "float ids": ({"ids": [0.5, 1.5, 2.5, 3.5]}, r"ids: expected one integer"),
    "region": ({"region": 0.5}, r"region: expected a region such as L2Ball"),
    "zero radius": ({"region": sm.L2Ball(0.0)}, r"radius: expected a positive finite"),
    "negative radius": (
        {"region": sm.LinfBall(torch.tensor([0.1, -0.1, 0.2, torch.nan]))},
        r"radius: .* indices \[1, 3\]",
    ),
    "infinite radius": ({"region": sm.L2Ball(torch.inf)}, r"radius: expected a posit"),
    "radii's length": (
        {"region": sm.L2Ball(torch.tensor([0.1, 0.2]))},
        r"radius: expected a number or one per example \[4\]",
    ),
    "mask's shape": (
        {"mask": torch.ones(7, dtype=torch.bool)},
        r"mask: expected a bool tensor \[8\] or \[4, 8\], got torch.bool \[7\]",
    ),
    "mask's dtype": ({"mask": torch.ones(8)}, r"mask: expected a bool tensor"),
    "sphere and box": (
        {"region": sm.Sphere(0.5), "box": (-9.0, 9.0)},
        r"box: Sphere ∩ box",
    ),
    "sphere and mask": (
        {"region": sm.Sphere(0.5), "mask": torch.ones(8, dtype=torch.bool)},
        r"mask: a sphere",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused_at_once(case):
    changes, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        make(**changes)


UNFIT = {
    "label out of range": (
        {"targets": torch.tensor([0, 1, 2, 3])},
        r"targets: labels must lie in 0 … 2 .* not so at indices \[3\]",
    ),
    "negative label": ({"targets": torch.tensor([0, -1, 2, 0])}, r"indices \[1\]"),
    "float labels": (
        {"targets": torch.tensor([0.0, 1.0, 2.0, 0.0])},
        r"targets: CrossEntropy needs integer class labels .* targets.long\(\)",
    ),
    "labels for Quadratic": (
        {"objective": sm.Quadratic()},
        r"targets: Quadratic needs floating-point targets",
    ),
    "zeros and ones": (
        {
            "model": lambda x: x.sum(1),
            "targets": torch.tensor([0.0, 1.0, 1.0, 0.0]),
            "objective": sm.Logistic(),
        },
        r"got 0 and 1; use 2\*targets - 1",
    ),
    "several outputs": (
        {"targets": torch.ones(4), "objective": sm.Logistic()},
        r"model: Logistic needs one output per example",
    ),
    "reduced objective": (
        {"objective": torch.nn.functional.cross_entropy},
        r"objective: expected one value per example .* use reduction='none'",
    ),
    "input width": ({"inputs": seeded(4, 5)}, r"model: a forward pass .* failed"),
    "not a tensor": ({"model": lambda x: (x, x)}, r"model: expected a tensor .* tuple"),
    "a number": ({"model": lambda x: x.sum()}, r"one row of outputs .* shape \[\]"),
    "too few rows": (
        {"model": lambda x: x[:1]},
        r"one row of outputs .* shape \[1, 8\]",
    ),
    "broken objective": (
        {"objective": lambda outputs, targets: outputs @ outputs},
        r"objective: failed on outputs",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_models_that_do_not_fit_are_refused_before_the_start(case):
    changes, message = UNFIT[case]
    problem = make(**changes)
    with pytest.raises(UserError, match=message):
        sm.ascend(problem)
    with pytest.raises(UserError, match=message):
        sm.local_optimality(problem, torch.zeros_like(problem.inputs))


def test_bad_labels_beyond_the_probe_are_found():
    inputs, targets = seeded(20, 8), torch.zeros(20, dtype=torch.int64)
    targets[17] = 5
    with pytest.raises(UserError, match=r"indices \[17\]"):
        make(inputs=inputs, targets=targets).examine()
    # A block of an unexamined problem is examined itself.
    with pytest.raises(UserError, match=r"indices \[1\]"):
        make(inputs=inputs, targets=targets).take(torch.arange(16, 20)).examine()


def test_bad_examples_are_listed_for_skip_bad():
    assert bad_examples(broken(slice(1, 4, 2), torch.nan)) == [1, 3]
    assert bad_examples(seeded(3, 2)) == []


def test_train_mode_is_warned_about_once_and_restored():
    model = nn.Sequential(classifier(), nn.Dropout(0.5)).train()
    model[0][0].eval()
    modes = [module.training for module in model.modules()]
    problem = make(model=model)
    with pytest.warns(SummiteerWarning, match=r"train mode and has Dropout.*eval mode"):
        ascent = sm.ascend(problem, max_steps=2)
    assert [module.training for module in model.modules()] == modes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sm.ascend(problem, max_steps=2)
        sm.local_optimality(problem, ascent.best)
    assert [module.training for module in model.modules()] == modes
    # Attacked in eval mode: the same as the model without dropout. (Alone it would be
    # a two-layer network, whose closed form rounds differently.)
    plain = sm.ascend(make(model=nn.Sequential(model[0], nn.Identity())), max_steps=2)
    assert torch.equal(plain.final, ascent.final)


def test_train_mode_without_such_layers_is_not_worth_a_warning():
    sm.ascend(make(model=classifier().train()), max_steps=1)


def test_a_random_model_is_warned_about():
    net = classifier()

    def noisy(inputs):
        return net(inputs) + 0.1 * torch.rand(len(inputs), 1)

    with pytest.warns(SummiteerWarning, match=r"two forward passes .* differ by"):
        make(model=noisy).examine()


def test_a_problem_is_examined_once():
    model = Counting(classifier())
    problem = make(model=model)
    problem.examine()
    passes = len(model.without)
    assert passes == 2
    problem.examine()
    problem.take(torch.tensor([1])).examine()
    assert len(model.without) == passes


def test_rows_evaluate_value_gradient_and_error():
    problem = labelled_problem()
    rows, points = problem.rows(), 0.1 * seeded(6, 8, seed=3)
    evaluation = rows.evaluate(points)
    moved = (problem.inputs + points).requires_grad_()
    loss = torch.nn.functional.cross_entropy(
        problem.model(moved), problem.targets, reduction="none"
    )
    (gradient,) = torch.autograd.grad(loss.sum(), moved)
    # Another formula of the same loss: a few roundings of numbers of order 1.
    close = {"rtol": 1e-13, "atol": 1e-13}
    torch.testing.assert_close(evaluation.loss, loss.detach(), **close)
    torch.testing.assert_close(evaluation.gradient, gradient, **close)
    wrong = problem.model(moved).argmax(1) != problem.targets
    assert torch.equal(evaluation.wrong, wrong)
    value = rows.value(points)
    assert torch.equal(value.loss, evaluation.loss)
    assert torch.equal(value.wrong, wrong)


@pytest.mark.parametrize("model", [lambda x: x.detach()[:, :3], lambda x: x[:, :3] * 0])
def test_a_gradient_that_is_not_there_is_zero(model):
    evaluation = make(model=model).rows().evaluate(torch.zeros(4, 8).double())
    assert torch.equal(evaluation.gradient, torch.zeros(4, 8).double())


def test_ties_count_as_errors():
    tied = make(model=lambda x: 0 * x[:, :3])
    assert bool(tied.rows().value(torch.zeros(4, 8).double()).wrong.all())


@pytest.mark.parametrize("region", [sm.L2Ball(0.5), sm.LinfBall(0.1)])
def test_box_mask_and_region_meet(region):
    inputs = torch.rand(3, 2, 4, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, True], [False, True, True, True]])
    problem = output_problem(
        lambda x: x.flatten(1).sum(1), inputs, region, box=(0.0, 1.0), mask=mask
    )
    points = problem.feasible.project(3 * seeded(3, 2, 4, seed=5))
    assert bool((points[:, ~mask] == 0).all())
    moved = inputs + points
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert bool(region.contains(points).all())
    assert float((points != 0).double().mean()) > 0.5
    per_example = output_problem(
        lambda x: x.flatten(1).sum(1), inputs, region, mask=mask.expand(3, 2, 4)
    )
    few = per_example.take(torch.tensor([2, 0]))
    assert few.mask.shape == (2, 2, 4)
    assert bool((few.feasible.project(seeded(2, 2, 4))[:, ~mask] == 0).all())


@pytest.mark.parametrize(("reach", "side"), [((-2.0, 0.7), 1), ((0.7, -2.0), -1)])
def test_the_box_holds_after_rounding_in_float32(reach, side):
    """Without care x + (0.7 - x) exceeds 0.7 in a third of all coordinates."""
    low, high = (side * torch.tensor(reach)).tolist()
    generator = torch.Generator().manual_seed(0)
    inputs = low + (high - low) * torch.rand(200, 50, generator=generator)
    inputs = inputs.clamp(low, high)
    problem = output_problem(
        lambda x: x.sum(1), inputs, sm.LinfBall(3.0), box=(low, high)
    )
    for sign, limit in ((-1.0, low), (1.0, high)):
        vertex = problem.feasible.linear_maximiser(torch.full_like(inputs, sign))
        moved = inputs + vertex
        assert float(moved.min()) >= low
        assert float(moved.max()) <= high
        # and it is tight: within two units of rounding of 2.7, the longest way
        assert float((moved - limit).abs().max()) <= 5e-7


def test_take_keeps_examples_together():
    radius = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    problem = make(region=sm.L2Ball(radius), ids=[7, 8, 9, 10])
    some = problem.take(torch.tensor([3, 1]))
    assert some.ids.tolist() == [10, 8]
    assert some.size.tolist() == [0.4, 0.2]
    assert torch.equal(some.inputs, problem.inputs[[3, 1]])
    assert some.targets.tolist() == [0, 1]


def test_the_caller_keeps_a_graph_through_the_inputs():
    inputs = seeded(4, 8).requires_grad_()
    problem = make(inputs=inputs)
    assert not problem.inputs.requires_grad
    assert inputs.requires_grad


class Rounds(nn.Module):
    """Loses digits in the middle, and returns what it was given."""

    def forward(self, inputs):
        return (inputs.half().to(inputs.dtype) + inputs)[:, :3]


def test_float64_copies_of_models():
    deep = (8, 12, 12, 3)
    net = classifier(deep, dtype=torch.float32)
    probe = seeded(3, 8, dtype=torch.float32)
    exact = in_double(net, probe)
    assert isinstance(exact, DoubleModel)
    reference = classifier(deep, dtype=torch.float32).double()(probe.double())
    assert torch.equal(exact(probe.double()), reference)
    assert model_dtype(net) is torch.float32
    assert lowest_precision(exact, probe.double()) is torch.float64
    assert double(classifier()) is not None
    already = classifier()
    assert double(already) is already


def test_a_recognised_network_stays_recognised_in_float64():
    net = sm.TwoLayerNetwork.random(4, 6, dtype=torch.float32)
    exact = double(net)
    assert type(exact) is sm.TwoLayerNetwork
    assert exact.hidden_weights.dtype == torch.float64
    assert net.hidden_weights.dtype == torch.float32
    assert torch.equal(exact.hidden_weights, net.hidden_weights.double())
    sequence = classifier(dtype=torch.float32)
    exact = double(sequence)
    assert type(exact) is torch.nn.Sequential
    assert exact[0].weight.dtype == torch.float64
    assert sequence[0].weight.dtype == torch.float32


def test_models_that_cannot_compute_in_float64_are_called_as_they_are():
    probe = seeded(3, 8, dtype=torch.float32)
    net = classifier(dtype=torch.float32)
    for model in (CastsDown(), lambda x: net(x)):
        exact = in_double(model, probe)
        assert isinstance(exact, AsItIs)
        assert torch.equal(exact(probe.double()), model(probe).double())
        assert lowest_precision(exact, probe.double()) is torch.float32


def test_a_cast_in_the_middle_is_seen():
    probe = seeded(3, 8)
    assert lowest_precision(Rounds(), probe) is torch.float16
    assert lowest_precision(lambda x: x.bfloat16().float(), probe) is torch.bfloat16
    # Mixing in something coarse is no cast of what flows through.
    weights = seeded(8, dtype=torch.float32)
    assert lowest_precision(lambda x: x * weights, probe) is torch.float64


def test_in_double_keeps_the_problem():
    problem = labelled_problem(dtype=torch.float32, region=sm.LinfBall(0.1))
    exact = problem.in_double()
    assert exact.inputs.dtype == torch.float64
    assert torch.equal(exact.inputs, problem.inputs.double())
    assert exact.feasible.project(torch.ones(6, 8).double()).dtype == torch.float64
    assert isinstance(exact.objective, sm.CrossEntropy)
    assert repr(Output()) == "Output()"


def test_a_mask_keeps_the_limits_of_a_box_whose_radius_is_named():
    box = sm.Box(-1.0, 1.0, radius=0.1)
    problem = sm.Problem(
        lambda x: x.sum(1),
        torch.zeros(1, 2),
        torch.zeros(1),
        sm.Quadratic(),
        box,
        mask=torch.tensor([True, False]),
    )
    far = problem.feasible.project(torch.tensor([[5.0, 5.0]]))
    assert far.tolist() == [[1.0, 0.0]]
