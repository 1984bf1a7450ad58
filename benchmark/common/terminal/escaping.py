"""Escaping of control characters in untrusted text, on terminals and in reports; `safe_output` also removes secrets."""

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

MAX_SENTENCE = 1_000  # maximum characters of a command's error message
FORMULA_SIGNS = "=+-@＝＋－＠"  # a spreadsheet runs text that begins with one of these signs as a formula
# Control characters except line breaks and tabs, invisible characters, and characters that change the direction of
# text. Joiners are allowed, since some scripts need them.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_LAST_STANDARD = 2  # file descriptor of standard error, the last standard stream
# Escape sequences that pass unescaped: the start of a rewritten line (see `Progress._print`), bold text, and its end.
_OURS = re.compile(r"(?m)(\A\r\x1b\[K|^\x1b\[1m(?=[^\x1b\n]*\x1b\[0m$)|\x1b\[0m$)")


def escape_control(text: str) -> str:
    """Return a text with control and invisible characters replaced by codes such as `U+001B`; line breaks are kept."""
    return _CONTROL.sub(lambda character: f"U+{ord(character[0]):04X}", text)


def escape_control_in(content: Any) -> Any:
    """Return plain data with control characters escaped in all texts and keys."""
    if type(content) is str:
        return escape_control(content)
    if isinstance(content, dict):
        return {escape_control_in(key): escape_control_in(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [escape_control_in(value) for value in content]
    return content


def escaped_json(text: str) -> str:
    """Return a JSON text with the same content, in which control and invisible characters are JSON escapes."""
    return _CONTROL.sub(lambda character: json.dumps(character[0])[1:-1], text)


@lru_cache(maxsize=8192)
def one_line(text: str) -> str:
    """Return a text in one line, with control characters escaped."""
    return escape_control(re.sub(r"\s+", " ", text).strip())


def shortened(sentence: str) -> str:
    """Return a long sentence without its middle: error messages name the place first and the remedy last."""
    return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:600]} ... {sentence[-300:]}"


@contextmanager
def safe_output() -> Iterator[None]:
    """Remove secrets and escape control characters in everything that the block prints.

    Output to closed streams is discarded. `check_output` refuses a closed standard output.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while os.open(os.devnull, os.O_RDWR) <= _LAST_STANDARD:  # else files opened later get descriptors 0 to 2
            pass
    with redirect_stdout(_SafeStream(sys.stdout, "Standard output")), redirect_stderr(_SafeStream(sys.stderr)):
        yield


def check_output() -> None:
    """Raise IcmBenchError if standard output is closed; for use inside a block of `safe_output`."""
    if getattr(sys.stdout, "is_closed", False):
        raise IcmBenchError("Standard output is closed; let it go to a file or a pipe, or to /dev/null.")


class _SafeStream:
    """A wrapper of a stream that removes secrets, escapes control characters and flushes.

    `stream` is None for a closed stream. `name` names the stream in the error of a failed write. Without a name, failed
    writes are ignored, since a lost message on standard error must not end the work.
    """

    def __init__(self, stream: Any, name: str = "") -> None:
        self.is_closed = stream is None
        self._stream, self._name = stream or Path(os.devnull).open("w"), name  # noqa: SIM115  open to the end
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")  # for characters that its encoding lacks

    def write(self, text: str) -> int:
        """Write a text. If that fails, a stream with a name raises UnwritableError or BrokenPipeError."""
        parts = _OURS.split(text) if self._stream.isatty() else [text]
        try:
            self._stream.write("".join(part if i % 2 else escape_control(hidden(part)) for i, part in enumerate(parts)))
            self._stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # discards buffered and later output
            if self._name and isinstance(error, BrokenPipeError):
                raise
            if self._name:
                problem = f"{self._name} cannot be written ({error.strerror})"
                raise UnwritableError(f"{problem}; free some space, or redirect it.") from error
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
