"""What an attack says about a property, in one sentence."""

from collections.abc import Mapping
from typing import Any


def property_text(result: Mapping[str, Any], directory: str) -> str:
    """Return the sentence that stands below the tables.

    Args:
        result: content of result.json with "property".
        directory: of the run.
    """
    said = result["property"]
    label, rival, margin = said["label"], said["rival"], said["margin"]
    if said["violated"]:
        own = said["margin_in_model_dtype"]
        beside = "" if own is None else f"; {own:.4g} in the model's own precision"
        return (
            f"violated: Y_{rival} >= Y_{label} by {margin:.4g} (float64{beside}) at "
            f"the input in {directory}/counterexample.txt"
        )
    if result["proved_robust_accuracy"] == 1.0:
        return (
            "no violation found, and none exists in the box rounded inwards to float64 "
            "(proved)"
        )
    near = "" if margin is None else f"; nearest: Y_{rival} = Y_{label} - {-margin:.4g}"
    return f"no violation found (this is no proof){near}"
