"""MODEL and DATA as the user named them: one checked problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import typer

from summiteer.cli.options import (
    NORMS,
    check_choice,
    check_positive,
    objective_of,
    region_of,
)
from summiteer.errors import UserError, collected_warnings


@dataclass(frozen=True)
class Network:
    """MODEL with its options."""

    source: str
    weights: str | None = None
    mean: str | None = None
    std: str | None = None

    def load(self) -> tuple[Any, tuple[int, ...] | None]:
        """The model, and the shape of its inputs where its file says so."""
        from summiteer import data as files

        if self.source.endswith(".onnx") and self.weights is None:
            read = files.load_onnx(self.source)
            return read.module, read.input_shape
        return files.load_model(self.source, self.weights), None


class Source(NamedTuple):
    """What is attacked or audited, and how the user named it."""

    problem: Any
    settings: Any
    messages: list[str]
    notes: list[str]
    names: dict[str, str]
    #: Which of the file's examples they are.
    ids: Any = None
    #: result.json's content and the store -> what is added for a property.
    judge: Callable[[dict[str, Any], Any], dict[str, Any]] | None = None


def check_source(claim: str | None, own: dict[str, Any]) -> None:
    """DATA with its options, or --property, which has its own region."""
    if claim is None:
        for name, metavar in (("DATA", "DATA"), ("--radius", "--radius R")):
            if own[name] is None:
                raise typer.BadParameter(
                    f"give {metavar}, or --property FILE.", param_hint=name
                )
        check_positive("--radius", own["--radius"])
        own["--norm"] = (own["--norm"] or NORMS[0]).lower()
        check_choice("--norm", own["--norm"], NORMS)
        return
    given = [name for name, value in own.items() if value is not None]
    if given:
        raise UserError(
            f"--property: says itself what {given[0]} would say; give one of the two."
        )


def from_data(
    network: Network,
    own: dict[str, Any],
    skip_bad: bool,
    settings_of: Callable[..., Any],
) -> Source:
    """The problem of DATA in a ball.

    Args:
        network: MODEL.
        own: the options that say what DATA and region are, by name.
        skip_bad: whether to leave out examples with NaN or infinity.
        settings_of: (region, box, objective) -> `Settings`.
    """
    import torch

    from summiteer import data as files
    from summiteer import examination
    from summiteer.problem import model_dtype

    region = region_of(own["--norm"], own["--radius"])
    loss = objective_of(own["--objective"])
    model, shape = network.load()
    dataset = files.load_data(own["DATA"])
    dtype = model_dtype(model) or torch.float32
    inputs, targets, ids, notes = files.examples(
        dataset, dtype, own["--limit"], skip_bad, shape
    )
    limits = files.box_of(own["--box"], inputs)
    if own["--box"] is None:
        notes.append(files.box_note(limits, inputs))
    settings = settings_of(region=region, box=limits, objective=loss)
    with collected_warnings() as messages:
        problem = examination.problem_of(model, inputs, targets, settings, ids)
        problem.examine()
    names = {"model": network.source, "data": own["DATA"]}
    return Source(problem, settings, messages, notes, names, ids)


def from_property(
    network: Network, claim: str, settings_of: Callable[..., Any]
) -> Source:
    """The problem of violating a property.

    Args:
        network: MODEL.
        claim: the property's file.
        settings_of: (region, objective) -> `Settings`.
    """
    from summiteer import runs, violation
    from summiteer.data import load_property

    read = load_property(claim)
    model, shape = network.load()
    with collected_warnings() as messages:
        problem = violation.property_problem(model, read, shape)
        problem.examine()
    settings = settings_of(region=problem.region, objective=problem.objective)
    names = {"model": network.source, **runs.property_names(read)}

    def judge(result: dict[str, Any], store: Any) -> dict[str, Any]:
        return runs.judge_property(result, model, read, problem, store)

    return Source(problem, settings, messages, [], names, problem.ids, judge)
