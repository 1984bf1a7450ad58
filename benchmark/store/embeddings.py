"""The store of embeddings: a directory for each view, named by the hash of what it depends on, with numbered parts.

The images of a data set, repeated bytes left out, are cut into chunks of a fixed size in manifest order; a part holds
the embeddings of one chunk and is written whole or not at all. Several writers, whatever their machines, thus write
the same parts under the same names: nothing is there twice, and what is missing is known from a listing.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.common.hashing import canonical_hash
from benchmark.common.storage import Storage
from benchmark.method.interventions import Intervention

ORIGINAL = "original"
ROOT = "embeddings"
STORE_VERSION = 3  # to be raised when decoding, a built-in intervention or the cut into chunks changes
_READERS = 8  # files read at a time
_DIGEST = b"icm_bench_sha256"
_SPEED = "speed.json"


@dataclass(frozen=True)
class Decoding:
    """How the images of a whole job become pixels, the same for all its views.

    Attributes:
        at_source: whether interventions act on the image at full resolution, before resize and crop; by default they
            act at model-input size.
        draft: whether a JPEG far larger than the model's input is decoded at reduced scale; never where `at_source`.
    """

    at_source: bool = False
    draft: bool = True

    @property
    def reduced(self) -> bool:
        """Whether reduced scale is used: at full resolution means so for the original beside the interventions too."""
        return self.draft and not self.at_source


DEFAULT_DECODING = Decoding()


@dataclass(frozen=True)
class View:
    """One view of the images of a data set under one backbone: a directory of the store.

    Attributes:
        label: `original`, or the label of the intervention.
        intervention: None for the original.
        seed: seed of the intervention's random draws; 0 or more.
        images: number of distinct images of the data set.
        depends_on: data set fingerprint, backbone identity and view, in plain data; its hash is the key.
    """

    label: str
    intervention: Intervention | None
    seed: int
    images: int
    depends_on: dict[str, Any]

    @property
    def directory(self) -> str:
        """The directory inside the store."""
        return f"{ROOT}/{canonical_hash(self.depends_on)[:32]}"


def view_of(
    dataset_fingerprint: str,
    images: int,
    backbone_identity: dict[str, Any],
    intervention: Intervention | None,
    seed: int,
    decoding: Decoding = DEFAULT_DECODING,
) -> View:
    """Return the view's place in the store. The original depends neither on the seed nor on where others are made."""
    what: dict[str, Any] = {"kind": ORIGINAL}
    if intervention is not None:
        what = {**intervention.model_dump(mode="json"), "seed": seed, "implementation": intervention.implementation}
        what |= {"at": "source"} if decoding.at_source else {}
    what |= {"version": STORE_VERSION, "jpeg_draft": decoding.reduced}
    depends_on = {"dataset": dataset_fingerprint, "backbone": backbone_identity, "view": what}
    label = intervention.label if intervention else ORIGINAL
    return View(label, intervention, seed, images, depends_on)


def distinct(image_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the positions of the images that repeat no earlier one: these are embedded."""
    first = {image_id: i for i, image_id in reversed(list(enumerate(image_ids)))}
    return np.array(sorted(first.values()), dtype=np.int64)


def chunk_size(images: int) -> int:
    """Return how many images a chunk has: few enough to lose little, enough to keep the number of files in bounds."""
    return 64 if images <= 65_536 else 256


def chunk_count(images: int) -> int:
    """Return the number of chunks of a data set with `images` distinct images."""
    return -(-images // chunk_size(images))


def part_name(directory: str, chunk: int) -> str:
    """Return the name of the part that holds a chunk."""
    return f"{directory}/part-{chunk:05d}.parquet"


def part_number(name: str) -> int | None:
    """Return which chunk a file holds, or None where it is no part."""
    stem = name.rsplit("/", 1)[-1]
    number = stem.removeprefix("part-").removesuffix(".parquet")
    return int(number) if stem == f"part-{number}.parquet" and number.isdecimal() else None


def parts(storage: Storage, directory: str) -> dict[int, str]:
    """Return chunk -> file name of the parts that exist, in order. Reads no file."""
    by_number = {part_number(name): name for name in storage.files(directory, ".parquet")}
    return {number: by_number[number] for number in sorted(n for n in by_number if n is not None)}


def write_part(storage: Storage, view: View, chunk: int, table: pa.Table, rejected: Sequence[Sequence[str]]) -> None:
    """Write the part of a chunk.

    Args:
        storage: the store to write to.
        view: the view that the embeddings are of.
        chunk: number of the chunk.
        table: columns image_id, environment, class_name, label, view, embedding (fixed-size list); may have no rows.
        rejected: (image_id, path, reason) of the chunk's images that cannot be read.
    """
    if rejected:  # first, so that a part is never there without them
        content = json.dumps([list(row) for row in rejected], ensure_ascii=False).encode()
        storage.write_bytes(f"{view.directory}/rejected-{chunk:05d}.json", content)
    table = table.replace_schema_metadata({_DIGEST: content_digest(table).encode()})
    storage.write_table(part_name(view.directory, chunk), table)


def rejected_in(storage: Storage, directory: str) -> dict[int, list[tuple[str, str, str]]]:
    """Return chunk -> (image_id, path, reason) of its images that cannot be read."""
    by_chunk = {}
    for name in storage.files(directory, ".json"):
        stem = name.rsplit("/", 1)[-1]
        if stem.startswith("rejected-"):
            chunk = int(stem.removeprefix("rejected-").removesuffix(".json"))
            by_chunk[chunk] = [(a, b, c) for a, b, c in json.loads(storage.read_bytes(name))]
    return by_chunk


def rejected(storage: Storage, views: Iterable[View]) -> dict[str, tuple[str, str]]:
    """Return image id -> (path, reason) of the images that could not be read for any of the views."""
    return {
        image_id: (path, reason)
        for view in views
        for rows in rejected_in(storage, view.directory).values()
        for image_id, path, reason in rows
    }


def read(storage: Storage, view: View, image_ids: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of `image_ids` in that order, shape (len(image_ids), D), float32.

    Raises:
        KeyError: an image is not in the store.
    """
    names = list(parts(storage, view.directory).values())
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda name: storage.read_table(name, ["image_id", "embedding"]), names))
    if not tables:
        raise KeyError(image_ids[0])
    table = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    position = {image_id: i for i, image_id in enumerate(table["image_id"].to_pylist())}
    return vectors(table)[[position[i] for i in image_ids]].astype(np.float32, copy=False)


def vectors(table: pa.Table) -> NDArray[np.floating]:
    """Return the column `embedding` of a part, shape (rows, D), in the precision in which it is stored."""
    column = table["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size))


def content_digest(table: pa.Table) -> str:
    """Return the SHA-256 (hex) over image ids and bytes of embeddings of a part, in order."""
    digest = hashlib.sha256("\n".join(table["image_id"].to_pylist()).encode())
    digest.update(np.ascontiguousarray(vectors(table)).tobytes())
    return digest.hexdigest()


def stored_digest(table: pa.Table) -> str:
    """Return the digest that a part was written with."""
    return (table.schema.metadata or {}).get(_DIGEST, b"").decode()


def about_file(directory: str) -> str:
    """Return the name of the file that says what a directory holds."""
    return f"{directory}/about.json"


def write_about(storage: Storage, view: View, about: dict[str, Any]) -> None:
    """Write, before the first part, what a directory holds in words: the same whoever writes it."""
    content = {"view": view.label, "images": view.images, "depends_on": view.depends_on, **about}
    storage.write_bytes(about_file(view.directory), json.dumps(content, indent=2, sort_keys=True).encode())


def write_speed(storage: Storage, view: View, speed: dict[str, Any]) -> None:
    """Write how fast the last run went that embedded something here, and on what."""
    storage.write_bytes(f"{view.directory}/{_SPEED}", json.dumps(speed, indent=2, sort_keys=True).encode())


def read_speeds(storage: Storage) -> dict[str, float]:
    """Return backbone -> (image, view) pairs per second, over all its encoders, of a run that wrote into the store."""
    speeds = {}
    for name in storage.files(ROOT, _SPEED):
        about = about_file(name.rpartition("/")[0])
        if storage.exists(about):
            speed, backbone = json.loads(storage.read_bytes(name)), json.loads(storage.read_bytes(about))["backbone"]
            if speed["seconds"]:
                speeds[backbone] = speed["views"] / speed["seconds"]
    return speeds
