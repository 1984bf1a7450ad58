"""The seven photometric interventions of the paper's released code.

The released code draws one of the seven for each image and publishes no strengths. The default strengths here are ours
and follow common augmentation practice: they move an embedding and leave the object recognisable. The pixel operations
equal torchvision's. Strengths in pixels (the blur's `sigma`) refer to the image size at which the recipe applies the
intervention: the model's input, or the source image. If a change alters views, raise `STORE_VERSION` in
`benchmark/store/embeddings.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from benchmark.method.interventions.base import Intervention

if TYPE_CHECKING:
    from torch import Tensor


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]} is above the upper bound {bounds[1]}")
    return bounds


_Pixels = Annotated[float, Field(gt=0, le=1000)]  # the bound excludes wider kernels, which take hours
PixelRange = Annotated[tuple[_Pixels, _Pixels], AfterValidator(_ascending)]


class ColorJitter(Intervention):
    """Scale brightness, contrast and saturation by factors from [1 - s, 1 + s], and turn the hue by [-hue, hue].

    The four steps are applied in a random order, as in torchvision's ColorJitter.

    Fields:
        brightness: largest change s of the brightness factor.
        contrast: largest change s of the contrast factor.
        saturation: largest change s of the saturation factor.
        hue: largest turn of the hue, in full circles.
    """

    draws_on_host: ClassVar[bool] = True
    brightness: float = Field(default=0.4, ge=0, le=1)
    contrast: float = Field(default=0.4, ge=0, le=1)
    saturation: float = Field(default=0.4, ge=0, le=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)

    def draw(self, rng: np.random.Generator) -> Sequence[float]:
        """Return the three factors, the turn of the hue in full circles, and the order of the four steps."""
        brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4).tolist()
        factors = (1 + self.brightness * brightness, 1 + self.contrast * contrast, 1 + self.saturation * saturation)
        return (*factors, self.hue * hue, *rng.permutation(4).tolist())

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":
        """Return the images with jittered colours."""
        from benchmark.method.interventions.pixels import jitter

        return jitter(images, drawn[:, :4], drawn[:, 4:].int().tolist())


class Grayscale(Intervention):
    """Replace all three channels by the luma, floor(0.2989 R + 0.587 G + 0.114 B)."""

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the images in grey."""
        from benchmark.method.interventions.pixels import in_parts, luma

        # torchvision's own operation rounds in between: its result may be off by one level if operations are fused.
        return in_parts(images, lambda rows: luma(images[rows]), many_passes=False)


class GaussianBlur(Intervention):
    """Gaussian blur with a random standard deviation for each image; the kernel radius is three standard deviations.

    At the border the image is mirrored, repeatedly if the kernel is wider than the image.

    Fields:
        sigma: lower and upper bound of the standard deviation, in pixels.
    """

    draws_on_host: ClassVar[bool] = True
    sigma: PixelRange = (0.5, 2.0)

    def draw(self, rng: np.random.Generator) -> Sequence[float]:
        """Return the standard deviation, in pixels."""
        return (rng.uniform(*self.sigma),)

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":
        """Return the images blurred, each with its own standard deviation."""
        from benchmark.method.interventions.pixels import gaussian_blur

        return gaussian_blur(images, drawn[:, 0].tolist())


class Invert(Intervention):
    """Replace every value v by 255 - v."""

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the images with every value inverted."""
        from benchmark.method.interventions.pixels import in_parts

        # Bitwise, and without torchvision, since its import takes an encoder one second.
        return in_parts(images, lambda rows: images[rows].bitwise_not(), many_passes=False)


class Posterize(Intervention):
    """Keep only the highest bits of every channel.

    Fields:
        bits: number of bits kept; 8 changes nothing.
    """

    bits: int = Field(default=2, ge=1, le=8)

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the images with fewer levels per channel."""
        from benchmark.method.interventions.pixels import in_parts

        mask = 256 - 2 ** (8 - self.bits)
        return in_parts(images, lambda rows: images[rows].bitwise_and(mask), many_passes=False)


class Solarize(Intervention):
    """Invert bright values.

    Fields:
        threshold: the lowest value that is inverted.
    """

    threshold: int = Field(default=128, ge=0, le=255)

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the images with their bright values inverted."""
        import torch

        from benchmark.method.interventions.pixels import in_parts

        def change(rows: slice) -> "Tensor":
            # Bitwise, since boolean masks take ten times as long. If a value is below the threshold, `below` has all
            # bits set and inverts the value; the final inversion restores it.
            below = images[rows].to(torch.int16).sub_(self.threshold).bitwise_right_shift_(8).to(torch.uint8)
            return below.bitwise_xor_(images[rows]).bitwise_not_()

        return in_parts(images, change, many_passes=False)


class Equalize(Intervention):
    """Histogram equalisation of every channel."""

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the images with the histogram of every channel flattened."""
        from benchmark.method.interventions.pixels import equalize

        return equalize(images)
