"""What an attack and an audit found, in sentences that are true by themselves."""

import torch

from summiteer.report.examined_groups import Group, kinds_of
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import (
    at_least,
    at_most,
    no_more_than,
    objective_word,
    part_of,
    plural,
)

#: Restarts that estimate anything; as in result.json's "search".
_FEWEST = 4
_EXAMINED = "survivors that are inputs"
_GLOBAL = "global maximum, proved"


def loss_word(recorded: RecordedRun) -> str:
    """What the objective is called in sentences.

    Args:
        recorded: of the run.
    """
    named = recorded.run.result["objective"]
    return "loss" if objective_word(named) == "loss" else f"the objective ({named})"


def attack_headline(recorded: RecordedRun) -> tuple[str, ...]:
    """What an attack found.

    Args:
        recorded: of the run.
    """
    result = recorded.run.result
    if result.get("property"):
        return _property(recorded)
    if result["robust_accuracy"] is None:
        first = _regression(recorded)
        group = Group.of(recorded, torch.ones(recorded.count, dtype=torch.bool))
        return (*first, *points_said(recorded, group, "examples"), _basins(recorded))
    survived = recorded.numbers["survived"]
    return (
        _bracket(recorded, "found by attack"),
        *after_survivors(recorded, Group.of(recorded, survived)),
        *_more_steps(recorded),
    )


def after_survivors(recorded: RecordedRun, group: Group) -> tuple[str, ...]:
    """What is said of the survivors, if there are any.

    Args:
        recorded: of the run.
        group: the survivors.
    """
    if not group.examples:
        return ()
    return (*points_said(recorded, group, "survivors"), _basins(recorded))


def points_said(recorded: RecordedRun, group: Group, noun: str) -> tuple[str, ...]:
    """What the examined points of a group are, and what is left to be gained there.

    Args:
        recorded: of the run.
        group: not empty.
        noun: what its examples are called.
    """
    within = f"{recorded.run.spec.get('within', 1e-3):g}"
    near = f"within {within} radii of a proved local maximum{_gain(recorded, group)}"
    others = (
        (group.measured, "near a maximum by measurement only"),
        (group.no_maximum("proved"), "proved to be no maximum (more ascent gains)"),
        (group.no_maximum("numerical"), "no maximum by measurement"),
        (group.flat("proved"), "near a plateau, proved"),
        (group.flat("numerical"), "near a plateau by measurement"),
        (group.undecided, "undecided"),
    )
    left = [(n, words) for n, words in others if n]
    if group.examples == 1:
        is_ = near if group.proved else f"not {near}"
        told = "".join(f"; it is {words}" for _, words in left)
        return (f"The one {noun.removesuffix('s')} is {is_}{told}.",)
    said = [
        f"{part_of(n, group.examples)} {'is' if n <= 1 else 'are'} {words}"
        for n, words in ((group.proved, near), *left)
    ]
    return (f"Of the {group.examples} {noun} {'; '.join(said)}.",)


def _gain(recorded: RecordedRun, group: Group) -> str:
    """What is to be gained up to the proved maxima, as far as that is known."""
    if group.gain is None:
        return ""
    gain = f"can gain at most {no_more_than(group.gain)} of {loss_word(recorded)} there"
    if group.bounded == group.proved:
        return f" and {gain}"
    return f" ({group.bounded} of which {gain})"


def _bracket(recorded: RecordedRun, how: str) -> str:
    """What share of the examples is robust: at most, and at least."""
    numbers, count = recorded.numbers, recorded.count
    survived = int(numbers["survived"].sum())
    examples = f"{count} examples are" if count > 1 else "the one example is"
    if not survived:
        wrong = int((~numbers["correct"]).sum())
        before = f", {wrong} of them wrong before any attack" if wrong else ""
        none = f"None of the {count} examples" if count > 1 else "The one example"
        not_ = "" if count > 1 else " not"
        return f"{none} is{not_} robust ({how}{before})."
    said = f"At most {at_most(survived / count)} of {examples} robust ({how}"
    said += f": {survived} withstood it)"
    proved = numbers["proved_robust"]
    if bool((proved < 0).any()):
        return said + "; no lower bound is known for this model and region."
    known = int((proved == 1).sum())
    lower = f"at least {at_least(known / count)} are (proved for the whole region)"
    return f"{said}; {lower}."


def _basins(recorded: RecordedRun) -> str:
    """What other basins may hold: nothing more where a point is proved global."""
    numbers = recorded.numbers
    labelled = recorded.run.result["robust_accuracy"] is not None
    noun = "survivors" if labelled else "examples"
    asked = numbers["survived"] if labelled else torch.ones(recorded.count).bool()
    summits = torch.tensor([kind == _GLOBAL for kind in kinds_of(recorded)]) & asked
    count, where = int(summits.sum()), "Other basins"
    if count and count == int(asked.sum()):
        return "No other basin holds more: that these maxima are global is proved."
    if count:
        is_ = "is" if count == 1 else "are"
        where = (
            f"{count} of these maxima {is_} proved to be global; elsewhere other basins"
        )
    if "unseen_bound" not in numbers:
        return f"{where} may hold more: nothing here bounds what they hold."
    known = asked & ~summits & (numbers["draws"] >= _FEWEST)
    bounds = numbers["unseen_bound"][known]
    bounds = bounds[bounds.isfinite()]
    search = recorded.run.result.get("search") or {}
    nominal = "nominal " if search.get("early_stop") else ""
    if not len(bounds):
        return (
            f"{where} may hold more: none of the {noun} was restarted often enough to "
            "say how likely one more restart finds another."
        )
    return (
        f"{where} may hold more: one more random restart ends in a maximum not met "
        f"yet with a chance of at most {at_most(float(bounds.mean()))} (mean of "
        f"{nominal}95 % bounds over {plural(len(bounds), noun.removesuffix('s'))})."
    )


def _more_steps(recorded: RecordedRun) -> tuple[str, ...]:
    more = recorded.run.result.get("more_steps")
    survivors = int(recorded.numbers["survived"].sum())
    if not more or not survivors or not more["steps"]:
        return ()
    flipped = int(recorded.numbers["flipped"].sum())
    said = "none" if not flipped else f"{flipped}"
    tail = "" if not flipped else ": the attack had not converged"
    many = "survivors" if survivors > 1 else "one survivor"
    return (f"{more['steps']} more steps flip {said} of the {many}{tail}.",)


def _regression(recorded: RecordedRun) -> tuple[str, ...]:
    """Without labels: what became of the loss, and who stays within the tolerance."""
    result, numbers = recorded.run.result, recorded.numbers
    clean, attacked = numbers["clean_losses"], numbers["losses"]
    finite = clean.isfinite() & attacked.isfinite()
    many, said = int(finite.sum()), []
    if many:
        among = f"{recorded.count} examples"
        if many < recorded.count:
            among = f"the {many} of {among} whose losses are finite"
        said.append(
            f"The attack takes the mean {loss_word(recorded)} of {among} from "
            f"{float(clean[finite].mean()):.3g} to {float(attacked[finite].mean()):.3g}"
            "; targets are no labels, so nothing is said about accuracy."
        )
    within = result.get("within_tolerance")
    if within:
        most = 0.5 * within["tolerance"] ** 2
        inside = float((attacked <= most).double().mean())
        stay = f"within {within['tolerance']:g} of their targets (found by attack)"
        text = f"At most {at_most(inside)} of the outputs stay {stay}"
        if not inside:
            text = f"None of the outputs stays {stay}"
        broken = int((~attacked.isfinite()).sum())
        if broken:
            text += f"; {broken} that {'is' if broken == 1 else 'are'} NaN or infinite "
            text += "count as outside"
        bounds = numbers.get("upper_bounds")
        if inside and bounds is not None and bool(bounds.isfinite().any()):
            proved = float((bounds <= most).double().mean())
            text += f"; at least {at_least(proved)} do (proved)"
        said.append(text + ".")
    return tuple(said)


def _property(recorded: RecordedRun) -> tuple[str, ...]:
    """Whether a property's violation was found."""
    result = recorded.run.result
    claim = result["property"]
    if claim["violated"]:
        does = f"equals output {claim['label']}"
        if claim["margin"]:
            does = f"exceeds output {claim['label']} by {claim['margin']:.4g}"
        return (
            f"The property {claim['name']} is violated: output {claim['rival']} {does} "
            "(float64) at the input in counterexample.txt.",
        )
    if result["proved_robust_accuracy"] == 1.0:
        return (
            f"The property {claim['name']} holds: no input of its box, rounded inwards "
            "to float64, violates it (proved).",
        )
    near = ""
    if claim["margin"] is not None and claim["margin"] < 0:
        near = (
            f" The nearest input found leaves output {claim['rival']} below output "
            f"{claim['label']} by {-claim['margin']:.4g}."
        )
    return (
        f"No violation of the property {claim['name']} was found; that is no proof."
        + near,
        _basins(recorded),
    )


def audit_headline(recorded: RecordedRun) -> tuple[str, ...]:
    """What an audit found.

    Args:
        recorded: of the run.
    """
    result, numbers = recorded.run.result, recorded.numbers
    if not result["kinds"]:
        return (
            "The rows are not inputs of these examples: no number about them would "
            "mean anything, and none is given.",
        )
    given = numbers["kind"] != _no_input(recorded)
    if not bool(given.any()):
        return ("None of the given points is an input: nothing was examined.",)
    if result["clean_accuracy"] is None:
        everyone = Group.of(recorded, given)
        points = points_said(recorded, everyone, "given points")
        return (*points, *_still_gains(recorded))
    claimed = int(numbers["claimed"].sum())
    said = (
        f"The given points leave {part_of(claimed, recorded.count)} of "
        f"{recorded.count} examples right, the robust accuracy that is claimed."
    )
    survived = numbers["survived"]
    group = Group.of(recorded, survived & given)
    noun = "survivors" if group.examples == int(survived.sum()) else _EXAMINED
    points = points_said(recorded, group, noun) if group.examples else ()
    return (
        said,
        _bracket(recorded, "by the given points and more ascent, inside the region"),
        *points,
        *_still_gains(recorded),
    )


def _no_input(recorded: RecordedRun) -> int:
    return list(recorded.names["kind"]).index("NOT_FINITE")


def _still_gains(recorded: RecordedRun) -> tuple[str, ...]:
    gains = recorded.run.result["gains"]
    count = gains["examples"]
    inputs = int((recorded.numbers["kind"] != _no_input(recorded)).sum())
    if not count:
        return ("Ascent from the given points gains nothing worth a word.",)
    return (
        f"Ascent from the given points still gains on {count} of {inputs}: a median of "
        f"{gains['objective']:.3g} of {loss_word(recorded)}.",
    )
