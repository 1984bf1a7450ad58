"""The encoder of the pipeline: makes the views of a batch of images on the device, and embeds them."""

import platform
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import peak_memory
from benchmark.embedding.batching import OutOfDeviceMemory, Part, by_view
from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from benchmark.store.embeddings import View

if TYPE_CHECKING:
    import torch

CPU_BATCH = 32  # larger batches are no faster on a CPU
GPU_BATCH = 512  # larger batches are no faster on a GPU
MEMORY_SHARE = 0.7  # share of the free device memory that activations may use
GROUP = 32  # minimum number of images whose views are made at a time on a CPU


def batch_that_fits(free_bytes: float, bytes_per_view: float) -> int:
    """Return the batch size: the largest power of two, up to `GPU_BATCH`, whose activations fit into memory."""
    fits = MEMORY_SHARE * free_bytes / max(bytes_per_view, 1.0)
    return int(2 ** max(0, min(int(np.log2(GPU_BATCH)), int(np.log2(max(fits, 1.0))))))


class Encoder:
    """A backbone on its device, which makes the views of a batch and embeds them; see `batching.BatchEncoder`.

    With `batch_size` None, the batch size is `CPU_BATCH`, or as large as the GPU's memory allows. With `threads` None,
    torch's default is used. On a GPU, nothing here waits for the device but `collect`.

    Raises:
        IcmBenchError: the weights on this node differ from `facts`, or not even one image fits into memory.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        facts: BackboneFacts,
        views: Sequence[View],
        batch_size: int | None,
        threads: int | None,
        compile_model: bool,
    ) -> None:
        import ray
        import torch

        from benchmark.backbones.engines import ConvertedTower, is_converted
        from benchmark.common.ray.cluster import device_of_worker

        if threads:
            torch.set_num_threads(threads)
        # Encoders on CPUs have a number of threads; another one may have been given a GPU by Ray.
        device = "cpu" if threads else best_device(ray.is_initialized() and device_of_worker() != "cpu")
        # A converted tower in the cache loads faster than the backbone.
        converted = spec.engine == "openvino" and device == "cpu" and is_converted(facts)
        tower = ConvertedTower(facts) if converted else Backbone(spec, device, compile_model, facts)
        self._backbone: Backbone | ConvertedTower = tower
        self._views, self._compiled, self.dim = views, compile_model, facts.dim
        self._cuda = self._backbone.device.type == "cuda"
        self.depth, self.min_images = (2, 1) if self._cuda else (1, GROUP)
        # Copies to the GPU run beside its computations.
        self._copies: Any = torch.cuda.Stream() if self._cuda else None
        self.batch_size = batch_size or (self._fitting_batch() if self._cuda else CPU_BATCH)
        self._batch_rates: deque[float] = deque(maxlen=100)  # views/s of the last full batches
        self._warm_up()
        if spec.engine == "openvino" and torch.get_num_threads() == 2:
            # OpenVINO has its own threads by now; a second torch thread slows interventions down.
            torch.set_num_threads(1)
        self._ready = time.time()
        self._first = 0.0  # Unix time of the first embeddings

    def figures(self) -> EncoderFigures:
        """Return the encoder's figures; the seconds of single chunks are zero."""
        return EncoderFigures(
            encode_s=0.0,
            views_s=0.0,
            ceiling=statistics.median(self._batch_rates) if self._batch_rates else 0.0,
            ready=self._ready,
            first=self._first or time.time(),
            batch_size=self.batch_size,
            memory=peak_memory(self._backbone.device.type),
        )

    def stage(self, chunk: DecodedChunk) -> "torch.Tensor":
        """Return the pixels of the readable images: copied once, into pinned memory for a GPU."""
        import torch

        # A chunk's pixels are read-only, which torch does not support.
        shape = (len(chunk.readable), *chunk.pixels.shape[1:])
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda)
        np.take(chunk.pixels, chunk.readable, axis=0, out=staged.numpy(), mode="clip")  # other modes copy twice
        return staged

    def launch(self, parts: list[Part]) -> "tuple[torch.Tensor, torch.cuda.Event | None, float]":
        """Queue views, forward passes and the copy back of a batch; return what `collect` takes.

        Raises:
            OutOfDeviceMemory: the batch does not fit.
        """
        import torch

        try:
            z, seconds = self._queued(parts)
            if not self._cuda:
                return z.cpu(), None, seconds
            back = torch.empty(z.shape, dtype=z.dtype, pin_memory=True).copy_(z, non_blocking=True)
            ended = torch.cuda.Event()
            ended.record()
            return back, ended, seconds
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        raise OutOfDeviceMemory

    def has_ended(self, handle: "tuple[torch.Tensor, torch.cuda.Event | None, float]") -> bool:
        """Return whether the device has computed a batch."""
        return handle[1] is None or handle[1].query()

    def collect(
        self, handle: "tuple[torch.Tensor, torch.cuda.Event | None, float]"
    ) -> tuple[NDArray[np.float32], float]:
        """Wait for a batch; return its embeddings, shape (views, D), and the seconds in which its views were queued."""
        z, ended, seconds = handle
        if ended:
            ended.synchronize()
        self._first = self._first or time.time()
        return z.numpy(), seconds

    def _queued(self, parts: list[Part]) -> "tuple[torch.Tensor, float]":
        """Return the embeddings of a batch on the device, shape (views, D), and the seconds of making its views."""
        import torch

        start = time.perf_counter()
        views = torch.cat(self._make_views(parts, self._sent(parts)))
        return self._forward(views), time.perf_counter() - start

    def _sent(self, parts: list[Part]) -> "torch.Tensor":
        """Return the images of a batch on the device that makes their views: a GPU of CUDA, else the CPU.

        `mps` has no float64, in which views are exact: the backbone gets them from the CPU.
        """
        import torch

        pieces = [part.waiting.staged[part.first : part.stop] for part in parts]
        pieces = [piece.flatten(0, -4) for piece in pieces]  # of views that the decoding stage made
        if not self._cuda:
            return torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        main, sizes = torch.cuda.current_stream(), [len(piece) for piece in pieces]
        with torch.cuda.stream(self._copies):
            images = torch.empty((sum(sizes), *pieces[0].shape[1:]), dtype=torch.uint8, device=self._backbone.device)
            for target, piece in zip(images.split(sizes), pieces, strict=True):
                target.copy_(piece, non_blocking=True)
        main.wait_stream(self._copies)
        images.record_stream(main)  # keeps the memory until the batch is done
        return images

    def _make_views(self, parts: list[Part], images: "torch.Tensor") -> "list[torch.Tensor]":
        """Return the views in the order of `by_view`, each uint8 of shape (images, 3, height, width)."""
        import torch

        made_before = parts[0].waiting.staged.ndim == 5  # by the decoding stage, all views of an image together
        spans, start = {}, 0
        for part in parts:
            step = len(part.waiting.views) if made_before else 1
            spans[part] = (start, start := start + (part.stop - part.first) * step, step)
        pixels = images.permute(0, 3, 1, 2)  # channels last for the encoder; interventions need contiguous planes
        with_intervention = not made_before and any(self._views[view].intervention for view in by_view(parts))
        planes = pixels.contiguous() if with_intervention else pixels
        made = []
        for view, lacking in by_view(parts).items():
            intervention = None if made_before else self._views[view].intervention
            source = planes if intervention else pixels
            chosen, draws = [], []
            for part in lacking:
                (begin, end, step), chunk = spans[part], part.waiting.chunk
                position = part.waiting.views.index(view)
                chosen.append(source[begin + position % step : end : step])
                if intervention:
                    draws.append(chunk.draws[position][chunk.readable[part.first : part.stop]])
            of_view = source if len(chosen) == len(parts) and not made_before else torch.cat(chosen)
            made.append(intervention.apply_draws(of_view, np.concatenate(draws)) if intervention else of_view)
        return made

    def _forward(self, views: "torch.Tensor") -> "torch.Tensor":
        """Return the embeddings on the device, shape (views, D)."""
        import torch

        done = []
        for batch in views.split(self.batch_size):
            start, n = time.perf_counter(), len(batch)
            if self._compiled and n == 1:
                batch = batch.expand(2, -1, -1, -1)  # a single image would be compiled anew
            done.append(self._backbone.embed(batch)[:n])
            if not self._cuda:  # a GPU call returns before the work is done
                self._first = self._first or time.time()
                if n == self.batch_size:
                    self._batch_rates.append(n / (time.perf_counter() - start))
        return torch.cat(done)

    def shrink(self) -> None:
        """Halve the batch size, and the number of images whose views are made at a time."""
        import torch

        self.min_images = max(1, self.min_images // 2)
        if self.batch_size == 1:
            raise IcmBenchError(
                f"Not even one image of '{self._backbone.facts.label}' fits into the memory of {platform.node()}; "
                f"use a smaller backbone, a lower precision or a larger device."
            )
        self.batch_size //= 2
        self._batch_rates.clear()
        if self._cuda:
            torch.cuda.empty_cache()

    def _fitting_batch(self) -> int:
        """Return the batch size for this GPU, from the peak memory of two small batches."""
        import torch

        peaks = []
        for n in (8, 16):
            torch.cuda.reset_peak_memory_stats()
            self._backbone.embed(self._black(n))
            torch.cuda.synchronize()
            peaks.append(torch.cuda.max_memory_allocated())
        torch.cuda.empty_cache()
        return batch_that_fits(torch.cuda.mem_get_info()[0], (peaks[1] - peaks[0]) / 8)

    def _warm_up(self) -> None:
        """Run the model once on black images, so that timings exclude this run; on a GPU, also time a full batch."""
        import torch

        if not self._cuda:  # one image is enough; a whole batch would delay the first embedding
            self._backbone.embed(self._black(1))
            return  # later batches are timed one by one
        while not self._batch_rates:
            try:
                # A second size, since a compiled model has one graph for the first size and one for all others.
                for n in {self.batch_size, max(2, self.batch_size - 1)}:
                    self._backbone.embed(self._black(n))
                torch.cuda.synchronize()
                start = time.perf_counter()
                self._backbone.embed(self._black(self.batch_size))
                torch.cuda.synchronize()
                self._batch_rates.append(self.batch_size / (time.perf_counter() - start))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            if not self._batch_rates:
                self.shrink()

    def _black(self, n: int) -> "torch.Tensor":
        import torch

        size = self._backbone.facts.preprocess["size"]
        return torch.zeros((n, 3, *size), dtype=torch.uint8, device=self._backbone.device)


def _out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out. On a CPU, torch raises a plain RuntimeError."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
