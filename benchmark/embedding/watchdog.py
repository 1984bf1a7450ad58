"""The watchdog of an encoder: a small separate process that kills an unresponsive encoder.

The encoder writes to a pipe: each line is the number of seconds that it may be silent from then on. If it is silent for
longer, the watchdog sends SIGKILL, which also ends stopped processes and those that hang in a GPU call. Ray then
restarts the encoder and retries its chunks. When the encoder ends, the pipe closes and the watchdog exits.

This file is also the program of that process, so it imports only Python's standard library.
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

FIRST_SECONDS = 900.0  # for the start, and for the first chunk, which compiles the model
MIN_SECONDS, TIMES_MEDIAN = 120.0, 10.0  # default for a chunk: the larger of the two
HEARTBEAT_SECONDS = 10.0  # at most, between two heartbeats of an idle encoder
_SLICE_SECONDS = 0.5


class Watchdog:
    """Starts the watchdog of this process; a chunk may take `seconds`, None for ten times the median."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._durations = seconds, deque[float](maxlen=100)
        self._busy, self._lock = True, Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # keeps Ctrl-C away from it
        )
        self._allow_silence(FIRST_SECONDS)
        Thread(target=self._send_heartbeats, daemon=True).start()

    @property
    def seconds(self) -> float:
        """Seconds that a chunk after the first may take."""
        if self._seconds is not None:
            return self._seconds
        return max(MIN_SECONDS, TIMES_MEDIAN * statistics.median(self._durations or [0.0]))

    @contextmanager
    def chunk(self) -> Iterator[None]:
        """Allow the block, which encodes a chunk, the time of a chunk."""
        with self._lock:
            self._busy = True
            self._allow_silence(self.seconds if self._durations else FIRST_SECONDS)
        began = time.monotonic()
        try:
            yield
        finally:
            self._durations.append(time.monotonic() - began)
            self.idle()

    def idle(self) -> None:
        """Mark the encoder as ready and idle."""
        with self._lock:
            self._busy = False
            self._allow_silence(self.seconds)

    def _send_heartbeats(self) -> None:
        """Send heartbeats while idle; a stopped process sends none, since its threads do not run."""
        while True:
            time.sleep(min(HEARTBEAT_SECONDS, self.seconds / 4))
            with self._lock:
                if not self._busy:
                    self._allow_silence(self.seconds)

    def _allow_silence(self, seconds: float) -> None:
        with suppress(OSError):  # the watchdog was killed: the encoder goes on without it
            assert self._child.stdin
            os.write(self._child.stdin.fileno(), f"{seconds}\n".encode())


def watch(pid: int, lines: int) -> None:
    """Kill the process `pid` if it is silent for too long; return once it has ended by itself.

    Silence is counted in slices of waiting, so that hours of a suspended machine count as one slice.
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
