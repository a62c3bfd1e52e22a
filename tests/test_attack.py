import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.data import load_data
from summiteer.networks.reference import digits_mlp
from summiteer.objectives import default_objective


@pytest.fixture(scope="module")
def digits():
    data = load_data("digits")
    return digits_mlp(), data.inputs[:60].float(), data.targets[:60]


def test_attack_reports_what_it_found(digits):
    model, inputs, targets = digits
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack = sm.attack(model, inputs, targets, region=sm.L2Ball(0.6))
    assert attack.clean_accuracy is not None
    assert 0 < attack.robust_accuracy < attack.clean_accuracy
    with torch.no_grad():
        moved = inputs + attack.perturbations.float()
        correct = model(moved).argmax(1) == targets
    assert float(correct.float().mean()) == pytest.approx(attack.robust_accuracy)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert float(attack.perturbations.norm(dim=1).max()) <= 0.6 * (1 + 1e-6)  # float32
    result = attack.result
    assert sum(result["outcomes"].values()) == 60
    assert sum(sum(known.values()) for known in result["verdicts"].values()) == 60
    assert result["survivors"]["examples"] == round(60 * attack.robust_accuracy)
    assert 0 < result["proved_robust_accuracy"] <= attack.robust_accuracy
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.filterwarnings("ignore::summiteer.SummiteerWarning")
@pytest.mark.parametrize("until", [None, sm.Misclassified()])
def test_a_broken_example_comes_with_the_point_that_breaks_it(until):
    """z = (0, 10δ - 0.99, -20δ - 2.001): wrong at δ = 0.1 alone, ℓ highest at -0.1."""
    model = nn.Linear(1, 3).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [10.0], [-20.0]]))
        model.bias.copy_(torch.tensor([0.0, -0.99, -2.001]))
    attack = sm.attack(
        model,
        torch.zeros(2, 1, dtype=torch.float64),
        torch.zeros(2, dtype=torch.int64),
        region=sm.LinfBall(0.1),
        box=None,
        until=until,
        screened=False,
    )
    assert attack.robust_accuracy == 0
    assert float((attack.perturbations - 0.1).abs().max()) < 1e-3
    assert attack.result["search"]["found_by"]


def test_blocks_change_no_start_and_no_verdict(digits):
    # Smooth and float64: at a kink the last bit of a matrix product, which depends on
    # the block, may tip a run over.
    _, inputs, targets = digits
    signs = torch.where(targets >= 5, 1.0, -1.0).double()
    model = sm.TwoLayerNetwork.random(64, 32, "softplus")
    whole, parts = (
        sm.attack(
            model,
            inputs.double(),
            signs,
            region=sm.L2Ball(0.3),
            block_size=size,
            screened=False,  # untrained: no better than guessing
        )
        for size in (60, 7)
    )
    assert whole.result["verdicts"] == parts.result["verdicts"]
    assert torch.equal(whole.arrays["survived"], parts.arrays["survived"])
    # Converged runs: what is left of different rounding is far below the residual.
    gap = (whole.arrays["losses"] - parts.arrays["losses"]).abs()
    assert float(gap.max()) < 1e-10
    ends = [each.arrays["restart_losses"] for each in (whole, parts)]
    assert torch.allclose(*ends, rtol=0, atol=1e-9, equal_nan=True)


def test_the_restarts_of_every_example_are_recorded(digits):
    model, inputs, targets = digits
    attack = sm.attack(model, inputs, targets, region=sm.L2Ball(0.3))
    ends = attack.arrays["restart_losses"]
    assert ends.shape == (60, 1 + 4)
    survived = attack.arrays["survived"]
    made = (~ends[:, 1:].isnan()).sum(1)
    assert torch.equal(made[survived].int(), attack.arrays["draws"][survived])
    assert not bool(ends[:, 0].isnan().any())
    top = ends.nan_to_num(-torch.inf).amax(1)[survived]
    last = attack.arrays["losses"][survived]
    # The model's rounding, in batches of another size: a few units of float32.
    assert bool((top <= last + 1e-6 * (1 + last)).all())


def test_more_steps_expose_an_attack_that_has_not_converged(digits):
    model, inputs, targets = digits
    lazy = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.002))
    with pytest.warns(sm.SummiteerWarning) as warned:
        attack = sm.attack(
            model, inputs, targets, region=sm.L2Ball(0.6), adversary=lazy
        )
    assert any("not converged" in str(warning.message) for warning in warned)
    assert attack.result["more_steps"]["flipped"] > 0
    codes = [finding["code"] for finding in attack.result["findings"]]
    assert "NOT_CONVERGED" in codes
    assert attack.result["shares"]["stationary"] < 0.5


class _Masked(nn.Module):
    def forward(self, inputs):
        return torch.round(inputs[:, :10])


def test_masked_gradients_are_named(digits):
    _, inputs, targets = digits
    with pytest.warns(sm.SummiteerWarning) as warned:
        attack = sm.attack(_Masked(), inputs, targets, region=sm.L2Ball(0.6))
    assert any("gradient masking" in str(warning.message) for warning in warned)
    assert attack.result["outcomes"] == {"ZERO_GRADIENT": 60}
    found = {entry["code"]: entry for entry in attack.result["findings"]}
    assert found["ZERO_GRADIENT"]["examples"] == list(range(60))
    assert "QUANTISED" in found


def test_regression_has_losses_but_no_accuracy():
    data = load_data("diabetes")
    inputs, targets = data.inputs[:40], data.targets[:40]
    network = sm.TwoLayerNetwork.random(10, 32, "tanh", weight_std=3.0)
    attack = sm.attack(network, inputs, targets, region=sm.L2Ball(0.05), box=None)
    result = attack.result
    assert result["objective"] == "Quadratic"
    assert attack.robust_accuracy is None
    assert result["more_steps"] is None
    assert result["loss"]["attacked_mean"] > result["loss"]["clean_mean"]
    assert result["shares"]["maximum"] > 0.9


def test_signs_are_attacked_with_the_logistic_loss():
    data = load_data("breast-cancer")
    inputs = data.inputs[:50]
    targets = 2.0 * data.targets[:50].double() - 1
    network = sm.TwoLayerNetwork.random(30, 32, "softplus")
    region = sm.LinfBall(0.05)
    attack = sm.attack(network, inputs, targets, region=region, screened=False)
    assert attack.result["objective"] == "Logistic"
    assert attack.robust_accuracy is not None


def test_default_objective_by_outputs_and_targets():
    several, one = torch.zeros(3, 4), torch.zeros(3)
    labels, signs = torch.tensor([0, 1, 2]), torch.tensor([1.0, -1.0, 1.0])
    assert default_objective(several, labels) == sm.CrossEntropy()
    assert default_objective(one, signs) == sm.Logistic()
    assert default_objective(one[:, None], signs) == sm.Logistic()
    assert default_objective(one, torch.tensor([0.5, 1.0, 2.0])) == sm.Quadratic()
    with pytest.raises(sm.UserError, match="one output, so integer labels"):
        default_objective(one, labels)
    with pytest.raises(sm.UserError, match=r"2\*targets - 1"):
        default_objective(one, torch.tensor([0.0, 1.0, 1.0]))


def test_unknown_effort_is_refused(digits):
    model, inputs, targets = digits
    with pytest.raises(sm.UserError, match="effort: expected one of"):
        sm.attack(model, inputs, targets, region=sm.L2Ball(1.0), effort="lots")
