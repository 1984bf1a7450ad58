"""Images for the tests of interventions."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image


def random_images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return smooth random images (synthetic), uint8, shape (count, 3, height, width)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(s).resize((width, height), Image.Resampling.BICUBIC)) for s in small]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def threads() -> Iterator[None]:
    """Leaves the number of torch's threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def images() -> torch.Tensor:
    """Five images, uint8, shape (5, 3, 24, 32)."""
    return random_images(5, 24, 32)


@pytest.fixture(scope="session")
def many() -> torch.Tensor:
    """64 images of odd size, more than one part of a batch and no whole number of vector registers."""
    return random_images(64, 41, 57)
