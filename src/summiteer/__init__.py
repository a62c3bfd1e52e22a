"""Summiteer: did your adversary reach the summit?

First-order adversaries on any differentiable model, and for each example what the
point they returned is. Names are imported on first use, so that `import summiteer`
costs nothing.
"""

from typing import TYPE_CHECKING, Any

from summiteer._version import __version__ as __version__

if TYPE_CHECKING:  # what type checkers and editors see; a test holds it to _HOME
    from summiteer import adapters as adapters
    from summiteer._ascend import ascend as ascend
    from summiteer._attack import Attack as Attack
    from summiteer._attack import attack as attack
    from summiteer._audit import Audit as Audit
    from summiteer._audit import audit as audit
    from summiteer._constants import Constants as Constants
    from summiteer._constants import constants as constants
    from summiteer._snap import Snapped as Snapped
    from summiteer._snap import snap as snap
    from summiteer.adversaries import Adversary as Adversary
    from summiteer.adversaries import AutoPGD as AutoPGD
    from summiteer.adversaries import BacktrackingStep as BacktrackingStep
    from summiteer.adversaries import ConstantStep as ConstantStep
    from summiteer.adversaries import DCAscent as DCAscent
    from summiteer.adversaries import DecayingStep as DecayingStep
    from summiteer.adversaries import FrankWolfe as FrankWolfe
    from summiteer.adversaries import FullStep as FullStep
    from summiteer.adversaries import LipschitzStep as LipschitzStep
    from summiteer.adversaries import MomentumAscent as MomentumAscent
    from summiteer.adversaries import Normalised as Normalised
    from summiteer.adversaries import OpenLoopStep as OpenLoopStep
    from summiteer.adversaries import ProjectedAscent as ProjectedAscent
    from summiteer.adversaries import RawGradient as RawGradient
    from summiteer.adversaries import ShortStep as ShortStep
    from summiteer.adversaries import Sign as Sign
    from summiteer.adversaries import frank_wolfe_gap as frank_wolfe_gap
    from summiteer.ascent import Ascent as Ascent
    from summiteer.cycle import Cycle as Cycle
    from summiteer.cycle import cycle_members as cycle_members
    from summiteer.data import Dataset as Dataset
    from summiteer.data import load_data as load_data
    from summiteer.data import load_model as load_model
    from summiteer.engine import Measurement as Measurement
    from summiteer.errors import SummiteerError as SummiteerError
    from summiteer.errors import SummiteerWarning as SummiteerWarning
    from summiteer.errors import UserError as UserError
    from summiteer.findings import Finding as Finding
    from summiteer.landscape import Landscape as Landscape
    from summiteer.landscape import Maxima as Maxima
    from summiteer.landscape import Peak as Peak
    from summiteer.landscape import Projection as Projection
    from summiteer.landscape import Slice as Slice
    from summiteer.landscape import distinct_maxima as distinct_maxima
    from summiteer.landscape import explore as explore
    from summiteer.landscape import landscape_slice as landscape_slice
    from summiteer.landscape import slice_through as slice_through
    from summiteer.multi_target import likeliest_rivals as likeliest_rivals
    from summiteer.multi_target import multi_targeted as multi_targeted
    from summiteer.networks import Standardise as Standardise
    from summiteer.networks import TwoLayerNetwork as TwoLayerNetwork
    from summiteer.networks import recognise as recognise
    from summiteer.objectives import DLR as DLR
    from summiteer.objectives import CrossEntropy as CrossEntropy
    from summiteer.objectives import Logistic as Logistic
    from summiteer.objectives import Margin as Margin
    from summiteer.objectives import Quadratic as Quadratic
    from summiteer.objectives import TargetedCrossEntropy as TargetedCrossEntropy
    from summiteer.objectives import TargetedDLR as TargetedDLR
    from summiteer.objectives import TargetedMargin as TargetedMargin
    from summiteer.optimality import Bracket as Bracket
    from summiteer.optimality import Certificate as Certificate
    from summiteer.optimality import Evidence as Evidence
    from summiteer.optimality import Verdict as Verdict
    from summiteer.optimality import local_optimality as local_optimality
    from summiteer.optimality import polish as polish
    from summiteer.optimality import upper_bound as upper_bound
    from summiteer.optimality.mixed_integer import GlobalMaximum as GlobalMaximum
    from summiteer.optimality.mixed_integer import global_maximum as global_maximum
    from summiteer.outcome import Outcome as Outcome
    from summiteer.planning import Plan as Plan
    from summiteer.planning import plan as plan
    from summiteer.problem import Evaluation as Evaluation
    from summiteer.problem import Problem as Problem
    from summiteer.regions import Box as Box
    from summiteer.regions import Intersection as Intersection
    from summiteer.regions import L1Ball as L1Ball
    from summiteer.regions import L1Intersection as L1Intersection
    from summiteer.regions import L2Ball as L2Ball
    from summiteer.regions import LinfBall as LinfBall
    from summiteer.regions import Region as Region
    from summiteer.regions import Sphere as Sphere
    from summiteer.regions import intersect as intersect
    from summiteer.searching import Effort as Effort
    from summiteer.searching import Search as Search
    from summiteer.searching import search as search
    from summiteer.starts import BoundaryStart as BoundaryStart
    from summiteer.starts import CentreStart as CentreStart
    from summiteer.starts import GivenStart as GivenStart
    from summiteer.starts import Start as Start
    from summiteer.starts import UniformStart as UniformStart
    from summiteer.studies.experiment import Experiment as Experiment
    from summiteer.studies.experiment import Parameters as Parameters
    from summiteer.studies.result import StudyResult as StudyResult
    from summiteer.studies.running import run_study as run_study
    from summiteer.studies.study import Study as Study
    from summiteer.training import Monitor as Monitor
    from summiteer.training import TrainingResult as TrainingResult
    from summiteer.training import adversarial_training as adversarial_training
    from summiteer.trajectory import Recorder as Recorder
    from summiteer.trajectory import Trajectory as Trajectory
    from summiteer.until import Misclassified as Misclassified
    from summiteer.until import Reached as Reached

_HOME = {
    "_ascend": "ascend",
    "_attack": "Attack attack",
    "_audit": "Audit audit",
    "_constants": "Constants constants",
    "_snap": "Snapped snap",
    "adversaries": "Adversary AutoPGD BacktrackingStep ConstantStep DCAscent "
    "DecayingStep FrankWolfe FullStep LipschitzStep MomentumAscent Normalised "
    "OpenLoopStep ProjectedAscent RawGradient ShortStep Sign frank_wolfe_gap",
    "ascent": "Ascent",
    "cycle": "Cycle cycle_members",
    "data": "Dataset load_data load_model",
    "engine": "Measurement",
    "errors": "SummiteerError SummiteerWarning UserError",
    "findings": "Finding",
    "landscape": "Landscape Maxima Peak Projection Slice distinct_maxima explore "
    "landscape_slice slice_through",
    "multi_target": "likeliest_rivals multi_targeted",
    "networks": "Standardise TwoLayerNetwork recognise",
    "objectives": "CrossEntropy DLR Logistic Margin Quadratic TargetedCrossEntropy "
    "TargetedDLR TargetedMargin",
    "optimality": "Bracket Certificate Evidence Verdict local_optimality polish "
    "upper_bound",
    "optimality.mixed_integer": "GlobalMaximum global_maximum",
    "outcome": "Outcome",
    "planning": "Plan plan",
    "problem": "Evaluation Problem",
    "regions": "Box Intersection L1Ball L1Intersection L2Ball LinfBall Region Sphere "
    "intersect",
    "searching": "Effort Search search",
    "starts": "BoundaryStart CentreStart GivenStart Start UniformStart",
    "studies.experiment": "Experiment Parameters",
    "studies.result": "StudyResult",
    "studies.running": "run_study",
    "studies.study": "Study",
    "training": "Monitor TrainingResult adversarial_training",
    "trajectory": "Recorder Trajectory",
    "until": "Misclassified Reached",
}
_MODULE_OF = {name: home for home, names in _HOME.items() for name in names.split()}
__all__ = [*_MODULE_OF]
#: Modules whose names are public: `sm.adapters.from_foolbox`.
_MODULES = ("adapters",)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF and name not in _MODULES:
        raise AttributeError(f"module 'summiteer' has no attribute {name!r}")
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"summiteer.{name}")
    value = getattr(importlib.import_module(f"summiteer.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})
