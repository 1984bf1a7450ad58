"""Colour steps against torchvision's functional on one image at a time, and against exact arithmetic."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from benchmark.method.interventions import pixels as color
from benchmark.method.interventions.photometric import ColorJitter

Step = Callable[[torch.Tensor, torch.Tensor], None]
BY_TORCHVISION: dict[Step, Callable[[torch.Tensor, float], torch.Tensor]] = {
    color.adjust_brightness: F.adjust_brightness,
    color.adjust_contrast: F.adjust_contrast,
    color.adjust_saturation: F.adjust_saturation,
    color.adjust_hue: F.adjust_hue,
}


@pytest.fixture(scope="module")
def colours() -> torch.Tensor:
    """12 images of independent random pixels, then 4 of few distinct values, where ties of channels abound."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (12, 3, 61, 67), dtype=torch.uint8, generator=generator)
    ties = torch.randint(0, 4, (4, 3, 61, 67), dtype=torch.uint8, generator=generator) * 85
    return torch.cat([noise, ties])


def adjusted(step: Step, images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    x = images.float()
    step(x, factors[:, None, None, None])
    assert torch.equal(x, x.round())
    return x.to(torch.uint8)


def grey_levels_apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one.int() - other.int()).abs()


def test_luma_is_exact_for_every_colour() -> None:
    for start in range(0, 256, 16):
        red, green, blue = np.mgrid[start : start + 16, :256, :256].astype(np.int32).reshape(3, 64, -1)
        exact = (2989 * red + 5870 * green + 1140 * blue) // 10000
        x = torch.from_numpy(np.stack([red, green, blue])[None]).to(torch.uint8)
        assert np.array_equal(color.luma(x)[0, 0].numpy(), exact)


@pytest.mark.parametrize("step", color.STEPS)
def test_a_step_is_torchvisions_with_a_factor_of_its_own_for_each_image(step: Step, colours: torch.Tensor) -> None:
    low, high = (-0.5, 0.5) if step is color.adjust_hue else (0, 2)
    factors = torch.linspace(low, high, len(colours), dtype=torch.float64)
    ours = adjusted(step, colours, factors)
    theirs = torch.stack([BY_TORCHVISION[step](i, float(f)) for i, f in zip(colours, factors, strict=True)])
    # Both cut to whole numbers; where the value before the cut is nearly whole, rounding of the last bit decides.
    assert grey_levels_apart(ours, theirs).max() <= 1
    assert (ours != theirs).float().mean() < 0.005


@pytest.mark.parametrize("step", color.STEPS)
def test_a_neutral_factor_changes_nothing(step: Step, colours: torch.Tensor) -> None:
    neutral = torch.full((len(colours),), 0.0 if step is color.adjust_hue else 1.0, dtype=torch.float64)
    assert torch.equal(adjusted(step, colours, neutral), colours)


def test_hue_is_that_of_hsv() -> None:
    rng = np.random.default_rng(0)
    pixels, turns = rng.integers(0, 256, (500, 3)), rng.uniform(-0.5, 0.5, 500)
    x = torch.from_numpy(pixels)[..., None, None].to(torch.uint8)
    ours = adjusted(color.adjust_hue, x, torch.from_numpy(turns))[..., 0, 0].numpy()
    for pixel, turn, our in zip(pixels / 255, turns, ours, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        exact = 255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
        assert np.abs(our - exact).max() <= 1


def test_contrast_keeps_to_the_mean_of_each_image_alone() -> None:
    dark, bright = torch.full((1, 3, 8, 8), 40.0), torch.full((1, 3, 8, 8), 200.0)
    x = torch.cat([dark, bright])
    color.adjust_contrast(x, torch.zeros(2, 1, 1, 1, dtype=torch.float64))
    assert x[0].unique().tolist() == [color.luma(dark).max()]
    assert x[1].unique().tolist() == [color.luma(bright).max()]


def test_color_jitter_is_torchvisions_steps_in_the_order_of_each_image(colours: torch.Tensor) -> None:
    kind = ColorJitter(hue=0.3)
    draws = torch.tensor([kind.draw(np.random.default_rng(i)) for i in range(len(colours))], dtype=torch.float64)
    assert len({tuple(order) for order in draws[:, 4:].tolist()}) > 8
    ours = kind.apply(colours, draws)
    theirs = []
    for image, draw in zip(colours, draws.tolist(), strict=True):
        for step in map(int, draw[4:]):
            image = BY_TORCHVISION[color.STEPS[step]](image, draw[step])
        theirs.append(image)
    apart = grey_levels_apart(ours, torch.stack(theirs))
    # The rare level of difference after one step is scaled by the factors of the next.
    assert apart.max() <= 4
    assert (apart > 1).float().mean() < 1e-3
