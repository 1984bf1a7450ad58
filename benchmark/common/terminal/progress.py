"""Progress with a rate and the time left, on standard error, for everything that takes more than two seconds."""

import sys
import time
from typing import TextIO

from benchmark.common.terminal.verbosity import is_quiet


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
        """Count finished units of work, and print how far it is if the last line is old enough.

        Args:
            n: number of units that were finished since the last call, default 1.
            note: what to show behind the figures. Default: nothing.
            worked: how many of them took work now, and were not found done: the rate is theirs. Default: all.
        """
        self.done += n
        self._worked += n if worked is None else worked
        now = time.monotonic()
        if not is_quiet() and now - self._start >= self.QUIET_SECONDS and now - self._last >= self._interval:
            self._last = now
            self._print(note)

    def _print(self, note: str) -> None:
        seconds = time.monotonic() - self._start
        rate = self._worked / seconds if seconds > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        left_text = f"{left:.0f} s left" if left != float("inf") else "time left unknown"
        line = f"{self.what}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left_text}"
        line += f", {note}" if note else ""
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K{line}")
        else:
            self.stream.write(line + "\n")
        self.stream.flush()
        self._spoke = True

    def notify(self, line: str) -> None:
        """Print `line` between the lines of progress."""
        if is_quiet():
            return
        lead = "\r\x1b[K" if self.stream.isatty() and self._spoke else ""
        self.stream.write(f"{lead}{self.what}: {line}\n")
        self.stream.flush()

    def close(self) -> float:
        """Print the closing line if the work was long enough to be announced; return the seconds it took."""
        seconds = time.monotonic() - self._start
        if seconds >= self.QUIET_SECONDS and not is_quiet():
            rate = self._worked / seconds
            lead = "\r\x1b[K" if self.stream.isatty() and self._spoke else ""
            self.stream.write(
                f"{lead}{self.what}: {self.done} {self.unit} in {seconds:.1f} s ({rate:.1f} {self.unit}/s)\n"
            )
            self.stream.flush()
        return seconds
