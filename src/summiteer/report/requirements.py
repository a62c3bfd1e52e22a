"""Shares that a user requires of a result (`--require`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from summiteer.errors import UserError

_KNOWN = (
    "stationary",
    "maximum",
    "proved",
    "proved_maximum",
    "proved_global",
    "numerical",
    "undecided",
)


def requirement(text: str) -> tuple[str, float]:
    """Return (key, least share) of KEY=SHARE.

    Args:
        text: KEY one of the shares of result.json or survivors.KEY.

    Raises:
        UserError: something else.
    """
    key, equals, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    name = key.removeprefix("survivors.")
    if not equals or name not in _KNOWN or not 0 <= value <= 1:
        raise UserError(
            f"--require: expected KEY=SHARE with KEY one of {', '.join(_KNOWN)} (or "
            f"survivors.KEY) and SHARE from 0 to 1, got {text!r}."
        )
    return key, value


def shares_below(
    required: Sequence[tuple[str, float]], result: Mapping[str, Any]
) -> list[str]:
    """Return what is below its requirement, in words.

    Args:
        required: see `requirement`.
        result: content of result.json.
    """
    below = []
    for key, least in required:
        home, name = result["shares"], key
        if key.startswith("survivors."):
            home, name = result["survivors"]["shares"] or {}, key.split(".", 1)[1]
        share = home.get(name)
        if share is None or share < least:
            shown = "undefined" if share is None else f"{share:.4g}"
            below.append(f"{key} is {shown}, required {least:g}")
    return below
