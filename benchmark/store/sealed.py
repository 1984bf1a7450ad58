"""Files that carry the SHA-256 of their own bytes, so that one that was altered is never read as sound.

The digest stands behind a mark, with fixed length; it is computed with 64 zeros in its place. The bytes are compared
before anything else looks at them. This finds damage and edits; it is no defence against a forger who computes the
digest anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage import Storage, in_parquet
from benchmark.store.checked import DIFFERS, DamagedError, not_read

_MARK, _EMPTY = b"icm-bench-sha256:", b"0" * 64
_KEY = "sha256"


def sealed_parquet(table: pa.Table, compression: str = "zstd") -> bytes:
    """Return a table as the content of a Parquet file with its digest; the metadata of the table are kept."""
    metadata = {**(table.schema.metadata or {}), _KEY.encode(): _MARK + _EMPTY}
    return _with_digest(in_parquet(table.replace_schema_metadata(metadata), compression))


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """Return plain data as the content of a JSON file with its digest."""
    mark = (_MARK + _EMPTY).decode()
    return _with_digest(json.dumps({**content, _KEY: mark}, indent=2, sort_keys=True).encode())


def open_parquet(storage: Storage, name: str) -> pq.ParquetFile:
    """Return a Parquet file, opened, as `sealed_parquet` wrote it or an earlier version, which gave no digest.

    Raises:
        DamagedError: it is not what was written, or no Parquet; names it.
        IcmBenchError: it cannot be read at all.
    """
    content = storage.read_bytes(name)
    has_mark = _check(storage, name, content)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except pa.ArrowMemoryError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise not_read(storage, name, error) from error
    if not has_mark and is_sealed(file):  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return file


def is_sealed(file: pq.ParquetFile) -> bool:
    """Return whether an open file has a digest."""
    return _KEY.encode() in (file.metadata.metadata or {})


def read_json(storage: Storage, name: str) -> Any:
    """Return the plain data of a JSON file, as `sealed_json` wrote it or an earlier version, which gave no digest.

    Raises:
        DamagedError: it is not what was written, or no JSON; names it.
        IcmBenchError: it cannot be read at all.
    """
    content = storage.read_bytes(name)
    has_mark = _check(storage, name, content)
    try:
        said = from_json(content, name)
    except IcmBenchError as error:
        raise DamagedError.of(storage, {name: "is damaged"}) from error
    if not has_mark and isinstance(said, dict) and _KEY in said:  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return said


def _check(storage: Storage, name: str, content: bytes) -> bool:
    """Refuse a file whose digest is not that of its bytes; return whether it has one behind the mark."""
    if (at := content.find(_MARK)) < 0:
        return False
    at += len(_MARK)
    if content[at : at + 64] != _digest(content, at):
        raise DamagedError.of(storage, {name: DIFFERS})
    return True


def _with_digest(content: bytes) -> bytes:
    at = content.index(_MARK + _EMPTY) + len(_MARK)
    return content[:at] + _digest(content, at) + content[at + 64 :]


def _digest(content: bytes, at: int) -> bytes:
    digest = hashlib.sha256(content[:at])
    digest.update(_EMPTY)
    digest.update(content[at + 64 :])
    return digest.hexdigest().encode()
