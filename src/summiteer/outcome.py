"""Why a run stopped."""

from enum import Enum

import numpy as np
import torch
from torch import Tensor


class Outcome(Enum):
    """Why one run (restart, example) stopped; the text says what to do next."""

    STATIONARY = "the first-order residual is below its tolerance"
    SUCCEEDED = "misclassified, and success was asked for (until=Misclassified())"
    STEP_LIMIT = (
        "its steps ran out before it was stationary: more steps; at kinks (ReLU), "
        "where they change nothing, sm.polish"
    )
    STALLED = (
        "no step moves the point any more (or, where patience was given, its best "
        "objective does not rise any more) but the residual is not small: a kink "
        "(ReLU), a step rule that is too coarse, or the limit of the dtype"
    )
    CYCLE = (
        "the iterates repeat exactly, so more steps change nothing: use a smaller step "
        '(after_cycle="refine" does)'
    )
    NON_FINITE = (
        "the loss or its gradient became NaN or infinite; the last finite point is kept"
    )
    ZERO_GRADIENT = (
        "the gradient is exactly zero here, at the centre and at the "
        "boundary: gradient masking, or the output does not depend on the input"
    )

    @property
    def code(self) -> int:
        """The number that files and tensors use."""
        return _CODES[self]


_CODES = {outcome: code for code, outcome in enumerate(Outcome)}
_BY_CODE = np.array(list(Outcome), dtype=object)


def outcomes(codes: Tensor) -> np.ndarray:
    """Return an object array of `Outcome` from an integer tensor of codes."""
    return np.asarray(_BY_CODE[codes.cpu().numpy()])


def codes(outcomes: np.ndarray) -> Tensor:
    """Return an int8 tensor of codes from an object array of `Outcome`."""
    numbers = [outcome.code for outcome in outcomes.flat]
    return torch.tensor(numbers, dtype=torch.int8).reshape(outcomes.shape)
