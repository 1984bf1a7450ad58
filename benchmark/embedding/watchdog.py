"""The watchdog of an encoder: a small separate process that kills an unresponsive encoder.

The encoder writes lines to a pipe. A line is the number of seconds until which the next line must come. If it does not
come in time, the watchdog sends SIGKILL, which also ends a process that is stopped or hangs in a GPU call. Ray then
restarts the encoder and retries its chunks. When the encoder ends, the pipe closes and the watchdog exits.

The watchdog process runs this file as its program, so the file imports only Python's standard library.
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

FIRST_SECONDS = 900.0  # seconds for the start, which compiles the model, and again for the first batch
# Default time for a batch: MIN_SECONDS, or TIMES_MEDIAN times the median time of a batch if that is longer.
MIN_SECONDS, TIMES_MEDIAN = 120.0, 10.0
HEARTBEAT_SECONDS = 10.0  # maximum seconds between two heartbeats of an idle encoder
_SLICE_SECONDS = 0.5  # see `watch`


class Watchdog:
    """Starts the watchdog of this process. A batch may take `seconds`; None for the default, see `MIN_SECONDS`."""

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
        """Seconds that a batch after the first may take."""
        if self._seconds is not None:
            return self._seconds
        return max(MIN_SECONDS, TIMES_MEDIAN * statistics.median(self._durations or [0.0]))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Allow the block, a step of the device with a batch of at most a chunk, to take the time that it may take."""
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
        """Send heartbeats while the encoder is idle. A stopped process sends none, since its threads do not run."""
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
    """Kill the process `pid` if it writes nothing to the pipe `lines` for too long; return if it ends by itself.

    Time is counted in short slices of waiting, so that a suspension of the machine for hours counts as one slice.
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
