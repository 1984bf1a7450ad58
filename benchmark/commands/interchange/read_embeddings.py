"""Reads a file of embeddings for import: checks its rows, and derives manifest, views, texts and backbone from them."""

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
from benchmark.commands.interchange import embedding_files as files
from benchmark.commands.interchange.embedding_files import WORDS, Block, Texts
from benchmark.commands.interchange.files import row_error
from benchmark.commands.preparing.imported_sets import uri_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest, imported_manifest
from benchmark.method.arrays import unit
from benchmark.method.subspace.moments import CROSS
from benchmark.recipe.sets import TEXT
from benchmark.store import embeddings as store
from benchmark.store.embeddings import IMPORTS_SINCE, ORIGINAL, STORE_VERSION, View

LOGIT_SCALE = 100.0  # default: its value at the end of CLIP's training
ID_COLUMNS = ("image_id", "path")  # each identifies images; the first that a file has is used
NEEDED = ("environment", "class")
SHARED = ("environment", "class", "group", "path")  # must be equal in all views of an image
_MAX_LENGTH = 1024  # characters of a value


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import."""

    name: str  # name of the data set
    backbone: str | None = None  # label; None: the label in the file, else `imported`
    texts: Path | None = None  # file with text embeddings of the classes; None: the file in the folder, if any
    logit_scale: float | None = None  # factor on cosine similarities; None: the factor in the file, else 100
    foreign: bool = False  # whether to ignore the metadata of an export
    columns: Mapping[str, str] = field(default_factory=dict)  # key of `USUAL` -> column, if the names differ
    overwrite: bool = False  # whether to replace other embeddings imported under the same names


class Rows:
    """The text columns of a file; each distinct value of a column has an integer code."""

    def __init__(self, file: Path) -> None:
        self.file, self.id_column = file, ""
        self.codes: dict[str, NDArray[np.int64]] = {}  # column -> code of the value in each row
        self._blocks: dict[str, list[NDArray[np.int64]]] = {}
        self._codes_of: dict[str, dict[str | None, int]] = {}  # column -> value -> code; None is an empty value

    def add(self, block: Block) -> None:
        """Add rows. Each row needs an environment, a class, an id or path of its image, and printable values."""
        self.id_column = next(name for name in ID_COLUMNS if name in block.words)
        for name in (self.id_column, *NEEDED, *(["view"] if "view" in block.words else [])):
            if None in block.words[name]:
                row = block.first + block.words[name].index(None)
                raise row_error(self.file, row, f"'{name}' is empty; fill it in, or remove the image.")
        default: dict[str, list[str | None]] = {"view": [ORIGINAL] * len(block.embedding)}
        for name, values in {**default, **block.words}.items():
            known = self._codes_of.setdefault(name, {})
            codes = np.fromiter((known.setdefault(value, len(known)) for value in values), np.int64, len(values))
            self._blocks.setdefault(name, []).append(codes)
            bad = next((v for v in values if v and not (v.isprintable() and len(v) <= _MAX_LENGTH)), None)
            if bad and name != "content":
                row = block.first + values.index(bad)
                raise row_error(self.file, row, f"'{name}' is {bad[:40]!a}, which is not a printable name.")

    def finish(self) -> None:
        """Concatenate the codes after the last `add`."""
        self.codes = {name: np.concatenate(parts) for name, parts in self._blocks.items()}

    @property
    def views(self) -> list[str]:
        """Names of the views, the original first."""
        return sorted(map(str, self._codes_of["view"]), key=lambda name: (name != ORIGINAL, name))

    def of_view(self, view: str) -> NDArray[np.int64]:
        """Return the positions of the rows of a view, ascending."""
        return np.flatnonzero(self.codes["view"] == self._codes_of["view"][view])

    def words(self, column: str, rows: NDArray[np.int64]) -> list[str | None]:
        """Return the values of a column in some rows; all None if the file lacks the column."""
        if column not in self.codes:
            return [None] * len(rows)
        values = [*self._codes_of[column]]
        return [values[code] for code in self.codes[column][rows].tolist()]

    def check(self) -> None:
        """Refuse a file unless every image has exactly one row in each view, the original view included.

        Also refuse views of an image that differ in one of the columns `SHARED`.
        """
        image, view = self.codes[self.id_column], self.codes["view"]
        if ORIGINAL not in self._codes_of["view"]:
            names = ", ".join(f"'{name}'" for name in self.views[:3])
            raise IcmBenchError(
                f"{self.file}: no row has the view '{ORIGINAL}', only {names}; name the images' own view so."
            )
        key = image * len(self._codes_of["view"]) + view
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        if len(again := np.flatnonzero(first[inverse] != np.arange(len(key)))):
            row = int(again[0])
            raise self._error(row, f"repeats row {first[inverse[row]] + 1}; remove one of the two.")
        original = np.full(len(self._codes_of[self.id_column]), -1, dtype=np.int64)
        rows = self.of_view(ORIGINAL)
        original[image[rows]] = rows
        if len(orphans := np.flatnonzero(original[image] < 0)):
            raise self._error(int(orphans[0]), f"has no row of the view '{ORIGINAL}'; add it, or remove this row.")
        for name in self.views:
            if len(missing := rows[~np.isin(image[rows], image[self.of_view(name)])]):
                raise self._error(
                    int(missing[0]), f"has no view '{name}' as other images have; add it or drop the view."
                )
        for column in (name for name in SHARED if name in self.codes):
            codes = self.codes[column]
            if len(other := np.flatnonzero(codes != codes[original[image]])):
                row = int(other[0])
                raise self._error(row, f"has another {column} than row {original[image[row]] + 1}; make them equal.")

    def _error(self, row: int, problem: str) -> IcmBenchError:
        """Return the error about a row; the message names its image and view."""
        (name,), (view,) = (self.words(column, np.array([row])) for column in (self.id_column, "view"))
        return row_error(self.file, row + 1, f"'{name}' in the view '{view}' {problem}")


@dataclass
class ReadFile:
    """A file of embeddings and its contents."""

    file: Path
    rows: Rows
    vectors: NDArray[np.float32]  # in the order of the rows, shape (rows, D), memory-mapped
    metadata: dict[str, Any] | None  # metadata of an export; None if another program wrote the file
    texts: Texts | None  # texts of the classes
    texts_file: Path
    unused: list[str]  # columns that are not read
    # Name of a view -> for each chunk of the store, positions of the rows in it; `views_of` fills it.
    chunks: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)


@contextmanager
def reading(file: Path, texts_file: Path | None, asked: ImportOptions) -> Iterator[ReadFile]:
    """Yield a file's checked content; its embeddings are in a temporary file, which is deleted after the block."""
    metadata = None if asked.foreign else files.metadata_of(file)
    columns, unused = files.columns_of(file, [ID_COLUMNS, *((name,) for name in NEEDED)], WORDS, asked.columns)
    rows, digest, width = Rows(file), files.Digest(), 0
    progress = Progress(f"reading {file.name}", files.row_count(file), "rows")
    texts = files.read_texts_file(texts_file, asked.columns) if texts_file else None
    with tempfile.TemporaryDirectory(prefix="icm-bench-import-") as folder:
        spool = Path(folder) / "embeddings"
        try:
            with spool.open("wb") as sink:
                for block in files.blocks(file, columns):
                    rows.add(block)
                    digest.add(block)
                    sink.write(block.embedding.tobytes())
                    width = block.embedding.shape[1]
                    progress.update(len(block.embedding))
        except OSError as error:
            raise IcmBenchError(
                f"{folder} cannot be written ({reason(error)}); set TMPDIR to a larger disk."
            ) from error
        progress.close()
        if metadata:
            if not IMPORTS_SINCE <= (version := metadata["store_version"]) <= STORE_VERSION:
                raise IcmBenchError(
                    f"{file} was exported from a store of version {version}, this one has {STORE_VERSION}; export it "
                    f"again, or import it with --foreign."
                )
            if metadata["prompts"] and texts is None:
                raise IcmBenchError(f"{file} was exported with texts, which are missing; give their file with --texts.")
            if metadata["digest"] != files.seal_of(
                metadata, digest, texts.digest if texts and metadata["prompts"] else ""
            ):
                raise IcmBenchError(
                    f"{file} or its texts were edited after the export (the digest differs); export them again, or "
                    f"import them with --foreign."
                )
        rows.finish()
        if not metadata:
            rows.check()
        vectors = np.memmap(spool, dtype=np.float32, mode="r").reshape(-1, width)
        yield ReadFile(file, rows, vectors, metadata, texts, texts_file or file, unused)


def manifest_of(storage: Storage, read: ReadFile, name: str) -> Manifest:
    """Return the manifest of a file's images; they are checked unless the file is an export."""
    rows = read.rows.of_view(ORIGINAL)
    words = {column: read.rows.words(column, rows) for column in WORDS}
    if read.metadata:
        for row in read.metadata["without"]:
            for column in words.keys() - {"view"}:
                words[column].append(row[column])
    else:
        names = words[read.rows.id_column]
        words["path"] = [path or name for path, name in zip(words["path"], names, strict=True)]
        identities = zip(names, words["environment"], words["class"], strict=True)
        words["image_id"] = [hashlib.sha256("\0".join(map(str, one)).encode()).hexdigest() for one in identities]
        words["content"] = [hashlib.sha256(read.vectors[row].tobytes()).hexdigest() for row in rows]
        _check_foreign(read, rows, words)
    columns = {{"class": "class_name"}.get(c, c): words[c] for c in words if c != "view"}
    table = pa.table({c: pa.array(values, pa.string()) for c, values in columns.items()})
    manifest = imported_manifest(name, uri_of(storage, name), table)
    if read.metadata and manifest.fingerprint != read.metadata["fingerprint"]:
        raise IcmBenchError(f"{read.file} does not list the images that were exported; export it again.")
    return manifest


def _check_foreign(read: ReadFile, rows: NDArray[np.int64], words: dict[str, list[str | None]]) -> None:
    """Refuse a column `group` with gaps, duplicate paths, a single class, and reserved names of views."""
    if any(words["group"]) and None in words["group"]:
        row = int(rows[words["group"].index(None)]) + 1
        raise row_error(read.file, row, "the group is empty, and other images have one; fill it in.")
    seen: dict[str | None, int] = {}
    for row, path in zip(rows.tolist(), words["path"], strict=True):
        if path in seen:
            raise row_error(read.file, row + 1, f"row {seen[path] + 1} has the path '{path}' too; change one of them.")
        seen[path] = row
    if len(set(words["class"])) < 2:
        raise IcmBenchError(f"{read.file} has one class only ({words['class'][0]}); give two or more.")
    for view in read.rows.views:
        if view in (TEXT, CROSS):
            raise IcmBenchError(
                f"{read.file}: the name '{view}' is reserved for another kind of pairs; rename the view."
            )


def facts_of(read: ReadFile, asked: ImportOptions) -> BackboneFacts:
    """Return the facts about the backbone: from the metadata of an export, else from its label and width."""
    texts: Any = "none" if read.texts is None else "classes"
    if read.metadata:
        exported = {**read.metadata["facts"], "notes": tuple(read.metadata["facts"]["notes"])}
        facts = replace(BackboneFacts(**exported), texts=texts)
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
    """Return the text embeddings of the classes at unit length, shape (classes, D); None for a file without texts."""
    if read.texts is None:
        return None
    texts = read.texts.of_classes(read.texts_file, manifest.classes, read.vectors.shape[1])
    return texts if read.metadata else unit(texts.astype(np.float64)).astype(np.float32)


def views_of(read: ReadFile, manifest: Manifest, facts: BackboneFacts) -> dict[str, View]:
    """Return the view for each of its names in the file, the original first; also fill `read.chunks`."""
    ids = manifest.table["image_id"].to_pylist()
    order = [ids[i] for i in store.distinct(manifest.table["image_id"])]
    size = store.chunk_size(len(order))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    exported = {one["view"]: one for one in read.metadata["views"]} if read.metadata else {}
    id_of = dict(zip(manifest.table["path"].to_pylist(), ids, strict=True))
    views: dict[str, View] = {}
    for name in read.rows.views:
        rows = read.rows.of_view(name)
        paths, names = (read.rows.words(column, rows) for column in ("path", read.rows.id_column))
        row_ids = names if exported else [id_of[str(path or name)] for path, name in zip(paths, names, strict=True)]
        row_of = dict(zip(row_ids, rows.tolist(), strict=True))
        read.chunks[name] = [np.array([row_of[i] for i in c if i in row_of], dtype=np.int64) for c in chunks]
        if exported:
            one = exported[name]
            views[name] = View(one["label"], None, one["seed"], len(order), one["depends_on"])
        else:
            digest = hashlib.sha256("\n".join(order).encode())  # hash of ids and embeddings in manifest order
            for chunk in read.chunks[name]:
                digest.update(np.ascontiguousarray(read.vectors[chunk]).tobytes())
            identity = {"kind": name, "imported": digest.hexdigest(), "version": IMPORTS_SINCE}
            depends_on = {"dataset": manifest.fingerprint, "backbone": facts.identity(), "view": identity}
            views[name] = View(name, None, 0, len(order), depends_on)
    return views
