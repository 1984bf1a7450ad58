"""From a file to pixels: like Pillow's upright RGB decoding and open_clip's own resize and crop, or a reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

from benchmark.embedding.images import Geometry, decode, model_input, model_input_views
from benchmark.embedding.opening import UnreadableImage
from benchmark.method.interventions import INTERVENTIONS

PREPROCESS = {
    "size": [48, 48], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
    "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
}  # fmt: skip

GEOMETRY = Geometry.of(PREPROCESS)


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def their_pixels(image: Image.Image, preprocess: dict[str, Any]) -> np.ndarray:
    """open_clip's own transform, back from normalised floats to grey levels."""
    z = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)(image)
    return ((z.permute(1, 2, 0) * 0.5 + 0.5) * 255).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("target", [(48, 48), (48, 64)])
def test_pixels_are_those_of_open_clip(tmp_path: Path, mode: str, interpolation: str, target: tuple[int, int]) -> None:
    preprocess = {
        **PREPROCESS, "resize_mode": mode, "interpolation": interpolation, "size": list(target), "fill_color": 7
    }  # fmt: skip
    geometry = Geometry.of(preprocess)
    for size in ((100, 70), (70, 100), (30, 20), (48, 48), (64, 48), (101, 53), (47, 331), (49, 48), (1, 9)):
        gradient(*size).save(tmp_path / "image.png")
        pixels = model_input((tmp_path / "image.png").read_bytes(), geometry, draft=True)
        np.testing.assert_array_equal(pixels, their_pixels(Image.open(tmp_path / "image.png"), preprocess))


def test_orientation_palette_grey_and_cmyk_become_upright_rgb(tmp_path: Path) -> None:
    image = gradient(60, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by 270 degrees
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright = decode((tmp_path / "turned.png").read_bytes(), GEOMETRY, draft=True)
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(image))
    for mode, suffix in (("P", "png"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("1", "png")):
        file = tmp_path / f"{mode}.{suffix}"
        image.convert(mode).save(file)
        expected = Image.open(file).convert("RGB")
        np.testing.assert_array_equal(np.asarray(decode(file.read_bytes(), GEOMETRY, draft=True)), np.asarray(expected))


# Mean difference in grey levels between our pixels and those of open_clip, which does not turn an image and resizes it
# before it becomes RGB: at least and at most, on a picture of soft shapes. Those of docs/data.md.
DIFFERENCES = {
    "RGB": (0, 0),
    "L": (0, 0),
    "CMYK": (0, 1),
    "turned": (60, 70),
    "P": (12, 18),
    "1": (110, 120),
    "RGBA": (0.5, 1.1),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_how_far_pixels_are_from_those_of_open_clip(kind: str, tmp_path: Path) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((200, 150), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned" else 1
    if kind == "RGBA":
        image.putalpha(Image.fromarray(np.linspace(0, 255, 200).astype(np.uint8)[None].repeat(150, axis=0)))
    file = tmp_path / f"image.{'tif' if kind == 'CMYK' else 'png'}"  # Pillow itself turns TIFF
    (image if kind == "turned" else image.convert(kind)).save(file, exif=exif)
    ours = model_input(file.read_bytes(), GEOMETRY, draft=True).astype(int)
    difference = np.abs(ours - their_pixels(Image.open(file), PREPROCESS)).mean()
    least, most = DIFFERENCES[kind]
    assert least <= difference <= most, difference


def test_a_large_jpeg_is_decoded_at_reduced_scale_only_when_asked_and_never_below_the_margin(tmp_path: Path) -> None:
    for width, height, expected in ((400, 300, (200, 150)), (390, 191, (390, 191)), (1600, 1200, (200, 150))):
        gradient(width, height).save(tmp_path / "large.jpg", quality=95)
        content = (tmp_path / "large.jpg").read_bytes()
        assert decode(content, GEOMETRY, draft=False).size == (width, height)
        assert decode(content, GEOMETRY, draft=True).size == expected
        full, drafted = (model_input(content, GEOMETRY, draft).astype(int) for draft in (False, True))
        assert np.abs(full - drafted).mean() < 1.5  # grey levels, on a smooth picture


def test_views_at_source_are_intervened_before_resize(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8))
    noise.save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    solarize, blur = INTERVENTIONS.create("solarize"), INTERVENTIONS.create({"name": "gaussian_blur", "sigma": [3, 3]})
    views = model_input_views(content, GEOMETRY, "id", [(None, 0), (solarize, 0), (blur, 0)])
    np.testing.assert_array_equal(views[0], model_input(content, GEOMETRY, draft=False))
    solarized = their_pixels(ImageOps.solarize(noise, 128), PREPROCESS)
    np.testing.assert_array_equal(views[1], solarized)
    after = solarize.views(torch.from_numpy(views[:1].copy()).permute(0, 3, 1, 2), ["id"], 0)[0].permute(1, 2, 0)
    assert (after.numpy() != views[1]).any()  # the other order gives other pixels
    assert views.shape == (3, 48, 48, 3)


def test_bad_files_give_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient(400, 300).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for content in (b"", b"not an image", whole[:300]):
        with pytest.raises(UnreadableImage, match=r"\w+"):
            model_input(content, GEOMETRY, draft=True)
    Image.new("RGB", (30_000, 5)).save(tmp_path / "line.png")
    with pytest.raises(UnreadableImage, match="30000 x 5 pixels: too elongated"):
        model_input((tmp_path / "line.png").read_bytes(), Geometry.of({**PREPROCESS, "size": [224, 224]}), draft=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        model_input(whole, GEOMETRY, draft=True)
