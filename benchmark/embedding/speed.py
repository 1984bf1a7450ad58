"""Speed and counts of an embedding run, for messages, `speed.json` of the store, and costs of plans."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmark.common.terminal.progress import Progress
from benchmark.embedding.chunks import ChunkCounts


# Some fields are also fields of `Cost` (store/costs.py): commands/embed.py copies them by their names.
@dataclass
class Speed:
    """Speed of an embedding run by stage. Pairs are (image, view) pairs.

    Attributes:
        views: number of pairs encoded.
        images: number of images decoded for them.
        seconds: seconds from the first ready encoder to the last written part.
        start_up: seconds from the start of the pipeline to the first ready encoder: workers, weights, warm-up.
        first_embedding: seconds from the start of the command, or of `embed`, to the first embeddings.
        first_part: seconds from the first embeddings until all views of one chunk are written.
        decode: images/s per decoding core.
        make_views: pairs/s of one encoder's interventions; means little on a GPU, where calls only queue work.
        encode: pairs/s of one busy encoder, interventions included.
        ceiling: pairs/s of full batches through the bare model: median per encoder, mean over chunks.
        waited: share of an encoder's time in which the device waited only for the store to write.
        actors: number of encoders that embedded something and were not lost.
        cores: CPU threads per encoder; 0 on a GPU.
        batch_size: views per forward pass at the end of the run, minimum over encoders.
        device: device of the encoders: cuda, mps or cpu.
        memory: peak bytes of an encoder, maximum over encoders, see `machine.peak_memory`; 0 if unknown.
        gpu: GPU model of all encoders; empty without GPUs, with several models, or if unknown.
    """

    views: int = 0
    images: int = 0
    seconds: float = 0.0
    start_up: float = 0.0
    first_embedding: float = 0.0
    first_part: float = 0.0
    decode: float = 0.0
    make_views: float = 0.0
    encode: float = 0.0
    ceiling: float = 0.0
    waited: float = 0.0
    actors: int = 0
    cores: int = 0
    batch_size: int = 0
    device: str = "cpu"
    memory: int = 0
    gpu: str = ""

    @property
    def end_to_end(self) -> float:
        """Pairs/s of all encoders together, start-up excluded."""
        return self.views / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """End-to-end speed divided by the speed of the bare models of all encoders; 0 if unknown.

        The speed of the bare models is unknown if the run exceeds it: then it was measured while something else ran.
        """
        share = self.end_to_end / (self.actors * self.ceiling) if self.actors and self.ceiling else 0.0
        return share if share <= 1 else 0.0

    @property
    def limit(self) -> str:
        """What limits the speed: `reading and decoding`, `writing to the store` or `the encoder`."""
        if self.waited > 0.2:
            return "writing to the store"
        busy = self.end_to_end / (self.actors * self.encode) if self.encode else 0.0
        return "reading and decoding" if busy < 0.8 else "the encoder"

    def text(self) -> str:
        """Return the figures as one line of text."""
        where = f"{self.cores} cores each" if self.cores else "one GPU each"
        memory = f", at most {self.memory / 2**30:.1f} GiB each" if self.memory else ""
        share = f" = {self.share:.0%} of the bare encoder" if self.share else ""
        rate = self.images / self.seconds if self.seconds else 0.0
        return (
            f"{rate:.1f} images/s, {self.end_to_end:.1f} views/s{share}, limited by {self.limit}; "
            f"{self.images} images, {self.views} views in {self.seconds:.1f} s, the first embedding after "
            f"{self.first_embedding:.1f} s; "
            f"{self.actors} on {self.device}, {where}, batch {self.batch_size}{memory}; alone, decoding would make "
            f"{self.decode:.0f} images/s per core, the encoder {self.encode:.1f} views/s"
        )


class Tally:
    """Accumulates the counts of chunks into a `Speed` and a progress bar."""

    def __init__(self, speed: Speed, progress: Progress) -> None:
        self._speed, self._progress = speed, progress
        self._total: Counter[str] = Counter()
        self._ready = self._first = math.inf
        self._last = 0.0
        self._batch_sizes: dict[int, int] = {}  # encoder -> its batch size, since GPUs may differ
        self._devices: set[str] = set()
        self._stalled: dict[int, float] = {}  # encoder -> its seconds so far of waiting for the store

    def add(self, counts: ChunkCounts) -> None:
        """Add the counts of a chunk."""
        speed, self._last = self._speed, time.time()
        speed.first_part = speed.first_part or self._last
        self._first, self._ready = min(self._first, counts.first), min(self._ready, counts.ready)
        if counts.batch_size < self._batch_sizes.get(counts.encoder, 0):
            self._progress.notify(f"out of memory: batch size reduced to {counts.batch_size} views")
        self._batch_sizes[counts.encoder] = counts.batch_size
        self._devices.add(counts.device)
        self._stalled[counts.encoder] = max(counts.stalled_s, self._stalled.get(counts.encoder, 0.0))
        speed.memory = max(speed.memory, counts.memory)
        figures = {name: value for name, value in vars(counts).items() if not isinstance(value, str)}
        self._total.update({"chunks": 1, **figures})
        self._progress.update(counts.finished, f"{self._total['images']} images", counts.views + counts.unreadable)

    def close(self, encoders: int) -> None:
        """Compute the figures after the last chunk; `encoders` counts those that embedded something, 0 if unknown.

        `start_up` and `first_embedding` become Unix times; the pipeline then subtracts the start of the run from both.
        """
        speed, total = self._speed, self._total
        speed.actors = encoders or len(self._batch_sizes)
        speed.batch_size = min(self._batch_sizes.values(), default=0)
        kind = self._devices.pop() if len(self._devices) == 1 else ""
        speed.gpu = kind if kind not in ("cpu", "gpu") else ""
        speed.views, speed.images = total["views"], total["decoded"]
        speed.start_up, speed.seconds = self._ready, self._last - self._ready
        speed.first_embedding, speed.first_part = self._first, speed.first_part - self._first
        speed.decode = _rate(total["decoded"], total["decode_s"])
        speed.make_views = _rate(total["views"], total["views_s"])
        speed.encode = _rate(total["views"], total["encode_s"])
        speed.ceiling = total["ceiling"] / max(1, total["chunks"])
        speed.waited = _rate(sum(self._stalled.values()), speed.seconds * speed.actors)


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds else 0.0


@dataclass
class EmbedReport:
    """Counts of an embedding run. Pairs are (image, view) pairs.

    Attributes:
        images: number of images of the data set, unreadable ones included.
        embedded: number of pairs that were computed once.
        reused: number of pairs that were in the store before, or that another process has written in the meantime.
        lost: number of pairs that were computed twice because the encoder that began their chunk was lost.
        unreadable: number of pairs of unreadable images in the chunks of this run.
        total: number of pairs of all distinct images: the sum of the four counts above.
        rejected: path of each unreadable image -> reason, in manifest order.
        speed: speed of the run; None if nothing was embedded.
    """

    images: int
    embedded: int = 0
    reused: int = 0
    lost: int = 0
    unreadable: int = 0
    total: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    speed: Speed | None = None

    def text(self) -> str:
        """Return the counts as text: `72 views embedded, 24 reused, 8 computed again, 4 unreadable = 108`."""
        rare = {"computed again": self.lost, "unreadable": self.unreadable}
        others = "".join(f", {count} {name}" for name, count in rare.items() if count)
        return f"{self.embedded} views embedded, {self.reused} reused{others} = {self.total}"
