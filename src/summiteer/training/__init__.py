"""Adversarial training, and the inner problem watched from anybody's loop."""

from summiteer.training._training import adversarial_training as adversarial_training
from summiteer.training._training import copied_model as copied_model
from summiteer.training._training import watcher as watcher
from summiteer.training.batches import part_of as part_of
from summiteer.training.batches import split as split
from summiteer.training.checkpoint import epochs_done as epochs_done
from summiteer.training.fitting import Training as Training
from summiteer.training.monitor import Monitor as Monitor
from summiteer.training.recipe import OPTIMIZERS as OPTIMIZERS
from summiteer.training.recipe import NamedOptimizer as NamedOptimizer
from summiteer.training.recipe import Recipe as Recipe
from summiteer.training.record import Epoch as Epoch
from summiteer.training.record import InnerProblem as InnerProblem
from summiteer.training.result import TrainingResult as TrainingResult
