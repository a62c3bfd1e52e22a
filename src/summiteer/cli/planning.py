"""`summiteer attack --plan`: a pilot run in the attack's place."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from summiteer.cli.options import check_least, check_share
from summiteer.cli.running import progress, say
from summiteer.cli.source import Source
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.planning import Plan, Setting

#: Options that a plan chooses, or that have no meaning before there is an attack.
_REFUSED = {
    "claim": "a property is one example, and a plan needs a sample of many",
    "effort": "a plan tries both efforts",
    "rivals": "a plan tries the search, which has them",
    "step_size": "a plan tries the usual one",
    "until": "a plan measures how high the loss gets, and this stops short of it",
    "explain": "a plan certifies nothing",
    "require": "a plan certifies nothing",
    "workers": "a plan runs in this process",
    "scheduler": "a plan runs in this process",
}
#: Options of the plan itself, or that its answer takes the place of.
_DROPPED = (
    *("plan", "plan_share", "plan_examples", "out", "as_json"),
    *("adversary", "steps", "restarts"),
    "neighbours",  # which only a search asks for
)
#: Examples among which those of the sample are looked for, in sizes of the sample.
_LOOKED_AT = 8


@dataclass(frozen=True)
class Pilot:
    """What is asked of a plan.

    Attributes:
        share: of the gain.
        examples: of the sample.
        steps: longest run that is tried; None for the usual one.
        restarts: that are tried at most; None for the usual number.
        adversary: the only one that is tried; None for all methods.
        words: MODEL, DATA and the options that an attack is given too.
        neighbours: --neighbours, which a search is given too.
    """

    share: float
    examples: int
    steps: int | None
    restarts: int | None
    adversary: str | None
    words: tuple[str, ...]
    neighbours: str | None

    def command_line(self, choice: "Setting") -> str:
        """What attacks as the plan says.

        Args:
            choice: the plan's.
        """
        words = ["summiteer", "attack", *self.words]
        if self.neighbours is not None and choice.steps is None:
            words += ["--neighbours", self.neighbours]
        return shlex.join([*words, *choice.arguments])


def pilot_of(context: typer.Context) -> Pilot | None:
    """What --plan asks for; None without it.

    Args:
        context: of `attack`.
    """
    values = context.params
    share, examples = values["plan_share"], values["plan_examples"]
    if not values["plan"]:
        given = "--plan-share" if share is not None else "--plan-examples"
        if share is not None or examples is not None:
            raise UserError(f"{given}: says what --plan does; add --plan.")
        return None
    for name, why in _REFUSED.items():
        if _given(context, name):
            raise UserError(f"{_option(context, name)}: {why}; leave it out.")
    if share is not None:
        check_share("--plan-share", share)
    check_least("--plan-examples", examples, 2)
    check_least("--steps", values["steps"], 1)
    return Pilot(
        0.99 if share is None else share,
        64 if examples is None else examples,
        values["steps"],
        values["restarts"],
        values["adversary"],
        _words(context),
        values["neighbours"],
    )


def run_pilot(pilot: Pilot, source: Source, out: Path | None, as_json: bool) -> None:
    """Plan, print it, and write plan.json where there is an --out.

    Args:
        pilot: what is asked for.
        source: what is to be attacked.
        out: --out.
        as_json: --json.
    """
    from summiteer.planning import plan
    from summiteer.report.plan_text import plan_document, print_plan
    from summiteer.screen import drawn
    from summiteer.summary import objective_name, region_record

    population, settings = source.population, source.settings
    few = drawn(population.ids, settings.seed, _LOOKED_AT * pilot.examples)
    problem = population.part(few)
    for message in source.messages:
        say(f"! {message}", as_json)
    limits = {"max_steps": pilot.steps, "restarts": pilot.restarts}
    with progress("planning", as_json, kept=False) as report:
        made: Plan = plan(
            problem,
            pilot.share,
            methods=None if pilot.adversary is None else (pilot.adversary,),
            examples=pilot.examples,
            seed=settings.seed,
            report=report,
            **{name: value for name, value in limits.items() if value is not None},
        )
    made = replace(made, total=len(population))
    command_line = pilot.command_line(made.choice)
    about = {
        **source.names,
        "region": region_record(settings, problem),
        "objective": objective_name(problem.objective),
    }
    document = plan_document(made, about, command_line)
    text = json.dumps(document, indent=2, allow_nan=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "plan.json").write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        print_plan(made, command_line, problem.labelled)


def _words(context: typer.Context) -> tuple[str, ...]:
    """MODEL, DATA and the options that were given, but for `_DROPPED`."""
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in _DROPPED or not _given(context, name):
            continue
        value = context.params[name]
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is True:
            words.append(parameter.opts[0])
        else:
            words += [parameter.opts[0], _said(value)]
    return tuple(words)


def _said(value: Any) -> str:
    """A value as a user would write it: 8/255, not 0.03137254901960784."""
    if not isinstance(value, float):
        return str(value)
    near = Fraction(value).limit_denominator(1000)
    texts: Sequence[str] = [repr(value)]
    if near.numerator / near.denominator == value:
        texts = [*texts, str(near)]
    return min(texts, key=len)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(context: typer.Context, name: str) -> str:
    (parameter,) = (p for p in context.command.params if p.name == name)
    return parameter.opts[0]
