"""Interventions with operations other than torchvision's: the same bytes, on all values and edge cases."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from benchmark.method.interventions.photometric import Solarize
from benchmark.method.interventions.pixels import adjust_hue, equalize, tables

RNG = np.random.default_rng(0)


def awkward() -> torch.Tensor:
    """Images that are flat, of two values, of few and of all values, steep and slowly rising, in random order."""
    flat = np.full((3, 20, 30), 255)
    two = RNG.choice([0, 255], (3, 20, 30), p=[0.999, 0.001])
    dark = RNG.integers(0, 3, (3, 20, 30))
    steep = np.minimum(255, RNG.exponential(4, (3, 20, 30)))
    rising = np.broadcast_to(np.arange(600).reshape(20, 30) // 3, (3, 20, 30))
    every = RNG.integers(0, 256, (3, 20, 30))
    channels = np.stack([flat, two, dark, steep, rising, every]).astype(np.uint8)
    return torch.from_numpy(np.concatenate([channels, RNG.permuted(channels.reshape(-1, 3, 20, 30), axis=1)]))


@pytest.mark.parametrize("size", [(20, 30), (1, 1), (16, 16), (15, 17), (2, 25)])
def test_equalize_gives_torchvisions_and_pillows_bytes(size: tuple[int, int]) -> None:
    images = torch.cat([awkward()[..., : size[0], : size[1]], torch.randint(0, 256, (20, 3, *size), dtype=torch.uint8)])
    views = equalize(images)
    assert torch.equal(views, F.equalize(images))
    for channel, view in zip(images.flatten(0, 1).numpy(), views.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_array_equal(view, np.asarray(ImageOps.equalize(Image.fromarray(channel))))


def test_a_table_is_cut_at_the_largest_value() -> None:
    counts = np.zeros((1, 256), dtype=np.int64)
    counts[0, [10, 20, 30]] = 255, 254, 1  # a step of 1, and 509 pixels below the last
    assert tables(counts)[0, [10, 20, 30]].tolist() == [0, 255, 255]


@pytest.mark.parametrize("threshold", [0, 1, 100, 127, 128, 129, 254, 255])
def test_solarize_gives_torchvisions_bytes_for_every_value(threshold: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    assert torch.equal(Solarize(threshold=threshold).views(images, ["a"], 0), F.solarize(images, threshold))


def colours() -> torch.Tensor:
    """Every 16th level of each channel and its neighbours, 32,768 colours in one image."""
    levels = np.array(sorted({*range(0, 256, 16), *range(15, 256, 16)}))
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=0).reshape(1, 3, 256, 128)
    return torch.from_numpy(grid.astype(np.uint8))


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.03, 0.1, 0.5])
def test_the_hue_is_turned_as_the_formula_says_operation_by_operation(turn: float) -> None:
    images = colours()
    x = images.float()
    adjust_hue(x, torch.tensor([turn], dtype=torch.float64).view(1, 1, 1, 1))
    red, green, blue = images[0].numpy().astype(np.float32)
    f = np.float32
    largest, smallest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    chroma = largest - smallest
    hue = (green + blue - red - largest) / np.maximum(chroma, f(1)) + f(2)
    hue = np.copysign(hue, green - blue) + f(turn * 6)
    hue = hue - np.rint(hue * f(1 / 6)) * f(6)
    for channel, own_hue in enumerate((0, 2, -2)):
        share = np.clip(np.abs(np.abs(hue - f(own_hue)) - f(3)) - f(1), f(0), f(1))
        expected = np.floor((share * chroma + smallest) * f((256 - 1e-3) / 255))
        np.testing.assert_array_equal(x[0, channel].numpy(), expected)
