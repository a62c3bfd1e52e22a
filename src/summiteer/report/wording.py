"""Numbers and names as sentences have them; bounds are rounded to the safe side."""

import math
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Context
from typing import Any

#: Objectives that are called the loss.
_LOSSES = ("CrossEntropy", "Logistic", "Quadratic")


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    Args:
        count: of them.
        noun: of one; of more it ends in an s.
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float | None) -> str:
    """A share in per cent; 0 and 100 only where it is none or all.

    Args:
        share: in [0, 1]; None where it is not known.
    """
    if share is None:
        return "–"
    near = share if share in (0, 1) else min(max(share, 0.001), 0.999)
    return f"{100 * near:.1f} %"


def number(value: float | None) -> str:
    """Three significant digits.

    Args:
        value: None where it is not known.
    """
    if value is None:
        return "–"
    return f"{value:.3g}"


def plain(name: str) -> str:
    """The name of a verdict or a kind as text has it.

    Args:
        name: with underscores.
    """
    return name.replace("_", " ").lower()


def radius_words(radius: float | list[float]) -> str:
    """A radius, or from the smallest to the largest.

    Args:
        radius: of result.json.
    """
    sizes = radius if isinstance(radius, list) else [radius]
    low, high = min(sizes), max(sizes)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def region_words(region: Mapping[str, Any]) -> str:
    """Norm, radius, box and mask.

    Args:
        region: of result.json.
    """
    box = region["box"]
    limits = f", box [{box[0]:g}, {box[1]:g}]" if box else ""
    free = coordinates_of(region)
    limits += f", {free} move" if free else ""
    return f"{region['norm']} radius {radius_words(region['radius'])}{limits}"


def coordinates_of(region: Mapping[str, Any]) -> str:
    """How many coordinates a mask lets move; "" without one.

    Args:
        region: of result.json.
    """
    if not region.get("moving"):
        return ""
    fewest, most, whole = region["moving"]
    if most is None:
        return f"each example's own of {whole} coordinates"
    many = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{many} of {whole} coordinates"


def examined_in(result: Mapping[str, Any]) -> str:
    """The precision in which points were examined: float64, or what the model can.

    Args:
        result: content of result.json.
    """
    return str(result.get("examined_in", "float64"))


def objective_word(named: str) -> str:
    """What an objective is called: "loss", or "objective" where it is none.

    Args:
        named: objective of result.json.
    """
    return "loss" if named in _LOSSES else "objective"


def over_some(result: Mapping[str, Any]) -> str:
    """Over how many examples the means of the loss are; "" if over all.

    Args:
        result: content of result.json.
    """
    count = result["loss"].get("examples", result["examples"])
    if count == result["examples"]:
        return ""
    return f" (of the {count} where it is finite)"


def at_most(share: float) -> str:
    """A share that is an upper bound, rounded up to a tenth of a per cent.

    Args:
        share: in [0, 1].
    """
    return f"{math.ceil(_tenths(share)) / 10:.1f} %"


def at_least(share: float) -> str:
    """A share that is a lower bound, rounded down.

    Args:
        share: in [0, 1].
    """
    return f"{math.floor(_tenths(share)) / 10:.1f} %"


def share_above(share: float) -> float:
    """`at_most` as a number, for cells that are sorted.

    Args:
        share: in [0, 1].
    """
    return math.ceil(_tenths(share)) / 1000


def share_below(share: float) -> float:
    """`at_least` as a number, for cells that are sorted.

    Args:
        share: in [0, 1].
    """
    return math.floor(_tenths(share)) / 1000


def part_of(count: int, whole: int) -> str:
    """A share with what was counted; all and none only where it is all or none.

    Args:
        count: how many.
        whole: of how many, at least one.
    """
    if count in (0, whole):
        return "all" if count else "none"
    tenths = min(max(round(1000 * count / whole), 1), 999)
    return f"{tenths / 10:.1f} % ({count})"


def no_more_than(value: float) -> str:
    """A bound ≥ 0 with two digits, rounded up.

    Args:
        value: the bound.
    """
    return f"{rounded_up(value, 2):g}"


def rounded_up(value: float, digits: int = 4) -> float:
    """The least number ≥ a bound ≥ 0 that so many digits can say.

    Args:
        value: the bound.
        digits: at least one.
    """
    if value <= 0 or not math.isfinite(value):
        return max(value, 0.0)
    if value < 1e-15:  # below what float64 resolves of a loss of 1
        return 1e-15
    near = float(f"{value:.{digits - 1}e}")
    if near >= value:
        return near
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{near + unit:.{digits - 1}e}")


def rounded_down(value: float, digits: int = 4) -> float:
    """The greatest number ≤ a bound, of any sign, that so many digits can say.

    Args:
        value: the bound.
        digits: at least one.
    """
    down = Context(prec=digits, rounding=ROUND_FLOOR)
    return float(down.create_decimal_from_float(value))


def _tenths(share: float) -> float:
    """In tenths of a per cent, without the rounding of 1000·share."""
    tenths = 1000 * share
    near = round(tenths)
    return near if abs(tenths - near) < 1e-9 else tenths


def verdict_words(verdict: str, evidence: str) -> str:
    """A verdict in words, as legends and tables have it.

    Args:
        verdict: name of a `Verdict`.
        evidence: name of an `Evidence`.
    """
    return f"{plain(verdict)}, {plain(evidence)}"
