"""What two-layer studies look at: images or Gaussian inputs of norm c, targets ±1."""

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from summiteer.cells import digest_arrays
from summiteer.data import load_data
from summiteer.draws import Draws
from summiteer.errors import UserError

#: Names the folder that holds other folders of data, such as `mnist`.
VARIABLE, USUAL = "SUMMITEER_DATA", "../shared/data"
#: Labels from here on have the target +1.
_HALF = 5


def mnist_folder() -> Path:
    """Where the idx files of MNIST are looked for."""
    return Path(os.environ.get(VARIABLE) or USUAL) / "mnist"


def mnist_digest() -> str | None:
    """The digest of MNIST's test images and labels; None where they are not."""
    folder = mnist_folder()
    return _loaded(str(folder))[2] if folder.is_dir() else None


def images(source: str, digest: str = "") -> tuple[Tensor, Tensor]:
    """Images and their labels, as `load_data` gives them.

    Args:
        source: "digits", or "mnist" for MNIST's test images.
        digest: that MNIST's must have.

    Raises:
        UserError: the images are not there, or are others.
    """
    if source != "mnist":
        return _loaded(source)[:2]
    folder, found = mnist_folder(), mnist_digest()
    if found != digest:
        raise UserError(
            f"digest: expected MNIST's test images to be {digest!r}, got {found!r} in "
            f"{folder}; set {VARIABLE} to the folder that holds the right ones."
        )
    return _loaded(str(folder))[:2]


def signed_examples(
    data: str, index: Tensor, dimension: int = 64, digest: str = ""
) -> tuple[Tensor, Tensor]:
    """Inputs of norm 1 and targets ±1, float64.

    Args:
        data: "digits" (8×8), "mnist" (test images) or "gaussian", directions that are
            uniform on the sphere, with a fair coin for the target.
        index: `[n]` which examples, modulo how many there are.
        dimension: of Gaussian inputs.
        digest: that the images must have, where they come from files.

    Returns:
        `[n, d]` and `[n]`; +1 where a label is 5 or more.

    Raises:
        UserError: the images are not there, or are others.
    """
    if data == "gaussian":
        draws = Draws(0, index, torch.zeros_like(index))
        inputs = draws.normal(dimension)
        high = draws.on(1).uniform(1)[:, 0] < 0.5
    else:
        found, labels = images(data, digest)
        index = index % len(found)
        inputs, high = found[index].flatten(1).double(), labels[index] >= _HALF
    norm = inputs.norm(dim=1, keepdim=True)
    return inputs / norm, torch.where(high, 1.0, -1.0).double()


@cache
def _loaded(source: str) -> tuple[Tensor, Tensor, str]:
    found = load_data(source)
    arrays = {"inputs": found.inputs, "targets": found.targets}
    return found.inputs, found.targets, digest_arrays(arrays)
