"""Histogram equalisation of every channel of every image: Pillow's and torchvision's bytes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.method.interventions.parts import in_parts


def equalize(images: Tensor) -> Tensor:
    """Return the images with the histogram of every channel flattened.

    On a CPU by NumPy, a channel at a time: counting and looking up bytes take a third of the time of torchvision's
    whole numbers of 64 bits. On a GPU by torchvision.

    Args:
        images: uint8, shape (batch, 3, height, width).

    Returns:
        The views, uint8, of the images' shape.
    """

    def change(rows: slice) -> Tensor:
        if images.device.type != "cpu":
            from torchvision.transforms.v2 import functional as F

            flattened: Tensor = F.equalize(images[rows])
            return flattened
        channels = images[rows].flatten(0, 1).numpy()
        counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])
        views = [table.take(channel) for table, channel in zip(tables(counts), channels, strict=True)]
        return torch.from_numpy(np.stack(views)).view(images[rows].shape)

    return in_parts(images, change, many_passes=False)


def tables(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return what every value becomes, shape (channels, 256).

    With n pixels, of which m have the largest value that occurs, and s = floor((n - m) / 255), the value v becomes
    floor((pixels below v + floor(s / 2)) / s), at most 255. Where s is 0, nothing changes.

    Args:
        counts: how many pixels have each value, shape (channels, 256).
    """
    largest = 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    step = (counts.sum(axis=1) - counts[np.arange(len(counts)), largest])[:, None] // 255
    below = counts.cumsum(axis=1) - counts
    values = np.minimum((below + step // 2) // np.maximum(step, 1), 255)
    return np.where(step == 0, np.arange(256), values).astype(np.uint8)
