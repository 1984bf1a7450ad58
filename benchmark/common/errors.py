"""Exceptions of the package: user errors and bugs, and lists of names for messages."""

from collections.abc import Iterable

from benchmark.common.secrets import hidden

EXIT_USER_ERROR = 2  # exit code after an IcmBenchError
EXIT_FAULT = 70  # exit code after a bug of this package


class IcmBenchError(Exception):
    """An error that the user can fix: one sentence that names the file, row or key, and the remedy.

    The command line prints it without a traceback and ends with exit code 2. Secrets in its text are
    redacted.

    Attributes:
        node: name of the node whose worker raised it; empty for the process that prints it.
    """

    node: str = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*(hidden(arg) if isinstance(arg, str) else arg for arg in args))


class OutcomeError(IcmBenchError):
    """A failure that the printed outcome already contains."""


class UnwritableError(IcmBenchError):
    """A place is not writable, so later results could not be stored there either."""


class PluginError(IcmBenchError):
    """A class named as `module:Class` is refused, since plugins are disabled."""


class FaultError(Exception):
    """A bug of this package. It consists of text, so that it can be pickled.

    Attributes:
        trace: the traceback, without secrets.
        node: name of the node whose worker raised it; empty for the process that prints it.
        told: whether the printed outcome already contains it.
    """

    node: str = ""
    told: bool = False

    def __init__(self, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.trace = trace


MAX_NAMES = 10  # maximum number of names in a message


def some(names: Iterable[object]) -> str:
    """Return names as a list; if there are more than `MAX_NAMES`, the first ones and the total number."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more


def nearest(word: str, valid: list[str]) -> str:
    """Return the end of a message about an unknown name: the nearest valid name, and a list of valid names.

    Args:
        word: the unknown name.
        valid: all valid names.
    """
    import difflib

    close = difflib.get_close_matches(word[:200], valid, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {some(sorted(valid))}."
