"""The alarms: catastrophic overfitting (`wong2020fast`), and an attack that overstates.

A model trained on points of one step may learn to bend its loss so that this one step
leads nowhere: its accuracy under the training attack rises while a stronger attack
breaks nearly everything. On the same probe examples, with a_t the accuracy under the
training attack, a_s under the stronger one, and b the earlier look with the highest a_s
(the latest of equals), the alarm is given where all three hold:

- collapse: a_s ≤ a_s(b)/2 and a_s ≤ a_s(b) - 0.25;
- the training attack does not see it: a_t - a_s ≥ 0.25;
- nor has its own accuracy fallen: a_t ≥ a_t(b).

A quarter of 64 probes are 16 examples. Both accuracies are of the same examples, so
that no sampling error of examples lies between them. Frank-Wolfe distortion, which
falls too (`tsiligkaridis2022understanding`), is told and decides nothing. Without
labels there is no accuracy, and no alarm.

A model may mislead its training attack from the first epoch on: then nothing collapses.
The second condition alone is therefore told too, in words of its own.
"""

from collections.abc import Sequence

from summiteer.training.record import InnerProblem

#: The stronger attack leaves at most this share of the best accuracy…
COLLAPSE = 0.5
#: …and this much less; and so much less than the training attack.
DIFFERENCE = 0.25


def alarm_of(before: Sequence[InnerProblem], now: InnerProblem) -> str:
    """Return what there is to be alarmed about, or "".

    Args:
        before: earlier looks at the same probes, in order.
        now: the latest.
    """
    return catastrophic_overfitting(before, now) or overstated(now)


def overstated(now: InnerProblem) -> str:
    """Return that the training attack overstates the robust accuracy, or "".

    Args:
        now: the latest look.
    """
    strong, attacked = now.strong_accuracy, now.attacked_accuracy
    if strong is None or attacked is None or attacked - strong < DIFFERENCE:
        return ""
    return (
        f"overstated robustness in epoch {now.epoch}: {attacked:.0%} are right under "
        f"the training attack, {strong:.0%} under a stronger one. Train with more "
        "steps."
    )


def catastrophic_overfitting(before: Sequence[InnerProblem], now: InnerProblem) -> str:
    """Return what the rule for a collapse says, or "".

    Args:
        before: earlier looks at the same probes, in order.
        now: the latest.
    """
    known = [look for look in before if look.strong_accuracy is not None]
    if not known or now.strong_accuracy is None or now.attacked_accuracy is None:
        return ""
    best = max(known, key=lambda look: (look.strong_accuracy, look.epoch))
    then, trained = best.strong_accuracy or 0.0, best.attacked_accuracy or 0.0
    strong, attacked = now.strong_accuracy, now.attacked_accuracy
    fell = strong <= COLLAPSE * then and strong <= then - DIFFERENCE
    blind = attacked - strong >= DIFFERENCE and attacked >= trained
    if not (fell and blind):
        return ""
    text = (
        f"catastrophic overfitting in epoch {now.epoch}: under a stronger attack "
        f"{strong:.0%} are right, {then:.0%} were after epoch {best.epoch}, while "
        f"under the training attack {attacked:.0%} are ({trained:.0%} then)"
    )
    if now.distortion is not None and best.distortion is not None:
        text += f"; Frank-Wolfe distortion {now.distortion:.2f} ({best.distortion:.2f})"
    return f"{text}. Train with more steps, or stop after epoch {best.epoch}."
