"""A file of embeddings that exist, read once: its images, whether they make sense, its views, texts and backbone."""

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
from benchmark.commands.interchange.embedding_files import WORDS, Block, Texts, refused
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
from benchmark.store.embeddings import ORIGINAL, STORE_VERSION, View

LOGIT_SCALE = 100.0  # where a file does not say it: where CLIP's ends


NAMED = ("image_id", "path")  # what tells images apart: one of the two, the first where both are there
NEEDED = ("environment", "class")
SHARED = ("environment", "class", "group", "path")  # what all views of an image say alike
_MAX_LETTERS = 1024  # of a name


@dataclass(frozen=True)
class Asked:
    """What a person asks of an import."""

    name: str  # of the data set
    backbone: str | None = None  # its label; None for that of the file, else `imported`
    texts: Path | None = None  # file with the texts of the classes; None for that of the folder
    logit_scale: float | None = None  # factor on cosine similarities; None for that of the file, else 100
    foreign: bool = False  # whether what the file says of how it was made is left alone
    columns: Mapping[str, str] = field(default_factory=dict)  # key of `USUAL` -> column, where the two differ
    overwrite: bool = False  # whether other embeddings that were imported under the same names are replaced


class Rows:
    """The words of all rows of a file, each different one held once."""

    def __init__(self, file: Path) -> None:
        self.file, self.named = file, ""  # the second: column that tells images apart
        self.codes: dict[str, NDArray[np.int64]] = {}  # column -> for each row the number of its word
        self._blocks: dict[str, list[NDArray[np.int64]]] = {}
        self._numbers: dict[str, dict[str | None, int]] = {}  # column -> its words; None where a row has none

    def add(self, block: Block) -> None:
        """Take in some rows, each with environment, class and what names its image, in names that can be printed."""
        self.named = next(name for name in NAMED if name in block.words)
        for name in (self.named, *NEEDED, *(["view"] if "view" in block.words else [])):
            if None in block.words[name]:
                row = block.first + block.words[name].index(None)
                raise refused(self.file, row, f"'{name}' is empty; fill it in, or leave the image out.")
        by_default: dict[str, list[str | None]] = {"view": [ORIGINAL] * len(block.embedding)}
        for name, values in {**by_default, **block.words}.items():
            known = self._numbers.setdefault(name, {})
            codes = np.fromiter((known.setdefault(value, len(known)) for value in values), np.int64, len(values))
            self._blocks.setdefault(name, []).append(codes)
            bad = next((v for v in values if v and not (v.isprintable() and len(v) <= _MAX_LETTERS)), None)
            if bad and name != "content":
                row = block.first + values.index(bad)
                raise refused(self.file, row, f"'{name}' is {bad[:40]!a}, which is no name that can be printed.")

    def end(self) -> None:
        """Take in no more."""
        self.codes = {name: np.concatenate(parts) for name, parts in self._blocks.items()}

    @property
    def views(self) -> list[str]:
        """Names of the views, the original first."""
        return sorted(map(str, self._numbers["view"]), key=lambda name: (name != ORIGINAL, name))

    def of_view(self, view: str) -> NDArray[np.int64]:
        """Return the rows of a view, in their order."""
        return np.flatnonzero(self.codes["view"] == self._numbers["view"][view])

    def words(self, column: str, rows: NDArray[np.int64]) -> list[str | None]:
        """Return what some rows say in a column; None where the file has no such column."""
        if column not in self.codes:
            return [None] * len(rows)
        values = [*self._numbers[column]]
        return [values[code] for code in self.codes[column][rows].tolist()]

    def check(self) -> None:
        """Refuse rows that repeat an image's view, views that say different things of it, and incomplete views."""
        image, view = self.codes[self.named], self.codes["view"]
        if ORIGINAL not in self._numbers["view"]:
            names = ", ".join(f"'{name}'" for name in self.views[:3])
            raise IcmBenchError(f"{self.file}: no row has the view '{ORIGINAL}', only {names}; call the images so.")
        key = image * len(self._numbers["view"]) + view
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        if len(again := np.flatnonzero(first[inverse] != np.arange(len(key)))):
            row = int(again[0])
            raise self._refused(row, f"stands in row {first[inverse[row]] + 1} already; leave one of the two out.")
        original = np.full(len(self._numbers[self.named]), -1, dtype=np.int64)
        rows = self.of_view(ORIGINAL)
        original[image[rows]] = rows
        if len(strange := np.flatnonzero(original[image] < 0)):
            raise self._refused(int(strange[0]), f"has no '{ORIGINAL}' beside it; give it one, or leave it out.")
        for name in self.views:
            if len(lacking := rows[~np.isin(image[rows], image[self.of_view(name)])]):
                says = f"has no view '{name}' beside it, and other images have; give it one, or leave that view out."
                raise self._refused(int(lacking[0]), says)
        for column in (name for name in SHARED if name in self.codes):
            codes = self.codes[column]
            if len(other := np.flatnonzero(codes != codes[original[image]])):
                row = int(other[0])
                raise self._refused(row, f"has another {column} than row {original[image[row]] + 1}; let them agree.")

    def _refused(self, row: int, problem: str) -> IcmBenchError:
        """Return the error that names a row, its image and view."""
        (name,), (view,) = (self.words(column, np.array([row])) for column in (self.named, "view"))
        return refused(self.file, row + 1, f"'{name}' in the view '{view}' {problem}")


@dataclass
class ReadFile:
    """A file that was read."""

    file: Path
    rows: Rows
    vectors: NDArray[np.float32]  # in the order of the rows, shape (rows, D), on disk
    said: dict[str, Any] | None  # what the file says of how it was made; None for a foreign one
    texts: Texts | None  # of the classes
    texts_place: Path
    unused: list[str]  # columns that nobody asks for
    # Name of a view -> for each chunk of the store the rows that go there; `views_of` fills it.
    chunks: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)


@contextmanager
def reading(file: Path, texts_file: Path | None, asked: Asked) -> Iterator[ReadFile]:
    """Read a file once, its embeddings to a place on disk, and give what it holds."""
    said = None if asked.foreign else files.metadata_of(file)
    columns, unused = files.columns_of(file, [NAMED, *((name,) for name in NEEDED)], WORDS, asked.columns)
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
        if said and said["digest"] != files.seal_of(said, digest, texts.digest if texts and said["prompts"] else ""):
            raise IcmBenchError(
                f"{file} or its texts were edited since they were exported (the digest differs); export them again, or "
                f"take them as they are with --foreign."
            )
        rows.end()
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
            for column in words.keys() - {"view"}:
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
            digest = hashlib.sha256("\n".join(order).encode())  # of ids and embeddings, in the order of the data set
            for of_chunk in read.chunks[name]:
                digest.update(np.ascontiguousarray(read.vectors[of_chunk]).tobytes())
            what = {"kind": name, "imported": digest.hexdigest(), "version": STORE_VERSION}
            depends_on = {"dataset": manifest.fingerprint, "backbone": facts.identity(), "view": what}
            views[name] = View(name, None, 0, len(order), depends_on)
    return views
