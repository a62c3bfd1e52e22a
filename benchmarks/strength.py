"""How strong a search is beside AutoAttack and other libraries' ascents.

`python -m benchmarks.strength [part …] [--write] [--quick] [--peers]`, on a quiet
machine with OMP_NUM_THREADS=1. Peers' results are kept under out/ by the digest of
model, data and settings; what is not kept is "not measured" unless --peers asks for it.
"""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

import summiteer as sm
from benchmarks.auto_attack import version as auto_attack_version
from benchmarks.page import PAGE, STRENGTH, machine
from benchmarks.page import version as version_of
from benchmarks.strength_ablation import ablated
from benchmarks.strength_accuracy import (
    EQUAL,
    WHOLE_EXAMPLES,
    beside_standard,
    beside_two,
)
from benchmarks.strength_bracket import (
    EXACT_EXAMPLES,
    NETWORKS,
    REGIONS,
    bracketed,
    exact,
)
from benchmarks.strength_bracket import EXAMPLES as BRACKET_EXAMPLES
from benchmarks.strength_loss import BUDGETS, measured
from benchmarks.strength_pages import (
    ablation_page,
    accuracy_page,
    bracket_page,
    equal_page,
    loss_page,
)
from benchmarks.strength_settings import EXAMPLES, Setting, settings

#: By architecture.
LOSS_EXAMPLES = {"mlp": 200, "conv": 50}
ABLATION_EXAMPLES = {"mlp": 200, "conv": 50}
THOROUGH_EXAMPLES = {"mlp": 50}


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        peers: whether to run what of the peers is not kept.
        quick: a few images, to see that it works; the numbers say nothing.
        architectures: which networks.
    """

    peers: bool
    quick: bool
    architectures: tuple[str, ...]

    def examples(self, wanted: int) -> int:
        """How many images."""
        return min(wanted, 12) if self.quick else wanted

    def settings(self, examples: Mapping[str, int]) -> Iterator[Setting]:
        """Those of each network, with so many images by architecture."""
        for name, count in examples.items():
            if name in self.architectures:
                yield from settings((name,), self.examples(count))


def accuracy(plan: Plan) -> str:
    """`sm.search` at standard effort beside AutoAttack's `standard`."""
    found = []
    for setting in settings(plan.architectures, plan.examples(EXAMPLES)):
        found.append((setting, beside_standard(setting, plan.peers)))
        progress(accuracy_page(found[-1:]))
    return accuracy_page(found)


def equal(plan: Plan) -> str:
    """`sm.search` at thorough effort beside APGD-CE and APGD-T."""
    found = []
    for setting in settings(plan.architectures, plan.examples(EXAMPLES)):
        found.append((setting, beside_two(setting, plan.peers)))
        progress(equal_page(found[-1:]))
    return equal_page(found)


def loss(plan: Plan) -> str:
    """Which loss is reached at equal numbers of gradient evaluations."""
    lines = []
    for setting in plan.settings(LOSS_EXAMPLES):
        for budget in BUDGETS[: 2 if plan.quick else None]:
            lines.append(measured(setting, budget, plan.peers))
        progress(loss_page(lines[-len(BUDGETS) :]))
    return loss_page(lines)


def bracket(plan: Plan) -> str:
    """[found, proved upper bound] of two-layer networks, and mixed-integer programs."""
    found, programs = [], []
    for activation in NETWORKS:
        for region in REGIONS:
            found.append(bracketed(activation, region, plan.examples(BRACKET_EXAMPLES)))
            progress(f"bracket: {found[-1].name}")
    for region in REGIONS:
        if region.norm == "linf":
            programs.append(exact(region, plan.examples(EXACT_EXAMPLES)))
            progress(f"programs: {programs[-1].name}")
    return bracket_page(found, programs)


def ablation(plan: Plan) -> str:
    """Searches without one of their parts."""
    found = []
    for effort, examples, budget in (
        ("standard", ABLATION_EXAMPLES, None),
        ("thorough", THOROUGH_EXAMPLES, EQUAL),
    ):
        for setting in plan.settings(examples):
            if setting.recipe.radius and setting.radius in (0.1, 1.0):
                within = f" within {budget}" if budget else ""
                name = f"{setting}, {effort}{within}, {setting.examples} images"
                found.append((name, ablated(setting, effort, budget)))
                progress(ablation_page(found[-1:]))
    return ablation_page(found)


TEXTS = {
    "accuracy": """### Robust accuracy

How many of the first {examples} test images are still classified rightly after
AutoAttack's `standard` (pyautoattack {auto_attack}, its four parts in its order, each
on what is left), and after `sm.search` at standard effort. The last two columns are
those of `sm.attack` of the first {whole_examples} images, which searches, settles the
points, screens and certifies them. A point of ours counts if the model gets it wrong
when asked again, ties as errors. *gradients* and *forwards* are rows evaluated with and
without gradient, counted at the model. *only … breaks*: test images by number. Allowed:
one image more in a setting, none in the sum, a fifth of AutoAttack's gradients and of
its time.""",
    "equal": """### Against APGD-CE and APGD-T at equal evaluations

The first two parts of the same runs of AutoAttack, beside `sm.search` at thorough
effort within a budget.""",
    "loss": """### Loss at equal evaluations

Mean cross-entropy at the points returned, of the first {loss_mlp} (MLP) or {loss_conv}
(conv) test images, by us, in float64, on the region (points that miss it by float32's
rounding are projected).
No attack stops at success. Ours: `sm.search(problem, budget=gradients)`, and one run of
`AutoPGD` from the centre. Peers: PGD with as many constant steps of 2.5 · radius /
steps (APGD with its own, and one evaluation more), each from a random point and from
the centre: the better of the two counts. Bold: at or above all of them.""",
    "bracket": """### Brackets

*found*: by `sm.search` at standard effort; no point of the ball has a loss above the
*proved upper bound* (`sm.upper_bound`, float64, rounding included): the first
{bracket_examples} digits, two layers. The same of robust accuracy, by `sm.attack`.
Below, margins (max_{{k≠y}} z_k - z_y, broken from 0 on) of the first {exact_examples}
digits beside `sm.global_maximum(method="milp")`, at most 20 s per image: NUMERICAL, up
to a solver's tolerances. For networks of more than two layers, as those on MNIST above,
no bound is known here.""",
    "ablation": """### What each part buys

`sm.search` until misclassified, with parts left out. *mean margin*: of max_{{k≠y}} z_k
- z_y at the strongest point, over the images that no search of the setting broke;
higher is stronger.""",
}
PARTS: dict[str, Callable[[Plan], str]] = {
    "accuracy": accuracy,
    "equal": equal,
    "loss": loss,
    "bracket": bracket,
    "ablation": ablation,
}


def progress(text: str) -> None:
    """On the error channel; the page alone goes to the output."""
    print(text, file=sys.stderr, flush=True)


def section(name: str, plan: Plan) -> str:
    """Heading, explanation and tables of one part."""
    told = TEXTS[name].format(
        examples=plan.examples(EXAMPLES),
        loss_mlp=plan.examples(LOSS_EXAMPLES["mlp"]),
        loss_conv=plan.examples(LOSS_EXAMPLES["conv"]),
        bracket_examples=plan.examples(BRACKET_EXAMPLES),
        exact_examples=plan.examples(EXACT_EXAMPLES),
        whole_examples=plan.examples(WHOLE_EXAMPLES),
        auto_attack=auto_attack_version(),
    )
    return f"{told}\n\n{PARTS[name](plan)}\n"


def introduction() -> str:
    """Machine, versions, command."""
    names = ["summiteer", "torch", "foolbox", "torchattacks", "ART"]
    versions = [f"{name} {version_of(name) or 'not installed'}" for name in names]
    versions.append(f"pyautoattack {auto_attack_version()}")
    return f"""{STRENGTH}

Written by `python -m benchmarks.strength --write`, part by part (`… accuracy --write`),
one thread, one process, seconds of processor time: {machine()};
{", ".join(versions)}.
Peers' results are kept by the digest of model, data and settings; `--peers` computes
what is not kept. A search takes its neighbours from the images that are attacked with
it. The networks are those of `benchmarks/mnist_networks.py`: an MLP 784-256-256-10 and
a small convolutional net, each trained normally and against PGD (L∞ 0.1), float32, box
[0, 1].
"""


def merged(page: str, head: str, made: dict[str, str]) -> str:
    """A page whose sections that were made anew replace the old ones.

    Args:
        page: the page as it is; everything before the heading stays.
        head: the heading and what follows it.
        made: sections by name.
    """
    before, _, old = page.partition(STRENGTH)
    kept = {
        text.partition("\n")[0]: text
        for text in re.split(r"^(?=### )", old, flags=re.MULTILINE)[1:]
    }
    parts = []
    for name, told in TEXTS.items():
        text = made.get(name) or kept.get(told.partition("\n")[0])
        if text:
            parts.append(text.rstrip() + "\n")
    return "\n".join([before.rstrip() + "\n", head, *parts]).lstrip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--quick", action="store_true", help="a few images")
    parser.add_argument("--peers", action="store_true", help="run what is not kept")
    parser.add_argument("--networks", nargs="+", default=["mlp", "conv"])
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore", sm.SummiteerWarning)
    torch.set_num_threads(1)
    plan = Plan(options.peers, options.quick, tuple(options.networks))
    made = {name: section(name, plan) for name in options.parts or PARTS}
    print(merged("", introduction(), made))
    if options.write:
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(merged(page, introduction(), made), encoding="utf-8")


if __name__ == "__main__":
    main()
