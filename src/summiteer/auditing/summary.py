"""What an audit's arrays say: the content of result.json (architecture.md)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from summiteer.auditing.findings import (
    CORRECTIONS,
    findings_in,
    meaningless,
    short_of_summit,
)
from summiteer.auditing.kinds import KIND_NAMES, Kind
from summiteer.summary import Work, mean_of, share_of, summary


def audit_result(work: Work) -> dict[str, Any]:
    """Return result.json's content (architecture.md), null where undefined.

    Args:
        work: what the audit has done.
    """
    labelled, arrays = work.labelled, work.arrays
    accuracies = {
        "claimed_robust_accuracy": share_of(arrays["claimed"]) if labelled else None,
        "corrected_robust_accuracy": share_of(arrays["survived"]) if labelled else None,
    }
    more = {
        "corrections": corrections(arrays) if labelled else None,
        "kinds": kinds(arrays, labelled),
        "excess": excess(arrays, labelled),
        "radii": radii(arrays),
        "gains": gains(arrays, labelled),
    }
    result = summary("audit", work, accuracies, more)
    _strike_broken(result, arrays)
    if meaningless(arrays):
        _strike_all(result)
    # First of all what may make every other number meaningless.
    own = [finding.as_json() for finding in findings_in(arrays, labelled)]
    result["findings"] = own + result["findings"]
    return result


def _strike_broken(result: dict[str, Any], arrays: Mapping[str, Tensor]) -> None:
    """Rows that are no input have no verdict."""
    broken = int((arrays["kind"] == Kind.NOT_FINITE.code).sum())
    result["excess"]["no_input"] = broken
    if broken:
        known = result["verdicts"]["UNDECIDED"]
        known["NUMERICAL"] -= broken
        known = {evidence: count for evidence, count in known.items() if count}
        result["verdicts"]["UNDECIDED"] = known
        if not known:
            del result["verdicts"]["UNDECIDED"]


def _strike_all(result: dict[str, Any]) -> None:
    """Rows that belong to no example of theirs: no number about them means a thing."""
    for name in ("claimed", "corrected"):
        result[f"{name}_robust_accuracy"] = None
    for name in ("corrections", "excess", "radii", "gains"):
        result[name] = None
    result |= {"outcomes": {}, "verdicts": {}, "kinds": {}}
    result["loss"]["attacked_mean"] = None
    result["shares"] = dict.fromkeys(result["shares"])
    result["survivors"] = {"examples": None, "shares": None}


def radii(arrays: Mapping[str, Tensor]) -> dict[str, float | None]:
    """How long the perturbations are, in radii."""
    known = arrays["radii"]
    return {"longest": _largest(known), "median": _middle(known)}


def corrections(arrays: Mapping[str, Tensor]) -> dict[str, int]:
    """How many examples moved between right and wrong, by reason."""
    counts = torch.bincount(arrays["correction"].long(), minlength=len(CORRECTIONS))
    pairs = zip(CORRECTIONS, counts.tolist(), strict=True)
    return {name.lower(): count for name, count in pairs if name != "NONE"}


def kinds(arrays: Mapping[str, Tensor], labelled: bool) -> dict[str, dict[str, Any]]:
    """Examples of each kind, and how many of them the model withstood."""
    table: dict[str, dict[str, Any]] = {}
    for code, name in enumerate(KIND_NAMES):
        mask = arrays["kind"] == code
        if bool(mask.any()):
            withstood = int((mask & arrays["claimed"]).sum()) if labelled else None
            table[name] = {"examples": int(mask.sum()), "withstood": withstood}
    return table


def excess(arrays: Mapping[str, Tensor], labelled: bool) -> dict[str, Any]:
    """How many lie outside beyond rounding, and by how much at most."""
    finite = ~arrays["length"].isnan()
    outside = finite & ~arrays["inside"]
    over = torch.maximum(arrays["excess"], arrays["box_excess"])
    only = arrays["correction"] == CORRECTIONS.index("OUTSIDE_ONLY")
    return {
        "outside": int(outside.sum()),
        "rounded_to_8_bits": int((outside & arrays["rounded"]).sum()),
        "grid": int(arrays["levels"][0]) or None,
        "largest": _largest(over[outside]),
        "largest_ulps": _largest(arrays["ulps"][outside]),
        "wrong_only_outside": int(only.sum()) if labelled else None,
    }


def gains(arrays: Mapping[str, Tensor], labelled: bool) -> dict[str, Any]:
    """What ascent from the very points still adds, where it adds something."""
    short = short_of_summit(arrays)
    lost = arrays["correction"] == CORRECTIONS.index("ASCENT")
    margins = None
    if labelled:
        margins = (arrays["reached_margins"] - arrays["given_margins"])[short]
    return {
        "examples": int(short.sum()),
        "reached_mean": mean_of(arrays["reached_losses"]),
        "objective": _middle(arrays["gained"][short]),
        "objective_largest": _largest(arrays["gained"][short]),
        "margin": None if margins is None else _middle(margins),
        "margin_largest": None if margins is None else _largest(margins),
        "steps": _middle(arrays["steps"][short].double()),
        "moved": _middle(arrays["moved"][short]),
        "flipped": int(lost.sum()) if labelled else None,
    }


def _middle(values: Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.median()) if len(finite) else None


def _largest(values: Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.max()) if len(finite) else None
