"""Gaussian blur on batches, each image with its own standard deviation, in exact arithmetic.

Weights are whole multiples of 2^-12, pixels and the rows blurred between the two passes whole multiples of 1/16, so
every partial sum is a whole number below 2^24 (in its unit) and float32 holds it exactly. What is exact does not
depend on the order of summation, on fused operations or on zero weights beyond an image's own radius: the same bytes
for any batch, thread number and device.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from benchmark.method.interventions.parts import in_parts

_ONE = 2**12  # the sum of an image's weights
_BETWEEN = 2**4  # number of steps in a grey level between the passes


def half_kernel(sigma: float) -> list[int]:
    """Return the weights at distances 0, 1 ... radius from the centre, in units of 2^-12.

    The radius is max(1, round(3 sigma)), the weights are proportional to exp(-i^2 / (2 sigma^2)), and with both
    sides they sum to one. Sums from the tail on are rounded, not single weights, so that errors do not add up: no
    sum of weights from the tail is off by more than half a unit.

    Args:
        sigma: standard deviation in pixels, > 0.
    """
    radius = max(1, round(3 * sigma))
    # math.exp, since what an array's exponential gives may depend on a number's place in the array.
    exact = [math.exp(-0.5 * (i / sigma) * (i / sigma)) for i in range(radius + 1)]
    unit = _ONE / (exact[0] + 2 * math.fsum(exact[1:]))
    tails = [0, *(round(unit * tail) for tail in accumulate(reversed(exact[1:])))]
    sides = [after - before for before, after in pairwise(tails)]
    return [_ONE - 2 * tails[-1], *reversed(sides)]


def gaussian_blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return every image blurred with its own standard deviation.

    At the border the image is reflected without repeating the border pixel; where the kernel is wider than that, it
    is reflected again and again (numpy's `reflect`, scipy's `mirror`). One pixel blurred is that pixel.

    Args:
        images: uint8, shape (batch, 3, height, width).
        sigmas: standard deviation for each image, in pixels, > 0.

    Returns:
        The blurred images, rounded to the nearest grey level: uint8, of the images' shape.
    """

    def change(rows: slice) -> Tensor:
        x = images[rows].to(torch.float32, memory_format=torch.contiguous_format)
        kernels = [half_kernel(sigma) for sigma in sigmas[rows]]
        radius = max(map(len, kernels)) - 1
        padded = torch.tensor([kernel + [0] * (radius + 1 - len(kernel)) for kernel in kernels], dtype=torch.float32)
        weights = padded.to(x.device)[..., None, None, None].unbind(dim=1)
        x = _blur_along(2, x, weights).mul_(_BETWEEN / _ONE).add_(0.5).floor_()
        return _blur_along(3, x, weights).mul_(1 / (_BETWEEN * _ONE)).add_(0.5).floor_()

    return in_parts(images, change)


def _blur_along(dim: int, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of `x` and its shifts along one axis, in units of 2^-12 of those of `x`.

    Args:
        dim: 2 to blur along columns, 3 along rows.
        x: images, float32, shape (n, 3, height, width).
        weights: for every distance from the centre, 0 included, the weight of each image, shape (n, 1, 1, 1).
    """
    size, radius = x.shape[dim], len(weights) - 1
    before, after = _mirror(range(-radius, 0), size), _mirror(range(size, size + radius), size)
    edges = [x.index_select(dim, index.to(x.device)) for index in (before, after)]
    wide = torch.cat([edges[0], x, edges[1]], dim=dim)
    total = x.mul(weights[0])
    for distance in range(1, radius + 1):
        for start in (radius - distance, radius + distance):
            total.addcmul_(wide.narrow(dim, start, size), weights[distance])
    return total


def _mirror(positions: range, size: int) -> Tensor:
    """Return which pixels of a line of `size` pixels are seen at positions outside of it, mirrored at its ends."""
    if size == 1:
        return torch.zeros(len(positions), dtype=torch.int64)
    period = 2 * (size - 1)
    return torch.tensor([min(p % period, period - p % period) for p in positions])
