"""Errors as they leave workers and threads: sentences with the node they come from, and mistakes of this package.

Ray wraps what a worker raises, and loses what was behind it. So a worker's own code is looked at where it fails, while
the error still has its traceback: what a user can put right becomes an `IcmBenchError`, code of the user's own with
class, file and line; all else is a mistake of this package, a `FaultError`, whose traceback goes along as text.
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
from benchmark.common.storage.places import cache_dir, inexecutable, unwritable

P = ParamSpec("P")
R = TypeVar("R")
# Where answers of parts are checked, the names that parts have there, and their methods that give answers.
_CHECKS = {"benchmark.method.evaluation.checked", "benchmark.method.interventions.base"}
_PARTS = ("self", "predictor", "setting", "projection")
_ANSWERS = ("fit", "apply", "scores_of_settings", "scores", "predict")
# What Ray lost, by the names of its errors or of their bases: Ray itself is not imported for this.
_LOST = {
    "OutOfMemoryError": "A worker was ended since its node's memory ran out; use fewer actors or smaller batches",
    "NodeDiedError": "A node died",
    "LocalRayletDiedError": "Ray died on this machine",
    "WorkerCrashedError": "A worker process died; where that is a lack of memory, use fewer actors or smaller batches",
    "RayActorError": "A worker process died; where that is a lack of memory, use fewer actors or smaller batches",
    "ObjectLostError": "What a worker had computed is lost with its node",
}
_WHILE = " while "  # before what was being done, in a note of an error
MAX_SAID = 120  # characters of what an error says of itself
_OURS = Path(__file__).parent.parent
# Where code lies that a user did not write: this package, installed ones, and Python's own.
_NOT_THE_USERS = (_OURS, *{Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib", "platstdlib")})


@contextmanager
def during(what: str) -> Iterator[None]:
    """Let an error that the block raises say what was being done: `embedding a/b.jpg`."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_WHILE}{what}")
        raise


def outcome_of(error: Exception) -> IcmBenchError | FaultError:
    """Return what an error comes to: what a user or an administrator can put right, else a fault of this package."""
    if meant := meant_for_user(error):
        return meant
    inner: BaseException = error
    while wrapped := _wrapped(inner):
        inner = wrapped
    doing = next((note for note in getattr(inner, "__notes__", ()) if note.startswith(_WHILE)), "")
    of_torch = type(inner).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(inner)
    if isinstance(inner, MemoryError) or of_torch:
        return IcmBenchError(
            f"The memory of this machine ran out{doing} ({in_words(inner)}); end other programs, use smaller batches "
            f"or fewer actors, or take a machine with more."
        )
    if isinstance(inner, OSError):
        place = os.fsdecode(inner.filename) if isinstance(inner.filename, str | bytes) else "The operating system"
        return IcmBenchError(
            f"{place} does not do what is asked of it{doing} ({inner.strerror or in_words(inner)}); see that it is "
            f"there, and that this user may use it."
        )
    place = f" at {at}" if (at := where(inner)) else ""
    return FaultError(f"{in_words(inner)}{place}{doing}", hidden("".join(traceback.format_exception(error))))


def meant_for_user(error: BaseException | None) -> IcmBenchError | FaultError | None:
    """Return what of an error a user can put right, or what a worker has told of; None where that is nothing.

    It is looked for in what Ray has wrapped, possibly several times, in code of the user's own, and on places that are
    full or closed.
    """
    while error is not None:
        if inner := _wrapped(error):
            error = inner
            continue
        if isinstance(error, FaultError):
            return error
        if isinstance(error, IcmBenchError):
            if (answer := _wrong_answer(error)) not in str(error):
                error.args = (f"{str(error).rstrip('.')}{answer}", *error.args[1:])
            return error
        if (place := _place_in_users_code(error))[0]:
            return IcmBenchError(f"{place[0]} raised {in_words(error)} at {place[1]}; mend it and run again.")
        if answer := _wrong_answer(error):
            said = str(error) if isinstance(error, ValueError) else f"What it gave cannot be used: {in_words(error)}"
            return IcmBenchError(f"{said.rstrip('.')}{answer}")
        if isinstance(error, OSError) and (sentence := inexecutable(error) or unwritable(error)):
            return UnwritableError(sentence)
        if lost := _lost(error):
            return lost
        error = error.__cause__
    return None


def told(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that a worker runs raise nothing but what `outcome_of` makes of it, with the worker's node."""

    @functools.wraps(function)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            outcome = outcome_of(error)
            outcome.node = outcome.node or platform.node()
            if outcome is error:
                raise
            raise outcome from error

    return telling


def in_words(error: BaseException) -> str:
    """Return type and first line of what an error says: `ValueError (a negative rank)`."""
    lines = str(error).strip().splitlines()
    said = textwrap.shorten(hidden(lines[0]), MAX_SAID, placeholder=" ...") if lines else ""
    return f"{type(error).__name__} ({said.rstrip('.')})" if said else type(error).__name__


def where(error: BaseException) -> str:
    """Return file and line at which an error was raised, `file.py:12`; empty where nobody raised it."""
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in walk_tb(error.__traceback__)]
    return places[-1] if places else ""


def place_of_import(error: BaseException) -> str:
    """Return file and line of the user's own, `file.py:12`, at which an import failed; empty where none was reached."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    modules = [(frame.f_code, n) for frame, n in walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    own = [f"{code.co_filename}:{n}" for code, n in modules if not _is_below(code, *_NOT_THE_USERS)]
    return own[-1] if own else ""


def _wrapped(error: BaseException) -> BaseException | None:
    """Return what an error of Ray's wraps, which it only seems to be; None where it is the error itself."""
    inner = getattr(error, "cause", None)
    if type(error).__name__ == "ActorDiedError" and error.args:  # of an actor whose start has failed
        inner = error.args[0]
    return inner if isinstance(inner, BaseException) else None


def _lost(error: BaseException) -> IcmBenchError | None:
    """Return the error for the user on what Ray lost of a run; None where an error is none of that."""
    bases = [base.__name__ for base in type(error).__mro__ if base.__module__ == "ray.exceptions"]
    if not {"OutOfDiskError", "ObjectStoreFullError"}.isdisjoint(bases):  # of what does not fit into Ray's memory
        return UnwritableError(
            "The disk of Ray's temporary files is full; free some space, or let the environment variable RAY_TMPDIR "
            "name a folder on a disk with more (of a cluster: before `ray start`)."
        )
    if (what := next((_LOST[name] for name in bases if name in _LOST), None)) is None:
        return None
    what = _LOST["NodeDiedError"] if "its node has died" in str(error) else what
    return IcmBenchError(f"{what}. What is finished is kept: run the same command to go on.")


def _place_in_users_code(error: BaseException) -> tuple[str, str]:
    """Return class, and file and line, of the user's own code that raised an error; empty where none did."""
    name = place = ""
    for frame, line in walk_tb(error.__traceback__):
        code, owner = frame.f_code, frame.f_locals.get("self", frame.f_locals.get("cls"))
        cls = owner if isinstance(owner, type) else type(owner)
        if _is_users_own(cls) and not _is_below(code, _OURS):
            name, place = f"{cls.__module__}:{cls.__qualname__}", f"{code.co_filename}:{line}"
        elif name and not _is_below(code, *_NOT_THE_USERS):
            place = f"{code.co_filename}:{line}"
    return name, place


def _wrong_answer(error: BaseException) -> str:
    """Return the end of a sentence on an answer that a check refused: whose it is, and where it is made.

    Empty where an error is about no answer of code of the user's own. The checks themselves belong to what rows depend
    on, and tell no places.
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
    return f"; see {cls.__module__}:{cls.__qualname__}{made}; mend it and run again."


def _is_users_own(cls: type) -> bool:
    """Say whether a class is none of this package, and derives from one that is: a part of the user's own."""
    package = f"{__name__.partition('.')[0]}."
    return not cls.__module__.startswith(package) and any(c.__module__.startswith(package) for c in cls.__mro__)


def _is_below(code: CodeType, *folders: Path) -> bool:
    return any(Path(code.co_filename).is_relative_to(folder) for folder in folders)


_noted: list[FaultError] = []  # faults of threads, since the command began


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
    file = cache_dir() / "faults" / f"{hashlib.sha256(content).hexdigest()[:12]}.txt"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file
    return None


def words_of(fault: FaultError, doing: str, file: Path | None) -> str:
    """Return the sentence with which a command ends by a fault, whose traceback is in a file or was printed.

    `doing` is what was being done, as a person asked for it: `icm-bench run recipe.yaml`.
    """
    where = f"is in {file}" if file else "stands above"
    return (
        f"`{doing}` ended by a fault of icm-bench, not of yours: {str(fault).rstrip('.')}; the traceback {where}, "
        f"please report it; rows and embeddings that are finished are kept."
    )
