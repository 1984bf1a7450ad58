"""`icm-bench import-embeddings`: embeddings that exist become views of a store, as if they had been made here.

What a run exported has the identity that it had: a sweep of it gives the same trials and rows. Of all others the
identity is their content. What names everything is written last: an import that was ended leaves nothing to be seen.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.commands.embedding_files import (
    WORDS,
    Digest,
    Texts,
    blocks,
    files_of,
    metadata_of,
    read_texts_file,
    refused,
    row_count,
    seal_of,
)
from benchmark.commands.imported_images import NEEDED, Rows, Words
from benchmark.commands.imported_sets import uri_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage, reason
from benchmark.datasets.manifest import Manifest, imported_manifest
from benchmark.method.arrays import unit
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.sets import TEXT
from benchmark.store import embeddings as store
from benchmark.store.checked import DamagedError, read_checked
from benchmark.store.embeddings import ORIGINAL, STORE_VERSION, View
from benchmark.store.imported import (
    Import,
    ImportedView,
    folder_of,
    images_file,
    import_file,
    imports_of,
    problem_of,
    read_import,
    write_images,
    write_import,
)
from benchmark.store.texts import text_file, write_texts

LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Asked:
    """What a person asks of an import.

    Attributes:
        name: of the data set.
        backbone: label of the backbone; None for that of the file, else `imported`.
        texts: file with the texts of the classes; None for that of the folder.
        logit_scale: factor on cosine similarities; None for that of the file, else 100.
        foreign: whether what the file says of how it was made is left alone.
    """

    name: str
    backbone: str | None = None
    texts: Path | None = None
    logit_scale: float | None = None
    foreign: bool = False


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        dataset: name of the data set.
        backbone: label of the backbone.
        images, environments, classes: their numbers.
        views: their labels, the original first.
        width: of the embeddings, D.
        texts: whether there are texts of the classes.
        logit_scale: factor on cosine similarities.
        exported: whether the file said how it was made, so that all identities are those of the run that did.
        written: number of files that the store did not have.
        store: where it lies.
    """

    dataset: str
    backbone: str
    images: int
    environments: int
    classes: int
    views: list[str]
    width: int
    texts: bool
    logit_scale: float
    exported: bool
    written: int
    store: str

    def text(self) -> str:
        """Return what was imported in some lines."""
        how = "with the identity of the run that exported them" if self.exported else "known by their content"
        views = f"{len(self.views)} view{'s' if len(self.views) > 1 else ''} ({', '.join(self.views)})"
        texts = "texts of all classes" if self.texts else "no texts: no zero-shot prediction"
        return "\n".join(
            [
                f"{self.dataset} under {self.backbone}: {self.images} images in {self.environments} environments, "
                f"{self.classes} classes",
                f"{views} of width {self.width}, {texts}, logit scale {self.logit_scale:g}; {how}",
                f"{self.written} files written to {self.store}",
            ]
        )


@dataclass
class _Read:
    """A file that was read.

    Attributes:
        file: where it lay.
        rows: its words.
        vectors: embeddings in the order of the rows, shape (rows, D), on disk.
        said: what the file says of how it was made; None for a foreign one.
        texts: of the classes; None where there are none.
        texts_place: their file.
    """

    file: Path
    rows: Rows
    vectors: NDArray[np.float32]
    said: dict[str, Any] | None
    texts: Texts | None
    texts_place: Path
    chunks: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)


def import_embeddings(storage: Storage, place: Path, asked: Asked) -> tuple[Imported, dict[str, Any] | None]:
    """Take embeddings into a store, and return what was imported, and what the file says of its recipe.

    Args:
        storage: the store.
        place: a file, or a folder with `embeddings` and perhaps `texts`.
        asked: what a person asks for.

    Raises:
        IcmBenchError: a name is none, a file is damaged, or its rows make no sense; names file and row.
    """
    _check_names(asked)
    storage.check_writable()
    file, texts_file = files_of(place, asked.texts)
    with _read(file, texts_file, asked) as read:
        manifest = _manifest(storage, read, asked.name)
        facts = _facts(read, asked)
        texts = _texts(read, manifest)
        views = _views(read, manifest, facts)
        content = _import(read, manifest, facts, views)
        _check_images(storage, content)
        written = sum(_write_view(storage, read, manifest, facts, name, view) for name, view in views.items())
        if texts is not None and not _is_sound(storage, content.texts):
            write_texts(storage, content.texts, manifest.prompt_names, texts)
            written += 1
        _finish(storage, content, manifest)
    counts = manifest.table.num_rows, len(manifest.environments), len(manifest.classes)
    labels = [view.label for view in content.views]
    has, exported = bool(content.texts), read.said is not None
    result = Imported(
        asked.name, facts.label, *counts, labels, facts.dim, has, facts.logit_scale, exported, written, storage.path("")
    )
    return result, read.said["recipe"] if read.said else None


def _check_names(asked: Asked) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", asked.name):
        raise IcmBenchError(
            f"--name {asked.name[:60]!a}: give up to 100 letters, digits, '.', '_' and '-', neither '.' nor '-' first."
        )
    label = asked.backbone
    if label is not None and not (label.strip() == label and label.isprintable() and 0 < len(label) <= 200):
        raise IcmBenchError(f"--backbone {label[:60]!a}: give a label that can be printed, up to 200 letters.")
    scale = asked.logit_scale
    if scale is not None and not 0 < scale < float("inf"):
        raise IcmBenchError(f"--logit-scale {scale:g}: give a number above 0, such as CLIP's 100.")


@contextmanager
def _read(file: Path, texts_file: Path | None, asked: Asked) -> Iterator[_Read]:
    """Read a file once, its embeddings to a place on disk, and give what it holds."""
    said = None if asked.foreign else metadata_of(file)
    needed = ("image_id", "path", *NEEDED, "view", "content") if said else NEEDED
    words, digest, width = Words(file, None), Digest(), 0
    progress = Progress(f"reading {file.name}", row_count(file), "rows")
    texts = read_texts_file(texts_file) if texts_file else None
    with tempfile.TemporaryDirectory(prefix="icm-bench-import-") as folder:
        spool = Path(folder) / "embeddings"
        try:
            with spool.open("wb") as sink:
                for block in blocks(file, needed, WORDS):
                    if "image_id" not in block.words and "path" not in block.words:
                        raise IcmBenchError(f"{file}: the column 'path' is missing, and so is 'image_id'; add one.")
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
        yield _Read(file, rows, vectors, said, texts, texts_file or file)


def _manifest(storage: Storage, read: _Read, name: str) -> Manifest:
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


def _check_foreign(read: _Read, rows: NDArray[np.int64], words: dict[str, list[str | None]]) -> None:
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


def _facts(read: _Read, asked: Asked) -> BackboneFacts:
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


def _texts(read: _Read, manifest: Manifest) -> NDArray[np.float32] | None:
    """Return the texts of the classes at unit length, shape (classes, D); None where there are none."""
    if read.texts is None:
        return None
    texts = read.texts.of(read.texts_place, manifest.classes, read.vectors.shape[1])
    return texts if read.said else unit(texts.astype(np.float64)).astype(np.float32)


def _views(read: _Read, manifest: Manifest, facts: BackboneFacts) -> dict[str, View]:
    """Return the views by the names that the file gives them, the original first; where each row goes is kept."""
    ids = manifest.table["image_id"].to_pylist()
    order = [ids[i] for i in store.distinct(ids)]
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


def _digest(read: _Read, name: str, order: list[str]) -> str:
    """Return the SHA-256 (hex) over ids and embeddings of a view, in the order of the data set."""
    digest = hashlib.sha256("\n".join(order).encode())
    for rows in read.chunks[name]:
        digest.update(np.ascontiguousarray(read.vectors[rows]).tobytes())
    return digest.hexdigest()


def _import(read: _Read, manifest: Manifest, facts: BackboneFacts, views: dict[str, View]) -> Import:
    """Return what the store is to know of the import."""
    prompts: tuple[str, ...] = ()
    if read.said and read.said["prompts"]:
        prompts = tuple(read.said["prompts"])
    elif read.texts:
        prompts = (f"imported texts {read.texts.digest[:16]}",)
    return Import(
        dataset=manifest.name,
        images=images_file(manifest.name, manifest.fingerprint),
        fingerprint=manifest.fingerprint,
        facts=facts,
        prompts=prompts,
        texts=text_file(facts, manifest.prompt_names, prompts) if read.texts else "",
        views=tuple(ImportedView(v.label, v.seed, v.depends_on, read.said is not None) for v in views.values()),
    )


def _check_images(storage: Storage, content: Import) -> None:
    """Refuse a data set that was imported for another backbone with other images."""
    own = import_file(content.dataset, content.facts.label)
    for name in imports_of(storage, content.dataset):
        if name != own and not problem_of(storage, name):
            other = read_import(storage, name)
            if other.fingerprint != content.fingerprint:
                raise IcmBenchError(
                    f"--name {content.dataset}: it was imported for {other.facts.label} with other images, classes or "
                    f"environments; give the same ones, or another name (or delete {storage.path(name)})."
                )


def _write_view(storage: Storage, read: _Read, manifest: Manifest, facts: BackboneFacts, name: str, view: View) -> int:
    """Write the parts of a view that the store lacks; return how many."""
    about = ("label", "random_weights", "dim", "precision")
    said = {"backbone" if key == "label" else key: getattr(facts, key) for key in about}
    store.write_about(storage, view, {"dataset": manifest.name, **said})
    images = manifest.table.take(store.distinct(manifest.table["image_id"].to_pylist()))
    size, written = store.chunk_size(len(images)), 0
    kind = pa.float16() if facts.precision == "float16" else pa.float32()
    rejected = read.said["rejected"].get(name, {}) if read.said else {}
    progress = Progress(f"writing the view {view.label}", len(images), "images")
    for chunk, rows in enumerate(read.chunks[name]):
        progress.update(len(rows))
        if _is_sound(storage, store.part_name(view.directory, chunk)):
            continue
        lost = rejected.get(str(chunk), [])
        gone = {row[0] for row in lost}
        of_chunk = images.slice(chunk * size, size)
        kept = of_chunk.filter(pa.array([image not in gone for image in of_chunk["image_id"].to_pylist()]))
        vectors = pa.array(read.vectors[rows].ravel().astype(kind.to_pandas_dtype()), kind)
        columns = {column: kept[column] for column in ("image_id", "environment", "class_name", "label")}
        columns["view"] = pa.array([view.label] * len(kept), pa.string())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, facts.dim)
        store.write_part(storage, view, chunk, pa.table(columns), lost)
        written += 1
    progress.close()
    return written


def _is_sound(storage: Storage, name: str) -> bool:
    """Return whether a file is there, and what was written under its name."""
    try:
        return storage.exists(name) and read_checked(storage, name) is not None
    except DamagedError:
        return False


def _finish(storage: Storage, content: Import, manifest: Manifest) -> None:
    """Write what names everything, and remove images that nothing names any more."""
    if not storage.exists(content.images) or problem_of(storage, content.images):
        write_images(storage, content.images, manifest.table)
    write_import(storage, content)
    named = {read_import(storage, name).images for name in imports_of(storage, content.dataset)}
    for name in storage.files(folder_of(content.dataset), ".parquet"):
        if name not in named:
            storage.delete(name)
