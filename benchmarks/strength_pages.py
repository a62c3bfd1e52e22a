"""What was measured, as sections of a page; what is not reached stands there too."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from benchmarks.strength_ablation import Ablation
from benchmarks.strength_accuracy import EQUAL, Compared, missed, total
from benchmarks.strength_bracket import Bracketed, Exact
from benchmarks.strength_loss import Line
from benchmarks.strength_peers import ATTACKS, Reached
from benchmarks.strength_settings import Setting

UNKNOWN = "not measured"
#: What is allowed: one image of 1000 in a setting; this share of AutoAttack's work.
_IMAGE, _SHARE = 1, 0.2

Comparisons: TypeAlias = Sequence[tuple[Setting, Compared | None]]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def verdict(failures: Sequence[str]) -> str:
    """What is not reached, one line each."""
    if not failures:
        return "Not reached: nothing."
    return "Not reached:\n\n" + "\n".join(f"- {failure}" for failure in failures)


def named(images: Sequence[int]) -> str:
    """Indices, or a dash."""
    return ", ".join(map(str, images)) or "–"


def accuracy_page(found: Comparisons) -> str:
    """Search beside AutoAttack.

    Args:
        found: settings with their comparisons; None where AutoAttack is not measured.
    """
    head = (
        "network, ball",
        "AutoAttack robust",
        "search robust",
        "only AutoAttack breaks",
        "only search breaks",
        "gradients: AutoAttack",
        "search",
        "ratio",
        "forwards: AutoAttack",
        "search",
        "s: AutoAttack",
        "search",
        "ratio",
        "`sm.attack` of the first images: s",
        "robust (search)",
    )
    rows = [_row(setting, each, True, len(head)) for setting, each in found]
    return f"{table(head, rows)}\n\n{verdict(accuracy_failures(found, _SHARE, _IMAGE))}"


def equal_page(found: Comparisons) -> str:
    """Search beside the first two parts of AutoAttack at equal evaluations."""
    head = (
        "network, ball",
        "APGD-CE + APGD-T robust",
        "search robust",
        "only APGD breaks",
        "only search breaks",
        "gradients: APGD",
        "search",
        "ratio",
        "s: APGD",
        "search",
    )
    rows = [_row(setting, each, False, len(head)) for setting, each in found]
    told = (
        f"The search spends at most {EQUAL} gradient evaluations per image, which is "
        "what they spend on one that they do not break."
    )
    failures = accuracy_failures(found, 1.0, 0)
    return f"{told}\n\n{table(head, rows)}\n\n{verdict(failures)}"


def _row(
    setting: Setting, each: Compared | None, standard: bool, width: int
) -> list[object]:
    """One line of either table."""
    if each is None:
        return [setting, UNKNOWN, *[""] * (width - 2)]
    ours = each.ours
    gradients, seconds = total(each.parts, "gradients"), total(each.parts, "seconds")
    cells: list[object] = [
        setting,
        sum(each.theirs),
        f"**{sum(ours.robust)}**",
        named(missed(ours.robust, each.theirs)),
        named(missed(each.theirs, ours.robust)),
        f"{gradients:,.0f}",
        f"{ours.gradients:,}",
        f"1/{gradients / ours.gradients:.1f}",
    ]
    times = [f"{seconds:.1f}", f"{ours.seconds:.1f}"]
    if not standard or each.whole is None:
        return [*cells, *times]
    few = each.whole.robust
    return [
        *cells,
        f"{total(each.parts, 'forwards'):,.0f}",
        f"{ours.forwards:,}",
        *times,
        f"1/{seconds / ours.seconds:.1f}",
        f"{each.whole.seconds:.1f}",
        f"{sum(few)} of {len(few)} ({sum(ours.robust[: len(few)])})",
    ]


def accuracy_failures(found: Comparisons, share: float, images: int) -> list[str]:
    """Settings, and the sum of all, in which an aim is missed.

    Args:
        found: settings with their comparisons.
        share: of the others' gradients that is allowed; of their time, too, where it is
            below 1.
        images: more that may be robust in one setting; none in the sum.
    """
    failures, more, unknown = [], 0, []
    for setting, each in found:
        if each is None:
            unknown.append(str(setting))
            continue
        ours = each.ours
        excess = sum(ours.robust) - sum(each.theirs)
        more += excess
        if excess > images:
            failures.append(f"{setting}: {excess} images more are robust.")
        if each.whole is not None:
            few = each.whole.robust
            fewer = sum(few) - sum(ours.robust[: len(few)])
            if fewer > 0:
                failures.append(f"{setting}: `sm.attack` breaks {fewer} fewer.")
        spent = {"gradients": float(ours.gradients)}
        if share < 1:
            spent["seconds"] = ours.seconds
        for name, amount in spent.items():
            part = amount / total(each.parts, name)
            if part > share:
                failures.append(f"{setting}: {part:.2f} of its {name}.")
    if more > 0:
        failures.append(f"In the sum of all settings, {more} images more are robust.")
    if unknown:
        failures.append(f"{UNKNOWN.capitalize()}: {'; '.join(unknown)}.")
    return failures


def loss_page(lines: Sequence[Line]) -> str:
    """Mean losses by setting and budget, and their mean over the settings."""
    head = ("network, ball", "gradients", "search", "one AutoPGD run", *ATTACKS)
    rows: list[list[object]] = []
    for line in lines:
        best = line.best_peer
        mean = f"{line.search.mean:.4f}"
        ours = f"**{mean}**" if best is not None and line.search.mean >= best else mean
        cells = [_loss(line.peers[name]) for name in ATTACKS]
        rows.append(
            [line.setting, line.budget, ours, f"{line.ascent.mean:.4f}", *cells]
        )
    means, failures = loss_means(lines)
    several = table(("mean of all settings", *head[2:]), means)
    return f"{several}\n\n{verdict(failures)}\n\n{table(head, rows)}"


def _loss(made: tuple[str, Reached] | None) -> str:
    return UNKNOWN if made is None else f"{made[1].mean:.4f} ({made[0]})"


def loss_means(lines: Sequence[Line]) -> tuple[list[list[object]], list[str]]:
    """Means over the settings that all were measured in, and where ours is lower."""
    rows: list[list[object]] = []
    failures = []
    for budget in dict.fromkeys(line.budget for line in lines):
        here = [x for x in lines if x.budget == budget and x.best_peer is not None]
        if not here:
            failures.append(f"{budget} gradients: the peers are not measured.")
            continue
        count = len(here)
        ours = sum(line.search.mean for line in here) / count
        ascent = sum(line.ascent.mean for line in here) / count
        peers = {}
        for name in ATTACKS:
            made = [line.peers[name] for line in here]
            peers[name] = sum(one[1].mean for one in made if one is not None) / count
            if ours < peers[name]:
                told = f"{ours:.4f} against {peers[name]:.4f} of {name}"
                failures.append(
                    f"{budget} gradients, mean of {count} settings: {told}."
                )
        label = f"{budget} gradients, {count} settings"
        shown = [f"{value:.4f}" for value in (ours, ascent, *peers.values())]
        rows.append([label, *shown])
    return rows, failures


def bracket_page(found: Sequence[Bracketed], exact: Sequence[Exact]) -> str:
    """Brackets of two-layer networks, and mixed-integer programs."""
    head = (
        "network, ball",
        "mean loss: found",
        "proved upper bound",
        "median gap",
        "robust accuracy: not broken",
        "proved",
        "s",
    )
    rows = [
        [
            each.name,
            f"{each.found:.4f}",
            f"{each.proved:.4f}",
            f"{each.gap:.3g}",
            f"{each.robust:.3f}",
            UNKNOWN if each.certain is None else f"{each.certain:.3f}",
            f"{each.seconds:.1f}",
        ]
        for each in found
    ]
    second = (
        "network, ball",
        "images",
        "broken by the search",
        "breakable (NUMERICAL)",
        "not settled",
        "largest margin missed",
        "margins equal to 1e-4",
        "s of the programs",
    )
    lines = [
        [
            each.name,
            each.examples,
            each.broken,
            each.breakable,
            each.open,
            f"{each.short:.3g}",
            each.equal,
            f"{each.seconds:.1f}",
        ]
        for each in exact
    ]
    return f"{table(head, rows)}\n\n{table(second, lines)}"


def ablation_page(found: Sequence[tuple[str, Sequence[Ablation]]]) -> str:
    """What searches without one part find."""
    head = ("network, ball", "without", "robust", "gradients", "mean margin")
    rows = [
        [
            name if not number else "",
            each.without,
            each.robust,
            f"{each.gradients:,}",
            "–" if each.margin is None else f"{each.margin:.4f}",
        ]
        for name, lines in found
        for number, each in enumerate(lines)
    ]
    return table(head, rows)
