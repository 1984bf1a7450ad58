"""Folders of this machine: what lies in one, and why one cannot be written to, with what to do about that."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from traceback import walk_tb

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.cache import cache_dir

NO_TARGET = "a link to nothing, as DVC and git-annex leave it where a file was not fetched"
SPECIAL = "a pipe, a socket or a device"
_OF_THE_SYSTEM = ("/dev/", "/proc", "/sys")  # folders of no files
MAX_DEPTH = 200  # folders inside one another
FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def walked(folder: str, recursive: bool) -> Iterator[tuple[str, bool, int, int, str]]:
    """Yield what lies in a folder: path, whether it is a folder, bytes, time of change (ns since 1970), and `odd`.

    `odd` says what it is that is neither file nor folder, and is empty for these. Links are followed.

    Raises:
        OSError: a folder cannot be read.
        IcmBenchError: a name is not UTF-8, folders lie too deep, or a link leads to a folder that holds the link.
    """
    above = {*Path(folder).parents, *(real := Path(folder).resolve()).parents, real}
    yield from _walked(folder, recursive, {_id(place.stat()) for place in above})


def _walked(folder: str, recursive: bool, above: set[tuple[int, int]]) -> Iterator[tuple[str, bool, int, int, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if not entry.name.isascii():
                    entry.path.encode()
                stat = entry.stat()
            except UnicodeEncodeError as error:
                shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
                raise IcmBenchError(f"The file name '{shown}' is not UTF-8; rename it.") from error
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


def _id(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def irregular(place: Path) -> str:
    """Return what a place is from which nothing comes, or no end; empty for a file."""
    mode = place.stat().st_mode
    return "" if S_ISREG(mode) else "it is a folder" if S_ISDIR(mode) else f"it is {SPECIAL}"


def remedy(error: OSError, place: str, option: str = "") -> str:
    """Return what to do about a place that cannot be written to, as the second half of a sentence.

    `option` is what of the command line or the recipe names the place, such as `--store or --out`.
    """
    variables = [name for name, folder in _named_by_variables() if Path(place).is_relative_to(folder)]
    if option:  # a person chose that place
        variables = [name for name in variables if not name.endswith("TMPDIR")]
    if error.errno in FULL:
        first, folder = "free some space, or ", "a folder on a disk with more"
    elif error.errno in DENIED:
        first, folder = "let this user write there, or ", "a folder that can be written to"
    else:
        first, folder = "", "a folder that can be made and written to"
    ways = [f"give another {option}"] if option else []
    if variables:
        plural = len(variables) > 1
        folder = folder.replace("a folder", "folders") if plural else folder
        ways.append(f"let the environment variable{'s' * plural} {' and '.join(variables)} name {folder}")
    return f"{first}{' or '.join(ways) or 'give it a place elsewhere'}"


def check_working_directory() -> None:
    """Make sure that the folder in which a command runs is there, and that names of files are read as UTF-8."""
    if (encoding := sys.getfilesystemencoding()).lower().replace("-", "") != "utf8":
        raise IcmBenchError(f"Names of files are read as {encoding} here, and not as UTF-8; set PYTHONUTF8=1.")
    try:
        Path.cwd()
    except FileNotFoundError:
        raise IcmBenchError("The folder in which the command runs has been removed; change to another one.") from None


def unwritable(error: OSError) -> str:
    """Return a sentence on a place that is full or closed; empty where an error says nothing of one.

    A place that is closed must be one that an environment variable names: of others somebody else knows more.
    """
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return (
            "No folder for temporary files can be written to; free some space, or let the environment variable TMPDIR "
            "name a folder on a disk with more."
        )
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    is_denied = named and error.errno in DENIED
    if error.errno in FULL:
        place = named or os.environ.get("TMPDIR") or "The disk of temporary files"
    elif is_denied and any(Path(named).is_relative_to(folder) for _, folder in _named_by_variables()):
        place = named
    else:
        return ""
    way = remedy(error, place)
    if "environment" not in way:
        way = "free some space, or let the environment variables TMPDIR and RAY_TMPDIR name folders on a disk with more"
    return f"{place} cannot be written ({error.strerror}); {way}."


def inexecutable(error: OSError) -> str:
    """Return a sentence on a program that this user may not start, such as Python; empty for any other error."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if error.errno not in DENIED or not frames or frames[-1].f_globals.get("__name__") != "subprocess":
        return ""
    return (
        f"{error.filename} may not be executed by this user ({error.strerror}); let them read and execute it and every "
        f"folder above it, or install icm-bench as this user."
    )


def unusable_variable(*names: str) -> str:
    """Return a sentence on the first environment variable that names a folder nobody can write to; empty for none."""
    for name in names:
        if not (folder := os.environ.get(name)):
            continue
        place = Path(folder).absolute()
        there = next(one for one in (place, *place.parents) if one.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):  # it is there, or can be made
            continue
        why = "cannot be written to" if place.is_dir() else "cannot be made"
        return (
            f"The environment variable {name} names {folder}, which {why}; let it name a folder that can be written "
            f"to, or unset it."
        )
    return ""


def _named_by_variables() -> Iterator[tuple[str, Path]]:
    """Yield environment variables, and the folders that they name or would name, those inside others first."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    yield "HF_HOME", Path(os.environ.get("HF_HOME") or home / "huggingface")
    yield "ICM_BENCH_CACHE", cache_dir()
    with suppress(FileNotFoundError):  # there is none that can be written to
        yield "TMPDIR", Path(tempfile.gettempdir())
        yield "RAY_TMPDIR", Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
