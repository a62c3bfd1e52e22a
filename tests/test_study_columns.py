"""What the columns of experiments mean: said of each, in one place."""

import re
from pathlib import Path

import pytest

from summiteer.report.study_text import parameters_text
from summiteer.studies.experiments import EXPERIMENTS
from summiteer.studies.experiments.climb import CLIMBED

PAGE = Path(__file__).parents[1] / "docs" / "studies.md"
CLIMB = {"examples": 2, "max_steps": 20}
#: The smallest cell of each that is worth the name.
SMALL = {
    "climb": CLIMB | {"width": 8},
    "depth": CLIMB | {"hidden": (4,), "trained": 1},
    "kinks": {"examples": 1, "width": 8, "restarts": 1},
    "losses": CLIMB | {"width": 8},
    "portrait": {"width": 8, "restarts": 2, "max_steps": 20, "resolution": 5},
    "rate": CLIMB | {"width": 8},
    "scaled-training": {
        "examples": 4,
        "width": 4,
        "steps": 1,
        "strong_starts": 1,
        "strong_steps": 1,
        "evaluation_seeds": 1,
        "looked_into": 0,
    },
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_value_of_a_record_is_explained(name):
    experiment = EXPERIMENTS[name]
    found = experiment.measure(experiment.parameters(**SMALL[name]))
    assert found.record.keys() == experiment.columns.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_and_the_command_say_the_same(name):
    columns = EXPERIMENTS[name].columns
    row = re.compile(r"^\| (.*) \| `(\w+)` \| (.*) \|$", re.MULTILINE)
    told = [m.groups() for m in row.finditer(PAGE.read_text())]
    assert {c: text for who, c, text in told if f"`{name}`" in who} == columns
    listed = parameters_text(EXPERIMENTS[name])
    for column, text in columns.items():
        assert re.search(rf"^  {column} +{re.escape(text)}$", listed, re.MULTILINE)


def test_counts_of_runs_that_are_not_judged():
    experiment = EXPERIMENTS["climb"]
    parameters = experiment.parameters(**SMALL["climb"], judged=False)
    assert {*experiment.measure(parameters).record} <= {*CLIMBED}
