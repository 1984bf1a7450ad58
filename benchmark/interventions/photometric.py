"""The seven photometric interventions of the paper's released code, each with a stated default strength.

The released code draws one of the seven per image and publishes no strengths; the defaults here
are ours: those of common augmentation practice, strong enough to move an embedding and weak enough to leave the
object recognisable. Pixel operations are torchvision's. Strengths in pixels refer to the model-input size.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from benchmark.interventions.base import Intervention

if TYPE_CHECKING:
    import torch


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]} is above the upper bound {bounds[1]}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class ColorJitter(Intervention):
    """Brightness, contrast and saturation scaled by a factor from [1 - s, 1 + s], hue turned by [-hue, hue].

    The four steps come in a random order, as in torchvision's ColorJitter.
    """

    registered_name: ClassVar[str] = "color_jitter"
    brightness: float = Field(default=0.4, ge=0, le=1)
    contrast: float = Field(default=0.4, ge=0, le=1)
    saturation: float = Field(default=0.4, ge=0, le=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":
        from torchvision.transforms.v2 import functional as F

        steps = [
            (F.adjust_brightness, 1 + self.brightness * rng.uniform(-1, 1)),
            (F.adjust_contrast, 1 + self.contrast * rng.uniform(-1, 1)),
            (F.adjust_saturation, 1 + self.saturation * rng.uniform(-1, 1)),
            (F.adjust_hue, self.hue * rng.uniform(-1, 1)),
        ]
        for index in rng.permutation(len(steps)):
            adjust, factor = steps[index]
            image = adjust(image, factor)
        return image


class Grayscale(Intervention):
    """Luma in all three channels."""

    registered_name: ClassVar[str] = "grayscale"

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        return F.rgb_to_grayscale(image, num_output_channels=3)


class GaussianBlur(Intervention):
    """Gaussian blur with a standard deviation drawn from `sigma` (pixels); the kernel spans three of them."""

    registered_name: ClassVar[str] = "gaussian_blur"
    sigma: Range = (0.5, 2.0)

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":
        from torchvision.transforms.v2 import functional as F

        sigma = float(rng.uniform(*self.sigma))
        radius = max(1, min(round(3 * sigma), min(image.shape[-2:]) - 1))
        return F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma])


class Invert(Intervention):
    """255 minus the value."""

    registered_name: ClassVar[str] = "invert"

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        return F.invert(image)


class Posterize(Intervention):
    """Keep the `bits` highest bits of every channel."""

    registered_name: ClassVar[str] = "posterize"
    bits: int = Field(default=2, ge=1, le=8)

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        return F.posterize(image, self.bits)


class Solarize(Intervention):
    """Invert the values at or above `threshold`."""

    registered_name: ClassVar[str] = "solarize"
    threshold: int = Field(default=128, ge=0, le=255)

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        return F.solarize(image, self.threshold)


class Equalize(Intervention):
    """Histogram equalisation of every channel."""

    registered_name: ClassVar[str] = "equalize"

    def apply(self, image: "torch.Tensor", rng: np.random.Generator) -> "torch.Tensor":  # noqa: ARG002
        from torchvision.transforms.v2 import functional as F

        return F.equalize(image)
