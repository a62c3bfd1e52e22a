"""Numbers in sentences that stay true when they are rounded."""

import math
from decimal import ROUND_FLOOR, Context


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
