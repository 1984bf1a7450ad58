"""Files of the images of a test, as positions in an image list; and image lists (id, path, environment, class).

Result rows name both files by a hash. Reports read them to compare answers image by image.
"""

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.method.evaluation.tested import Tested
from benchmark.store import sealed
from benchmark.store.sealed import DamagedError, open_parquet, read_checked, reading

ROOT = "tested"
IMAGES = "images"
IMAGE_COLUMNS = ("image_id", "path", "environment", "class_name", "group")  # strings; group may be null
_NAMES = b"icm_bench_environments"
_COLUMNS = ("position", "environment", "label", "group")


def tested_file(hash_: str) -> str:
    """Return the name, inside a store, of the file of tested images; `hash_` is the value in rows."""
    return f"{ROOT}/{hash_}.parquet"


def write_tested(storage: Storage, tested: Tested) -> None:
    """Write the images of a test, unless an undamaged file exists.

    In an object store a check would take a request, too. Each process writes the file once there, without a check.
    """
    place = storage.path(tested_file(tested.hash))
    if place in _written or (storage.is_local and is_sound(storage, tested.hash)):
        return
    columns = {name: getattr(tested, name) for name in _COLUMNS}
    table = pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items() if column is not None})
    names = json.dumps(tested.names, ensure_ascii=False).encode()
    content = sealed.sealed_parquet(table.replace_schema_metadata({_NAMES: names}))
    storage.write_bytes(tested_file(tested.hash), content)
    if not storage.is_local:
        storage.keep(tested_file(tested.hash), content)  # cached for the report, which checks the hash
        _written.add(place)


_written: set[str] = set()  # files written to object stores by this process


def sound_of(storage: Storage, hashes: Iterable[str]) -> set[str]:
    """Return the hashes whose files of tested images exist and are undamaged."""
    names = sorted(hashes)
    progress = Progress("reading", len(names), "files of tested images")
    sound = at_once(lambda hash_: is_sound(storage, hash_), names, progress, local=storage.is_local)
    return {name for name, is_so in zip(names, sound, strict=True) if is_so}


def is_sound(storage: Storage, hash_: str) -> bool:
    """Return whether the file of tested images with this hash exists and is undamaged."""
    try:
        _read(storage, hash_)
    except IcmBenchError:
        return False
    return True


def check(storage: Storage, name: str) -> None:
    """Raise DamagedError if a file of tested images exists, and is damaged or does not match the hash in its name."""
    try:
        _read(storage, name.removeprefix(f"{ROOT}/").removesuffix(".parquet"))
    except _LostError as error:
        if storage.exists(name):
            raise DamagedError.of(storage, {name: error.problem}) from error


def read_tested(storage: Storage, hashes: Iterable[str]) -> dict[str, Tested]:
    """Return hash -> tested images.

    Raises:
        IcmBenchError: a file is missing, damaged or does not match its name.
    """
    names = list(dict.fromkeys(hashes))
    progress = Progress("reading", len(names), "files of tested images")
    every = at_once(lambda hash_: _read(storage, hash_), names, progress, local=storage.is_local)
    return dict(zip(names, every, strict=True))


def _read(storage: Storage, hash_: str) -> Tested:
    name = tested_file(hash_)
    content = storage.read_if_there(name)  # outside `reading`, since a network failure is not damage
    if content is None:
        raise _LostError(storage, name, "is not there")
    try:
        with reading(storage, name), open_parquet(storage, name, content) as file:
            table = file.read(use_threads=False)
        with reading(storage, name, KeyError, TypeError):
            there = [column for column in _COLUMNS if column in table.column_names]
            if absent := [column for column in there if table[column].null_count]:
                raise ValueError(f"numbers are absent from its column {absent[0]}")
            arrays = {column: np.asarray(table[column], dtype=np.int64) for column in there}
            names = tuple(json.loads((table.schema.metadata or {}).get(_NAMES, b"[]")))
            tested = Tested(arrays["position"], arrays["environment"], arrays["label"], names, arrays.get("group"))
    except DamagedError as error:
        raise _LostError(storage, name, error.problems[name]) from error
    if tested.hash != hash_:
        raise _LostError(storage, name, "does not hold the tested images that its name says")
    return tested


class _LostError(IcmBenchError):
    """Tested images are missing or damaged."""

    def __init__(self, storage: Storage, name: str, problem: str) -> None:
        super().__init__(
            f"{storage.path(name)} {problem}, and result rows name it; run the recipe again: the trials with such rows "
            f"are run anew, on the embeddings that are there."
        )
        self.problem = problem


def write_images(storage: Storage, hash_: str, table: pa.Table) -> None:
    """Write an image list with the columns `IMAGE_COLUMNS`, unless an undamaged one exists."""
    name = f"{IMAGES}/{hash_}.parquet"
    if sealed.problem_by(read_checked, storage, name):
        texts = pa.schema([(column, pa.string()) for column in IMAGE_COLUMNS])
        sealed.write_checked(storage, name, table.select(IMAGE_COLUMNS).cast(texts))


def read_images(storage: Storage, hash_: str) -> pa.Table | None:
    """Return an image list with the columns `IMAGE_COLUMNS`; None if the store does not have it.

    Raises:
        DamagedError: the list is damaged.
    """
    name = f"{IMAGES}/{hash_}.parquet"
    return read_checked(storage, name) if storage.exists(name) else None
