"""Files of a store that are compared with what was written whenever they are read.

Beside the digest of its bytes (`sealed.py`) each has one over its name and all that it holds. The name is made of
hashes of all that the content depends on and, for a part, of the number of its chunk: so a file that was damaged,
edited, renamed or copied over another one is not what was written under its name. It can be made again from that.
"""

import hashlib
import json

import numpy as np
import pyarrow as pa

from benchmark.common.storage.files import Storage
from benchmark.store.sealed import DIFFERS, DamagedError, bytes_of, not_read, open_parquet, sealed_parquet

_DIGEST = b"icm_bench_sha256"


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
    return sealed_parquet(table.replace_schema_metadata(metadata))


def read_checked(storage: Storage, name: str) -> pa.Table:
    """Return the table that `write_checked` wrote under a name.

    Raises:
        DamagedError: it is not what was written under that name.
        IcmBenchError: the file cannot be read at all.
    """
    return checked(storage, name, bytes_of(storage, name))


def checked(storage: Storage, name: str, content: bytes) -> pa.Table:
    """Return the table in the content of a file, as `read_checked` does.

    Raises:
        DamagedError: it is not what was written under that name.
    """
    try:
        with open_parquet(storage, name, content) as file:
            table = file.read()
        digest = digest_of(table, name)
    except pa.ArrowMemoryError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        raise not_read(storage, name, error) from error
    written = (table.schema.metadata or {}).get(_DIGEST)
    if written != digest.encode():
        says = DIFFERS if written else "does not say what was written: an earlier icm-bench made it"
        raise DamagedError.of(storage, {name: says})
    return table


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
