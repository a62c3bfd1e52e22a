"""What an audit found, in words: the whole in a line, one example in a few."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from summiteer.auditing.findings import CORRECTIONS, short_of_summit, units_differ
from summiteer.auditing.kinds import KIND_NAMES, Kind
from summiteer.examination import EVIDENCE_NAMES, OUTCOME_NAMES, VERDICT_NAMES
from summiteer.optimality import Verdict

#: What a correction means for one example.
MEANING = {
    "CLEAN_WRONG": "the model errs on the clean input: it never was right",
    "PROJECTED": "its projection on the region misleads the model: it counts as wrong",
    "ASCENT": "ascent from the point misleads the model: it counts as wrong",
    "CENTRE": "a run from the clean input misleads the model: it counts as wrong",
    "OUTSIDE_ONLY": "it misleads the model only from outside the region, and nothing "
    "allowed that was tried does: it counts as withstood",
    "NOT_FINITE": "it is no input, and nothing that was tried misleads the model: it "
    "counts as withstood",
}


def account(result: Mapping[str, Any]) -> str:
    """One line about all examples."""
    claimed = result["claimed_robust_accuracy"]
    accuracy = ""
    if claimed is not None:
        # Counts: shares of a bound would have to be rounded.
        count, most = round(claimed * result["examples"]), result["survivors"]
        accuracy = f"{count} claimed to be robust, at most {most['examples']} are; "
    elif not result["kinds"]:
        accuracy = "the rows are not these examples' inputs"
    kinds = ", ".join(f"{v['examples']} {k}" for k, v in result["kinds"].items())
    codes = ", ".join(entry["code"] for entry in result["findings"]) or "none"
    return (
        f"Audit of {result['examples']} examples: {accuracy}{kinds}; "
        f"findings: {codes}; see explain(i)"
    )


def told(arrays: Mapping[str, Tensor], result: Mapping[str, Any], i: int) -> str:
    """A few lines about one example.

    Args:
        arrays: of all examples, see `audit_block`.
        result: for region and objective.
        i: the example's place.
    """

    def number(name: str) -> float:
        return float(arrays[name][i])

    kind = Kind[KIND_NAMES[int(arrays["kind"][i])]]
    lines = [f"example {int(arrays['ids'][i])}: {kind.value}"]
    if kind is not Kind.NOT_FINITE:
        lines.append("  " + _place(arrays, result, i))
    climb = (
        f"  {result['objective']} {number('clean_losses'):.4g} clean, "
        f"{number('given_losses'):.4g} given"
    )
    if not bool(arrays["inside"][i]) and kind is not Kind.NOT_FINITE:
        climb += f", {number('losses'):.4g} projected"
    if kind is not Kind.NOT_FINITE:
        outcome = OUTCOME_NAMES[int(arrays["outcome"][i])]
        climb += f", {number('reached_losses'):.4g} after {number('steps'):.0f} more "
        climb += f"steps from there ({outcome})"
    lines.append(climb + f"; {number('centre_losses'):.4g} from the clean input")
    if "given_margins" in arrays and kind is not Kind.NOT_FINITE:
        lines.append(
            f"  margin {number('clean_margins'):.3g} clean, "
            f"{number('given_margins'):.3g} given, {number('reached_margins'):.3g} "
            "reached (0 or more misleads the model)"
        )
    verdict = Verdict[VERDICT_NAMES[int(arrays["verdict"][i])]]
    evidence = EVIDENCE_NAMES[int(arrays["evidence"][i])]
    if kind is not Kind.NOT_FINITE:
        lines.append(f"  {verdict.name} ({evidence}): {verdict.value}")
    return "\n".join([*lines, "  so: " + _meaning(arrays, result, i)])


def _place(arrays: Mapping[str, Tensor], result: Mapping[str, Any], i: int) -> str:
    region = result["region"]
    radius = region["radius"]
    radius = radius[i] if isinstance(radius, list) else radius
    text = f"{region['norm']} norm {float(arrays['length'][i]):.6g}, radius {radius:g}"
    if bool(arrays["inside"][i]):
        return text + ": inside"
    over, out = float(arrays["excess"][i]), float(arrays["box_excess"][i])
    parts = [f"{over:.3g} beyond the radius"] if over > 0 else []
    parts += [f"{out:.3g} beyond box or mask"] if out > 0 else []
    text += f": OUTSIDE, {' and '.join(parts)}"
    return text + (", as 8-bit rounding explains" if arrays["rounded"][i] else "")


def _meaning(arrays: Mapping[str, Tensor], result: Mapping[str, Any], i: int) -> str:
    fits = int(arrays["fits"][i])
    if fits >= 0:
        return f"the row is near example {fits}'s input: the rows are in another order"
    if units_differ(arrays):
        return "the file is in other units, or holds perturbations: this means nothing"
    name = CORRECTIONS[int(arrays["correction"][i])]
    if name in MEANING:
        return MEANING[name]
    short = bool(short_of_summit(arrays)[i])
    if result["claimed_robust_accuracy"] is None:
        return (
            "more ascent gains" if short else "ascent from there gains next to nothing"
        )
    if not bool(arrays["survived"][i]):
        return "it misleads the model, as claimed"
    if short:
        return "more ascent gains, but the model withstood all that was tried"
    return "the model withstood it, and ascent from there gains next to nothing"
