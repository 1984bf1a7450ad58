"""Row index: a copy of the row files of many trials in few files, so that many trials are read with few requests.

The row files remain the reference. The index may be deleted at any time and is then rebuilt; it is also rebuilt after a
change of the rows' schema. An entry is ignored if the row file of its trial was deleted or rewritten.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.store.sealed import is_own, is_sealed, open_parquet, sealed_parquet

ROOT = "index"
# Minimum number of row files, in an object store and on a disk, for which an index is faster than single files.
LEAST, LEAST_ON_DISK = 16, 256
MAX_TRIALS, MAX_BYTES = 1024, 128 * 2**20  # maximum trials and bytes of one file of the index
_ENTRIES = b"icm_bench_index"

State = tuple[int, int]  # (bytes, modification time in ns) of a row file, from a listing


class Place(NamedTuple):
    """Position of a trial's rows in a table of the index: `rows` rows from row `first` on."""

    table: pa.Table
    first: int
    rows: int


def states(storage: Storage) -> dict[str, State]:
    """Return trial id -> state of its row file, for all finished trials."""
    infos = storage.file_infos("rows", ".parquet")
    return {PurePosixPath(info.name).stem: (info.bytes, info.modified_ns) for info in infos if is_own(info.name)}


def worth_it(storage: Storage, count: int) -> bool:
    """Return whether an index is faster than reading `count` row files one by one."""
    return count >= (LEAST_ON_DISK if storage.is_local else LEAST)


def indexed(
    storage: Storage, wanted: Mapping[str, State], schema: pa.Schema, columns: Sequence[str]
) -> dict[str, Place]:
    """Return trial id -> place of its rows in the index, for trials whose entry is up to date.

    `wanted` maps trial ids to the states of the row files, `schema` is the schema of rows, and `columns` are the
    columns to read.
    """
    names = storage.files(ROOT, ".parquet")
    found: dict[str, Place] = {}
    progress = Progress("reading", len(names), "index files")
    read = at_once(lambda name: _read(storage, name, wanted, schema, columns), names, progress, local=storage.is_local)
    for places in read:
        found |= places
    return found


def rows_at(places: Iterable[Place]) -> pa.Table:
    """Return the rows of one or more places as a table, in order."""
    runs: list[list[Any]] = []  # adjacent places are merged, since one slice per trial would be slow
    for table, first, rows in places:
        if runs and runs[-1][0] is table and sum(runs[-1][1:]) == first:
            runs[-1][2] += rows
        else:
            runs.append([table, first, rows])
    return pa.concat_tables(table.slice(first, rows) for table, first, rows in runs)


def _read(
    storage: Storage, name: str, wanted: Mapping[str, State], schema: pa.Schema, columns: Sequence[str]
) -> dict[str, Place]:
    try:
        with open_parquet(storage, name) as file:
            if not is_sealed(file):
                return {}
            said = from_json((file.schema_arrow.metadata or {}).get(_ENTRIES, b"{}"), "The index")
            places, first = dict[str, tuple[int, int]](), 0
            for trial, size, modified, rows in said["trials"] if said.get("schema") == _of_schema(schema) else ():
                if wanted.get(trial) == (size, modified):
                    places[trial] = (first, rows)
                first += rows
            if not places:
                return {}
            fields = pa.schema([schema.field(column) for column in columns])
            table = file.read(list(columns), use_threads=False).select(list(columns)).cast(fields)
            return {trial: Place(table, *place) for trial, place in places.items()}
    except (IcmBenchError, OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return {}  # damaged or deleted: the row files are read instead


def useless(storage: Storage, schema: pa.Schema) -> list[str]:
    """Return the names of the index files without an up-to-date entry. Such files are never used."""
    wanted, names = states(storage), storage.files(ROOT, ".parquet")
    return [name for name in names if not _read(storage, name, wanted, schema, ["trial_id"])]


def write_index(storage: Storage, trials: Iterable[tuple[str, State, pa.Table]], schema: pa.Schema) -> None:
    """Add finished trials, as (trial id, state of the row file, rows), to the index, unless the store is read-only."""
    waiting: list[tuple[str, State, pa.Table]] = []
    size = 0
    with suppress(IcmBenchError):
        for trial in trials:
            waiting.append(trial)
            size += trial[2].nbytes
            if len(waiting) >= MAX_TRIALS or size >= MAX_BYTES:
                _write(storage, waiting, schema)
                waiting, size = [], 0
        if waiting:
            _write(storage, waiting, schema)


def _write(storage: Storage, trials: Sequence[tuple[str, State, pa.Table]], schema: pa.Schema) -> None:
    entries = [[trial, *state, len(table)] for trial, state, table in trials]
    said = {"schema": _of_schema(schema), "trials": entries}
    table = pa.concat_tables([table for _, _, table in trials])
    table = table.replace_schema_metadata({_ENTRIES: json.dumps(said).encode()})
    storage.write_bytes(f"{ROOT}/{canonical_hash(said)[:32]}.parquet", sealed_parquet(table))


@lru_cache(maxsize=4)
def _of_schema(schema: pa.Schema) -> str:
    return hashlib.sha256(schema.to_string().encode()).hexdigest()[:32]
