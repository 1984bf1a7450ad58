"""Escape control characters in untrusted text, on terminals and in reports; `safe_output` also removes secrets."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.secrets import hidden

MAX_SENTENCE = 1_000  # characters of the error message of a command
FORMULA_SIGNS = "=+-@＝＋－＠"  # a spreadsheet runs text that begins with one of them
# Control characters but for line breaks and tabs, invisible ones, and those that change the direction of text. Joiners
# are allowed: some scripts need them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_LAST_STANDARD = 2  # number of the last of the standard streams
# Escape sequences of this package: a rewritten line, bold text and its end.
_OURS = re.compile(r"(?m)(\A\r\x1b\[K|^\x1b\[1m(?=[^\x1b\n]*\x1b\[0m$)|\x1b\[0m$)")


def escape_control(text: str) -> str:
    """Return a text with control and invisible characters as `U+001B`; line breaks are kept."""
    return _CONTROL.sub(lambda character: f"U+{ord(character[0]):04X}", text)


def escape_control_in(content: Any) -> Any:
    """Return plain data with escaped texts and keys."""
    if type(content) is str:
        return escape_control(content)
    if isinstance(content, dict):
        return {escape_control_in(key): escape_control_in(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [escape_control_in(value) for value in content]
    return content


def escaped_json(text: str) -> str:
    """Return equivalent JSON, in which control and invisible characters are escaped."""
    return _CONTROL.sub(lambda character: json.dumps(character[0])[1:-1], text)


@lru_cache(maxsize=8192)
def one_line(text: str) -> str:
    """Return a text in one line, with control characters escaped."""
    return escape_control(re.sub(r"\s+", " ", text).strip())


def shortened(sentence: str) -> str:
    """Return a long sentence without its middle; the place is at its start and the remedy at its end."""
    return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:600]} ... {sentence[-300:]}"


@contextmanager
def safe_output() -> Iterator[None]:
    """Remove secrets and escape control characters in everything that the block prints.

    Output to closed streams is discarded; see `check_output`.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while os.open(os.devnull, os.O_RDWR) <= _LAST_STANDARD:  # else files opened later get their numbers
            pass
    with redirect_stdout(_SafeStream(sys.stdout, "Standard output")), redirect_stderr(_SafeStream(sys.stderr)):
        yield


def check_output() -> None:
    """Refuse a closed standard output, in a block of `safe_output`."""
    if getattr(sys.stdout, "is_closed", False):
        raise IcmBenchError("Standard output is closed; let it go to a file or a pipe, or to /dev/null.")


class _SafeStream:
    """A wrapper of a stream that removes secrets, escapes control characters and flushes.

    A stream of None is closed. `name` is for the error if it cannot be written to; without one, errors are ignored:
    losing a message on standard error is no reason to lose work.
    """

    def __init__(self, stream: Any, name: str = "") -> None:
        self.is_closed = stream is None
        self._stream, self._name = stream or Path(os.devnull).open("w"), name  # noqa: SIM115  open to the end
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")  # names that its encoding lacks

    def write(self, text: str) -> int:
        """Write a text; a stream with a name that does not take it raises an error."""
        parts = _OURS.split(text) if self._stream.isatty() else [text]
        try:
            self._stream.write("".join(part if i % 2 else escape_control(hidden(part)) for i, part in enumerate(parts)))
            self._stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what is left, and what comes
            if self._name and isinstance(error, BrokenPipeError):
                raise
            if self._name:
                problem = f"{self._name} cannot be written ({error.strerror})"
                raise UnwritableError(f"{problem}; free some space, or redirect it.") from error
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
