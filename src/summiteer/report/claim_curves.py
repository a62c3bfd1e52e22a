"""Curves of claims: what result.json of `reproduce` holds, as values to be drawn.

Where a run measured less, or an older version kept fewer numbers, there are fewer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from summiteer.report.charts import Series

#: One entry of `claims[].judgements` in result.json.
Judged: TypeAlias = Mapping[str, Any]
Dash: TypeAlias = Literal["solid", "dash", "dot"]
_COLOURS = {"softplus": "blue", "tanh": "orange", "quadratic": "green", "relu": "pink"}
_DASHES: Mapping[str, Dash] = {
    "the paper's constant step": "solid",
    "backtracking": "dash",
    "normalised steps of ε/10": "dot",
}
#: Curves at the same height stand beside each other: factors of the scale.
_APART = 1.06


class Curve(NamedTuple):
    """Values against a parameter.

    Attributes:
        name: in the legend.
        x: positions.
        y: values; None where there is none.
        low: lower ends of 95 % intervals, or empty.
        high: upper ends.
        colour: a name of the palette; by order if "".
        dash: of its line.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    colour: str = ""
    dash: Dash = "solid"


def share_curves(judged: Sequence[Judged]) -> list[Curve]:
    """C1's shares against the scale, in percent: network, data and method each.

    Args:
        judged: judgements of C1.
    """
    found: dict[tuple[str, str], list[tuple[float, Judged]]] = {}
    for each in judged:
        scale = re.search(r"\bc = ([\d.]+)", each["regime"])
        if scale and each["effect"] is not None:
            where = each["regime"].split(", c =")[0]
            where += ", MNIST" if "MNIST" in each["regime"] else ""
            pairs = found.setdefault((where, method_of(each)), [])
            pairs.append((float(scale[1]), each))
    made = []
    for place, ((where, method), pairs) in enumerate(found.items()):
        pairs.sort(key=lambda pair: pair[0])
        away = _APART ** (place - (len(found) - 1) / 2)
        effects, lows, highs = (
            tuple(100 * float(each[name]) for _, each in pairs)
            for name in ("effect", "low", "high")
        )
        made.append(
            Curve(
                f"{where}, {method}",
                tuple(c * away for c, _ in pairs),
                effects,
                lows,
                highs,
                _colour(where) if "MNIST" not in where else "violet",
                _DASHES.get(method, "solid"),
            )
        )
    return made


def step_curves(judged: Sequence[Judged], parameter: str) -> list[Curve]:
    """C2's steps against one parameter, per activation and step rule.

    Args:
        judged: judgements of C2.
        parameter: a key of its `numbers["steps"]`, or "tolerance".
    """
    found = []
    for each in judged:
        numbers = each["numbers"]
        steps = numbers.get("steps", {}).get(parameter, {})
        if parameter == "tolerance":
            steps = {
                1 / float(tol): y for tol, y in numbers.get("tolerances", {}).items()
            }
        pairs = sorted((float(x), y) for x, y in steps.items())
        if pairs:
            activation = activation_of(each)
            found.append(
                Curve(
                    f"{activation}, {each['protocol']}",
                    tuple(x for x, _ in pairs),
                    tuple(y for _, y in pairs),
                    colour=_colour(activation),
                    dash=_DASHES.get(each["protocol"], "solid"),
                )
            )
    return found


def scale_curves(
    judged: Sequence[Judged], number: str, protocol: str | None = None
) -> list[Curve]:
    """A number of C3 or C4 against the scale, per activation and data.

    Args:
        judged: judgements of the claim.
        number: its name among theirs.
        protocol: whose judgements alone; None for all.
    """
    found = []
    for each in judged:
        numbers, activation = each["numbers"], activation_of(each)
        if not {number, "scales"} <= {*numbers}:
            continue
        if protocol not in (None, each["protocol"]):
            continue
        more = [part for part in ("MNIST", "beyond") if part in each["regime"]]
        control = ["control"] if activation == "quadratic" else []
        found.append(
            Curve(
                ", ".join([activation, *more, *control]),
                tuple(numbers["scales"]),
                tuple(numbers[number]),
                colour="violet" if "MNIST" in more else _colour(activation),
                dash="dot" if more else "dash" if control else "solid",
            )
        )
    return found


def training_curves(judged: Sequence[Judged], protocol: str) -> dict[str, Curve]:
    """C5's steps to θ50 against the scale by one protocol.

    The ranges of scales that are judged apart are put together again.

    Args:
        judged: judgements of C5.
        protocol: as judgements name it.

    Returns:
        Setting, as judgements name it -> steps; None where most networks never arrive.
    """
    points: dict[str, dict[float, tuple[Any, ...]]] = {}
    for each in judged:
        numbers = each["numbers"]
        if each["protocol"] != protocol or "scales" not in numbers:
            continue
        middles = numbers["steps"][1]
        ends = numbers.get("intervals", [()] * 2)[1] or [None] * len(middles)
        mine = points.setdefault(each["regime"].split("; c ")[0], {})
        for scale, middle, end in zip(numbers["scales"], middles, ends, strict=True):
            mine[scale] = (middle, *(end or (None, None)))
    made = {}
    for name, mine in points.items():
        x = tuple(sorted(mine))
        y, low, high = zip(*(mine[scale] for scale in x), strict=True)
        known = any(each is not None for each in low)
        dash: Dash = "dash" if "f ≡ 0" in name else "solid"
        made[name] = Curve(
            name,
            x,
            y,
            low if known else (),
            high if known else (),
            _training_colour(name),
            dash,
        )
    return made


def _training_colour(setting: str) -> str:
    """By the activation; with biases it is another network."""
    return "green" if "biases" in setting else _colour(setting.partition(") ")[2])


def with_whiskers(found: Iterable[Curve]) -> tuple[Series, ...]:
    """Lines with points, and intervals as upright strokes in the same colour.

    Args:
        found: curves of one chart.
    """
    series: list[Series] = []
    for place, curve in enumerate(found):
        tint = curve.colour or _turn(place)
        series.append(
            Series(
                curve.name, curve.x, curve.y, look="both", dash=curve.dash, colour=tint
            )
        )
        if curve.low:
            ends = zip(curve.low, curve.high, strict=True)
            series.append(
                Series(
                    "",
                    tuple(x for at in curve.x for x in (at, at, None)),
                    tuple(y for low, high in ends for y in (low, high, None)),
                    colour=tint,
                )
            )
    return tuple(series)


def _turn(place: int) -> str:
    tints = ("blue", "orange", "pink", "green", "violet", "gold", "red")
    return tints[place % len(tints)]


def method_of(each: Judged) -> str:
    """The method of a judgement of C1, C6 or C7, in few words.

    Args:
        each: the judgement.
    """
    return re.sub(r"^PGA(,| with) ", "", each["protocol"])


def activation_of(each: Judged) -> str:
    """The activation that a judgement of C2 to C4 is about.

    Args:
        each: the judgement.
    """
    return str(each["regime"]).replace(",", " ").split()[0]


def _colour(name: str) -> str:
    return _COLOURS.get(name.replace(",", " ").split()[0].lower(), "")
