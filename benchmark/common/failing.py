"""What a worker could not do, as an error that comes out as itself: a sentence, and the node that it comes from.

Ray wraps what a worker raises, and loses what was behind it. So a worker's own code is looked at where it fails, while
the error still has its traceback: what a user can put right becomes an `IcmBenchError`, code of the user's own with
class, file and line; all else is a mistake of this package, a `FaultError`, whose traceback goes along as text.
"""

import functools
import os
import platform
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any, ParamSpec, TypeVar

from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.secrets import hidden
from benchmark.common.storage.unwritable import inexecutable, unwritable

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
# Ray finds no room on a disk for what does not fit into its memory.
_NO_ROOM = {"OutOfDiskError", "ObjectStoreFullError"}
_WHILE = " while "  # before what was being done, in a note of an error
_NO_MEMORY = "can't allocate memory"  # says PyTorch, whose error is a RuntimeError
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
    """Return what an error comes to: what a user or who runs the machine can put right, else a fault of this package.

    Args:
        error: as it was caught, with its traceback.
    """
    if meant := meant_for_user(error):
        return meant
    inner: BaseException = error
    while wrapped := _wrapped(inner):
        inner = wrapped
    doing = next((note for note in getattr(inner, "__notes__", ()) if note.startswith(_WHILE)), "")
    if isinstance(inner, MemoryError) or type(inner).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(inner):
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

    Args:
        error: as it was caught, with its traceback.
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
        if place := _place_in_users_code(error):
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
    own = [(code, n) for code, n in modules if not any(_is_below(code, folder) for folder in _NOT_THE_USERS)]
    return next((f"{code.co_filename}:{n}" for code, n in reversed(own)), "")


def _wrapped(error: BaseException) -> BaseException | None:
    """Return what an error of Ray's wraps, which it only seems to be; None where it is the error itself."""
    inner = getattr(error, "cause", None)
    if type(error).__name__ == "ActorDiedError" and error.args:  # of an actor whose start has failed
        inner = error.args[0]
    return inner if isinstance(inner, BaseException) else None


def _lost(error: BaseException) -> IcmBenchError | None:
    """Return the error for the user on what Ray lost of a run; None where an error is none of that."""
    bases = [base.__name__ for base in type(error).__mro__ if base.__module__ == "ray.exceptions"]
    if _NO_ROOM.intersection(bases):
        return UnwritableError(
            "The disk of Ray's temporary files is full; free some space, or let the environment variable RAY_TMPDIR "
            "name a folder on a disk with more (of a cluster: before `ray start`)."
        )
    if not (found := next((name for name in bases if name in _LOST), "")):
        return None
    found = "NodeDiedError" if "its node has died" in str(error) else found
    return IcmBenchError(f"{_LOST[found]}. What is finished is kept: run the same command to go on.")


def _place_in_users_code(error: BaseException) -> tuple[str, str] | None:
    """Return class, and file and line, of the user's own code that raised an error; None where none did."""
    name = place = ""
    for code, line, owner in _frames(error):
        if owner and not _is_below(code, _OURS):
            name, place = f"{owner.__module__}:{owner.__qualname__}", f"{code.co_filename}:{line}"
        elif name and not any(_is_below(code, folder) for folder in _NOT_THE_USERS):
            place = f"{code.co_filename}:{line}"
    return (name, place) if name else None


def _wrong_answer(error: BaseException) -> str:
    """Return the end of a sentence on an answer that a check refused: whose it is, and where it is made.

    Empty where an error is about no answer of code of the user's own. The checks themselves belong to what rows depend
    on, and tell no places.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if _is_below(frame.f_code, _OURS)]
    if not ours or ours[-1].f_globals.get("__name__") not in _CHECKS:
        return ""
    for frame in reversed(frames):
        for part in (frame.f_locals.get(name) for name in _PARTS):
            if not isinstance(part, type) and _is_users_own(type(part)):
                return f"; {_method(type(part))}; mend it and run again."
    return ""


def _method(cls: type) -> str:
    """Return class, and file and line, of the method that makes the answers of a part of the user's own."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    for owner in filter(_is_users_own, cls.__mro__):
        for method in _ANSWERS:
            if code := getattr(owner.__dict__.get(method), "__code__", None):
                return f"see {name}, {method} at {code.co_filename}:{code.co_firstlineno}"
    return f"see {name}"


def _frames(error: BaseException) -> Iterator[tuple[CodeType, int, type | None]]:
    """Yield code and line of every call that led to an error, and whose method it is, where that is the user's own."""
    for frame, line in walk_tb(error.__traceback__):
        owner: Any = frame.f_locals.get("self", frame.f_locals.get("cls"))
        cls = owner if isinstance(owner, type) else type(owner)
        yield frame.f_code, line, cls if _is_users_own(cls) else None


def _is_users_own(cls: type) -> bool:
    """Say whether a class is none of this package, and derives from one that is: a part of the user's own."""
    package = f"{__name__.partition('.')[0]}."
    return not cls.__module__.startswith(package) and any(c.__module__.startswith(package) for c in cls.__mro__)


def _is_below(code: CodeType, folder: Path) -> bool:
    return Path(code.co_filename).is_relative_to(folder)
