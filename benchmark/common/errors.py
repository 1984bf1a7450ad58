"""Exceptions of the package, for errors of the user and for bugs; and lists of names for their messages."""

from collections.abc import Iterable

from benchmark.common.secrets import hidden

# Exit codes after an IcmBenchError, and after a bug of this package. docs/data.md explains both numbers.
EXIT_USER_ERROR = 2
EXIT_FAULT = 70


class IcmBenchError(Exception):
    """An error that the user can fix: one sentence that names the file, row or key, and the remedy.

    The command line prints the sentence without a traceback and ends with exit code 2. Secrets in it are redacted.

    Attributes:
        node: name of the node whose worker raised the error; empty if the process that prints it raised it.
    """

    node: str = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*(hidden(arg) if isinstance(arg, str) else arg for arg in args))


class OutcomeError(IcmBenchError):
    """A failure that a command has already included in its JSON output, so that no second JSON object is printed."""


class UnwritableError(IcmBenchError):
    """A file or folder is not writable, so that later results could not be stored there either."""


class PluginError(IcmBenchError):
    """A class that is named as `module:Class` is refused, since plugins are disabled."""


class FaultError(Exception):
    """A bug of this package. All its fields are plain, so that it can be pickled.

    Attributes:
        trace: the traceback as text, without secrets.
        node: name of the node whose worker raised the error; empty if the process that prints it raised it.
        told: whether the command has already included this bug in its JSON output.
    """

    node: str = ""
    told: bool = False

    def __init__(self, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.trace = trace


MAX_NAMES = 10  # maximum number of names in a message


def some(names: Iterable[object]) -> str:
    """Return names as text, separated by commas: the first `MAX_NAMES`, and if there are more, the total number."""
    listed = [str(name) for name in names]
    more = f", ... ({len(listed)} in all)" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more


def closest(word: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most similar to `word` without case, blanks and signs; None if none is similar."""
    import difflib

    forms = {_form(name): name for name in valid}
    close = difflib.get_close_matches(_form(word[:200]), forms, n=1, cutoff=0.5)
    return forms[close[0]] if close else None


def _form(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold())) or name


def nearest(word: str, valid: list[str]) -> str:
    """Return the end of a message about an unknown name: the most similar valid name, and a list of valid names.

    Args:
        word: the unknown name.
        valid: all valid names.
    """
    close = closest(word, valid)
    hint = f"did you mean '{close}'? " if close else ""
    return f"{hint}Valid: {some(sorted(valid))}."
