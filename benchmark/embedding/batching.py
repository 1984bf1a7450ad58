"""The thread that owns the device: it fills batches from the chunks of waiting calls and gives them their results."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore, Condition, Thread
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.embedding.chunks import DecodedChunk, EncoderFigures

POLL_SECONDS = 0.002  # seconds between two looks whether the device has ended a batch, while no other batch is full


class OutOfDeviceMemory(Exception):
    """A batch does not fit into the device's memory."""


@dataclass(frozen=True)
class Limits:
    """Maximum numbers of chunks of one encoder.

    Attributes:
        calls: calls of the actor at a time: chunks that wait, are on the device, or are written.
        staged: chunks that wait for the device with their pixels at hand, or are on it.
        begun: chunks that the device has begun and that are not yet written, which a kill loses.
        writes: parts that are written at a time.
    """

    calls: int
    staged: int
    begun: int
    writes: int


@dataclass(eq=False)
class WaitingChunk:
    """A chunk with readable images that wait for the device or are on it.

    Attributes:
        embeddings: the results, shape (images, missing views, D).
        staged: the pixels, as `BatchEncoder.stage` returned them.
        done: is set when all results are there.
        next: number of readable images that batches have taken.
        device_s, views_s: seconds of the device on this chunk, and of making its views.
        has_begun: whether a batch has taken images.
    """

    chunk: DecodedChunk
    embeddings: NDArray[np.float32]
    staged: Any = None
    done: "Future[None]" = field(default_factory=Future)
    next: int = 0
    device_s: float = 0.0
    views_s: float = 0.0
    has_begun: bool = False

    def __post_init__(self) -> None:
        self.images, self.views = len(self.chunk.readable), self.chunk.positions
        self.left = self.images * len(self.views)  # results that are not there yet


@dataclass(frozen=True)
class Part:
    """Images of one chunk in a batch: the readable images `first` to `stop` (exclusive), in all missing views."""

    waiting: WaitingChunk
    first: int
    stop: int


class Running(NamedTuple):
    """A batch on the device: its parts, the encoder's handle, and when it was started."""

    parts: list[Part]
    handle: Any
    began: float


def by_view(parts: Sequence[Part]) -> dict[int, list[Part]]:
    """Return view -> the parts that lack it, by ascending view: the order of a batch's embeddings."""
    views = sorted({view for part in parts for view in part.waiting.views})
    return {view: [part for part in parts if view in part.waiting.views] for view in views}


class BatchEncoder(Protocol):
    """What the thread drives: a model on a device.

    Attributes:
        batch_size: number of views of a batch.
        min_images: minimum number of images of a full batch, also if they have more views than `batch_size`.
        depth: number of batches on the device at a time: 2 if calls return before the device is done, else 1.
        dim: embedding width D.
    """

    batch_size: int
    min_images: int
    depth: int
    dim: int

    def stage(self, chunk: DecodedChunk) -> Any:
        """Return the pixels of a chunk, ready to be sent to the device. Called by several threads."""

    def launch(self, parts: list[Part]) -> Any:
        """Start a batch and return a handle, without waiting for the device. May raise OutOfDeviceMemory."""

    def has_ended(self, handle: Any) -> bool:
        """Return whether `collect` would not wait."""

    def collect(self, handle: Any) -> tuple[NDArray[np.float32], float]:
        """Wait for a batch; return its embeddings in the order of `by_view`, and the seconds of making views."""

    def shrink(self) -> None:
        """Halve the batch, or raise the error that not even one image fits."""

    def figures(self) -> EncoderFigures:
        """Return the encoder's figures so far; those of chunks are zero."""


class Batcher:
    """The device's thread. `encode` may be called by several threads at a time, and blocks until its chunk is done.

    While a batch is computed, the next one is already queued on the device, and the previous one is handed back. An
    idle device takes what waits; otherwise a batch is started when it is full. On a GPU, chunks share a batch, also if
    they lack different views.

    Args:
        make: makes the encoder, in the device's thread.
        limits: maximum numbers of chunks.
        busy: context manager around each step of the device.
        begin: called with a chunk when its first images go to the device.
    """

    def __init__(
        self,
        make: Callable[[], BatchEncoder],
        limits: Limits,
        busy: Callable[[], AbstractContextManager[None]] = nullcontext,
        begin: Callable[[DecodedChunk], object] = lambda _: None,
    ) -> None:
        self._make, self._limits, self._busy, self._begin = make, limits, busy, begin
        self._encoder: Future[BatchEncoder] = Future()
        self._slots = BoundedSemaphore(limits.staged)
        self._waiting: deque[WaitingChunk] = deque()
        self._begun = 0  # chunks that the device has begun and `release` has not ended
        self._changed = Condition()
        self._ended_at = self._stalled_s = 0.0  # end of the last batch; seconds in which only writing held chunks back
        Thread(target=self._run, name="device", daemon=True).start()

    def wait_for_start(self) -> None:
        """Wait until the encoder is made. If that failed, `encode` raises the error."""
        self._encoder.exception()

    def encode(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures]:
        """Return the embeddings of a chunk's missing views, shape (images, missing views, D), and the figures.

        The embeddings of unreadable images are zero. Call `release` when the embeddings of the chunk are written.
        """
        encoder, views = self._encoder.result(), len(chunk.positions)
        with self._slots:
            one = WaitingChunk(chunk, np.zeros((len(chunk.images), views, encoder.dim), np.float32))
            if views and len(chunk.readable):
                one.staged = encoder.stage(chunk)
                with self._changed:
                    self._waiting.append(one)
                    self._changed.notify()
                try:
                    one.done.result()
                except Exception:  # raised again below: a chunk that failed is no longer in flight
                    self.release(chunk)
                    raise
            elif views:
                self._begin(chunk)
        figures = replace(encoder.figures(), encode_s=one.device_s, views_s=one.views_s, stalled_s=self._stalled_s)
        return one.embeddings, figures

    def release(self, chunk: DecodedChunk) -> None:
        """Record that the embeddings of a chunk which `encode` returned are written, or never will be."""
        if chunk.positions and len(chunk.readable):
            with self._changed:
                self._begun -= 1
                self._changed.notify()

    def _run(self) -> None:
        try:
            self._encoder.set_result(encoder := self._make())
        except BaseException as error:
            self._encoder.set_exception(error)
            return
        running: deque[Running] = deque()  # batches on the device, the oldest first
        while True:
            parts = self._next_batch(encoder, running[0].handle if running else None)
            with self._busy():
                launched = self._launched(encoder, parts) if parts else None
                if launched:
                    running.append(launched)
                if running and (not launched or len(running) >= encoder.depth):
                    batch = running.popleft()
                    try:
                        self._collect(encoder, batch)
                    except Exception as error:
                        self._fail(batch.parts, error)

    def _next_batch(self, encoder: BatchEncoder, running: Any) -> list[Part]:
        """Return a full batch, if there is one before the running batch ends; without such a batch, what waits."""
        with self._changed:
            while not (parts := self._parts(encoder, running is None)):
                began = time.perf_counter()
                stalled = running is None and bool(self._waiting)  # the limit of chunks that are begun is reached
                if running is not None and encoder.has_ended(running):
                    return []
                self._changed.wait(None if running is None else POLL_SECONDS)
                self._stalled_s += (time.perf_counter() - began) * stalled
            for part in parts:
                if part.first == 0 and not part.waiting.has_begun:
                    part.waiting.has_begun = True
                    self._begun += 1
                    self._begin(part.waiting.chunk)
                part.waiting.next = part.stop
                if part.stop == part.waiting.images:
                    self._waiting.popleft()
        return parts

    def _parts(self, encoder: BatchEncoder, is_idle: bool) -> list[Part]:
        """Return the parts of the next batch; none if they fill no batch and the device is not idle."""
        parts: list[Part] = []
        views, images, free = encoder.batch_size, encoder.min_images, self._limits.begun - self._begun
        for one in self._waiting:
            free -= not one.has_begun
            count = max(views // len(one.views), images)
            if count <= 0 or free < 0 or (parts and encoder.depth == 1):
                return parts if count <= 0 or is_idle else []
            left = one.images - one.next
            parts.append(Part(one, one.next, one.next + min(count, left)))
            views, images = views - left * len(one.views), images - left
        return parts if is_idle or (views <= 0 and images <= 0) else []

    def _launched(self, encoder: BatchEncoder, parts: list[Part]) -> Running | None:
        """Start a batch. Without enough memory, halve the batch size and put the images back."""
        began = time.perf_counter()
        try:
            return Running(parts, encoder.launch(parts), began)
        except OutOfDeviceMemory:
            pass
        except Exception as error:
            self._fail(parts, error)
            return None
        try:  # outside the handler above, which would keep the failed tensors alive
            encoder.shrink()
        except Exception as error:
            self._fail(parts, error)
            return None
        with self._changed:
            for part in reversed(parts):
                part.waiting.next = part.first
                if not self._waiting or self._waiting[0] is not part.waiting:
                    self._waiting.appendleft(part.waiting)
        return None

    def _collect(self, encoder: BatchEncoder, batch: Running) -> None:
        """Wait for a batch and hand its embeddings to the chunks."""
        z, views_s = encoder.collect(batch.handle)
        now = time.perf_counter()
        seconds, self._ended_at = now - max(batch.began, self._ended_at), now
        row = 0
        for view, parts in by_view(batch.parts).items():
            for part in parts:
                one, count = part.waiting, part.stop - part.first
                rows = one.chunk.readable[part.first : part.stop]
                one.embeddings[rows, one.views.index(view)] = z[row : row + count]
                one.device_s += seconds * count / len(z)
                one.views_s += views_s * count / len(z)
                one.left -= count
                row += count
        for one in {part.waiting for part in batch.parts}:
            if one.left == 0 and not one.done.done():
                one.done.set_result(None)

    def _fail(self, parts: list[Part], error: Exception) -> None:
        """Give the error to the chunks of a batch, and drop what waits of them."""
        failed = {part.waiting for part in parts}
        with self._changed:
            self._waiting = deque(one for one in self._waiting if one not in failed)
            for one in failed:
                if not one.done.done():
                    one.done.set_exception(error)
