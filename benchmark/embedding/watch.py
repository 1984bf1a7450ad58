"""Driver-side monitoring of encoder actors: a thread that polls the ledger every two seconds.

It reports encoders that start or stall, requests GPUs from the autoscaler, and writes the record of a long run. It ends
a run without progress: it interrupts the main thread and, if the interrupt is ignored, exits the process.
"""

import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import Any

import pyarrow as pa

from benchmark.common.errors import EXIT_USER_ERROR, IcmBenchError, some
from benchmark.common.failing import faults_collected
from benchmark.common.ray.autoscaler import request_gpus
from benchmark.common.storage.files import Storage
from benchmark.embedding import watchdog
from benchmark.embedding.chunks import ChunkCounts
from benchmark.embedding.ledger import EncoderState
from benchmark.embedding.pool import NOTIFY_SECONDS, REQUEST_SECONDS, Notify, Pool
from benchmark.store.made import CHUNKS, Made, MadeBy, drop_open, write_made

# docs/clusters.md states `STALL_TIMES` in words, and benchmark/store/__init__.py the 30 s of `RECORD_SECONDS`.
POLL_SECONDS = 2.0
TIMES_MEDIAN = 3.0  # a pause is a stall if it is longer than so many times the median time between two chunks
FIRST_RECORD_SECONDS, RECORD_SECONDS = 5.0, 30.0  # seconds until the first record of a run, and between later records
# A run is ended if active encoders return no chunk for STALL_SECONDS, and for STALL_TIMES the time that a chunk may
# take. Then something else than an encoder hangs, such as the raylet of a node whose other processes are alive.
STALL_SECONDS, STALL_TIMES = 120.0, 5.0
STALL_GRACE = 20.0  # seconds that the block has to end after an interrupt
LEDGER_TIMEOUT = 15.0  # seconds for an answer of the ledger; Ray ends a process 60 s after it lost its cluster


@dataclass(frozen=True)
class WatchedRun:
    """Arguments of a `Watch`: what it reads, and where it reports.

    Attributes:
        storage: the store, for the record of the run.
        ledger: handle of the ledger actor.
        pool: the encoder pool.
        notify: function that prints one message for the user.
        lists_encoders: whether new encoders are reported; False on a single machine without GPUs.
        timeout: seconds that a chunk may take; None (default) for the default of the watchdog.
    """

    storage: Storage
    ledger: Any
    pool: Pool
    notify: Notify
    lists_encoders: bool
    timeout: float | None = None


class Watch:
    """Context manager that monitors a run while the block receives `chunks` chunks and calls `add` for each.

    Raises:
        IcmBenchError: at the end of the block, if it was interrupted because active encoders returned no chunk.
    """

    def __init__(self, made: Made, watched: WatchedRun, chunks: int) -> None:
        self.made, self._watched, self._chunks_left = made, watched, chunks
        self._rows: list[dict[str, Any]] = []
        self._intervals, self._last_chunk_at = deque[float](maxlen=100), time.monotonic()
        self._reported_ready = self._reported_replaced = 0  # numbers of ready and replaced encoders in earlier messages
        self._requested_at = self._stall_reported_at = self._recorded_at = time.monotonic()
        self._interval, self._ledger_lost, self._encoders_seen = FIRST_RECORD_SECONDS, False, list[EncoderState]()
        self._is_open, self._lock, self._end, self._stall_error = False, Lock(), Event(), ""
        self._interruptible = threading.current_thread() is threading.main_thread()  # others cannot be interrupted
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._end.set()
        self._thread.join(LEDGER_TIMEOUT + 5)
        if self._watched.pool.autoscaled:
            with faults_collected():  # if the cluster is lost, no request needs to be cancelled
                request_gpus(0)
        with faults_collected():  # a failed record loses no work
            encoders = self._encoders()
            self._report_replaced(encoders)  # encoders that were replaced since the last poll
            self._record(encoders, ended=error is None)
        if self._stall_error and kind is KeyboardInterrupt:
            raise IcmBenchError(self._stall_error) from None

    def add(self, counts: ChunkCounts) -> None:
        """Add the counts of a chunk."""
        now = time.monotonic()
        with self._lock:
            self._intervals.append(now - self._last_chunk_at)
            self._last_chunk_at, self._chunks_left = now, self._chunks_left - 1
            again, total = counts.recomputed, counts.views + counts.written_by_lost
            self.made = replace(
                self.made,
                embedded=self.made.embedded + (0 if again else total),
                lost=self.made.lost + (total if again else 0),
                reused=self.made.reused + counts.written_by_others,
                unreadable=self.made.unreadable + counts.unreadable,
            )
            if counts.tries:
                row = {"chunk": counts.number, "host": counts.host, "device": counts.device, "again": again}
                self._rows.append({**row, "seconds": counts.encode_s, "tries": counts.tries})

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            with faults_collected():  # if monitoring fails, the run continues
                self._check()

    def _check(self) -> None:
        encoders, now = self._encoders(), time.monotonic()
        self._report_replaced(encoders)
        self._report_ready(encoders)
        self._report_stall(encoders, now)
        self._end_stall(encoders, now)
        if self._watched.pool.autoscaled and now - self._requested_at >= REQUEST_SECONDS:
            self._requested_at = now
            request_gpus(self._watched.pool.gpus_for(self._chunks_left))  # fewer chunks need fewer GPUs
        if now - self._recorded_at >= self._interval and self._rows:
            self._record(encoders, ended=False)
            self._recorded_at = time.monotonic()
            # The more slowly records are written, the less often.
            self._interval = min(2 * self._interval, RECORD_SECONDS) + 20 * (self._recorded_at - now)

    def _encoders(self) -> list[EncoderState]:
        import ray

        if self._ledger_lost:
            return self._encoders_seen
        try:
            self._encoders_seen = ray.get(self._watched.ledger.encoders.remote(), timeout=LEDGER_TIMEOUT)
        except ray.exceptions.RayError:
            self._ledger_lost = True  # no message here: a lost head is reported by `joining.watch_head`
        return self._encoders_seen

    def _report_replaced(self, encoders: Sequence[EncoderState]) -> None:
        for encoder in [e for e in encoders if e.unresponsive_for][self._reported_replaced :]:
            self._reported_replaced += 1
            chunks = some(sorted(encoder.in_flight))
            left = f"; encoding its chunks in flight again: {chunks}" if encoder.in_flight else ""
            self._watched.notify(
                f"the encoder on {encoder.device} of {encoder.host} was replaced: it sent no message for "
                f"{encoder.unresponsive_for:.0f} s{left}"
            )

    def _report_ready(self, encoders: Sequence[EncoderState]) -> None:
        ready = [encoder for encoder in encoders if encoder.ready_at]
        if self._watched.lists_encoders and len(ready) > self._reported_ready:
            places = Counter(f"{encoder.device} of {encoder.host}" for encoder in ready[self._reported_ready :])
            what = ", ".join(f"{count} on {place}" for place, count in places.most_common(4))
            more = f" and {len(places) - 4} further places" if len(places) > 4 else ""
            self._watched.notify(f"encoders started: {what}{more}; {sum(e.is_active for e in ready)} active")
        self._reported_ready = len(ready)

    def _report_stall(self, encoders: Sequence[EncoderState], now: float) -> None:
        waited = now - self._last_chunk_at
        usual = statistics.median(self._intervals) if self._intervals else 0.0
        if waited < NOTIFY_SECONDS or waited < TIMES_MEDIAN * usual or now - self._stall_reported_at < NOTIFY_SECONDS:
            return
        self._stall_reported_at = now
        active = [encoder for encoder in encoders if encoder.is_active]
        starting = sum(not encoder.ready_at and not encoder.unresponsive_for for encoder in encoders)
        waits = [(since, e.host, chunk) for e in active for chunk, since in e.in_flight.items()]
        oldest = f"; oldest in flight: chunk {min(waits)[2]} on {min(waits)[1]}" if waits else ""
        self._watched.notify(f"no chunk for {waited:.0f} s; {len(active)} encoders active, {starting} starting{oldest}")

    def _end_stall(self, encoders: Sequence[EncoderState], now: float) -> None:
        working = sum(encoder.is_active for encoder in encoders)
        if not (working and self._interruptible) or any(not e.ready_at and not e.unresponsive_for for e in encoders):
            return
        usual = statistics.median(self._intervals) * working if self._intervals else 0.0
        chunk = self._watched.timeout or max(watchdog.MIN_SECONDS, watchdog.TIMES_MEDIAN * usual)
        chunk = chunk if self._intervals else max(chunk, watchdog.FIRST_SECONDS)
        waited = now - self._last_chunk_at
        if waited < max(STALL_SECONDS, STALL_TIMES * chunk):
            return
        self._record(encoders, ended=False)
        if self._end.is_set():
            return
        self._stall_error = (
            f"No chunk for {waited:.0f} s from {working} active encoders: something they wait for hangs, such as a "
            f"node or a mount. Finished parts are kept: run the same command to go on."
        )
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # also wakes a sleeping main thread
        if not self._end.wait(STALL_GRACE):  # interrupts may be ignored, as for background jobs of a shell
            print(f"icm-bench: {self._stall_error}", file=sys.stderr, flush=True)
            os._exit(EXIT_USER_ERROR)

    def _record(self, encoders: Sequence[EncoderState], ended: bool) -> None:
        left = [() if ended and e.is_active else tuple(sorted(e.in_flight)) for e in encoders]
        pairs = zip(encoders, left, strict=True)
        by = tuple(MadeBy(e.host, e.device, e.chunks, e.unresponsive_for, c) for e, c in pairs)
        with self._lock:
            self.made = replace(self.made, encoders=by)
            made = replace(self.made, chunks=pa.Table.from_pylist(self._rows, schema=CHUNKS), ended=ended)
        write_made(self._watched.storage, made, closed=ended)
        if ended and self._is_open:
            drop_open(self._watched.storage, made)
        self._is_open = not ended
