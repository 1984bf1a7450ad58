"""Thumbnails for the page of a report, packed into sprites (one image with many thumbnails), with limits on size."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from benchmark.datasets.manifest import Manifest
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage

SIZE = 40  # height and width of a thumbnail in pixels
ROWS = 100  # thumbnails per sprite, in one column
MAX_IMAGES = 2_000
MAX_BYTES = 800_000  # maximum bytes of all sprites in base64, as on the page
QUALITIES = (70, 50, 30, 15)  # WebP qualities, tried in order until all sprites fit
_GEOMETRY = Geometry((SIZE, SIZE), "longest", bilinear=False, fill=128)


def thumbnails(manifests: Iterable[Manifest], ids: Sequence[str]) -> tuple[list[str], tuple[bytes, ...]]:
    """Return the ids of the images that have a thumbnail, in the order of `ids`, and the sprites.

    Unknown and unreadable images are left out; so are the last images beyond `MAX_IMAGES` or `MAX_BYTES`.
    Raises IcmBenchError if a file cannot be opened or has changed.
    """
    small: dict[str, Image.Image | None] = {}
    asked = list(dict.fromkeys(ids))[:MAX_IMAGES]
    for manifest in manifests:
        small |= _read(manifest, [name for name in asked if name not in small])
    names = [name for name in asked if small.get(name)]
    sprites = packed([image for name in names if (image := small[name])])
    return names[: len(sprites) * ROWS], sprites


def thumbnail(content: bytes, formats: Sequence[str] = ()) -> Image.Image:
    """Return an image, upright and padded with grey, in a square of `SIZE` pixels. Raises UnreadableImage."""
    image = decode(content, _GEOMETRY, formats=formats)
    if min(_GEOMETRY.resized(*image.size)) < 1:
        raise UnreadableImage(f"{image.width} x {image.height} pixels: too elongated to be seen")
    return _GEOMETRY(image)


def packed(images: Sequence[Image.Image]) -> tuple[bytes, ...]:
    """Return sprites at the highest quality at which all fit into `MAX_BYTES`.

    If they are too large at every quality, the last sprites are left out.
    """
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
    """Return id -> thumbnail for the images of a data set, None for an unreadable image."""
    table = manifest.table.select(["image_id", "file", "position", "bytes"])
    table = table.filter(pc.is_in(table["image_id"], value_set=pc.cast(list(ids), "string")))
    found: dict[str, Image.Image | None] = {}
    _, first = np.unique(table["image_id"].to_pylist(), return_index=True)
    rows = table.take(np.sort(first)).to_pydict()  # in the order of the data set, so that each file is read once
    for name, content in zip(rows["image_id"], manifest.reader.read(rows), strict=True):
        try:
            found[name] = None if isinstance(content, str) else thumbnail(content, manifest.reader.formats)
        except UnreadableImage:
            found[name] = None
    return found
