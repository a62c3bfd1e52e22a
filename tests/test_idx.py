"""Folders of idx files: what is written is read, and what is not one is refused."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from summiteer.data import load_data
from summiteer.errors import UserError

SHARED = Path(
    os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared" / "data")
)
MNIST = SHARED / "mnist"


def idx(array):
    """The bytes of an idx file, by the format's own words."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("t10k", 5), ("train", 7)):
        pixels = rng.integers(0, 256, (count, 3, 4))
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels))
        labels = gzip.compress(idx(np.arange(count)))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(labels)
    return tmp_path


def test_a_folder_is_its_test_split_unless_another_is_named(folder):
    assert len(load_data(str(folder)).inputs) == 5
    assert len(load_data(f"{folder}:t10k").inputs) == 5
    assert len(load_data(f"{folder}:train").inputs) == 7


def test_inputs_are_images_of_pixels_over_255(folder):
    data = load_data(str(folder))
    raw = (folder / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert data.inputs.shape == (5, 1, 3, 4)
    assert data.inputs.dtype == torch.float32
    wanted = np.frombuffer(raw, np.uint8).astype(np.float32) / np.float32(255)
    assert np.array_equal(data.inputs.flatten().numpy(), wanted)
    assert data.targets.tolist() == [0, 1, 2, 3, 4]
    assert data.targets.dtype == torch.int64


def test_names_with_a_dot_are_found_too(folder):
    for kind in ("images-idx3", "labels-idx1"):
        for file in folder.glob(f"t10k-{kind}*"):
            file.rename(folder / file.name.replace("-idx", ".idx"))
    assert len(load_data(str(folder)).inputs) == 5


PIXELS = idx(np.zeros((5, 3, 4)))
BAD = {
    "truncated": (PIXELS[:-1], "is truncated: of the 60 bytes .* it has 59"),
    "longer": (PIXELS + b"x", "has more than the 60 bytes"),
    "empty": (b"", "got nothing"),
    "half a header": (PIXELS[:9], "9 bytes of header"),
    "labels": (
        idx(np.zeros(60)),
        "in 3 dimensions: expected .* 00000803, got 00000801",
    ),
    "floats": (b"\0\0\x0d\x03" + PIXELS[4:], "unsigned bytes .* got 00000d03"),
    "another count": (idx(np.zeros((4, 3, 4))), "4 t10k images but 5 labels"),
    "a huge claim": (PIXELS[:4] + b"\xff" * 12, "claims the shape"),
    "a large claim": (PIXELS[:4] + struct.pack(">3I", 2**20, 2**6, 2**6), "truncated"),
    "no images": (idx(np.zeros((0, 3, 4))), "at least one example"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_idx_file_is_refused_and_named(case, folder):
    content, text = BAD[case]
    (folder / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=text) as caught:
        load_data(str(folder))
    assert str(folder) in str(caught.value)


def test_a_broken_gzip_file_is_refused_and_named(folder):
    file = folder / "t10k-labels-idx1-ubyte.gz"
    whole = file.read_bytes()
    for content in (whole[:-9], b"plain", whole[:-8] + bytes(4) + whole[-4:]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz cannot be"):
            load_data(str(folder))


def test_a_folder_without_the_files_says_which(tmp_path, folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="without train-labels-idx1-ubyte or"):
        load_data(f"{folder}:train")
    with pytest.raises(UserError, match="does not exist"):
        load_data(str(tmp_path / "nowhere:train"))


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"{MNIST} is absent")
def test_mnist_gives_back_the_bytes_of_its_files():
    data = load_data(str(MNIST))
    assert data.inputs.shape == (10000, 1, 28, 28)
    assert data.targets.bincount().tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    ]
    pixels = (data.inputs[:, 0] * 255).round().numpy()
    sums = [hashlib.md5(idx(a)).hexdigest() for a in (pixels, data.targets.numpy())]
    assert sums == [
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
