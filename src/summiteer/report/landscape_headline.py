"""What `landscape` found, in sentences that are true by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from summiteer.report.wording import at_most, percent, plural


def landscape_headline(lands: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What was found of all examples.

    Args:
        lands: `landscapes` in result.json.
    """
    if not lands:
        return ("No example was explored.",)
    if len(lands) == 1:
        (land,) = lands
        met, *more = found_words(land)
        return (f"Example {land['id']}: {met}", *more)
    most = max(lands, key=lambda land: land["count"])
    one = sum(land["count"] == 1 for land in lands)
    none = sum(land["count"] == 0 for land in lands)
    known = sum(land["complete"] for land in lands)
    told = []
    if most["count"]:
        told.append(
            f"Runs from uniform starts met a single maximum in {one} of {len(lands)} "
            f"examples; the most, {most['count']}, in example {most['id']}."
        )
    if none:
        told.append(f"In {plural(none, 'example')} no run ended at a maximum.")
    told.append(
        f"The landscape is completely known (proved) in {known} of {len(lands)}."
    )
    bounds = [land["unseen_bound"] for land in lands]
    bounds = [bound for bound in bounds if bound is not None]
    if bounds:
        told.append(
            "One more run ends at a maximum not met yet with a chance of at most "
            f"{at_most(min(bounds))} to {at_most(max(bounds))}, depending on the "
            "example (95 %, of each for itself)."
        )
    return tuple(told)


def found_words(land: Mapping[str, Any]) -> tuple[str, ...]:
    """What was met of an example's maxima, what is proved, and what may be unseen.

    Args:
        land: of `landscapes` in result.json.
    """
    return (_met(land), *_proved(land), *_unseen(land))


def _met(land: Mapping[str, Any]) -> str:
    """What the runs met, one sentence."""
    runs, counted = plural(land["restarts"], "run"), land["counted"]
    if not counted:
        return f"none of {runs} from uniform starts ended at a maximum."
    maxima = "maximum" if land["count"] == 1 else "distinct maxima"
    if land["at_most"] is not None and land["count"] > land["at_most"]:
        maxima = "places told apart by distance, which are fewer maxima (proved)"
    text = f"{counted} of {runs} from uniform starts ended at {land['count']} {maxima}"
    climbed = counted - land["at_maximum"]
    if climbed > 0:
        text += f", {climbed} of them climbed on from where the adversary stopped"
    return f"{text}."


def _proved(land: Mapping[str, Any]) -> tuple[str, ...]:
    """What is proved of the number of maxima."""
    least, most = land["at_least"], land["at_most"]
    if land["complete"]:
        unmet = least - land["count"]
        rest = f"; {unmet} of them no run met" if unmet > 0 else ""
        count = "is 1 local maximum" if least == 1 else f"are {least} local maxima"
        return (f"The landscape is completely known: there {count}{rest} (proved).",)
    met = land["count"]
    more = f" ({least - met} more than were met)" if least > met else ""
    told = [f"at least {least}{more}"] * bool(least)
    told += [] if most is None else [f"at most {most:.0f}"]
    if not told:
        return ("Of the number of local maxima nothing is proved.",)
    text = f"Proved of the number of local maxima: {', '.join(told)}"
    unknown = "" if most is not None else "; there may be more"
    return (f"{text}{unknown}.",)


def _unseen(land: Mapping[str, Any]) -> tuple[str, ...]:
    if land["unseen"] is None:
        return ()
    return (
        "One more run ends at a maximum not met yet with an estimated chance of "
        f"{percent(land['unseen'])}, at most {at_most(land['unseen_bound'])} (95 %).",
    )
