"""Places of files: checks that URIs contain no credentials, and functions for folders of this machine.

For folders: the location of the cache, listings, and error messages about places that cannot be written.
"""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from traceback import walk_tb
from urllib.parse import unquote

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import has_secret

NO_TARGET = "a broken link, as left by DVC and git-annex for files that were not fetched"
SPECIAL = "a pipe, a socket or a device"
_OF_THE_SYSTEM = ("/dev/", "/proc", "/sys")  # folders without regular files
MAX_DEPTH = 200  # maximum nesting of folders
FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ADDRESS = re.compile(r"(?s)\s*([A-Za-z][A-Za-z0-9+.-]*)://(?:anonymous@)?([^/?#]*)([^?]*)(.*)")
_USER_PREFIX = re.compile(r"[^/:]*:[^/]*@")  # user and password at the start of an address without a scheme
_NO_SLASHES = re.compile(r"(?i)\s*(?:s3a?|gs|gcs|https?|file|hdfs|abfss?):(?!//)")
_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS for gs://"


def cache_dir() -> Path:
    """Return the folder of downloads, of files built from them, and of measured speeds; it is safe to delete.

    It is $ICM_BENCH_CACHE, else $XDG_CACHE_HOME/icm-bench, else ~/.cache/icm-bench.
    """
    if folder := os.environ.get("ICM_BENCH_CACHE"):
        return Path(folder).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "icm-bench"


def check_address(text: str, place: str) -> None:
    """Raise IcmBenchError if an address contains credentials, or lacks `//`, since then they cannot be found.

    Texts that are no addresses pass. The message does not quote `text`; it starts with `place`, a description of where
    `text` stands.
    """
    if _NO_SLASHES.match(text):
        raise IcmBenchError(f"{place} is an address without '//'; write s3://BUCKET/PREFIX, without credentials.")
    if (match := _ADDRESS.match(text)) is None:
        return
    scheme, host, path, query = match[1].lower(), match[2], match[3], unquote(match[4])
    port = re.search(r":(?![^]]*\])(.*)", host)
    odd = port and (scheme in ("s3", "gs", "gcs") or not re.fullmatch(r"\d{0,5}", port[1]) or "@" in path)
    if "@" in host or odd or "@" in query or has_secret(query):
        raise IcmBenchError(f"{place} is an address with a user, a password or a key in it; leave them out: {_REMEDY}.")


def check_place(uri: str) -> None:
    """Raise IcmBenchError for a storage address with credentials, also if its scheme is missing."""
    check_address(f"s3://{uri}" if _USER_PREFIX.match(uri) else uri, "The place of a store, of images or of a report")


def check_arguments(words: Sequence[str]) -> None:
    """Raise IcmBenchError for an address with credentials in a command line, before any message quotes it."""
    for before, word in pairwise(("", *words)):
        name, equals, value = word.partition("=")
        named = equals and "://" not in name
        place = f"{before} {name}" if named and before == "--set" else name if named else before
        check_address(value if named else word, place if place.startswith("-") else "An argument")


def walk_folder(folder: str, recursive: bool) -> Iterator[tuple[str, bool, int, int, str]]:
    """Yield (path, whether it is a folder, bytes, time of change, `odd`) for each entry of a folder.

    The time is in ns since 1970. `odd` describes an entry that is neither a file nor a folder; it is empty for files
    and folders. Links are followed.

    Raises:
        OSError: a folder cannot be read.
        IcmBenchError: a name is not UTF-8, folders are nested too deeply, or a link points to a folder that contains
            the link.
    """
    above = {*Path(folder).parents, *(real := Path(folder).resolve()).parents, real}
    yield from _walk_folder(folder, recursive, {_id(place.stat()) for place in above})


def _walk_folder(
    folder: str, recursive: bool, above: set[tuple[int, int]]
) -> Iterator[tuple[str, bool, int, int, str]]:
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
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # these: a broken or circular link
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
                raise IcmBenchError(f"{entry.path[:200]}... is nested in more than {MAX_DEPTH} folders; move it up.")
            if identity in above:
                raise IcmBenchError(
                    f"{entry.path} is a link to {os.path.realpath(entry.path)}, a folder that contains it, so its "
                    f"images would repeat endlessly; delete the link."
                )
            yield entry.path, True, 0, stat.st_mtime_ns, ""
            if recursive:
                yield from _walk_folder(entry.path, recursive, above | {identity})


def _id(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def why_not_a_file(place: Path) -> str:
    """Return why a place cannot be read as a file; empty for a regular file."""
    mode = place.stat().st_mode
    return "" if S_ISREG(mode) else "it is a folder" if S_ISDIR(mode) else f"it is {SPECIAL}"


def remedy(error: OSError, place: str, option: str = "") -> str:
    """Return the remedy for a place that cannot be written, as the second half of a sentence.

    `option` names the options or recipe keys that set the place, such as `--store or --out`.
    """
    variables = [name for name, folder in _named_by_variables() if Path(place).is_relative_to(folder)]
    if option:  # the user chose that place
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
    return f"{first}{' or '.join(ways) or 'choose another place'}"


def check_working_directory() -> None:
    """Raise IcmBenchError if the working directory does not exist, or file names are not read as UTF-8."""
    if (encoding := sys.getfilesystemencoding()).lower().replace("-", "") != "utf8":
        raise IcmBenchError(f"File names are read as {encoding} here, not as UTF-8; set PYTHONUTF8=1.")
    try:
        Path.cwd()
    except FileNotFoundError:
        raise IcmBenchError("The working directory was removed; change to another one.") from None


def unwritable(error: OSError) -> str:
    """Return a message about a full disk or a read-only folder; empty for any other error.

    A read-only folder counts only if an environment variable names it or a folder above it. For other folders, callers
    have better messages.
    """
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return "No temporary folder is writable; free some space, or let the environment variable TMPDIR name another."
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


def not_executable(error: OSError) -> str:
    """Return a message if the user may not execute a program, such as Python; empty for any other error."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if error.errno not in DENIED or not frames or frames[-1].f_globals.get("__name__") != "subprocess":
        return ""
    return (
        f"{error.filename} may not be executed by this user ({error.strerror}); let them read and execute it and every "
        f"folder above it, or install icm-bench as this user."
    )


def unusable_variable(*names: str) -> str:
    """Return a message about the first variable in `names` whose folder is not writable; empty if there is none."""
    for name in names:
        if not (folder := os.environ.get(name)):
            continue
        place = Path(folder).absolute()
        there = next(one for one in (place, *place.parents) if one.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):  # it exists, or can be created
            continue
        why = "is not writable" if place.is_dir() else "cannot be created"
        return f"The environment variable {name} names {folder}, which {why}; name another folder, or unset it."
    return ""


def _named_by_variables() -> Iterator[tuple[str, Path]]:
    """Yield (environment variable, the folder that it names or its default), inner folders first."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    yield "HF_HOME", Path(os.environ.get("HF_HOME") or home / "huggingface")
    yield "ICM_BENCH_CACHE", cache_dir()
    with suppress(FileNotFoundError):  # no folder is writable
        yield "TMPDIR", Path(tempfile.gettempdir())
        yield "RAY_TMPDIR", Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
