"""Classification of errors in workers and threads, as errors of the user or bugs of this package.

Ray wraps errors of workers and drops their causes, so the worker itself classifies each error. An error that the user
can fix becomes an `IcmBenchError`; if the user's code raised it, the message names class, file and line. All other
errors become a `FaultError`: a bug of this package, with its traceback as text.
"""

import functools
import hashlib
import os
import platform
import sysconfig
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import ParamSpec, TypeVar

from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.secrets import hidden
from benchmark.common.storage.places import cache_dir, not_executable, unwritable

P = ParamSpec("P")
R = TypeVar("R")
# Modules that check results of components, names of variables that hold a component in their frames, and the methods
# of components that return results. A new module of such checks, or a new abstract method, must be added here.
_CHECKS = {"benchmark.method.evaluation.checked", "benchmark.method.interventions.base"}
_PARTS = ("self", "predictor", "setting", "projection")
_ANSWERS = ("fit", "apply", "scores_of_settings", "scores", "predict")
_DIED = "A worker process died; if it ran out of memory, use fewer actors or smaller batches"
_LOST = {  # class name of an error of Ray, or of a base class -> message; names, so that Ray need not be imported
    "OutOfMemoryError": "A worker was killed since its node ran out of memory; use fewer actors or smaller batches",
    "NodeDiedError": "A node died",
    "LocalRayletDiedError": "Ray died on this machine",
    "WorkerCrashedError": _DIED,
    "RayActorError": _DIED,
    "ObjectLostError": "A result was lost with its node",
}
_WHILE = " while "  # start of the notes that `during` adds to errors
MAX_MESSAGE = 120  # maximum characters that are quoted of an error message
_OURS = Path(__file__).parent.parent
# Folders of code that the user did not write: this package, installed ones, and Python's own.
_NOT_THE_USERS = (_OURS, *{Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib", "platstdlib")})


@contextmanager
def during(what: str) -> Iterator[None]:
    """Add a note to errors of the block: what it was doing, such as `embedding a/b.jpg`."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_WHILE}{what}")
        raise


def outcome_of(error: Exception) -> IcmBenchError | FaultError:
    """Return an error as IcmBenchError if a user or an administrator can fix it, else as FaultError."""
    if meant := meant_for_user(error):
        return meant
    inner: BaseException = error
    while wrapped := _wrapped(inner):
        inner = wrapped
    doing = next((note for note in getattr(inner, "__notes__", ()) if note.startswith(_WHILE)), "")
    of_torch = type(inner).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(inner)
    if isinstance(inner, MemoryError) or of_torch:
        return IcmBenchError(
            f"This machine ran out of memory{doing} ({in_words(inner)}); end other programs, use smaller batches or "
            f"fewer actors, or a machine with more memory."
        )
    if isinstance(inner, OSError):
        place = os.fsdecode(inner.filename) if isinstance(inner.filename, str | bytes) else "The operating system"
        why = inner.strerror or in_words(inner)
        return IcmBenchError(f"{place} fails{doing} ({why}); check that it exists and that this user may access it.")
    place = f" at {at}" if (at := where(inner)) else ""
    return FaultError(f"{in_words(inner)}{place}{doing}", hidden("".join(traceback.format_exception(error))))


def meant_for_user(error: BaseException | None) -> IcmBenchError | FaultError | None:
    """Return the first of an error and its causes that the user can fix or that is a worker's `FaultError`.

    None if there is none. Errors that Ray has wrapped are unwrapped first. Errors in the user's code, full or read-only
    folders and lost nodes count as errors that the user can fix.
    """
    while error is not None:
        if inner := _wrapped(error):
            error = inner
            continue
        if isinstance(error, FaultError):
            return error
        if isinstance(error, IcmBenchError):
            if (source := _source_of_result(error)) not in str(error):
                error.args = (f"{str(error).rstrip('.')}{source}", *error.args[1:])
            return error
        if (place := _place_in_users_code(error))[0]:
            return IcmBenchError(f"{place[0]} raised {in_words(error)} at {place[1]}; fix it and run again.")
        if source := _source_of_result(error):
            problem = str(error) if isinstance(error, ValueError) else f"Its result is not valid: {in_words(error)}"
            return IcmBenchError(f"{problem.rstrip('.')}{source}")
        if isinstance(error, OSError) and (sentence := not_executable(error) or unwritable(error)):
            return UnwritableError(sentence)
        if lost := _lost(error):
            return lost
        error = error.__cause__
    return None


def propagate_user_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that runs in a worker: its errors are classified by `outcome_of`, and name the node."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            outcome = outcome_of(error)
            outcome.node = outcome.node or platform.node()
            if outcome is error:
                raise
            raise outcome from error

    return wrapper


def in_words(error: BaseException) -> str:
    """Return the type and the first line of an error, as `ValueError (a negative rank)`."""
    lines = str(error).strip().splitlines()
    message = textwrap.shorten(hidden(lines[0]), MAX_MESSAGE, placeholder=" ...") if lines else ""
    return f"{type(error).__name__} ({message.rstrip('.')})" if message else type(error).__name__


def where(error: BaseException) -> str:
    """Return the file and line that raised an error, as `file.py:12`; empty for an error without a traceback."""
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in walk_tb(error.__traceback__)]
    return places[-1] if places else ""


def place_of_import(error: BaseException) -> str:
    """Return the file and line in the user's module at which an import failed, as `file.py:12`; empty if unknown."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    modules = [(frame.f_code, n) for frame, n in walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    own = [f"{code.co_filename}:{n}" for code, n in modules if not _is_below(code, *_NOT_THE_USERS)]
    return own[-1] if own else ""


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the error inside an error of Ray; None if there is none."""
    inner = getattr(error, "cause", None)
    if type(error).__name__ == "ActorDiedError" and error.args:  # its constructor failed
        inner = error.args[0]
    return inner if isinstance(inner, BaseException) else None


def _lost(error: BaseException) -> IcmBenchError | None:
    """Return the message for a lost node, worker or object of Ray, or for a full disk; None for other errors."""
    bases = [base.__name__ for base in type(error).__mro__ if base.__module__ == "ray.exceptions"]
    if not {"OutOfDiskError", "ObjectStoreFullError"}.isdisjoint(bases):  # Ray spills objects to disk
        return UnwritableError(
            "The disk of Ray's temporary files is full; free some space, or set the environment variable RAY_TMPDIR to "
            "a folder on another disk (on a cluster: before `ray start`)."
        )
    if (what := next((_LOST[name] for name in bases if name in _LOST), None)) is None:
        return None
    what = _LOST["NodeDiedError"] if "its node has died" in str(error) else what
    return IcmBenchError(f"{what}. Finished work is kept: run the same command to continue.")


def _place_in_users_code(error: BaseException) -> tuple[str, str]:
    """Return (class, "file:line") of the user's code that raised an error; two empty texts for other code."""
    name = place = ""
    for frame, line in walk_tb(error.__traceback__):
        code, owner = frame.f_code, frame.f_locals.get("self", frame.f_locals.get("cls"))
        cls = owner if isinstance(owner, type) else type(owner)
        if _is_users_own(cls) and not _is_below(code, _OURS):
            name, place = f"{cls.__module__}:{cls.__qualname__}", f"{code.co_filename}:{line}"
        elif name and not _is_below(code, *_NOT_THE_USERS):
            place = f"{code.co_filename}:{line}"
    return name, place


def _place_in_users_thread(error: BaseException) -> str:
    """Return the "file:line" of the user's code that raised an error in a thread; empty if the thread is not theirs."""
    frames = [(frame.f_code, n) for frame, n in walk_tb(error.__traceback__)]
    outside = [(code, n) for code, n in frames if not _is_below(code, Path(threading.__file__).parent)]
    if not outside or _is_below(outside[0][0], *_NOT_THE_USERS):
        return ""
    return [f"{code.co_filename}:{n}" for code, n in outside if not _is_below(code, *_NOT_THE_USERS)][-1]


def _source_of_result(error: BaseException) -> str:
    """Return the end of a message about an invalid result: the user's class and method that computed the result.

    Empty if the error is not from a check of a result. The checks do not name the class themselves, since their code is
    part of the identity of rows.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if _is_below(frame.f_code, _OURS)]
    if not ours or ours[-1].f_globals.get("__name__") not in _CHECKS:
        return ""
    parts = (frame.f_locals.get(name) for frame in reversed(frames) for name in _PARTS)
    cls = next((type(part) for part in parts if not isinstance(part, type) and _is_users_own(type(part))), None)
    if cls is None:
        return ""
    methods = ((name, owner.__dict__.get(name)) for owner in filter(_is_users_own, cls.__mro__) for name in _ANSWERS)
    codes = ((name, getattr(method, "__code__", None)) for name, method in methods)
    made = next((f", {name} at {code.co_filename}:{code.co_firstlineno}" for name, code in codes if code), "")
    return f"; see {cls.__module__}:{cls.__qualname__}{made}; fix it and run again."


def _is_users_own(cls: type) -> bool:
    """Return whether a class is a component of the user: defined outside this package, with a base class inside it."""
    package = f"{__name__.partition('.')[0]}."
    return not cls.__module__.startswith(package) and any(c.__module__.startswith(package) for c in cls.__mro__)


def _is_below(code: CodeType, *folders: Path) -> bool:
    return any(Path(code.co_filename).is_relative_to(folder) for folder in folders)


_faults: list[FaultError | IcmBenchError] = []  # bugs and errors of the user's code in threads since the command began


@contextmanager
def thread_faults() -> Iterator[list[FaultError | IcmBenchError]]:
    """Yield a list that collects errors while the block runs.

    These are bugs in threads and in `faults_collected` blocks, and all errors in threads of the user's code.
    """

    def ended(thread: threading.ExceptHookArgs) -> None:
        error = thread.exc_value
        if error and (place := _place_in_users_thread(error)):
            _faults.append(IcmBenchError(f"A thread raised {in_words(error)} at {place}; fix it and run again."))
        else:
            _collect(error)

    before, threading.excepthook = threading.excepthook, ended
    _faults.clear()
    try:
        yield _faults
    finally:
        threading.excepthook = before


@contextmanager
def faults_collected() -> Iterator[None]:
    """Suppress errors of the block, which runs in a thread that only monitors; `thread_faults` collects bugs."""
    try:
        yield
    except Exception as error:
        _collect(error)


def _collect(error: BaseException | None) -> None:
    is_of_ray = any(cls.__module__ == "ray.exceptions" for cls in type(error).__mro__)  # the cluster ended
    if isinstance(error, Exception) and not is_of_ray and isinstance(outcome := outcome_of(error), FaultError):
        _faults.append(outcome)


def write_traceback(fault: FaultError) -> Path | None:
    """Write the traceback of a bug into the cache folder, and return the file; None if it cannot be written."""
    about = f"icm-bench {version('icm-bench')}, Python {platform.python_version()}, {platform.platform()}"
    content = f"{about}\n{fault}\n\n{fault.trace}".encode("utf-8", "backslashreplace")
    file = cache_dir() / "faults" / f"{hashlib.sha256(content).hexdigest()[:12]}.txt"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file
    return None
