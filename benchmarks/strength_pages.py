"""What was measured, as sections of a page; what is not reached stands there too."""

from collections.abc import Iterable, Sequence

from benchmarks.strength_ablation import Ablation
from benchmarks.strength_accuracy import EQUAL, Compared, missed, total
from benchmarks.strength_bracket import Bracketed, Exact
from benchmarks.strength_loss import Line
from benchmarks.strength_peers import ATTACKS, Reached

UNKNOWN = "not measured"
#: What is allowed: one image of 1000 in a setting; this share of AutoAttack's work.
_IMAGE, _SHARE = 1, 0.2


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


def accuracy_page(found: Sequence[Compared]) -> str:
    """Search beside AutoAttack."""
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
    rows = [_accuracy_row(each) for each in found]
    return f"{table(head, rows)}\n\n{verdict(accuracy_failures(found))}"


def _accuracy_row(each: Compared) -> list[object]:
    ours, whole = each.standard, each.whole
    few = len(whole.robust)
    last = [
        f"{whole.seconds:.1f}",
        f"{sum(whole.robust)} of {few} ({sum(ours.robust[:few])})",
    ]
    if each.parts is None:
        known = [UNKNOWN, sum(ours.robust), "", ""]
        spent = ["", f"{ours.gradients:,}", "", "", f"{ours.forwards:,}"]
        return [each.setting, *known, *spent, "", f"{ours.seconds:.1f}", "", *last]
    theirs = each.parts[-1].robust
    gradients, seconds = total(each.parts, "gradients"), total(each.parts, "seconds")
    return [
        each.setting,
        sum(theirs),
        f"**{sum(ours.robust)}**",
        named(missed(ours.robust, theirs)),
        named(missed(theirs, ours.robust)),
        f"{gradients:,.0f}",
        f"{ours.gradients:,}",
        f"1/{gradients / ours.gradients:.1f}",
        f"{total(each.parts, 'forwards'):,.0f}",
        f"{ours.forwards:,}",
        f"{seconds:.1f}",
        f"{ours.seconds:.1f}",
        f"1/{seconds / ours.seconds:.1f}",
        *last,
    ]


def accuracy_failures(found: Sequence[Compared]) -> list[str]:
    """Settings, and the sum of all, in which an aim is missed."""
    failures, more = [], 0
    for each in found:
        if each.parts is None:
            failures.append(f"{each.setting}: AutoAttack is not measured.")
            continue
        ours = each.standard
        fewer = sum(each.whole.robust) - sum(ours.robust[: len(each.whole.robust)])
        if fewer > 0:
            failures.append(f"{each.setting}: `sm.attack` breaks {fewer} fewer.")
        excess = sum(ours.robust) - sum(each.parts[-1].robust)
        more += excess
        if excess > _IMAGE:
            failures.append(f"{each.setting}: {excess} images more are robust.")
        for name, spent in (("gradients", ours.gradients), ("seconds", ours.seconds)):
            share = spent / total(each.parts, name)
            if share > _SHARE:
                failures.append(f"{each.setting}: {share:.2f} of its {name}.")
    if more > 0:
        failures.append(f"In the sum of all settings, {more} images more are robust.")
    return failures


def equal_page(found: Sequence[Compared]) -> str:
    """Search beside the first two parts of AutoAttack at equal evaluations."""
    head = (
        "network, ball",
        "APGD-CE + APGD-T robust",
        "search robust",
        "only APGD breaks",
        "only search breaks",
        "gradients: APGD",
        "search",
        "s: APGD",
        "search",
    )
    rows: list[list[object]] = []
    failures = []
    for each in found:
        ours, two = each.equal, each.two
        spent = [f"{ours.gradients:,}", f"{ours.seconds:.1f}"]
        if two is None:
            cells = [UNKNOWN, sum(ours.robust), "", "", "", spent[0], "", spent[1]]
            rows.append([each.setting, *cells])
            failures.append(f"{each.setting}: APGD is not measured.")
            continue
        last = two[-1].robust
        gradients = total(two, "gradients")
        rows.append(
            [
                each.setting,
                sum(last),
                f"**{sum(ours.robust)}**",
                named(missed(ours.robust, last)),
                named(missed(last, ours.robust)),
                f"{gradients:,.0f}",
                spent[0],
                f"{total(two, 'seconds'):.1f}",
                spent[1],
            ]
        )
        excess = sum(ours.robust) - sum(last)
        if excess > 0:
            failures.append(f"{each.setting}: {excess} images more are robust.")
        if ours.gradients > gradients:
            share = ours.gradients / gradients
            failures.append(f"{each.setting}: {share:.2f} of its gradients.")
    told = (
        f"The search spends at most {EQUAL} gradient evaluations per image, as they do."
    )
    return f"{told}\n\n{table(head, rows)}\n\n{verdict(failures)}"


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
