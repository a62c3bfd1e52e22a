"""C1: projected gradient ascent finds a local maximum with high probability."""

from collections.abc import Sequence

from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Known,
    Row,
    Standing,
)
from summiteer.studies.claims.protocol import (
    LIMIT,
    NETWORKS,
    QUICK,
    mnist_studies,
    paper_studies,
)
from summiteer.studies.claims.rules import (
    chosen,
    effect_of,
    percentage,
    percentages,
    share_standing,
    values_of,
)
from summiteer.studies.statistics import Estimate, clopper_pearson, clustered_share
from summiteer.studies.study import Study

#: What "with high probability" is taken to mean.
HIGH = 0.95
#: Steps of PGA on ReLU networks, where it never comes to rest.
ZIGZAG = 300

STATEMENT = (
    "Projected gradient ascent finds a local maximum, on the sphere, with high "
    "probability over the random weights."
)
RULE = (
    "The share of runs whose own end point (nothing polished) is proved to lie within "
    "1e-3 ε of a local maximum of the loss; a run ends at a residual of 1e-6 or after "
    f"{LIMIT['max_steps']} steps. One random start per image, a new random network for "
    "every few images; 95 % interval by a cluster bootstrap over networks, by Clopper "
    "and Pearson's from one run per network where all or no runs succeed. On MNIST, "
    "where there are two networks, Clopper and Pearson's over the images of each, from "
    "the lower of both lower ends to the higher of both upper ends: it speaks of these "
    f"two. Supported if the whole interval is at least {HIGH:.0%}, not supported if "
    "all of it is below. ReLU's gradient has no Lipschitz constant: PGA takes "
    f"{ZIGZAG} normalised steps of ε/10 there; DC ascent is judged apart."
)
PAPER = "PGA, the paper's constant step"
WORDS = {
    "paper": PAPER,
    "backtracking": "PGA with backtracking",
    "normalised": "PGA, normalised steps of ε/10",
    "dc": "DC ascent",
}


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    few = {"examples": 2 if quick else 4, **LIMIT}
    seeds = list(range(QUICK if quick else NETWORKS))
    other = Study(
        name="backtracking-rough",
        experiment="climb",
        # Where the paper's step does not arrive.
        fixed={**few, "scale": 10.0, "activation": "tanh", "method": "backtracking"},
        seeds=seeds,
    )
    relu = Study(
        name="relu",
        experiment="climb",
        fixed={**few, "activation": "relu", "max_steps": ZIGZAG},
        grid={"method": ["normalised", "dc"]},
        seeds=seeds,
    )
    both = (*paper_studies(extent), relu)
    return both if quick else (*both, other, *mnist_studies(extent))


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    found = []
    for name, rows in known.items():
        if name == "mnist":
            continue
        for activation in values_of(rows, "activation"):
            for method in values_of(rows, "method"):
                for scale in values_of(rows, "scale"):
                    some = chosen(
                        rows, activation=activation, method=method, scale=scale
                    )
                    if some:
                        found.append(_judged(some, f"{activation}, c = {scale:g}"))
    for scale in values_of(known.get("mnist", ()), "scale"):
        rows = chosen(known["mnist"], scale=scale)
        found.append(_judged(rows, f"softplus, c = {scale:g}, MNIST, two networks"))
    # The paper's own scale first.
    found.sort(key=lambda each: not each.regime.startswith("softplus, c = 1, d"))
    return tuple(found)


def success(rows: Sequence[Row]) -> Estimate:
    """The share of runs that end in a proved maximum, with its interval.

    Args:
        rows: cells of different networks, or of blocks of images of a few.
    """
    seeds = values_of(rows, "seed")
    hits = [sum(r.record["proved"] for r in chosen(rows, seed=s)) for s in seeds]
    runs = [sum(r.record["runs"] for r in chosen(rows, seed=s)) for s in seeds]
    if rows[0].parameters["data"] != "mnist":
        return clustered_share(hits, runs)
    each = [clopper_pearson(h, n) for h, n in zip(hits, runs, strict=True)]
    low, high = min(e.low for e in each), max(e.high for e in each)
    return Estimate(sum(hits) / sum(runs), low, high, sum(runs))


def _judged(rows: Sequence[Row], regime: str) -> Judgement:
    share = success(rows)
    runs = sum(row.record["runs"] for row in rows)
    counts = {
        name: sum(row.record[name] for row in rows) / runs
        for name in ("maximum", "best", "decided", "decided_by_proof", "limit")
    }
    sentence = (
        f"{percentages(share)} of {runs} runs on {len(values_of(rows, 'seed'))} "
        "networks end in a proved local maximum"
    )
    if counts["best"] > 0:
        sentence += f", {percentage(counts['best'], 1)} in the proved global one"
    if counts["limit"] > 0:
        sentence += f"; {percentage(counts['limit'], 1)} met the limit of steps"
    method = rows[0].parameters["method"]
    verdict = share_standing(share, HIGH)
    if verdict is Standing.INCONCLUSIVE:
        sentence += _too_few(len(values_of(rows, "seed")), runs)
    if "digits" in rows[0].parameters["data"]:
        regime += ", digits"
    return Judgement(
        WORDS[method],
        regime,
        verdict,
        sentence,
        *effect_of(share),
        {"runs": runs, "half_width_points": 100 * share.half_width, **counts},
        "share of runs",
    )


def _too_few(networks: int, runs: int) -> str:
    """That no outcome could support the claim, where that is so.

    With all runs successful Clopper and Pearson's lower end decides, with one less the
    share itself.
    """
    best = clopper_pearson(networks, networks).low
    if max(best, 1 - 1 / runs) >= HIGH:
        return ""
    return f"; {networks} networks are too few to support it, whatever is seen"


C1 = Claim("C1", "PGA finds a local maximum", STATEMENT, RULE, studies, judge)
