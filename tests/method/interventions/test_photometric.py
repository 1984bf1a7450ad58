"""Interventions: pixels against Pillow, and sources of randomness."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmark.method.interventions import INTERVENTIONS

IDS = [f"id-{i}" for i in range(64)]
KINDS = [*INTERVENTIONS.names(), {"name": "gaussian_blur", "sigma": [0.2, 6]}, {"name": "posterize", "bits": 8}]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_view_is_the_same_bytes_in_any_batch(spec: object, device: str, many: torch.Tensor) -> None:
    kind, images = INTERVENTIONS.create(spec), many.to(device)
    whole = kind.views(images, IDS, seed=3)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    for size in (1, 7):
        parts = [kind.views(images[i : i + size], IDS[i : i + size], seed=3) for i in range(0, 64, size)]
        assert torch.equal(whole, torch.cat(parts))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = kind.views(images[order.to(device)], [IDS[i] for i in order], seed=3)
    assert torch.equal(whole[order.to(device)], shuffled)


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_view_is_the_same_bytes_in_any_memory_layout(spec: object, many: torch.Tensor) -> None:
    kind = INTERVENTIONS.create(spec)
    whole = kind.views(many, IDS, seed=3)
    framed = torch.nn.functional.pad(many, (3, 2, 1, 1))[:, :, 1:-1, 3:-2]
    transposed = many.transpose(2, 3).contiguous().transpose(2, 3)
    for images in (many.to(memory_format=torch.channels_last), framed, transposed):
        assert not images.is_contiguous()
        assert torch.equal(kind.views(images, IDS, seed=3), whole)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_view_is_the_same_bytes_on_any_number_of_threads(spec: object, many: torch.Tensor) -> None:
    views = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        views.append(INTERVENTIONS.create(spec).views(many, IDS, seed=3))
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2])


@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_images_are_left_alone(spec: object, images: torch.Tensor) -> None:
    before = images.clone()
    views = INTERVENTIONS.create(spec).views(images, IDS[:5], seed=3)
    views.fill_(7)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_every_kind_changes_images(name: str, images: torch.Tensor) -> None:
    assert (INTERVENTIONS.create(name).views(images, IDS[:5], seed=3) != images).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (1, 40), (40, 1), (330, 310)])
@pytest.mark.parametrize("name", INTERVENTIONS.names())
def test_any_size_of_image_will_do(name: str, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=generator)
    kind = INTERVENTIONS.create(name)
    views = kind.views(images, IDS[:3], seed=3)
    assert views.shape == images.shape
    assert torch.equal(views[1:2], kind.views(images[1:2], IDS[1:2], seed=3))


@pytest.mark.parametrize("name", ["color_jitter", "gaussian_blur"])
def test_random_kinds_differ_by_seed_image_and_strength(name: str, images: torch.Tensor) -> None:
    kind = INTERVENTIONS.create(name)
    same = images[:1].expand(5, -1, -1, -1)
    views = kind.views(same, IDS[:5], seed=0)
    assert (views[0] != views[1]).any()
    assert (kind.views(same, IDS[:5], seed=1) != views).any()
    strengths: dict[str, dict[str, object]] = {"color_jitter": {"hue": 0.5}, "gaussian_blur": {"sigma": [3, 4]}}
    assert (INTERVENTIONS.create({"name": name, **strengths[name]}).views(same, IDS[:5], seed=0) != views).any()


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
    views = INTERVENTIONS.create(spec).views(images, IDS[:5], seed=0).permute(0, 2, 3, 1).numpy()
    for image, view in zip(images.permute(0, 2, 3, 1).numpy(), views, strict=True):
        expected = np.asarray(by_pillow(Image.fromarray(image)))
        # Luma is rounded in one and cut in the other: a grey level of difference is no other operation.
        assert np.abs(view.astype(int) - expected).max() <= (1 if spec == "grayscale" else 0)


def test_labels_tell_strengths_apart() -> None:
    assert INTERVENTIONS.create("posterize").label == "posterize"
    assert INTERVENTIONS.create({"name": "posterize", "bits": 4}).label == "posterize(bits=4)"
