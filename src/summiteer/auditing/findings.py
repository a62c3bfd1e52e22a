"""What an audit's arrays show of the tool: seen, effect, remedy."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer.auditing.excess import NORMS
from summiteer.auditing.kinds import Kind
from summiteer.findings import Finding

#: Why an example is right as claimed and wrong as corrected, or the other way round.
CORRECTIONS = (
    "NONE",
    "CLEAN_WRONG",
    "PROJECTED",
    "ASCENT",
    "CENTRE",
    "OUTSIDE_ONLY",
    "NOT_FINITE",
)
#: Gains below this part of the climb from the clean input are not worth a word.
_WORTH = 0.01
#: Radii; where no perturbation is longer, the tool had another radius.
_SHORT = 0.6
#: Units of rounding beyond which it is not rounding that is talked of.
_MANY_ULPS = 1000

Arrays = Mapping[str, Tensor]


def findings_in(arrays: Arrays, labelled: bool) -> list[Finding]:
    """What the arrays show, the worst first.

    Args:
        arrays: of all blocks, see `audit_block`.
        labelled: whether targets are labels.
    """
    looks: tuple[Callable[[Arrays, bool], Finding | None], ...] = (
        _not_finite,
        _outside,
        _short,
        _eight_bits,
        _clean,
        _random_start,
        _single_step,
        _not_the_best,
        _poorer_basin,
    )
    found = [_other_units(arrays), _permuted(arrays)]
    if not meaningless(arrays):  # else whatever is seen follows from it
        found += [look(arrays, labelled) for look in looks]
    return [finding for finding in found if finding]


def meaningless(arrays: Arrays) -> bool:
    """Whether the rows are no inputs of these examples, so that no number means much.

    Args:
        arrays: see `audit_block`.
    """
    permuted = 2 * int((arrays["fits"] >= 0).sum()) > len(arrays["fits"])
    return permuted or units_differ(arrays)


def units_differ(arrays: Arrays) -> bool:
    """Whether the file is in other units, or holds perturbations.

    Args:
        arrays: see `audit_block`.
    """
    return float(arrays["factor"][0]) != 1.0 or float(arrays["shift"][0]) != 0.0


def short_of_summit(arrays: Arrays) -> Tensor:
    """Ascent from the point gains more than rounding, and a part of the climb.

    Args:
        arrays: see `audit_block`.

    Returns:
        `[n]` bool: gained > max(256·eps·|objective|, 1 % of reached - clean, 1 % of
        the median of that over all examples).
    """
    eps = torch.finfo(arrays["inputs"].dtype).eps
    noise = tolerances.SAME_LOSS * eps * arrays["reached_losses"].abs()
    climb = arrays["reached_losses"] - arrays["clean_losses"]
    least = _WORTH * torch.maximum(climb, _usual_climb(arrays))
    return arrays["gained"] > torch.maximum(noise, least)


def _usual_climb(arrays: Arrays) -> Tensor:
    """What ascent adds to the objective of a clean input, the median `[]`."""
    climb = arrays["reached_losses"] - arrays["clean_losses"]
    climb = climb[~climb.isnan()].nan_to_num(0.0, 0.0)
    return climb.median().clamp(min=0) if len(climb) else torch.zeros(()).double()


def _turns(arrays: Arrays, mask: Tensor, weakness: str, harmless: str) -> str:
    """Which of the masked are wrong, unlike claimed, by whatever was tried."""
    lost = int((mask & arrays["claimed"] & ~arrays["survived"]).sum())
    if lost:
        return f"{weakness}; what was tried here turns {lost} of them wrong"
    if bool((arrays["correction"] != CORRECTIONS.index("NONE")).any()):
        return f"{weakness}; none of them turns wrong"
    return f"nothing tried here lowers the claimed robust accuracy; {harmless}"


def _ids(arrays: Arrays, mask: Tensor) -> tuple[int, ...]:
    return tuple(arrays["ids"][mask].tolist())


def _of(count: int, arrays: Arrays) -> str:
    return f"{count} of {len(arrays['ids'])}"


def _other_units(arrays: Arrays) -> Finding | None:
    factor, shift = float(arrays["factor"][0]), float(arrays["shift"][0])
    effect = "no number about the points would mean anything, and none is given"
    if not units_differ(arrays):
        return None
    if factor == 0.0:
        return Finding(
            "DELTAS",
            "adversarial: the file looks like perturbations, not inputs: its values "
            "have both signs and are no longer than the radius by themselves",
            effect,
            "give x + δ",
        )
    if factor not in (2.0, 0.5, 255.0, 256.0, 1 / 255):  # fitted
        return Finding(
            "OTHER_UNITS",
            "adversarial: the inputs are in other units than the clean ones: x' looks "
            f"like about {factor:.2g}·x {'+' if shift > 0 else '-'} {abs(shift):.2g}",
            effect,
            "undo the normalisation before you save them",
        )
    plus = f" {'+' if shift > 0 else '-'} {abs(shift):.4g}" if shift else ""
    undo = f"(x' {'-' if shift > 0 else '+'} {abs(shift):.4g})" if shift else "x'"
    return Finding(
        "OTHER_UNITS",
        "adversarial: the inputs are in other units than the clean ones: x' looks "
        f"like {factor:.4g}·x{plus}",
        effect,
        f"give {undo}/{factor:.4g}",
    )


def _permuted(arrays: Arrays) -> Finding | None:
    moved = arrays["fits"] >= 0
    if not bool(moved.any()):
        return None
    first = int(moved.nonzero()[0])
    return Finding(
        "PERMUTED",
        f"adversarial: {_of(int(moved.sum()), arrays)} rows lie near another "
        f"example's input, not near their own (row {int(arrays['ids'][first])} near "
        f"example {int(arrays['fits'][first])})",
        "they are in another order than the data: "
        + (
            "no number about the points would mean anything, and none is given"
            if meaningless(arrays)
            else "these rows are judged as points of the wrong examples"
        ),
        "save them in the order of the data (a loader with shuffle=False)",
        _ids(arrays, moved),
    )


def _not_finite(arrays: Arrays, labelled: bool) -> Finding | None:
    broken = arrays["kind"] == Kind.NOT_FINITE.code
    if not bool(broken.any()):
        return None
    return Finding(
        "NOT_FINITE",
        f"adversarial: {_of(int(broken.sum()), arrays)} inputs hold NaN or infinity",
        "they count as wrong in the claim; the corrected figure rests on ascent from "
        "the clean input alone"
        if labelled
        else "nothing is said of them",
        "look for a division by a zero gradient norm in the tool",
        _ids(arrays, broken),
    )


def _outside(arrays: Arrays, labelled: bool) -> Finding | None:
    outside = ~arrays["inside"] & ~arrays["rounded"] & ~arrays["length"].isnan()
    if not bool(outside.any()):
        return None
    over, out = arrays["excess"][outside], arrays["box_excess"][outside]
    by = [
        f"{name} by up to {float(values.max()):.3g}"
        for name, values in (("the radius", over), ("the box or the mask", out))
        if float(values.max()) > 0
    ]
    ulps = float(arrays["ulps"][outside].max())
    units = f" ({ulps:.3g} units of rounding)" if ulps <= _MANY_ULPS else ""
    effect = "they were projected before they were examined"
    only = outside & (arrays["correction"] == CORRECTIONS.index("OUTSIDE_ONLY"))
    if bool(only.any()):
        effect = (
            f"{int(only.sum())} of them mislead the model only out there and count as "
            f"withstood; {effect}"
        )
    known = _other_norm(arrays)
    if not known and bool((over > 0).any()):
        known = f"the longest is {_longest(arrays):.3g} radii long"
    return Finding(
        "OUTSIDE",
        f"adversarial: {_of(int(outside.sum()), arrays)} inputs are outside the "
        f"region: they exceed {' and '.join(by)}{units}"
        + (f"; {known}" if known else ""),
        effect,
        "check norm, radius and box given here against the tool's",
        _ids(arrays, outside),
    )


def _longest(arrays: Arrays) -> float:
    """The longest perturbation, in radii; 0 where there is none."""
    return float(arrays["radii"].nan_to_num(0.0, 0.0).max())


def _other_norm(arrays: Arrays) -> str:
    """Which norm has the region's radius as its largest value, if another has."""
    norms = arrays["norms"]
    if 0.95 <= _longest(arrays) <= 1.01:
        return ""
    largest = norms[norms.isfinite().all(1)].amax(0).tolist()
    fits = (n for n, most in zip(NORMS, largest, strict=True) if 0.95 <= most <= 1.01)
    name = next(fits, None)
    return f"they fit {name} at the same radius" if name else ""


def _short(arrays: Arrays, labelled: bool) -> Finding | None:
    """Tools for the shortest perturbation that misleads give short ones: no finding."""
    moved = arrays["length"].isfinite() & (arrays["kind"] != Kind.CLEAN.code)
    withstood = moved & arrays["claimed"] if labelled else moved
    longest = _longest(arrays)
    if not (bool(withstood.any()) and 0 < longest < _SHORT):
        return None
    most = float(arrays["length"][moved].max())
    guess = _other_norm(arrays)
    if not guess:
        guess = (
            "the tool's steps were too few or too short to get further (steps × size)"
        )
        guess += f", or its radius was about {most:.3g}"
    if 0.95 <= 255 * longest <= 1.01:
        guess += ", 1/255 of the one given here"
    return Finding(
        "SHORT",
        f"adversarial: no perturbation is longer than {_up(longest)} of the radius "
        f"({most:.3g} in units of the inputs); {guess}",
        "the claim is about a smaller region than this one",
        "look at the tool's radius first: if it was this one, give the tool more or "
        "longer steps; if not, give here the one that it had, converted where it "
        "counts in normalised units or pixels",
    )


def _up(value: float) -> str:
    """A bound with two digits, rounded up."""
    near = float(f"{value:.2g}")
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{near if near >= value else near + unit:.2g}"


def _eight_bits(arrays: Arrays, labelled: bool) -> Finding | None:
    rounded = arrays["rounded"]
    if not bool(rounded.any()):
        return None
    levels = int(arrays["levels"][0])
    over = torch.maximum(arrays["excess"], arrays["box_excess"])[rounded]
    effect = "no cheating, but not the points that the tool found"
    only = rounded & (arrays["correction"] == CORRECTIONS.index("OUTSIDE_ONLY"))
    if bool(only.any()):
        effect += (
            f"; {int(only.sum())} of them mislead the model only beyond the region "
            "and count as withstood"
        )
    return Finding(
        "EIGHT_BITS",
        f"adversarial: all values are multiples of 1/{levels} of the range: quantised "
        f"to 8 bits after the attack; on {_of(int(rounded.sum()), arrays)} inputs that "
        f"explains an excess of up to {float(over.max()):.3g}",
        effect,
        "save them as floats",
        _ids(arrays, rounded),
    )


def _clean(arrays: Arrays, labelled: bool) -> Finding | None:
    return _came_back(
        arrays,
        labelled,
        Kind.CLEAN,
        "the clean inputs themselves",
        "many tools return that where they fail, and their best attempt is lost: the "
        "claim rests on points that are not in the file",
        "ask the tool for its point of highest loss (best_loss=True in adv-lib and "
        "pyautoattack), see summiteer.adapters",
    )


def _random_start(arrays: Arrays, labelled: bool) -> Finding | None:
    return _came_back(
        arrays,
        labelled,
        Kind.RANDOM_START,
        "random starts, which followed no gradient",
        "some tools return that where they fail (AutoPGD of ART does)",
        "ask the tool for its point of highest loss, or use another one",
    )


def _came_back(
    arrays: Arrays, labelled: bool, kind: Kind, what: str, effect: str, remedy: str
) -> Finding | None:
    """Points of a kind that the model withstood; one wrong already needs no attack."""
    mask = (arrays["kind"] == kind.code) & arrays["inside"]
    if labelled:
        mask = mask & arrays["claimed"]
    if not bool(mask.any()):
        return None
    among = _of(int(mask.sum()), arrays) + " inputs"
    if labelled:
        among = f"{int(mask.sum())} of the {int(arrays['claimed'].sum())} that the "
        among += "model withstood lie inside and"
        lost = int((mask & ~arrays["survived"]).sum())
        effect += f"; ascent from here turns {lost or 'none'} of them wrong"
    return Finding(
        f"{kind.name}_RETURNED",
        f"adversarial: {among} are {what}",
        effect,
        remedy,
        _ids(arrays, mask),
    )


def _single_step(arrays: Arrays, labelled: bool) -> Finding | None:
    mask = (arrays["kind"] == Kind.SINGLE_STEP.code) & short_of_summit(arrays)
    if not bool(mask.any()):
        return None
    return Finding(
        "SINGLE_STEP",
        f"adversarial: {_of(int(mask.sum()), arrays)} inputs are what one step along "
        "the clean gradient gives, and more steps gain",
        "one step overlooks what several find",
        "give the tool more steps",
        _ids(arrays, mask),
    )


def _not_the_best(arrays: Arrays, labelled: bool) -> Finding | None:
    plain = arrays["kind"] >= Kind.VERTEX.code
    mask = short_of_summit(arrays) & plain
    if not bool(mask.any()):
        return None
    gained = float(arrays["gained"][mask].median())
    steps = float(arrays["steps"][mask].double().median())
    moved = float(arrays["moved"][mask].median())
    effect = "the tool stopped short, or returned its last iterate and not its best"
    if labelled:
        effect = _turns(arrays, mask, effect, "the points are no maxima")
    return Finding(
        "NOT_THE_BEST",
        f"adversarial: ascent from {_of(int(mask.sum()), arrays)} points still gains "
        f"(median +{gained:.2g} of the objective; it ends {moved:.2g} radii away after "
        f"{steps:.0f} steps)",
        effect,
        "more and smaller steps, and the iterate of highest loss",
        _ids(arrays, mask),
    )


def _poorer_basin(arrays: Arrays, labelled: bool) -> Finding | None:
    reached = arrays["reached_losses"]
    ahead = arrays["centre_losses"] - reached
    climb = (arrays["centre_losses"] - arrays["clean_losses"]).clamp(min=0)
    climb = torch.maximum(climb, _usual_climb(arrays))
    mask = (ahead > 5 * _WORTH * climb) & (arrays["kind"] != Kind.NOT_FINITE.code)
    if not bool(mask.any()):
        return None
    effect = "the points lie in basins with lower summits"
    if labelled:
        effect = _turns(arrays, mask, effect, effect)
    return Finding(
        "POORER_BASIN",
        "adversarial: one run from the clean input ends higher than ascent from the "
        f"given point on {_of(int(mask.sum()), arrays)} examples "
        f"(median +{float(ahead[mask].median()):.2g} of the objective)",
        effect,
        "more restarts, or another step rule",
        _ids(arrays, mask),
    )
