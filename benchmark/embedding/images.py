"""Decoding, resize and crop of images to model-input size, on CPUs; torch is imported only where it is used.

A change of the resulting pixels needs a new `STORE_VERSION` (store/embeddings.py), since no hash depends on this code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmark.embedding.opening import UnreadableImage, opened, orientation
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding

if TYPE_CHECKING:
    from benchmark.method.interventions import Intervention


_EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> the transpose that makes the image upright
STRIP_PIXELS = 2**22  # pixels that are converted at a time
DRAFT_MARGIN = 2  # a JPEG decoded at reduced scale has at least this many times the width and height after the resize


@dataclass(frozen=True)
class Geometry:
    """Resize, crop and conversion to RGB of open_clip, on Pillow images. `of` must also read a new field.

    Attributes:
        size: (height, width) of the model's input.
        resize_mode: `shortest` (cover the input and crop), `longest` (fit into the input and pad) or `squash`.
        bilinear: whether the resize is bilinear; otherwise it is bicubic.
        fill: grey level of the padding, 0 to 255.
        resize_size: target (height, width) of the resize before the crop; None (default) for `size`.
    """

    size: tuple[int, int]
    resize_mode: str
    bilinear: bool
    fill: int
    resize_size: tuple[int, int] | None = None

    @classmethod
    def of(cls, preprocess: Mapping[str, Any]) -> "Geometry":
        """Return the geometry of an open_clip preprocessing (`BackboneFacts.preprocess`)."""
        return cls(
            size=tuple(preprocess["size"]),
            resize_mode=preprocess["resize_mode"],
            bilinear=preprocess["interpolation"] == "bilinear",
            fill=preprocess["fill_color"],
            resize_size=tuple(preprocess["resize_size"]) if "resize_size" in preprocess else None,
        )

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of an image after the resize and before the crop, given its size."""
        high, wide = self.resize_size or self.size
        if self.resize_mode == "squash":
            return wide, high
        if self.resize_mode == "shortest" and high == wide:  # sizes are truncated, as in torchvision; below rounded
            return (high, int(high * height / width)) if width <= height else (int(high * width / height), high)
        ratios = (height / high, width / wide)
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return round(width / ratio), round(height / ratio)

    def __call__(self, image: Image.Image, resize: str = "pillow") -> Image.Image:
        """Return an image at model-input size, in RGB.

        As in open_clip, an image is resized, padded and cropped in the mode in which it is given: palettes and 1-bit
        images by the nearest pixel, transparent colours weighted by their opacity. `resize` is as in `Decoding`.
        """
        width, height = self.resized(*image.size)
        if width * height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise UnreadableImage(f"{image.width} x {image.height} pixels: too elongated to be resized")
        # open_clip ignores the interpolation, and is bicubic, if the input is not square
        bilinear = self.bilinear and (self.size[0] == self.size[1] or self.resize_mode != "shortest")
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
            image = image.convert("RGB")  # the same pixels in the end, in less time
        if image.size != (width, height):
            if resize == "torch" and image.mode in ("RGB", "RGBA"):
                image = _resized_by_torch(image, (height, width), "bilinear" if bilinear else "bicubic")
            else:
                kind = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
                image = image.resize((width, height), kind)
        high, wide = self.size
        if width < wide or height < high:
            pad_x, pad_y = max(0, wide - width), max(0, high - height)
            border = (pad_x // 2, pad_y // 2, (pad_x + 1) // 2, (pad_y + 1) // 2)
            bands = len(image.getbands())
            image = ImageOps.expand(image, border, fill=(self.fill,) * bands if bands > 1 else self.fill)
        left, top = round((image.width - wide) / 2), round((image.height - high) / 2)
        image = image.crop((left, top, left + wide, top + high))
        return image if image.mode == "RGB" else image.convert("RGB")


def _resized_by_torch(image: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    """Return the image at (height, width) `size`; like Pillow's resize, it weights colours by their opacity."""
    import torch

    weighted = image.convert("RGBa") if image.mode == "RGBA" else image
    try:
        pixels = torch.utils.dlpack.from_dlpack(pa.array(weighted).values)  # Pillow's own memory, of four bytes a pixel
    except ValueError:  # Pillow keeps a large image in several pieces
        pixels = torch.from_numpy(np.array(weighted))
    pixels = pixels.reshape(1, image.height, image.width, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(pixels, size, mode=mode, antialias=True)[0].permute(1, 2, 0)
    packing = "RGBX" if weighted.mode == "RGB" and resized.shape[2] == 4 else weighted.mode
    made = Image.frombytes(weighted.mode, size[::-1], resized.numpy().tobytes(), "raw", packing)
    return made if made.mode == image.mode else made.convert(image.mode)


def decode(
    content: bytes, geometry: Geometry, decoding: Decoding = DEFAULT_DECODING, formats: Sequence[str] = ()
) -> Image.Image:
    """Return the image in a file, in RGB, before the resize; of an animation, the first frame.

    `geometry` says at which scale a JPEG may be decoded, see `Decoding`. `formats` are further formats to decode, by
    Pillow's names.

    Raises:
        UnreadableImage: the file is damaged, is not an image, or has more pixels than Pillow allows.
    """
    with opened(content, formats) as image:
        return _loaded(image, geometry, decoding).convert("RGB")


def _loaded(image: Image.Image, geometry: Geometry, decoding: Decoding) -> Image.Image:
    """Return the pixels of an opened image in the file's own mode, of values beyond 8 bits in grey levels."""
    if decoding.reduced:
        width, height = geometry.resized(*image.size)
        image.draft(None, (DRAFT_MARGIN * width, DRAFT_MARGIN * height))
    image.load()
    turn = _EXIF_TRANSPOSES.get(orientation(image)) if decoding.upright else None
    pixels = to_eight_bits(image)
    return pixels if turn is None else pixels.transpose(turn)


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Return the image with 256 grey levels. Pillow itself would clip larger values, which gives a white image.

    Values from 0 to 255 are kept. Of integers up to 65535 only the upper byte is kept, as Pillow does for 16-bit colour
    files. Floats from 0 to 1 are multiplied by 255.
    Raises UnreadableImage for other ranges of values.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    extrema = [(strip.min(), strip.max()) for _, strip in _strips(image)]
    low, high = float(np.min(extrema)), float(np.max(extrema))  # NaN if any value is NaN
    is_float = image.mode == "F"
    maximum = 1 if is_float else 65535
    if 0 <= low <= high <= 255 and not (is_float and high <= maximum):
        return image
    if not 0 <= low <= high <= maximum:
        raise UnreadableImage(
            f"its values go from {low:g} to {high:g}, and are to be 0 to 255 or 65535, or 0 to 1 in floats"
        )
    levels = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        levels[top : top + len(strip)] = np.rint(strip * np.float32(255)) if is_float else strip >> 8
    return Image.fromarray(levels)


def _strips(image: Image.Image) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, pixels) of each strip of a one-band image, as a whole copy would need much memory."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def model_input(
    content: bytes, geometry: Geometry, decoding: Decoding, formats: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Return the image at model-input size: uint8, shape (height, width, 3). Raises UnreadableImage."""
    with opened(content, formats) as image:
        return np.asarray(geometry(_loaded(image, geometry, decoding), decoding.resize))


def model_input_views(
    content: bytes,
    geometry: Geometry,
    decoding: Decoding,
    image_id: str,
    views: Sequence[tuple["Intervention | None", int]],
    formats: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Return views at model-input size: uint8, shape (views, height, width, 3). Raises UnreadableImage.

    As in the paper's released code, interventions act at full resolution, in RGB; the resize and the crop follow.
    `views` has a pair for each view: the intervention (None for the original, as in `model_input`) and the seed.
    """
    import torch

    pixels = torch.from_numpy(np.array(decode(content, geometry, decoding, formats))).permute(2, 0, 1)[None]
    made = []
    for intervention, seed in views:
        if intervention is None:
            made.append(model_input(content, geometry, decoding, formats))
        else:
            changed = intervention.views(pixels, [image_id], seed)[0]
            view = Image.fromarray(changed.permute(1, 2, 0).contiguous().numpy())
            made.append(np.asarray(geometry(view, decoding.resize)))
    return np.stack(made)
