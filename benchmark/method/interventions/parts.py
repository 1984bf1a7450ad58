"""A batch of images in parts that stay in a core's cache.

Over a whole batch each pass over the pixels would go through main memory; over a few images at a time it does not,
and is several times faster. Neither where parts begin nor who works on them changes a bit, because no kind looks
from one image to another.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

# Pixels (height x width, of all images of a part). A part of many passes has a few buffers of three float32 channels,
# which lie in a second-level cache at one image of 224 x 224; a GPU is kept busy in some hundred MB.
_CPU_PIXELS = 224 * 224
_CPU_PIXELS_FEW_PASSES = 4 * 224 * 224
_GPU_PIXELS = 2**22


def in_parts(images: Tensor, change: Callable[[slice], Tensor], *, many_passes: bool = True) -> Tensor:
    """Return the views of a batch, made part by part on as many threads as torch may use.

    Torch splits a pass among its threads and has them wait for each other after it; where another process wants the
    same cores (a decoder, say) such a wait lasts milliseconds. A change of `many_passes` therefore has its parts
    shared out on a CPU, a part to a thread, which wait for each other once.

    Args:
        images: uint8, shape (batch, 3, height, width).
        change: function from the rows of a part to their views: uint8, or whole numbers from 0 to 255 in float32, shape
            (rows, 3, height, width) or, for three equal channels, (rows, 1, height, width).
        many_passes: whether `change` goes over the pixels more than a few times. Default True.

    Returns:
        The views, uint8, shape (batch, 3, height, width), contiguous, sharing no memory with `images`.
    """
    views = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    on_cpu, threads = images.device.type == "cpu", torch.get_num_threads()
    budget = (_CPU_PIXELS if many_passes else _CPU_PIXELS_FEW_PASSES) if on_cpu else _GPU_PIXELS
    parts = _rows_of_parts(images, budget)

    def work(rows: slice) -> None:
        changed = change(rows)
        # By way of 16 bits, since torch turns float32 into bytes one by one: a third of the time.
        views[rows] = changed.to(torch.int16) if changed.is_floating_point() else changed

    if on_cpu and many_passes and threads > 1 and len(parts) > 1:
        _share_out(work, parts, threads)
    else:
        for rows in parts:
            work(rows)
    return views


def _rows_of_parts(images: Tensor, pixels: int) -> list[slice]:
    """Return slices of the batch that hold at most `pixels` each, or one image."""
    size = max(1, pixels // max(1, images.shape[-2] * images.shape[-1]))
    return [slice(start, start + size) for start in range(0, len(images), size)]


def _share_out(work: Callable[[slice], None], parts: list[slice], threads: int) -> None:
    """Call `work` with every part, on as many threads of its own, each of which runs torch on itself alone."""

    def work_alone(rows: slice) -> None:
        torch.set_num_threads(1)  # of this worker
        with torch.inference_mode():  # a thread has a mode of its own, and tensors may be of the caller's
            work(rows)

    try:
        list(_workers(threads).map(work_alone, parts))
    finally:
        torch.set_num_threads(threads)  # what a worker sets is also the default of threads to come


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="interventions")


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.cache_clear)
