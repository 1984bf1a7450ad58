"""What a node of a cluster says of itself: the probe that runs there once, as a task of Ray's, before any work does.

Everything that may hang (an object store, a mount, a driver of GPUs) has a limit of its own, so that a node that hangs
in one place still says so.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.failing import outcome_of
from benchmark.common.storage.cache import cache_dir
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.retries import FIRST_CONTACT
from benchmark.datasets.readers import ImageReader

PACKAGES = ("icm-bench", "torch", "open_clip_torch", "timm", "openvino")  # on which numbers depend, or encoders run
LIMIT = 8.0  # seconds for what a node looks at, all at once
MIN_FREE = 2**30  # bytes of a disk, below which Ray or the cache will soon find it full
_ENDS = 2**20  # bytes at each end of a file that its digest reads
_GPUS = (
    "import json, torch; print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))"
)


@dataclass(frozen=True)
class Needs:
    """What every node must have for a run."""

    storage: Storage | None = None  # where workers write; None where they write nothing
    marker: str = ""  # a file of it that the driver has written
    # Of each data set its name, its reader and one of its images, as columns of the manifest.
    images: tuple[tuple[str, ImageReader, Mapping[str, list[Any]]], ...] = ()
    files: Mapping[str, str] | None = None  # path of each file or folder of weights -> its digest on the driver


@dataclass(frozen=True)
class NodeAnswer:
    """What a node says of itself."""

    versions: Mapping[str, str]  # of packages; those that are not installed are left out
    gpus: tuple[str, ...]  # names of those that PyTorch sees there; not asked for where Ray has none
    free_bytes: Mapping[str, int]  # folder where Ray or the cache write -> what is free on its disk
    problems: tuple[str, ...]  # a sentence on each thing that keeps a run from working
    doubts: tuple[str, ...]  # the same on each thing with which a run works, but not well or not for long


def probe(needs: Needs, declared: int) -> NodeAnswer:
    """Return what the node it runs on says of itself; raises nothing, and takes little more than `LIMIT`.

    Ray has `declared` GPUs there.
    """
    doubts: list[str] = []
    gpus: list[str] = []
    free: dict[str, int] = {}
    checks: dict[str, Callable[[], None]] = {
        p: partial(_check_file, p, known) for p, known in (needs.files or {}).items()
    }
    for name, reader, image in needs.images:
        first = replace(reader, patience=FIRST_CONTACT)
        checks[f"{name} in {reader.storage.path('').rstrip('/')}"] = partial(_check_image, first, image)
    if storage := needs.storage:
        checks[f"the store {storage.path('').rstrip('/')}"] = partial(_check_store, storage.at_first(), needs.marker)
    checks["the disk"] = partial(_look_at_disks, free, doubts)
    if declared:
        checks["PyTorch, asked for its GPUs,"] = partial(_look_at_gpus, declared, gpus, doubts)
    problems = within(LIMIT, checks)
    return NodeAnswer(versions(), tuple(gpus), dict(free), tuple(problems), tuple(doubts))


def within(seconds: float, checks: Mapping[str, Callable[[], None]]) -> list[str]:
    """Run checks side by side, and return a sentence on each that raises or does not end in time.

    Checks stand under what the sentence calls a thing that does not answer. A mistake of this package is raised.
    """
    said: dict[str, str] = {}
    faults: list[FaultError] = []

    def run(name: str) -> None:
        try:
            checks[name]()
            said[name] = ""
        except OSError as error:
            said[name] = f"{name} cannot be used ({reason(error)})."
        except Exception as error:
            outcome = outcome_of(error)
            said[name] = str(outcome)
            faults.extend([outcome] if isinstance(outcome, FaultError) else [])

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if faults:
        raise faults[0]
    return [sentence for name in checks if (sentence := said.get(name, unanswered(name, seconds)))]


def unanswered(name: str, seconds: float) -> str:
    """Return the sentence on a thing that has not answered in time."""
    return f"{name} has not answered within {seconds:.0f} s: see whether it is mounted, reachable and not overloaded."


def versions() -> dict[str, str]:
    """Return package -> version of those of `PACKAGES` that are installed here."""
    known = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            known[name] = version(name)
    return known


def digest(path: str) -> str:
    """Return what tells a file, or all files of a folder, from others: names, sizes, and both ends of each."""
    place = Path(path)
    known = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        known.update(f"{file.relative_to(place)}\t{size}\n".encode())
        with file.open("rb") as content:
            known.update(content.read(_ENDS))
            content.seek(max(0, size - _ENDS))
            known.update(content.read(_ENDS))
    return known.hexdigest()


@contextmanager
def marked(storage: Storage | None) -> Iterator[str]:
    """Let a storage have a small file in the block, by which other nodes see that it is the same; give its name."""
    if storage is None:
        yield ""
        return
    marker = _small_name()
    storage.write_bytes(marker, b"here")
    try:
        yield marker
    finally:
        storage.delete(marker)


def _small_name() -> str:
    return f".node-test-{uuid.uuid4().hex}"  # files with a dot are no part of a store


def _check_store(storage: Storage, marker: str) -> None:
    """Write, read and delete a small object."""
    if not storage.exists(marker):  # looked for first: writing would make the folder
        raise _unseen(storage.path("").rstrip("/"))
    name, content = _small_name(), b"x" * 4096
    storage.write_bytes(name, content)
    try:
        if storage.read_bytes(name) != content:
            raise IcmBenchError(f"{storage.path(name)} was written and reads otherwise: see to its disk or service.")
    finally:
        storage.delete(name)


def _check_image(reader: ImageReader, image: Mapping[str, list[Any]]) -> None:
    """Read one image."""
    if (folder := reader.local_folder) and not folder.exists():
        raise _unseen(str(folder))
    next(iter(reader.read(image)))  # one that is rejected says nothing of the node


def _check_file(path: str, known: str) -> None:
    """See that weights are there, and are those of the driver."""
    if not Path(path).exists():
        raise _unseen(path)
    if digest(path) != known:
        raise IcmBenchError(f"{path} has another content than where the run starts; copy it from there.")


def _unseen(place: str) -> IcmBenchError:
    return IcmBenchError(
        f"{place} is not seen there; with more than one node, store, data and checkpoints must lie on shared storage, "
        f"for example a mount."
    )


def _look_at_disks(free: dict[str, int], doubts: list[str]) -> None:
    """Note what is free where Ray and the cache write."""
    from ray._private import worker

    node = worker._global_node  # Ray's public interface tells the name of a session, and not where it lies
    session = Path(node.get_session_dir_path() if node else "/tmp/ray")
    for name, folder, variable in (("Ray", session, "RAY_TMPDIR"), ("the cache", cache_dir(), "ICM_BENCH_CACHE")):
        while not folder.exists():
            folder = folder.parent
        free[str(folder)] = shutil.disk_usage(folder).free
        if free[str(folder)] < MIN_FREE:
            doubts.append(
                f"{folder}, where {name} writes, has {free[str(folder)] / 2**20:.0f} MiB left: free some space, or let "
                f"{variable} name another disk before `ray start`."
            )


def _look_at_gpus(declared: int, gpus: list[str], doubts: list[str]) -> None:
    """Note the GPUs that PyTorch sees, from a process of its own: Ray hides them from a task that asks for none."""
    hidden = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _GPUS], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    if asked.returncode:
        why = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1].rstrip(".")
        raise IcmBenchError(f"PyTorch does not load ({why}); install it anew.")
    gpus += json.loads(asked.stdout.splitlines()[-1])
    if len(gpus) < declared:
        doubts.append(
            f"Ray declares {declared} GPUs and PyTorch sees {len(gpus)}: install a PyTorch that suits the driver of "
            f"the GPUs, or start Ray there with --num-gpus={len(gpus)}."
        )
