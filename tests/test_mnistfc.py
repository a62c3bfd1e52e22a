"""Properties of VNN-COMP 2021's mnistfc: violations that hold in rational numbers."""

from fractions import Fraction

import pytest
from benchmarks.properties import FOLDER, HARD, Pair, read

import summiteer as sm
from rational import evaluated, rational
from summiteer.networks import recognise
from summiteer.violation import property_margins

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there is no {FOLDER}")

#: What several complete tools have proved never violated.
UNSAT = [("256x2", "prop_0_0.03"), ("256x4", "prop_9_0.03"), ("256x6", "prop_8_0.03")]


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
    model, claim, problem = read(Pair(network, name, "sat-claimed"))
    found = sm.search(problem, until=sm.Misclassified())
    assert found.misclassified.all()
    point = problem.inputs + found.misclassified_points
    margin = property_margins(model, claim, point)
    assert margin.violated
    assert exact_margin(problem, claim, point) >= Fraction(0)


@pytest.mark.parametrize(("network", "name"), UNSAT)
def test_what_verifiers_proved_is_never_violated(network, name):
    model, claim, problem = read(Pair(network, name, "unsat"))
    found = sm.search(problem)
    assert not found.misclassified.any()
    point = problem.inputs + found.best
    margin = property_margins(model, claim, point)
    assert margin.inside
    assert not margin.violated


def test_without_gates_the_deepest_of_them_is_a_plateau():
    """What the source is for: without it the same effort ends far below."""
    *_, problem = read(Pair("256x6", "prop_3_0.05", "sat-claimed"))
    poor = sm.search(problem, without=("gates",))
    assert not poor.misclassified.any()
    assert float(poor.best_loss) < -0.5
