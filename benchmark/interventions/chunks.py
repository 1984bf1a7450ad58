"""A batch of images in parts that stay in the processor's cache.

A kind of intervention is a score of passes over the pixels. Over a whole batch each pass would go through main
memory; over one or two images at a time it does not, and is several times faster. Where the parts begin changes no
number, because no kind looks from one image to another.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Pixels (height x width, of all images of a part): two images of 224 x 224 on a CPU, where a few buffers of three
# float32 channels then lie in its second-level cache; on a GPU as many as keep it busy in some hundred MB.
_CPU_PIXELS = 2 * 224 * 224
_GPU_PIXELS = 2**22


def rows_of_parts(images: Tensor) -> Iterator[slice]:
    """Yield the parts of a batch, shape (batch, 3, height, width), as slices of its first axis."""
    budget = _CPU_PIXELS if images.device.type == "cpu" else _GPU_PIXELS
    size = max(1, budget // max(1, images.shape[-2] * images.shape[-1]))
    for start in range(0, len(images), size):
        yield slice(start, min(start + size, len(images)))


def in_parts(images: Tensor, change: Callable[[slice], Tensor]) -> Tensor:
    """Return the views of a batch, made part by part.

    Args:
        images: uint8, shape (batch, 3, height, width).
        change: from the rows of a part to their views: uint8 or whole numbers from 0 to 255 in float32, shape
            (rows, 3, height, width) or, for three equal channels, (rows, 1, height, width).

    Returns:
        uint8, shape (batch, 3, height, width), contiguous, sharing no memory with `images`.
    """
    views = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    for rows in rows_of_parts(images):
        views[rows] = change(rows)
    return views
