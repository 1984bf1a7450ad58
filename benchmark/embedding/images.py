"""From a file to pixels at model-input size: the CPU's part of embedding."""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmark.errors import IcmBenchError
from benchmark.storage import reason

Geometry = Callable[[Image.Image], Image.Image]


class UnreadableImage(Exception):
    """A file that is no readable image; the message is the reason."""


def read_image(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Return the image, upright and RGB, after resize and crop: uint8, shape (height, width, 3).

    Raises:
        IcmBenchError: the file cannot be opened (which says nothing of the image).
        UnreadableImage: damaged, not an image, or larger than Pillow's bound on pixels.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IcmBenchError(f"{path} cannot be read ({reason(error)}); is its disk there?") from error
    return decode_image(content, path.name, geometry)


def decode_image(content: bytes, name: str, geometry: Geometry) -> NDArray[np.uint8]:
    """Return the encoded image `content` as `read_image` does; `name` is for the reason if it cannot be decoded.

    Raises:
        UnreadableImage: as for `read_image`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(geometry(ImageOps.exif_transpose(image).convert("RGB")))
    except MemoryError:
        raise
    except Exception as error:  # damaged files make decoders raise anything; the row must not take others along
        raise UnreadableImage(re.sub(r"<_io.BytesIO.*?>", repr(name), reason(error))) from error
