"""Files of embeddings, Parquet or npz: one row per image and view; class text embeddings are in a second file.

A folder holds `embeddings.parquet` and optionally `texts.parquet` (or both as .npz). Columns of the first: image_id or
path (or both), environment, class, group, view, embedding. Columns of the second: class, embedding. docs/data.md lists
them for users. An exported file also has metadata on how the embeddings were made. A digest in the metadata lets an
import verify that the file is unchanged.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.commands.interchange.files import row_error
from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.parquet_check import check_tried
from benchmark.datasets.readers.base import USUAL_COLUMNS

WORDS = ("image_id", "path", "environment", "class", "group", "view", "content")  # text columns of a row
EMBEDDING = "embedding"
USUAL = {  # key of --columns -> other common names of the column
    "image_id": ("id", "uid"),
    "path": ("file", "file_name", "filename", "image_path"),
    "environment": USUAL_COLUMNS["environment"],
    "class": USUAL_COLUMNS["class_name"],
    "group": USUAL_COLUMNS["group"],
    "view": ("view", "intervention"),
    EMBEDDING: ("embeddings", "vector", "features"),
}
SUFFIXES = (".parquet", ".npz")
METADATA = b"icm_bench_embeddings"  # key of the metadata of an export
VERSION = 1  # raise it if the file format changes, or the keys in `_metadata` of export_embeddings.py
BLOCK = 4096  # rows read at a time
SHORTEST = float(np.sqrt(np.finfo(np.float32).tiny))  # length of an embedding; the square of a shorter one underflows
_READ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, pa.ArrowException)


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file."""

    first: int  # number of the first row, from 1
    words: Mapping[str, Sequence[str | None]]  # text column -> values, None where empty
    embedding: NDArray[np.float32]  # shape (rows, D)


class Digest:
    """Hash of rows; it does not depend on how the rows are divided into blocks."""

    def __init__(self) -> None:
        self._by_column: dict[str, Any] = {}

    def add(self, block: Block) -> None:
        """Add the next rows."""
        for name, values in block.words.items():
            text = "".join(f"{len(value)}:{value}" if value is not None else "-" for value in values)
            self._by_column.setdefault(name, hashlib.sha256()).update(text.encode())
        self._by_column.setdefault(EMBEDDING, hashlib.sha256()).update(np.ascontiguousarray(block.embedding).tobytes())

    def hexdigest(self) -> str:
        """Return the SHA-256 (hex) of all rows so far; the order of the columns does not matter."""
        return canonical_hash({name: digest.hexdigest() for name, digest in self._by_column.items()})


def files_of(place: Path, texts: Path | None) -> tuple[Path, Path | None]:
    """Return the files of embeddings and of texts (or None); in a folder, both are found by their names."""
    if place.is_dir():
        found = {name: [place / f"{name}{s}" for s in SUFFIXES] for name in ("embeddings", "texts")}
        existing = {name: next((file for file in files if file.is_file()), None) for name, files in found.items()}
        if existing["embeddings"] is None:
            raise IcmBenchError(f"{place} has neither embeddings.parquet nor embeddings.npz; give the file itself.")
        return existing["embeddings"], texts or existing["texts"]
    for file in filter(None, (place, texts)):
        if file.suffix not in SUFFIXES:
            raise IcmBenchError(f"{file}: the suffix is not {' or '.join(SUFFIXES)}; save it in one of these formats.")
        if not file.is_file():
            raise IcmBenchError(f"{file} does not exist; give a file or a folder of embeddings.")
    return place, texts


def metadata_of(file: Path) -> dict[str, Any] | None:
    """Return the metadata of an exported file; None for a file without metadata."""
    if file.suffix != ".parquet":
        return None
    with _damage_reported(file):
        text = (pq.read_metadata(file).metadata or {}).get(METADATA)
        content: dict[str, Any] | None = json.loads(text) if text else None
    if content and content["version"] > VERSION:
        raise IcmBenchError(f"{file} has format version {content['version']}; install the icm-bench that exported it.")
    return content


def row_count(file: Path) -> int:
    """Return the number of rows of a Parquet file; 0 for npz, whose rows are not counted in advance."""
    with _damage_reported(file):
        return int(pq.read_metadata(file).num_rows) if file.suffix == ".parquet" else 0


def columns_given(items: Sequence[str]) -> dict[str, str]:
    """Parse the option `--columns KEY=COLUMN,KEY=COLUMN`, and return the column of the file for each key."""
    given: dict[str, str] = {}
    for item in filter(None, map(str.strip, ",".join(items).split(","))):
        key, _, column = (part.strip() for part in item.partition("="))
        if key not in USUAL:
            meant = next((known for known, names in USUAL.items() if key.lower() in names), key)
            raise IcmBenchError(f"--columns {item}: unknown key '{key}'; {nearest(meant, [*USUAL])}")
        if not column:
            raise IcmBenchError(f"--columns {item}: write KEY=COLUMN, as in class=label.")
        given[key] = column
    return given


def columns_of(
    file: Path, needed: Sequence[Sequence[str]], known: Sequence[str], given: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return two values: the column of the file for each key of `USUAL`, and the names of the file's other columns.

    Args:
        file: Parquet or npz.
        needed: groups of keys; the file must have one key of each group, and `embedding`.
        known: keys that the file may have.
        given: key -> column, if the names differ.
    """
    names = _names_in(file)
    for key, column in given.items():
        if column not in names:
            raise IcmBenchError(f"{file} has no column '{column:.60}' (--columns {key}=...); {nearest(column, names)}")
    columns = {key: column for key in (*known, EMBEDDING) if (column := given.get(key, key)) in names}
    guessed, missing = dict(given), []
    for keys in (group for group in (*needed, (EMBEDDING,)) if not columns.keys() & set(group)):
        missing.append(" or ".join(f"'{key}'" for key in keys))
        found = ((key, name) for key in keys for name in names if name.lower() in USUAL[key])
        key, column = next(found, (keys[0], "COLUMN"))
        guessed[key] = column
    if missing:
        option = quote(",".join(f"{key}={column}" for key, column in guessed.items()))
        raise IcmBenchError(
            f"{file} needs a column for each of {', '.join(missing)}: give --columns {option} (it has {some(names)})."
        )
    return columns, [name for name in names if name not in columns.values()]


def _names_in(file: Path) -> list[str]:
    """Return the names of the columns of a file."""
    with _damage_reported(file):
        if file.suffix == ".parquet":
            check_tried(Storage(str(file.parent)), file.name)
            return list(pq.read_schema(file).names)
        if not zipfile.is_zipfile(file):
            raise IcmBenchError(f"{file} is not a .npz file; save it with numpy.savez, one array per column.")
        with np.load(file, allow_pickle=False) as opened:
            return list(opened.files)


@contextmanager
def _damage_reported(file: Path) -> Iterator[None]:
    """Turn an error of a Parquet or npz reader into the message that the file is damaged."""
    try:
        yield
    except _READ_ERRORS as error:
        form = file.suffix[1:]
        raise IcmBenchError(f"{file} cannot be read ({reason(error)}); it is damaged or not {form}.") from error


def blocks(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    """Yield the rows of a file in blocks.

    A file is refused if its embeddings have unequal widths, if one of them is `unusable`, or if all are equal.
    """
    width, rows, first, differ = 0, 0, None, False
    for block in (_parquet_blocks if file.suffix == ".parquet" else _npz_blocks)(file, columns):
        width = width or block.embedding.shape[1]
        if block.embedding.shape[1] != width:
            raise row_error(file, block.first, f"the embedding has width {block.embedding.shape[1]}, others {width}.")
        if bad := unusable(block.embedding):
            raise row_error(file, block.first + bad[0], f"the embedding {bad[1]}")
        first = block.embedding[0] if first is None else first
        rows, differ = rows + len(block.embedding), differ or bool((block.embedding != first).any())
        yield block
    if not width:
        raise IcmBenchError(f"{file} has no rows; write one row per image and view.")
    if rows > 1 and not differ:
        raise IcmBenchError(f"{file}: all {rows} embeddings are equal; give the output of an encoder.")


def unusable(vectors: NDArray[np.float32]) -> tuple[int, str] | None:
    """Return the first row whose embedding has no usable length, and what is wrong with it; None if all are usable."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    for bad, problem in (
        (~np.isfinite(lengths), "has NaN or infinite values; remove the row."),
        (lengths == 0, "is all zeros in single precision; remove the row."),
        (lengths < SHORTEST, "is too small for single precision; remove the row, or multiply all by one large number."),
    ):
        if bad.any():
            return int(bad.argmax()), problem
    return None


def _parquet_blocks(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    first, words = 1, {key: column for key, column in columns.items() if key != EMBEDDING}
    with _damage_reported(file), pq.ParquetFile(file, page_checksum_verification=True) as opened:
        for batch in opened.iter_batches(BLOCK, columns=list(dict.fromkeys(columns.values()))):
            by_key = {key: _words(file, first, name, batch.column(name)) for key, name in words.items()}
            yield Block(first, by_key, _vectors(file, first, columns[EMBEDDING], batch.column(columns[EMBEDDING])))
            first += len(batch)


def _words(file: Path, first: int, name: str, column: pa.Array) -> list[str | None]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise row_error(file, first, f"the column '{name}' is of type {kind}; write it as text or integers.")
    values: list[str | None] = column.cast(kind).cast(pa.string()).to_pylist()
    return [value or None for value in values]


def _vectors(file: Path, first: int, name: str, column: pa.Array) -> NDArray[np.float32]:
    kind = column.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and pa.types.is_floating(kind.value_type)):
        raise row_error(file, first, f"'{name}' is of type {kind}; write it as a list of floating point numbers.")
    widths = column.value_lengths().to_pylist() if not pa.types.is_fixed_size_list(kind) else None
    if column.null_count or (widths and None in widths):
        row = column.is_null().to_pylist().index(True)
        raise row_error(file, first + row, "the embedding is missing; add it, or remove the row.")
    if widths and len(set(widths)) > 1:
        row = next(i for i, width in enumerate(widths) if width != widths[0])
        raise row_error(file, first + row, f"the embedding has width {widths[row]}, others {widths[0]}.")
    values = column.flatten().to_numpy(zero_copy_only=False)  # null becomes NaN
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.reshape(len(column), -1), dtype=np.float32)


def _npz_blocks(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    arrays = {}
    with _damage_reported(file), np.load(file, allow_pickle=False) as opened:
        for key, name in columns.items():
            try:
                arrays[key] = opened[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise IcmBenchError(f"{file}: '{name}' has Python objects; save it as text or numbers.") from error
    embedding = arrays.pop(EMBEDDING)
    if embedding.ndim != 2 or embedding.dtype.kind != "f":
        raise IcmBenchError(
            f"{file}: '{columns[EMBEDDING]}' has shape {embedding.shape} and type {embedding.dtype}; give one row of "
            f"floating point numbers per image and view."
        )
    for key, array in arrays.items():
        if array.dtype.kind not in "USiu":
            raise IcmBenchError(f"{file}: '{columns[key]}' is of type {array.dtype}; write it as text or integers.")
        if array.shape != (len(embedding),):
            raise IcmBenchError(f"{file}: '{columns[key]}' has shape {array.shape}, expected ({len(embedding)},).")
    for start in range(0, len(embedding), BLOCK):
        rows = slice(start, start + BLOCK)
        texts = {key: [v.decode() if isinstance(v, bytes) else str(v) for v in arrays[key][rows]] for key in arrays}
        words = {key: [value or None for value in values] for key, values in texts.items()}
        with np.errstate(over="ignore"):
            yield Block(start + 1, words, np.ascontiguousarray(embedding[rows], dtype=np.float32))


@dataclass(frozen=True)
class Texts:
    """Text embeddings of classes, as read from a file."""

    classes: list[str]
    embedding: NDArray[np.float32]  # shape (classes, D)
    digest: str  # SHA-256 (hex) of both

    def of_classes(self, file: Path, classes: Sequence[str], width: int) -> NDArray[np.float32]:
        """Return the text embeddings of `classes`, shape (len(classes), D); D must be the `width` of the images."""
        if (own := self.embedding.shape[1]) != width:
            raise IcmBenchError(f"{file}: texts have width {own} and images {width}; embed both with one encoder.")
        row = {name: i for i, name in enumerate(self.classes)}
        if missing := next((name for name in classes if name not in row), None):
            raise IcmBenchError(f"{file}: the class '{missing}' has no text; {nearest(missing, self.classes)}")
        return self.embedding[[row[name] for name in classes]]


def read_texts_file(file: Path, given: Mapping[str, str]) -> Texts:
    """Read the text embeddings of classes; entries of `given` (see `columns_of`) that the file lacks are ignored."""
    digest, classes, parts = Digest(), [], []
    seen: set[str] = set()
    names = _names_in(file)
    here = {key: column for key, column in given.items() if key in ("class", EMBEDDING) and column in names}
    columns, _ = columns_of(file, [("class",)], ("class",), here)
    for block in blocks(file, columns):
        digest.add(block)
        parts.append(block.embedding)
        for row, name in enumerate(block.words["class"], start=block.first):
            if name is None or name in seen:
                problem = "the class is empty" if name is None else f"it repeats the class '{name}'"
                raise row_error(file, row, f"{problem}; give each class one text.")
            seen.add(name)
            classes.append(name)
    embedding = np.concatenate(parts)
    return Texts(classes, embedding, digest.hexdigest())


class Writer:
    """Writes a Parquet file of embeddings, one row group per block; the metadata comes last."""

    def __init__(self, file: Path, words: Sequence[str], width: int) -> None:
        vectors = pa.list_(pa.float32(), width)
        self._schema = pa.schema([*((name, pa.string()) for name in words), (EMBEDDING, vectors)])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd", write_page_checksum=True)
        self.digest, self.rows = Digest(), 0

    def add(self, words: Mapping[str, list[str | None]], embedding: NDArray[np.float32]) -> None:
        """Write some rows."""
        block = Block(self.rows + 1, words, embedding)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), embedding.shape[1])
        columns = [*(pa.array(words[name], pa.string()) for name in self._schema.names[:-1]), vectors]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self.digest.add(block)
        self.rows += len(embedding)

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the metadata, if any, and close the file."""
        if metadata is not None:
            self._writer.add_key_value_metadata({METADATA: json.dumps(metadata).encode()})
        self._writer.close()


def seal_of(metadata: Mapping[str, Any], rows: Digest, texts: str) -> str:
    """Return the digest of an export: of metadata, rows and texts; `texts` is the texts' own digest, or empty."""
    content = {key: value for key, value in metadata.items() if key != "digest"}
    return canonical_hash([content, rows.hexdigest(), texts])
