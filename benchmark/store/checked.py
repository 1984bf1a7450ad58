"""Files of a store that are compared with what was written whenever they are read.

A digest stands in each of them, over its name and all that it holds. The name is made of hashes of all that the
content depends on and, for a part, of the number of its chunk: so a file that was damaged, edited, renamed or copied
over another one is not what was written under its name. It can be made again from what it depends on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.common.errors import IcmBenchError
from benchmark.common.patience import is_for_now
from benchmark.common.storage import Storage, in_parquet, reason

DIFFERS = "is not what was written (its digest differs)"
_DIGEST = b"icm_bench_sha256"


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
            return cls(f"{storage.path(name)} {problem}; delete it and run again: only it is made again.", problems)
        return cls(
            f"{len(problems)} files of the store are damaged; delete them and run again: only they are made again. The "
            f"first: {storage.path(name)} {problem}.",
            problems,
        )


def write_checked(storage: Storage, name: str, table: pa.Table) -> None:
    """Write a table, with the digest over its name and content, as the Parquet file `name`.

    Args:
        storage: the store.
        name: of the file.
        table: with columns of texts, of whole numbers, and of embeddings (fixed-size lists); its metadata are kept, and
            are not in the digest.
    """
    storage.write_bytes(name, _with_digest(name, table))


def write_first(storage: Storage, name: str, table: pa.Table) -> bool:
    """Write as `write_checked` does what many may write and nobody changes; see `Storage.write_first`."""
    return storage.write_first(name, _with_digest(name, table))


def _with_digest(name: str, table: pa.Table) -> bytes:
    metadata = {**(table.schema.metadata or {}), _DIGEST: digest_of(table, name).encode()}
    return in_parquet(table.replace_schema_metadata(metadata))


def read_checked(storage: Storage, name: str) -> pa.Table:
    """Return the table that `write_checked` wrote under a name.

    Raises:
        DamagedError: it is not what was written under that name.
        IcmBenchError: the file cannot be read at all.
    """
    # Read apart, so that a network that fails is not taken for a damaged file.
    return checked(storage, name, storage.read_bytes(name))


def checked(storage: Storage, name: str, content: bytes) -> pa.Table:
    """Return the table in the content of a file, as `read_checked` does.

    Raises:
        DamagedError: it is not what was written under that name.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read()
        digest = digest_of(table, name)
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DamagedError.of(storage, {name: f"is damaged ({reason(error)})"}) from error
    written = (table.schema.metadata or {}).get(_DIGEST)
    if written != digest.encode():
        says = DIFFERS if written else "does not say what was written: an earlier icm-bench made it"
        raise DamagedError.of(storage, {name: says})
    return table


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


def digest_of(table: pa.Table, name: str) -> str:
    """Return the SHA-256 (hex) over a file's name and over names, types and values of all columns, in order."""
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
