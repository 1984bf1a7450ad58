"""From a file to pixels at model-input size: the CPU's part of embedding."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Geometry = Callable[[Image.Image], Image.Image]


class UnreadableImage(Exception):
    """A file that is no readable image; the message is the reason."""


def read_image(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Return the image, upright and RGB, after resize and crop: uint8, shape (height, width, 3).

    Raises:
        UnreadableImage: missing, damaged, not an image, or larger than Pillow's bound on pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return np.asarray(geometry(ImageOps.exif_transpose(image).convert("RGB")))
    except Exception as error:  # damaged files make decoders raise anything; the row must not take others along
        reason = str(error).replace(str(path), path.name).splitlines()
        raise UnreadableImage(f"{reason[0] if reason else type(error).__name__}") from error
