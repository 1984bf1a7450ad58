"""Colour steps on batches, each image with its own factor: torchvision's formulas, and the same bytes for any batch.

Images are float32 buffers of whole numbers from 0 to 255, shape (n, 3, height, width), changed in place; factors are
float64, shape (n, 1, 1, 1). Every operation on pixels is either exact (sums of whole numbers below 2^24) or one
correctly rounded IEEE operation on one element, so neither the mates in a batch nor the number of threads can change
a bit. Operations that may be fused or not (`lerp`, `addcmul`, `add` with `alpha`) serve only where they are exact.

The formulas are those of `torchvision.transforms.v2.functional` for uint8 tensors, cut to whole numbers after each
step as there. Results can differ from torchvision's by one grey level where its own rounding decides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.method.interventions.parts import in_parts

# torchvision's step from the unit interval to uint8, so that a hue turned by zero keeps every value.
_UNIT_TO_BYTE = (256 - 1e-3) / 255


def luma(x: Tensor) -> Tensor:
    """Return floor(0.2989 R + 0.587 G + 0.114 B), exactly: float32, shape (n, 1, height, width); `x` may be uint8."""
    red, green, blue = x.split(1, dim=1)
    total = red.mul(2989.0).add_(green, alpha=5870).add_(blue, alpha=1140)  # below 2^24, therefore exact
    # The half keeps the quotient further from the next whole number than float32 rounds.
    return total.add_(0.5).mul_(1e-4).floor_()


def adjust_brightness(x: Tensor, factor: Tensor) -> None:
    """Multiply by `factor`, where 1 changes nothing."""
    _to_bytes(x.mul_(factor.float()))


def adjust_contrast(x: Tensor, factor: Tensor) -> None:
    """Blend with the mean m of the luma: factor * x + (1 - factor) * m."""
    total = luma(x).sum(dim=(2, 3), keepdim=True, dtype=torch.float64)  # of whole numbers, therefore exact
    mean = total / (x.shape[2] * x.shape[3])
    _to_bytes(x.mul_(factor.float()).add_(((1 - factor) * mean).float()))


def adjust_saturation(x: Tensor, factor: Tensor) -> None:
    """Blend with the luma: factor * x + (1 - factor) * luma."""
    grey = luma(x).mul_((1 - factor).float())
    _to_bytes(x.mul_(factor.float()).add_(grey))


def adjust_hue(x: Tensor, turn: Tensor) -> None:
    """Turn the hue of HSV by `turn` (a full circle is 1), keeping saturation and value.

    With M and m the largest and smallest channel, the hue in sixths of the circle is

        h = sign(G - B) * (2 + (G + B - R - M) / (M - m)),  in [-3, 3],

    which equals the usual formula in all six sectors, and a channel whose own hue is p (red 0, green 2, blue -2)
    becomes m + (M - m) * clamp(2 - d, 0, 1), where d is the distance from h to p on the circle.
    """
    red, green, blue = x.unbind(dim=1)
    largest = torch.maximum(red, green)
    smallest = torch.minimum(red, green)
    torch.maximum(largest, blue, out=largest)
    torch.minimum(smallest, blue, out=smallest)
    chroma = largest.sub(smallest)
    hue = green.add(blue).sub_(red).sub_(largest)
    hue.div_(torch.clamp(chroma, min=1, out=largest)).add_(2)  # grey has no chroma, and any hue will do
    hue.copysign_(torch.sub(green, blue, out=largest)).add_(turn[:, 0].mul(6).float())
    hue.sub_(torch.mul(hue, 1 / 6, out=largest).round_().mul_(6))  # back to [-3, 3]
    own_hues = torch.tensor([0.0, 2.0, -2.0], device=x.device).view(3, 1, 1)
    # 2 - d = ||h - p| - 3| - 1 for |h - p| <= 6
    torch.sub(hue[:, None], own_hues, out=x).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    x.mul_(chroma[:, None]).add_(smallest[:, None])
    x.mul_(_UNIT_TO_BYTE).floor_()


STEPS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def jitter(images: Tensor, factors: Tensor, orders: Sequence[Sequence[int]]) -> Tensor:
    """Return images after all `STEPS`, each image with its own factors and in its own order.

    Args:
        images: RGB images, uint8, shape (batch, 3, height, width).
        factors: what each of the `STEPS` is done with on each image (factors, and for the hue a turn in full circles),
            float64, shape (batch, 4), on the images' device.
        orders: for each image, the positions in `STEPS` in the order of execution.

    Returns:
        The changed images, uint8, of the images' shape.
    """

    def change(rows: slice) -> Tensor:
        x = images[rows].to(torch.float32, memory_format=torch.contiguous_format)
        for steps in zip(*orders[rows], strict=True):  # the first step of every image, then the second ...
            for step in sorted(set(steps)):
                _adjust_where([s == step for s in steps], x, step, factors[rows, step, None, None, None])
        return x

    return in_parts(images, change)


def _adjust_where(concerned: list[bool], x: Tensor, step: int, factor: Tensor) -> None:
    """Do one of the `STEPS` on those images of a buffer that it concerns."""
    if all(concerned):
        return STEPS[step](x, factor)
    index = torch.tensor(concerned).nonzero()[:, 0].to(x.device)
    images = x.index_select(0, index)
    STEPS[step](images, factor.index_select(0, index))
    x.index_copy_(0, index, images)
    return None


def _to_bytes(x: Tensor) -> None:
    """Cut values to whole numbers from 0 to 255, in place."""
    x.clamp_(0, 255).floor_()
