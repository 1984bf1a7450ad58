"""The one exception a user is meant to read."""

from collections.abc import Iterable

from benchmark.common.secrets import hidden

EXIT_USER_ERROR = 2  # exit code of a command that ends with its sentence
EXIT_FAULT = 70  # exit code of a command that ends by a mistake of this package


class IcmBenchError(Exception):
    """Something the user can put right: one sentence that names the file, row or key, and the remedy.

    The command line prints it without a traceback and ends with exit code 2. Secrets in what it is made
    of are hidden.

    Attributes:
        node: name of the node whose worker it comes from; empty where it comes from the process that prints it.
    """

    node: str = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*(hidden(arg) if isinstance(arg, str) else arg for arg in args))


class OutcomeError(IcmBenchError):
    """Something is wrong with an outcome that was printed, which says it already."""


class UnwritableError(IcmBenchError):
    """A place cannot be written to: whatever comes next could not be kept there either."""


class PluginError(IcmBenchError):
    """A class that is named as `module:Class` is not imported, since the user wants none."""


class FaultError(Exception):
    """A mistake of this package, which nobody foresaw. It travels between processes, since all of it is text.

    Attributes:
        trace: the traceback, without secrets.
        node: name of the node whose worker it comes from; empty where it comes from the process that prints it.
        told: whether an outcome that was printed says it already.
    """

    node: str = ""
    told: bool = False

    def __init__(self, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.trace = trace


MAX_NAMES = 10  # number of names that a sentence lists: more help nobody


def some(names: Iterable[object]) -> str:
    """Return names as a list that ends at ten, with their number."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more


def nearest(word: str, valid: list[str]) -> str:
    """Return the ending of a sentence that refuses a word: the nearest valid name, and the first of them all.

    Args:
        word: the name that was given.
        valid: names that would be valid.
    """
    import difflib

    close = difflib.get_close_matches(word[:200], valid, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {some(sorted(valid))}."
