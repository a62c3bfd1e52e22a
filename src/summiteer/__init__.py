"""Summiteer: did your adversary reach the summit?

First-order adversaries on any differentiable model, and for each example what the
point they returned is. Names are imported on first use, so that `import summiteer`
costs nothing.
"""

from typing import TYPE_CHECKING, Any

from summiteer._version import __version__ as __version__

if TYPE_CHECKING:
    from summiteer._ascend import Ascent as Ascent
    from summiteer._ascend import Misclassified as Misclassified
    from summiteer._ascend import ascend as ascend

_HOME = {
    "_ascend": "Ascent Misclassified ascend",
    "_attack": "Attack attack",
    "_constants": "Constants constants",
    "adversaries": "Adversary BacktrackingStep ConstantStep DecayingStep LipschitzStep "
    "Normalised ProjectedAscent RawGradient Sign",
    "errors": "SummiteerError SummiteerWarning UserError",
    "landscape": "Maxima distinct_maxima",
    "networks": "TwoLayerNetwork recognise",
    "objectives": "CrossEntropy Logistic Margin Quadratic",
    "optimality": "Certificate Evidence Verdict local_optimality",
    "outcome": "Outcome",
    "problem": "Evaluation Problem",
    "regions": "Box Intersection L2Ball LinfBall Region Sphere intersect",
    "starts": "BoundaryStart CentreStart GivenStart Start UniformStart",
    "trajectory": "Recorder Trajectory",
}
_MODULE_OF = {name: home for home, names in _HOME.items() for name in names.split()}
__all__ = [*_MODULE_OF]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'summiteer' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"summiteer.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
