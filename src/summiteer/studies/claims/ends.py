"""What runs end in, judged: shares of proved maxima, or of numerical ones."""

from collections.abc import Sequence

import torch

from summiteer.cells import finite
from summiteer.studies.claims.claim import Judgement, Row
from summiteer.studies.claims.rules import (
    effect_of,
    percentage,
    percentages,
    share_standing,
    values_of,
)
from summiteer.studies.statistics import clustered_share, median

#: Counts of a record that are stated beside the share that is judged.
_COUNTS = ("maximum", "proved", "best", "decided", "stationary", "limit")


def ends_judgement(
    rows: Sequence[Row], protocol: str, regime: str, wanted: float, proofs: bool = True
) -> Judgement:
    """Judge the share of runs whose own end point is a maximum.

    Args:
        rows: cells of one regime, of several networks.
        protocol: in words.
        regime: in words.
        wanted: the share that is claimed.
        proofs: whether maxima count that are proved, or, where no proof exists, those
            that are NUMERICAL.
    """
    name = "proved" if proofs else "maximum"
    by_seed = [
        [row for row in rows if row.parameters["seed"] == seed]
        for seed in values_of(rows, "seed")
    ]
    counted = [sum(row.record["runs"] for row in some) for some in by_seed]
    hits = [sum(row.record[name] for row in some) for some in by_seed]
    share, runs = clustered_share(hits, counted), sum(counted)
    counts = {key: sum(row.record[key] for row in rows) / runs for key in _COUNTS}
    steps = torch.cat([row.arrays()["steps"].flatten() for row in rows]).double()
    residual = torch.cat([row.arrays()["residual"].flatten() for row in rows])
    kind = "proved" if proofs else "numerical"
    parts = [
        f"{percentages(share)} of {runs} runs on {len(by_seed)} networks end in a "
        f"{kind} local maximum",
        f"{percentage(counts['decided'], 1)} of the end points are decided",
        f"{median(steps.numpy()):.0f} steps (median)",
    ]
    if proofs and counts["best"] > 0:
        parts.insert(1, f"{percentage(counts['best'], 1)} in the proved global one")
    if counts["limit"] > 0:
        parts.append(f"{percentage(counts['limit'], 1)} met the limit of steps")
    return Judgement(
        protocol,
        regime,
        share_standing(share, wanted),
        "; ".join(parts),
        *effect_of(share),
        {
            "runs": runs,
            "networks": len(by_seed),
            "half_width_points": finite(100 * share.half_width),
            **counts,
            "steps": median(steps.numpy()),
            "residual": finite(median(residual.double().numpy())),
        },
        "share of runs",
    )
