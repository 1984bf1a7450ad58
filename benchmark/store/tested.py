"""The files of a store that say which images were tested: one for each test, named by its hash, shared by its rows."""

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.evaluation.tested import Tested

ROOT = "tested"
_NAMES = b"icm_bench_environments"
_COLUMNS = ("position", "environment", "label", "group")


def tested_file(hash_: str) -> str:
    """Return the name, inside a store, of the file with the tested images that rows name by a hash."""
    return f"{ROOT}/{hash_}.parquet"


def write_tested(storage: Storage, tested: Tested) -> None:
    """Write the images of a test, unless they are there."""
    if storage.exists(tested_file(tested.hash)):
        return
    columns = {name: getattr(tested, name) for name in _COLUMNS}
    table = pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items() if column is not None})
    names = json.dumps(tested.names, ensure_ascii=False).encode()
    storage.write_table(tested_file(tested.hash), table.replace_schema_metadata({_NAMES: names}))


def read_tested(storage: Storage, hashes: Iterable[str]) -> dict[str, Tested]:
    """Return hash -> tested images.

    Raises:
        IcmBenchError: a file is absent, damaged or not what its name says; names it.
    """
    return {hash_: _read(storage, hash_) for hash_ in dict.fromkeys(hashes)}


def _read(storage: Storage, hash_: str) -> Tested:
    name = tested_file(hash_)
    table = storage.read_table(name)
    arrays = {column: np.asarray(table[column], dtype=np.int64) for column in _COLUMNS if column in table.column_names}
    names = tuple(json.loads((table.schema.metadata or {}).get(_NAMES, b"[]")))
    if {"position", "environment", "label"} <= set(arrays):
        tested = Tested(arrays["position"], arrays["environment"], arrays["label"], names, arrays.get("group"))
        if tested.hash == hash_:
            return tested
    raise IcmBenchError(
        f"{storage.path(name)} does not hold the tested images that its name says; delete it and the folder rows, and "
        f"run again: embeddings are reused."
    )
