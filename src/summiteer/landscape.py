"""Distinct maxima among the end points of many runs."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from summiteer import tolerances
from summiteer.errors import UserError


@dataclass(frozen=True, eq=False)
class Maxima:
    """End points grouped into distinct maxima, by distance (not by proof).

    Attributes:
        label: `[restarts, batch]` number of the maximum each run ended in, from 0
            within each example in order of first appearance; -1 where not counted.
        count: `[batch]` distinct maxima per example.
        unseen: `[batch]` Good-Turing estimate of the probability that one more run
            ends in a maximum not seen yet: (maxima seen once)/(runs counted); NaN
            where no run is counted.
    """

    label: Tensor
    count: Tensor
    unseen: Tensor


def distinct_maxima(
    points: Tensor,
    size: Tensor,
    counted: Tensor | None = None,
    threshold: float = tolerances.SAME_MAXIMUM,
) -> Maxima:
    """Group end points by single linkage: same if nearer than `threshold` radii.

    Args:
        points: `[restarts, batch, *input]`.
        size: `[batch]` radii.
        counted: `[restarts, batch]` bool, which runs to count (those that reached a
            maximum); all if None.
        threshold: in radii.

    Returns:
        Labels and counts; Good's 1953 estimate (`good1953population`) of what is
        unseen.

    Raises:
        UserError: shapes do not fit.
    """
    if points.ndim < 3 or size.shape != points.shape[1:2]:
        raise UserError(
            "points: expected [restarts, batch, *input] with one size per example, got "
            f"{list(points.shape)} and sizes {list(size.shape)}."
        )
    restarts, batch = points.shape[:2]
    if counted is None:
        counted = torch.ones(restarts, batch, dtype=torch.bool)
    if counted.shape != points.shape[:2]:
        raise UserError(
            f"counted: expected [restarts, batch] = {[restarts, batch]}, got "
            f"{list(counted.shape)}."
        )
    flat = points.detach().cpu().double().flatten(2).transpose(0, 1)
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    near = apart <= threshold * size.cpu().double()[:, None, None]
    keep = counted.cpu().T
    near = near & keep[:, :, None] & keep[:, None, :]
    example, left, right = (index.numpy() for index in near.nonzero(as_tuple=True))
    nodes = restarts * batch
    graph = coo_matrix(
        (np.ones(len(left)), (example * restarts + left, example * restarts + right)),
        shape=(nodes, nodes),
    )
    _, component = connected_components(graph, directed=False)
    label = torch.full((restarts, batch), -1)
    count = torch.zeros(batch, dtype=torch.int64)
    unseen = torch.full((batch,), torch.nan, dtype=torch.float64)
    for i in range(batch):
        used = keep[i].numpy()
        own = component[i * restarts : (i + 1) * restarts][used]
        if not len(own):
            continue
        _, first, group, sizes = np.unique(
            own, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(np.argsort(first))
        label[torch.from_numpy(used), i] = torch.from_numpy(order[group])
        count[i] = len(sizes)
        unseen[i] = float((sizes == 1).sum()) / len(own)
    return Maxima(label, count, unseen)
