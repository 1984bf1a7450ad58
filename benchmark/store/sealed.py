"""Names of a store's own files, and digests inside the files that detect damage.

A file contains, after a mark, the SHA-256 of its bytes, computed with 64 zeros in the digest's place. It is checked
before the file is parsed. Tables of `write_checked` have a second digest over name and content, which detects renamed
and copied files. The digests do not protect against deliberate forgery.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage.files import Storage, in_parquet, reason
from benchmark.common.storage.parquet_check import ENDS, ends_process
from benchmark.common.storage.retries import is_transient

GONE = "is no longer there: another command removed it"
DIFFERS = "is not what was written (its digest differs)"
_MARK, _EMPTY = b"icm-bench-sha256:", b"0" * 64
_KEY = "sha256"
UNSEALED = {_KEY: (_MARK + _EMPTY).decode()}  # metadata of content for `with_digest`
_NAMED_DIGEST = b"icm_bench_sha256"
_HASH = r"[\w-]+"  # mostly hexadecimal digits; names that people or file managers give contain dots or spaces
# A new kind of file also needs an entry in `_KINDS` of upkeep.py, which verifies it, and a line in store/__init__.py.
# Earlier versions wrote `details` and `moments`, which are obsolete.
_OWN_NAMES = (
    rf"embeddings/{_HASH}/(about\.json|speed\.json|part-\d+\.parquet|rejected-\d+\.json)",
    rf"(sums|moments)/{_HASH}/{_HASH}/(images|{_HASH})\.safetensors",
    rf"(texts|clusters|rows|tested|images|index)/{_HASH}\.parquet",
    rf"failed/{_HASH}\.json",
    rf"details/{_HASH}(\.parquet|/map\.parquet|/decodability\.json)",
    rf"runs/{_HASH}/{_HASH}(/{_HASH})?\.json",
    rf"imported/[^/]+/([^/]+-)?{_HASH}\.(json|parquet)",
    rf"made/\d{{8}}T\d{{6}}Z-{_HASH}(\.open)?\.parquet",
    r"costs/measured-\d+\.json",
    r"reports/.*",
)
_OWN = re.compile("|".join(_OWN_NAMES))


class DamagedError(IcmBenchError):
    """Files of a store are damaged. If they are deleted, the next run computes them again.

    Attributes:
        problems: file name inside the store -> description of the problem.
    """

    def __init__(self, sentence: str, problems: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.problems = dict(problems or {})

    @classmethod
    def of(cls, storage: Storage, problems: Mapping[str, str]) -> "DamagedError":
        """Return the error for one or more files of a store; `problems` as in the attribute."""
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
    """Return the content of a Parquet file that holds a table, its metadata, and a digest."""
    metadata = {**(table.schema.metadata or {}), _KEY.encode(): _MARK + _EMPTY}
    return with_digest(in_parquet(table.replace_schema_metadata(metadata), compression))


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file that holds plain data and a digest."""
    return with_digest(json.dumps({**content, **UNSEALED}, indent=2, sort_keys=True).encode())


def open_parquet(storage: Storage, name: str, content: bytes | None = None) -> pq.ParquetFile:
    """Open a Parquet file made by `sealed_parquet`, or by an earlier version without a digest.

    Raises:
        DamagedError: the digest differs, or it is not a Parquet file.
        IcmBenchError: the file cannot be read.
    """
    content = bytes_of(storage, name) if content is None else content
    has_mark = has_digest(storage, name, content)
    if not has_mark and ends_process(content):
        raise DamagedError.of(storage, {name: ENDS})
    with reading(storage, name):
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    if not has_mark and is_sealed(file):  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return file


def bytes_of(storage: Storage, name: str) -> bytes:
    """Return the content of a file. Raises DamagedError if it was deleted since the store was listed."""
    if (content := storage.read_if_there(name)) is None:
        raise DamagedError.of(storage, {name: GONE})
    return content


def is_sealed(file: pq.ParquetFile) -> bool:
    """Return whether an open Parquet file has a digest."""
    return _KEY.encode() in (file.metadata.metadata or {})


def read_json(storage: Storage, name: str) -> Any:
    """Return the data of a JSON file made by `sealed_json`, or by an earlier version without a digest.

    Raises:
        DamagedError: the digest differs, or it is not a JSON file.
        IcmBenchError: the file cannot be read.
    """
    content = bytes_of(storage, name)
    has_mark = has_digest(storage, name, content)
    try:
        said = from_json(content, name)
    except IcmBenchError as error:
        raise DamagedError.of(storage, {name: "is damaged"}) from error
    if not has_mark and isinstance(said, dict) and _KEY in said:  # the mark itself was altered
        raise DamagedError.of(storage, {name: DIFFERS})
    return said


def problem_by(read: Callable[[Storage, str], object], storage: Storage, name: str) -> str:
    """Call `read` for a file, and return the problem if it raises DamagedError; empty if it raises nothing.

    Raises:
        IcmBenchError: the file cannot be read, or has another version and cannot be verified.
    """
    try:
        read(storage, name)
    except DamagedError as error:
        return error.problems[name]
    return ""


@contextmanager
def reading(storage: Storage, name: str, *odd: type[Exception]) -> Iterator[None]:
    """Turn parse errors in the block into DamagedError, and transient I/O errors into IcmBenchError.

    `odd` are further types of parse errors, which unexpected content raises. Give them only for blocks that do nothing
    but parse: in other blocks such an error is a bug of this package, and no reason to delete the file.
    """
    damage: tuple[type[Exception], ...] = (OSError, ValueError, pa.ArrowException, *odd)
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except damage as error:
        if isinstance(error, OSError) and is_transient(error):
            raise IcmBenchError(f"{storage.path(name)} cannot be read ({reason(error)}).") from error
        raise DamagedError.of(storage, {name: f"is damaged ({reason(error)})"}) from error


def has_digest(storage: Storage, name: str, content: bytes, salt: str = "") -> bool:
    """Return whether a file has a digest; raise DamagedError if it is not that of the content and `salt`."""
    if (at := content.find(_MARK)) < 0:
        return False
    at += len(_MARK)
    if content[at : at + 64] != _digest(content, at, salt):
        raise DamagedError.of(storage, {name: DIFFERS})
    return True


def with_digest(content: bytes, salt: str = "") -> bytes:
    """Return content with the digest of it and of `salt` in place of the one that `UNSEALED` has."""
    at = content.index(_MARK + _EMPTY) + len(_MARK)
    return content[:at] + _digest(content, at, salt) + content[at + 64 :]


def _digest(content: bytes, at: int, salt: str) -> bytes:
    digest = hashlib.sha256(salt.encode() + content[:at])
    digest.update(_EMPTY)
    digest.update(memoryview(content)[at + 64 :])
    return digest.hexdigest().encode()


def is_own(name: str) -> bool:
    """Return whether a file with this name inside a store is one of the store's own files."""
    return _OWN.fullmatch(name) is not None


def write_checked(storage: Storage, name: str, table: pa.Table) -> None:
    """Write a table as the file `name`, with a second digest over name and content, but not over metadata."""
    storage.write_bytes(name, _with_named_digest(name, table))


def write_first(storage: Storage, name: str, table: pa.Table) -> bool:
    """Write a file like `write_checked`, in an object store only if there is none; return whether it was written."""
    return storage.write_first(name, _with_named_digest(name, table))


def _with_named_digest(name: str, table: pa.Table) -> bytes:
    metadata = {**(table.schema.metadata or {}), _NAMED_DIGEST: digest_of(table, name).encode()}
    return sealed_parquet(table.replace_schema_metadata(metadata))


def read_checked(storage: Storage, name: str, content: bytes | None = None) -> pa.Table:
    """Return the table that `write_checked` wrote as the file `name`; `content` is the file's content if known.

    Raises:
        DamagedError: the file is damaged, renamed or copied.
        IcmBenchError: the file cannot be read.
    """
    with reading(storage, name), open_parquet(storage, name, content) as file:
        table = file.read()
    with reading(storage, name, TypeError):  # a type that JSON cannot represent
        digest = digest_of(table, name)
    written = (table.schema.metadata or {}).get(_NAMED_DIGEST)
    if written != digest.encode():
        says = DIFFERS if written else "does not say what was written: an earlier icm-bench made it"
        raise DamagedError.of(storage, {name: says})
    return table


def digest_of(table: pa.Table, name: str) -> str:
    """Return the SHA-256 (hex) over a file's name and the names, types and values of all columns, in order."""
    digest = hashlib.sha256(json.dumps([name, len(table), table.column_names]).encode())
    for column in table.columns:
        if pa.types.is_fixed_size_list(column.type):
            digest.update(f"{column.type.value_type}[{column.type.list_size}]".encode())
            for chunk in column.chunks:
                values = np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False))
                digest.update(values.view(np.uint8).data)
        else:
            digest.update(f"{column.type}{json.dumps(column.to_pylist())}".encode())
    return digest.hexdigest()
