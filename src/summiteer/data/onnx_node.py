"""One operator of an .onnx file, and what is wrong with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from summiteer.errors import UserError

#: In one example: a file may claim any size.
MOST_NUMBERS = 2**24


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of a graph.

    Attributes:
        path: of the file, for messages.
        kind: the operator.
        name: the node's, or its output's.
        attributes: as stored.
        constants: the inputs that are constants, by position.
        inputs: names, empty where an optional one is left out.
        output: name of the result.
        batch: the first dimension of the graph's input, 0 if free.
        opset: version of the operator set.
    """

    path: Path
    kind: str
    name: str
    attributes: Mapping[str, Any]
    constants: Mapping[int, Tensor]
    inputs: tuple[str, ...]
    output: str
    batch: int
    opset: int = 15

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.inputs) and bool(self.inputs[position])


def refuse(node: Node, reason: str) -> NoReturn:
    """Say what is wrong with a node.

    Args:
        node: which.
        reason: what was expected, or what came.

    Raises:
        UserError: always.
    """
    raise UserError(f"MODEL: {node.path}, {node.kind} (node {node.name!r}): {reason}.")


def check_size(node: Node, sizes: Sequence[int]) -> None:
    """Refuse a value that no computer of today could hold for many examples.

    Args:
        node: that makes it.
        sizes: of one example.
    """
    if math.prod(sizes) > MOST_NUMBERS:
        refuse(node, f"{list(sizes)}: more than {MOST_NUMBERS} numbers in one example")
