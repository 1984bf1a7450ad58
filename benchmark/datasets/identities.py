"""The identity of every image: hashes of its bytes, kept from run to run for files that have not changed."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.common.cache import cache_dir
from benchmark.common.errors import IcmBenchError
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.datasets.readers import READERS, ImageReader
from benchmark.datasets.readers.base import ahead, changed

RACY_NS = 2 * 10**9
"""A file changed so shortly before it was listed may change again without its time showing it."""

# What caches were keyed with before layouts had names, so that no image of theirs is hashed again.
_LAYOUTS_IN_KEYS = {"folder": "FolderSource", "parquet": "ParquetSource", "webdataset": "WebDatasetSource"}
_KEY = ["file", "position", "file_bytes", "modified_ns", "environment", "class_name"]
_IDENTITY = ["content", "image_id", "bytes"]
_TYPES = {"position": pa.int64(), "file_bytes": pa.int64(), "modified_ns": pa.int64(), "bytes": pa.int64()}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in (*_KEY, *_IDENTITY)])


def identify(reader: ImageReader, table: pa.Table, listed_ns: int | None = None) -> pa.Table:
    """Return `table` with the identity of every image.

    Args:
        reader: the reader that listed the images.
        table: its entries, one row each, columns as the fields of `Entry`.
        listed_ns: when the listing began, in nanoseconds since 1970; now, if not given.

    Returns:
        The table with the columns `content` (SHA-256 of the bytes), `image_id` (SHA-256 of the bytes, environment and
        class) and `bytes` (their number). Only images are read whose file has changed since an earlier call.

    Raises:
        IcmBenchError: a file cannot be read, or has another size than it was listed with.
    """
    cache = Storage(str(cache_dir() / "manifests"))
    name = cache_name(reader)
    known = _known(cache, name, table)
    identities: dict[str, list[Any]] = {column: known[column].to_pylist() for column in _IDENTITY}
    missing = [i for i, content in enumerate(identities["content"]) if content is None]
    result = table.drop_columns(["bytes"])
    try:
        if missing:
            _hash(reader, table, missing, identities)
    finally:  # what an interrupted run has hashed need not be hashed again
        for column in _IDENTITY:
            result = result.append_column(column, pa.array(identities[column], _SCHEMA.field(column).type))
        if missing:
            _keep(cache, name, result, listed_ns or time.time_ns())
    return result


def cache_name(reader: ImageReader) -> str:
    """Return the name of the file with the identities that are known of a reader's images."""
    layout = READERS.implementation(type(reader))
    key = hashlib.sha256(f"{_LAYOUTS_IN_KEYS.get(layout, layout)}\n{reader.uri}".encode()).hexdigest()[:32]
    return f"{key}.parquet"


def _known(cache: Storage, name: str, table: pa.Table) -> pa.Table:
    """Return `_IDENTITY` for each row of the table, null where the cache has nothing for the file as it is."""
    nothing = _SCHEMA.empty_table()
    try:
        cached = cache.read_table(name) if cache.exists(name) else nothing
    except IcmBenchError:
        cached = nothing  # damaged: written anew
    if not cached.schema.equals(_SCHEMA):
        cached = nothing
    rows = table.select(_KEY).append_column("row", pa.array(np.arange(table.num_rows)))
    joined = rows.join(cached, keys=_KEY, join_type="left outer").sort_by("row")
    if joined.num_rows != table.num_rows:  # a key stands twice: not written by us
        joined = rows.join(nothing, keys=_KEY, join_type="left outer").sort_by("row")
    return joined.select(_IDENTITY)


def _keep(cache: Storage, name: str, result: pa.Table, listed_ns: int) -> None:
    settled = pa.compute.less(result["modified_ns"], listed_ns - RACY_NS)
    rows = result.filter(pa.compute.and_(settled, pa.compute.is_valid(result["content"])))
    if rows.num_rows:
        with contextlib.suppress(IcmBenchError):  # a cache that cannot be written costs time and nothing else
            cache.write_table(name, rows.select(_SCHEMA.names).cast(_SCHEMA))


def _hash(reader: ImageReader, table: pa.Table, missing: list[int], identities: dict[str, list[Any]]) -> None:
    """Fill in the identities of the rows `missing`, file by file, several files at a time."""
    progress = Progress("identifying images", len(missing), "images")
    lock = threading.Lock()

    def one_file(rows: list[int]) -> None:
        batch = table.take(rows).to_pydict()
        for i, row in enumerate(_identities(reader, batch)):
            for column, value in zip(_IDENTITY, row, strict=True):
                identities[column][rows[i]] = value
            with lock:
                progress.update()

    for _ in ahead(one_file, _by_file(table, missing), reader.files_at_once):
        pass
    progress.close()


def _by_file(table: pa.Table, missing: list[int]) -> Iterator[list[int]]:
    """Yield the missing rows of each file, in order of their position in it."""
    rows = np.array(missing)
    part = table.select(["file", "position"]).take(rows)
    order = pa.compute.sort_indices(part, sort_keys=[("file", "ascending"), ("position", "ascending")]).to_numpy()
    files = part["file"].combine_chunks().dictionary_encode().indices.to_numpy()[order]
    for group in np.split(rows[order], np.flatnonzero(np.diff(files)) + 1):
        yield group.tolist()


def _identities(reader: ImageReader, batch: dict[str, list[Any]]) -> Iterator[tuple[str, str, int]]:
    """Yield (content, image_id, size) of images that lie in one file."""
    columns = (batch[name] for name in ("file", "environment", "class_name", "bytes"))
    for pieces, file, environment, class_name, listed in zip(reader.pieces(batch), *columns, strict=True):
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
        if listed not in (-1, size):
            raise changed(reader.storage.path(file))
        content = digest.hexdigest()
        digest.update(f"\0{environment}\0{class_name}".encode())
        yield content, digest.hexdigest(), size
