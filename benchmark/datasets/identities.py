"""Identities of images: hashes of their bytes. They are cached between runs for files that have not changed."""

import contextlib
import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import cache_dir
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import Workers, cores
from benchmark.datasets.readers import READERS, ImageReader
from benchmark.datasets.readers.base import ahead, changed

# If a file was modified less than this time before its listing, it may change again without a new modification time.
RACY_NS = 2 * 10**9

_KEY = ["file", "position", "file_bytes", "modified_ns", "environment", "class_name"]
_IDENTITY = ["content", "image_id", "bytes"]
_TYPES = {"position": pa.int64(), "file_bytes": pa.int64(), "modified_ns": pa.int64(), "bytes": pa.int64()}
_TOGETHER = 1024  # images per call; small files share a call
_WORTH_PROCESSES = 20_000  # images; hashing fewer of them is faster than starting processes
_IN_WORDS = 2**20  # digests converted to text at a time, since Arrow's string offsets have 31 bits
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in (*_KEY, *_IDENTITY)])


def identify(reader: ImageReader, table: pa.Table, listed_ns: int | None = None) -> pa.Table:
    """Return `table`, one row per image, with the columns `_IDENTITY`; the column `bytes` is the size that was read.

    `listed_ns` is the time at which `reader` listed the images, in ns since 1970. Default: now.
    """
    cache = Storage(str(cache_dir() / "manifests"))
    layout = READERS.implementation(type(reader))
    name = hashlib.sha256(f"{layout}\n{reader.uri}".encode()).hexdigest()[:32] + ".parquet"
    known, result = _known(cache, name, table), table.drop_columns(["bytes"])
    missing = pc.is_null(known["content"]).to_numpy()
    if not missing.any():
        return _with(result, known)
    found = _Hashed(int(missing.sum()))
    try:
        _hash(reader, table, np.flatnonzero(missing), found)
    finally:  # also caches what an interrupted run has hashed
        columns = found.columns()
        if len(columns["content"]) < len(table):
            columns = {
                column: pc.replace_with_mask(known[column].combine_chunks(), missing, columns[column].combine_chunks())
                for column in _IDENTITY
            }
        result = _with(result, columns)
        long_ago = pc.less(result["modified_ns"], (listed_ns or time.time_ns()) - RACY_NS)
        settled = pc.and_(long_ago, pc.is_valid(result["content"]))
        rows = result if pc.all(settled).as_py() else result.filter(settled)
        if rows.num_rows:
            with contextlib.suppress(IcmBenchError):  # without a writable cache, the next run hashes the images again
                cache.write_table(name, rows.select(_SCHEMA.names).cast(_SCHEMA))
    return result


def _with(table: pa.Table, columns: Mapping[str, pa.ChunkedArray] | pa.Table) -> pa.Table:
    for name in _IDENTITY:
        table = table.append_column(name, columns[name])
    return table


def _known(cache: Storage, name: str, table: pa.Table) -> pa.Table:
    """Return the columns `_IDENTITY` for each row of the table; null if the cache has no entry for the current file."""
    nothing = _SCHEMA.empty_table()
    try:
        there = cache.exists(name)
        # Columns are compared one by one, to save memory for millions of images: usually nothing has changed.
        if there and all(cache.read_table(name, [key])[key].equals(table[key]) for key in _KEY):
            return cache.read_table(name, _IDENTITY)
        cached = cache.read_table(name) if there else nothing
    except (IcmBenchError, KeyError):
        cached = nothing  # damaged: rewritten
    if not cached.schema.equals(_SCHEMA):
        cached = nothing
    rows = table.select(_KEY).append_column("row", pa.array(np.arange(table.num_rows)))
    joined = rows.join(cached, keys=_KEY, join_type="left outer").sort_by("row")
    if joined.num_rows != table.num_rows:  # the cache has a key twice, so this package did not write it
        joined = rows.join(nothing, keys=_KEY, join_type="left outer").sort_by("row")
    return joined.select(_IDENTITY)


class _Hashed:
    """Identities of images, filled in any order. Digests are kept as bytes: strings need three times the memory."""

    def __init__(self, count: int) -> None:
        self._digests = {name: np.zeros((count, hashlib.sha256().digest_size), np.uint8) for name in _IDENTITY[:2]}
        self._bytes, self._done = np.zeros(count, np.int64), np.zeros(count, bool)

    def fill(self, rows: NDArray[np.int64], contents: bytes, image_ids: bytes, sizes: Sequence[int]) -> None:
        """Set the identities of the images in `rows`.

        `contents` and `image_ids` are the digests of these images, concatenated; `sizes` are in bytes.
        """
        for name, digests in zip(_IDENTITY, (contents, image_ids), strict=False):
            self._digests[name][rows] = np.frombuffer(digests, np.uint8).reshape(len(rows), -1)
        self._bytes[rows], self._done[rows] = sizes, True

    def columns(self) -> dict[str, pa.ChunkedArray]:
        """Return the columns `_IDENTITY`; null for images that were not filled."""
        columns: dict[str, list[pa.Array]] = {name: [] for name in _IDENTITY}
        for begin in range(0, len(self._done), _IN_WORDS):
            part = slice(begin, begin + _IN_WORDS)
            for name, digests in self._digests.items():
                columns[name].append(_in_words(digests[part], self._done[part]))
            columns["bytes"].append(pa.array(self._bytes[part], mask=~self._done[part]))
        return {name: pa.chunked_array(parts, _SCHEMA.field(name).type) for name, parts in columns.items()}


def _in_words(digests: NDArray[np.uint8], valid: NDArray[np.bool_]) -> pa.Array:
    """Return digests, shape (n, 32), as hexadecimal texts; null where `valid` is False."""
    figures = np.frombuffer(b"0123456789abcdef", np.uint8)
    words = np.stack([figures[digests >> 4], figures[digests & 15]], axis=2)
    offsets = np.arange(len(digests) + 1, dtype=np.int32) * (2 * digests.shape[1])
    buffers = np.packbits(valid, bitorder="little"), offsets, words
    return pa.Array.from_buffers(pa.string(), len(digests), [pa.py_buffer(buffer) for buffer in buffers])


def _hash(reader: ImageReader, table: pa.Table, missing: NDArray[np.int64], found: _Hashed) -> None:
    """Hash the images in the rows `missing` of the table into `found`; for many images in several processes."""
    progress = Progress("identifying images", len(missing), "images")
    batches = list(_by_file(table, missing))
    # Other processes cannot import a reader defined in the main program.
    count = cores() if len(missing) > _WORTH_PROCESSES and type(reader).__module__ != "__main__" else 1
    calls = ((reader, table.take(missing[rows]).to_pydict()) for rows in batches)
    with Workers(count if count > 1 else 0, __name__) as workers:
        for number, hashed in workers.call_all(hashed_batch, calls):
            found.fill(batches[number], *hashed)
            progress.update(len(batches[number]))
    progress.close()


def _by_file(table: pa.Table, missing: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield batches of positions in `missing`, in order of file and position; small files share a batch."""
    part = table.select(["file", "position"]).take(missing)
    order = pc.sort_indices(part, sort_keys=[("file", "ascending"), ("position", "ascending")]).to_numpy()
    files = part["file"].combine_chunks().dictionary_encode().indices.to_numpy()[order]
    starts = [0, *(np.flatnonzero(np.diff(files)) + 1).tolist(), len(order)]
    begin = 0
    for end in starts[1:]:
        if end - begin >= _TOGETHER or end == len(order):
            yield order[begin:end].astype(np.int64)
            begin = end


def hashed_batch(reader: ImageReader, batch: dict[str, list[Any]]) -> Iterator[tuple[bytes, bytes, list[int]]]:
    """Yield one tuple for a batch: the joined content digests, the joined image ids, and the sizes in bytes."""
    ends = list(itertools.accumulate(sum(1 for _ in run) for _, run in itertools.groupby(batch["file"])))
    files = [{name: column[a:b] for name, column in batch.items()} for a, b in zip([0, *ends], ends, strict=False)]
    every = [one for of_file in ahead(partial(_identities, reader), files, reader.files_at_once) for one in of_file]
    yield b"".join(one[0] for one in every), b"".join(one[1] for one in every), [one[2] for one in every]


def _identities(reader: ImageReader, batch: dict[str, list[Any]]) -> list[tuple[bytes, bytes, int]]:
    """Return (content digest, image id, bytes) of each image in a batch from one file."""
    columns = (batch[name] for name in ("file", "environment", "class_name", "bytes"))
    found = []
    for pieces, file, environment, class_name, listed in zip(reader.pieces(batch), *columns, strict=True):
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
        if listed not in (-1, size):
            raise changed(reader.storage.path(file))
        content = digest.digest()
        digest.update(f"\0{environment}\0{class_name}".encode())
        found.append((content, digest.digest(), size))
    return found
