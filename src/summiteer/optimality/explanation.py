"""A verdict on one example in words: the inequality with its numbers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from summiteer.optimality.claims import NUMBERS
from summiteer.optimality.verdict import Evidence, Verdict

#: Numbers that sentences show; the others are listed after them.
_SHOWN = (
    "tangential",
    "multiplier",
    "curvature",
    "margin",
    "least_multiplier",
    "measured_gain",
)


class Explained(Protocol):
    """What is read of a certificate, besides its `NUMBERS`."""

    @property
    def within(self) -> float:
        """Search distance in radii."""

    @property
    def verdict(self) -> Sequence[Verdict]:
        """Per example, as all that follows."""

    @property
    def evidence(self) -> Sequence[Evidence]:
        """How the verdict is known."""

    @property
    def reason(self) -> Sequence[str]:
        """Why, one clause."""

    @property
    def proposition(self) -> Sequence[str]:
        """Of mathematics.md, or ""."""

    @property
    def unproved(self) -> Sequence[str]:
        """Why there is no proof, or ""."""

    @property
    def subject(self) -> Sequence[str]:
        """SHA-256."""

    @property
    def measured_gain(self) -> Tensor:
        """Of negative NUMERICAL verdicts, else NaN."""

    @property
    def indices(self) -> Mapping[str, Tensor]:
        """The regularity indices."""


def explanation(certificate: Explained, example: int) -> str:
    """Return the verdict, the inequality behind it, and the numbers.

    Args:
        certificate: of the batch.
        example: its index.
    """
    verdict, evidence = certificate.verdict[example], certificate.evidence[example]
    lines = [
        f"example {example}: {verdict.name} ({evidence.name}): {verdict.value}",
        f"  because {certificate.reason[example]}",
        f"  search distance {certificate.within:g} radii",
    ]
    if evidence is Evidence.PROVED:
        lines += _inequality(certificate, example)
    else:
        lines += _measurement(certificate, example)
    for name in NUMBERS:
        value = float(getattr(certificate, name)[example])
        if value == value and name not in _SHOWN:
            lines.append(f"  {name.replace('_', ' ')} {value:.6g}")
    for name, values in certificate.indices.items():
        value = float(values[example])
        if value == value:
            lines.append(f"  index {name} {value:.6g}")
    if evidence is Evidence.PROVED:
        lines.append(f"  of subject {certificate.subject[example][:16]} (SHA-256)")
    return "\n".join(lines)


def _measurement(certificate: Explained, example: int) -> list[str]:
    """Where it is seen to go uphill, and why there is no proof."""
    lines = []
    gain = float(certificate.measured_gain[example])
    if gain == gain:
        lines.append(
            f"  measured: the objective rises by {gain:.6g} along `direction` within "
            "the search distance"
        )
    if certificate.unproved[example]:
        lines.append(f"  not proved: {certificate.unproved[example]}")
    return lines


def _inequality(certificate: Explained, example: int) -> list[str]:
    """What was shown to hold, with all rounding included."""
    proposition = certificate.proposition[example]

    def number(name: str) -> str:
        return f"{float(getattr(certificate, name)[example]):.6g}"

    if proposition.startswith("Prop. 7"):
        gain = number("guaranteed_gain")
        if gain == "nan":
            return [f"  {proposition}: no maximum is near; no gain is guaranteed"]
        return [
            f"  {proposition}: the objective rises by at least {gain} along `direction`"
        ]
    if number("curvature") == "-inf":
        return [
            f"  {proposition} at a vertex: every s_i(g_i - μp_i) > 0, no coordinate is "
            "free"
        ]
    if not proposition.startswith("Prop."):
        return [f"  {proposition}"]
    if certificate.verdict[example] is Verdict.GLOBAL_MAXIMUM:
        bound = "λ⁺(M_p)" if "M_p" in proposition else "λ⁺(M)"
        symbols = f"ω = μ - {bound}"
    else:
        symbols = "α = μ - λ_max(tangent) - (terms of the radius)"
    return [
        f"  {proposition}: {symbols} ≥ {number('margin')} > 0 with μ = "
        f"{number('multiplier')}, curvature ≤ {number('curvature')}, γ ≤ "
        f"{number('tangential')}",
    ]
