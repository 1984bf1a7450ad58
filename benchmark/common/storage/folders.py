"""What lies in a folder of this machine: files, folders, and what is neither, which nobody should open."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from benchmark.common.errors import IcmBenchError

NO_TARGET = "a link to nothing, as DVC and git-annex leave it where a file was not fetched"
SPECIAL = "a pipe, a socket or a device"
_OF_THE_SYSTEM = ("/dev/", "/proc", "/sys")  # folders of no files
MAX_DEPTH = 200  # folders inside one another
_Id = tuple[int, int]  # device and inode


def walked(folder: str, recursive: bool) -> Iterator[tuple[str, bool, int, int, str]]:
    """Yield what lies in a folder: path, whether it is a folder, bytes, time of change (ns since 1970), and `odd`.

    `odd` says what it is that is neither file nor folder, and is empty for these. Links are followed.

    Args:
        folder: an absolute path.
        recursive: whether what lies in folders of the folder comes too.

    Raises:
        OSError: a folder cannot be read.
        IcmBenchError: a name is not UTF-8, folders lie too deep, or a link leads to a folder that holds the link.
    """
    above = {*Path(folder).parents, *(real := Path(folder).resolve()).parents, real}
    yield from _walked(folder, recursive, {_id(place.stat()) for place in above})


def _walked(folder: str, recursive: bool, above: set[_Id]) -> Iterator[tuple[str, bool, int, int, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.isascii():
                _check_name(entry.path)
            try:
                stat = entry.stat()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # it leads nowhere, or to itself
                    raise
                yield entry.path, False, 0, 0, NO_TARGET
                continue
            if not S_ISDIR(stat.st_mode):
                is_file = S_ISREG(stat.st_mode)
                yield entry.path, False, stat.st_size if is_file else 0, stat.st_mtime_ns, "" if is_file else SPECIAL
                continue
            if entry.is_symlink() and os.path.realpath(entry.path).startswith(_OF_THE_SYSTEM):
                yield entry.path, False, 0, stat.st_mtime_ns, SPECIAL
                continue
            identity = _id(stat)
            if len(above) > MAX_DEPTH:
                raise IcmBenchError(f"{entry.path[:200]}... lies in more than {MAX_DEPTH} folders; move it up.")
            if identity in above:
                raise IcmBenchError(
                    f"{entry.path} is a link to {os.path.realpath(entry.path)}, a folder that it lies in: its images "
                    f"would come over and over; delete the link."
                )
            yield entry.path, True, 0, stat.st_mtime_ns, ""
            if recursive:
                yield from _walked(entry.path, recursive, above | {identity})


def _id(stat: os.stat_result) -> _Id:
    return stat.st_dev, stat.st_ino


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise IcmBenchError(f"The file name '{shown}' is not UTF-8; rename it.") from error
