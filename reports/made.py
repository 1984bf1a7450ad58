"""What a report was made of, in a file beside its others: with nothing changed it is not made again."""

import hashlib
import pickle
from collections.abc import Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pandas as pd

from benchmark.common.code import packages_as_they_are
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.store.sealed import read_json, sealed_json

MADE = "made.json"
_OTHERS = ("jinja2", "matplotlib", "numpy", "pandas", "scipy")  # packages whose versions count


def key_of(rows: pd.DataFrame, *said: object) -> str:
    """Return the hash (SHA-256, hex) of all that a report is made of: rows, code, and whatever else is said.

    Args:
        rows: of the report.
        said: anything whose `repr` is equal where it is equal.
    """
    digest = hashlib.sha256(repr([packages_as_they_are(), *map(version, _OTHERS), *said]).encode())
    values = pickle.Pickler(SimpleNamespace(write=digest.update), protocol=5)
    values.fast = True  # no references: equal values are equal bytes, whether or not they are one object
    for name, column in rows.items():
        values.dump((name, column.tolist()))
    return digest.hexdigest()


def unchanged(storage: Storage, folder: str, key: str) -> dict[str, Any] | None:
    """Return what was kept of a report with this key whose files are all as they were written; None where none is.

    Args:
        storage: where the report lies.
        folder: inside the storage, "" for the storage itself.
        key: of what it would be made of now.
    """
    try:
        made: dict[str, Any] = read_json(storage, _name(folder, MADE))
        if made["key"] != key:
            return None
        progress = Progress("comparing", len(made["files"]), "files")
        read = at_once(
            lambda file: _sha256(storage.read_bytes(_name(folder, file[0]))) == file[1],
            made["files"],
            progress,
            local=storage.is_local,
        )
        return made if all(read) else None
    except (IcmBenchError, KeyError, TypeError, IndexError):  # there is none, or a file is gone or damaged
        return None


def write_made(
    storage: Storage, folder: str, key: str, contents: Mapping[str, bytes], said: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files of a report and, after all of them, what it was made of; return what is kept.

    Args:
        storage: where to write.
        folder: inside the storage, "" for the storage itself.
        key: of what the report is made of; "" for one that is to be made again in any case.
        contents: name of a file -> bytes.
        said: plain data to be kept.
    """
    storage.write_files(folder, contents)
    files = [(name, _sha256(content)) for name, content in contents.items()]
    made = {**said, "key": key, "files": files}
    storage.write_bytes(_name(folder, MADE), sealed_json(made))
    return made


def _name(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
