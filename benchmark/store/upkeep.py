"""Maintenance of a store, for `icm-bench store`: list its content, verify it, remove damaged and obsolete files."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.store import costs, made, records, row_index, rows, tested
from benchmark.store import embeddings as store
from benchmark.store import imported_embeddings as imported
from benchmark.store import moments as sums
from benchmark.store.sealed import (
    GONE,
    DamagedError,
    is_own,
    open_parquet,
    problem_by,
    read_checked,
    read_json,
    reading,
)

LEFTOVER_SECONDS = 3600  # temporary files of this age have no writer any more

# Folder -> (suffixes of its files, function that reads a file and raises DamagedError if it is damaged). A new kind of
# file also needs a pattern in `_OWN_NAMES` (sealed.py).
_KINDS: Mapping[str, tuple[Sequence[str], Callable[[Storage, str], object]]] = {
    sums.ROOT: ([".safetensors"], sums.check),
    imported.ROOT: ([".json", ".parquet"], imported.check),
    store.TEXTS: ([".parquet"], read_checked),
    sums.CLUSTERS: ([".parquet"], read_checked),
    rows.ROOT: ([".parquet"], rows.check),
    rows.FAILED: ([".json"], rows.check),
    row_index.ROOT: ([".parquet"], open_parquet),
    tested.ROOT: ([".parquet"], tested.check),
    tested.IMAGES: ([".parquet"], read_checked),
    records.ROOT: ([".json"], records.check),
    made.ROOT: ([".parquet"], made.check),
    costs.ROOT: ([".json"], costs.check),
}
MEASURED = "measured"  # folder for the part of a recipe that `icm-bench plan --measure` runs, removed at its end
# Folders that nothing reads, with the reason.
_OBSOLETE = {
    "details": "rows have the predictions now",
    sums.OBSOLETE: "it is not read",
    MEASURED: "`icm-bench plan --measure` left it, if none is running",
}
_WHOLE = [root for root in _KINDS if root not in (sums.ROOT, imported.ROOT)]  # listed as one directory each


def foreign(storage: Storage) -> list[str]:
    """Return the names of files that do not belong to the store, sorted; temporary files of writers are left out."""
    names = (name for name, _, _ in storage.details(""))
    return sorted(name for name in names if not (is_own(name) or name.endswith(".tmp") or name.startswith(".")))


@dataclass
class Directory:
    """A directory of a store: one view, the moments of a view, an import, or all files of another kind.

    Attributes:
        name: name of the directory inside the store.
        dataset: name of the data set. Empty, like `backbone` and `view`, if the directory has no description.
        backbone: label of the backbone.
        view: label of the view, or "moments", or "imported".
        images: number of distinct images of the data set; 0 if unknown.
        parts: number of files that `verify` checks.
        parts_expected: value of `parts` when all images are embedded.
        rejected: number of unreadable images.
        size: bytes of all files.
        stale: why the directory is obsolete; empty if it is not obsolete.
        newer: whether a newer version of this software made the directory, so that it cannot be verified.
        problems: sentences on damaged and unreadable files, filled by `verify`.
        damaged: names of the damaged files.
    """

    name: str
    dataset: str = ""
    backbone: str = ""
    view: str = ""
    images: int = 0
    parts: int = 0
    parts_expected: int = 0
    rejected: int = 0
    size: int = 0
    stale: str = ""
    newer: bool = False
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """State of the directory in a few words."""
        if self.stale:
            return f"stale: {self.stale}"
        if self.newer:
            return "made by a newer version of icm-bench"
        if self.problems:
            unjudged = len(self.problems) - len(self.damaged)
            counts = {"damaged": len(self.damaged), "that cannot be judged": unjudged}
            return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return "complete" if self.parts == self.parts_expected else f"{self.parts} of {self.parts_expected} parts"


def directories(storage: Storage) -> list[Directory]:
    """Return the directories of a store, sorted by data set, backbone and view."""
    of_imports = _of_imports(storage)
    views = {name: _directory(storage, name, size, of_imports) for name, size in _sizes(storage, store.ROOT).items()}
    found = [*views.values()]
    for name, size in _sizes(storage, sums.ROOT).items():
        found.append(_moments(storage, name, size, views.get(name.replace(sums.ROOT, store.ROOT, 1))))
    for name, size in _sizes(storage, imported.ROOT).items():
        files = len(_files_of(storage, name))
        found.append(Directory(name, name.split("/")[1], view="imported", parts=files, parts_expected=files, size=size))
    for root in _WHOLE:
        if files := len(_files_of(storage, root)):
            size = sum(_sizes(storage, root).values())
            found.append(Directory(root, parts=files, parts_expected=files, size=size))
    for root, instead in _OBSOLETE.items():
        if files := sum(is_own(name) for name, _, _ in storage.details(root)):
            size, stale = sum(_sizes(storage, root).values()), f"an earlier icm-bench made it; {instead}"
            found.append(Directory(root, parts=files, size=size, stale=stale))
    for name, odd in _no_files(storage).items():
        folder = "/".join(name.split("/")[:2]) if name.startswith(f"{store.ROOT}/") else name.partition("/")[0]
        if (of := next((d for d in found if d.name == folder), None)) is None:
            found.append(of := Directory(folder))
        of.problems.append(f"{storage.path(name)} is {odd}, where a file belongs; delete it.")
    return sorted(found, key=lambda d: (d.dataset, d.backbone, d.view, d.name))


def _no_files(storage: Storage) -> dict[str, str]:
    """Return what has the name of one of the store's files and is none -> what it is, such as "a folder"."""
    if not storage.is_local:
        return {}
    entries = (e for root in (store.ROOT, *_KINDS) if storage.is_folder(root) for e in storage.listing(root, True))
    return {e.name: e.odd or "a folder" for e in entries if (e.is_folder or e.odd) and is_own(e.name)}


def _files_of(storage: Storage, folder: str) -> list[str]:
    """Return the names of the files in a folder that `verify` checks. The folder must not be one of embeddings."""
    suffixes = _KINDS[folder.split("/")[0]][0]
    return [name for suffix in suffixes for name in storage.files(folder, suffix) if is_own(name)]


def _sizes(storage: Storage, root: str) -> dict[str, int]:
    """Return folder -> total bytes of the store's own files in this folder, for all folders below `root`."""
    sizes: dict[str, int] = {}
    for name, size, _ in storage.details(root):
        if not is_own(name):
            continue
        folder = "/".join(name.split("/")[:2])
        sizes[folder] = sizes.get(folder, 0) + size
    return sizes


def _moments(storage: Storage, name: str, size: int, of_view: Directory | None) -> Directory:
    """Return the directory of the moments of a view of originals; it is stale if the view is stale or gone."""
    files = len(storage.files(name, ".safetensors"))
    if of_view is None or of_view.stale:
        return Directory(name, parts=files, size=size, stale="the embeddings that it sums up are gone or stale")
    counted = replace(of_view, parts=files, parts_expected=files, rejected=0, size=size)
    return replace(counted, name=name, view="moments", problems=[], damaged=[])


def _of_imports(storage: Storage) -> set[str]:
    """Return the directories of the views of all undamaged imports."""
    found = set[str]()
    for name in storage.files(imported.ROOT, ".json"):
        with suppress(DamagedError):
            views = imported.read_import(storage, name).views
            found |= {store.View(view.label, None, 0, 0, view.depends_on).directory for view in views}
    return found


def _directory(storage: Storage, name: str, size: int, of_imports: Collection[str]) -> Directory:
    directory = Directory(name, size=size, parts=len(store.parts(storage, name)))
    described = store.about_file(name)
    try:
        about = read_json(storage, described)
        with reading(storage, described, KeyError, TypeError, AttributeError):
            directory.dataset, directory.backbone, directory.view = about["dataset"], about["backbone"], about["view"]
            version = int(about["depends_on"]["view"].get("version", 0))
            of_import = name in of_imports or "imported" in about["depends_on"]["view"]
            if of_import and version >= store.IMPORTS_SINCE:
                version = max(version, store.STORE_VERSION)
            images = int(about["images"]) if version == store.STORE_VERSION else 0
    except DamagedError as error:  # the next run writes it anew, and uses the parts
        if GONE in error.problems[described]:
            directory.stale = "its about.json is missing, so nobody knows what it holds"
        _note(storage, directory, error.problems)
        return directory
    except IcmBenchError as error:
        directory.problems.append(str(error))
        return directory
    if version < store.STORE_VERSION:
        directory.stale = f"made by version {version} of the store, now at {store.STORE_VERSION}"
    directory.newer = version > store.STORE_VERSION
    if not (directory.stale or directory.newer):
        directory.images, directory.parts_expected = images, store.chunk_count(images)
        rejected, problems = store.read_rejected(storage, name)
        directory.rejected = sum(map(len, rejected.values()))
        _note(storage, directory, problems)
    return directory


def _note(storage: Storage, directory: Directory, problems: Mapping[str, str]) -> None:
    for name, problem in problems.items():
        if GONE not in problem and name not in directory.damaged:
            directory.problems.append(f"{storage.path(name)}: {problem}.")
            directory.damaged.append(name)


def verify(storage: Storage) -> list[Directory]:
    """Read all files and return the directories with their problems.

    A part must have a correct digest (see `sealed.py`), one row for each readable image of its chunk, the embedding
    width of its backbone, finite numbers, and no image of another part.
    """
    listed = directories(storage)
    progress = Progress("verifying", sum(d.parts for d in listed if not d.stale), "parts")
    for directory in listed:
        if directory.stale or directory.newer or (directory.problems and not directory.parts_expected):
            continue  # nobody knows what it should hold
        if directory.name.startswith(store.ROOT):
            checks = _checks_of_parts(storage, directory)
        else:
            checks = {name: partial(problem_of, storage, name) for name in _files_of(storage, directory.name)}
        for name, problem_of_file in checks.items():
            try:
                if problem := problem_of_file():
                    _note(storage, directory, {name: problem})
            except IcmBenchError as error:  # the file cannot be read, or a newer version wrote it
                directory.problems.append(str(error))
            progress.update()
    progress.close()
    return listed


def problem_of(storage: Storage, name: str) -> str:
    """Return the problem of a file that is not a part of embeddings; empty if it is undamaged."""
    return problem_by(_KINDS[name.split("/")[0]][1], storage, name)


def _checks_of_parts(storage: Storage, directory: Directory) -> dict[str, Callable[[], str]]:
    """Return part (file name) -> function that checks the part; it returns the problem, or "" if there is none."""
    try:
        dim = read_json(storage, store.about_file(directory.name)).get("dim")
    except DamagedError:  # removed by another command since it was listed
        return {}
    rejected, _ = store.read_rejected(storage, directory.name)
    seen, size = set[str](), store.chunk_size(directory.images)

    def problem_of_part(chunk: int, name: str) -> str:
        expected = min(size, directory.images - chunk * size) - len(rejected.get(chunk, []))
        if expected < 0:
            return f"is beyond the last chunk of a data set with {directory.images} images"
        try:
            table = read_checked(storage, name)
        except DamagedError as error:
            return error.problems[name]
        ids, vectors = table["image_id"].to_pylist(), store.vectors(table)
        if len(ids) != expected:
            return f"has {len(ids)} rows instead of {expected}"
        if vectors.shape[1] != dim:
            return f"has embeddings of width {vectors.shape[1]} instead of {dim}"
        if not np.isfinite(vectors).all():
            return "holds numbers that are not finite"
        if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
            return "repeats images"
        seen.update(ids)
        return ""

    checks: dict[str, Callable[[], str]] = {
        name: partial(problem_of_part, chunk, name) for chunk, name in store.parts(storage, directory.name).items()
    }
    if storage.exists(speed := store.speed_file(directory.name)):
        checks[speed] = partial(problem_by, _check_speed, storage, speed)
    return checks


def _check_speed(storage: Storage, name: str) -> None:
    with reading(storage, name, TypeError):
        dict(read_json(storage, name))


def remove_damaged(storage: Storage, problems: Mapping[str, str], directories: Collection[str]) -> dict[str, str]:
    """Remove the damaged files in `problems`, and all damaged files in the given directories of embeddings.

    Returns:
        Removed file -> problem. The next run that needs these files computes them again.
    """
    every = dict(problems)
    for directory in directories:
        every |= store.read_rejected(storage, directory)[1]
        every |= store.read_parts(storage, directory, list(store.parts(storage, directory)))[1]
    for name in every:
        storage.delete(name)
    return every


@dataclass(frozen=True)
class Removed:
    """Names and total bytes of the files and directories that were removed, or with `dry_run` would be removed."""

    names: list[str]
    size: int


def repair(storage: Storage, dry_run: bool) -> Removed:
    """Remove damaged files, or with `dry_run` only list them. Undamaged, stale and foreign files stay."""
    return _removed(storage, _damaged(storage)[1], dry_run)


def _removed(storage: Storage, names: list[str], dry_run: bool) -> Removed:
    sizes = {name: size for name, size, _ in storage.details("")}
    for name in names if not dry_run else ():
        storage.delete(name)
    return Removed(names, sum(sizes.get(name, 0) for name in names))


def _damaged(storage: Storage) -> tuple[list[Directory], list[str]]:
    """Return the result of `verify`, and the names of damaged files that no run has rewritten since."""
    before = storage.details("")
    listed = verify(storage)
    unchanged = {name for name, _, _ in {*before} & {*storage.details("")}}
    return listed, [name for d in listed if not d.stale for name in d.damaged if name in unchanged]


def clean(storage: Storage, dry_run: bool) -> Removed:
    """Remove damaged files, stale directories and their records, unused index files, and leftovers of writers.

    Leftovers are temporary files and, in a bucket, open uploads. The next run computes removed files again if it needs
    them. No file that a run could use is removed.
    Raises IcmBenchError, after everything else is removed, if the bucket does not allow listing open uploads.
    """
    listed, names = _damaged(storage)
    stale = [d for d in listed if d.stale]
    now = time.time()
    names += [n for n, _, t in storage.details("") if n.endswith(".tmp") and now - t > LEFTOVER_SECONDS]
    names += made.obsolete(storage, {*_sizes(storage, store.ROOT)} - {d.name for d in stale})
    names += row_index.useless(storage, rows.schema())
    removed = _removed(storage, list(dict.fromkeys(names)), dry_run)
    for directory in stale if not dry_run else ():  # removes the whole folder, unless it contains foreign files
        inside = [name for name, _, _ in storage.details(directory.name)]
        if all(is_own(name) or name.endswith(".tmp") for name in inside):
            storage.delete_folder(directory.name)
        else:
            for name in filter(is_own, inside):
                storage.delete(name)
    uploads = [upload for upload in storage.open_uploads() if now - upload.began > LEFTOVER_SECONDS]
    for upload in uploads if not dry_run else ():
        storage.abort(upload)
    of_uploads = [f"{storage.upload_name(upload)} (an upload that nobody ended)" for upload in uploads]
    names = [*removed.names, *(directory.name for directory in stale), *of_uploads]
    return Removed(names, removed.size + sum(directory.size for directory in stale))
