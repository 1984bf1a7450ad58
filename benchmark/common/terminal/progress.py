"""What is said on standard error beside results and errors: messages, and progress of what takes over two seconds.

With `-q` that is nothing, with `-v` more than by default. An environment variable carries it, so that processes that
are started from here keep to it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

Speech = Literal["quiet", "normal", "verbose"]
_VARIABLE = "ICM_BENCH_SPEECH"


@contextmanager
def speaking(speech: Speech) -> Iterator[None]:
    """Let the block, and processes that it starts, say so much: `quiet` is results and errors alone."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = speech
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before


def is_quiet() -> bool:
    """Return whether nothing but results and errors is said."""
    return os.environ.get(_VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Return whether more is said than by default."""
    return os.environ.get(_VARIABLE) == "verbose"


def tell(line: str) -> None:
    """Print a line for the person who watches, apart from the output that a script reads."""
    if not is_quiet():
        print(f"{time.strftime('%H:%M:%S')} {line}" if is_verbose() else line, file=sys.stderr, flush=True)


class Progress:
    """Count units of work and print how fast they go and how long the rest takes.

    A terminal sees one line rewritten four times a second; a log file sees a line every thirty seconds. Work
    that ends within two seconds prints nothing.

    Args:
        what: what is being done, for example `embedding`.
        total: number of units of work that are expected.
        unit: what a unit of work is, in the plural, for example `images`.
        stream: where to print. Default: standard error, so that standard output stays machine-readable.
    """

    QUIET_SECONDS = 2.0
    TERMINAL_SECONDS, LOG_SECONDS = 0.25, 30.0  # between two lines

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self._stream = stream
        self.done = self._worked = 0
        self._start = time.monotonic()
        self._last = self._start
        self._interval = self.TERMINAL_SECONDS if self.stream.isatty() else self.LOG_SECONDS
        self._spoke = False

    @property
    def stream(self) -> TextIO:
        """Where to print; looked up when needed, so that the object can be pickled along with a callback."""
        return self._stream or sys.stderr

    def update(self, n: int = 1, note: str = "", worked: int | None = None) -> None:
        """Count finished units of work, and print how far it is, with a note, if the last line is old enough.

        The rate is that of the units that took work now, and were not found done; by default all.
        """
        self.done += n
        self._worked += n if worked is None else worked
        now = time.monotonic()
        if now - self._start < self.QUIET_SECONDS or now - self._last < self._interval:
            return
        self._last = now
        rate = self._worked / max(now - self._start, 1e-9)
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        line = f"{self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left}"
        self._print(f"{line}, {note}" if note else line, is_rewritten=True)

    def notify(self, line: str) -> None:
        """Print `line` between the lines of progress."""
        self._print(line)

    def close(self) -> float:
        """Print the closing line if the work was long enough to be announced; return the seconds it took."""
        seconds = time.monotonic() - self._start
        if seconds >= self.QUIET_SECONDS:
            self._print(f"{self.done} {self.unit} in {seconds:.1f} s ({self._worked / seconds:.1f} {self.unit}/s)")
        return seconds

    def _print(self, line: str, is_rewritten: bool = False) -> None:
        if is_quiet():
            return
        on_terminal = self.stream.isatty()
        lead = "\r\x1b[K" if on_terminal and (is_rewritten or self._spoke) else ""
        end = "" if on_terminal and is_rewritten else "\n"
        self.stream.write(f"{lead}{self.what}: {line}{end}")
        self.stream.flush()
        self._spoke = self._spoke or is_rewritten
