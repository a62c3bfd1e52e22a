"""A training on the terminal: one line per epoch, and what there is to say at the end.

The lines are the same in a pipe: 80 columns of plain text.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from summiteer.training import Epoch

_WIDTH = 80
_SHARES = ("stationary", "maximum", "proved_maximum")


def table_head(labelled: bool, held_out: bool) -> str:
    """The two lines above the epochs.

    Args:
        labelled: whether there are accuracies.
        held_out: whether there are examples held out.
    """
    what = "accuracy" if labelled else "mean loss"
    aside = f"{f'held-out {what}':^19}" if held_out else ""
    names = f"{'robust':>9}{'clean':>9}"
    above = f"{'':17}{f'train {what}':^18} {aside}{'inner problem':^28}"
    below = f"{'epoch':>5}{'loss':>11} {names} {names if held_out else ''}"
    return f"{above.rstrip()}\n{below}   stat.  max.  proved  κ"


def table_row(record: Epoch, labelled: bool, held_out: bool) -> str:
    """An epoch's line; what was not measured is left empty.

    Args:
        record: of the epoch.
        labelled: whether there are accuracies.
        held_out: whether there are examples held out.
    """
    shown = "accuracy" if labelled else "loss"
    cells = []
    for group in ("train", "held_out")[: 1 + held_out]:
        for kind in ("robust", "clean"):
            value = getattr(record, f"{group}_{kind}_{shown}")
            cells.append(f"{_figure(value, labelled):>9}")
        cells.append(" ")
    inner = record.inner
    shares = [_share(getattr(inner, name, None)) for name in _SHARES]
    ratio = getattr(inner, "curvature_ratio", None)
    text = f"{record.epoch:>5}{_number(record.train_robust_loss):>11} {''.join(cells)}"
    text += f"{shares[0]:>7}{shares[1]:>7}{shares[2]:>7}"
    text += f"  {_number(ratio)}" if ratio is not None else ""
    alarm = bool(inner is not None and inner.alarm)
    return text.rstrip() + ("  ALARM" if alarm else "")


def trained_text(result: Mapping[str, Any], directory: str) -> str:
    """What there is to say after the last epoch.

    Args:
        result: content of result.json.
        directory: of the run.
    """
    lines = [
        "train: at the points trained on, before each step, the model in train mode; "
        "clean in eval mode. Held out: after the epoch, under a stronger attack. Inner "
        "problem: where the training attack ends on the probes; stat.: stationary, "
        "max.: within reach of a local maximum, proved: proved to be, κ: curvature "
        "ratio, below 1 at a strict maximum."
    ]
    lines += [_watching(result)]
    lines += _alarms(result["alarms"])
    lines += [f"! {message}" for message in result["messages"]]
    if result["stopped"]:
        lines.append(f"! stopped: {result['stopped']}")
    lines.append(f"{result['seconds']:.1f} s; curves and weights in")
    parts = [fill(line, _WIDTH) for line in lines if line]
    place = f"{directory}/  (result.json, weights.safetensors)"
    return "\n".join([*parts, place])


def attack_text(
    result: Mapping[str, Any],
    directory: str,
    source: str,
    given: Mapping[str, str | bool | None],
) -> str:
    """The attack that says what the robust accuracy is worth.

    Args:
        result: content of result.json.
        directory: of the run.
        source: MODEL as the user named it.
        given: option -> its value, None or False if it was not given, True if it has
            none; of the problem, so that the attack is on the same one.
    """
    region = result["region"]
    # Always: without --box the attack would take that of its own data.
    ends = [repr(end).removesuffix(".0") for end in region["box"] or ()]
    box = ",".join(ends) or "none"
    words = ["summiteer", "attack", source, str(result["attack_data"])]
    words += ["--norm", region["norm"], "--radius", repr(region["radius"])]
    words += ["--box", box]
    for option, value in given.items():
        if value:
            words += [option] if value is True else [option, str(value)]
    words += ["--weights", f"{directory}/weights.safetensors"]
    return f"what the robust accuracy is worth:\n    {shlex.join(words)}"


def _alarms(alarms: Sequence[str]) -> list[str]:
    """The first alarm of each kind, and how often there were more."""
    kinds = Counter(alarm.partition(" in epoch ")[0] for alarm in alarms)
    lines = []
    for kind, count in kinds.items():
        first = next(alarm for alarm in alarms if alarm.startswith(kind))
        again = f" (and so at {count - 1} later looks)" if count > 1 else ""
        lines.append(f"ALARM: {first}{again}")
    return lines


def _watching(result: Mapping[str, Any]) -> str:
    """What was watched, what was left out, and what it cost."""
    records: Sequence[Mapping[str, Any]] = result["epochs"]
    looks = [r["inner"] for r in records if r["inner"] and r["inner"]["probes"]]
    if not looks:
        return "the inner problem was not watched."
    examined = [look for look in looks if look["examined"]]
    cost = looks[-1]["cost"] or 0.0
    text = (
        f"inner problem watched after {len(looks)} of {len(records)} epochs on "
        f"{looks[-1]['probes']} probes, certificates after {len(examined)}"
    )
    if examined:
        text += f" (of {examined[-1]['examined']})"
    text += f": {cost:.1%} of the time of everything else (--watch {result['watch']:g}"
    more = len(looks) < len(records) or len(examined) < len(records)
    return text + ("; a larger share looks more often)." if more else ").")


def _figure(value: float | None, share: bool) -> str:
    return _share(value) if share else _number(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
