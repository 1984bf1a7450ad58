"""Text of others on a terminal and in a report: what would steer it is shown as its number, and does nothing."""

import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from types import TracebackType
from typing import Any

from benchmark.common.secrets import hidden

FORMULA_SIGNS = "=+-@＝＋－＠"  # a spreadsheet runs text that begins with one of them
# What a terminal obeys, but for lines and tabs, and signs that nobody sees, or that turn the direction of what follows.
# Joiners are not among them: scripts need these.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
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


@contextmanager
def safe_output() -> Iterator[None]:
    """Let what the block prints hold no secret, and nothing that steers a terminal but what this package uses.

    So does the traceback of an error that ends the process.
    """
    with ExitStack() as stack:
        sys.excepthook = _print_traceback
        stack.enter_context(redirect_stdout(_Safe(sys.stdout)))
        stack.enter_context(redirect_stderr(_Safe(sys.stderr)))
        yield


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Do what Python does with an error that nobody caught, without its secrets."""
    print(visible(hidden("".join(traceback.format_exception(kind, error, trace)))), end="", file=sys.stderr)


class _Safe:
    """A stream before another one, which gets all that is written as `hidden` and `visible` have it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        parts = _OURS.split(text) if self._stream.isatty() else [text]
        self._stream.write("".join(part if i % 2 else visible(hidden(part)) for i, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
