"""The L1 ball."""

from dataclasses import dataclass
from typing import ClassVar

from summiteer.regions._region import Radial


@dataclass(frozen=True, eq=False)
class L1Ball(Radial):
    """{δ : Σ_i |δ_i| ≤ radius}.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    norm: ClassVar[str] = "l1"
