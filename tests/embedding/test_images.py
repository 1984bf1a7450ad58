"""From a file to pixels: like Pillow's upright RGB decoding and open_clip's own resize and crop, or a reason."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from benchmark.backbones import geometry
from benchmark.embedding.images import UnreadableImage, read_image
from benchmark.errors import IcmBenchError

PREPROCESS = {
    "size": [48, 48], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
    "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
}  # fmt: skip


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(100, 70), (70, 100), (30, 20), (48, 48)])
def test_pixels_are_those_of_open_clip(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    gradient(*size).save(tmp_path / "image.png")
    preprocess = {**PREPROCESS, "resize_mode": mode}
    pixels = read_image(tmp_path / "image.png", geometry(preprocess))
    assert pixels.shape == (48, 48, 3)
    theirs = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)(Image.open(tmp_path / "image.png"))
    ours = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(ours, theirs)


def test_orientation_palette_grey_and_cmyk_become_upright_rgb(tmp_path: Path) -> None:
    image = gradient(60, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by 270 degrees
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "turned.png", geometry(PREPROCESS)),
        np.asarray(geometry(PREPROCESS)(image.rotate(90, expand=True).rotate(-90, expand=True))),
    )
    for mode, suffix in (("P", "png"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("1", "png")):
        file = tmp_path / f"{mode}.{suffix}"
        image.convert(mode).save(file)
        expected = geometry(PREPROCESS)(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(read_image(file, geometry(PREPROCESS)), np.asarray(expected))


def test_bad_files_give_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    gradient(400, 300).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    for name in ("empty.jpg", "text.jpg", "cut.png"):
        with pytest.raises(UnreadableImage, match=r"\w+"):
            read_image(tmp_path / name, geometry(PREPROCESS))
    with pytest.raises(IcmBenchError, match=r"absent\.png cannot be read"):  # says nothing of the image
        read_image(tmp_path / "absent.png", geometry(PREPROCESS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="exceeds limit"):
        read_image(tmp_path / "whole.png", geometry(PREPROCESS))
