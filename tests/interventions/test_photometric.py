"""Interventions: what each does to pixels, against Pillow, and where its randomness comes from."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmark.interventions import INTERVENTIONS

IDS = [f"id-{i}" for i in range(5)]


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth random images (synthetic), uint8, shape (5, 3, 24, 32)."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(s).resize((32, 24), Image.Resampling.BICUBIC)) for s in small]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_a_view_depends_on_image_parameters_and_seed_alone(name: str, images: torch.Tensor) -> None:
    kind = INTERVENTIONS.create(name)
    whole = kind.views(images, IDS, seed=3)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    assert (whole != images).any()
    backwards = kind.views(images.flip(0), IDS[::-1], seed=3).flip(0)
    one_by_one = torch.cat([kind.views(images[i : i + 1], IDS[i : i + 1], seed=3) for i in range(5)])
    assert torch.equal(whole, backwards)
    assert torch.equal(whole, one_by_one)


@pytest.mark.parametrize("name", ["color_jitter", "gaussian_blur"])
def test_random_kinds_differ_by_seed_image_and_strength(name: str, images: torch.Tensor) -> None:
    kind = INTERVENTIONS.create(name)
    same = images[:1].expand(5, -1, -1, -1)
    views = kind.views(same, IDS, seed=0)
    assert (views[0] != views[1]).any()
    assert (kind.views(same, IDS, seed=1) != views).any()
    strengths: dict[str, dict[str, object]] = {"color_jitter": {"hue": 0.5}, "gaussian_blur": {"sigma": [3, 4]}}
    assert (INTERVENTIONS.create({"name": name, **strengths[name]}).views(same, IDS, seed=0) != views).any()


@pytest.mark.parametrize(
    ("spec", "by_pillow"),
    [
        ("invert", ImageOps.invert),
        ("equalize", ImageOps.equalize),
        ({"name": "posterize", "bits": 3}, lambda image: ImageOps.posterize(image, 3)),
        ({"name": "solarize", "threshold": 100}, lambda image: ImageOps.solarize(image, 100)),
        ("grayscale", lambda image: image.convert("L").convert("RGB")),
    ],
)
def test_fixed_kinds_equal_pillow(spec, by_pillow, images: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    views = INTERVENTIONS.create(spec).views(images, IDS, seed=0).permute(0, 2, 3, 1).numpy()
    for image, view in zip(images.permute(0, 2, 3, 1).numpy(), views, strict=True):
        expected = np.asarray(by_pillow(Image.fromarray(image)))
        # Luma is rounded in one and cut in the other: a grey level of difference is no other operation.
        assert np.abs(view.astype(int) - expected).max() <= (1 if spec == "grayscale" else 0)


def test_blur_keeps_the_mean_and_takes_the_contrast(images: torch.Tensor) -> None:
    views = INTERVENTIONS.create({"name": "gaussian_blur", "sigma": [2, 2]}).views(images, IDS, seed=0).float()
    assert (views.std(dim=(2, 3)) < images.float().std(dim=(2, 3))).all()
    assert (views.mean(dim=(2, 3)) - images.float().mean(dim=(2, 3))).abs().max() < 12


def test_labels_tell_strengths_apart() -> None:
    assert INTERVENTIONS.create("posterize").label == "posterize"
    assert INTERVENTIONS.create({"name": "posterize", "bits": 4}).label == "posterize(bits=4)"
