"""Files of embeddings that exist: Parquet or npz, a row for each image and view; the texts of the classes in another.

A folder holds `embeddings.parquet` and, where there are texts, `texts.parquet` (or both as .npz). Columns of the first:
image_id or path (or both), environment, class, group, view, embedding; of the second: class, embedding. What is written
here also says how it was made, with a digest over it all, so that an import is known to be the same embeddings.
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

from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.common.plain import canonical_hash
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.parquet_check import check_tried
from benchmark.datasets.readers.base import USUAL_COLUMNS

WORDS = ("image_id", "path", "environment", "class", "group", "view", "content")  # of an image and view
EMBEDDING = "embedding"
USUAL = {  # the keys of --columns, and what their columns are often called
    "image_id": ("id", "uid"),
    "path": ("file", "file_name", "filename", "image_path"),
    "environment": USUAL_COLUMNS["environment"],
    "class": USUAL_COLUMNS["class_name"],
    "group": USUAL_COLUMNS["group"],
    "view": ("view", "intervention"),
    EMBEDDING: ("embeddings", "vector", "features"),
}
SUFFIXES = (".parquet", ".npz")
METADATA = b"icm_bench_embeddings"  # key of what a file says of itself
VERSION = 1  # to be raised when the form, or what a file says of itself, changes
BLOCK = 4096  # rows that are held at a time
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, pa.ArrowException)


@dataclass(frozen=True)
class Block:
    """Some rows of a file."""

    first: int  # number of the first of them, from 1
    words: Mapping[str, list[str | None]]  # of each column, None where absent
    embedding: NDArray[np.float32]  # shape (rows, D)


def refused(file: Path, row: int, problem: str) -> IcmBenchError:
    """Return the error that names a file and a row."""
    return IcmBenchError(f"{file}, row {row}: {problem}")


class Digest:
    """The hash over rows, however they are cut into blocks."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}

    def add(self, block: Block) -> None:
        """Count some rows, which come in their order."""
        for name, values in block.words.items():
            said = "".join(f"{len(value)}:{value}" if value is not None else "-" for value in values)
            self._of.setdefault(name, hashlib.sha256()).update(said.encode())
        self._of.setdefault(EMBEDDING, hashlib.sha256()).update(np.ascontiguousarray(block.embedding).tobytes())

    def hexdigest(self) -> str:
        """Return the SHA-256 (hex) over all rows so far; columns count by name, not by their order."""
        return canonical_hash({name: digest.hexdigest() for name, digest in self._of.items()})


def files_of(place: Path, texts: Path | None) -> tuple[Path, Path | None]:
    """Return the file of embeddings, and that of texts, if there is one: of a folder, or those that are named."""
    if place.is_dir():
        found = {name: [place / f"{name}{s}" for s in SUFFIXES] for name in ("embeddings", "texts")}
        there = {name: next((file for file in files if file.is_file()), None) for name, files in found.items()}
        if there["embeddings"] is None:
            raise IcmBenchError(f"{place} holds neither embeddings.parquet nor embeddings.npz; name the file itself.")
        return there["embeddings"], texts or there["texts"]
    for file in filter(None, (place, texts)):
        if file.suffix not in SUFFIXES:
            raise IcmBenchError(f"{file}: the name ends in neither {' nor '.join(SUFFIXES)}; save it as one of these.")
        if not file.is_file():
            raise IcmBenchError(f"{file} does not exist; give a file or a folder of embeddings.")
    return place, texts


def metadata_of(file: Path) -> dict[str, Any] | None:
    """Return what a file says of how it was made; None where it says nothing."""
    if file.suffix != ".parquet":
        return None
    with _refusing_damage(file):
        said = (pq.read_metadata(file).metadata or {}).get(METADATA)
        content: dict[str, Any] | None = json.loads(said) if said else None
    if content and content["version"] > VERSION:
        raise IcmBenchError(f"{file} is of version {content['version']}; install the icm-bench that exported it.")
    return content


def row_count(file: Path) -> int:
    """Return how many rows a file has, for progress; 0 where only reading it tells."""
    with _refusing_damage(file):
        return int(pq.read_metadata(file).num_rows) if file.suffix == ".parquet" else 0


def columns_given(items: Sequence[str]) -> dict[str, str]:
    """Return which columns `--columns KEY=COLUMN,KEY=COLUMN` names: key -> column of the file."""
    given: dict[str, str] = {}
    for item in filter(None, map(str.strip, ",".join(items).split(","))):
        key, _, column = (part.strip() for part in item.partition("="))
        if key not in USUAL:
            meant = next((known for known, names in USUAL.items() if key.lower() in names), key)
            raise IcmBenchError(f"--columns {item}: '{key}' is no key; {nearest(meant, [*USUAL])}")
        if not column:
            raise IcmBenchError(f"--columns {item}: write KEY=COLUMN, as in class=label.")
        given[key] = column
    return given


def columns_of(
    file: Path, needed: Sequence[Sequence[str]], known: Sequence[str], given: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return which column of a file holds each key, and the columns that hold none.

    Args:
        file: Parquet or npz.
        needed: keys that it must have beside `embedding`; of each group one.
        known: keys that it may have.
        given: key -> column, where the two differ.
    """
    names = _names_in(file)
    for key, column in given.items():
        if column not in names:
            raise IcmBenchError(
                f"{file} has no column '{column:.60}', which --columns {key}={column:.60} names; "
                f"{nearest(column, names)}"
            )
    columns = {key: column for key in (*known, EMBEDDING) if (column := given.get(key, key)) in names}
    guessed, lacking = dict(given), []
    for keys in (group for group in (*needed, (EMBEDDING,)) if not columns.keys() & set(group)):
        lacking.append(" or ".join(f"'{key}'" for key in keys))
        found = ((key, name) for key in keys for name in names if name.lower() in USUAL[key])
        key, column = next(found, (keys[0], "COLUMN"))
        guessed[key] = column
    if lacking:
        option = quote(",".join(f"{key}={column}" for key, column in guessed.items()))
        raise IcmBenchError(
            f"{file} needs a column for each of {', '.join(lacking)}; name them, as in --columns {option} (it has "
            f"{some(names)})."
        )
    return columns, [name for name in names if name not in columns.values()]


def _names_in(file: Path) -> list[str]:
    """Return the names of the columns of a file."""
    with _refusing_damage(file):
        if file.suffix == ".parquet":
            check_tried(Storage(str(file.parent)), file.name)
            return list(pq.read_schema(file).names)
        if not zipfile.is_zipfile(file):
            raise IcmBenchError(f"{file} is no .npz; save it with numpy.savez, an array for each column.")
        with np.load(file, allow_pickle=False) as opened:
            return list(opened.files)


@contextmanager
def _refusing_damage(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise IcmBenchError(
            f"{file} cannot be read ({reason(error)}): it is damaged or no {file.suffix[1:]}; get it anew."
        ) from error


def blocks(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    """Yield the rows of a file, some at a time; all embeddings have one width, are finite, and differ somewhere."""
    width, rows, first, differ = 0, 0, None, False
    for block in (_of_parquet if file.suffix == ".parquet" else _of_npz)(file, columns):
        width = width or block.embedding.shape[1]
        if block.embedding.shape[1] != width:
            raise refused(file, block.first, f"an embedding of width {block.embedding.shape[1]}, others have {width}.")
        if len(bad := np.flatnonzero(~np.isfinite(block.embedding).all(axis=1))):
            raise refused(file, block.first + int(bad[0]), "the embedding holds NaN or infinite values; leave it out.")
        if len(empty := np.flatnonzero(~block.embedding.any(axis=1))):
            raise refused(file, block.first + int(empty[0]), "the embedding is all zeros, which has no direction.")
        first = block.embedding[0] if first is None else first
        rows, differ = rows + len(block.embedding), differ or bool((block.embedding != first).any())
        yield block
    if not width:
        raise IcmBenchError(f"{file} holds no embedding; write a row for each image and view.")
    if rows > 1 and not differ:
        raise IcmBenchError(f"{file}: all {rows} embeddings are equal; give those that an encoder made.")


def _of_parquet(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    first, words = 1, {key: column for key, column in columns.items() if key != EMBEDDING}
    with _refusing_damage(file), pq.ParquetFile(file, page_checksum_verification=True) as opened:
        for batch in opened.iter_batches(BLOCK, columns=list(dict.fromkeys(columns.values()))):
            of_keys = {key: _words(file, first, name, batch.column(name)) for key, name in words.items()}
            yield Block(first, of_keys, _vectors(file, first, columns[EMBEDDING], batch.column(columns[EMBEDDING])))
            first += len(batch)


def _words(file: Path, first: int, name: str, column: pa.Array) -> list[str | None]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise refused(file, first, f"the column '{name}' is of type {kind}; write it as text or whole numbers.")
    values: list[str | None] = column.cast(kind).cast(pa.string()).to_pylist()
    return [value or None for value in values]


def _vectors(file: Path, first: int, name: str, column: pa.Array) -> NDArray[np.float32]:
    kind = column.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists and pa.types.is_floating(kind.value_type)):
        raise refused(file, first, f"'{name}' is of type {kind}; write it as a list of floating point numbers.")
    widths = column.value_lengths().to_pylist() if not pa.types.is_fixed_size_list(kind) else None
    if column.null_count or (widths and None in widths):
        row = column.is_null().to_pylist().index(True)
        raise refused(file, first + row, "there is no embedding; leave the row out, or give it one.")
    if widths and len(set(widths)) > 1:
        row = next(i for i, width in enumerate(widths) if width != widths[0])
        raise refused(file, first + row, f"an embedding of width {widths[row]}, others have {widths[0]}.")
    values = column.flatten().to_numpy(zero_copy_only=False)  # numbers that are absent are NaN from here on
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values.reshape(len(column), -1), dtype=np.float32)


def _of_npz(file: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    with _refusing_damage(file), np.load(file, allow_pickle=False) as opened:
        arrays = {key: _array(file, column, opened) for key, column in columns.items()}
    embedding = arrays.pop(EMBEDDING)
    for key, array in arrays.items():
        if array.dtype.kind not in "USiu":
            raise IcmBenchError(
                f"{file}: '{columns[key]}' is of type {array.dtype}; write it as text or whole numbers."
            )
    if embedding.ndim != 2 or embedding.dtype.kind != "f":
        raise IcmBenchError(
            f"{file}: '{columns[EMBEDDING]}' has shape {embedding.shape} and type {embedding.dtype}; give one row of "
            f"floating point numbers for each image and view."
        )
    for key, array in arrays.items():
        if array.shape != (len(embedding),):
            raise IcmBenchError(
                f"{file}: '{columns[key]}' has shape {array.shape}, and there are {len(embedding)} embeddings."
            )
    for start in range(0, len(embedding), BLOCK):
        rows = slice(start, start + BLOCK)
        of_rows = {key: [v.decode() if isinstance(v, bytes) else str(v) for v in arrays[key][rows]] for key in arrays}
        words = {key: [value or None for value in values] for key, values in of_rows.items()}
        with np.errstate(over="ignore"):
            yield Block(start + 1, words, np.ascontiguousarray(embedding[rows], dtype=np.float32))


def _array(file: Path, name: str, opened: Any) -> NDArray[Any]:
    try:
        return opened[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise IcmBenchError(
            f"{file}: the array '{name}' holds Python objects, which are not unpickled; save it as text or numbers."
        ) from error


@dataclass(frozen=True)
class Texts:
    """The texts of classes."""

    classes: list[str]
    embedding: NDArray[np.float32]  # shape (classes, D)
    digest: str  # SHA-256 (hex) over both

    def of(self, file: Path, classes: Sequence[str], width: int) -> NDArray[np.float32]:
        """Return the texts of some classes, shape (len(classes), D), which must have the width of images."""
        if self.embedding.shape[1] != width:
            raise IcmBenchError(
                f"{file}: texts have width {self.embedding.shape[1]}, and images {width}; give those of one encoder."
            )
        row = {name: i for i, name in enumerate(self.classes)}
        if lacking := next((name for name in classes if name not in row), None):
            raise IcmBenchError(f"{file}: the class '{lacking}' has no text; {nearest(lacking, self.classes)}")
        return self.embedding[[row[name] for name in classes]]


def read_texts_file(file: Path, given: Mapping[str, str]) -> Texts:
    """Return the texts of classes in a file; of the columns that are given for images those count that it has."""
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
                what = "names no class" if name is None else f"repeats the class '{name}'"
                raise refused(file, row, f"it {what}; give each class one text.")
            seen.add(name)
            classes.append(name)
    embedding = np.concatenate(parts)
    return Texts(classes, embedding, digest.hexdigest())


class Writer:
    """Writes a file of this form, a block for each row group; what it says of itself comes last."""

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
        """Finish the file; `metadata` is what it says of itself."""
        if metadata is not None:
            self._writer.add_key_value_metadata({METADATA: json.dumps(metadata).encode()})
        self._writer.close()


def seal_of(metadata: Mapping[str, Any], rows: Digest, texts: str) -> str:
    """Return the digest over what a file says of itself, its rows and its texts."""
    said = {key: value for key, value in metadata.items() if key != "digest"}
    return canonical_hash([said, rows.hexdigest(), texts])
