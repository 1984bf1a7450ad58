"""Text of others on a terminal and in a report: control characters are escaped, and secrets left out."""

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

MAX_SENTENCE = 1_000  # letters of a sentence that ends a command
FORMULA_SIGNS = "=+-@＝＋－＠"  # a spreadsheet runs text that begins with one of them
# What a terminal obeys, but for lines and tabs, and signs that nobody sees, or that turn the direction of what follows.
# Joiners are not among them: scripts need these.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_LAST_STANDARD = 2  # number of the last of the standard streams
# A line that is written anew; one in bold, and its end.
_OURS = re.compile(r"(?m)(\A\r\x1b\[K|^\x1b\[1m(?=[^\x1b\n]*\x1b\[0m$)|\x1b\[0m$)")


def visible(text: str) -> str:
    """Return a text with signs that steer a terminal, or that nobody sees, as `U+001B`; lines stay lines."""
    return _STEERING.sub(lambda sign: f"U+{ord(sign[0]):04X}", text)


def visible_in(content: Any) -> Any:
    """Return plain data with `visible` texts, keys of mappings among them."""
    if type(content) is str:
        return visible(content)
    if isinstance(content, dict):
        return {visible_in(key): visible_in(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [visible_in(value) for value in content]
    return content


def escaped_json(text: str) -> str:
    """Return JSON with signs that steer a terminal, or that nobody sees, by their numbers: the same data."""
    return _STEERING.sub(lambda sign: json.dumps(sign[0])[1:-1], text)


@lru_cache(maxsize=8192)
def one_line(text: str) -> str:
    """Return a name or a sentence without line breaks; signs that steer a terminal or cannot be written by number."""
    return visible(re.sub(r"\s+", " ", text).strip())


def shortened(sentence: str) -> str:
    """Return a sentence without its middle where that quotes at length: place and remedy stand at its ends."""
    return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:600]} ... {sentence[-300:]}"


@contextmanager
def safe_output() -> Iterator[None]:
    """Let what the block prints hold no secret, and nothing that steers a terminal but what this package uses.

    Streams that are closed lead nowhere; see `check_output`.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while os.open(os.devnull, os.O_RDWR) <= _LAST_STANDARD:  # or what is opened later got the number of one
            pass
    with redirect_stdout(_Safe(sys.stdout, "Standard output")), redirect_stderr(_Safe(sys.stderr)):
        yield


def check_output() -> None:
    """Make sure, in a block of `safe_output`, that what is printed goes somewhere."""
    if getattr(sys.stdout, "is_closed", False):
        raise IcmBenchError("Standard output is closed; let it go to a file or a pipe, or to /dev/null.")


class _Safe:
    """A stream before another one, which gets all that is written at once, as `hidden` and `visible` have it.

    A stream of None is closed. The name is how a sentence calls it where it cannot be written to; without one there is
    no sentence: what cannot be said on standard error is no reason to lose work.
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
            self._stream.write("".join(part if i % 2 else visible(hidden(part)) for i, part in enumerate(parts)))
            self._stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what is left, and what comes
            if self._name and isinstance(error, BrokenPipeError):
                raise
            if self._name:
                raise UnwritableError(
                    f"{self._name} cannot be written ({error.strerror}); free some space, or let it go elsewhere."
                ) from error
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
