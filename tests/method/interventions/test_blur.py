"""Blur against torchvision and scipy, one image at a time, and against exact integers."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as F

from benchmark.method.interventions.pixels import gaussian_blur, half_kernel

SIGMAS = [0.1, 0.3, 0.5, 0.71, 1.0, 1.49, 2.0, 2.7, 3.3, 5.0]


def noise(count: int, height: int, width: int) -> torch.Tensor:
    """Return images of black and white pixels: the largest sums and differences there are."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (count, 3, height, width), dtype=torch.uint8, generator=generator) * 255


def radius(sigma: float) -> int:
    return max(1, round(3 * sigma))


def by_scipy(image: torch.Tensor, sigma: float) -> np.ndarray:
    """Return the blurred image in double precision."""
    return ndimage.gaussian_filter(image.double().numpy(), sigma, mode="mirror", radius=radius(sigma), axes=(1, 2))


def test_each_image_has_its_own_blur_as_torchvision_does_it() -> None:
    images = noise(len(SIGMAS), 40, 33)
    for image, view, sigma in zip(images, gaussian_blur(images, SIGMAS), SIGMAS, strict=True):
        theirs = F.gaussian_blur(image, [2 * radius(sigma) + 1] * 2, [sigma, sigma])
        # Weights are rounded to 1/4096: together a fraction of a grey level, which may cross a rounding edge.
        assert (view.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(40, 33), (3, 2), (1, 17), (1, 1), (2, 2)])
def test_the_border_mirrors_however_small_the_image(height: int, width: int) -> None:
    sigmas = [*SIGMAS, 30.0]
    images = noise(len(sigmas), height, width)
    for image, view, sigma in zip(images, gaussian_blur(images, sigmas), sigmas, strict=True):
        assert np.abs(view.numpy() - by_scipy(image, sigma)).max() < 0.5 + 0.4  # rounding, and that of the weights


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 11)])
def test_flat_images_stay_flat(height: int, width: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, 3, height, width)
    assert torch.equal(gaussian_blur(images, np.linspace(0.1, 20, 256).tolist()), images)


@pytest.mark.parametrize("sigma", [1e-200, 0.05, *SIGMAS, 12.0, 75.0, 200.0])
def test_weights_sum_to_one_and_follow_the_gaussian(sigma: float) -> None:
    half = half_kernel(sigma)
    assert len(half) == radius(sigma) + 1
    assert min(half) >= 0
    assert half[0] + 2 * sum(half[1:]) == 4096
    with np.errstate(over="ignore"):
        exact = np.exp(-0.5 * (np.arange(len(half)) / sigma) ** 2)
    exact *= 4096 / (exact[0] + 2 * exact[1:].sum())
    assert np.abs(half - exact).max() <= 1
    tails = np.cumsum(half[:0:-1])
    assert np.abs(tails - np.cumsum(exact[:0:-1])).max() <= 0.5 + 1e-6


def test_sums_are_those_of_whole_numbers_without_limit() -> None:
    images = noise(len(SIGMAS), 30, 30)
    images[0] = 255
    for image, view, sigma in zip(images, gaussian_blur(images, SIGMAS), SIGMAS, strict=True):
        half = half_kernel(sigma)
        kernel = np.array([*half[:0:-1], *half], dtype=np.int64)
        wide = image.numpy().astype(np.int64)
        columns = ndimage.correlate1d(wide, kernel, axis=1, mode="mirror")
        between = (columns * 16 + 2048) // 4096
        rows = ndimage.correlate1d(between, kernel, axis=2, mode="mirror")
        assert np.array_equal(view.numpy(), (rows + 32768) // 65536)
