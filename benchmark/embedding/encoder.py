"""The encoder of the pipeline: makes all missing views of a chunk's images, and embeds them together."""

import platform
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import Backbone, best_device, check_finite
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import gemm_peak, peak_memory
from benchmark.embedding.chunks import DecodedChunk, EncoderFigures
from benchmark.store.embeddings import View

if TYPE_CHECKING:
    import torch

CPU_BATCH = 32  # larger batches are no faster on a CPU
GPU_BATCH = 512  # larger batches are no faster on a GPU
MEMORY_SHARE = 0.7  # share of the free device memory that activations may use
GROUP = 32  # minimum number of images whose views are made at a time


def batch_that_fits(free_bytes: float, bytes_per_view: float) -> int:
    """Return the batch size: the largest power of two, up to `GPU_BATCH`, whose activations fit into memory."""
    fits = MEMORY_SHARE * free_bytes / max(bytes_per_view, 1.0)
    return int(2 ** max(0, min(int(np.log2(GPU_BATCH)), int(np.log2(max(fits, 1.0))))))


class Encoder:
    """A callable that embeds chunks of images.

    With `batch_size` None, the batch size is `CPU_BATCH`, or as large as the GPU's memory allows. With `threads` None,
    torch's default is used.

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
        import torch

        from benchmark.backbones.engines import ConvertedTower, is_converted

        if threads:
            torch.set_num_threads(threads)
        # A converted tower in the cache loads faster than the backbone.
        converted = spec.engine == "openvino" and best_device() == "cpu" and is_converted(facts)
        tower = ConvertedTower(facts) if converted else Backbone(spec, compile_model=compile_model, known=facts)
        self._backbone: Backbone | ConvertedTower = tower
        self._views, self._pad = views, compile_model
        self._cuda = self._backbone.device.type == "cuda"
        self.batch_size = batch_size or (self._fitting_batch() if self._cuda else CPU_BATCH)
        self._batch_rates: deque[float] = deque(maxlen=100)  # views/s of the last full batches
        self._warm_up()
        peak = gemm_peak(self._backbone.device.type, facts.precision)
        self._gemm_rate = peak / facts.flops if facts.flops else 0.0  # views/s at the FLOP/s of a matrix product
        if spec.engine == "openvino" and torch.get_num_threads() == 2:
            # OpenVINO has its own threads by now; a second torch thread slows interventions down.
            torch.set_num_threads(1)
        self._ready = time.time()
        self._first = 0.0  # Unix time of the first embeddings

    def __call__(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures]:
        """Return the embeddings of a chunk's missing views, shape (images, missing views, D), and the figures.

        The embeddings of unreadable images are zero.
        """
        start = time.perf_counter()
        image_ids = chunk.images["image_id"].to_pylist()
        missing = [view for i, view in enumerate(self._views) if chunk.missing_views >> i & 1]
        embeddings = np.zeros((len(image_ids), len(missing), self._backbone.facts.dim), dtype=np.float32)
        self._views_s = 0.0
        group = max(GROUP, self.batch_size // max(1, len(missing)))
        for first in range(0, len(chunk.readable) if missing else 0, group):
            rows = chunk.readable[first : first + group]
            # A chunk's pixels are read-only, which torch does not support; selecting rows copies them.
            embeddings[rows] = self._embed(chunk.pixels[rows], [image_ids[i] for i in rows], missing)
            check_finite(embeddings[rows], self._backbone.facts.label, chunk.images["path"].take(rows).to_pylist())
        ceiling = statistics.median(self._batch_rates) if self._batch_rates else 0.0
        return embeddings, EncoderFigures(
            encode_s=time.perf_counter() - start,
            views_s=self._views_s,
            ceiling=ceiling,
            ready=self._ready,
            first=self._first or time.time(),
            batch_size=self.batch_size,
            of_gemm=ceiling / self._gemm_rate if self._gemm_rate else 0.0,
            memory=peak_memory(self._backbone.device.type),
        )

    def _embed(self, pixels: NDArray[np.uint8], image_ids: list[str], views: list[View]) -> NDArray[np.float32]:
        """Return the embeddings of views, shape (images, views, D).

        If memory runs out, the batch size is halved and each half of the images is embedded separately.
        """
        try:
            start = time.perf_counter()
            made = self._make_views(pixels, image_ids, views)
            self._views_s += time.perf_counter() - start
            z = self._forward(made).cpu().numpy()
            self._first = self._first or time.time()
            return np.asarray(z.reshape(len(views), len(pixels), -1).swapaxes(0, 1))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        # This code is outside the exception handler, which would keep the failed tensors alive.
        self._halve_batch()
        if len(pixels) == 1:
            return self._embed(pixels, image_ids, views)
        middle = len(pixels) // 2
        return np.concatenate(
            [
                self._embed(pixels[:middle], image_ids[:middle], views),
                self._embed(pixels[middle:], image_ids[middle:], views),
            ]
        )

    def _make_views(self, pixels: NDArray[np.uint8], image_ids: list[str], views: list[View]) -> "list[torch.Tensor]":
        """Return the views on the device, each uint8 of shape (images, 3, height, width)."""
        import torch

        sent = torch.from_numpy(pixels)
        if self._cuda:
            sent = sent.pin_memory()
        sent = sent.to(self._backbone.device, non_blocking=self._cuda)
        if pixels.ndim == 5:  # the decoding stage has made the views: (images, views, height, width, 3)
            return list(sent.permute(1, 0, 4, 2, 3))
        images = sent.permute(0, 3, 1, 2)  # channels last for the encoder; interventions need contiguous planes
        planes = images.contiguous() if any(view.intervention for view in views) else images
        kinds = ((view.intervention, view.seed) for view in views)
        return [images if kind is None else kind.views(planes, image_ids, seed) for kind, seed in kinds]

    def _forward(self, views: "list[torch.Tensor]") -> "torch.Tensor":
        """Return the embeddings on the device, shape (views * images, D), ordered by view and then by image."""
        import torch

        done = []
        for batch in torch.cat(views).split(self.batch_size):
            start, n = time.perf_counter(), len(batch)
            if self._pad and n < self.batch_size:  # a compiled model takes one shape only
                batch = torch.cat([batch, batch[:1].expand(self.batch_size - n, -1, -1, -1)])
            done.append(self._backbone.embed(batch)[:n])
            if not self._cuda:
                self._first = self._first or time.time()
            if not self._cuda and n == self.batch_size:  # a GPU call returns before the work is done
                self._batch_rates.append(n / (time.perf_counter() - start))
        return torch.cat(done)

    def _halve_batch(self) -> None:
        import torch

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
                self._backbone.embed(self._black(self.batch_size))
                torch.cuda.synchronize()
                start = time.perf_counter()
                self._backbone.embed(self._black(self.batch_size))
                torch.cuda.synchronize()
                self._batch_rates.append(self.batch_size / (time.perf_counter() - start))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            if not self._batch_rates:
                self._halve_batch()

    def _black(self, n: int) -> "torch.Tensor":
        import torch

        size = self._backbone.facts.preprocess["size"]
        return torch.zeros((n, 3, *size), dtype=torch.uint8, device=self._backbone.device)


def _out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out. On a CPU, torch raises a plain RuntimeError."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
