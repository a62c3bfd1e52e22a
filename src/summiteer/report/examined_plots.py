"""Charts of what an attack or an audit examined, each with its words."""

from collections.abc import Mapping

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer.report.attack_headline import loss_word
from summiteer.report.charts import Axis, Bars, Lines, Mark, Part, Series
from summiteer.report.document import Plot
from summiteer.report.examined_groups import KINDS, Group
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import at_most, examined_in, no_more_than, plural

#: Points of a curve, and examples of a bracket, that are drawn at most.
_POINTS, _SHOWN = 1000, 200
#: Residuals below this, and 0, are drawn here; they are as good as none.
_LEAST = 1e-12
_TICKS = (1e-12, 1e-9, 1e-6, 1e-3, 1.0)
_BAND = (0.1, 0.5, 0.9)


def groups(recorded: RecordedRun) -> dict[str, Tensor]:
    """All examples, and the survivors where there are labels: name -> mask.

    Args:
        recorded: of the run.
    """
    everyone = torch.ones(recorded.count, dtype=torch.bool)
    if "NOT_FINITE" in recorded.names.get("kind", ()):
        none = list(recorded.names["kind"]).index("NOT_FINITE")
        everyone = recorded.numbers["kind"] != none
    found = {"all": everyone}
    survived = everyone & recorded.numbers["survived"]
    if recorded.run.result["clean_accuracy"] is not None and bool(survived.any()):
        found["survivors"] = survived
    return found


def verdict_bars(recorded: RecordedRun) -> Plot | None:
    """What the examined points are, over all and over survivors; None of no points.

    Args:
        recorded: of the run.
    """
    known = {name: Group.of(recorded, m) for name, m in groups(recorded).items()}
    if not known["all"].examples:
        return None
    used = [name for name in KINDS if any(name in g.counts for g in known.values())]
    parts = tuple(
        Part(
            name,
            tuple(
                100 * group.counts.get(name, 0) / max(group.examples, 1)
                for group in known.values()
            ),
            KINDS[name],
            pattern=not name.endswith("proved"),
        )
        for name in used
    )
    bars = tuple(f"{name} ({group.examples})" for name, group in known.items())
    told = "; ".join(
        f"{name}: "
        + ", ".join(f"{count} {kind}" for kind, count in group.counts.items())
        for name, group in known.items()
    )
    axis = Axis("share of the points / %", span=(0, 100))
    return Plot(
        Bars("What the examined points are", axis, bars, parts),
        f"{told}. Plain colours are proved, hatched ones measured.",
    )


def accuracy_bars(recorded: RecordedRun) -> Plot | None:
    """Between which two numbers the robust accuracy lies; None without labels.

    Args:
        recorded: of the run.
    """
    if recorded.run.result["clean_accuracy"] is None:
        return None
    numbers, count = recorded.numbers, recorded.count
    survived, proved = numbers["survived"], numbers["proved_robust"] == 1
    lower = "proved robust on the whole region"
    between = "withstood the attack, not proved"
    if bool((numbers["proved_robust"] < 0).any()):
        between = "withstood the attack, no bound known"
    masks = {
        lower: proved,
        between: survived & ~proved,
        "broken": numbers["correct"] & ~survived,
        "wrong without attack": ~numbers["correct"] & ~survived,
    }
    looks = (("green", False), ("blue", True), ("orange", False), ("quiet", False))
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    parts = tuple(
        Part(name, (100 * counts[name] / count,), colour, hatched)
        for (name, (colour, hatched)) in zip(masks, looks, strict=True)
        if counts[name]
    )
    told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    axis = Axis("share of the examples / %", span=(0, 100))
    lies = "is at most the end of what withstood the attack; no lower bound is known."
    if not bool((numbers["proved_robust"] < 0).any()):
        lies = "lies between the end of what is proved and that of what withstood."
    return Plot(
        Bars("Where the robust accuracy lies", axis, (f"all ({count})",), parts),
        f"{told}. The robust accuracy {lies}",
    )


def residual_plot(recorded: RecordedRun) -> Plot | None:
    """How stationary the points are: share with a residual up to each value.

    Args:
        recorded: of the run.
    """
    numbers = recorded.numbers
    least = tolerances.stationary(numbers["inputs"].dtype)
    series, told = [], []
    for name, mask in groups(recorded).items():
        values = numbers["residuals"][mask]
        values = values[values.isfinite()].clamp(min=_LEAST).sort().values
        if not len(values):
            continue
        series.append(share_curve(values, int(mask.sum()), name, _TINT[name]))
        below = int((values <= least).sum())
        told.append(
            f"{name}: {below} of {int(mask.sum())} at most {least:g}, the median "
            f"{_zero(float(values[len(values) // 2]))}"
        )
    if not series:
        return None
    chart = Lines(
        "How stationary the points are",
        Axis("first-order residual", log=True, ticks=_TICKS),
        Axis("share of the points / %", span=(0, 101)),
        tuple(series),
        (Mark(least, "called stationary"),),
    )
    where = examined_in(recorded.run.result)
    return Plot(chart, f"Residuals, examined in {where}: {'; '.join(told)}.")


def steps_plot(recorded: RecordedRun, title: str) -> Plot | None:
    """How many steps the runs took: share that has ended after each number of steps.

    Args:
        recorded: of the run.
        title: which runs they are.
    """
    steps = recorded.numbers.get("steps")
    if steps is None:
        return None
    series, told = [], []
    for name, mask in groups(recorded).items():
        values = steps[mask].sort().values
        if not len(values):
            continue
        used, counts = torch.unique(values, return_counts=True)
        shares = 100 * counts.cumsum(0).double() / len(values)
        series.append(_stair(used, shares, name, _TINT[name]))
        middle, longest = int(values[len(values) // 2]), int(values[-1])
        told.append(f"{name}: half have ended after {middle}, all after {longest}")
    if not series:
        return None
    chart = Lines(
        title,
        Axis("steps"),
        Axis("share that has ended / %", span=(0, 101)),
        tuple(series),
    )
    return Plot(chart, f"Steps: {'; '.join(told)}.")


#: Array of a path -> (title, vertical axis; {} is what the objective is called, log).
_PATHS: Mapping[str, tuple[str, str, bool]] = {
    "path_losses": ("The {} on the first way up", "{}", False),
    "path_residuals": (
        "The residual on the last way up",
        "first-order residual",
        True,
    ),
}


def path_plots(recorded: RecordedRun) -> tuple[Plot, ...]:
    """Loss and residual against steps: medians, and bands from 10 % to 90 %.

    Args:
        recorded: of the run.
    """
    plots = []
    for array, (title, axis, log) in _PATHS.items():
        series, told = [], []
        for group in ("all", "survivors"):
            path = recorded.paths.get((array, group))
            if path is None or group not in groups(recorded):
                continue
            steps = tuple(float(step) for step in path.steps.tolist())
            low, middle, high = (path.quantile(share) for share in _BAND)
            if log:
                low, middle, high = (
                    tuple(None if v is None else max(v, _LEAST) for v in values)
                    for values in (low, middle, high)
                )
            series.append(Series(group, steps, middle, low, high, colour=_TINT[group]))
            told.append(
                f"{group}: the median goes from {_said(middle[0], log)} to "
                f"{_said(middle[-1], log)} in {steps[-1]:g} steps, 80 % end between "
                f"{_said(low[-1], log)} and {_said(high[-1], log)}"
            )
        if series:
            word = loss_word(recorded)
            chart = Lines(
                title.format(word.removeprefix("the ")),
                Axis("steps"),
                Axis(axis.format(word), log=log, ticks=_TICKS if log else ()),
                tuple(series),
            )
            words = "; ".join(told)
            plots.append(Plot(chart, f"Median and 10 % to 90 % band. {words}."))
    return tuple(plots)


def restarts_plot(recorded: RecordedRun) -> Plot | None:
    """What random restarts leave unseen: share of examples up to each chance.

    Args:
        recorded: of the run.
    """
    numbers = recorded.numbers
    if "draws" not in numbers:
        return None
    mask = list(groups(recorded).values())[-1] & (numbers["draws"] > 0)
    draws = numbers["draws"][mask]
    if not len(draws):
        return None
    noun = "survivors" if "survivors" in groups(recorded) else "examples"
    series, told = [], []
    for name, key, colour in (
        ("estimate", "unseen", "blue"),
        ("at most (95 %)", "unseen_bound", "orange"),
    ):
        values = 100 * numbers[key][mask].sort().values
        series.append(share_curve(values, len(values), name, colour))
    for count in torch.unique(draws).tolist():
        some = [
            float(numbers[key][mask][draws == count].double().mean())
            for key in ("maxima", "unseen", "unseen_bound")
        ]
        told.append(
            f"after {count} ({plural(int((draws == count).sum()), noun[:-1])}) "
            f"different maxima met: {some[0]:.3g}, and one more restart ends in "
            f"another with a chance of {100 * some[1]:.3g} %, at most "
            f"{at_most(some[2])}"
        )
    chart = Lines(
        "What random restarts leave unseen",
        Axis("chance that one more finds another maximum / %", span=(0, 101)),
        Axis(f"share of the {noun} / %", span=(0, 101)),
        tuple(series),
    )
    return Plot(chart, f"Means by the number of restarts: {'; '.join(told)}.")


def restart_losses_plot(recorded: RecordedRun) -> Plot | None:
    """What more random restarts add: mean of the highest of the first, and of all.

    All means are over the same examples: those with as many restarts as half of them
    have at least. To average, at each number, over whoever came that far would show
    other examples at every number.

    Args:
        recorded: of the run.
    """
    numbers = recorded.numbers
    if "restart_losses" not in numbers:
        return None
    group, mask = list(groups(recorded).items())[-1]
    if group == "all" and recorded.run.result["clean_accuracy"] is not None:
        return None  # the point of a broken example need not be its highest
    noun = "examples" if group == "all" else group
    ends, final = numbers["restart_losses"], numbers["losses"]
    made = ends[:, 1:].isfinite().cummin(1).values.sum(1)
    asked = mask & ends[:, 0].isfinite() & final.isfinite() & (made > 0)
    if not bool(asked.any()):
        return None
    count = int(made[asked].median())
    asked &= made >= count
    highest = ends[asked, : count + 1].cummax(1).values
    means, last = highest.mean(0).tolist(), float(final[asked].mean())
    first = highest[:, 0]
    raised = int((highest[:, -1] > first + tolerances.VALLEY * first.abs()).sum())
    word, many = loss_word(recorded).removeprefix("the "), int(asked.sum())
    x = tuple(map(float, range(count + 1)))
    chart = Lines(
        f"What random restarts add to the {word}",
        Axis("random restarts", ticks=x),
        Axis(f"highest {word} so far, mean"),
        (Series("", x, tuple(means), look="both", colour=_TINT[group]),),
        (Mark(last, "in the end", "y"),),
    )
    return Plot(
        chart,
        f"Means over the same {many} of {int(mask.sum())} {noun} throughout, those "
        f"with {plural(count, 'restart')} or more: the highest {word} is "
        f"{means[0]:.4g} after the first run, {means[-1]:.4g} after "
        f"{plural(count, 'random restart')}, which raised "
        f"it for {raised} by more than {tolerances.VALLEY:g} of itself, and "
        f"{last:.4g} in the end, when all other runs are made.",
    )


def bracket_plot(recorded: RecordedRun) -> Plot | None:
    """Found loss and proved upper bound of each example; None without any bound.

    Args:
        recorded: of the run.
    """
    numbers = recorded.numbers
    if "upper_bounds" not in numbers:
        return None
    found, bound = numbers["losses"], numbers["upper_bounds"]
    for more in ("reached_losses", "centre_losses"):  # of audits
        found = torch.fmax(found, numbers.get(more, found))
    index = (found.isfinite() & bound.isfinite()).nonzero().flatten()
    if not len(index):
        return None
    index = index[found[index].argsort(stable=True)]
    part = torch.linspace(0, len(index) - 1, min(_SHOWN, len(index))).round().long()
    some = index[part]
    # The found one is the model's own, in its own precision: it may be an ulp higher.
    gaps = (bound - found)[index].clamp(min=0)
    word = loss_word(recorded)
    x = tuple((part + 1).double().tolist())
    low, high = found[some].tolist(), bound[some].tolist()
    chart = Lines(
        "Between what was found and what is proved",
        Axis("examples, by what was found"),
        Axis(word),
        (
            Series("found", x, tuple(low), tuple(low), tuple(high), colour="blue"),
            Series("proved upper bound", x, tuple(high), dash="dash", colour="orange"),
        ),
    )
    shown = f" {len(some)} of them are drawn." if len(some) < len(index) else ""
    return Plot(
        chart,
        f"{len(index)} of {recorded.count} examples have a proved upper bound of "
        f"{word}; it exceeds what was found by {float(gaps.median()):.3g} (median), at "
        f"most {no_more_than(float(gaps.max()))}.{shown}",
    )


_TINT = {"all": "blue", "survivors": "orange"}


def share_curve(
    values: Tensor, whole: int, name: str = "", colour: str = "", below: int = 0
) -> Series:
    """The share of examples up to each value, in per cent; of many values some.

    Args:
        values: sorted, of examples.
        whole: how many examples there are.
        name: of the curve.
        colour: of the curve.
        below: how many examples are below all values.
    """
    place = torch.linspace(0, len(values) - 1, min(_POINTS, len(values))).long()
    shares = 100 * (place + 1 + below).double() / whole
    return _stair(values[place], shares, name, colour, 100 * below / whole)


def _stair(x: Tensor, y: Tensor, name: str, colour: str, first: float = 0.0) -> Series:
    # Shares jump: between two values there is nobody.
    places = x.double().tolist()
    heights = (first, *y.tolist())
    return Series(name, (places[0], *places), heights, look="stair", colour=colour)


def _said(value: float | None, log: bool) -> str:
    if value is None:
        return "unknown"
    return _zero(value) if log else f"{value:.3g}"


def _zero(value: float) -> str:
    return "≤ 1e-12" if value <= _LEAST else f"{value:.3g}"
