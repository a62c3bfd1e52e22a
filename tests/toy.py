"""An experiment of a user's own, for the tests of studies."""

import os

import torch
from pydantic import Field, model_validator

import summiteer as sm


class ToyParameters(sm.Parameters):
    """A number and what is done with it."""

    kind: str = "plain"
    number: float = Field(1.0, gt=0)
    count: int = 2
    broken: bool = False

    @model_validator(mode="after")
    def fit(self):
        if self.count > 10 * self.number:
            raise ValueError("count must be at most ten times number")
        return self


def measure(parameters):
    """Powers of the number; broken cells fail while TOY_BROKEN says so."""
    if parameters.broken and os.environ.get("TOY_BROKEN"):
        raise RuntimeError(f"broken at {parameters.number}")
    powers = parameters.number ** torch.arange(parameters.count).double()
    record = {
        "sum": float(powers.sum()) + parameters.seed,
        "number": "ten" if parameters.number == 10 else None,
        "of": {"first": 1.0, "all": [float(power) for power in powers]},
    }
    return sm.Measurement(record, {"powers": powers})


TOY = sm.Experiment("toy", ToyParameters, measure, "powers of a number")
