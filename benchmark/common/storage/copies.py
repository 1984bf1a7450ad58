"""Copies of objects on a disk of this machine, for as long as a command runs: what it has read or written, it has.

An object store counts every request, and a network every byte. An image that is a file of its own is read to identify
it, and to decode it under each backbone; a part of embeddings is read by sums soon after it was written, and lists of
tested images by details and the report. Of these there are copies, and of nothing else.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.cache import cache_dir

SHARE, MOST_GIB = 0.25, 64.0  # of what is free on the disk at the beginning; whatever is free
LIMIT = "ICM_BENCH_COPIES_GIB"  # variable with another limit in the place of `MOST_GIB`; 0 for no copies
_LOCK, _COPIES = "in-use", "copies"  # in the folder of a command
_SETTLED = 60.0  # seconds after which a folder that nobody holds is one that was left


@dataclass(frozen=True)
class Kept:
    """Where the copies of a command lie; it travels to workers, of which those of the same machine find them."""

    folder: str  # where it is not, as on another machine, nothing is kept and nothing found
    floor: int  # bytes that stay free on its disk

    def put(self, place: str, content: bytes) -> None:
        """Keep a copy, unless the disk gets too full."""
        file = self._file(place)
        with suppress(OSError):  # a copy that cannot be kept costs a request and nothing else
            if shutil.disk_usage(file.parents[1]).free - len(content) < self.floor:
                return
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_name(uuid.uuid4().hex)
            try:
                temporary.write_bytes(content)
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)

    def get(self, place: str) -> bytes | None:
        """Return the copy of what lies at a place; None where there is none."""
        try:
            return self._file(place).read_bytes()
        except OSError:
            return None

    def drop(self, place: str) -> None:
        """Forget the copy of what lies at a place."""
        with suppress(OSError):
            self._file(place).unlink()

    def _file(self, place: str) -> Path:
        name = sha256(place.encode()).hexdigest()
        return Path(self.folder, _COPIES, name[:2], name)


_current: Kept | None = None  # of the command of this process


def current() -> Kept | None:
    """Return where the command of this process keeps copies; None where it does not."""
    return _current


@contextmanager
def keeping(wanted: bool = True) -> Iterator[None]:
    """Let storages of this process, and of workers that they travel to, keep copies for as long as the block lasts.

    What a command left behind that was killed is removed. Files of a folder are at hand anyway, and not `wanted`.

    Raises:
        IcmBenchError: the variable `LIMIT` is no number of 0 or more.
    """
    global _current
    if _current is not None:
        yield
        return
    said, root = os.environ.get(LIMIT), cache_dir() / "kept"
    try:
        limit = float(said) if said else MOST_GIB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise IcmBenchError(f"{LIMIT} is {said!r:.60}, where a number of GiB is needed, or 0 for no copies.")
    _remove_left(root)
    opened = _opened(root, limit) if wanted and limit else None
    if opened is None:
        yield
        return
    _current, lock = opened
    try:
        yield
    finally:
        _current = None
        _remove(Path(opened[0].folder))
        lock.close()


def _opened(root: Path, limit: float) -> tuple[Kept, IO[bytes]] | None:
    """Return a new folder for copies and the file that says that it is in use; None where there can be none."""
    folder = root / uuid.uuid4().hex
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)  # images may be nobody else's business
        lock = _locked(folder, "w+b")
        (folder / _COPIES).mkdir()
        free = shutil.disk_usage(folder).free
    except (OSError, ImportError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Kept(str(folder), int(free - min(SHARE * free, limit * 2**30))), lock


def _locked(folder: Path, mode: str) -> IO[bytes]:
    import fcntl  # Windows has none

    lock: IO[bytes] = (folder / _LOCK).open(mode)  # on NFS a file is locked only by who may write it
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder, the file that says that it was used last: what is left half removed can be told."""
    shutil.rmtree(folder / _COPIES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_left(root: Path) -> None:
    """Remove the folders that no command uses."""
    with suppress(OSError, ImportError):
        for folder in root.iterdir():
            try:
                with _locked(folder, "r+b"):
                    _remove(folder)
            except FileNotFoundError:  # removed by halves, or made just now
                if time.time() - folder.stat().st_mtime > _SETTLED:
                    _remove(folder)
            except OSError:
                continue  # in use
