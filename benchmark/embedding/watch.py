"""Driver-side monitoring of encoder actors: a thread asks the ledger every two seconds.

It reports encoders that started and encoders that stall, asks the autoscaler for GPUs, writes the record of a long run,
and ends the run where nothing moves any more: it interrupts the main thread and, if that is ignored, the process.
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
from benchmark.common.failing import noted
from benchmark.common.ray.autoscaler import ask_for_gpus
from benchmark.common.storage.files import Storage
from benchmark.embedding import watchdog
from benchmark.embedding.chunks import ChunkCounts
from benchmark.embedding.ledger import EncoderState
from benchmark.embedding.pool import ASK_SECONDS, SAY_SECONDS, Notify, Pool
from benchmark.store.made import CHUNKS, Made, MadeBy, drop_open, write_made

POLL_SECONDS = 2.0
TIMES_MEDIAN = 3.0  # between two chunks, after which nothing coming is a stall
FIRST_RECORD_SECONDS, RECORD_SECONDS = 5.0, 30.0  # between two records of a run that has not ended; the first is early
# Nothing comes from encoders that work for so long, and for so many times as long as a chunk may take: somebody else is
# silent for good, such as the raylet of a node whose processes live.
STALL_SECONDS, STALL_TIMES = 120.0, 5.0
STALL_GRACE = 20.0  # in which the block is to be left, after an interrupt
LATE_SECONDS = 15.0  # that the ledger is waited for; Ray ends a process that has lost its cluster after 60


@dataclass(frozen=True)
class Told:
    """Whom a watch asks and tells.

    Attributes:
        storage: where the record goes.
        notify: takes each line for the person who watches.
        says_who: whether who encodes is worth a line: not on a single machine without GPUs.
        timeout: seconds that a chunk may take; None for what a watchdog takes by default.
    """

    storage: Storage
    ledger: Any
    pool: Pool
    notify: Notify
    says_who: bool
    timeout: float | None = None


class Watch:
    """Watches over a run of which so many chunks are to come. For a `with` block, in which they do.

    Raises:
        IcmBenchError: at the end of the block: nothing came from encoders that work, and the block was interrupted.
    """

    def __init__(self, made: Made, told: Told, chunks: int) -> None:
        self.made, self._told, self._left = made, told, chunks
        self._rows: list[dict[str, Any]] = []
        self._gaps, self._came = deque[float](maxlen=100), time.monotonic()
        self._known = self._replaced = 0  # encoders that were ready, and replaced, when a line was last said
        self._asked = self._spoke = self._recorded = time.monotonic()
        self._pause, self._deaf, self._last = FIRST_RECORD_SECONDS, False, list[EncoderState]()
        self._open, self._lock, self._end, self._stall = False, Lock(), Event(), ""
        self._interruptible = threading.current_thread() is threading.main_thread()  # no other thread can be
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._end.set()
        self._thread.join(LATE_SECONDS + 5)
        if self._told.pool.asked:
            with noted():  # where the cluster is gone, there is nothing to give back
                ask_for_gpus(0)
        with noted():  # no work is lost with a record
            encoders = self._encoders()
            self._say_replaced(encoders)  # who came in the last moment
            self._record(encoders, ended=error is None)
        if self._stall and kind is KeyboardInterrupt:
            raise IcmBenchError(self._stall) from None

    def came(self, counts: ChunkCounts) -> None:
        """Take in what came of a chunk."""
        now = time.monotonic()
        with self._lock:
            self._gaps.append(now - self._came)
            self._came, self._left = now, self._left - 1
            again, total = counts.again, counts.views + counts.before
            self.made = replace(
                self.made,
                embedded=self.made.embedded + (0 if again else total),
                lost=self.made.lost + (total if again else 0),
                reused=self.made.reused + counts.others,
                unreadable=self.made.unreadable + counts.unreadable,
            )
            if counts.tries:
                row = {"chunk": counts.number, "host": counts.host, "device": counts.device, "again": again}
                self._rows.append({**row, "seconds": counts.encode_s, "tries": counts.tries})

    def _run(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            with noted():  # the run itself fails where this does, with a sentence
                self._look()

    def _look(self) -> None:
        encoders, now = self._encoders(), time.monotonic()
        self._say_replaced(encoders)
        self._say_who(encoders)
        self._say_stall(encoders, now)
        self._end_stall(encoders, now)
        if self._told.pool.asked and now - self._asked >= ASK_SECONDS:
            self._asked = now
            ask_for_gpus(self._told.pool.gpus(self._left))  # what is left for the last ones needs no more
        if now - self._recorded >= self._pause and self._rows:
            self._record(encoders, ended=False)
            self._recorded = time.monotonic()
            # Were a record to take long, it would not be written again and again.
            self._pause = min(2 * self._pause, RECORD_SECONDS) + 20 * (self._recorded - now)

    def _encoders(self) -> list[EncoderState]:
        import ray

        if self._deaf:
            return self._last
        try:
            self._last = ray.get(self._told.ledger.state.remote(), timeout=LATE_SECONDS)
        except ray.exceptions.RayError:
            self._deaf = True  # a head that is lost is said by who watches over it
        return self._last

    def _say_replaced(self, encoders: Sequence[EncoderState]) -> None:
        for encoder in [e for e in encoders if e.silent][self._replaced :]:
            self._replaced += 1
            chunks = some(sorted(encoder.under_way))
            left = f"; what it had begun comes again: chunks {chunks}" if encoder.under_way else ""
            self._told.notify(
                f"the encoder on {encoder.device} of {encoder.host} is replaced, after {encoder.silent:.0f} s without "
                f"a word{left}"
            )

    def _say_who(self, encoders: Sequence[EncoderState]) -> None:
        ready = [encoder for encoder in encoders if encoder.ready]
        if self._told.says_who and len(ready) > self._known:
            places = Counter(f"{encoder.device} of {encoder.host}" for encoder in ready[self._known :])
            what = ", ".join(f"{count} on {place}" for place, count in places.most_common(4))
            more = f" and {len(places) - 4} further places" if len(places) > 4 else ""
            self._told.notify(f"encoders: {what}{more}; {sum(e.works for e in ready)} work now")
        self._known = len(ready)

    def _say_stall(self, encoders: Sequence[EncoderState], now: float) -> None:
        silent = now - self._came
        usual = statistics.median(self._gaps) if self._gaps else 0.0
        if silent < SAY_SECONDS or silent < TIMES_MEDIAN * usual or now - self._spoke < SAY_SECONDS:
            return
        self._spoke = now
        working = [encoder for encoder in encoders if encoder.works]
        starting = sum(not encoder.ready and not encoder.silent for encoder in encoders)
        waits = [(since, e.host, chunk) for e in working for chunk, since in e.under_way.items()]
        oldest = f"; chunk {min(waits)[2]} has been under way on {min(waits)[1]} the longest" if waits else ""
        self._told.notify(f"no chunk for {silent:.0f} s; {len(working)} encoders work, {starting} start{oldest}")

    def _end_stall(self, encoders: Sequence[EncoderState], now: float) -> None:
        working = sum(encoder.works for encoder in encoders)
        if not (working and self._interruptible) or any(not e.ready and not e.silent for e in encoders):
            return
        usual = statistics.median(self._gaps) * working if self._gaps else 0.0
        chunk = self._told.timeout or max(watchdog.MIN_SECONDS, watchdog.TIMES_MEDIAN * usual)
        chunk = chunk if self._gaps else max(chunk, watchdog.FIRST_SECONDS)
        silent = now - self._came
        if silent < max(STALL_SECONDS, STALL_TIMES * chunk):
            return
        self._record(encoders, ended=False)
        if self._end.is_set():
            return
        self._stall = (
            f"No chunk came for {silent:.0f} s, though {working} encoders work: what they wait for hangs, such as a "
            f"node or a mount. What is finished is kept: run the same command to go on."
        )
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes it up, too
        if not self._end.wait(STALL_GRACE):  # or interrupts are not heard, as in the background
            print(f"icm-bench: {self._stall}", file=sys.stderr, flush=True)
            os._exit(EXIT_USER_ERROR)

    def _record(self, encoders: Sequence[EncoderState], ended: bool) -> None:
        left = [() if ended and e.works else tuple(sorted(e.under_way)) for e in encoders]
        by = tuple(MadeBy(e.host, e.device, e.chunks, e.silent, c) for e, c in zip(encoders, left, strict=True))
        with self._lock:
            self.made = replace(self.made, encoders=by)
            made = replace(self.made, chunks=pa.Table.from_pylist(self._rows, schema=CHUNKS), ended=ended)
        write_made(self._told.storage, made, closed=ended)
        if ended and self._open:
            drop_open(self._told.storage, made)
        self._open = not ended
