"""Copies of objects on a disk of this machine, for as long as a command runs: what it has read or written, it has.

An object store counts every request, and a network every byte. An image is read twice, to identify and to decode it,
by each backbone; a part of embeddings is read by sums soon after it was written.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from benchmark.common.cache import cache_dir

SHARE = 0.25  # of what is free on the disk at the beginning
_LOCK = "in-use"


@dataclass(frozen=True)
class Kept:
    """Where the copies of a command lie; it travels to workers, of which those of the same machine find them.

    Attributes:
        folder: that of the command. Where it is not, as on another machine, nothing is kept and nothing found.
        floor: bytes that stay free on its disk.
    """

    folder: str
    floor: int

    def put(self, place: str, content: bytes) -> None:
        """Keep a copy, unless the disk gets too full."""
        file = self._file(place)
        with suppress(OSError):  # a copy that cannot be kept costs a request and nothing else
            free = os.statvfs(self.folder)
            if free.f_bavail * free.f_frsize - len(content) < self.floor:
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
        return Path(self.folder, name[:2], name)


_current: Kept | None = None


def current() -> Kept | None:
    """Return where the command of this process keeps copies; None where it does not."""
    return _current


@contextmanager
def keeping(wanted: bool = True) -> Iterator[None]:
    """Let storages of this process, and of workers that they travel to, keep copies for as long as the block lasts.

    What a command left behind that was killed is removed.

    Args:
        wanted: whether anything lies in an object store; files of a folder are at hand anyway.
    """
    global _current
    opened = _opened() if wanted and _current is None else None
    if opened is None:
        yield
        return
    _current, lock = opened
    try:
        yield
    finally:
        folder, _current = _current.folder, None
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _opened() -> tuple[Kept, IO[bytes]] | None:
    """Return a new folder for copies and the file that says that it is in use; None where there can be none."""
    root = cache_dir() / "kept"
    try:
        import fcntl  # Windows has none

        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in root.iterdir():
            _remove_unless_used(left)
        folder = root / uuid.uuid4().hex
        folder.mkdir(mode=0o700)  # images may be nobody else's business
        lock = (folder / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Kept(str(folder), int((1 - SHARE) * shutil.disk_usage(folder).free)), lock
    except (OSError, ImportError):
        return None


def _remove_unless_used(folder: Path) -> None:
    import fcntl

    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:  # emptied by halves, or made just now
        with suppress(OSError):
            folder.rmdir()
    except OSError:
        return  # in use
