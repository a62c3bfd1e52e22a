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

_POLISH = "`sm.polish` the point, then a smaller `within`: fewer kinks are near"
_NUMERICAL = "nothing: verdicts on this model are measurements"
#: Part of a reason -> what may lead to a proof; the first that fits is told.
_ADVICE = (
    ("have their kinks within the search distance", _POLISH),
    ("of Props. 10 and 11", _POLISH),
    (
        "of its units' pattern lies further away",
        "`sm.polish`, or climb on from the point with `sm.DCAscent()`",
    ),
    (
        "convex units may be at their kinks",
        "climb on from the point with `sm.DCAscent()`, which tries their other side",
    ),
    ("do not hold its", "`sm.polish`, or `sm.DCAscent()`"),
    ("is as high near it", "`sm.polish`: outputs that tie at a maximum stay undecided"),
    (
        "of Props. 3 to 7",
        "`sm.polish`; a larger `within` where the point is no better than float32",
    ),
    ("is not one function", "attack and certify `sm.Margin()`"),
    ("of several outputs is not a loss", "attack and certify `sm.Margin()`"),
    ("is not a loss that proofs know", _NUMERICAL),
    ("is not a region that proofs know", _NUMERICAL),
    (
        "arithmetic: ",
        "`torch.set_flush_denormal(False)`, autocast off, float64 left alone",
    ),
    ("proofs need", "`.cpu()`; two-layer networks with curved σ take flat inputs"),
    (
        "does not compute what its weights say",
        "the model as it was before it was altered",
    ),
    ("", "a model of layers that proofs know (docs/certificates.md, section 1)"),
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
    """Where it is seen to go uphill, why there is no proof, and what may help."""
    lines = []
    gain = float(certificate.measured_gain[example])
    if gain == gain:
        lines.append(
            f"  measured: the objective rises by {gain:.6g} along `direction` within "
            "the search distance"
        )
    why = certificate.unproved[example]
    if why:
        lines.append(f"  not proved: {why}")
        lines += [f"  try: {advice}" for part, advice in _ADVICE if part in why][:1]
    return lines


def _inequality(certificate: Explained, example: int) -> list[str]:
    """What was shown to hold, with all rounding included."""
    proposition, verdict = (
        certificate.proposition[example],
        certificate.verdict[example],
    )
    if not verdict.is_maximum and verdict is not Verdict.FLAT:
        return [f"  {proposition}: {_uphill(certificate, example)}"]
    if proposition == "Prop. 9":
        return [f"  {proposition}: {_of_pattern(certificate, example)}"]
    if proposition in ("Prop. 10", "Prop. 11"):
        return [f"  {proposition}: {_of_piece(certificate, example)}"]
    return [_of_curvature(certificate, example)]


def _number(certificate: Explained, example: int, name: str) -> float:
    return float(getattr(certificate, name)[example])


def _with(certificate: Explained, example: int, **symbols: str) -> str:
    """What is stated of some numbers: ", symbol value" each."""
    told = ""
    for name, symbol in symbols.items():
        value = _number(certificate, example, name)
        if value == value:
            told += f", {symbol} {value:.6g}"
    return told


def _uphill(certificate: Explained, example: int) -> str:
    """Of verdicts that no maximum is near."""
    told = ""
    if certificate.proposition[example] == "Prop. 10":
        told = "vᵀg > 0 for every gradient g near and v = `direction`; "
    gain = _number(certificate, example, "guaranteed_gain")
    if gain == gain:
        return f"{told}the objective rises by at least {gain:.6g} along `direction`"
    return f"{told}no maximum is near; no gain is guaranteed"


def _of_pattern(certificate: Explained, example: int) -> str:
    """Prop. 9: where the concave minorant is highest, and that F is this minorant."""
    ball = _number(certificate, example, "multiplier")
    held = "no ball holds it" if ball != ball else f"μ = {ball:.6g}"
    return (
        "F is concave on each side of the convex units' kinks, and every maximiser of "
        "these sides lies within the distance bound"
        f" ({held}{_with(certificate, example, tangential='‖r‖ ≤')})"
    )


def _of_piece(certificate: Explained, example: int) -> str:
    """Props. 10 and 11: what the gradients near press against."""
    margin = _number(certificate, example, "margin")
    if margin == float("inf"):
        return "F depends on nothing that can be changed near this point"
    return (
        "F(q) ≤ F(p) + Γ + ‖r‖‖q - p‖ - (what holds p), which presses by at least "
        f"{margin:.6g} > 0{_with(certificate, example, tangential='‖r‖ ≤')}"
    )


def _of_curvature(certificate: Explained, example: int) -> str:
    """Props. 3 and 6, and the vertices of boxes."""
    proposition = certificate.proposition[example]
    if _number(certificate, example, "curvature") == float("-inf"):
        return (
            f"  {proposition} at a vertex: every s_i(g_i - μp_i) > 0, no coordinate is "
            "free"
        )
    if not proposition.startswith("Prop."):
        return f"  {proposition}"
    if certificate.verdict[example] is Verdict.GLOBAL_MAXIMUM:
        bound = "λ⁺(M_p)" if "M_p" in proposition else "λ⁺(M)"
        symbols = f"ω = μ - {bound}"
    else:
        symbols = "α = μ - λ_max(tangent) - (terms of the radius)"
    numbers = _with(
        certificate,
        example,
        multiplier="μ =",
        curvature="curvature ≤",
        tangential="γ ≤",
    )
    margin = _number(certificate, example, "margin")
    return f"  {proposition}: {symbols} ≥ {margin:.6g} > 0 with {numbers[2:]}"
