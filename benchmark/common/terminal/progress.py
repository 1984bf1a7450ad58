"""Messages and progress on standard error. An environment variable passes the verbosity to child processes."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

Verbosity = Literal["quiet", "normal", "verbose"]
_VARIABLE = "ICM_BENCH_SPEECH"


@contextmanager
def verbosity(speech: Verbosity) -> Iterator[None]:
    """Set the verbosity of the block and of processes that it starts; `quiet` prints results and errors only."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = speech
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before


def is_quiet() -> bool:
    """Return whether only results and errors are printed."""
    return os.environ.get(_VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Return whether more messages than by default are printed."""
    return os.environ.get(_VARIABLE) == "verbose"


def tell(line: str) -> None:
    """Print a message on standard error, unless quiet."""
    if not is_quiet():
        print(f"{time.strftime('%H:%M:%S')} {line}" if is_verbose() else line, file=sys.stderr, flush=True)


class Progress:
    """Progress of work: finished units, units per second and the remaining time.

    On a terminal one line is rewritten four times a second; a log file gets a line every thirty seconds. Nothing is
    printed in the first two seconds.

    Args:
        what: the activity, for example `embedding`.
        total: expected number of units.
        unit: noun for the units, in the plural, for example `images`.
        stream: output. Default: standard error.
    """

    QUIET_SECONDS = 2.0
    TERMINAL_SECONDS, LOG_SECONDS = 0.25, 30.0  # seconds between two lines

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self._stream = stream
        self.done = self._worked = 0
        self._start = time.monotonic()
        self._last = self._start
        self._interval = self.TERMINAL_SECONDS if self.stream.isatty() else self.LOG_SECONDS
        self._has_printed = False

    @property
    def stream(self) -> TextIO:
        """The output stream; standard error is looked up at each use, so that the object can be pickled."""
        return self._stream or sys.stderr

    def update(self, n: int = 1, note: str = "", worked: int | None = None) -> None:
        """Add `n` finished units, and print a line with `note` if the last line is old enough.

        Only `worked` of the `n` units count for the rate; the others needed no work. Default: all `n`.
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
        """Print a message between the lines of progress."""
        self._print(line)

    def close(self) -> float:
        """Print a last line if the work took two seconds or more; return the seconds that it took."""
        seconds = time.monotonic() - self._start
        if seconds >= self.QUIET_SECONDS:
            self._print(f"{self.done} {self.unit} in {seconds:.1f} s ({self._worked / seconds:.1f} {self.unit}/s)")
        return seconds

    def _print(self, line: str, is_rewritten: bool = False) -> None:
        if is_quiet():
            return
        on_terminal = self.stream.isatty()
        # `_OURS` in escaping.py lists this escape sequence: others are escaped.
        lead = "\r\x1b[K" if on_terminal and (is_rewritten or self._has_printed) else ""
        end = "" if on_terminal and is_rewritten else "\n"
        self.stream.write(f"{lead}{self.what}: {line}{end}")
        self.stream.flush()
        self._has_printed = self._has_printed or is_rewritten
