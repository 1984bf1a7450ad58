"""A stalled run as a process: `python -m tests.embedding.stalled_run interruptible FOLDER`.

With `ignoring` the main thread ignores interrupts, as processes do that a shell starts in the background.
"""

import signal
import sys
import time
from collections.abc import Sequence

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.embedding import watch, watchdog
from benchmark.embedding.chunks import ChunkCounts
from benchmark.embedding.ledger import EncoderState
from benchmark.embedding.pool import Notify, Pool
from benchmark.embedding.watch import Watch, WatchedRun
from benchmark.store.made import Made

VIEWS = ("embeddings/a", "embeddings/b")
LEFT_BY_AN_ERROR = 3  # exit code


class WatchOf(Watch):
    """A watch over given encoders instead of those of a ledger."""

    def __init__(
        self, storage: Storage, notify: Notify, encoders: Sequence[EncoderState], autoscaled: bool = False
    ) -> None:
        made = Made("20260101T000000Z-0", "driver", "toy", "STAND-IN", VIEWS, reused=100, total=100 + 4 * 128)
        pool = Pool(4, 4, 1, on_gpus=True, autoscaled=autoscaled)
        super().__init__(made, WatchedRun(storage, None, pool, notify, lists_encoders=True), 4)
        self.encoders = list(encoders)

    def _encoders(self) -> list[EncoderState]:
        return self.encoders


def counts(number: int, tries: int = 1, views: int = 128, by_lost: int = 0, by_others: int = 0) -> ChunkCounts:
    """Return the counts of a chunk."""
    return ChunkCounts(
        encode_s=1.0, views_s=0.0, ceiling=1.0, ready=1.0, first=1.0, batch_size=1, number=number, encoder=0, host="a",
        device="L4", tries=tries, images=64, decoded=64, views=views, written_by_lost=by_lost,
        written_by_others=by_others, unreadable=0, finished=128, decode_s=1.0,
    )  # fmt: skip


def main(ignoring: bool, folder: str) -> None:
    """Wait for up to a minute; a second without a chunk counts as a stall."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignoring else signal.default_int_handler)
    watch.POLL_SECONDS, watch.STALL_SECONDS, watch.STALL_GRACE = 0.01, 1.0, 0.2 if ignoring else 30.0
    watchdog.MIN_SECONDS = 0.2
    encoder = EncoderState("", "a", "L4", 0.0, 0.0, ready_at=1.0)
    one = WatchOf(Storage(folder), print, [encoder, encoder])
    one.add(counts(0))
    try:
        with one:
            time.sleep(60)
    except IcmBenchError as error:
        print(f"error: {error}")
        sys.exit(LEFT_BY_AN_ERROR)


if __name__ == "__main__":
    main(sys.argv[1] == "ignoring", sys.argv[2])
