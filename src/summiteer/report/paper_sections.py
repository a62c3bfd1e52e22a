"""The paper, how to cite it, and the works that methods here rest on, as sections."""

from summiteer.bibliography import (
    FORMATS,
    METHODS,
    PAPER,
    REFERENCES,
    RELATED,
    SELF,
    SUMMITEER,
    cited,
)
from summiteer.report.document import (
    Code,
    Facts,
    Fold,
    Graph,
    Link,
    Node,
    Prose,
    Section,
)

#: Weights that a public index of the paper gives its key terms.
KEY_TERMS = {
    "adversarial": 0.248,
    "inputs": 0.246,
    "landscape": 0.225,
    "projected": 0.213,
    "perturbations": 0.183,
    "gradient": 0.164,
    "convergence": 0.162,
    "loss": 0.160,
}
_SAYS = (
    "Adversarial training alternates a maximisation over small perturbations of the "
    "inputs, by projected gradient ascent, with a minimisation over the weights. The "
    "paper looks at the maximisation, for a two-layer network with random weights and "
    "the quadratic loss, where the landscape is not concave. It says that the ascent "
    "finds an approximation of a local maximum, on the sphere of the largest "
    "perturbations, in polynomially many steps with high probability (C1, C2); that "
    "with the ratio of perturbation to input fixed, smaller inputs make the landscape "
    "more regular and the ascent faster (C3, C4), and adversarial training itself "
    "faster at first (C5); and that the analysis extends to other losses under "
    "conditions on their derivatives (C6). C7, deeper networks, is asked here and not "
    "claimed by the paper."
)
_PLEASE = (
    "Please cite the paper for what is claimed and Summiteer for what is measured."
)


def paper_section() -> Section:
    """What the paper is and says, in words of ours."""
    work = REFERENCES[PAPER]
    names = [f"{given} {family}" for family, given in work.names()]
    terms = ", ".join(f"{term} {weight:.3f}" for term, weight in KEY_TERMS.items())
    facts = Facts(
        (
            ("title", work.title),
            ("authors", f"{', '.join(names[:-1])} and {names[-1]}"),
            ("published", f"{work.where} (ICML {work.year})"),
            ("arXiv", Link(work.arxiv, work.address)),
            ("listed there", "22 October 2020"),
            ("categories", "cs.LG, stat.ML"),
            ("licence there", "arXiv's non-exclusive licence to distribute"),
            ("in a public index", "30 references, 11 citations (as of 2025)"),
            ("key terms there, with weights", terms),
            ("other implementations", "none known"),
        )
    )
    return Section("The paper", (Prose(_SAYS), facts))


def cite_section() -> Section:
    """The paper and Summiteer in every format."""
    works = {SELF: SUMMITEER, PAPER: REFERENCES[PAPER]}
    first, *others = (
        Code(cited(works, key), each.name, f"summiteer.{each.ending}")
        for key, each in FORMATS.items()
    )
    names = ", ".join(each.title for each in others)
    words = "The same on the command line, with every work that methods here rest on:"
    command = Code("summiteer cite --all --format bibtex > summiteer.bib")
    return Section(
        "How to cite",
        (Prose(_PLEASE), first, Fold(names, tuple(others)), Prose(words), command),
    )


def methods_graph() -> Graph:
    """Works, the methods that rest on them, and the commands that use these."""
    # In the order of the methods: fewer arrows cross.
    keys = dict.fromkeys(key for m in METHODS for key in m.works)
    commands = list(dict.fromkeys(name for m in METHODS for name in m.used))
    works = [_work(key, REFERENCES[key].line()) for key in keys]
    methods = [
        Node(
            m.module,
            m.name,
            f"{m.name}: summiteer.{m.module}, after "
            f"{', '.join(REFERENCES[key].short for key in m.works)}.",
            column=1,
        )
        for m in METHODS
    ]
    used = [
        Node(
            f"summiteer {name}",
            f"summiteer {name}",
            f"summiteer {name} uses "
            f"{', '.join(m.name for m in METHODS if name in m.used)}.",
            column=2,
        )
        for name in commands
    ]
    arrows = [(key, m.module) for m in METHODS for key in m.works]
    arrows += [(m.module, f"summiteer {name}") for m in METHODS for name in m.used]
    return Graph(
        "From works to methods to commands",
        (*works, *methods, *used),
        tuple(arrows),
        f"{len(works)} works, the {len(methods)} modules that cite them, the commands "
        "that use these. Point at one to see what it is connected with; a work's "
        "circle leads to the work.",
        ("work", "method", "command"),
    )


def related_graph() -> Graph:
    """The paper among the works around it."""
    year = REFERENCES[PAPER].year
    keys = sorted(RELATED, key=lambda key: (REFERENCES[key].year, key))
    before = {key: REFERENCES[key].year <= year for key in keys}
    nodes = [
        _work(key, f"{REFERENCES[key].line()} {RELATED[key]}", 0 if first else 2)
        for key, first in before.items()
    ]
    nodes.append(_work(PAPER, REFERENCES[PAPER].line(), 1))
    arrows = ((key, PAPER) if first else (PAPER, key) for key, first in before.items())
    return Graph(
        "The paper among its neighbours",
        tuple(nodes),
        tuple(arrows),
        "Works on the same questions, until 2020 and since. Arrows go from earlier to "
        "later and mean that works belong together, not that one cites the other.",
        (f"until {year}", "the paper", "since"),
    )


def _work(key: str, words: str, column: int = 0) -> Node:
    work = REFERENCES[key]
    return Node(key, work.short, f"{words} [{key}]", work.address, column)
