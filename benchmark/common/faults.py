"""Mistakes of this package: what is said of one, where its traceback is kept, and those of threads."""

import hashlib
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from benchmark.common.errors import FaultError
from benchmark.common.failing import outcome_of
from benchmark.common.storage.cache import cache_dir

_FOLDER = "faults"  # below the cache folder
_noted: list[FaultError] = []  # of threads, since the command began


@contextmanager
def threads_heard() -> Iterator[list[FaultError]]:
    """Collect, for as long as the block lasts, faults of threads and of blocks of `noted`."""
    before, threading.excepthook = threading.excepthook, lambda ended: _note(ended.exc_value)
    _noted.clear()
    try:
        yield _noted
    finally:
        threading.excepthook = before


@contextmanager
def noted() -> Iterator[None]:
    """Let the block fail without a word, as a thread does that only watches; a mistake of this package is collected."""
    try:
        yield
    except Exception as error:
        _note(error)


def _note(error: BaseException | None) -> None:
    is_of_ray = any(cls.__module__ == "ray.exceptions" for cls in type(error).__mro__)  # a cluster that goes
    if isinstance(error, Exception) and not is_of_ray and isinstance(outcome := outcome_of(error), FaultError):
        _noted.append(outcome)


def kept(fault: FaultError) -> Path | None:
    """Write a traceback below the cache folder and return its file; None where nothing can be written there."""
    about = f"icm-bench {version('icm-bench')}, Python {platform.python_version()}, {platform.platform()}"
    content = f"{about}\n{fault}\n\n{fault.trace}".encode("utf-8", "backslashreplace")
    file = cache_dir() / _FOLDER / f"{hashlib.sha256(content).hexdigest()[:12]}.txt"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file
    return None


def words_of(fault: FaultError, doing: str, file: Path | None) -> str:
    """Return the sentence with which a command ends by a fault.

    Args:
        fault: the fault.
        doing: what was being done, as a person asked for it: `icm-bench run recipe.yaml`.
        file: that has its traceback. None: it was printed.
    """
    where = f"is in {file}" if file else "stands above"
    return (
        f"`{doing}` ended by a fault of icm-bench, not of yours: {str(fault).rstrip('.')}; the traceback {where}, "
        f"please report it; rows and embeddings that are finished are kept."
    )
