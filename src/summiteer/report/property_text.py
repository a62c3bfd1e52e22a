"""What an attack says about a property, in one sentence."""

from collections.abc import Mapping
from typing import Any

#: What found a violation, see `summiteer.searching`.
_FOUND_BY = {
    "objective": "by the first run",
    "rivals": "by a run towards one rival",
    "gates": "by a run through closed gates",
    "neighbours": "by a run from the vertex towards an example of a rival",
    "restarts": "by a run from a random point",
    "escapes": "by a run past a point that is no maximum",
    "strongest": "by a run on from the strongest point",
    "settling": "by taking the strongest point to the top of its hill",
}


def property_text(result: Mapping[str, Any], directory: str, more: bool = False) -> str:
    """Return what stands below the tables.

    Args:
        result: content of result.json with "property".
        directory: of the run.
        more: whether there is a higher effort to try.
    """
    said, spent = result["property"], f"{result['gradient_evaluations']:,}"
    label, rival, margin = said["label"], said["rival"], said["margin"]
    if said["violated"]:
        own = said["margin_in_model_dtype"]
        beside = "" if own is None else f"; {own:.4g} in the model's own precision"
        by = _FOUND_BY.get(said.get("source"), "by the adversary")
        return (
            f"violated: Y_{rival} >= Y_{label} by {margin:.4g} (float64{beside}) at "
            f"the input in {directory}/counterexample.txt\n"
            f"found {by}; {spent} gradient evaluations in all"
        )
    if result["proved_robust_accuracy"] == 1.0:
        return (
            "no violation found, and none exists in the box rounded inwards to float64 "
            "(proved)"
        )
    near = "" if margin is None else f"; nearest: Y_{rival} = Y_{label} - {-margin:.4g}"
    advice = "\n--effort thorough looks further" * more
    return (
        f"no violation found (this is no proof){near}; {spent} gradient evaluations"
        f"{advice}"
    )
