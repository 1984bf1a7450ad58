"""Three hundred damaged and unusual files through the whole pipeline, against Pillow and open_clip themselves."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

from benchmark.backbones.loading import Backbone
from benchmark.commands.prepare import prepare
from benchmark.common.storage import Storage
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, format_, **options)
        return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that only says how large it is."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body)) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + chunk


def mutations(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the file, content); deterministic."""
    rng = np.random.default_rng(0)
    contents = [file.read_bytes() for file in files]
    for i in range(70):
        content = contents[i]
        yield f"truncated{i}.jpg", content[: int(rng.integers(1, len(content)))]
    for i in range(100):
        flipped = bytearray(contents[i])
        for place in rng.integers(0, len(flipped), int(rng.integers(1, 12))):
            flipped[place] ^= 1 << int(rng.integers(8))
        yield f"flipped{i}.jpg", bytes(flipped)
    for i in range(30):
        holed = bytearray(contents[i])
        start = int(rng.integers(0, len(holed)))
        holed[start : start + 200] = bytes(len(holed[start : start + 200]))
        yield f"zeroed{i}.jpg", bytes(holed)
    for i in range(14):
        image = Image.open(files[i]).convert("RGB")
        suffix = (".png", ".tif", ".bmp", ".webp")[i % 4]
        yield f"jpeg{i}{suffix}", contents[i]
        yield f"png{i}.jpg", saved(image, "PNG")
        yield f"cmyk{i}.jpg", saved(image.convert("CMYK"), "JPEG")
        yield f"palette{i}.png", saved(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=i)
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        yield f"sixteen{i}{suffix}", saved(Image.fromarray(grey), "TIFF" if i % 2 else "PNG")
        frames = [image, image.rotate(90)]
        yield (
            f"animated{i}{suffix}",
            saved(frames[0], ("GIF", "PNG", "WEBP")[i % 3], save_all=True, append_images=frames[1:]),
        )
        exif = Image.Exif()
        exif[0x0112] = i % 8 + 1
        yield f"turned{i}.jpg", saved(image.resize((120, 80)), "JPEG", exif=exif)
    for i in range(4):
        yield f"wide{i}.jpg", saved(Image.open(files[i]).convert("RGB").resize((30_000, 150 + i)), "JPEG")
        yield f"line{i}.png", saved(Image.new("RGB", (30_000, 1 + i)), "PNG")
        yield f"bomb{i}.png", png_header(60_000, 60_000 + i)
        yield f"empty{i}.jpg", b""
        yield f"text{i}.jpg", b"This is no image but number %d." % i
        yield f"page{i}.png", b"<html><img src='%d'></html>" % i
        yield f"alpha{i}.png", saved(Image.open(files[i]).convert("RGBA").rotate(30 + i), "PNG")
        yield f"bits{i}.png", saved(Image.open(files[i]).convert("1"), "PNG")


def pillow(content: bytes) -> Image.Image | None:
    """Upright RGB by Pillow alone, or None where it refuses or where the image would not fit a bound on pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    except Exception:  # damaged files make Pillow raise anything; whatever it is, Pillow refuses the file
        return None
    short, long = sorted(image.size)
    return image if long * 224 / short * 224 < 89_000_000 else None


def test_every_file_is_rejected_with_a_reason_or_embedded_like_pillow_reads_it(
    pacs_sample: Path, tmp_path: Path, tiny_random: dict[str, Any]
) -> None:
    files = sorted((pacs_sample / "PACS").rglob("*.jpg"))[::5]
    made = dict(mutations(files))
    assert len(made) >= 300
    for i, (name, content) in enumerate(made.items()):
        place = tmp_path / "odd" / f"env{i % 2}" / f"class{i // 2 % 2}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    recipe = parse_recipe(
        {
            "name": "odd",
            "datasets": [{"name": "odd", "root": str(tmp_path / "odd")}],
            "backbones": [{**tiny_random, "image_size": 224}],
            "interventions": {"kinds": []},
            "sweep": {"projections": ["identity"]},
            "run": {"max_bad_images": 1.0},
        }
    )
    storage = Storage(str(tmp_path / "store"))
    (subject,) = prepare(recipe, storage, lambda _: None).subjects
    job = EmbedJob(storage, subject.manifest, subject.backbone, subject.facts, subject.views, subject.decoding)
    report = embed(job, recipe.run)

    table = subject.manifest.table
    read = {path: pillow(made[Path(path).name]) for path in table["path"].to_pylist()}
    assert set(report.rejected) == {path for path, image in read.items() if image is None}
    assert all(reason.strip() for reason in report.rejected.values())
    assert len(report.rejected) > 50
    accepted = [
        (path, image_id) for path, image_id in zip(read, table["image_id"].to_pylist(), strict=True) if read[path]
    ]
    assert len(accepted) > 150
    stored = store.read(storage, subject.views[0], [image_id for _, image_id in accepted])
    backbone = Backbone(subject.backbone)
    transform = image_transform_v2(PreprocessCfg(**backbone.preprocess), is_train=False)
    for (path, _), ours in zip(accepted, stored, strict=True):
        with torch.inference_mode():
            theirs = backbone.encoder.encode_images(transform(read[path])[None])[0]
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, err_msg=path)
    print(f"{len(made)} files: {len(accepted)} embedded like Pillow reads them, {len(report.rejected)} rejected")
