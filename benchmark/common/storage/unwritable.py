"""Why a place cannot be written to, and what to do: that goes by the reason, and by what named the place."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.cache import cache_dir

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def remedy(error: OSError, place: str, option: str = "") -> str:
    """Return what to do about a place that cannot be written to, as the second half of a sentence.

    Args:
        error: why it cannot.
        place: file or folder.
        option: what of the command line or the recipe names it: `--store or --out`. Default: nothing does.
    """
    variables = [
        name
        for name, folder in _named_by_variables()
        if Path(place).is_relative_to(folder) and not (option and name.endswith("TMPDIR"))  # a person chose that place
    ]
    if error.errno in FULL:
        first, folder = "free some space, or ", "a folder on a disk with more"
    elif error.errno in DENIED:
        first, folder = "let this user write there, or ", "a folder that can be written to"
    else:
        first, folder = "", "a folder that can be made and written to"
    ways = [f"give another {option}"] if option else []
    if variables:
        plural = len(variables) > 1
        ways.append(
            f"let the environment variable{'s' * plural} {' and '.join(variables)} name "
            f"{folder.replace('a folder', 'folders') if plural else folder}"
        )
    return f"{first}{' or '.join(ways) or 'give it a place elsewhere'}"


def check_working_directory() -> None:
    """Make sure that the folder in which a command runs is there, and that names of files are read as they are.

    Raises:
        IcmBenchError: somebody has removed it; or names are not read as UTF-8, and others would be taken for damaged.
    """
    if (encoding := sys.getfilesystemencoding()).lower().replace("-", "") != "utf8":
        raise IcmBenchError(f"Names of files are read as {encoding} here, and not as UTF-8; set PYTHONUTF8=1.")
    try:
        Path.cwd()
    except FileNotFoundError:
        raise IcmBenchError("The folder in which the command runs has been removed; change to another one.") from None


def unwritable(error: OSError) -> str:
    """Return a sentence on a place that is full or closed; empty where an error says nothing of one.

    A place that is closed must be one that an environment variable names: of others somebody else knows more.

    Args:
        error: of the operating system.
    """
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return (
            "No folder for temporary files can be written to; free some space, or let the environment variable TMPDIR "
            "name a folder on a disk with more."
        )
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in FULL:
        place = named or os.environ.get("TMPDIR") or "The disk of temporary files"
    elif error.errno in DENIED and named:
        place = named
        if not any(Path(place).is_relative_to(folder) for _, folder in _named_by_variables()):
            return ""
    else:
        return ""
    way = remedy(error, place)
    if "environment" not in way:
        way = "free some space, or let the environment variables TMPDIR and RAY_TMPDIR name folders on a disk with more"
    return f"{place} cannot be written ({error.strerror}); {way}."


def inexecutable(error: OSError) -> str:
    """Return a sentence on a program that this user may not start, such as Python; empty for any other error.

    Args:
        error: of the operating system, with its traceback.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if error.errno not in DENIED or not frames or frames[-1].f_globals.get("__name__") != "subprocess":
        return ""
    return (
        f"{error.filename} may not be executed by this user ({error.strerror}); let them read and execute it and every "
        f"folder above it, or install icm-bench as this user."
    )


def unusable_variable(*names: str) -> str:
    """Return a sentence on the first environment variable that names a folder nobody can write to; empty for none.

    Args:
        *names: of variables; those that are not set are passed over.
    """
    for name in names:
        folder = os.environ.get(name)
        if not folder:
            continue
        there = next(place for place in (Path(folder).absolute(), *Path(folder).absolute().parents) if place.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):  # it is there, or can be made
            continue
        why = "cannot be written to" if Path(folder).is_dir() else "cannot be made"
        return (
            f"The environment variable {name} names {folder}, which {why}; let it name a folder that can be written "
            f"to, or unset it."
        )
    return ""


def _named_by_variables() -> Iterator[tuple[str, Path]]:
    """Yield environment variables, and the folders that they name or would name, those inside others first."""
    if hub := os.environ.get("HF_HOME"):
        yield "HF_HOME", Path(hub)
    else:
        yield "HF_HOME", Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "huggingface"
    yield "ICM_BENCH_CACHE", cache_dir()
    with suppress(FileNotFoundError):  # there is none that can be written to
        yield "TMPDIR", Path(tempfile.gettempdir())
        yield "RAY_TMPDIR", Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
