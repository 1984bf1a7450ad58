"""Files that carry the SHA-256 of their own bytes, so that one that was altered is never read as sound.

The digest stands behind a mark, with fixed length; it is computed with 64 zeros in its place. The bytes are compared
before anything else looks at them. This finds damage and edits; it is no defence against whoever computes it anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from benchmark.common.storage import Storage, in_parquet
from benchmark.store.checked import DIFFERS, DamagedError

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


def check_seal(storage: Storage, name: str, content: bytes) -> bool:
    """See that a file is what was written.

    Args:
        storage: where it lies.
        name: its name.
        content: its bytes.

    Returns:
        Whether it has a digest at all; files of earlier versions have none.

    Raises:
        DamagedError: it is not what was written; names it.
    """
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
