"""A file of embeddings that exist, read once: its images, its views, its texts, and the backbone behind them."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.commands.interchange.embedding_files import (
    WORDS,
    Digest,
    Texts,
    blocks,
    columns_of,
    metadata_of,
    read_texts_file,
    refused,
    row_count,
    seal_of,
)
from benchmark.commands.interchange.imported_images import NAMED, NEEDED, Rows, Words
from benchmark.commands.preparing.imported_sets import uri_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest, imported_manifest
from benchmark.method.arrays import unit
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.sets import TEXT
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL, STORE_VERSION, View

LOGIT_SCALE = 100.0  # where a file does not say it: where CLIP's ends


@dataclass(frozen=True)
class Asked:
    """What a person asks of an import.

    Attributes:
        name: of the data set.
        backbone: label of the backbone; None for that of the file, else `imported`.
        texts: file with the texts of the classes; None for that of the folder.
        logit_scale: factor on cosine similarities; None for that of the file, else 100.
        foreign: whether what the file says of how it was made is left alone.
        columns: key of `USUAL` -> column of the file, where the two differ.
        overwrite: whether embeddings that were imported under the same names are replaced by other ones.
    """

    name: str
    backbone: str | None = None
    texts: Path | None = None
    logit_scale: float | None = None
    foreign: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False


@dataclass
class ReadFile:
    """A file that was read.

    Attributes:
        file: where it lay.
        rows: its words.
        vectors: embeddings in the order of the rows, shape (rows, D), on disk.
        said: what the file says of how it was made; None for a foreign one.
        texts: of the classes; None where there are none.
        texts_place: their file.
        unused: columns that nobody asks for.
        chunks: name of a view -> for each chunk of the store the rows that go there; `views_of` fills it.
    """

    file: Path
    rows: Rows
    vectors: NDArray[np.float32]
    said: dict[str, Any] | None
    texts: Texts | None
    texts_place: Path
    unused: list[str]
    chunks: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)


@contextmanager
def reading(file: Path, texts_file: Path | None, asked: Asked) -> Iterator[ReadFile]:
    """Read a file once, its embeddings to a place on disk, and give what it holds."""
    said = None if asked.foreign else metadata_of(file)
    columns, unused = columns_of(file, [NAMED, *((name,) for name in NEEDED)], WORDS, asked.columns)
    words, digest, width = Words(file), Digest(), 0
    progress = Progress(f"reading {file.name}", row_count(file), "rows")
    texts = read_texts_file(texts_file, asked.columns) if texts_file else None
    with tempfile.TemporaryDirectory(prefix="icm-bench-import-") as folder:
        spool = Path(folder) / "embeddings"
        try:
            with spool.open("wb") as sink:
                for block in blocks(file, columns):
                    words.add(block)
                    digest.add(block)
                    sink.write(block.embedding.tobytes())
                    width = block.embedding.shape[1]
                    progress.update(len(block.embedding))
        except OSError as error:
            raise IcmBenchError(
                f"{folder} cannot be written ({reason(error)}); set TMPDIR to a larger place."
            ) from error
        progress.close()
        if said and said["store_version"] != STORE_VERSION:
            raise IcmBenchError(
                f"{file} was exported by version {said['store_version']} of the store, now at {STORE_VERSION}; export "
                f"it again, or take it as it is with --foreign."
            )
        if said and said["prompts"] and texts is None:
            raise IcmBenchError(f"{file} was exported with texts, and there are none beside it; give them by --texts.")
        if said and said["digest"] != seal_of(said, digest, texts.digest if texts and said["prompts"] else ""):
            raise IcmBenchError(
                f"{file} or its texts were edited since they were exported (the digest differs); export them again, or "
                f"take them as they are with --foreign."
            )
        rows = words.table()
        if not said:
            rows.check()
        vectors = np.memmap(spool, dtype=np.float32, mode="r").reshape(-1, width)
        yield ReadFile(file, rows, vectors, said, texts, texts_file or file, unused)


def manifest_of(storage: Storage, read: ReadFile, name: str) -> Manifest:
    """Return the manifest of a file's images."""
    rows = read.rows.of_view(ORIGINAL)
    words = {column: read.rows.words(column, rows) for column in WORDS}
    if read.said:
        for row in read.said["without"]:
            for column in (*words.keys() - {"view"},):
                words[column].append(row[column])
    else:
        named = words[read.rows.named]
        words["path"] = [path or name for path, name in zip(words["path"], named, strict=True)]
        told = zip(named, words["environment"], words["class"], strict=True)
        words["image_id"] = [hashlib.sha256("\0".join(map(str, one)).encode()).hexdigest() for one in told]
        words["content"] = [hashlib.sha256(read.vectors[row].tobytes()).hexdigest() for row in rows]
        _check_foreign(read, rows, words)
    columns = {{"class": "class_name"}.get(c, c): words[c] for c in words if c != "view"}
    table = pa.table({c: pa.array(values, pa.string()) for c, values in columns.items()})
    manifest = imported_manifest(name, uri_of(storage, name), table)
    if read.said and manifest.fingerprint != read.said["fingerprint"]:
        raise IcmBenchError(f"{read.file} lists other images than it was exported with; export it again.")
    return manifest


def _check_foreign(read: ReadFile, rows: NDArray[np.int64], words: dict[str, list[str | None]]) -> None:
    """Refuse images of which some have a group, two have one path, or all have one class."""
    if any(words["group"]) and None in words["group"]:
        row = int(rows[words["group"].index(None)]) + 1
        raise refused(read.file, row, "no group, while others have one; give one to each image.")
    seen: dict[str | None, int] = {}
    for row, path in zip(rows.tolist(), words["path"], strict=True):
        if path in seen:
            raise IcmBenchError(
                f"{read.file}, row {row + 1}: '{path}' is the path of row {seen[path] + 1} too; give another."
            )
        seen[path] = row
    if len(set(words["class"])) < 2:
        raise IcmBenchError(
            f"{read.file} has one class only ({words['class'][0]}); classes are told apart, so give two."
        )
    for view in read.rows.views:
        if view in (TEXT, CROSS):
            raise IcmBenchError(
                f"{read.file}: a view is called '{view}', which means pairs of another kind; rename it."
            )


def facts_of(read: ReadFile, asked: Asked) -> BackboneFacts:
    """Return what is known of the backbone: what the file says, or its label and width."""
    texts: Any = "none" if read.texts is None else "classes"
    if read.said:
        of_file = {**read.said["facts"], "notes": tuple(read.said["facts"]["notes"])}
        facts = replace(BackboneFacts(**of_file), texts=texts)
        scale = facts.logit_scale if asked.logit_scale is None else asked.logit_scale
        return replace(facts, label=asked.backbone or facts.label, logit_scale=scale)
    label, width = asked.backbone or "imported", read.vectors.shape[1]
    return BackboneFacts(
        label=label,
        fingerprint=canonical_hash(["imported", label, width]),
        architecture=canonical_hash(["imported"]),
        dim=width,
        preprocess={},
        logit_scale=LOGIT_SCALE if asked.logit_scale is None else asked.logit_scale,
        random_weights=False,
        precision="float32",
        texts=texts,
    )


def texts_of(read: ReadFile, manifest: Manifest) -> NDArray[np.float32] | None:
    """Return the texts of the classes at unit length, shape (classes, D); None where there are none."""
    if read.texts is None:
        return None
    texts = read.texts.of(read.texts_place, manifest.classes, read.vectors.shape[1])
    return texts if read.said else unit(texts.astype(np.float64)).astype(np.float32)


def views_of(read: ReadFile, manifest: Manifest, facts: BackboneFacts) -> dict[str, View]:
    """Return the views by the names that the file gives them, the original first; where each row goes is kept."""
    ids = manifest.table["image_id"].to_pylist()
    order = [ids[i] for i in store.distinct(manifest.table["image_id"])]
    size = store.chunk_size(len(order))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    said = {one["view"]: one for one in read.said["views"]} if read.said else {}
    id_of = dict(zip(manifest.table["path"].to_pylist(), ids, strict=True))
    views: dict[str, View] = {}
    for name in read.rows.views:
        rows = read.rows.of_view(name)
        paths, names = (read.rows.words(column, rows) for column in ("path", read.rows.named))
        of_rows = names if said else [id_of[str(path or named)] for path, named in zip(paths, names, strict=True)]
        row_of = dict(zip(of_rows, rows.tolist(), strict=True))
        read.chunks[name] = [np.array([row_of[i] for i in c if i in row_of], dtype=np.int64) for c in chunks]
        if said:
            one = said[name]
            views[name] = View(one["label"], None, one["seed"], len(order), one["depends_on"])
        else:
            what = {"kind": name, "imported": _digest(read, name, order), "version": STORE_VERSION}
            depends_on = {"dataset": manifest.fingerprint, "backbone": facts.identity(), "view": what}
            views[name] = View(name, None, 0, len(order), depends_on)
    return views


def _digest(read: ReadFile, name: str, order: list[str]) -> str:
    """Return the SHA-256 (hex) over ids and embeddings of a view, in the order of the data set."""
    digest = hashlib.sha256("\n".join(order).encode())
    for rows in read.chunks[name]:
        digest.update(np.ascontiguousarray(read.vectors[rows]).tobytes())
    return digest.hexdigest()
