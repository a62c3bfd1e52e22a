"""MODEL and DATA as the user named them: one checked problem."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import typer

from summiteer.cli.options import (
    NORMS,
    OBJECTIVES,
    box_of,
    check_choice,
    check_device,
    check_least,
    check_positive,
    numbers,
    objective_of,
    region_of,
)
from summiteer.errors import ForwardPassError, UserError, collected_warnings


@dataclass(frozen=True)
class Network:
    """MODEL with its options."""

    source: str
    weights: str | None = None
    mean: str | None = None
    std: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """What can be said before anything is loaded."""
        check_device(self.device)
        for option, text in (("--mean", self.mean), ("--std", self.std)):
            values = numbers(option, text)
            if option == "--std" and values and min(values) <= 0:
                raise UserError(f"--std: expected numbers > 0, got {text!r}.")

    def load(self) -> tuple[Any, tuple[int, ...] | None, list[str]]:
        """The model, the shape of its inputs where its file says so, and notes."""
        from summiteer import data as files

        notes: list[str] = []
        shape = None
        if self.source.endswith(".onnx") and self.weights is None:
            read = files.load_onnx(self.source)
            model, shape = read.module, read.input_shape
        else:
            with collected_warnings() as messages:
                model = files.load_model(self.source, self.weights)
            notes += messages
        if (self.mean is None) != (self.std is None):
            given, lacks = ("--mean", "--std")[:: 1 if self.std is None else -1]
            applied = f"(x - {self.mean or 0})/{self.std or 1}"
            notes.append(f"{given} without {lacks}: the model is given {applied}")
        model = self._standardised(model, shape)
        if self.device != "cpu" and hasattr(model, "to"):
            model = model.to(self.device)
        return model, shape, notes

    def check_channels(self, shape: tuple[int, ...]) -> None:
        """Refuse --mean and --std that are no numbers for these channels.

        Args:
            shape: of one input.
        """
        for option, text in (("--mean", self.mean), ("--std", self.std)):
            count = len(numbers(option, text) or ())
            if count < 2 or shape[0] == count:
                continue
            last = ", the last here: permute the axes" * (shape[-1] == count)
            raise UserError(
                f"{option}: {count} numbers for inputs {list(shape)} of DATA; give one "
                f"number, or one per channel (the first dimension{last})."
            )

    def _standardised(self, model: Any, shape: tuple[int, ...] | None) -> Any:
        """The model behind --mean and --std."""
        if self.mean is None and self.std is None:
            return model
        import torch
        from torch import nn

        from summiteer.networks import Standardise
        from summiteer.precision import model_dtype

        if not isinstance(model, nn.Module):
            raise UserError(
                f"--mean, --std: MODEL must be an nn.Module to stand behind them, got "
                f"{type(model).__name__}; normalise inside of it."
            )
        mean = numbers("--mean", self.mean) or [0.0]
        std = numbers("--std", self.std) or [1.0]
        first = Standardise(mean, std, model_dtype(model) or torch.float32)
        if shape is not None:
            first.constants(shape)
        whole = nn.Sequential(first, model)
        # In the mode that the model came in, which the problem asks about.
        whole.training = first.training = model.training
        return whole


class Source(NamedTuple):
    """What is attacked or audited, and how the user named it."""

    #: All examples, of which some at a time are in memory.
    population: Any
    settings: Any
    messages: list[str]
    notes: list[str]
    names: dict[str, str]
    #: How many examples the data have, chosen or not.
    total: int = 0
    #: result.json's content and the store -> what is added for a property.
    judge: Callable[[dict[str, Any], Any], dict[str, Any]] | None = None
    #: Which of MODEL's outputs a property's problem has, in order; None for all.
    classes: list[int] | None = None

    @property
    def problem(self) -> Any:
        """Of the first examples: model, objective, dtype and device of all."""
        return self.population.head


def check_source(claim: str | None, own: dict[str, Any], other: str = "") -> None:
    """DATA with its options, or --property, which has its own region.

    Args:
        claim: the property's file.
        own: the options that say what DATA and region are, by name.
        other: what may be given in their place, in words.
    """
    if claim is None:
        for name, metavar in (("DATA", "DATA"), ("--radius", "--radius R")):
            if own[name] is None:
                raise typer.BadParameter(f"give {metavar}{other}.", param_hint=name)
        check_positive("--radius", own["--radius"])
        own["--norm"] = (own["--norm"] or NORMS[0]).lower()
        check_choice("--norm", own["--norm"], NORMS)
        box_of(own["--box"])
        check_choice("--objective", own["--objective"], (None, *OBJECTIVES))
        check_least("--limit", own["--limit"], 1)
        tolerance = own["--tolerance"]
        if tolerance is not None and not 0 <= tolerance < float("inf"):
            raise UserError(
                f"--tolerance: expected a finite number ≥ 0, got {tolerance:g}."
            )
        return
    given = [name for name, value in own.items() if value is not None]
    if given:
        raise UserError(
            f"--property: says itself what {given[0]} would say; give one of the two."
        )


def check_fits(problem: Any, tolerance: float | None, rivals: int) -> None:
    """Refuse options that mean nothing for this problem."""
    regression = type(problem.objective).__name__ == "Quadratic"
    if tolerance is not None and not regression:
        raise UserError(
            "--tolerance: only for regression (objective quadratic), and the targets "
            "are labels."
        )
    if not rivals:
        return
    from summiteer._caller import undisturbed

    with undisturbed(problem.model):
        outputs = tuple(problem.probe().shape)
    if not problem.labelled or len(outputs) != 2 or outputs[1] < 2:
        raise UserError(
            "--rivals: only for classification with one output per class; leave it out."
        )
    if rivals > outputs[1] - 1:
        raise UserError(
            f"--rivals: expected at most {outputs[1] - 1}, the number of other "
            f"classes, got {rivals}."
        )


def from_data(
    network: Network,
    own: dict[str, Any],
    skip_bad: bool,
    settings_of: Callable[..., Any],
) -> Source:
    """The examples of DATA in a ball, looked at once.

    Args:
        network: MODEL.
        own: the options that say what DATA and region are, by name.
        skip_bad: whether to leave out examples with NaN or infinity.
        settings_of: (region, box, objective, mask) -> `Settings`.
    """
    import torch

    from summiteer import data as files
    from summiteer.inputs import refuse_bad, refuse_outside
    from summiteer.population import population_of
    from summiteer.precision import model_dtype

    region = region_of(own["--norm"], own["--radius"])
    loss = objective_of(own["--objective"])
    model, shape, said = network.load()
    streamed = files.open_data(own["DATA"])
    dtype = model_dtype(model) or torch.float32
    box = box_of(own["--box"])
    found = files.examples(
        streamed, dtype, own["--limit"], skip_bad, shape, box, _on_stderr
    )
    refuse_bad(found.bad)
    network.check_channels(found.inputs.row)
    notes = said + found.notes
    if own["--box"] is None:
        box, note = files.found_box(found.low, found.high)
        notes.append(note)
    elif box is not None:
        refuse_outside(found.outside, box, (found.low, found.high))
    named = own.get("--mask")
    mask = files.open_mask(named, found.inputs.row, found.ids) if named else None
    own_mask = mask if isinstance(mask, torch.Tensor) else None
    settings = settings_of(region=region, box=box, objective=loss, mask=own_mask)
    with collected_warnings() as messages, _fitting(found.inputs.row):
        population = population_of(model, found, settings, mask, network.device)
        population.head.examine(warn=not settings.screened)
    names = {"model": network.source, "data": own["DATA"]}
    return Source(population, settings, messages, notes, names, len(streamed.inputs))


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _fitting(shape: tuple[int, ...]) -> Iterator[None]:
    """Name DATA too where the model does not take what is in it."""
    try:
        yield
    except ForwardPassError as error:
        images = " (images: channels first)" * (len(shape) == 3)
        why = (str(error.__cause__).splitlines() or [""])[0].rstrip(".;")
        raise UserError(
            f"DATA, MODEL: the forward pass on inputs of shape {list(shape)} failed: "
            f"{why}; give inputs of the shape that the model takes{images}."
        ) from error


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
    from summiteer.population import Population

    if network.device != "cpu":
        raise UserError("--device: a --property is decided on the CPU; leave it out.")
    read = load_property(claim)
    model, shape, notes = network.load()
    with collected_warnings() as messages:
        problem = violation.property_problem(model, read, shape)
        problem.examine()
    # A property says itself what data it means: there is nothing to screen.
    settings = settings_of(
        region=problem.region, objective=problem.objective, screened=False
    )
    names = {"model": network.source, **runs.property_names(read)}

    def judge(result: dict[str, Any], store: Any) -> dict[str, Any]:
        return runs.judge_property(result, model, read, problem, store)

    population = Population.of(problem)
    some = len(read.rivals) < read.outputs - 1
    classes = [read.label, *read.rivals] if some else None
    return Source(
        population, settings, messages, notes, names, judge=judge, classes=classes
    )
