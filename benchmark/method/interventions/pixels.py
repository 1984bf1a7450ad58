"""Batched pixel operations of the photometric interventions.

An image's view has the same bytes in any batch, with any number of threads and on any device. On a GPU, operations are
only queued: nothing is read back.

Each operation is either exact (sums of integers below 2^24 are exact in float32) or one correctly rounded elementwise
operation. Some libraries compute `lerp`, `addcmul` and `add(alpha=...)` with a fused multiply-add, so these are only
used where the result is exact. If a change alters these bytes, raise `STORE_VERSION` in
`benchmark/store/embeddings.py`.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.method.arrays import Ints
from benchmark.method.interventions.base import to_device

# Pixels (height x width) of all images in a part. An operation with many passes needs a few buffers of three float32
# channels. For one image of 224 x 224 they fit into a second-level cache. A GPU is saturated by some hundred MB.
_CPU_PIXELS = 224 * 224
_CPU_PIXELS_FEW_PASSES = 4 * 224 * 224
_GPU_PIXELS = 2**22
_ONE = 2**12  # the sum of the weights of a blur
_BETWEEN = 2**4  # steps per grey level to which values are rounded between the two passes of a blur
# torchvision's scale from the unit interval to uint8, so that a zero turn of the hue keeps every value.
_UNIT_TO_BYTE = (256 - 1e-3) / 255


def in_parts(images: Tensor, change: Callable[[slice], Tensor], *, many_passes: bool = True) -> Tensor:
    """Return the views of a batch, uint8, computed in parts that fit into a core's cache.

    Without parts, every pass over the batch would go through main memory. Torch splits each pass among its threads and
    then waits for all of them. If another process (such as a decoder) uses the same cores, each wait lasts
    milliseconds. So with `many_passes`, each thread of a CPU processes whole parts.

    `change` gets the rows of a part as a slice and returns their views: uint8, or integers from 0 to 255 in float32.
    They have three channels, or one channel that is used for all three.
    """
    views = torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    on_cpu, threads = images.device.type == "cpu", torch.get_num_threads()
    budget = (_CPU_PIXELS if many_passes else _CPU_PIXELS_FEW_PASSES) if on_cpu else _GPU_PIXELS
    size = max(1, budget // max(1, images.shape[-2] * images.shape[-1]))
    parts = [slice(start, start + size) for start in range(0, len(images), size)]

    def work(rows: slice) -> None:
        changed = change(rows)
        # Via 16 bits, which takes a third of the time of torch's scalar conversion from float32 to bytes.
        views[rows] = changed.to(torch.int16) if changed.is_floating_point() else changed

    def work_alone(rows: slice) -> None:
        torch.set_num_threads(1)  # for this worker
        with torch.inference_mode():  # each thread has its own mode, and tensors may be inference tensors
            work(rows)

    if on_cpu and many_passes and threads > 1 and len(parts) > 1:
        try:
            list(_workers(threads).map(work_alone, parts))
        finally:
            torch.set_num_threads(threads)  # a worker's setting is also the default of later threads
    else:
        for rows in parts:
            work(rows)
    return views


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="interventions")


if hasattr(os, "register_at_fork"):  # a forked process does not inherit threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def luma(x: Tensor) -> Tensor:
    """Return the exact floor(0.2989 R + 0.587 G + 0.114 B), float32, shape (n, 1, height, width). `x` may be uint8."""
    red, green, blue = x.split(1, dim=1)
    total = red.mul(2989.0).add_(green, alpha=5870).add_(blue, alpha=1140)  # below 2^24, therefore exact
    # Adding 0.5 keeps the quotient farther from the next integer than float32 rounding.
    return total.add_(0.5).mul_(1e-4).floor_()


def adjust_brightness(x: Tensor, factor: Tensor) -> None:
    """Multiply `x` by `factor` in place; 1 changes nothing."""
    _to_bytes(x.mul_(factor.float()))


def adjust_contrast(x: Tensor, factor: Tensor) -> None:
    """Replace x by factor * x + (1 - factor) * m in place, with m the mean luma of each image."""
    total = luma(x).sum(dim=(2, 3), keepdim=True, dtype=torch.float64)  # a sum of whole numbers, therefore exact
    mean = total / (x.shape[2] * x.shape[3])
    _to_bytes(x.mul_(factor.float()).add_(((1 - factor) * mean).float()))


def adjust_saturation(x: Tensor, factor: Tensor) -> None:
    """Replace x by factor * x + (1 - factor) * luma in place."""
    grey = luma(x).mul_((1 - factor).float())
    _to_bytes(x.mul_(factor.float()).add_(grey))


def adjust_hue(x: Tensor, turn: Tensor) -> None:
    """Turn the hue of HSV by `turn` in place (a full circle is 1). Saturation and value stay.

    Let M and m be the largest and smallest channel of a pixel. Its hue in sixths of the circle is

        h = sign(G - B) * (2 + (G + B - R - M) / (M - m)),  in [-3, 3],

    which equals the usual formula in all six sectors. Let p be a channel's own hue (red 0, green 2, blue -2), and d the
    distance from h to p on the circle. The channel becomes m + (M - m) * clamp(2 - d, 0, 1).
    """
    red, green, blue = x.unbind(dim=1)
    largest = torch.maximum(red, green)
    smallest = torch.minimum(red, green)
    torch.maximum(largest, blue, out=largest)
    torch.minimum(smallest, blue, out=smallest)
    chroma = largest.sub(smallest)
    hue = green.add(blue).sub_(red).sub_(largest)
    hue.div_(torch.clamp(chroma, min=1, out=largest)).add_(2)  # grey has no chroma, so its hue is irrelevant
    hue.copysign_(torch.sub(green, blue, out=largest)).add_(turn[:, 0].mul(6).float())
    hue.sub_(torch.mul(hue, 1 / 6, out=largest).round_().mul_(6))  # back to [-3, 3]
    own_hues = to_device(torch.tensor([[[0.0]], [[2.0]], [[-2.0]]]), x.device)
    # 2 - d = ||h - p| - 3| - 1 for |h - p| <= 6
    torch.sub(hue[:, None], own_hues, out=x).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    x.mul_(chroma[:, None]).add_(smallest[:, None])
    x.mul_(_UNIT_TO_BYTE).floor_()


STEPS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
# A shortest sequence of positions in STEPS that contains every order of the four, with gaps. Costly steps are rarer.
_ROUNDS = (0, 1, 2, 3, 0, 1, 2, 0, 3, 1, 0, 2)


def jitter(images: Tensor, factors: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Return the images after all `STEPS`. Every image has its own factors and its own order of the steps.

    `factors` are float64, shape (batch, 4), on the host. The last one is the turn of the hue in full circles. `orders`
    lists for each image the positions in `STEPS`, in the order of application. Each of the `_ROUNDS` is one call for
    all images whose next step it is.
    """

    def change(rows: slice) -> Tensor:
        x = images[rows].to(torch.float32, memory_format=torch.contiguous_format)
        if len(x) == 1:
            for step in orders[rows.start]:
                STEPS[step](x, to_device(factors[rows, step, None, None, None], x.device))
            return x
        waiting, rounds = [list(order) for order in orders[rows]], []
        for step in _ROUNDS:
            if members := [i for i, steps in enumerate(waiting) if steps and steps[0] == step]:
                rounds.append((step, members))
                for i in members:
                    del waiting[i][0]
        sizes = [len(members) for _, members in rounds]
        index = torch.tensor([i for _, members in rounds for i in members])
        factor = factors[rows][index, [step for step, members in rounds for _ in members], None, None, None]
        parts = (to_device(column, x.device).split(sizes) for column in (index, factor))
        for (step, _), index, factor in zip(rounds, *parts, strict=True):
            some = x.index_select(0, index)
            STEPS[step](some, factor)
            x.index_copy_(0, index, some)
        return x

    return in_parts(images, change)


def _to_bytes(x: Tensor) -> None:
    """Clip values to integers from 0 to 255, in place."""
    x.clamp_(0, 255).floor_()


def half_kernel(sigma: float) -> list[int]:
    """Return the weights at distances 0, 1 ... radius from the centre, in units of 2^-12.

    The radius is max(1, round(3 sigma)). The weight at distance i is proportional to exp(-i^2 / (2 sigma^2)), and the
    weights of both sides sum to one. Cumulative sums from the tail are rounded instead of single weights. So errors do
    not add up: each cumulative sum has an error of at most half a unit.
    """
    radius = max(1, round(3 * sigma))
    # math.exp, since exponentials of arrays may depend on the position in the array.
    exact = [math.exp(-0.5 * (i / sigma) * (i / sigma)) for i in range(radius + 1)]
    unit = _ONE / (exact[0] + 2 * math.fsum(exact[1:]))
    tails = [0, *(round(unit * tail) for tail in accumulate(reversed(exact[1:])))]
    sides = [after - before for before, after in pairwise(tails)]
    return [_ONE - 2 * tails[-1], *reversed(sides)]


def gaussian_blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return every image blurred with its own standard deviation in pixels, rounded to the nearest grey level.

    Weights are whole multiples of 2^-12. Pixels, and values between the two passes, are whole multiples of 1/16. So
    every partial sum is an integer below 2^24 in its unit. It is exact in any order of summation, and zero weights
    beyond an image's own radius do not change it. At the border the image is mirrored without repeating the border
    pixel, repeatedly if the kernel is wider (numpy's `reflect`, scipy's `mirror`). An image of one pixel is unchanged.
    """

    def change(rows: slice) -> Tensor:
        x = images[rows].to(torch.float32, memory_format=torch.contiguous_format)
        kernels = [half_kernel(sigma) for sigma in sigmas[rows]]
        radius = max(map(len, kernels)) - 1
        padded = torch.tensor([kernel + [0] * (radius + 1 - len(kernel)) for kernel in kernels], dtype=torch.float32)
        weights = to_device(padded, x.device)[..., None, None, None].unbind(dim=1)
        x = _blur_along(2, x, weights).mul_(_BETWEEN / _ONE).add_(0.5).floor_()
        return _blur_along(3, x, weights).mul_(1 / (_BETWEEN * _ONE)).add_(0.5).floor_()

    return in_parts(images, change)


def _blur_along(dim: int, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of `x` and its shifts along one axis. Its unit is 2^-12 times the unit of `x`.

    `weights`: for distance 0, 1 ... from the centre, the weight for each image, shape (n, 1, 1, 1).
    """
    size, radius = x.shape[dim], len(weights) - 1
    outside = _mirror([*range(-radius, 0), *range(size, size + radius)], size)
    before, after = x.index_select(dim, to_device(outside, x.device)).split(radius, dim=dim)
    wide = torch.cat([before, x, after], dim=dim)
    total = x.mul(weights[0])
    for distance in range(1, radius + 1):
        for start in (radius - distance, radius + distance):
            total.addcmul_(wide.narrow(dim, start, size), weights[distance])
    return total


def _mirror(positions: Sequence[int], size: int) -> Tensor:
    """Return the pixel index for each position; positions outside a line of `size` pixels are mirrored into it."""
    if size == 1:
        return torch.zeros(len(positions), dtype=torch.int64)
    period = 2 * (size - 1)
    return torch.tensor([min(p % period, period - p % period) for p in positions])


def equalize(images: Tensor) -> Tensor:
    """Return the images with the histogram of every channel flattened, with the same bytes as Pillow and torchvision.

    On a CPU, NumPy counts and looks up bytes channel by channel, in a third of the time of torchvision's 64-bit
    integers. On a GPU, torchvision is used.
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


def tables(counts: Ints) -> NDArray[np.uint8]:
    """Return lookup tables from histograms, both of shape (channels, 256).

    Let n be the number of pixels, m the number of pixels with the largest value that occurs, and s = floor((n - m) /
    255). The value v becomes floor((number of pixels with values below v + floor(s / 2)) / s), at most 255. If s is 0,
    nothing changes.
    """
    largest = 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    step = (counts.sum(axis=1) - counts[np.arange(len(counts)), largest])[:, None] // 255
    below = counts.cumsum(axis=1) - counts
    values = np.minimum((below + step // 2) // np.maximum(step, 1), 255)
    return np.where(step == 0, np.arange(256), values).astype(np.uint8)
