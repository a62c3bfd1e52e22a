"""The experiments that studies are made of; one is a file here and a line below."""

from summiteer.cells import Cell, as_json
from summiteer.engine import Measurement
from summiteer.studies.experiment import Experiment
from summiteer.studies.experiments.climb import CLIMB
from summiteer.studies.experiments.depth import DEPTH
from summiteer.studies.experiments.kinks import KINKS
from summiteer.studies.experiments.losses import LOSSES
from summiteer.studies.experiments.portrait import PORTRAIT
from summiteer.studies.experiments.rate import RATE
from summiteer.studies.experiments.scaled_training import SCALED_TRAINING

EXPERIMENTS: dict[str, Experiment] = {
    each.name: each
    for each in (CLIMB, DEPTH, KINKS, LOSSES, PORTRAIT, RATE, SCALED_TRAINING)
}


def measured(cell: Cell) -> Measurement:
    """Run the cell's experiment; picklable, for engines with other processes.

    Args:
        cell: made by `Experiment.cell`.
    """
    experiment = EXPERIMENTS[cell.kind]
    return experiment.measure(experiment.parameters.model_validate(as_json(cell.spec)))
