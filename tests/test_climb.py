"""The experiments behind C1 to C4 on real cells, against what is proved of them."""

import math

import pytest
import torch

import summiteer as sm
from summiteer.studies import inputs
from summiteer.studies.claims.c3 import CONTROL_TOLERANCE, control_drift
from summiteer.studies.claims.claim import Row
from summiteer.studies.experiments import EXPERIMENTS, measured
from summiteer.studies.experiments.climb import (
    ClimbParameters,
    measure,
    paper_problem,
)
from summiteer.studies.experiments.kinks import STAYS, KinksParameters
from summiteer.studies.experiments.kinks import measure as carry
from summiteer.studies.experiments.rate import (
    ROUNDING,
    RateParameters,
    followed,
    local_rates,
)
from summiteer.studies.experiments.rate import measure as time_steps

FEW = {"examples": 4, "width": 64}


def row(parameters, measurement):
    spec = parameters.model_dump(mode="json")
    return Row(spec, measurement.record, lambda: measurement.arrays)


def test_the_problem_is_the_papers():
    problem = paper_problem(ClimbParameters(scale=3.0, ratio=0.2, seed=2, **FEW))
    assert torch.allclose(problem.inputs.norm(dim=1), torch.full((4,), 3.0).double())
    assert problem.size.tolist() == pytest.approx([0.6] * 4)
    assert problem.targets.abs().tolist() == [1.0] * 4
    assert problem.model.output_weights.abs().tolist() == [1 / 8] * 64
    assert not bool(problem.model.hidden_bias.any())


def test_networks_look_at_images_of_their_own_and_at_the_same_for_every_scale():
    one, other = (paper_problem(ClimbParameters(seed=s, **FEW)) for s in (0, 1))
    assert not bool((one.inputs == other.inputs).all(dim=1).any())
    wide = paper_problem(ClimbParameters(seed=1, scale=10.0, **FEW))
    assert torch.equal(wide.inputs, 10 * other.inputs)
    assert torch.equal(wide.targets, other.targets)
    block = paper_problem(ClimbParameters(seed=0, first=4, **FEW))
    assert torch.equal(block.inputs, other.inputs)


def test_gaussian_inputs_are_directions_with_fair_coins():
    index = torch.arange(4000)
    directions, targets = inputs.signed_examples("gaussian", index, dimension=3)
    # Means of 4000: five standard deviations.
    assert float(directions.mean(0).abs().max()) < 5 / math.sqrt(3 * 4000)
    assert abs(float(targets.mean())) < 5 / math.sqrt(4000)


def test_other_images_than_the_cell_is_about_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "mnist"
    folder.mkdir()
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 2, 2))
    (folder / "t10k-images-idx3-ubyte").write_bytes(header + bytes(range(8)))
    header = b"\0\0\x08\x01" + (2).to_bytes(4, "big")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(header + bytes([3, 7]))
    monkeypatch.setenv(inputs.VARIABLE, str(tmp_path))
    digest = inputs.mnist_digest()
    found, targets = inputs.signed_examples("mnist", torch.arange(3), digest=digest)
    assert targets.tolist() == [-1.0, 1.0, -1.0]
    assert torch.equal(found[0], found[2])
    with pytest.raises(sm.UserError, match="digest: expected"):
        inputs.signed_examples("mnist", torch.arange(1), digest="0" * 16)
    monkeypatch.setenv(inputs.VARIABLE, str(tmp_path / "nowhere"))
    assert inputs.mnist_digest() is None


def test_end_points_are_judged_as_they_are():
    """One step does not arrive, and is not excused by a maximum elsewhere."""
    early = measure(ClimbParameters(max_steps=1, **FEW))
    done = measure(ClimbParameters(max_steps=500, **FEW))
    assert early.record["proved"] == 0
    assert early.record["limit"] == 4
    assert done.record["proved"] == done.record["decided"] == 4
    assert done.record["limit"] == 0


def test_end_points_are_maxima_by_brute_force():
    """Nothing on the sphere near a proved maximum is higher."""
    parameters = ClimbParameters(data="gaussian", dimension=3, scale=3.0, **FEW)
    problem, found = paper_problem(parameters), measure(parameters)
    generator = torch.Generator().manual_seed(0)
    ends = sm.ascend(
        problem,
        sm.ProjectedAscent(sm.RawGradient(), sm.LipschitzStep()),
        sm.UniformStart(restarts=1, seed=0),
        max_steps=2000,
    ).final[0]
    proved = found.arrays["proved"][0]
    assert bool(proved.any())
    for size in (0.03, 0.003):
        noise = torch.randn(2000, *ends.shape, generator=generator).double()
        near = ends + size * problem.size[:, None] * noise
        near = near * (problem.size / near.norm(dim=2))[..., None]
        higher = ((problem.model(problem.inputs + ends) - problem.targets) ** 2) / 2
        loss = torch.stack([problem.model(problem.inputs + each) for each in near])
        loss = (loss - problem.targets) ** 2 / 2
        # They end at a residual of 1e-8, whose square is below rounding.
        assert bool((loss.amax(0) <= higher * (1 + 1e-12))[proved].all())


@pytest.mark.parametrize("activation", ["softplus", "tanh"])
@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_no_step_is_slower_than_proved(activation, scale):
    parameters = RateParameters(
        activation=activation, data="gaussian", scale=scale, ratio=0.1, examples=8
    )
    found = time_steps(parameters)
    assert found.record["applies"] == 8
    assert found.record["violations"] == 0
    assert bool((found.arrays["worst"] <= 1 + ROUNDING).all())
    # The bound is not idle: steps are within a factor of it.
    assert float(found.arrays["worst"].min()) > 0.2


def test_a_slower_step_would_be_seen():
    """Half the way of each step breaks the bound of the whole one."""
    parameters = RateParameters(data="gaussian", scale=0.1, examples=4)
    problem = paper_problem(parameters)
    recorder = sm.Recorder(fields=("point",))
    ascent = sm.ascend(
        problem,
        sm.ProjectedAscent(sm.RawGradient(), sm.LipschitzStep()),
        sm.UniformStart(restarts=1, seed=0),
        recorder=recorder,
    )
    best = sm.polish(problem, ascent.final[0])
    certificate = sm.local_optimality(problem, best)
    points = ascent.trajectory.point[:4, 0]
    honest = followed(problem, points, certificate)
    assert bool((honest.worst <= 1 + ROUNDING).all())
    lazy = points.clone()
    lazy[1:] = points[:-1] + 0.5 * (points[1:] - points[:-1])
    assert bool((followed(problem, lazy, certificate).worst > 1 + ROUNDING).any())


def test_where_the_proof_does_not_reach_no_rate_is_stated():
    found = time_steps(RateParameters(data="gaussian", scale=10.0, examples=4))
    assert found.record["applies"] == 0
    assert bool(found.arrays["worst"].isnan().all())


@pytest.mark.parametrize("activation", ["softplus", "tanh"])
def test_the_last_steps_have_the_local_rate(activation):
    found = time_steps(
        RateParameters(activation=activation, data="gaussian", examples=4)
    )
    ratio = found.arrays["last"] / found.arrays["local"]
    # Means over the last ten steps: eigenvectors of the largest rate dominate slowly.
    assert 0.9 < float(ratio.min()) <= float(ratio.max()) < 1.02


def test_local_rates_are_the_formulas():
    """Against the differential of one step, by differences, d = 3."""
    parameters = RateParameters(data="gaussian", dimension=3, examples=2, width=32)
    problem = paper_problem(parameters)
    paper = sm.ProjectedAscent(sm.RawGradient(), sm.LipschitzStep())
    start = sm.UniformStart(restarts=1, seed=0)
    recorder = sm.Recorder(fields=("point",))
    ascent = sm.ascend(problem, paper, start, max_steps=3000, recorder=recorder)
    best = sm.polish(problem, ascent.final[0])
    certificate = sm.local_optimality(problem, best)
    way = followed(problem, ascent.trajectory.point[:, 0], certificate)
    rate = local_rates(problem, certificate, way)["local"]
    best = certificate.certified_point

    def step(points):
        moved = sm.ascend(
            problem, paper, sm.GivenStart(points), max_steps=1, tolerance=None
        )
        return moved.final[0]

    size = 1e-5
    columns = []
    for axis in torch.eye(3).double():
        columns.append((step(best + size * axis) - step(best - size * axis)) / 2 / size)
    jacobian = torch.stack(columns, dim=2)
    normal = best / best.norm(dim=1, keepdim=True)
    plane = torch.eye(3).double() - normal[:, :, None] * normal[:, None, :]
    # Starts are projected on the ball first, which halves differences along n alone.
    spectrum = torch.linalg.eigvals(jacobian @ plane).abs().amax(1)
    assert torch.allclose(rate, spectrum, rtol=1e-5)


def test_steps_are_counted_to_each_tolerance():
    found = time_steps(RateParameters(data="gaussian", examples=4))
    steps = found.arrays["steps"]
    assert steps.shape == (4, 4)
    assert bool((steps[1:] > steps[:-1]).all())
    short = time_steps(RateParameters(data="gaussian", examples=4, max_steps=15))
    reached = torch.where(steps <= 15, steps, -1)
    assert torch.equal(short.arrays["steps"], reached)
    assert short.record["unreached"] == 4


def test_the_homogeneous_control_is_flat():
    rows = []
    for scale in (0.1, 1.0, 10.0):
        parameters = ClimbParameters(
            activation="quadratic",
            method="backtracking",
            scale=scale,
            restarts=4,
            **FEW,
        )
        rows.append(row(parameters, measure(parameters)))
    drift, pairs = control_drift(rows)
    assert pairs >= 4
    assert drift <= CONTROL_TOLERANCE


def test_relu_maxima_stay_where_there_are_no_biases():
    small = {"examples": 3, "width": 64, "restarts": 1}
    still = carry(KinksParameters(**small))
    assert still.record["maxima"] == still.record["stay"] == 3
    assert float(still.arrays["moved"].max()) <= STAYS
    biased = carry(KinksParameters(bias_std=1.0, **small))
    assert biased.record["stay"] < 3


@pytest.mark.parametrize("name", ["climb", "rate", "kinks"])
def test_a_cell_says_all_and_gives_the_same_again(name):
    few = {"examples": 2, "width": 32}
    cell = EXPERIMENTS[name].cell(**few)
    first, second = measured(cell), measured(cell)
    assert first.record == second.record
    assert first.arrays.keys() == second.arrays.keys()
    for key, value in first.arrays.items():
        assert torch.equal(
            value.double().nan_to_num(-7.0),
            second.arrays[key].double().nan_to_num(-7.0),
        ), key
