"""Inputs of every kind, changed at random by a seed, and what reading them comes to: a sentence, a reason, or data.

By hand, all two thousand: ICM_BENCH_MUTATIONS=2000 pytest tests/embedding/test_mutated.py -k sentence
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmark.commands.preparing.text_pairs import read_text_pairs
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage
from benchmark.recipe.loading import load_recipe
from benchmark.store.embeddings import DEFAULT_DECODING

COUNT = int(os.environ.get("ICM_BENCH_MUTATIONS", "300"))
GEOMETRY = Geometry((32, 32), "shortest", bilinear=False, fill=0)
Outcome = tuple[str, Any]  # what it came to (`clean`, `sentence`, `reason`, `other`), and what was said or read


def _saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, format_, **options)
        return buffer.getvalue()


def _images() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 99
    return {
        "baseline.jpg": _saved(image, "JPEG", exif=exif, icc_profile=bytes(500)),
        "progressive.jpg": _saved(image, "JPEG", progressive=True, comment=b"x"),
        "colour.png": _saved(image, "PNG", exif=exif),
        "palette.png": _saved(image.convert("P"), "PNG", transparency=3),
        "deep.png": _saved(Image.fromarray(rng.integers(0, 2**16, (24, 30), dtype=np.uint16)), "PNG"),
        "lossy.webp": _saved(image, "WEBP", exif=exif),
        "animated.webp": _saved(image, "WEBP", lossless=True, save_all=True, append_images=[image.rotate(90)]),
        "plain.bmp": _saved(image, "BMP"),
        "plain.ppm": _saved(image, "PPM"),
        "animated.gif": _saved(image.convert("P"), "GIF", save_all=True, append_images=[image.rotate(90).convert("P")]),
        "frames.mpo": _saved(image, "MPO", save_all=True, append_images=[image]),
        **{
            f"{packing}.tif": _saved(image, "TIFF", compression=packing)
            for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        },
    }


IMAGES = _images()
PATHS = [f"env{e}/{c}/{i}.png" for e in range(2) for c in ("cat", "dog") for i in range(5)]
CONTENTS = {path: _saved(Image.new("RGB", (4, 4), (9 * i, 0, 0)), "PNG") for i, path in enumerate(PATHS)}


def _shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in CONTENTS.items():
            environment, class_name, _ = path.split("/")
            fields = json.dumps({"environment": environment, "class_name": class_name, "group": path}).encode()
            for name, text in ((path, content), (path.replace(".png", ".json"), fields)):
                member = tarfile.TarInfo(name)
                member.size, member.pax_headers = len(text), {"comment": "x" * 9} if path == PATHS[0] else {}
                archive.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def _parquet() -> bytes:
    image = pa.array(
        [{"bytes": c, "path": p} for p, c in CONTENTS.items()], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    columns = {"image": image, "label": [int("dog" in p) for p in PATHS], "domain": [p.split("/")[0] for p in PATHS]}
    features = {"label": {"names": ["cat", "dog"]}, "image": {"_type": "Image"}}
    said = {"huggingface": json.dumps({"info": {"features": features}})}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(said), buffer, row_group_size=7, compression="zstd")
    return buffer.getvalue()


def _lines(head: str, *cells: Callable[[str], str]) -> bytes:
    return "\n".join([head, *(",".join([path, *(cell(path) for cell in cells)]) for path in PATHS)]).encode() + b"\n"


RECIPE = b"""# a recipe
name: small
datasets: [{name: PACS, root: /data}, &v {name: VLCS, columns: {image: x}}]
backbones:
  - {name: MiniLiT, precision: float32}
interventions: {kinds: [grayscale, {name: posterize, bits: 2}], seed: 0}
sweep:
  lambdas: [0.1, 1e3]
  seeds: [0, 1]
run: {store: "s", max_bad_images: 0.5}
"""
PAIRS = b"".join(
    json.dumps({"caption": f"a {c}", "rewrite": f"a {c} at night", "class_name": c, "image_id": None}).encode() + b"\n"
    for c in ("cat", "dog", "h\u00e4hnchen")
)


def _read_image(content: bytes) -> str:
    return digest(decode(content, GEOMETRY, DEFAULT_DECODING))


def digest(image: Image.Image) -> str:
    """Return what stands for an image: the hash of its size and pixels."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def _data_set(name: str, layout: str) -> Callable[[bytes], Any]:
    """Return what reads a data set in which `name` has some content; all images of the manifest are read back."""

    def read(content: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            if layout in ("folder", "table"):
                for path, sound in CONTENTS.items():
                    (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / path).write_bytes(sound)
            (Path(folder) / name).write_bytes(content)
            try:
                manifest = read_manifest(DatasetSpec(name="small", root=folder, layout=layout))
                rows = manifest.table.drop_columns(["file"]).to_pylist()
                for row, image in zip(rows, manifest.reader.read(manifest.table.to_pydict()), strict=True):
                    row["image"] = image
                    if isinstance(image, bytes):
                        assert hashlib.sha256(image).hexdigest() == row["content"]
                return rows
            except IcmBenchError as error:
                raise IcmBenchError(str(error).replace(folder, "ROOT")) from error

    return read


def _file(name: str, load: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def read(content: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(content)
            return load(Path(folder) / name)

    return read


Kind = tuple[bytes, Callable[[bytes], Any]]
KINDS: dict[str, list[Kind]] = {
    "image": [(content, _read_image) for content in IMAGES.values()],
    "tar": [(_shard(), _data_set("0.tar", "webdataset"))],
    "Parquet": [(_parquet(), _data_set("0.parquet", "parquet"))],
    "YAML": [(RECIPE, _file("r.yaml", lambda file: load_recipe(file).model_dump(mode="json")))],
    "JSON": [(PAIRS, _file("pairs.jsonl", read_text_pairs))],
    "CSV": [
        (_lines("path,group", str), _data_set("groups.csv", "folder")),
        (
            _lines("path,label,environment", lambda p: p.split("/")[1], lambda p: p.split("/")[0]),
            _data_set("t.csv", "table"),
        ),
    ],
}
_ODD = (b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff", b"\n", b'"', b"[", b"{", b"&a ", b"*a", b": ", b"%!PS", b"../")  # fmt: skip


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Return content with a change or some: bits, bytes, cuts, holes, copies, insertions."""
    made = bytearray(content)
    if content.isascii() and rng.integers(2):  # letters that stand elsewhere in it, which leave more of a text sound
        for at in rng.integers(len(made), size=int(rng.integers(1, 4))):
            made[at] = content[int(rng.integers(len(content)))]
        return bytes(made)
    for _ in range(1 + int(rng.geometric(0.6)) // 2):
        at, length = int(rng.integers(len(made) + 1)), int(rng.integers(1, 17))
        how = int(rng.integers(8))
        if how == 0 and made:
            made[at % len(made)] ^= 1 << int(rng.integers(8))
        elif how == 1 and made:
            made[at % len(made)] = int(rng.integers(256))
        elif how == 2:
            del made[at:]
        elif how == 3:
            del made[at : at + length]
        elif how == 4:
            made[at : at + length] = bytes(len(made[at : at + length]))
        elif how == 5:
            made[at:at] = made[at : at + length] * int(rng.integers(1, 9))
        else:
            odd = _ODD[int(rng.integers(len(_ODD)))]
            made[at : at + (len(odd) if how == 6 else 0)] = odd
    return bytes(made)


def kind_of(seed: int) -> str:
    """Return the kind of input that a seed changes."""
    return list(KINDS)[seed % len(KINDS)]


def mutated_by(seed: int) -> tuple[bytes, bytes, Callable[[bytes], Any]]:
    """Return the input of a seed as it was, as it is, and what reads it."""
    kinds = KINDS[kind_of(seed)]
    content, read = kinds[seed // len(KINDS) % len(kinds)]
    return content, changed(content, np.random.default_rng(seed)), read


def outcome(seed: int) -> Outcome:
    """Return what the input of a seed comes to. Raises whatever is neither a sentence nor the reason of a bad image."""
    content, mutated, read = mutated_by(seed)
    try:
        found = read(mutated)
    except IcmBenchError as error:
        return "sentence", str(error)
    except UnreadableImage as error:
        return "reason", str(error)
    return ("clean" if mutated == content or found == read(content) else "other"), found
