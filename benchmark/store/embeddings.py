"""Stored embeddings: one directory per view, named by a hash of everything that it depends on, with numbered parts.

The distinct images of a data set are divided, in manifest order, into chunks of a fixed size. A part holds the
embeddings of one chunk and is written atomically. Writers on all machines give the same part the same name, so nothing
is stored twice, and a listing shows which parts are missing. Text embeddings have one file per list of texts.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Normalize, scaled
from benchmark.method.interventions import Intervention
from benchmark.method.interventions.text import TextPair, pairs_digest
from benchmark.method.prompts import Prompt
from benchmark.store import sealed
from benchmark.store.sealed import DIFFERS, DamagedError, read_checked, read_json, sealed_json, write_first

ORIGINAL = "original"
ROOT = "embeddings"
# Increase it with a change of decoding (embedding/images.py, embedding/opening.py), of a built-in intervention, of the
# division into chunks, or of a file's metadata. Then write the new digests into tests/store/test_golden.py.
STORE_VERSION = 6
# First version with today's division into chunks and metadata. What was imported since then stays valid, as nothing of
# it was decoded here.
IMPORTS_SINCE = 6
FLOAT_BYTES = {"float16": 2, "bfloat16": 2}  # precision -> bytes of a stored number; 4 for every other precision
_READERS = 8  # number of files that are read at a time
# Increase it with a change of text files or of their embeddings (embedding/text_encoding.py).
TEXTS, TEXTS_VERSION = "texts", 2


@dataclass(frozen=True)
class Decoding:
    """How the images of a job are decoded, for all its views.

    Attributes:
        at_source: whether interventions are applied at full resolution, before resize and crop. Default False: at
            model-input size.
        draft: whether a JPEG much larger than the model input is decoded at reduced scale (default); ignored with
            `at_source`.
        upright: whether images are turned upright by their EXIF orientation (default).
        resize: the library that resizes, `pillow` (default) or `torch`. Each decoder then imports torch, which resizes
            RGB and RGBA images only; it is not faster on grey ones.
    """

    at_source: bool = False
    draft: bool = True
    upright: bool = True
    resize: str = "pillow"

    @property
    def reduced(self) -> bool:
        """Whether JPEGs may be decoded at reduced scale; with `at_source` never, not even for the original view."""
        return self.draft and not self.at_source


DEFAULT_DECODING = Decoding()
DECODING_KEYS = ("version", "jpeg_draft", "upright", "resize")  # keys of a view that only decoding gives it


@dataclass(frozen=True)
class View:
    """One view of the images of a data set under one backbone: a directory of the store.

    Attributes:
        label: `original`, or the label of the intervention.
        intervention: the intervention that makes the view; None for the original.
        seed: seed of the intervention's random draws; 0 or more.
        images: number of distinct images of the data set.
        depends_on: data set fingerprint, backbone identity and view, as plain data; its hash names the directory.
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
    """Return the view of a data set (with `images` distinct images) under a backbone.

    Only interventions depend on `decoding.at_source`, and only random interventions depend on the seed.
    """
    what: dict[str, Any] = {"kind": ORIGINAL}
    if intervention is not None:
        what = {**intervention.model_dump(mode="json"), "implementation": intervention.implementation}
        what |= {"seed": seed} if intervention.is_random else {}
        what |= {"at": "source"} if decoding.at_source else {}
    what |= {"version": STORE_VERSION, "jpeg_draft": decoding.reduced}
    what |= {} if decoding.upright else {"upright": False}
    what |= {} if decoding.resize == "pillow" else {"resize": decoding.resize}
    depends_on = {"dataset": dataset_fingerprint, "backbone": backbone_identity, "view": what}
    label = intervention.label if intervention else ORIGINAL
    return View(label, intervention, seed, images, depends_on)


def distinct(image_ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the position of the first occurrence of each image id, ascending. Only these images are embedded."""
    codes = image_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    return np.sort(np.unique(codes, return_index=True)[1]).astype(np.int64)


def chunk_size(images: int) -> int:
    """Return the number of images per chunk.

    It is small, so that a killed run loses little, but larger where that is at most 1/64 of the data set: this
    makes fewer files, and an encoder on a GPU waits less for Ray and for writes.
    """
    return 64 if images <= 16_384 else 256


def chunk_count(images: int) -> int:
    """Return the number of chunks of a data set with `images` distinct images."""
    return -(-images // chunk_size(images))


def part_name(directory: str, chunk: int) -> str:
    """Return the name, inside a store, of the part of a chunk."""
    return f"{directory}/part-{chunk:05d}.parquet"


def part_number(name: str) -> int | None:
    """Return the chunk number in the name of a part; None for other names."""
    stem = name.rsplit("/", 1)[-1]
    number = stem.removeprefix("part-").removesuffix(".parquet")
    return int(number) if stem == f"part-{number}.parquet" and number.isdecimal() else None


def parts(storage: Storage, directory: str) -> dict[int, str]:
    """Return chunk -> file name of the existing parts, in order of chunks. Lists files, but reads none."""
    by_number = {part_number(name): name for name in storage.files(directory, ".parquet")}
    return {number: by_number[number] for number in sorted(n for n in by_number if n is not None)}


def write_part(storage: Storage, view: View, chunk: int, table: pa.Table, rejected: Sequence[Sequence[str]]) -> bool:
    """Write the part of a chunk. `table` may be empty; its column `embedding` has fixed-size lists.

    `rejected` has (image id, path, reason) of the chunk's unreadable images.

    Returns:
        False if another writer was first; only object stores detect this, see `Storage.write_first`.
    """
    if rejected:  # this list is written first, so that no part exists without it
        rows = [list(row) for row in rejected]
        name = rejected_file(view.directory, chunk)
        content = {"digest": canonical_hash([name, rows]), "images": rows}
        storage.write_bytes(name, sealed_json(content))
    return write_first(storage, part_name(view.directory, chunk), table)


def rejected_file(directory: str, chunk: int) -> str:
    """Return the name, inside a store, of the file that lists the unreadable images of a chunk."""
    return f"{directory}/rejected-{chunk:05d}.json"


def read_rejected(storage: Storage, directory: str) -> tuple[dict[int, list[tuple[str, str, str]]], dict[str, str]]:
    """Return two dictionaries: chunk -> its unreadable images, and damaged file -> problem.

    Each unreadable image is given as (image id, path, reason). The part of a chunk whose list is damaged is useless, so
    it counts as a damaged file, too.
    """
    by_chunk: dict[int, list[tuple[str, str, str]]] = {}
    problems: dict[str, str] = {}
    for name in storage.files(directory, ".json"):
        stem = name.rsplit("/", 1)[-1]
        number = stem.removeprefix("rejected-").removesuffix(".json")
        if stem != f"rejected-{number}.json" or not number.isdecimal():  # not a list of rejected images
            continue
        chunk, rows, problem = int(number), list[tuple[str, str, str]](), ""
        try:
            listed = read_json(storage, name)
            rows = [(image_id, path, why) for image_id, path, why in listed["images"]]
            sound = listed["digest"] == canonical_hash([name, [list(row) for row in rows]])
            problem = "" if sound else DIFFERS
        except DamagedError as error:
            problem = error.problems[name]
        except (ValueError, KeyError, TypeError):
            problem = DIFFERS
        if problem:
            problems |= {name: problem}
            problems[part_name(directory, chunk)] = f"goes with {storage.path(name)}, which is damaged"
        else:
            by_chunk[chunk] = rows
    return by_chunk, problems


def rejected_in(storage: Storage, directory: str) -> dict[int, list[tuple[str, str, str]]]:
    """Return chunk -> its unreadable images, see `read_rejected`; raise DamagedError if a list is damaged."""
    by_chunk, problems = read_rejected(storage, directory)
    if problems:
        raise DamagedError.of(storage, problems)
    return by_chunk


def rejected(storage: Storage, views: Iterable[View]) -> dict[str, tuple[str, str]]:
    """Return image id -> (path, reason) of the images that are unreadable in any of the views.

    Raises:
        DamagedError: a list is damaged; the error names the list and its part.
    """
    lists = (rows for view in views for rows in rejected_in(storage, view.directory).values())
    return {image_id: (path, reason) for rows in lists for image_id, path, reason in rows}


def read(
    storage: Storage, view: View, image_ids: Sequence[str], chunks: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return the embeddings of `image_ids` in that order, shape (len(image_ids), D), float32.

    The digest of every part is checked. `chunks` has the chunk number of each image; without it all parts are read.

    Raises:
        DamagedError: parts are damaged or lack an image of their chunk; the error names all these parts.
        KeyError: an image is in no part (only without `chunks`).
    """
    there = [*parts(storage, view.directory)] if chunks is None else np.unique(chunks).tolist()
    tables, problems = read_parts(storage, view.directory, there)
    if problems:
        raise DamagedError.of(storage, problems)
    place = {image_id: i for i, image_id in enumerate(name for t in tables for name in t["image_id"].to_pylist())}
    if chunks is not None and (lacking := [i for i, image_id in enumerate(image_ids) if image_id not in place]):
        says = "lacks an image that is not on its list of those that cannot be read"
        raise DamagedError.of(storage, {part_name(view.directory, int(chunks[i])): says for i in lacking})
    rows = [place[image_id] for image_id in image_ids]
    return np.concatenate([vectors(table) for table in tables])[rows].astype(np.float32, copy=False)


def read_parts(storage: Storage, directory: str, chunks: Sequence[int]) -> tuple[list[pa.Table], dict[str, str]]:
    """Return the tables of the undamaged parts of `chunks`, in order, and damaged part (file name) -> problem."""
    tables, problems = [], dict[str, str]()
    with ThreadPoolExecutor(_READERS) as pool:
        for part in [pool.submit(read_checked, storage, part_name(directory, chunk)) for chunk in chunks]:
            try:
                tables.append(part.result())
            except DamagedError as error:
                problems |= error.problems
    return tables, problems


def vectors(table: pa.Table) -> NDArray[np.floating]:
    """Return the column `embedding` of a part as an array, shape (rows, D), in the stored precision."""
    column = table["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size))


def about_file(directory: str) -> str:
    """Return the name, inside a store, of the file that describes a directory of a view."""
    return f"{directory}/about.json"


def write_about(storage: Storage, view: View, about: dict[str, Any]) -> None:
    """Write the description of a view's directory, before its first part. All writers write the same content."""
    content = {"view": view.label, "images": view.images, "depends_on": view.depends_on, **about}
    storage.write_bytes(about_file(view.directory), sealed_json(content))


def write_speed(storage: Storage, view: View, speed: dict[str, Any]) -> None:
    """Write speed and machine of the last run that embedded something into this view."""
    storage.write_bytes(speed_file(view.directory), sealed_json(speed))


def speed_file(directory: str) -> str:
    """Return the name, inside a store, of the file that `write_speed` writes."""
    return f"{directory}/speed.json"


def text_file(facts: BackboneFacts, classes: Sequence[str], templates: Sequence[str]) -> str:
    """Return the name of the file with the text embeddings of `classes` in a store: a hash of all inputs."""
    return f"{TEXTS}/{canonical_hash([TEXTS_VERSION, facts.identity(), list(classes), list(templates)])[:32]}.parquet"


def pairs_file(facts: BackboneFacts, pairs: Sequence[TextPair]) -> str:
    """Return the name, inside a store, of the file with the embeddings of text pairs."""
    content = [TEXTS_VERSION, facts.identity(), pairs_digest(pairs), "class_name"]
    return f"{TEXTS}/pairs-{canonical_hash(content)[:32]}.parquet"


def prompts_file(facts: BackboneFacts, prompts: Sequence[Prompt]) -> str:
    """Return the name, inside a store, of the file with the embeddings of a projection's prompts."""
    content = [TEXTS_VERSION, facts.identity(), [list(prompt.texts) for prompt in prompts]]
    return f"{TEXTS}/prompts-{canonical_hash(content)[:32]}.parquet"


def have_texts(storage: Storage, name: str) -> bool:
    """Return whether the file `name` of text embeddings exists.

    Raises:
        DamagedError: the file is damaged.
    """
    content = storage.read_if_there(name)
    if content is None:
        return False
    read_checked(storage, name, content)
    return True


def write_texts(storage: Storage, name: str, classes: Sequence[str], embeddings: NDArray[np.float32]) -> None:
    """Write normalised text embeddings, shape (classes, D).

    `classes` are the names of the classes; for prompts, the first text of each prompt.
    """
    table = pa.table({"class_name": pa.array(list(classes)), "embedding": _column(embeddings)})
    sealed.write_checked(storage, name, table)


def read_texts(storage: Storage, name: str) -> NDArray[np.float32]:
    """Return normalised text embeddings of classes or prompts, shape (classes, D).

    Raises:
        DamagedError: the file is damaged.
    """
    column = read_checked(storage, name)["embedding"]  # there may be many prompts, so no Python lists are made
    return np.array(column.combine_chunks().flatten(), dtype=np.float32).reshape(len(column), -1)


def write_pairs(
    storage: Storage, name: str, pairs: Sequence[TextPair], caption: NDArray[np.float32], rewrite: NDArray[np.float32]
) -> None:
    """Write unnormalised embeddings of text pairs, each of shape (pairs, D)."""
    known = {name: pa.array([getattr(p, name) for p in pairs], pa.string()) for name in ("class_name", "image_id")}
    sealed.write_checked(storage, name, pa.table({**known, "caption": _column(caption), "rewrite": _column(rewrite)}))


def _column(embeddings: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])


@dataclass(frozen=True)
class TextDifferences:
    """Differences of the embeddings of text pairs.

    Attributes:
        d: differences, shape (pairs, D).
        classes: class name of the object in each pair; None if unknown.
        images: ids of the described images; None if pairs do not describe single images.
    """

    d: NDArray[np.float64]
    classes: list[str | None]
    images: list[str] | None = None


def read_pairs(storage: Storage, name: str, normalize: Normalize) -> TextDifferences:
    """Return the differences caption - rewrite of text pairs, with embeddings scaled as `normalize` says.

    Raises:
        DamagedError: the file is damaged.
    """
    table = read_checked(storage, name)
    images = table["image_id"].to_pylist()
    raw = (np.array(table[column].to_pylist(), dtype=np.float64) for column in ("caption", "rewrite"))
    caption, rewrite = (scaled(z, normalize) for z in raw)
    described = images if images and images[0] is not None else None
    return TextDifferences(caption - rewrite, table["class_name"].to_pylist(), described)
