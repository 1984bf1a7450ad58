"""Files that carry the SHA-256 of their own bytes, so that one that was altered is never read as sound.

The digest stands behind a mark, with fixed length; it is computed with 64 zeros in its place. The bytes are compared
before anything else looks at them. This finds damage and edits; it is no defence against a forger who computes the
digest anew.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage.files import Storage, in_parquet, reason
from benchmark.common.storage.parquet_check import ENDS, ends_process
from benchmark.common.storage.retries import is_for_now

GONE = "is no longer there: another command removed it"
DIFFERS = "is not what was written (its digest differs)"
_MARK, _EMPTY = b"icm-bench-sha256:", b"0" * 64
_KEY = "sha256"


class DamagedError(IcmBenchError):
    """Files of a store that are not what was written under their names. To be deleted: they are made again.

    Attributes:
        problems: name inside the store -> what is wrong with the file, in words.
    """

    def __init__(self, sentence: str, problems: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.problems = dict(problems or {})

    @classmethod
    def of(cls, storage: Storage, problems: Mapping[str, str]) -> "DamagedError":
        """Return the error on one or more files of a store."""
        name, problem = next(iter(problems.items()))
        if len(problems) == 1:
            act = "run again" if problem == GONE else "delete it and run again"
            return cls(f"{storage.path(name)} {problem}; {act}: only it is made again.", problems)
        return cls(
            f"{len(problems)} files of the store are damaged; delete them and run again: only they are made again. The "
            f"first: {storage.path(name)} {problem}.",
            problems,
        )


def sealed_parquet(table: pa.Table, compression: str = "zstd") -> bytes:
    """Return a table as the content of a Parquet file with its digest; the metadata of the table are kept."""
    metadata = {**(table.schema.metadata or {}), _KEY.encode(): _MARK + _EMPTY}
    return _with_digest(in_parquet(table.replace_schema_metadata(metadata), compression))


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """Return plain data as the content of a JSON file with its digest."""
    mark = (_MARK + _EMPTY).decode()
    return _with_digest(json.dumps({**content, _KEY: mark}, indent=2, sort_keys=True).encode())


def open_parquet(storage: Storage, name: str, content: bytes | None = None) -> pq.ParquetFile:
    """Return a Parquet file, opened, as `sealed_parquet` wrote it or an earlier version, which gave no digest.

    Args:
        storage: with the file.
        name: of the file.
        content: of the file, where it has been read. Default: it is read here.

    Raises:
        DamagedError: it is not what was written, or no Parquet; names it.
        IcmBenchError: it cannot be read at all.
    """
    content = bytes_of(storage, name) if content is None else content
    has_mark = _check(storage, name, content)
    if not has_mark and ends_process(content):
        raise DamagedError.of(storage, {name: ENDS})
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except pa.ArrowMemoryError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise not_read(storage, name, error) from error
    if not has_mark and is_sealed(file):  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return file


def bytes_of(storage: Storage, name: str) -> bytes:
    """Return the content of a file that was there when the store was listed.

    Raises:
        DamagedError: another command removed it since.
        IcmBenchError: it cannot be read.
    """
    if (content := storage.read_if_there(name)) is None:
        raise DamagedError.of(storage, {name: GONE})
    return content


def is_sealed(file: pq.ParquetFile) -> bool:
    """Return whether an open file has a digest."""
    return _KEY.encode() in (file.metadata.metadata or {})


def read_json(storage: Storage, name: str) -> Any:
    """Return the plain data of a JSON file, as `sealed_json` wrote it or an earlier version, which gave no digest.

    Raises:
        DamagedError: it is not what was written, or no JSON; names it.
        IcmBenchError: it cannot be read at all.
    """
    content = bytes_of(storage, name)
    has_mark = _check(storage, name, content)
    try:
        said = from_json(content, name)
    except IcmBenchError as error:
        raise DamagedError.of(storage, {name: "is damaged"}) from error
    if not has_mark and isinstance(said, dict) and _KEY in said:  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return said


def problem_by(read: Callable[[Storage, str], object], storage: Storage, name: str) -> str:
    """Return what is wrong with a file, as what reads it says; nothing where it is sound.

    Raises:
        IcmBenchError: it cannot be read, or is of another version, so that nobody can say.
    """
    try:
        read(storage, name)
    except DamagedError as error:
        return error.problems[name]
    return ""


def not_read(storage: Storage, name: str, error: Exception) -> IcmBenchError:
    """Return what to raise where a file cannot be read: it is damaged, unless the error may be gone the next time."""
    if isinstance(error, OSError) and is_for_now(error):
        return IcmBenchError(f"{storage.path(name)} cannot be read ({reason(error)}).")
    return DamagedError.of(storage, {name: f"is damaged ({reason(error)})"})


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
