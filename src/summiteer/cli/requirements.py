"""`--require`: least shares of a result, without which a command ends with 3."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from summiteer.cli.running import BELOW
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


def enforce(required: Sequence[tuple[str, float]], result: Mapping[str, Any]) -> None:
    """Exit with 3 if a share is below what is required.

    Args:
        required: see `requirement`.
        result: content of result.json.
    """
    below = []
    for key, least in required:
        home = result["survivors"] if key.startswith("survivors.") else result
        share = (home["shares"] or {}).get(key.removeprefix("survivors."))
        if share is None or share < least:
            shown = "undefined" if share is None else f"{share:.4g}"
            below.append(f"{key} is {shown}, required {least:g}")
    if below:
        print("below --require: " + "; ".join(below), file=sys.stderr)
        sys.exit(BELOW)
