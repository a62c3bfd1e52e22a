"""What a point is, and how that is known."""

from enum import Enum


class Verdict(Enum):
    """What lies within `within` · radius of a point, in order of precedence.

    The text is the one-line gloss that is printed beside every verdict.
    """

    GLOBAL_MAXIMUM = "no allowed perturbation has a higher objective"
    STRICT_LOCAL_MAXIMUM = "an isolated local maximum lies here"
    LOCAL_MAXIMUM = "a local maximum lies here"
    SADDLE = "no maximum: the slope is small, but the objective curves upwards"
    NOT_STATIONARY = "no maximum is near: points close by are higher"
    FLAT = "gradient and curvature are exactly zero: a plateau"
    UNDECIDED = "the measurement does not decide"

    @property
    def is_maximum(self) -> bool:
        """Whether the verdict says that a maximum lies near."""
        return self in MAXIMA


MAXIMA = frozenset(
    {Verdict.GLOBAL_MAXIMUM, Verdict.STRICT_LOCAL_MAXIMUM, Verdict.LOCAL_MAXIMUM}
)


class Evidence(Enum):
    """How a verdict is known. The two are never mixed."""

    PROVED = "inequalities between real numbers, rounding included"
    NUMERICAL = "floating-point measurement with tolerances"
