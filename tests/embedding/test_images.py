"""From a file to pixels: like open_clip's own resize, crop and conversion of upright images, or a reason."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps
from torchvision.transforms import Compose, InterpolationMode
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.transforms.v2.functional import resize as resize_v2

from benchmark.embedding.images import Geometry, decode, model_input, model_input_views
from benchmark.embedding.opening import UnreadableImage
from benchmark.method.interventions import INTERVENTIONS
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding

PREPROCESS = {
    "size": [48, 48], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
    "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
}  # fmt: skip

GEOMETRY = Geometry.of(PREPROCESS)


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def their_pixels(image: Image.Image, preprocess: dict[str, Any]) -> np.ndarray:
    """open_clip's own transform, up to the image that it makes a tensor of."""
    *steps, _, _ = image_transform_v2(PreprocessCfg(**preprocess), is_train=False).transforms
    return np.asarray(Compose(steps)(image))


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
        pixels = model_input((tmp_path / "image.png").read_bytes(), geometry, DEFAULT_DECODING)
        np.testing.assert_array_equal(pixels, their_pixels(Image.open(tmp_path / "image.png"), preprocess))


def test_what_is_decoded_at_full_scale_is_upright_rgb(tmp_path: Path) -> None:
    image = gradient(60, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by 270 degrees
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright = decode((tmp_path / "turned.png").read_bytes(), GEOMETRY, DEFAULT_DECODING)
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(image))
    for mode, suffix in (("P", "png"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("1", "png")):
        file = tmp_path / f"{mode}.{suffix}"
        image.convert(mode).save(file)
        expected = Image.open(file).convert("RGB")
        ours = decode(file.read_bytes(), GEOMETRY, DEFAULT_DECODING)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))


# Mode in which a file is opened, and what else goes with it -> how it is saved.
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "P": ("PNG", {}), "P with a transparent colour": ("PNG", {"transparency": 3}),
    "P with opacities": ("PNG", {"transparency": bytes(range(256))}), "P in a GIF": ("GIF", {}),
    "PA": ("TIFF", {}), "1": ("PNG", {}), "L": ("PNG", {}), "LA": ("PNG", {}), "RGBA": ("PNG", {}),
    "RGBA in a WebP": ("WEBP", {"lossless": True}), "RGBA opaque": ("PNG", {}),
    "RGB with a transparent colour": ("PNG", {"transparency": (0,) * 3}),
    "CMYK": ("TIFF", {}), "CMYK in a JPEG": ("JPEG", {}), "YCbCr": ("TIFF", {}), "LAB": ("TIFF", {}),
}  # fmt: skip


def file_of(kind: str, width: int, height: int) -> bytes:
    image, mode = gradient(width, height), kind.split()[0]
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, image.tobytes())
    else:
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    if mode in ("LA", "RGBA") and kind != "RGBA opaque":
        image.putalpha(Image.fromarray(np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, axis=0)))
    container, options = SAVED[kind]
    content = io.BytesIO()
    image.save(content, container, **options)
    assert Image.open(content).mode == mode
    return content.getvalue()


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_images_of_every_mode_are_resized_padded_and_cropped_as_open_clip_does(kind: str, resize_mode: str) -> None:
    for fill, size, interpolation in ((0, (61, 90), "bicubic"), (200, (90, 61), "bilinear"), (7, (20, 31), "bicubic")):
        preprocess = {**PREPROCESS, "resize_mode": resize_mode, "fill_color": fill, "interpolation": interpolation}
        content, geometry = file_of(kind, *size), Geometry.of(preprocess)
        theirs = their_pixels(Image.open(io.BytesIO(content)), preprocess)
        np.testing.assert_array_equal(model_input(content, geometry, DEFAULT_DECODING), theirs)
        (at_source,) = model_input_views(content, geometry, Decoding(at_source=True), "id", [(None, 0)])
        np.testing.assert_array_equal(at_source, theirs)


@pytest.mark.parametrize("kind", ["P", "RGBA"])
def test_interventions_at_source_act_on_rgb(kind: str) -> None:
    content, solarize = file_of(kind, 90, 61), INTERVENTIONS.create("solarize")
    (view,) = model_input_views(content, GEOMETRY, Decoding(at_source=True), "id", [(solarize, 0)])
    solarized = ImageOps.solarize(Image.open(io.BytesIO(content)).convert("RGB"), 128)
    np.testing.assert_array_equal(view, their_pixels(solarized, PREPROCESS))


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_or_as_open_clip_sees_them(container: str, orientation: int) -> None:
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    gradient(90, 61).save(content, container, exif=exif)
    stored = Image.open(content)
    for upright, image in ((True, ImageOps.exif_transpose(stored)), (False, stored)):
        pixels = model_input(content.getvalue(), GEOMETRY, Decoding(upright=upright))
        np.testing.assert_array_equal(pixels, their_pixels(image, PREPROCESS))


# Mean difference in grey levels between our pixels and those of open_clip on a picture of soft shapes: at least and at
# most. Those of docs/data.md.
DIFFERENCES = {"as stored": (0, 0), "turned": (60, 70), "resized by torch": (0.001, 0.02)}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_how_far_pixels_are_from_those_of_open_clip(kind: str) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = 1 if kind == "resized by torch" else 6
    Image.fromarray(rough).resize((200, 150), Image.Resampling.BICUBIC).save(content, "PNG", exif=exif)
    decoding = Decoding(upright=kind != "as stored", resize="torch" if kind == "resized by torch" else "pillow")
    ours = model_input(content.getvalue(), GEOMETRY, decoding).astype(int)
    difference = np.abs(ours - their_pixels(Image.open(content), PREPROCESS)).mean()
    least, most = DIFFERENCES[kind]
    assert least <= difference <= most, difference


@pytest.mark.parametrize("size", [(150, 200), (2400, 3200)])  # Pillow keeps the larger one in several pieces
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_resize_of_torch_is_its_own_on_uint8_and_one_grey_level_off_at_most(
    size: tuple[int, int], interpolation: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    content, preprocess = io.BytesIO(), {**PREPROCESS, "interpolation": interpolation}
    Image.fromarray(noise).save(content, "PNG", compress_level=0)
    ours = model_input(content.getvalue(), Geometry.of(preprocess), Decoding(resize="torch"))
    pixels = pil_to_tensor(Image.open(content).convert("RGB"))[None]
    theirs = resize_v2(pixels, [48], InterpolationMode(interpolation), antialias=True)[0, :, :, 8:56]
    np.testing.assert_array_equal(ours, theirs.permute(1, 2, 0).numpy())
    pillow = model_input(content.getvalue(), Geometry.of(preprocess), DEFAULT_DECODING)
    assert 0 < np.abs(ours.astype(int) - pillow).max() <= 1
    opaque = io.BytesIO()
    Image.open(content).convert("RGBA").save(opaque, "PNG", compress_level=0)
    np.testing.assert_array_equal(
        model_input(opaque.getvalue(), Geometry.of(preprocess), Decoding(resize="torch")), ours
    )


@pytest.mark.parametrize("kind", SAVED)
def test_the_resize_of_torch_treats_modes_as_that_of_pillow(kind: str) -> None:
    content = file_of(kind, 90, 61)
    ours, theirs = (model_input(content, GEOMETRY, Decoding(resize=by)).astype(int) for by in ("torch", "pillow"))
    assert np.abs(ours - theirs).mean() < 0.2


def test_only_the_resize_of_torch_needs_torch(tmp_path: Path) -> None:
    gradient(90, 61).save(tmp_path / "image.png")
    for resize, needed in (("pillow", False), ("torch", True)):
        program = f"""
import sys
from benchmark.embedding.images import Geometry, model_input
from benchmark.store.embeddings import Decoding
model_input(open({str(tmp_path / "image.png")!r}, "rb").read(), {GEOMETRY!r}, Decoding(resize={resize!r}))
print("torch" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(needed)


def test_a_large_jpeg_is_decoded_at_reduced_scale_only_when_asked_and_never_below_the_margin(tmp_path: Path) -> None:
    for width, height, expected in ((400, 300, (200, 150)), (390, 191, (390, 191)), (1600, 1200, (200, 150))):
        gradient(width, height).save(tmp_path / "large.jpg", quality=95)
        content = (tmp_path / "large.jpg").read_bytes()
        assert decode(content, GEOMETRY, Decoding(draft=False)).size == (width, height)
        assert decode(content, GEOMETRY, DEFAULT_DECODING).size == expected
        full, drafted = (model_input(content, GEOMETRY, Decoding(draft=draft)).astype(int) for draft in (False, True))
        assert np.abs(full - drafted).mean() < 1.5  # grey levels, on a smooth picture


def test_views_at_source_are_intervened_before_resize(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8))
    noise.save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    solarize, blur = INTERVENTIONS.create("solarize"), INTERVENTIONS.create({"name": "gaussian_blur", "sigma": [3, 3]})
    views = model_input_views(content, GEOMETRY, Decoding(at_source=True), "id", [(None, 0), (solarize, 0), (blur, 0)])
    np.testing.assert_array_equal(views[0], model_input(content, GEOMETRY, Decoding(draft=False)))
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
            model_input(content, GEOMETRY, DEFAULT_DECODING)
    Image.new("RGB", (30_000, 5)).save(tmp_path / "line.png")
    with pytest.raises(UnreadableImage, match="30000 x 5 pixels: too elongated"):
        model_input(
            (tmp_path / "line.png").read_bytes(), Geometry.of({**PREPROCESS, "size": [224, 224]}), DEFAULT_DECODING
        )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        model_input(whole, GEOMETRY, DEFAULT_DECODING)
