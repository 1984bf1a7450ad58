"""A watchdog for an encoder: a small process of its own, which ends the encoder where it is silent for too long.

The two are joined by a pipe. Each line in it is a number of seconds: how long the encoder may be silent from then on.
Where it is, it gets SIGKILL, which ends a stopped process and one that hangs in a call to a GPU too; Ray starts it anew
and hands it its chunks again. The end of the pipe is the end of the encoder, and the watchdog leaves.

This file is also the program of the small process, hence Python's standard library alone.
"""

import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread

FIRST_SECONDS = 900.0  # for the start, and for the first chunk, in which a model is compiled
MIN_SECONDS, TIMES_MEDIAN = 120.0, 10.0  # by default, for a chunk
BEAT_SECONDS = 10.0  # at most, between two signs of life of an encoder without a chunk
_SLICE_SECONDS = 0.5


class Watchdog:
    """The encoder's side. The process in which it is made is watched from then on, with `FIRST_SECONDS` to start."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._took = seconds, deque[float](maxlen=100)
        self._busy, self._lock = True, Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for those whom it is meant for
        )
        self._allow(FIRST_SECONDS)
        Thread(target=self._beat, daemon=True).start()

    @property
    def seconds(self) -> float:
        """How long a chunk may take, after the first."""
        if self._seconds is not None:
            return self._seconds
        return max(MIN_SECONDS, TIMES_MEDIAN * statistics.median(self._took or [0.0]))

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """Let the block, in which a chunk is encoded, take as long as a chunk may."""
        with self._lock:
            self._busy = True
            self._allow(self.seconds if self._took else FIRST_SECONDS)
        began = time.monotonic()
        try:
            yield
        finally:
            self._took.append(time.monotonic() - began)
            self.rest()

    def rest(self) -> None:
        """Say that the encoder is ready for chunks, and has none."""
        with self._lock:
            self._busy = False
            self._allow(self.seconds)

    def _beat(self) -> None:
        """Show life while there is no chunk: a stopped process has no threads that run."""
        while True:
            time.sleep(min(BEAT_SECONDS, self.seconds / 4))
            with self._lock:
                if not self._busy:
                    self._allow(self.seconds)

    def _allow(self, seconds: float) -> None:
        with suppress(OSError):  # the watchdog itself was ended: the encoder goes on without
            assert self._child.stdin
            os.write(self._child.stdin.fileno(), f"{seconds}\n".encode())


def watch(pid: int, lines: int) -> None:
    """End a process that is silent for too long; return once it has ended by itself.

    Time is counted in slices that this process has waited for, so that hours in which the whole machine slept are one.
    """
    silent, allowed = 0.0, FIRST_SECONDS
    while silent < allowed:
        if not select.select([lines], [], [], _SLICE_SECONDS)[0]:
            silent += _SLICE_SECONDS
            continue
        content = os.read(lines, 65536)
        if not content:
            return
        silent, allowed = 0.0, float(content.split()[-1])
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.stdin.fileno())
