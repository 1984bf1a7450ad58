"""Thumbnails of images for the page of a report: in sprites, bounded by number and by bytes."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from benchmark.datasets.manifest import Manifest
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage

SIZE = 40  # pixels in height and width
ROWS = 100  # images in a sprite, below each other
MAX_IMAGES = 2_000
MAX_BYTES = 800_000  # of all sprites in base64, as a page holds them
QUALITIES = (70, 50, 30, 15)  # of WebP: the first with which everything fits, else the last
_GEOMETRY = Geometry((SIZE, SIZE), "longest", bilinear=False, fill=128)


def thumbnails(manifests: Iterable[Manifest], ids: Sequence[str]) -> tuple[list[str], tuple[bytes, ...]]:
    """Return the images that have a thumbnail, in the order of `ids`, and the sprites in which these stand.

    What no data set has, or cannot be read, is left out; so are the last ones where there are too many.
    Raises IcmBenchError where a file cannot be opened or has changed.
    """
    small: dict[str, Image.Image | None] = {}
    asked = list(dict.fromkeys(ids))[:MAX_IMAGES]
    for manifest in manifests:
        small |= _read(manifest, [name for name in asked if name not in small])
    names = [name for name in asked if small.get(name)]
    sprites = packed([image for name in names if (image := small[name])])
    return names[: len(sprites) * ROWS], sprites


def thumbnail(content: bytes, formats: Sequence[str] = ()) -> Image.Image:
    """Return an image, upright, within a square of `SIZE`, with grey where it is not square. Raises UnreadableImage."""
    image = decode(content, _GEOMETRY, True, formats)
    if min(_GEOMETRY.resized(*image.size)) < 1:
        raise UnreadableImage(f"{image.width} x {image.height} pixels: too elongated to be seen")
    return _GEOMETRY(image)


def packed(images: Sequence[Image.Image]) -> tuple[bytes, ...]:
    """Return the sprites of images: at lower quality where they are too large, and at the lowest without the last."""
    strips = []
    for start in range(0, len(images), ROWS):
        below_each_other = images[start : start + ROWS]
        strip = Image.new("RGB", (SIZE, SIZE * len(below_each_other)))
        for row, image in enumerate(below_each_other):
            strip.paste(image, (0, SIZE * row))
        strips.append(strip)
    sprites, fitting = list[bytes](), 0
    for quality in QUALITIES:
        sprites = []
        for strip in strips:
            file = io.BytesIO()
            strip.save(file, "WEBP", quality=quality, method=6)
            sprites.append(file.getvalue())
        fitting = int((np.cumsum([4 * -(-len(sprite) // 3) for sprite in sprites]) <= MAX_BYTES).sum())  # in base64
        if fitting == len(sprites):
            break
    return tuple(sprites[:fitting])


def _read(manifest: Manifest, ids: Sequence[str]) -> dict[str, Image.Image | None]:
    """Return thumbnails of the images that a data set has; None for those that cannot be read."""
    table = manifest.table.select(["image_id", "file", "position", "bytes"])
    table = table.filter(pc.is_in(table["image_id"], value_set=pc.cast(list(ids), "string")))
    found: dict[str, Image.Image | None] = {}
    _, first = np.unique(table["image_id"].to_pylist(), return_index=True)
    rows = table.take(np.sort(first)).to_pydict()  # in the order of the data set, in which files are read once
    for name, content in zip(rows["image_id"], manifest.reader.read(rows), strict=True):
        try:
            found[name] = None if isinstance(content, str) else thumbnail(content, manifest.reader.formats)
        except UnreadableImage:
            found[name] = None
    return found
