"""Manifest of a report: `made.json` holds a key of all inputs, a hash of each file, and what a command prints.

A report is not built again, and no rows are read, while its key and its files are unchanged. Imports nothing heavy.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from benchmark.common.code import packages_as_they_are
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.common.workers import at_once
from benchmark.store.sealed import read_json, sealed_json

MADE = "made.json"
_PACKAGES = ("jinja2", "matplotlib", "numpy", "pandas", "scipy")  # packages whose versions enter the key


@dataclass(frozen=True)
class ReportFiles:
    """Result of `build.write_report`, and of `unchanged`.

    Attributes:
        report: path or URI of report.md.
        files: paths or URIs of all files, report.md first.
        text: the answer for a terminal, 80 characters wide.
        headline: headline of the answer.
        verdicts: one record for each verdict; the field `sentence` is the verdict in words.
        counts: the counts that `write_report` was given.
        built: whether the report was built now; False if it existed with an equal key.
    """

    report: str
    files: list[str]
    text: str
    headline: str
    verdicts: list[dict[str, Any]]
    counts: dict[str, Any]
    built: bool


def key_of(*inputs: object) -> str:
    """Return the hash (SHA-256, hex) of code, package versions and the inputs of a report.

    Equal `inputs` must have an equal `repr`.
    """
    return hashlib.sha256(repr([packages_as_they_are(), *map(version, _PACKAGES), *inputs]).encode()).hexdigest()


def unchanged(storage: Storage, folder: str, key: str, color: bool = False) -> ReportFiles | None:
    """Return the report in a folder if its manifest has this key and all its files are unchanged; else None."""
    try:
        made: dict[str, Any] = read_json(storage, _name(folder, MADE))
        if made["key"] != key:
            return None

        def is_same(file: Sequence[str]) -> bool:
            return hashlib.sha256(storage.read_bytes(_name(folder, file[0]))).hexdigest() == file[1]

        progress = Progress("comparing", len(made["files"]), "files")
        same = all(at_once(is_same, made["files"], progress, local=storage.is_local))
        return _report_files(made, storage, folder, color, built=False) if same else None
    except (IcmBenchError, KeyError, TypeError, IndexError):  # no manifest, or a file is missing or damaged
        return None


def write_made(
    storage: Storage, folder: str, key: str, contents: Mapping[str, bytes], shown: Mapping[str, Any], color: bool
) -> ReportFiles:
    """Write the files of a report (name -> content), then its manifest. A report with the key "" is never unchanged."""
    storage.write_files(folder, contents)
    files = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items()]
    made = {**shown, "key": key, "files": files}
    storage.write_bytes(_name(folder, MADE), sealed_json(made))
    return _report_files(made, storage, folder, color, built=True)


def _report_files(made: Mapping[str, Any], storage: Storage, folder: str, color: bool, built: bool) -> ReportFiles:
    paths = {name: storage.path(_name(folder, name)) for name in [*dict(made["files"]), MADE]}
    page, paper = paths["index.html"], made["paper"]
    shown = [made["texts"][color] + page, *([f"Paper: {paths[paper]}"] if paper else []), made["note"]]
    answer, every = "\n".join(filter(None, shown)), [dict(one) for one in made["verdicts"]]
    files = paths["report.md"], [*paths.values()]
    return ReportFiles(*files, answer, made["headline"], every, made["counts"], built)


def _name(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file
