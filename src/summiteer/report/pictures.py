"""Small images in tables: an input, what was added to it, and the sum."""

import base64
import struct
import zlib

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from summiteer.report.document import Picture

#: Pixels along a side at most; larger images are averaged down.
LARGEST = 64
#: A flat input of at least so many numbers that are a square is taken for an image.
_SMALLEST = 8


def image_of(values: Tensor) -> Tensor | None:
    """One input as an image `[1 or 3, h, w]`; None where it is none that is known.

    Known are `[1, h, w]`, `[3, h, w]` and flat squares from 8x8 on.

    Args:
        values: `[*input]`.
    """
    if values.ndim == 3 and values.shape[0] in (1, 3) and min(values.shape[1:]) > 1:
        return values
    side = round(values.numel() ** 0.5)
    if values.ndim == 1 and side >= _SMALLEST and side * side == len(values):
        return values.reshape(1, side, side)
    return None


def picture(image: Tensor, low: float, high: float, words: str) -> Picture:
    """An image between two ends of a grey or colour scale.

    Args:
        image: `[1 or 3, h, w]`; what is not finite is shown as `low`.
        low: shown as 0, as is everything below.
        high: shown as 255, as is everything above.
        words: what it is.
    """
    values = ((image.double() - low) / max(high - low, 1e-300)).nan_to_num(0.0, 1.0)
    if max(image.shape[1:]) > LARGEST:
        scale = LARGEST / max(image.shape[1:])
        height, width = (max(1, round(scale * side)) for side in image.shape[1:])
        values = adaptive_avg_pool2d(values, (height, width))
    pixels = (255 * values.clamp(0, 1)).round().to(torch.uint8)
    source = base64.b64encode(png(pixels)).decode()
    return Picture(f"data:image/png;base64,{source}", words)


def png(pixels: Tensor) -> bytes:
    """A PNG file.

    Args:
        pixels: uint8 `[1 or 3, h, w]`, grey or red, green, blue.
    """
    channels, height, width = pixels.shape
    lines = pixels.permute(1, 2, 0).reshape(height, width * channels)
    # Each line begins with the number of its filter: 0, none.
    lines = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), lines], 1)
    kind = 2 if channels == 3 else 0
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = (
        (b"IHDR", head),
        (b"IDAT", zlib.compress(lines.contiguous().numpy().tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check
