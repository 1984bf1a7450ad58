"""A run of encoders that work and of which nothing comes, as a process: `python -m tests.embedding.stalled_run hears FOLDER`.

With `hears` the main thread hears of interrupts; with `deaf` it does not, as what a shell starts in the background.
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
from benchmark.embedding.watch import Told, Watch
from benchmark.store.made import Made

VIEWS = ("embeddings/a", "embeddings/b")
LEFT_BY_AN_ERROR = 3  # exit code


class WatchOf(Watch):
    """A watch over encoders that are given, in the place of those of a ledger."""

    def __init__(self, storage: Storage, notify: Notify, encoders: Sequence[EncoderState], asked: bool = False) -> None:
        made = Made("20260101T000000Z-0", "driver", "toy", "STAND-IN", VIEWS, reused=100, total=100 + 4 * 128)
        pool = Pool(4, 4, 1, on_gpus=True, asked=asked)
        super().__init__(made, Told(storage, None, pool, notify, says_who=True), 4)
        self.encoders = list(encoders)

    def _encoders(self) -> list[EncoderState]:
        return self.encoders


def counts(number: int, tries: int = 1, views: int = 128, before: int = 0, others: int = 0) -> ChunkCounts:
    """Return what comes of a chunk."""
    return ChunkCounts(
        encode_s=1.0, views_s=0.0, ceiling=1.0, ready=1.0, first=1.0, batch_size=1, number=number, encoder=0, host="a",
        device="L4", tries=tries, images=64, decoded=64, views=views, before=before, others=others, unreadable=0,
        finished=128, decode_s=1.0,
    )  # fmt: skip


def main(deaf: bool, folder: str) -> None:
    """Wait for a minute, in which nothing comes for a second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    watch.POLL_SECONDS, watch.STALL_SECONDS, watch.STALL_GRACE = 0.01, 1.0, 0.2 if deaf else 30.0
    watchdog.MIN_SECONDS = 0.2
    encoder = EncoderState("", "a", "L4", 0.0, 0.0, ready=1.0)
    one = WatchOf(Storage(folder), print, [encoder, encoder])
    one.came(counts(0))
    try:
        with one:
            time.sleep(60)
    except IcmBenchError as error:
        print(f"said: {error}")
        sys.exit(LEFT_BY_AN_ERROR)


if __name__ == "__main__":
    main(sys.argv[1] == "deaf", sys.argv[2])
