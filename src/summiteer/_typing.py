"""Names for the shapes that recur in signatures.

`Rows` are the (restart, example) pairs that a batch holds, flattened: a tensor
`[rows, *input]` carries one point, gradient or direction per row.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

#: `[rows, *input]` -> `[rows]` or `[rows, K]`.
Model: TypeAlias = Callable[[Tensor], Tensor]

#: A number for all examples, or one per example `[batch]`.
PerExample: TypeAlias = float | Tensor
