"""`icm-bench store`: lists, verifies, repairs and cleans a store, by the functions of benchmark/store/upkeep.py."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmark.commands.stores import store_at
from benchmark.common.errors import MAX_NAMES, IcmBenchError, OutcomeError, some
from benchmark.common.storage.files import Storage
from benchmark.store import upkeep
from benchmark.store.embeddings import ROOT
from benchmark.store.made import read_made
from benchmark.store.upkeep import foreign


def tend_store(action: str, uri: str | None, dry_run: bool, as_json: bool, why: bool = False) -> None:
    """List, verify, repair or clean a store, and print the result.

    Args:
        action: `list`, `verify` (read every file back), `repair` (remove damaged files) or `clean` (also remove stale
            directories and leftovers of killed writers).
        uri: URI of the store; None means the store in the cache folder.
        dry_run: with `repair` and `clean`, list files without removing them.
        as_json: print JSON instead of text.
        why: with `list`, also list the runs that wrote the store, their devices, and repeated work. Default False.

    Raises:
        IcmBenchError: the store cannot be opened, or `verify` found damaged files.
    """
    storage = store_at(uri)
    place = storage.path("").rstrip("/")
    if storage.is_local and Path(place).is_file():
        raise IcmBenchError(f"{place} is a file, not a store; give the folder of a store.")
    if not storage.is_folder():
        raise IcmBenchError(f"There is no store at {place}; give the store of a run as --store.")
    if remove := {"clean": upkeep.clean, "repair": upkeep.repair}.get(action):
        removed, done = remove(storage, dry_run), "would be removed" if dry_run else "removed"
        summary = f"{len(removed.names)} files and directories {done}, {removed.size / 1e6:.1f} MB"
        paths = [storage.path(name) for name in removed.names]
        print(json.dumps(asdict(removed), indent=2) if as_json else "\n".join([*paths, summary]))
        return
    directories = upkeep.verify(storage) if action == "verify" else upkeep.directories(storage)
    if action == "verify" and not directories:
        raise IcmBenchError(f"{place} holds no file of a store; give the store of a run as --store.")
    runs = read_made(storage) if why else []
    if as_json:
        listed = [{**asdict(d), "state": d.state} for d in directories]
        plain = [{**run.in_plain_data(), "chunks": run.chunks.to_pylist()} for run in runs]
        print(json.dumps({"directories": listed, "runs": plain} if why else listed, indent=2))
    else:
        _print_directories(storage, directories)
        for run in runs:
            print(*run.text(), sep="\n")
    problems, damaged = [p for d in directories for p in d.problems], sum(len(d.damaged) for d in directories)
    if problems:
        more = f" And {len(problems) - MAX_NAMES} more." if problems[MAX_NAMES:] else ""
        repair = "`icm-bench store repair` removes them and the next run recomputes them"
        says = [f"{damaged} damaged files; {repair}"] if damaged else []
        if others := len(problems) - damaged:
            says.append(f"{others} files cannot be checked, and are kept")
        raise OutcomeError(f"{'; '.join(says)}: {' '.join(problems[:MAX_NAMES])}{more}")
    if action == "verify" and not as_json:
        print(f"verified: {sum(d.parts for d in directories if not d.stale)} files are sound")


def _print_directories(storage: Storage, directories: Sequence[upkeep.Directory]) -> None:
    for d in directories:
        what = f"{d.dataset}  {d.backbone}  {d.view}" if d.dataset else d.name
        count = f"{d.images} images, {d.rejected} rejected" if d.images else f"files: {d.parts}"
        print(f"{what}: {count}, {d.size / 1e6:.1f} MB, {d.state}")
    views = sum(d.name.startswith(ROOT) for d in directories)
    print(f"{views} views, {sum(d.size for d in directories) / 1e6:.1f} MB in {storage.path('')}")
    if others := foreign(storage):
        print(f"note: foreign files in the store, which are kept: {some(others)}", file=sys.stderr)
