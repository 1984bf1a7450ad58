"""Lists of images: which id, path, environment and class stands behind a position that rows name."""

import pyarrow as pa

from benchmark.common.storage.files import Storage
from benchmark.store.checked import read_checked, write_checked
from benchmark.store.sealed import problem_by

ROOT = "images"
COLUMNS = ("image_id", "path", "environment", "class_name", "group")  # all of text; group is null where there are none


def images_file(hash_: str) -> str:
    """Return the name, inside a store, of the list of images that rows name by a hash."""
    return f"{ROOT}/{hash_}.parquet"


def write_images(storage: Storage, hash_: str, table: pa.Table) -> None:
    """Write a list of images, columns as in `COLUMNS`, unless it is there and sound."""
    name = images_file(hash_)
    if problem_of(storage, name):
        write_checked(storage, name, table.select(COLUMNS).cast(pa.schema([(name, pa.string()) for name in COLUMNS])))


def read_images(storage: Storage, hash_: str) -> pa.Table | None:
    """Return a list of images, columns as in `COLUMNS`; None where a store does not have it.

    Raises:
        DamagedError: it is not what was written.
    """
    name = images_file(hash_)
    return read_checked(storage, name) if storage.exists(name) else None


def problem_of(storage: Storage, name: str) -> str:
    """Return the problem of a list of images; an empty text where it is sound."""
    return problem_by(read_checked, storage, name)
