"""C6 and C7: what is measured for them, and how it is judged."""

import json

import pytest
import torch

import summiteer as sm
from summiteer.networks.reference import digits_mlp
from summiteer.studies.claims import c6, c7
from summiteer.studies.claims.c1 import HIGH
from summiteer.studies.claims.claim import Row, Standing
from summiteer.studies.claims.ends import ends_judgement
from summiteer.studies.experiments import depth, losses


def row(seed, runs=2, **counts):
    record = dict.fromkeys(("maximum", "proved", "best", "stationary", "limit"), 0)
    record |= {"runs": runs, "decided": runs} | counts
    arrays = {"steps": torch.full((1, runs), 7), "residual": torch.zeros(1, runs)}
    return Row({"seed": seed}, record, lambda: arrays)


@pytest.mark.parametrize(
    ("hits", "networks", "standing"),
    [
        (2, 72, Standing.SUPPORTED),
        # No failure, but too few networks to exclude that one in ten fails.
        (2, 20, Standing.INCONCLUSIVE),
        (0, 72, Standing.NOT_SUPPORTED),
        (1, 72, Standing.NOT_SUPPORTED),
    ],
)
def test_the_rule_is_about_the_whole_interval(hits, networks, standing):
    rows = [row(seed, proved=hits, maximum=hits) for seed in range(networks)]
    found = ends_judgement(rows, "p", "r", HIGH)
    assert found.standing is standing
    assert found.low <= hits / 2 <= found.high
    assert found.numbers["runs"] == 2 * networks
    if networks == 72 and hits != 1:
        assert found.numbers["half_width_points"] <= 3


def test_numerical_maxima_are_no_proofs():
    rows = [row(seed, maximum=2) for seed in range(72)]
    assert ends_judgement(rows, "p", "r", HIGH).standing is Standing.NOT_SUPPORTED
    found = ends_judgement(rows, "p", "r", HIGH, proofs=False)
    assert found.standing is Standing.SUPPORTED
    assert "numerical local maximum" in found.sentence


def test_cross_entropy_of_two_outputs_is_logistic_in_their_difference():
    parameters = losses.LossParameters(
        loss="cross-entropy-2", width=32, examples=6, seed=3
    )
    problem = losses.loss_problem(parameters)
    network = problem.model
    rise = network.output_weights[1] - network.output_weights[0]
    single = sm.TwoLayerNetwork(network.hidden_weights, rise, activation="softplus")
    signs = 2.0 * problem.targets - 1
    with torch.no_grad():
        two = problem.objective(network(problem.inputs), problem.targets)
        one = sm.Logistic()(single(problem.inputs), signs)
    # Sums of 32 terms in another order.
    torch.testing.assert_close(two, one, rtol=1e-12, atol=0)
    scalar = losses.loss_problem(parameters.model_copy(update={"loss": "logistic"}))
    assert torch.equal(scalar.targets, signs)
    assert {*network.output_weights.unique().tolist()} == {-(32**-0.5), 32**-0.5}


def test_ten_classes_have_the_digits_own_labels():
    parameters = losses.LossParameters(loss="cross-entropy-10", examples=5, seed=2)
    problem = losses.loss_problem(parameters)
    digits = sm.load_data("digits")
    assert torch.equal(problem.targets, digits.targets[10:15])
    pixels = digits.inputs[10:15].double()
    expected = pixels / pixels.norm(dim=1, keepdim=True)
    assert torch.equal(problem.inputs, expected)
    assert problem.model.output_weights.shape == (10, 256)


def test_end_points_of_the_logistic_loss_are_proved_and_of_the_quadratic_too():
    # Prop. 1: an increasing function of s·f has the maxima of s·f.
    cell = {"width": 32, "examples": 2, "seed": 5, "tolerance": 1e-9}
    problem = losses.loss_problem(losses.LossParameters(**cell))
    points = sm.ascend(problem, max_steps=300).final[0]
    certificate = sm.local_optimality(problem, points)
    assert all(e is sm.Evidence.PROVED for e in certificate.evidence)
    # Targets beyond all values: there u = f - y has the sign of the logistic slope.
    far = 100.0 * problem.targets
    other = sm.Problem(
        problem.model, problem.inputs, far, sm.Quadratic(), problem.region
    )
    again = sm.local_optimality(other, points)
    assert list(again.verdict) == list(certificate.verdict)
    assert all(e is sm.Evidence.PROVED for e in again.evidence)


def test_several_layers_are_what_they_say():
    one, listed = digits_mlp(8, 3), digits_mlp((8,), 3)
    for a, b in zip(one.parameters(), listed.parameters(), strict=True):
        assert torch.equal(a, b)
    deep = digits_mlp((8, 6, 5), 3, activation=torch.nn.Tanh)
    sizes = [m.out_features for m in deep if isinstance(m, torch.nn.Linear)]
    assert sizes == [8, 6, 5, 10]
    assert isinstance(deep[-2], torch.nn.Tanh)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_deep_cell_stays_in_its_region_and_is_determined(norm):
    parameters = depth.DepthParameters(
        hidden=(8, 8), trained=30, examples=3, max_steps=40, norm=norm, seed=1
    )
    one, other = depth.measure(parameters), depth.measure(parameters)
    assert one.record == other.record
    assert torch.equal(one.arrays["loss"], other.arrays["loss"])
    assert one.record["runs"] == 3
    assert 0.1 < one.record["accuracy"] <= 1


def test_smooth_deep_networks_are_never_proved():
    parameters = depth.DepthParameters(
        hidden=(8, 8), trained=30, examples=3, max_steps=300, activation="tanh"
    )
    record = depth.measure(parameters).record
    assert record["proved"] == 0
    assert record["maximum"] > 0


@pytest.mark.parametrize("claim", [c6.C6, c7.C7])
def test_studies_are_those_that_are_judged(claim):
    for extent in ("quick", "full", "full-mnist"):
        known = {}
        for study in claim.studies(extent, {}):
            cells = study.cells()
            known[study.name] = [whole(cell) for cell in cells]
            # Seeds on which nothing was tried before.
            assert min(cell.spec["seed"] for cell in cells) >= 100
        judged = claim.judge(known, extent)
        regimes = [(each.protocol, each.regime) for each in judged]
        assert len({*regimes}) == len(regimes) >= 1
        judged_runs = sum(each.numbers.get("runs", 0) for each in judged)
        counted = [name for name in known if name != "depth-maxima"]
        assert judged_runs == sum(2 * len(known[name]) for name in counted)
        for each in judged:
            json.dumps(dict(each.numbers), allow_nan=False)
    assert claim.judge({}, "quick") == ()


def whole(cell):
    """A row of the cell in which two runs of two are proved maxima."""
    arrays = {
        "steps": torch.full((1, 2), 7),
        "residual": torch.zeros(1, 2),
        "label": torch.tensor([[0, 0], [1, -1]]),
        "proved_distinct": torch.tensor([1, 1]),
        "unseen": torch.tensor([0.5, float("nan")]),
    }
    record = dict.fromkeys(("maximum", "proved", "runs", "decided"), 2)
    record |= dict.fromkeys(("best", "stationary", "limit"), 0)
    return Row(cell.spec, record, lambda: arrays)


def test_proofs_are_asked_for_where_there_are_any():
    known = {s.name: [whole(c) for c in s.cells()] for s in c6.studies("full", {})}
    for each in c6.judge(known, "full"):
        assert ("ten classes" in each.regime) == ("numerical" in each.protocol)
    known = {s.name: [whole(c) for c in s.cells()] for s in c7.studies("full", {})}
    for each in c7.judge(known, "full"):
        if each.standing is not Standing.NOT_JUDGED:
            assert ("tanh" in each.regime) == ("numerical" in each.protocol)
        else:
            assert each.effect == 1.5  # (2 + 1) / 2 maxima per image
