"""How fast an embedding run went, and what it did."""

import math
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmark.common.terminal.progress import Progress
from benchmark.embedding.chunks import ChunkCounts


@dataclass
class Speed:
    """How fast a run went, stage by stage.

    Attributes:
        views: number of (image, view) pairs that were encoded.
        seconds: seconds from the moment the first encoder was ready to the last part written.
        start_up: seconds from the start of the stage to that moment: workers, weights, warm-up.
        first_embedding: seconds from the start of the command, or of the stage, until the first embeddings were there.
        first_part: seconds from then until the first part was on disk: a chunk of images with all views.
        decode: images/s of one decoding core.
        make_views: (image, view) pairs/s of one encoder's interventions; on a GPU, where they only are
            queued, this says little.
        encode: pairs/s of one encoder actor, interventions included, while it works.
        ceiling: pairs/s of full batches through the bare model, their median, on average over actors.
        of_gemm: the bare model's FLOP/s as a share of those of a large matrix product on the same device, on average
            over actors; 0 where it is not known.
        actors: number of encoders that embedded something, without those that were lost.
        cores: number of CPU threads of each actor; 0 on a GPU.
        batch_size: number of views in a forward pass at the end of the run, of the encoder with fewest: it is halved
            when memory runs out.
        device: where the encoders ran: cuda, mps or cpu.
        memory: bytes that the encoder with most of them took: see `machine.peak_memory`; 0 where it is not known.
        gpu: kind of GPU that all encoders had; empty without GPUs, and where it is not known.
    """

    views: int = 0
    seconds: float = 0.0
    start_up: float = 0.0
    first_embedding: float = 0.0
    first_part: float = 0.0
    decode: float = 0.0
    make_views: float = 0.0
    encode: float = 0.0
    ceiling: float = 0.0
    of_gemm: float = 0.0
    actors: int = 0
    cores: int = 0
    batch_size: int = 0
    device: str = "cpu"
    memory: int = 0
    gpu: str = ""

    @property
    def end_to_end(self) -> float:
        """Pairs/s of all actors together, start-up excluded."""
        return self.views / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """End-to-end speed as a share of what the bare models could do."""
        return self.end_to_end / (self.actors * self.ceiling) if self.actors and self.ceiling else 0.0

    def text(self) -> str:
        """Return the figures in a line or two."""
        where = f"{self.cores} cores each" if self.cores else "one GPU each"
        busy = self.end_to_end / (self.actors * self.encode) if self.encode else 0.0
        gemm = f", {self.of_gemm:.0%} of the matrix product's FLOP/s" if self.of_gemm else ""
        memory = f", at most {self.memory / 2**30:.1f} GiB each" if self.memory else ""
        slowest = "reading and decoding" if busy < 0.8 else "the encoder"
        return (
            f"first embedding after {self.first_embedding:.1f} s, first part on disk {self.first_part:.1f} s later; "
            f"then {self.views} views in {self.seconds:.1f} s, {self.end_to_end:.1f} views/s end to end = "
            f"{self.share:.0%} of the bare encoder's {self.actors * self.ceiling:.1f} ({self.actors} on {self.device}, "
            f"{where}, batch {self.batch_size}{gemm}{memory}); decoding {self.decode:.0f} images/s per core, "
            f"interventions {self.make_views:.0f} views/s, encoder with them {self.encode:.1f} views/s; "
            f"limited by {slowest}"
        )


class Tally:
    """Adds up the counts of chunks as they come."""

    def __init__(self, speed: Speed, progress: Progress) -> None:
        self._speed, self._progress = speed, progress
        self._total: Counter[str] = Counter()
        self._ready = self._first = math.inf
        self._last = 0.0
        self._batch_sizes: dict[int, int] = {}  # of each encoder: unlike GPUs have unlike ones
        self._devices: set[str] = set()

    def add(self, counts: ChunkCounts) -> None:
        """Take in what came of a chunk."""
        speed, self._last = self._speed, time.time()
        speed.first_part = speed.first_part or self._last
        self._first, self._ready = min(self._first, counts.first), min(self._ready, counts.ready)
        if counts.batch_size < self._batch_sizes.get(counts.encoder, 0):
            self._progress.notify(f"memory ran out: {counts.batch_size} views in a forward pass from now on")
        self._batch_sizes[counts.encoder] = counts.batch_size
        self._devices.add(counts.device)
        speed.memory = max(speed.memory, counts.memory)
        figures = {name: value for name, value in vars(counts).items() if not isinstance(value, str)}
        self._total.update({"chunks": 1, **figures})
        self._progress.update(counts.finished, f"{self._total['images']} images", counts.views + counts.unreadable)

    def close(self, encoders: int) -> None:
        """Work out the figures, after the last chunk."""
        speed, total = self._speed, self._total
        speed.actors = encoders or len(self._batch_sizes)
        speed.batch_size = min(self._batch_sizes.values(), default=0)
        kind = self._devices.pop() if len(self._devices) == 1 else ""
        speed.gpu = kind if kind not in ("cpu", "gpu") else ""
        speed.views = total["views"]
        speed.start_up, speed.seconds = self._ready, self._last - self._ready
        speed.first_embedding, speed.first_part = self._first, speed.first_part - self._first
        speed.decode = _rate(total["decoded"], total["decode_s"])
        speed.make_views = _rate(total["views"], total["views_s"])
        speed.encode = _rate(total["views"], total["encode_s"])
        speed.ceiling = total["ceiling"] / max(1, total["chunks"])
        speed.of_gemm = total["of_gemm"] / max(1, total["chunks"])


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds else 0.0


@dataclass
class EmbedReport:
    """What an embedding run did.

    Attributes:
        images: number of images of the data set, rejected ones included.
        embedded: number of (image, view) pairs computed now, once.
        reused: number of pairs that the store had, or got from another process meanwhile.
        lost: number of pairs computed now for the second time: an encoder was lost that had begun their chunks.
        unreadable: number of pairs of chunks embedded now whose images cannot be read.
        total: number of pairs of distinct images and views: the sum of these four.
        rejected: path of each image that cannot be read -> reason, in manifest order.
        speed: how fast it went; None where nothing was embedded.
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
        """Return the counts in words: `72 views embedded, 24 reused, 8 computed again, 4 unreadable = 108`."""
        rare = {"computed again": self.lost, "unreadable": self.unreadable}
        said = "".join(f", {count} {what}" for what, count in rare.items() if count)
        return f"{self.embedded} views embedded, {self.reused} reused{said} = {self.total}"
