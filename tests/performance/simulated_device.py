"""A GPU as one serial queue whose every piece of work ends at a known moment, and an encoder on it. SIMULATED.

The host's part is real: the copy into the staging buffer, the launch (which holds Python's lock), and the results. The
embeddings are the grey levels of `tests/stand_in.py` plus the number of the view, behind them constant noise.
"""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from tests.stand_in import DIM, grey_levels

if TYPE_CHECKING:
    from benchmark.embedding.batching import Part

BATCH = 512
NO_BUFFER = np.empty(0, np.uint8)


@dataclass(frozen=True)
class Device:
    """What the device takes: `call_s + view_s * n` seconds for a forward call of n views, view making included.

    Attributes:
        launch_s: seconds for which the launch of a call holds Python's lock.
        pinned, unpinned: bytes/s of copies to the device, in the same queue.
        fault: a planted fault. `wait`: pixels are staged in the launch, which returns when the device has ended, so that
            nothing is prepared meanwhile; `unpinned`: copies are not pinned,
            and block their caller; `padding`: each chunk in a batch is padded to 512 views.
    """

    view_s: float
    call_s: float = 0.003
    launch_s: float = 0.002
    pinned: float = 25e9
    unpinned: float = 6e9
    fault: str = ""

    @property
    def best_rate(self) -> float:
        """Views/s in full batches, without copies and launches."""
        return BATCH / (self.call_s + BATCH * self.view_s)


VIT_L_14, VIT_B_32 = Device(0.001 / 3), Device(0.001 / 25)
INSTANT = Device(1e-12, call_s=0.0, launch_s=0.0, pinned=float("inf"))


class SerialQueue:
    """Work that begins when the work before it has ended."""

    def __init__(self) -> None:
        self.free_at = 0.0  # of the clock `time.perf_counter`

    def add(self, seconds: float) -> float:
        """Queue so many seconds of work; return the moment at which they end."""
        self.free_at = max(self.free_at, time.perf_counter()) + seconds
        return self.free_at

    def wait(self, end: float) -> None:
        """Sleep until a moment."""
        while (left := end - time.perf_counter()) > 0:
            time.sleep(left)


class Handle(NamedTuple):
    """A batch in the queue: its parts and results, the beginning of its launch, and the end of its work."""

    parts: "list[Part]"
    z: NDArray[np.float32]
    began: float
    end: float


class SimulatedEncoder:
    """An encoder on a simulated device, see `batching.BatchEncoder`. `simulated` gives it a device and a log."""

    batch_size, min_images, depth = BATCH, 1, 2
    device: Device
    log: Path | None = None  # gets a line for each batch: begin of its launch, its end (of `time.perf_counter`), views
    is_ready: Path | None = None  # exists as soon as there is an encoder

    def __init__(self, _: Any, facts: Any, *__: Any) -> None:
        self.dim, self.queue, self._ready = facts.dim, SerialQueue(), time.time()
        self._noise = np.random.default_rng(0).random((BATCH, self.dim), np.float32)
        self._buffers: deque[NDArray[np.uint8]] = deque()  # as pinned memory is, they are used again
        self._lines = self.log.open("a", buffering=1) if self.log else None
        if self.is_ready:
            self.is_ready.touch()

    def stage(self, chunk: DecodedChunk) -> NDArray[np.uint8]:
        """Copy the pixels, as `Encoder` does."""
        shape = (len(chunk.readable), *chunk.pixels.shape[1:])
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = NO_BUFFER
        staged = buffer[: shape[0]] if buffer.shape[0] >= shape[0] and buffer.shape[1:] == shape[1:] else None
        staged = np.empty(shape, np.uint8) if staged is None else staged
        return np.take(chunk.pixels, chunk.readable, axis=0, out=staged, mode="clip")

    def launch(self, parts: "list[Part]") -> Handle:
        """Queue the copies and the forward call."""
        from benchmark.embedding.batching import by_view  # earlier commits have none

        began = time.perf_counter()
        pieces = {part: part.waiting.staged[part.first : part.stop] for part in parts}
        for part, piece in pieces.items():
            pieces[part] = piece.copy() if self.device.fault == "wait" else piece
            self._copy(piece.nbytes)
        padded = self.device.fault == "padding"
        sizes = [len(pieces[part]) * len(part.waiting.views) for part in parts]
        end = self._forward([BATCH] * len(parts) if padded else [sum(sizes)])
        grey = {part: grey_levels(piece) for part, piece in pieces.items()}
        z, row = self._noise[: sum(sizes)].copy(), 0
        for view, lacking in by_view(parts).items():
            for part in lacking:
                z[row : row + len(grey[part]), :DIM] = grey[part] + np.float32(view)
                row += len(grey[part])
        if self.device.fault == "wait":
            self.queue.wait(end)
        return Handle(parts, z, began, end)

    def _copy(self, count: int) -> None:
        """Queue the copy of so many bytes to the device."""
        if self.device.fault == "unpinned":
            self.queue.wait(self.queue.add(count / self.device.unpinned))
        else:
            self.queue.add(count / self.device.pinned)

    def _forward(self, sizes: Iterable[int]) -> float:
        """Launch calls of so many views; return the end of the last."""
        end = 0.0
        for size in sizes:
            launched = time.perf_counter() + self.device.launch_s
            while time.perf_counter() < launched:
                pass
            end = self.queue.add(self.device.call_s + self.device.view_s * size)
        return end

    def has_ended(self, handle: Handle) -> bool:
        """Return whether the moment is past."""
        return time.perf_counter() >= handle.end

    def collect(self, handle: Handle) -> tuple[NDArray[np.float32], float]:
        """Sleep until the batch has ended, which drains the queue up to it."""
        self.queue.wait(handle.end)
        if self._lines:
            self._lines.write(f"{handle.began} {handle.end} {len(handle.z)}\n")
        # Batches end in order: all of a chunk whose last images have ended.
        self._buffers.extend(part.waiting.staged for part in handle.parts if part.stop == part.waiting.images)
        return handle.z, 0.0

    def shrink(self) -> None:
        """Fail: the batcher shrinks a batch only after `OutOfDeviceMemory`, which `launch` never raises here."""
        raise AssertionError("a simulated device has no limit of memory")

    def figures(self) -> EncoderFigures:
        """Return what the encoder of a run without figures would."""
        return EncoderFigures(0.0, 0.0, self.device.best_rate, self._ready, time.time(), self.batch_size)

    def __call__(self, chunk: Any) -> tuple[NDArray[np.float32], EncoderFigures]:
        """Embed a chunk alone, waiting after each group of images, as the encoder of commits up to e35b93a did."""
        views = [bit for bit in range(chunk.lacking.bit_length()) if chunk.lacking >> bit & 1]
        embeddings = np.zeros((len(chunk.images), len(views), self.dim), np.float32)
        group, began = max(32, BATCH // max(1, len(views))), time.perf_counter()
        for first in range(0, len(chunk.readable) if views else 0, group):
            rows = chunk.readable[first : first + group]
            pixels = chunk.pixels[rows].copy()  # the second copy is that into pinned memory
            self._copy(pixels.nbytes)
            left = len(rows) * len(views)
            end = self._forward([min(BATCH, left - i) for i in range(0, left, BATCH)])
            for position, view in enumerate(views):
                embeddings[rows, position] = self._noise[: len(rows)]
                embeddings[rows, position, :DIM] = grey_levels(pixels) + np.float32(view)
            self.queue.wait(end)
            if self._lines:
                self._lines.write(f"{began} {end} {left}\n")
        return embeddings, self.figures()


def simulated(of_device: Device, folder: Path) -> type:
    """Return the class of an encoder on the device, with the files `log` and `ready` in a folder."""

    class Simulated(SimulatedEncoder):
        device, log, is_ready = of_device, folder / "log", folder / "ready"

    return Simulated
