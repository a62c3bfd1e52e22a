"""Properties of VNN-COMP 2021's mnistfc: violations that hold in rational numbers."""

import os
from fractions import Fraction
from pathlib import Path

import pytest

import summiteer as sm
from rational import evaluated, rational
from summiteer.data import load_onnx, load_property
from summiteer.networks import recognise
from summiteer.violation import property_margins, property_problem

FC = (
    Path(
        os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared" / "data")
    )
    / "vnncomp2021_mnistfc"
)
pytestmark = pytest.mark.skipif(not FC.is_dir(), reason=f"there is no {FC}")

#: Claimed violated, never hit by projected gradients and many restarts.
HARD = [
    ("256x2", "prop_0_0.05"),
    ("256x2", "prop_9_0.05"),
    ("256x4", "prop_1_0.05"),
    ("256x4", "prop_14_0.05"),
    ("256x6", "prop_3_0.05"),
]
#: What several complete tools have proved never violated.
UNSAT = [("256x2", "prop_0_0.03"), ("256x4", "prop_9_0.03"), ("256x6", "prop_8_0.03")]


def read(network, name):
    file = load_onnx(str(FC / f"mnist-net_{network}.onnx"))
    claim = load_property(str(FC / f"{name}.vnnlib.gz"))
    return file.module, claim, property_problem(file.module, claim, file.input_shape)


def exact_margin(problem, claim, point):
    """max over rivals of Y_rival - Y_label, all in fractions, inside the box."""
    place = rational(point.flatten())
    assert (place >= rational(claim.lower.flatten())).all()
    assert (place <= rational(claim.upper.flatten())).all()
    network = recognise(problem.model, tuple(problem.inputs.shape[1:]))
    outputs = evaluated(network, rational(point[0]))[0][-1].flatten()
    return max(outputs[list(claim.rivals)]) - outputs[claim.label]


@pytest.mark.parametrize(("network", "name"), HARD)
def test_what_restarts_never_hit_a_search_violates(network, name):
    model, claim, problem = read(network, name)
    found = sm.search(problem, until=sm.Misclassified())
    assert found.misclassified.all()
    point = problem.inputs + found.misclassified_points
    margin = property_margins(model, claim, point)
    assert margin.violated
    assert exact_margin(problem, claim, point) >= Fraction(0)


@pytest.mark.parametrize(("network", "name"), UNSAT)
def test_what_verifiers_proved_is_never_violated(network, name):
    model, claim, problem = read(network, name)
    found = sm.search(problem)
    assert not found.misclassified.any()
    point = problem.inputs + found.best
    margin = property_margins(model, claim, point)
    assert margin.inside
    assert not margin.violated


def test_without_gates_the_deepest_of_them_is_a_plateau():
    """What the source is for: without it the same effort ends far below."""
    *_, problem = read("256x6", "prop_3_0.05")
    poor = sm.search(problem, without=("gates",))
    assert not poor.misclassified.any()
    assert float(poor.best_loss) < -0.5
